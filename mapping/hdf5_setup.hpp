// What a process must do once before it reads or writes HDF5 files.
#pragma once

#include <string>

namespace annulus::mapping {

/// Turns off HDF5's printing to standard error: our messages say what failed.
void setup_hdf5();

/// The version of the library that is linked: "1.10.8".
[[nodiscard]] std::string hdf5_version();

}  // namespace annulus::mapping
