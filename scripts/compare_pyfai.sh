#!/usr/bin/env bash
# What a frame costs, annulus against pyFAI's diff_map: same simulated 4-megapixel bslz4 scan, same cores, same run.
#
# usage: scripts/compare_pyfai.sh [FOLDER]     FOLDER gets the scan (made once) and results; default: a scratch folder
set -euo pipefail
source "$(dirname "$0")/environment.sh"

scripts/install_packages.sh
scripts/make_venv.sh
scripts/build.sh annulus

if [ $# -gt 0 ]; then
  folder=$1
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
.venv/bin/python scripts/compare_pyfai.py "$folder"
