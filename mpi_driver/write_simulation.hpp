// A simulated scan written by all ranks together.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <filesystem>

#include "simulation/simulation.hpp"

namespace annulus::driver {

/// Writes all of `simulated` into `folder`, which exists, and returns the bytes of all data files, on rank 0.
/// @param frames_per_file  as simulated
/// Throws Stop on every rank when one fails. Collective.
std::uint64_t write_simulation(const simulation::Simulation& simulated, std::uint64_t frames_per_file,
                               const std::filesystem::path& folder, MPI_Comm comm);

}  // namespace annulus::driver
