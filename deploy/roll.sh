#!/bin/sh
# Replace every node by one of the present image and configuration, without a gap: one more is started, and when it is
# healthy an old one is ended, until no old one is left.
#
#   docker compose build node && deploy/roll.sh
#
# COMPOSE is how to call compose, with its options: default `docker compose`.
set -eu
compose=${COMPOSE:-docker compose}

wait_until_healthy() {
    for _ in $(seq 60); do
        health=$(docker inspect --format '{{.State.Health.Status}}' $($compose ps --quiet node) | sort -u)
        [ "$health" != healthy ] || return 0
        sleep 1
    done
    echo "roll: a node is not healthy; those that are left stay" >&2
    exit 1
}

old=$($compose ps --quiet node)
for id in $old; do
    $compose up --detach --no-deps --no-recreate --scale node=$(($(echo "$old" | wc -w) + 1)) node
    wait_until_healthy
    sleep 2 # by now the balancer knows it
    docker stop "$id" > /dev/null
    docker rm "$id" > /dev/null
    echo "roll: $id has ended"
done
