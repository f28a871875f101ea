#!/bin/bash
# Builds what the benchmark's image holds: deploy/bench/build.sh SOURCE DESTINATION. Installs the
# Debian packages that the build needs (it is meant for the first stage of the Dockerfile).
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: deploy/bench/build.sh SOURCE DESTINATION" >&2 && exit 2; }
source=$1
destination=$2

"$source/deploy/install-deps.sh" bench
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cmake -S "$source" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTS=OFF -DBUILD_BENCH=ON
programs=(blaster drain load null_broker verify)
cmake --build "$folder" -j "$(nproc)" --target nemogate "${programs[@]}"

install -d "$destination/bin/bench" "$destination/bench"
install -s "$folder/nemogate" "$destination/bin/"
for program in "${programs[@]}"; do
    install -s "$folder/bench/$program" "$destination/bin/bench/"
done
install -m 644 "$source"/bench/*.py "$destination/bench/"
install "$source/bench/run.sh" "$destination/bench/"
install "$source/deploy/bench/entry.sh" "$destination/"
