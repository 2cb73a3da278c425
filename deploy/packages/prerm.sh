#!/bin/sh
# dpkg passes `remove` or `upgrade`, rpm the number of versions that will be left.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now rdnscache.socket rdnscache.service
fi
