// Detectors that the tests of several kernels look at.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/matrix.hpp"

namespace annulus::kernels::test {

/// A detector whose numbers are no multiples of anything: oblong pixels, tilted by `tilt_rad` about the first axis, so
/// that rows of the matrix begin and end anywhere; by default three tiles of pixels and a part of one.
[[nodiscard]] inline MatrixSpec tilted_detector(double tilt_rad = 0.2, std::uint32_t rows = 97,
                                                std::uint32_t columns = 131) {
  MatrixSpec spec;
  PixelGeometry& geometry = spec.geometry;
  geometry.rows = rows;
  geometry.columns = columns;
  geometry.pixel1_m = 172e-6;
  geometry.pixel2_m = 150e-6;
  geometry.distance_m = 0.03;
  geometry.poni1_m = 0.0071;
  geometry.poni2_m = 0.0113;
  geometry.wavelength_m = 1.1e-10;
  const double c = std::cos(tilt_rad);
  const double s = std::sin(tilt_rad);
  geometry.rotation = {1, 0, 0, 0, c, -s, 0, s, c};
  spec.bins = 83;
  return spec;
}

/// PixelGeometry::rotation of a detector that looks at the sample from `tilt_rad` off the beam, on any side.
[[nodiscard]] inline std::array<double, 9> rotation_off_beam(double tilt_rad, double turn_rad) {
  const double c = std::cos(tilt_rad);
  const double s = std::sin(tilt_rad);
  return {std::cos(turn_rad),
          -c * std::sin(turn_rad),
          -s * std::sin(turn_rad),
          std::sin(turn_rad),
          c * std::cos(turn_rad),
          s * std::cos(turn_rad),
          0.0,
          -s,
          c};
}

}  // namespace annulus::kernels::test
