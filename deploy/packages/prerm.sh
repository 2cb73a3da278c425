#!/bin/sh
# dpkg says `remove` or `upgrade`, rpm how many versions will be left.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now rdnscache.socket rdnscache.service
fi
