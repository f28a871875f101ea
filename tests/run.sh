#!/bin/bash
# All tests: installs what they need, builds, runs the unit tests (Criterion through ctest) and the
# integration tests (pytest against real Redis and Mosquitto; the plugin for NEMO among them), those
# of the monitor page where its browser is installed (deploy/install-deps.sh page), and closes with
# a line "N passed, N failed". Exit status 0 only if nothing failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=$PATH:/usr/sbin # mosquitto lies there, and a user's PATH leaves it out
python=/usr/bin/python3
san=
unit=yes
integration=yes
page=if-there
workers=5 # most tests wait rather than compute
pytest_arguments=()

usage() {
    cat <<END
usage: tests/run.sh [--san asan|tsan] [--unit | --page | --integration [PYTEST ARGUMENTS...]]
  --san          build with AddressSanitizer and UBSan, or with ThreadSanitizer; a report of theirs
                 is a failed test. The integration tests then use smaller counts
  --unit         only the unit tests
  --page         only the tests of the monitor page; installs a browser
  --integration  only the integration tests; what follows goes to pytest, e.g. -k drain -x
END
}

while [ $# -gt 0 ]; do
    case $1 in
    --san)
        san=${2:-}
        [ "$san" = asan ] || [ "$san" = tsan ] || { usage >&2 && exit 2; }
        shift
        ;;
    --unit) integration=no page=no ;;
    --page) unit=no integration=no page=yes ;;
    --integration)
        unit=no
        page=no
        shift
        pytest_arguments=("$@")
        break
        ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ "$unit$integration$page" != nonono ] || { usage >&2 && exit 2; }

say() {
    printf '\n== %s\n' "$*"
}

build=$root/build/${san:-tests}
results=$build/results
say "packages"
"$root/deploy/install-deps.sh" tests
if [ "$page" = yes ]; then
    "$root/deploy/install-deps.sh" page
elif [ "$page" = if-there ]; then
    page=no
    if [ -z "$san" ] && command -v chromium >/dev/null && command -v chromedriver >/dev/null &&
        "$python" -c "import selenium" 2>/dev/null; then
        page=yes
    else
        echo "the monitor page is not tested here: deploy/install-deps.sh page, tests/run.sh --page"
    fi
fi

say "build in ${build#"$root/"}"
if [ -n "$san" ]; then
    preset=(--preset "$san" -DBUILD_BENCH=OFF) # nobody measures such a build
else
    preset=(-G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo)
fi
cmake "${preset[@]}" -S "$root" -B "$build" -DBUILD_TESTS=ON
target=all
[ "$unit" = yes ] || target=integration
cmake --build "$build" -j 2 --target "$target"
rm -rf "$results"
mkdir -p "$results/sanitizer"

# gcc 12's ThreadSanitizer cannot map its shadow when the kernel randomises addresses too widely.
wrap=()
if [ "$san" = tsan ] && setarch -R true 2>/dev/null; then
    wrap=(setarch -R)
fi
common=log_path=$results/sanitizer/report
export ASAN_OPTIONS=$common:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=$common:print_stacktrace=1
export TSAN_OPTIONS=$common:second_deadlock_stack=1:history_size=4

if [ "$unit" = yes ]; then
    say "unit tests"
    "${wrap[@]}" ctest --test-dir "$build" --output-on-failure -j 2 --no-tests=error \
        --output-junit "$results/unit.xml" --test-output-size-passed 1000000 || true
fi
if [ "$integration" = yes ]; then
    say "integration tests"
    cd "$root"
    NEMOGATE_BINARY=$build/nemogate NEMOGATE_SAN=$san PYTHONDONTWRITEBYTECODE=1 \
        "${wrap[@]}" "$python" -m pytest -p no:cacheprovider -ra --durations=10 -n "$workers" \
        --junitxml="$results/integration.xml" tests/integration tests/nemo_plugin \
        "${pytest_arguments[@]}" || true
fi

if [ "$page" = yes ]; then
    say "monitor page"
    cd "$root"
    NEMOGATE_BINARY=$build/nemogate PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest \
        -p no:cacheprovider -ra --durations=5 -n 3 --junitxml="$results/page.xml" tests/page || true
fi

say "results"
"$python" -B "$root/tests/sum_results.py" "$results" "$unit" "$integration" "$page"
