// A prepared experiment on its way to a finished volume: what `map`, `tomo` and `bench` have in common, and how long
// each step took.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <optional>
#include <string>

#include "integrator/integration.hpp"
#include "mpi_driver/map_options.hpp"
#include "mpi_driver/pipeline.hpp"
#include "mpi_driver/preparation.hpp"

namespace annulus::driver {

/// Seconds since the system started this process, to 10 ms: MPI and libraries have been at work before main().
[[nodiscard]] double process_age_s();

/// The most memory that this process has held so far (VmHWM), in bytes.
[[nodiscard]] std::uint64_t peak_memory_bytes();

/// prepare() on rank 0, with all ranks looking at the frames' files; the result is there alone. Throws Stop on every
/// rank when it fails. Collective.
[[nodiscard]] std::optional<Preparation> prepare_together(const MapOptions& options, const std::string& command_line,
                                                          const Problems& problems, MPI_Comm comm);

enum class ShowProgress : std::uint8_t { no, yes };

/// One run from the first look at the volume to its end, in seconds of wall time.
struct MapRun {
  double create_s = 0.0;  ///< rank 0 makes and fills the file, all open it
  double close_s = 0.0;   ///< all close it, rank 0 sets its end
  double idle_s = 0.0;    ///< from a rank's last frame to the last one of all, the mean of the ranks
  Statistics all;         ///< of all ranks: sums of the stages, the longest of the totals
};

/// Makes the volume (not when it is resumed), takes this rank through its share of the lines, and closes it.
/// @param preparation  on rank 0; its description gets the axes of the bins. nullptr elsewhere
/// Throws Stop on every rank when one fails. Collective.
[[nodiscard]] MapRun run_map(const Experiment& experiment, Preparation* preparation, OutputMode mode,
                             integrator::Integrator& integrator, ShowProgress show, MPI_Comm comm);

}  // namespace annulus::driver
