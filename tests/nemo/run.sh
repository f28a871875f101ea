#!/bin/bash
# The acceptance scenarios on a real NEMO 8: a virtual environment with NEMO from PyPI, the plugin of
# deploy/nemo under gunicorn, real Redis, nemogate, real Mosquitto with TLS, simulated displays; and the
# drop-in in namespaces of its own with the older plugin, which kills brokers by name. Prints a table and
# "N passed, N failed, N skipped". Exit status 0 only if nothing failed; what cannot be run here (no PyPI,
# no namespaces) is skipped, with the reason.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH=$PATH:/usr/sbin
python=/usr/bin/python3
venv=${NEMOGATE_NEMO_VENV:-$root/build/nemo-venv}
work=$root/build/nemo-tests
nemo="NEMO==8.0.2"
old_plugin="nemo-mqtt-bridge==1.0.1"
options=()
compare=no

usage() {
    cat <<END
usage: tests/nemo/run.sh [--full] [--compare] [PYTEST ARGUMENTS...]
  --full      outages and waits as long as the scenarios name them (Redis away for 5 minutes, the
              broker for 10, 30 minutes of cooldown): an hour instead of ten minutes
  --compare   only the comparison with the Python bridge of the older plugin (compare.py)
  Arguments go to pytest: -k truth, -x
environment: NEMOGATE_BINARY (else it is built), NEMOGATE_NEMO_VENV (else build/nemo-venv is made)
END
}

while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage && exit 0 ;;
    --compare) compare=yes ;;
    *) options+=("$1") ;;
    esac
    shift
done

say() {
    printf '\n== %s\n' "$*"
}

end_without() { # reason: nothing can be run
    "$python" -B "$root/tests/nemo/table.py" "$work/results.jsonl" "1,2,3,4,5,6,7,8,9,10,11,12=$1" || true
    exit 0
}

# In a process tree, a network and a /proc of its own; loopback only.
private=(unshare --net --pid --fork --mount-proc)
[ "$(id -u)" -eq 0 ] || private=(unshare --user --map-root-user --net --pid --fork --mount-proc)
in_private() {
    "${private[@]}" sh -c 'ip link set lo up && exec "$@"' sh "$@"
}

mkdir -p "$work"
rm -f "$work/results.jsonl"

say "packages"
"$root/deploy/install-deps.sh" tests

say "NEMO in ${venv#"$root/"}"
if ! "$venv/bin/python" -c 'import NEMO, gunicorn, redis, wheel' 2>"$work/venv.log"; then
    "$python" -m venv "$venv" 2>"$work/venv.log" ||
        end_without "no virtual environment can be made: $(tail -n 1 "$work/venv.log")"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$nemo" redis gunicorn tzdata \
        wheel "setuptools>=61" 2>"$work/venv.log" ||
        end_without "$nemo cannot be installed, is PyPI out of reach? $(tail -n 1 "$work/venv.log")"
fi
# A copy, because building leaves files beside the sources.
rm -rf "$work/plugin"
cp -r "$root/deploy/nemo" "$work/plugin"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
    --force-reinstall "$work/plugin"

if [ -z "${NEMOGATE_BINARY:-}" ]; then
    say "build"
    cmake -S "$root" -B "$work/cmake" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo
    cmake --build "$work/cmake" -j 2 --target nemogate
    NEMOGATE_BINARY=$work/cmake/nemogate
fi
export NEMOGATE_BINARY NEMOGATE_NEMO_VENV=$venv NEMOGATE_NEMO_RESULTS=$work/results.jsonl
export PYTHONDONTWRITEBYTECODE=1

dropin=
if ! in_private true 2>"$work/unshare.log"; then
    dropin="no namespaces here: $(tail -n 1 "$work/unshare.log")"
elif ! "$venv/bin/python" -c 'import paho' 2>/dev/null ||
    [ ! -d "$venv/old-plugin/NEMO_mqtt_bridge" ]; then
    {
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check paho-mqtt &&
            "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
                --target "$venv/old-plugin" "$old_plugin"
    } 2>"$work/venv.log" || dropin="$old_plugin cannot be installed: $(tail -n 1 "$work/venv.log")"
fi
cd "$root"

if [ "$compare" = yes ]; then
    if [ -n "$dropin" ]; then
        echo "skipped: the comparison: $dropin"
        exit 0
    fi
    NEMOGATE_NEMO_PRIVATE=yes in_private "$python" -B tests/nemo/compare.py
    exit
fi

# Status 5: -k has chosen none of these.
status=0
say "scenarios"
"$python" -m pytest -q -p no:cacheprovider --basetemp="$work/tmp" tests/nemo \
    --ignore=tests/nemo/dropin "${options[@]}" || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 5 ] || failed=yes
skipped=()
if [ -n "$dropin" ]; then
    skipped=("1,2,3,4,7,9,12=$dropin")
else
    say "scenarios of the drop-in"
    status=0
    NEMOGATE_NEMO_PRIVATE=yes in_private "$python" -m pytest -q -p no:cacheprovider \
        --basetemp="$work/tmp-dropin" tests/nemo/dropin "${options[@]}" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || failed=yes
fi

say "results"
"$python" -B tests/nemo/table.py "$work/results.jsonl" "${skipped[@]}" || failed=yes
[ -z "${failed:-}" ]
