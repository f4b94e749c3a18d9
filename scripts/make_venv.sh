#!/usr/bin/env bash
# Makes the Python environment of the tests, .venv/ of the checkout, from tests/requirements.txt; does nothing when it
# is there and the requirements are the same.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

requirements=tests/requirements.txt
stamp=.venv/installed-requirements.txt
if [ -x .venv/bin/python ] && cmp -s "$requirements" "$stamp"; then
  exit 0
fi
say "Making the Python environment of the tests in .venv/"
rm -rf .venv
# Debian's own interpreter, whatever else is on the PATH: python3-venv was installed for this one.
/usr/bin/python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$requirements"
cp "$requirements" "$stamp"
