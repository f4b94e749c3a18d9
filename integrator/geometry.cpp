#include "integrator/geometry.hpp"

#include <cmath>

#include "base/errors.hpp"

namespace annulus::integrator {

std::array<double, 9> rotation_matrix(const Geometry& geometry) {
  const double sin1 = std::sin(geometry.rot1_rad);
  const double cos1 = std::cos(geometry.rot1_rad);
  const double sin2 = std::sin(geometry.rot2_rad);
  const double cos2 = std::cos(geometry.rot2_rad);
  const double sin3 = std::sin(geometry.rot3_rad);
  const double cos3 = std::cos(geometry.rot3_rad);
  return {cos2 * cos3,
          cos3 * sin1 * sin2 - cos1 * sin3,
          -(cos1 * cos3 * sin2 + sin1 * sin3),
          cos2 * sin3,
          cos1 * cos3 + sin1 * sin2 * sin3,
          cos3 * sin1 - cos1 * sin2 * sin3,
          sin2,
          -cos2 * sin1,
          cos1 * cos2};
}

kernels::PixelGeometry pixel_geometry(const Geometry& geometry) {
  const Detector& detector = geometry.detector;
  ANNULUS_EXPECT(detector.has_shape());
  ANNULUS_EXPECT(detector.pixel1_m > 0.0 && detector.pixel2_m > 0.0);
  kernels::PixelGeometry pixels;
  pixels.rows = detector.rows;
  pixels.columns = detector.columns;
  pixels.pixel1_m = detector.pixel1_m;
  pixels.pixel2_m = detector.pixel2_m;
  pixels.distance_m = geometry.distance_m;
  pixels.poni1_m = geometry.poni1_m;
  pixels.poni2_m = geometry.poni2_m;
  pixels.wavelength_m = geometry.wavelength_m.value_or(0.0);
  pixels.rotation = rotation_matrix(geometry);
  // Orientation is a matter of which index stands where: 2theta, chi and all else follow from the place.
  pixels.flip1 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::top_right;
  pixels.flip2 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::bottom_left;
  return pixels;
}

std::array<double, 3> position_m(const kernels::PixelGeometry& geometry, double row, double column) {
  const double index1 = geometry.flip1 ? geometry.rows - row : row;
  const double index2 = geometry.flip2 ? geometry.columns - column : column;
  const double p1 = geometry.pixel1_m * index1 - geometry.poni1_m;
  const double p2 = geometry.pixel2_m * index2 - geometry.poni2_m;
  const double p3 = geometry.distance_m;
  const std::array<double, 9>& matrix = geometry.rotation;
  return {matrix[0] * p1 + matrix[1] * p2 + matrix[2] * p3, matrix[3] * p1 + matrix[4] * p2 + matrix[5] * p3,
          matrix[6] * p1 + matrix[7] * p2 + matrix[8] * p3};
}

double two_theta_rad(const kernels::PixelGeometry& geometry, double row, double column) {
  const auto [y, x, z] = position_m(geometry, row, column);
  return std::atan2(std::sqrt(x * x + y * y), z);
}

double chi_rad(const kernels::PixelGeometry& geometry, double row, double column) {
  const auto [y, x, z] = position_m(geometry, row, column);
  return std::atan2(y, x);
}

}  // namespace annulus::integrator
