// Rank 0's work before the run: reads and checks everything, and tells all problems at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mapping/volume.hpp"
#include "mpi_driver/experiment.hpp"
#include "mpi_driver/map_options.hpp"

namespace annulus::driver {

struct Preparation {
  Experiment experiment;
  mapping::VolumeDescription description;  ///< without the axes of the bins, which the integrator knows
  std::uint64_t points_done = 0;           ///< by the run that is resumed
  std::vector<std::string> warnings;       ///< what looks wrong and may be meant
};

/// Reads geometry, images, frames, monitor and motors, checks that they fit each other and that the output can be
/// written. Writes nothing. Throws InputError with every problem found, those of the options first.
/// @param ranks       how many ranks will share the lines
/// @param node_ranks  how many of them share this node's memory; batches that do not fit there are made smaller
/// @param problems  of the options, as parse_map_options found them
/// @param crew      looks at the frames' files
[[nodiscard]] Preparation prepare(const MapOptions& options, int ranks, int node_ranks, const std::string& command_line,
                                  Problems problems, const mapping::SurveyCrew& crew);

/// What a dry run tells: frames, grid, geometry, memory, bytes to read and write.
[[nodiscard]] std::string describe(const Preparation& preparation, int ranks);

}  // namespace annulus::driver
