// The options of integration, shared by every command that integrates: how bins are made, what is corrected, which
// pixels are left out. From the command line here, from pyFAI's JSON in configuration.hpp.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/problems.hpp"
#include "integrator/integration.hpp"

namespace annulus::driver {

/// How several images of one kind become one.
enum class ImageFilter : std::uint8_t { mean, median, clipped };

/// Everything that an IntegrationPlan is made of, but for the frames' shape.
struct IntegrationOptions {
  integrator::IntegrationSettings settings;
  std::filesystem::path poni;      ///< geometry file; "" = none is given
  std::string geometry_json;       ///< PONI dictionary of a configuration, whose entries stand above those of `poni`
  std::string geometry_source;     ///< where geometry_json comes from, for messages
  std::vector<std::string> masks;  ///< FILE or FILE::DATASET, or-ed; they replace the detector's own mask
  bool detector_mask = true;       ///< Without `masks`, the detector's own mask is used.
  bool pixel_mask = false;         ///< The pixel_mask of the first HDF5 input is or-ed to the others.
  std::vector<std::string> dark;   ///< images
  std::vector<std::string> flat;   ///< images
  ImageFilter dark_filter = ImageFilter::mean;
  ImageFilter flat_filter = ImageFilter::mean;
  std::string variance;            ///< image, for the error model `variance`; "" = none
  bool absorption = false;         ///< Transmission of the sensor from its material, thickness and the wavelength.
  bool std = false;                ///< The standard deviation is written too.
  bool error_model_given = false;  ///< by the user, even if it is `no`
};

/// The group of options for a command's table; help texts included.
[[nodiscard]] boost::program_options::options_description integration_option_group();

/// For parse_arguments: those of the group that take two values, and those that take a number or none (with the number
/// that none stands for).
[[nodiscard]] const std::vector<std::string>& integration_pairs();
[[nodiscard]] const std::vector<std::pair<std::string, std::string>>& integration_optional_numbers();

/// Puts what the command line gives explicitly over what `options` hold. What is wrong with a value goes to `problems`.
void apply_integration_options(const boost::program_options::variables_map& given, IntegrationOptions& options,
                               Problems& problems);

/// Fills in what follows from other options and finds those that contradict each other; to be called once, when command
/// line and configuration are known.
void settle_integration_options(IntegrationOptions& options, Problems& problems);

/// Values by their names on the command line and in configurations. Throws InputError naming `option`.
[[nodiscard]] kernels::Splitting parse_splitting(std::string_view name, std::string_view option);
[[nodiscard]] kernels::ErrorModel parse_error_model(std::string_view name, std::string_view option);

/// Checks of values that both command line and configuration give. Throw InputError naming `option`.
[[nodiscard]] std::pair<double, double> checked_azimuth_range(std::pair<double, double> range,
                                                              std::string_view azimuthal_unit, std::string_view option);
[[nodiscard]] kernels::QuantileRange checked_quantiles(double lower, double upper, std::string_view option);

}  // namespace annulus::driver
