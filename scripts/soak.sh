#!/usr/bin/env bash
# Longer than a test may take: kills one rank of a running job many times on every backend, and resumes each time.
#
# usage: scripts/soak.sh [KILLS]     kills for each backend, default 20
set -euo pipefail
source "$(dirname "$0")/environment.sh"

kills=${1:-20}
scripts/install_packages.sh
scripts/make_venv.sh
scripts/build.sh annulus
for backend in reference openmp opencl; do
  say "" "$backend"
  .venv/bin/python tests/end_to_end/kill_resume.py --kills "$kills" --backend "$backend"
done
