#!/usr/bin/env bash
# Compiles every header alone, and twice in one file: it includes what it needs, and only once.
#
# usage: scripts/check_headers.sh [INCLUDE_FOLDER...]     CXX names the compiler, g++ by default
# Without folders it asks the MPI compiler and pkg-config where MPI, the parallel HDF5 and Eigen lie. Two headers at a
# time.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  found="$(mpicxx --showme:incdirs) $(pkg-config --cflags-only-I hdf5-openmpi eigen3 | sed 's/-I//g')"
  read -r -a folders <<<"$found"
  set -- "${folders[@]}"
fi
options=(-std=c++20 -fsyntax-only -Wall -Wextra -Werror -I.)
for folder in "$@"; do options+=(-isystem "$folder"); done

rooms=(base kernels integrator calibration mapping simulation mpi_driver benchmarks tests)
mapfile -t headers < <(find "${rooms[@]}" -name '*.hpp' | sort)
if [ ${#headers[@]} -eq 0 ]; then
  echo "check_headers: found no header" >&2
  exit 1
fi

# The folder of the header is searched too, as for a source file beside it: tests include their neighbours.
check_one() {
  local header=$1
  shift
  printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
    "${CXX:-g++}" "$@" -iquote "$(dirname "$header")" -x c++ - || { echo "check_headers: $header" >&2; return 1; }
}
export -f check_one
printf '%s\0' "${headers[@]}" |
  xargs -0 -P 2 -I{} bash -c 'header=$1; shift; check_one "$header" "$@"' check_one {} "${options[@]}"
echo "check_headers: ${#headers[@]} headers compile alone"
