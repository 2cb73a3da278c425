#!/bin/sh
# Nothing is started or enabled here: a node has to be told its upstreams first. One that runs takes over the new
# version without losing a query; if it cannot, it says so in its status and goes on.
# dpkg passes `configure` and the previous version, rpm the number of installed versions.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1:$2" in
configure:* | 1: | 2:) ;;
*) exit 0 ;;
esac
systemctl daemon-reload
if systemctl --quiet is-active rdnscache.service; then
    systemctl kill --kill-whom=main --signal=SIGUSR2 rdnscache.service 2> /dev/null ||
        systemctl kill --kill-who=main --signal=SIGUSR2 rdnscache.service || # before systemd 252
        systemctl try-restart rdnscache.service
fi
