#!/bin/bash
# Checks that the libraries hold no writable data: all state hangs off the engine or a shard.
# Constant tables of pointers (.data.rel.ro) are written only by the loader and may stay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build=${1:-build/tests}
allowed=() # symbols that may be writable, each with its reason on the line above
status=0
for library in codec transport core; do
    if [ ! -f "$build/lib$library.a" ]; then
        echo "$build/lib$library.a is missing: build first (tests/run.sh --unit)"
        exit 1
    fi
    # objdump -t: address, flags, section, size, name; O marks a data object.
    while read -r section name; do
        [[ " ${allowed[*]} " == *" $name "* ]] && continue
        echo "lib$library.a: $name is writable ($section): no mutable globals"
        status=1
    done < <(objdump -t "$build/lib$library.a" | awk '
        {
            for (i = 1; i < NF; i++)
                if ($i ~ /^(\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && $i !~ /^\.data\.rel\.ro/) {
                    if ($NF != $i)
                        print $i, $NF
                    break
                }
        }')
done
exit $status
