// What a process must do once before it reads or writes HDF5 files.
#pragma once

#include <string>

namespace annulus::mapping {

/// Turns off HDF5's printing to standard error, since our messages say what failed, and registers our filter 32008, so
/// that masks and other images that nobody describes as frames are read without a plugin, too.
void setup_hdf5();

/// The version of the library that is linked: "1.10.8".
[[nodiscard]] std::string hdf5_version();

}  // namespace annulus::mapping
