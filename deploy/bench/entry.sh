#!/bin/bash
# What the benchmark's container runs. Parameters come by environment (NEMOGATE_BENCH_LENGTH,
# _SCENARIO, _REPEATS, _MESSAGES, see bench/README.md) or as options. Results go into a folder of
# their own below NEMOGATE_BENCH_RESULTS (/results), named after the host (the pod) and the time;
# the report is also printed, so that the log of a pod keeps it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

results=${NEMOGATE_BENCH_RESULTS:-/results}
if ! [ -w "$results" ]; then
    echo "$results is not writable for user $(id -u)" >&2
    exit 2
fi
export NEMOGATE_BENCH_OUT=${NEMOGATE_BENCH_OUT:-$results/$(hostname)-$(date +%Y%m%d-%H%M%S)}

# The run is a child, so that the report can be printed after it; its end is passed on by signal.
bench/run.sh "$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null || true' TERM INT
status=0
wait "$child" || status=$?
if kill -0 "$child" 2>/dev/null; then # a signal ended the first wait, not the run
    status=0
    wait "$child" || status=$?
fi
if [ -f "$NEMOGATE_BENCH_OUT/report.md" ]; then
    cat "$NEMOGATE_BENCH_OUT/report.md"
fi
exit "$status"
