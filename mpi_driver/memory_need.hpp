// How much memory a rank needs, said before it does: an upper bound from the plan alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "mpi_driver/experiment.hpp"

namespace annulus::driver {

/// Upper bounds in bytes, of the rank that holds most. For OpenCL host and device together: on a CPU device they are
/// the same memory.
struct MemoryNeed {
  std::uint64_t process = 0;   ///< program, MPI, HDF5, OpenCL: there before any work
  std::uint64_t building = 0;  ///< the matrix and what building it takes, before the first frame
  std::uint64_t matrix = 0;    ///< in all the forms that are kept
  std::uint64_t images = 0;    ///< corrections, mask, pixel positions
  std::uint64_t batches = 0;   ///< frames on their way, in every slot
  std::uint64_t results = 0;   ///< sums and patterns of a batch and of a block of lines
  std::uint64_t scan = 0;      ///< what grows with the number of frames: monitor, status, lists; no frame itself

  [[nodiscard]] std::uint64_t total() const {
    return process + images + scan + std::max(building, matrix + batches + results);
  }
};

/// What frames take as they lie in their files, in bytes.
struct StoredFrames {
  std::uint64_t mean = 0;
  std::uint64_t most = 0;       ///< no frame takes more: known where they are not compressed, else a quarter above the
                                ///< largest that was looked at
  std::uint64_t looked_at = 0;  ///< how many compressed frames were; 0 = none had to be
};

/// Enough for a look at the whole scan: a file may have to be opened for each.
inline constexpr std::uint64_t usual_looks = 100;

/// Looks where at most `looks` compressed frames all over the scan lie, and reads none. Calls HDF5.
[[nodiscard]] StoredFrames stored_frames(const mapping::FrameList& frames, std::uint64_t looks);

/// No encoder makes more of any frame of the list.
[[nodiscard]] std::uint64_t most_stored_bytes(const mapping::FrameList& frames);

/// @param entries       of the matrix: matrix_entries(), or any bound
/// @param stored_bytes  of a frame: stored_frames(), or any bound
[[nodiscard]] MemoryNeed memory_need(const Experiment& experiment, std::uint64_t entries, std::uint64_t stored_bytes);

/// Entries that the plan's matrix will have, to a per cent or so: counted for a sample of the pixels, with the bins
/// that all of them make. Costs some tenths of a second for 4 megapixels.
[[nodiscard]] std::uint64_t matrix_entries(const integrator::IntegrationPlan& plan);

/// More entries than any matrix of the plan has, for nothing.
[[nodiscard]] std::uint64_t most_matrix_entries(const integrator::IntegrationPlan& plan);

/// What this node can give now: MemAvailable, or what the job's control group leaves; 0 = not known.
[[nodiscard]] std::uint64_t memory_available_bytes();

/// Makes the batches of the experiment as small as `available_bytes` asks for (a batch's size changes no result) and
/// returns a warning that says so; "" when nothing had to be changed. Throws InputError when not even batches of one
/// frame fit. `available_bytes` = 0: not known, so nothing is changed.
[[nodiscard]] std::string fit_batch(Experiment& experiment, std::uint64_t available_bytes);

}  // namespace annulus::driver
