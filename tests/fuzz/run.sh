#!/bin/bash
# Fuzzes every decoder for a while: builds the targets with clang in build/fuzz, runs each on a copy
# of its corpus, two at a time, and prints a table. What a target finds stays in
# build/fuzz/findings. Closes with a line "N passed, N failed"; exit status 0 only if nothing failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FUZZ_BUILD:-$root/build/fuzz}
seconds=30
targets=()

usage() {
    cat <<END
usage: tests/fuzz/run.sh [--seconds N] [--merge] [TARGET...]
  --seconds N  how long each target runs (30)
  --merge      add to tests/fuzz/corpus what reaches new code, as few files as do
  TARGET       the subjects of tests/fuzz/fuzz_*.c, e.g. redis_reader; all of them by default
With FUZZ_BUILD=FOLDER a build of that folder is run as it is, and nothing is built.
END
}

merge=no
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        seconds=${2:-}
        [[ $seconds =~ ^[1-9][0-9]*$ ]] || { usage >&2 && exit 2; }
        shift
        ;;
    --merge) merge=yes ;;
    --help | -h) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) targets+=("${1#fuzz_}") ;;
    esac
    shift
done
if [ ${#targets[@]} -eq 0 ]; then
    for source in "$root"/tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        targets+=("${name#fuzz_}")
    done
fi
for target in "${targets[@]}"; do
    [ -f "$root/tests/fuzz/fuzz_$target.c" ] || {
        echo "tests/fuzz/run.sh: there is no target $target (tests/fuzz/fuzz_$target.c)" >&2
        exit 2
    }
done

if [ -z "${FUZZ_BUILD:-}" ]; then
    "$root/deploy/install-deps.sh" lint
    [ -f "$build/build.ninja" ] || cmake -G Ninja -S "$root" -B "$build" \
        -DCMAKE_C_COMPILER=clang -DBUILD_FUZZERS=ON -DBUILD_BENCH=OFF
    cmake "$build" >/dev/null
    cmake --build "$build" -j 2 --target "${targets[@]/#/fuzz_}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
findings=$build/findings
mkdir -p "$findings"
# UBSan and ASan are in the targets; a leak is a finding too.
export UBSAN_OPTIONS=print_stacktrace=1

fuzz() { # target: writes a row of the table to $work/target.row, PASS or FAIL first
    local target=$1
    local program=$build/tests/fuzz/fuzz_$target corpus=$work/$target log=$work/$target.log
    local result=PASS executions coverage files
    cp -r "$root/tests/fuzz/corpus/$target" "$corpus"
    "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$findings/$target-" "$corpus" >"$log" 2>&1 ||
        result=FAIL
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    files=$(find "$corpus" -type f | wc -l)
    printf '%s %-16s %12s %9s %7s  %s\n' "$result" "$target" "${executions:--}" \
        "${coverage:--}" "$files" "$result" >"$work/$target.row"
    cp "$log" "$findings/../fuzz_$target.log"
}

explain() { # target: what was found, and how to see it again
    local log=$work/$1.log file
    grep -m 3 -E '^(SUMMARY|==[0-9]+==ERROR|.*runtime error:|.*Assertion)' "$log" || tail -n 5 "$log"
    file=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    [ -z "$file" ] || echo "replay: $build/tests/fuzz/fuzz_$1 $file"
    echo "log: $(realpath "$findings/../fuzz_$1.log")"
}

echo "-- ${#targets[@]} targets, $seconds s each, two at a time"
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n || true
    done
    fuzz "$target" &
done
wait

passed=0
failed=0
printf '%-16s %12s %9s %7s  %s\n' target executions coverage corpus result
for target in "${targets[@]}"; do
    cut -d ' ' -f 2- "$work/$target.row"
    if [ "$(cut -d ' ' -f 1 "$work/$target.row")" = PASS ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        explain "$target"
    fi
    if [ "$merge" = yes ]; then
        "$build/tests/fuzz/fuzz_$target" -merge=1 "$root/tests/fuzz/corpus/$target" \
            "$work/$target" >"$work/merge.log" 2>&1 || tail -n 3 "$work/merge.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
