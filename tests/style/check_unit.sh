#!/bin/bash
# The systemd unit stays sandboxed: systemd's own score of its exposure, which goes from 0 (safe) to
# 10, is at most 2.0. Prints what could still be closed when it is more.
set -euo pipefail

if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: there is no systemd-analyze here (package systemd)"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -e 's,@CMAKE_INSTALL_PREFIX@,/usr,g' -e 's,@config_dir@,/etc/nemogate,g' \
    deploy/nemogate.service.in >"$folder/nemogate.service"
if ! systemd-analyze security --no-pager --offline=true --threshold=20 \
    "$folder/nemogate.service" >"$folder/score" 2>&1; then
    grep -E '^✗|Overall|rror' "$folder/score" || cat "$folder/score"
    exit 1
fi
grep -o 'exposure level.*[0-9]\.[0-9]' "$folder/score"
