#!/bin/bash
# The wall of deploy/node-red in a real browser: Redis, nemogate, Mosquitto with TLS, Node-RED and
# Chromium. Not part of tests/run.sh, since Node-RED comes from npm's registry: where that cannot be
# reached, or Node.js is missing or too old, the tests are skipped and say so.
# Screenshots are kept in build/node-red. Arguments go to pytest.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH=$PATH:/usr/sbin
"$root/deploy/install-deps.sh" tests page
if [ -z "${NEMOGATE_BINARY:-}" ]; then
    build=$root/build/tests
    cmake -G Ninja -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTS=ON >/dev/null
    cmake --build "$build" -j 2 --target nemogate
    export NEMOGATE_BINARY=$build/nemogate
fi
cd "$root"
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -m pytest -p no:cacheprovider -rs \
    tests/node-red "$@"
