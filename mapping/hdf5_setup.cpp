#include "mapping/hdf5_setup.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include "mapping/hdf5.hpp"
#include "mapping/hdf5_bitshuffle_filter.hpp"

namespace annulus::mapping {

void setup_hdf5() {
  hdf5::silence();
  hdf5::register_bitshuffle_filter();
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace annulus::mapping
