// A rank's way through its share of the scan: claim lines, fetch, decode, integrate, write.
//
// Batches go through the engine's slots. For a device, and where reading has to wait for the storage, one is read by a
// loader thread, straight into the slot's memory, while others are decoded and integrated; where a CPU computes and the
// bytes are in the page cache already, they are decoded where they lie, or the same threads read and compute by turns.
// Nothing here is collective.
#pragma once

#include <mpi.h>

#include <array>
#include <cstdint>

#include "integrator/integration.hpp"
#include "mapping/volume.hpp"
#include "mpi_driver/collective.hpp"
#include "mpi_driver/experiment.hpp"
#include "mpi_driver/progress.hpp"

namespace annulus::driver {

/// What a rank did, and how long each stage kept it busy (wall time of the thread that did it).
struct Statistics {
  double fetch_s = 0.0;
  double integrate_s = 0.0;  ///< decoding included; with a device that works by itself: waiting for it
  double write_s = 0.0;
  double total_s = 0.0;
  std::array<std::uint64_t, 6> frames{};  ///< by FrameStatus

  [[nodiscard]] std::uint64_t processed() const;
  [[nodiscard]] std::uint64_t bad() const;
};

/// Takes blocks of the experiment from `counter` until none is left. Independent: other ranks may be anywhere. Throws
/// IoError or DeviceError; lines written until then stay valid.
[[nodiscard]] Statistics run_pipeline(const Experiment& experiment, integrator::Integrator& integrator,
                                      mapping::VolumeWriter& writer, SharedCounter& counter, Progress& progress);

}  // namespace annulus::driver
