// Detectors by name: shape, pixel size, gaps, and what their values mean. Names and numbers as in pyFAI's registry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace annulus::integrator {

/// How the pixel indices run, in pyFAI's (and EXIF's) numbers, seen from the sample.
enum class Orientation : std::uint8_t { top_left = 1, top_right = 2, bottom_right = 3, bottom_left = 4 };

/// A flat detector with a regular grid of pixels.
struct Detector {
  std::string name = "Detector";  ///< pyFAI's class name, as a PONI file has it: "Pilatus1M"; "Detector" = a plain one
  std::uint32_t rows = 0;         ///< 0 with a plain detector whose shape is that of the image
  std::uint32_t columns = 0;
  double pixel1_m = 0.0;  ///< height of a pixel (axis 1, between rows)
  double pixel2_m = 0.0;  ///< width of a pixel (axis 2, between columns)
  Orientation orientation = Orientation::bottom_right;
  bool photon_counting = false;  ///< Negative values mark bad pixels (the Dectris families).

  /// [rows * columns] 1 = not a pixel (gap between modules, or the wide pixels of CdTe sensors), 0 = a pixel.
  [[nodiscard]] std::vector<std::uint8_t> mask() const;
  [[nodiscard]] bool has_shape() const { return rows != 0 && columns != 0; }
};

/// Finds a detector by pyFAI's class name or an alias, without regard to case, blanks, '-' and '_'.
/// `config_json` is the PONI file's Detector_config ("" or "{}" = defaults): pixel1, pixel2, max_shape, orientation.
/// Pixels some times larger than the detector's own are those of a binned image: shape and mask shrink with them.
/// Throws InputError for an unknown name (with near names) and for a config that the detector does not allow.
[[nodiscard]] Detector make_detector(std::string_view name, std::string_view config_json = "");

/// The Detector_config of a PONI file that gives this detector back.
[[nodiscard]] std::string config_json_of(const Detector& detector);

/// All names, sorted.
[[nodiscard]] std::vector<std::string> detector_names();

}  // namespace annulus::integrator
