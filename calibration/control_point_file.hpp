// Control points in pyFAI's .npt files: which points of an image lie on which ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calibration/calibrant.hpp"
#include "calibration/calibration.hpp"

namespace annulus::calibration {

/// What a .npt file holds. Of a point, `ring`, `row` and `column` are known.
struct ControlPointSet {
  std::string calibrant_name;  ///< "" = not told
  std::optional<double> wavelength_m;
  std::vector<double> d_spacings_m;  ///< as listed: falling in files that pyFAI or we wrote
  std::vector<ControlPoint> points;
};

/// The points of one image, a group a ring. pyFAI's coordinates are those of pixel centres: (0, 0) there is (0.5, 0.5)
/// here. Points of which the robust loss left less than half are not written, since pyFAI counts all alike. The
/// calibrant's name is written only when pyFAI has the same rings under it, in the same order; the spacings always are.
[[nodiscard]] std::string control_point_text(const Calibrant& calibrant, double wavelength_m,
                                             std::span<const ControlPoint> points, std::uint32_t image = 0);

/// Throws IoError when the file cannot be written.
void write_control_points(const std::filesystem::path& file, const Calibrant& calibrant, double wavelength_m,
                          std::span<const ControlPoint> points, std::uint32_t image = 0);

/// Points of groups without a ring ("ring: None") are left out. Throws one InputError naming `source` and the lines
/// that hold no number where one belongs, or that there is no point.
[[nodiscard]] ControlPointSet parse_control_points(std::string_view text, std::string_view source);
[[nodiscard]] ControlPointSet read_control_points(const std::filesystem::path& file);

}  // namespace annulus::calibration
