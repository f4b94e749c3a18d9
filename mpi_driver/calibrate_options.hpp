// The options of calibration: those that `calibrate` shares with `map` and `tomo --calibrate`, and its own.
#pragma once

#include <array>
#include <boost/program_options.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/problems.hpp"
#include "calibration/calibration.hpp"

namespace annulus::driver {

/// What a calibration is made of, as the user meant it: nothing is read yet.
struct CalibrationOptions {
  std::vector<std::string> images;  ///< FILE or FILE::DATASET
  std::string calibrant;            ///< name or .D file; "" = by cell or spacings
  std::string cell;                 ///< "5.4116 Fm-3m"; "" = none
  std::vector<double> d_spacings_angstrom;
  std::optional<double> wavelength_m;
  bool wavelength_given = false;                     ///< also when it cannot be used
  std::string detector;                              ///< name or NeXus file; "" = that of the guess
  std::optional<std::pair<double, double>> pixel_m;  ///< height and width, of a detector without a name
  std::optional<std::uint32_t> orientation;
  std::optional<integrator::Sensor> sensor;
  bool parallax = false;
  std::filesystem::path poni;                            ///< a guess; "" = none
  std::optional<double> distance_m;                      ///< a guess
  std::optional<std::pair<double, double>> beam_center;  ///< a guess: column and row in pixels, as images' headers
  std::array<calibration::Freedom, calibration::parameter_count> freedom = calibration::make_freedom();
  /// [images] how far the detector stood behind its place for the first one; empty = one place, images are summed.
  std::vector<double> distance_offsets_m;
  std::vector<std::string> masks;  ///< besides the detector's own
  std::vector<std::string> dark;
  std::uint32_t max_rings = 0;
  int threads = 0;
  bool list_calibrants = false;  ///< --calibrant list
};

/// The group of options that every command which calibrates has; help texts included. None of them has a short name.
[[nodiscard]] boost::program_options::options_description calibration_option_group();

/// For parse_arguments: those of the group that take two values.
[[nodiscard]] const std::vector<std::string>& calibration_pairs();

/// Reads the group, but for images, masks, dark, poni and threads, which each command has under names of its own. What
/// is wrong with values goes to `problems`; that a calibrant is missing too.
void parse_calibration_options(const boost::program_options::variables_map& given, CalibrationOptions& options,
                               Problems& problems);

/// The options of the group that are given, by name: they mean nothing without --calibrate.
[[nodiscard]] std::vector<std::string> calibration_options_given(const boost::program_options::variables_map& given);

/// The command line of `calibrate`.
struct CalibrateOptions {
  CalibrationOptions calibration;
  std::filesystem::path output;  ///< PONI file
  std::filesystem::path points;  ///< .npt file; "" = none
  std::filesystem::path report;  ///< HTML file; "" = none
  bool overwrite = false;
};

/// Parses the arguments after the subcommand. What is wrong with values goes to `problems`, to be told together with
/// what is wrong with the files. Throws InputError for what is no option at all. `help` is set when the user asked for
/// it; then nothing else is.
[[nodiscard]] CalibrateOptions parse_calibrate_options(const std::vector<std::string>& arguments,
                                                       std::optional<std::string>& help, Problems& problems);

}  // namespace annulus::driver
