// Everything that a rank must know to take its share of a scan: made by rank 0, broadcast once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "integrator/integration.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/scan.hpp"
#include "mpi_driver/map_options.hpp"

namespace annulus::driver {

/// Consecutive lines of the grid: what a rank claims at a time.
struct LineBlock {
  std::uint64_t first = 0;
  std::uint64_t lines = 0;
};

struct Experiment {
  integrator::IntegrationPlan plan;
  mapping::FrameList frames;
  mapping::Scan scan;             ///< axes' positions stay on rank 0: nobody else needs them
  std::vector<double> monitor;    ///< [points] in grid order, not a number where there is none in the file
  std::vector<LineBlock> blocks;  ///< the lines that are still to be done
  std::filesystem::path output;
  bool std = false;  ///< The standard deviation is written too.
  ComputeSettings compute;
  std::uint32_t batch = usual_batch;  ///< frames that go through the matrix together: asked for, chosen, or what fits
};

/// What its frames are like, each kind once.
[[nodiscard]] std::vector<kernels::FrameKind> frame_kinds(const Experiment& experiment);

/// A flat byte form, for the broadcast.
[[nodiscard]] std::vector<std::byte> serialise(const Experiment& experiment);
[[nodiscard]] Experiment deserialise_experiment(std::span<const std::byte> bytes);

}  // namespace annulus::driver
