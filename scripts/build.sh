#!/usr/bin/env bash
# Builds annulus (Release) into build/; does nothing when it is up to date.
#
# usage: scripts/build.sh [-DNAME=VALUE...] [TARGET...]
# Without a target everything is built, tests included. ANNULUS_PRESET names another preset of CMakePresets.json.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

preset=${ANNULUS_PRESET:-release}
settings=()
targets=()
for argument in "$@"; do
  case $argument in
    -D*) settings+=("$argument") ;;
    *) targets+=("$argument") ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=(all)

# Configuring again costs a second and compiles nothing; it is what notices a changed preset or setting.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake --preset "$preset" "${settings[@]}" >"$log" 2>&1; then
  cat "$log" >&2
  fail "configuring failed"
fi
cmake --build --preset "$preset" --target "${targets[@]}"
