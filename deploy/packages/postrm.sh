#!/bin/sh
# dpkg passes `remove`, `purge` or `upgrade`, rpm the number of versions left. Configuration and fetched lists stay
# until a purge.
set -e
case "$1" in
remove | purge | 0) ;;
*) exit 0 ;;
esac
rm -rf /usr/lib/rdnscache # what Python may have compiled there
if [ "$1" = purge ]; then
    rm -rf /var/lib/private/rdnscache /var/lib/rdnscache
    [ ! -d /etc/rdnscache ] || rmdir --ignore-fail-on-non-empty /etc/rdnscache
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
