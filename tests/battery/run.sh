#!/bin/sh
# All of dieharder's tests (Debian: apt-get install dieharder) on the sampler's raw 32-bit words:
# of one key, then of neighbouring keys. Takes an hour or two for each.
#
#     tests/battery/run.sh            # keys 0, then across keys
#     tests/battery/run.sh 42         # key 42
#     tests/battery/run.sh 0 -d 15    # key 0, other dieharder options in place of -a
#
# One p-value in a hundred is marked WEAK even for perfect randomness; none may be FAILED.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${CXX:-c++}" -std=c++17 -O3 -I"$here/../../csrc" "$here/words.cpp" -o "$scratch/words"
streams=${1:-0 keys}
[ $# -gt 0 ] && shift
for stream in $streams; do
  echo "# stream: $stream"
  # -g 200: words from standard input; -k 2: exact Kolmogorov-Smirnov; -Y 1: repeat doubtful ones
  "$scratch/words" "$stream" | dieharder -g 200 -k 2 -Y 1 "${@:--a}"
done
