// What a process must do once before it reads or writes HDF5 files.
#pragma once

namespace annulus::mapping {

/// Turns off HDF5's printing to standard error: our messages say what failed.
void setup_hdf5();

}  // namespace annulus::mapping
