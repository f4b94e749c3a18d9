# Sourced by the other scripts: where the checkout lies, and how mpirun is called here.
#
# Sets `top` (the checkout's folder) and changes to it; `mpirun_options` (an array). Every script needs the same three
# settings of Open MPI, so they stand here once.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

# A bare Debian has no locales; messages that are read by scripts must not depend on them anyway.
export LC_ALL=C.UTF-8

# Open MPI refuses to run as root unless told twice; containers and CI machines often have no other user.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# More ranks than cores are wanted on small machines (tests run four ranks on two cores).
mpirun_options=(--oversubscribe)

say() { printf '%s\n' "$@"; }
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# PoCL and Open MPI learn the machine's memory and cores from there, and end with an abort where they cannot.
if [ ! -d /proc/self ] || [ ! -d /sys/devices/system ]; then
  fail "/proc and /sys are not mounted (in a chroot: mount -t proc proc /proc; mount -t sysfs sysfs /sys)"
fi
