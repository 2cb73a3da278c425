#!/bin/sh
# Nothing is started or enabled here: a node wants to be told whom to ask first. One that runs takes the new version
# without losing a query; one that cannot, says so in its status and goes on.
# dpkg says `configure` and the version that was there, rpm the number of versions that there are now.
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
