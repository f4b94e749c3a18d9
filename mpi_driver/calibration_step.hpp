// The step from images of a reference compound to a geometry, as rank 0 takes it: read and check, calibrate, tell.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/problems.hpp"
#include "calibration/calibration.hpp"
#include "mapping/image_metadata.hpp"
#include "mpi_driver/calibrate_options.hpp"
#include "mpi_driver/map_options.hpp"

namespace annulus::driver {

/// Images and settings, read and checked.
struct CalibrationInput {
  calibration::CalibrationSettings settings;
  std::vector<std::vector<float>> counts;        ///< [images][rows * columns]
  std::vector<std::vector<std::uint8_t>> masks;  ///< [images][rows * columns]
  std::vector<double> distance_offsets_m;        ///< [images]
  int threads = 0;                               ///< to calibrate with; 0 = OpenMP's default
  mapping::ImageMetadata metadata;               ///< of the first image
  std::string image_name;                        ///< of the first image, for people
};

struct CalibrationOutcome {
  calibration::CalibrationResult result;
  std::vector<std::string> warnings;  ///< those of the result, and where the images' headers disagree with it
  double seconds = 0.0;               ///< of wall time that calibrate() took
};

/// Reads all that `options` name and adds all that is wrong with any to `problems`; the result is complete when no
/// problem was added. The frames of a file, and without distance offsets all files, are summed: a sum of counts is
/// counts again. A pixel that is bad in one of them is masked.
[[nodiscard]] CalibrationInput read_calibration_input(const CalibrationOptions& options, Problems& problems);

/// Calibrates, and compares with what the images say of themselves.
[[nodiscard]] CalibrationOutcome run_calibration(const CalibrationInput& input);

/// The result for a person: parameters with standard errors, beam, tilt, rings, verdict and reasons.
[[nodiscard]] std::string calibration_table(const CalibrationInput& input, const CalibrationOutcome& outcome);

/// PONI text with the verdict and its reasons in comments.
[[nodiscard]] std::string calibrated_poni_text(const CalibrationInput& input, const CalibrationOutcome& outcome);

/// The page of calibration/report.hpp.
[[nodiscard]] std::string calibration_report(const CalibrationInput& input, const CalibrationOutcome& outcome);

/// The files that options name, without datasets: no output may replace them.
[[nodiscard]] std::vector<std::filesystem::path> calibration_sources(const CalibrationOptions& options);

/// Where a scan's geometry is to come from a calibration: makes it, and puts geometry, evidence and warnings into
/// `options`. What is wrong with the input goes to `problems`; with problems at hand, nothing is calibrated. Throws
/// Error when the calibration failed, or is doubtful and that is not accepted.
void calibrate_scan(MapOptions& options, Problems& problems);

}  // namespace annulus::driver
