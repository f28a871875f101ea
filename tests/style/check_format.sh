#!/bin/bash
# Checks that every C file is formatted as .clang-format says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

status=0
while IFS= read -r file; do
    if ! clang-format --dry-run -Werror "$file" 2>/dev/null; then
        echo "$file: not formatted: clang-format -i $file"
        status=1
    fi
done < <(find codec transport core tests bench -name '*.[ch]' | sort)
exit $status
