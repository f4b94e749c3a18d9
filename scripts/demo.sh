#!/usr/bin/env bash
# From a bare Debian 12 to a tomography: installs what is missing, builds, simulates a scan, integrates it.
#
# usage: scripts/demo.sh [FOLDER]     FOLDER gets the scan and the result; default: demo-output/ of the checkout
set -euo pipefail
source "$(dirname "$0")/environment.sh"

folder=${1:-demo-output}
rotations=48
translations=40
scan=$folder/scan
volume=$folder/tomography.h5
annulus=build/bin/annulus

scripts/install_packages.sh
scripts/build.sh annulus

mkdir -p "$folder"
if [ ! -e "$scan/scan_master.h5" ]; then
  say "" "Simulating $rotations rotations x $translations translations of an Eiger2 CdTe 1M (bslz4, uint16)"
  mpirun -n 2 "${mpirun_options[@]}" "$annulus" simulate --slow $rotations --fast $translations \
    --detector Eiger2CdTe_1M --seed 1 -o "$scan"
fi

say "" "Integrating it on two ranks"
command=(mpirun -n 2 "${mpirun_options[@]}" "$annulus" tomo
  -p "$scan/geometry.poni" -m "$scan/mask.tif" -r $rotations -t $translations -c 1000
  --monitor /entry/monitor/data
  --slow-motor /entry/sample/rotation --fast-motor /entry/sample/translation
  --error-model poisson --overwrite -o "$volume" "$scan/scan_master.h5")
say "  ${command[*]}" ""
"${command[@]}"

cat <<TEXT

Written
  $scan/
      scan_master.h5, data_*.h5   the scan as a detector would write it: $((rotations * translations)) frames
      geometry.poni, mask.tif     what the integration needs beside the frames
      calibrant.tif, truth.h5     an image of LaB6 in the same geometry; what was put into the simulation
  $volume
      /entry_0000/annulus/result  intensity and errors (rotation, translation, 2theta); map, transposed, for viewers

Look at it
  h5ls -r $volume                         what the file holds (hdf5-tools, installed)
  silx view $volume                       images and curves (pip install 'silx[full]')
  pyFAI-diffmap-view $volume              the map and the pattern under the mouse (pip install 'pyFAI[gui]')
TEXT
