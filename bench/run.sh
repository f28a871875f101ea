#!/bin/bash
# The benchmark in one command: bench/run.sh [options]; --help and --list tell more. Checks that the
# tools are there (installs nothing), builds a release in build/release unless --build or
# NEMOGATE_BENCH_BUILD names a finished build, and runs bench/run.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PATH:/usr/sbin # mosquitto lies there, and a user's PATH leaves it out

build=${NEMOGATE_BENCH_BUILD:+no}
for argument in "$@"; do
    case $argument in
    --list | --help | -h) exec /usr/bin/python3 -B bench/run.py "$@" ;;
    --build | --build=*) build=no ;;
    esac
done

tools=(redis-server mosquitto openssl /usr/bin/python3)
[ -n "$build" ] || tools+=(cmake ninja cc pkg-config)
missing=()
for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}; install them with: deploy/install-deps.sh bench" >&2
    exit 2
fi
command -v gnuplot >/dev/null ||
    echo "no gnuplot, so no plots; install it with: deploy/install-deps.sh bench" >&2

if [ -z "$build" ]; then
    log=build/bench-build.log
    mkdir -p build
    echo "building a release in build/release" >&2
    if ! { cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTS=OFF \
        -DBUILD_BENCH=ON &&
        cmake --build build/release -j "$(nproc)" --target nemogate \
            blaster drain load null_broker verify; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "the build failed; all of its output is in $log" >&2
        exit 1
    fi
fi
exec /usr/bin/python3 -B bench/run.py "$@"
