#include "mapping/hdf5_setup.hpp"

#include "mapping/hdf5.hpp"

namespace annulus::mapping {

void setup_hdf5() { hdf5::silence(); }

}  // namespace annulus::mapping
