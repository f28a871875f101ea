#!/bin/bash
# The benchmark in one command: bench/run.sh [options of run.py]. Checks that the tools are there
# (installs nothing), builds a release in build/release and runs bench/run.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
for tool in cmake ninja cc pkg-config redis-server mosquitto openssl /usr/bin/python3; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}; deploy/install-deps.sh lists the packages" >&2
    exit 2
fi
export PATH=$PATH:/usr/sbin
cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTS=OFF -DBUILD_BENCH=ON >&2
cmake --build build/release -j "$(nproc)" --target nemogate blaster null_broker load drain latency >&2
exec /usr/bin/python3 -B bench/run.py "$@"
