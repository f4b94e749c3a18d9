#!/usr/bin/env bash
# Installs the Debian packages that annulus is built, run and tested with: only those that are missing.
#
# Needs root, or a user with sudo. With everything there it does nothing and needs no network.
set -euo pipefail
export LC_ALL=C.UTF-8

packages=(
  # build
  g++ cmake ninja-build pkg-config git
  # MPI and parallel HDF5
  libopenmpi-dev openmpi-bin libhdf5-openmpi-dev
  # OpenCL: loader, headers, and PoCL as a device where there is no GPU
  ocl-icd-opencl-dev opencl-headers opencl-clhpp-headers pocl-opencl-icd
  # libraries
  libboost-program-options-dev liblz4-dev libzstd-dev libdeflate-dev libtiff-dev libpng-dev
  nlohmann-json3-dev libfmt-dev libceres-dev libeigen3-dev
  # tests, and looking at what was written
  libgtest-dev libbenchmark-dev python3 python3-venv ca-certificates hdf5-tools
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages.sh: needs root or sudo to install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing Debian packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
