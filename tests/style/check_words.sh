#!/bin/bash
# Checks for words that have no place in the repository: notes to oneself, and paths of somebody's
# own machine. Covers all files that git knows or would add.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

notes='\b(TODO|FIXME|XXX|HACK)\b'
paths='(^|[^A-Za-z0-9_.-])/(home/[a-z]|Users/[A-Za-z]|root/|work/|mnt/[a-z])'
status=0
while IFS= read -r -d '' file; do
    if [ ! -f "$file" ] || [ "$file" = tests/style/check_words.sh ]; then
        continue
    fi
    if found=$(grep -InE "$notes" "$file"); then
        sed "s#^#$file:#; s#\$# <- finish it or open an issue#" <<<"$found"
        status=1
    fi
    if found=$(grep -InE "$paths" "$file"); then
        sed "s#^#$file:#; s#\$# <- a path of one machine#" <<<"$found"
        status=1
    fi
done < <(git ls-files -z --cached --others --exclude-standard)
exit $status
