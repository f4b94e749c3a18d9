// From options to the plan that an integrator is made of: reads geometry, masks, dark, flat and variance images, and
// checks that they fit the frames.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/problems.hpp"
#include "integrator/integration.hpp"
#include "mapping/frame_source.hpp"
#include "mpi_driver/integration_options.hpp"

namespace annulus::driver {

/// The frames that a plan is for.
struct PlanFrames {
  std::uint32_t rows = 0;  ///< 0 = not known, because the frames have problems of their own
  std::uint32_t columns = 0;
  std::string source;                             ///< a file that has this shape, for messages
  std::vector<mapping::FrameList::Input> inputs;  ///< where --pixel-mask is looked for
};

/// Reads all files that `options` name and adds all that is wrong with any to `problems`; the plan is complete when no
/// problem was added. A detector that has no shape, or another binning, takes that of the frames.
[[nodiscard]] integrator::IntegrationPlan make_plan(const IntegrationOptions& options, const PlanFrames& frames,
                                                    Problems& problems);

/// The files that a plan is read from, without datasets: no output may replace them.
[[nodiscard]] std::vector<std::filesystem::path> plan_sources(const IntegrationOptions& options);

/// pyFAI's worker configuration (version 5, JSON), which viewers read the geometry from and which --config takes again.
[[nodiscard]] std::string worker_configuration(const IntegrationOptions& options,
                                               const integrator::IntegrationPlan& plan, const std::string& monitor);

/// What the numbers of a plan follow from, images as checksums: a JSON object.
[[nodiscard]] std::string plan_fingerprint(const integrator::IntegrationPlan& plan);

/// The plan in a line or two for people: bins, splitting, errors, filter, corrections.
[[nodiscard]] std::string describe_plan(const integrator::IntegrationPlan& plan);

}  // namespace annulus::driver
