// The experiment's geometry: detector, distance, point of normal incidence, rotations, wavelength; PONI files.
//
// Definitions as in pyFAI (doi:10.1107/S1600576715004306): distance along the detector's normal, poni1/poni2 the point
// of normal incidence along axis 1 (rows) and axis 2 (columns), rot1 and rot2 left-handed about axes 1 and 2, rot3
// right-handed about the beam.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "integrator/detector.hpp"
#include "kernels/pixel_geometry.hpp"

namespace annulus::integrator {

struct Geometry {
  Detector detector;
  double distance_m = 1.0;
  double poni1_m = 0.0;
  double poni2_m = 0.0;
  double rot1_rad = 0.0;
  double rot2_rad = 0.0;
  double rot3_rad = 0.0;
  std::optional<double> wavelength_m;
};

/// R3 R2 R1, row-major [3, 3]: maps (p1, p2, p3) of the detector to (y, x, z) of the laboratory.
[[nodiscard]] std::array<double, 9> rotation_matrix(const Geometry& geometry);

/// The geometry as the kernels take it. The detector must have a shape.
[[nodiscard]] kernels::PixelGeometry pixel_geometry(const Geometry& geometry);

/// Laboratory position (y, x, z) in m of the point at pixel coordinates (row, column); the centre of the first pixel is
/// at (0.5, 0.5). Orientation included.
[[nodiscard]] std::array<double, 3> position_m(const kernels::PixelGeometry& geometry, double row, double column);

/// 2theta in rad and azimuth chi in rad (-pi, pi] at pixel coordinates (row, column), as in position_m.
[[nodiscard]] double two_theta_rad(const kernels::PixelGeometry& geometry, double row, double column);
[[nodiscard]] double chi_rad(const kernels::PixelGeometry& geometry, double row, double column);

/// Reads PONI text, versions 1, 2, 2.1 and 3, or its dictionary form (JSON); the last entry of each key wins, None
/// means not set. `source` names it in errors. Throws one InputError with all problems: unknown version, missing
/// distance or pixel size, a value that is no number, unknown detector, a distortion file, parallax.
[[nodiscard]] Geometry parse_poni(std::string_view text, std::string_view source);
[[nodiscard]] Geometry read_poni(const std::filesystem::path& file);

/// PONI text that reads back to the same numbers to the last bit: version 2 for orientation 3, else 2.1.
[[nodiscard]] std::string poni_text(const Geometry& geometry);
void write_poni(const Geometry& geometry, const std::filesystem::path& file);

/// The geometry in pyFAI's dictionary form (JSON): poni_version, dist, poni1, ..., detector,
/// detector_config, wavelength.
[[nodiscard]] std::string poni_json(const Geometry& geometry);

}  // namespace annulus::integrator
