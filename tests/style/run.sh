#!/bin/bash
# All style checks. Each fault is one line; closes with "N passed, N failed" (of checks). Needs a
# plain build in build/tests (tests/run.sh makes it) and a clang build in build/clang (made here if
# it is missing).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

deploy/install-deps.sh lint
if [ ! -f build/tests/build.ninja ]; then
    cmake -G Ninja -S . -B build/tests -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTS=ON >/dev/null
fi
cmake --build build/tests -j 2 --target nemogate >/dev/null
if [ ! -f build/clang/build.ninja ]; then
    CC=clang cmake -G Ninja -S . -B build/clang -DCMAKE_BUILD_TYPE=Debug -DBUILD_TESTS=ON >/dev/null
fi

passed=0
failed=0
check() { # name, command...
    local name=$1
    shift
    echo "-- $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        echo "failed: style check '$name'"
        failed=$((failed + 1))
    fi
}

python=/usr/bin/python3
check "floors and doors" "$python" -B tests/style/check_floors.py
check "sizes" "$python" -B tests/style/check_sizes.py
check "headers compile alone" tests/style/check_headers.sh
check "no mutable globals" tests/style/check_globals.sh build/tests
check "README key table" "$python" -B tests/style/check_readme.py build/tests/nemogate
check "format" tests/style/check_format.sh
check "words" tests/style/check_words.sh
check "systemd unit" tests/style/check_unit.sh
check "clang-tidy" tests/style/check_tidy.sh build/clang
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
