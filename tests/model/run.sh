#!/bin/bash
# Checks takeover.pml with Spin: the true protocol must pass an exhaustive search, and each mutation
# must break the property that it is there to break. Prints a table and closes with
# "N passed, N failed". Two searches run at a time and have 2,800 MB together.
set -euo pipefail

model=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/takeover.pml
cpu_seconds=400
jobs=2
long=no
only=
trail_mb=

usage() {
    cat <<END
usage: tests/model/run.sh [--long] [--trail VARIANT]
  --long           also searches the true protocol with three faults (one search at a time, up to
                   6 GB and an hour each)
  --trail VARIANT  only that variant, e.g. NO_TERM, and what happens on its way to the error, on a
                   way as short as the search finds (minutes, up to 4 GB)
END
}

while [ $# -gt 0 ]; do
    case $1 in
    --long) long=yes ;;
    --trail)
        [ $# -gt 1 ] || { usage >&2 && exit 2; }
        only=$2
        shift
        ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

for program in spin gcc; do
    if ! command -v "$program" >/dev/null; then
        echo "tests/model/run.sh: $program is missing; deploy/install-deps.sh lint installs it" >&2
        exit 1
    fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

small="-DENTRIES=2 -DKEYS=1"
faults() { # kills, losses, deadlines
    echo "-DKILLS=$1 -DLOSSES=$2 -DDEADLINES=$3"
}

# What is searched: name, what it is to get, MB, flags. The largest first, so that none runs alone
# at the end.
true_protocol() {
    cat <<END
two_keys_pause_loss|pass|800|-DENTRIES=3 $(faults 0 1 1)
kill_pause|pass|800|$small $(faults 1 0 1)
two_pauses|pass|800|$small $(faults 0 0 2)
two_connections|pass|800|-DENTRIES=3 -DCONNECTIONS=2 $(faults 0 0 1)
pause_loss|pass|800|$small $(faults 0 1 1)
kills_losses|pass|800|$small $(faults 1 2 0)
two_kills|pass|800|$small $(faults 2 1 0)
no_cycles|pass|800|$small $(faults 0 1 1)
END
}

mutations() {
    cat <<END
NO_KILL|forgotten|800|$small $(faults 1 0 0)
NO_KILL_RETAINED|retained|800|-DNO_KILL $small $(faults 1 0 0)
NO_CHECK|retained|800|$small $(faults 0 0 1)
NO_HISTORY_FIRST|order|800|$small $(faults 1 0 0)
NO_BROKER_FENCE|retained|800|$small $(faults 0 0 1)
XACK_EARLY|no-puback|800|$small $(faults 0 0 0)
LATE_LOSS|retained|800|$small $(faults 0 0 2)
NO_TERM|retained|800|$small $(faults 0 1 2)
CLOCK_STEP|retained|800|$small $(faults 0 1 1)
END
}

long_searches() {
    cat <<END
two_pauses_loss|pass|6000|$small $(faults 0 1 2)
pause_loss_kill|pass|6000|$small $(faults 1 1 1)
two_keys_kill_pause|pass|6000|-DENTRIES=3 $(faults 1 0 1)
END
}

number_of() {
    case $1 in
    no-puback) echo 1 ;;
    forgotten) echo 2 ;;
    order) echo 3 ;;
    retained) echo 4 ;;
    *) echo 0 ;; # all of them
    esac
}

# Mutations are small searches: what counts is the compiler's time.
compile() { # name, expected, MB
    local flags="-DSAFETY -DNOREDUCE -DNOBOUNDCHECK -O2"
    [ "$2" = pass ] || flags="-DSAFETY -DNOREDUCE -O0"
    [ "$1" != no_cycles ] || flags="-DNP -DNOREDUCE -O1"
    [ -z "$only" ] || flags="-DSAFETY -DNOREDUCE -DREACH -O2"
    # shellcheck disable=SC2086 # flags are words
    gcc $flags -DVECTORSZ=512 -DMEMLIM="$3" -w -o pan pan.c
}

# Prints a row of the table to the file "row" of the search's folder.
search() { # name, expected, MB, flags
    local name=$1 expected=$2 mb=$3 flags=$4 start=$SECONDS got arguments="-m200000 -w22"
    [ "$expected" = pass ] || flags="-DMUTATED -D$name -DPROPERTY=$(number_of "$expected") $flags"
    [ "$name" != no_cycles ] || arguments="-l -m200000 -w22"
    [ -z "$only" ] || arguments="-i -m600 -w22"
    mkdir -p "$work/$name"
    cd "$work/$name"
    cp "$model" .
    # shellcheck disable=SC2086
    if ! timeout 60 spin -a $flags takeover.pml >spin.log 2>&1 ||
        ! compile "$name" "$expected" "$mb"; then
        got=unbuilt
    else
        # shellcheck disable=SC2086
        (ulimit -t "$cpu_seconds" && exec ./pan $arguments) >pan.log 2>&1 || true
        got=$(verdict "$expected")
    fi
    if [ -n "$only" ] && [ -f takeover.pml.trail ]; then
        # shellcheck disable=SC2086
        timeout 60 spin -B -T -t $flags takeover.pml >trail.log 2>&1 || true
    fi
    printf '%-22s %-10s %-11s %10s %8d\n' "$name" "$expected" "$got" "$(states)" \
        $((SECONDS - start)) >row
    [ "$got" = "$expected" ]
}

states() {
    sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log 2>/dev/null | tail -n 1 |
        awk '{ printf "%.0f", $1 } END { if (NR == 0) print "-" }'
}

# A search that was cut off by time, memory or depth has shown nothing.
verdict() { # expected
    if grep -q 'assertion violated' pan.log && [ "$1" != pass ]; then
        echo "$1" # only asserts of that property were compiled in
    elif grep -qE 'errors: [1-9]' pan.log; then
        echo violated
    elif grep -q 'errors: 0' pan.log &&
        ! grep -qE 'Search not completed|max search depth too small|out of memory' pan.log; then
        echo pass
    else
        echo unfinished
    fi
}

passed=0
failed=0
names=()

report() {
    for name in "${names[@]}"; do
        cat "$work/$name/row"
        read -r _ expected got _ <"$work/$name/row"
        if [ "$expected" = "$got" ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            tail -n 30 "$work/$name"/{spin,pan}.log 2>/dev/null | sed 's/^/    /'
        fi
    done
    names=()
}

search_all() { # rows
    local name expected mb flags
    while IFS='|' read -r name expected mb flags; do
        [ -z "$only" ] || [ "$name" = "$only" ] || continue
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
            wait -n || true
        done
        names+=("$name")
        (search "$name" "$expected" "${trail_mb:-$mb}" "$flags") &
    done <<<"$1"
    wait || true
    report
}

printf '%-22s %-10s %-11s %10s %8s\n' variant expected got states seconds
if [ -n "$only" ]; then
    trail_mb=4000
    cpu_seconds=1800
    search_all "$(true_protocol; mutations)"
    cat "$work"/*/trail.log 2>/dev/null || true
else
    search_all "$(true_protocol; mutations)"
fi
if [ "$long" = yes ]; then
    jobs=1
    cpu_seconds=3600
    search_all "$(long_searches)"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
