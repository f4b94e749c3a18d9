// The subcommands: each takes the arguments after its name and returns the exit status, on every rank.
#pragma once

#include <mpi.h>

#include <string>
#include <vector>

#include "mapping/scan.hpp"
#include "mpi_driver/collective.hpp"

namespace annulus::driver {

/// `annulus map` and `annulus tomo`. Collective.
[[nodiscard]] ExitCode command_map(mapping::ScanKind kind, const std::vector<std::string>& arguments, MPI_Comm comm);
/// `annulus calibrate`: rank 0 works, the others wait. Collective.
[[nodiscard]] ExitCode command_calibrate(const std::vector<std::string>& arguments, MPI_Comm comm);
/// `annulus integrate`. Collective.
[[nodiscard]] ExitCode command_integrate(const std::vector<std::string>& arguments, MPI_Comm comm);
/// `annulus simulate`. Collective.
[[nodiscard]] ExitCode command_simulate(const std::vector<std::string>& arguments, MPI_Comm comm);
/// `annulus bench`. Collective.
[[nodiscard]] ExitCode command_bench(const std::vector<std::string>& arguments, MPI_Comm comm);
/// `annulus devices`. Collective.
[[nodiscard]] ExitCode command_devices(const std::vector<std::string>& arguments, MPI_Comm comm);

}  // namespace annulus::driver
