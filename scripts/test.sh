#!/usr/bin/env bash
# From a bare Debian 12 to a tested build: installs what is missing, builds (Release), runs every test.
#
# usage: scripts/test.sh [ctest options]     such as -L unit, -R pyfai, --rerun-failed
# The exit status is ctest's. Real detector images, where there are any (ANNULUS_TEST_DATA, or ../shared/data beside the
# checkout), are tested too; without them those tests skip and say so.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

scripts/install_packages.sh
scripts/make_venv.sh
scripts/build.sh -DANNULUS_PYTHON="$top/.venv/bin/python"

# Tests say how many processors they take, so a wide run does not crowd the MPI ones.
exec ctest --test-dir "${ANNULUS_BUILD_DIR:-build}" --output-on-failure --no-tests=error --parallel "$(nproc)" "$@"
