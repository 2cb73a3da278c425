#!/bin/sh
# try.sh PACKAGE.deb: install it, ask a node of it a question, and purge it. As root, where nothing else is at stake.
set -eu
package=$(realpath "$1")
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --no-install-recommends "$package"
rdnscache --version
rdnscache check-config /etc/rdnscache/rdnscache.toml > /dev/null
folder=$(mktemp -d)
echo 'www.example.com. 300 IN A 192.0.2.1' > "$folder/records"
rdnscache serve --listen 127.0.0.1:5399 --upstream 127.0.0.1:9 --records "$folder/records" 2> "$folder/log" &
node=$!
answer=
for _ in $(seq 30); do
    answer=$(timeout 2 rdnscache query @127.0.0.1:5399 www.example.com +short 2> /dev/null) && break
    sleep 0.5
done
kill "$node"
wait "$node" || true
[ "$answer" = 192.0.2.1 ] || { cat "$folder/log"; echo "try: the answer was '$answer'" >&2; exit 1; }
rm -r "$folder"
dpkg --purge rdnscache
for left in /usr/lib/rdnscache /usr/bin/rdnscache /etc/rdnscache; do
    [ ! -e "$left" ] || { echo "try: $left is left" >&2; exit 1; }
done
echo "try: installed, answered $answer, purged"
