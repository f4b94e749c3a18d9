// The command line of `integrate`, as the user meant it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/problems.hpp"
#include "mpi_driver/compute_options.hpp"
#include "mpi_driver/integration_options.hpp"

namespace annulus::driver {

/// What --output names.
enum class PatternOutput : std::uint8_t {
  text_file,  ///< NAME.xy: the pattern of one image
  hdf5_file,  ///< NAME.h5: those of all images
  folder,     ///< a file an image, named after it: .xy, or .h5 with azimuthal bins
};

struct IntegrateOptions {
  std::vector<std::string> images;  ///< FILE or FILE::DATASET, by the numbers in their names
  std::filesystem::path output;
  PatternOutput kind = PatternOutput::folder;
  bool overwrite = false;
  IntegrationOptions integration;
  ComputeSettings compute;
  std::vector<std::string> warnings;  ///< what the user should know of the configuration
};

/// Parses the arguments after the subcommand, and the configuration file that --config names. What is wrong with values
/// goes to `problems`, to be told together with what is wrong with the files. Throws InputError for what is no option
/// at all. `help` is set when the user asked for it; then nothing else is.
[[nodiscard]] IntegrateOptions parse_integrate_options(const std::vector<std::string>& arguments,
                                                       std::optional<std::string>& help, Problems& problems);

}  // namespace annulus::driver
