#!/bin/bash
# Runs clang-tidy over the three floors; .clang-tidy says which checks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build=${1:-build/clang}
if [ ! -f "$build/compile_commands.json" ]; then
    echo "$build/compile_commands.json is missing:" \
        "CC=clang cmake -G Ninja -S . -B $build -DCMAKE_BUILD_TYPE=Debug"
    exit 1
fi
if ! output=$(find codec transport core -name '*.c' -print0 | sort -z |
    xargs -0 -n 4 -P "$(nproc)" clang-tidy --quiet -p "$build" 2>/dev/null); then
    echo "clang-tidy ended with an error"
    grep -E ': (error|warning):' <<<"$output" | sort -u | sed "s#$PWD/##"
    exit 1
fi
findings=$(grep -E ': (error|warning):' <<<"$output" | sort -u | sed "s#$PWD/##" || true)
if [ -n "$findings" ]; then
    echo "$findings"
    exit 1
fi
