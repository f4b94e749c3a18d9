#include "mapping/hdf5_setup.hpp"

#include "mapping/hdf5.hpp"
#include "mapping/hdf5_bslz4_filter.hpp"

namespace annulus::mapping {

void setup_hdf5() {
  hdf5::silence();
  hdf5::register_bslz4_filter();
}

}  // namespace annulus::mapping
