#!/bin/bash
# The Debian package as a stranger meets it: made, judged by lintian, installed in a fresh Debian 12
# that has booted with systemd (a container without network), adapted in two lines, started; then
# what an admin does with it until it is purged. Takes about four minutes; needs root, Debian's
# mirrors, and the packages that deploy/install-deps.sh package-test installs. Closes with
# "N passed, N failed".
#   --deb FILE   take this package instead of building one
#   --keep       leave the root in build/package
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$root/build/package
guest=
deb=
keep=no
container= # process id of systemd-nspawn

usage() {
    echo "usage: tests/package/run.sh [--deb FILE] [--keep]" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --deb) [ $# -ge 2 ] || usage && deb=$(realpath "$2") && shift ;;
    --keep) keep=yes ;;
    *) usage ;;
    esac
    shift
done

step() {
    printf '\n== %s (%d s so far)\n' "$*" "$SECONDS"
}

clean_up() {
    local waited
    if [ -n "$container" ] && kill -TERM "$container" 2>/dev/null; then # it shuts down
        for ((waited = 0; waited < 200; waited++)); do
            kill -0 "$container" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$container" 2>/dev/null || true
    fi
    [ "$keep" = yes ] || [ -z "$guest" ] || rm -rf "$guest"
}
trap clean_up EXIT

build_package() {
    cmake --preset release -S "$root" -B "$root/build/release" -DBUILD_TESTS=OFF -DBUILD_BENCH=OFF \
        >"$work/build.log"
    cmake --build "$root/build/release" -j "$(nproc)" >>"$work/build.log" 2>&1 ||
        { tail -n 20 "$work/build.log" >&2; exit 1; }
    cpack --config "$root/build/release/CPackConfig.cmake" -G DEB -B "$work" >>"$work/build.log"
    deb=$(ls -t "$work"/nemogate_*_*.deb | head -n 1)
}

# The same package with a later version: what an upgrade is to dpkg.
make_later_version() {
    rm -rf "$work/later" "$work/later.deb"
    dpkg-deb -R "$deb" "$work/later"
    sed -i 's/^Version: .*/&+later/' "$work/later/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/later" "$work/later.deb" >/dev/null
    rm -rf "$work/later"
}

# A Debian with what the package needs, and what a lab has beside it. Kept for the next time.
make_base() {
    local needs
    needs=$(dpkg-deb -f "$deb" Depends | sed 's/([^)]*)//g; s/ //g')
    needs=$needs,systemd-sysv,dbus,redis-server,redis-tools,mosquitto,mosquitto-clients,curl
    if [ ! -e "$work/base.tar" ] || [ "$(cat "$work/base.needs" 2>/dev/null)" != "$needs" ]; then
        mmdebstrap --quiet --variant=minbase --include="$needs" bookworm "$work/base.tar"
        echo "$needs" >"$work/base.needs"
    fi
    guest=$(mktemp -d "$work/root.XXXXXX")
    chmod 755 "$guest"
    tar -C "$guest" -xf "$work/base.tar"
    cp "$deb" "$guest/srv/nemogate.deb"
    cp "$work/later.deb" "$root/tests/package/in_guest.sh" "$guest/srv/"
}

leader() { # the container's process 1, as seen from here
    ps -o pid= --ppid "$container" | tr -d ' ' | head -n 1
}

in_guest() {
    nsenter --all --target "$(leader)" /usr/bin/env -i HOME=/root TERM=dumb \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

boot() {
    local tries=300
    systemd-nspawn --quiet --register=no --keep-unit --boot --private-network --machine=nemogate-test \
        --directory="$guest" >"$work/boot.log" 2>&1 </dev/null &
    container=$!
    until [ -n "$(leader)" ] && in_guest systemctl is-active --quiet multi-user.target 2>/dev/null; do
        kill -0 "$container" 2>/dev/null || { tail "$work/boot.log" >&2; exit 1; }
        ((tries-- > 0)) || { echo "the container does not boot: $work/boot.log" >&2; exit 1; }
        sleep 0.2
    done
}

"$root/deploy/install-deps.sh" package package-test
mkdir -p "$work"
step "package"
[ -n "$deb" ] || build_package
ls -l "$deb"
step "lintian"
lintian --fail-on error,warning --allow-root --tag-display-limit 0 "$deb"
make_later_version
step "a fresh Debian 12"
make_base
boot
step "in it"
in_guest bash /srv/in_guest.sh
