#!/bin/bash
# Installs the Debian packages that nemogate's scripts need, and only those that are missing.
# Sets: demo (build and demo), tests (build and tests), lint (style checks, clang), package (.deb),
# package-test (the package in a fresh Debian), bench (build and benchmark), page (tests of the
# monitor page: a whole browser).
# Works as root or through sudo; without either it says which packages to install.
set -euo pipefail

build=(gcc libc6-dev cmake ninja-build pkg-config libevent-dev libhiredis-dev libmsgpack-dev
       libwolfssl-dev libyaml-dev)
servers=(redis-server redis-tools mosquitto mosquitto-clients openssl)
python=(python3 python3-redis python3-paho-mqtt)

usage() {
    echo "usage: deploy/install-deps.sh demo|tests|lint|package|package-test|bench|page..." >&2
    exit 2
}

say() {
    echo "install-deps: $*" >&2
}

[ $# -gt 0 ] || usage
wanted=()
for set in "$@"; do
    case $set in
    demo) wanted+=("${build[@]}" "${servers[@]}" "${python[@]}") ;;
    tests) wanted+=("${build[@]}" "${servers[@]}" "${python[@]}" libcriterion-dev curl python3-msgpack
                    python3-pytest python3-pytest-xdist python3-yaml python3-django prometheus faketime
                    procps util-linux) ;;
    lint) wanted+=("${build[@]}" clang clang-format clang-tidy universal-ctags binutils git
                   python3 libcriterion-dev systemd spin) ;;
    package) wanted+=("${build[@]}" dpkg-dev file gzip) ;;
    package-test) wanted+=(dpkg-dev lintian mmdebstrap systemd-container util-linux procps) ;;
    page) wanted+=(chromium chromium-driver python3-selenium python3-pytest fonts-dejavu-core) ;;
    bench) wanted+=("${build[@]}" redis-server mosquitto openssl python3 gnuplot-nox) ;;
    *) usage ;;
    esac
done

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in $(printf '%s\n' "${wanted[@]}" | sort -u); do
    installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    say "this is not Debian (no apt-get). Install what these Debian packages hold: ${missing[*]}"
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo true; then
        say "packages are missing, and this user is neither root nor may use sudo. As root, run:"
        say "  apt-get update && apt-get install ${missing[*]}"
        exit 1
    fi
    as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1
}

say "installing ${#missing[@]} packages: ${missing[*]}"
if ! apt update; then
    tail -n 5 "$log" >&2
    say "the package lists could not be fetched: check the network and /etc/apt/sources.list*," \
        "then run the command again"
    exit 1
fi
if ! apt install --no-install-recommends "${missing[@]}"; then
    tail -n 15 "$log" >&2
    say "apt-get install failed (its last lines are above). Mend that, then run the command again"
    exit 1
fi
for package in "${missing[@]}"; do
    if ! installed "$package"; then
        say "package $package is still missing after apt-get install; install it by hand"
        exit 1
    fi
done
say "done"
