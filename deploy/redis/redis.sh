#!/bin/sh
# Redis or Valkey, whichever the image has, with the users of users.acl beside this file.
#
#   redis.sh start     run it; MEMORY, such as 256mb, bounds it, NODE_PASSWORD and OPERATOR_PASSWORD are those of its users
#   redis.sh ping      is it there?
#   redis.sh cli ...   look into it, as the user `operator`
#
# What else is said goes to redis-server or redis-cli.
set -eu
here=$(dirname "$0")

first_of() {
    command -v "$1" || command -v "$2"
}

hash_of() {
    printf %s "$1" | sha256sum | cut -d ' ' -f 1
}

what=$1
shift
case "$what" in
start)
    server=$(first_of valkey-server redis-server)
    users=${TMPDIR:-/tmp}/users.acl
    sed -e "s/@NODE@/$(hash_of "$NODE_PASSWORD")/" -e "s/@OPERATOR@/$(hash_of "$OPERATOR_PASSWORD")/" \
        "$here/users.acl" > "$users"
    exec "$server" "$here/redis.conf" --aclfile "$users" --maxmemory "$MEMORY" "$@"
    ;;
ping)
    exec "$(first_of valkey-cli redis-cli)" --user health --pass - --no-auth-warning -e ping "$@"
    ;;
cli)
    exec "$(first_of valkey-cli redis-cli)" --user operator --pass "$OPERATOR_PASSWORD" --no-auth-warning "$@"
    ;;
esac
