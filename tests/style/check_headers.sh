#!/bin/bash
# Checks that each header compiles alone, so that no file depends on the order of its includes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

read -ra flags < <(pkg-config --cflags libevent hiredis wolfssl yaml-0.1)
status=0
for header in codec/*.h transport/*.h core/*.h; do
    if ! message=$(echo "#include \"$header\"" | gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror \
        -I. "${flags[@]}" -fsyntax-only -x c - 2>&1); then
        echo "$header: does not compile alone: $(grep -m1 error <<<"$message")"
        status=1
    fi
done
exit $status
