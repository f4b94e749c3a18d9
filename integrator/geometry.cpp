#include "integrator/geometry.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/errors.hpp"
#include "integrator/sensor.hpp"
#include "integrator/units.hpp"
#include "kernels/splitting.hpp"

namespace annulus::integrator {
namespace {

/// (p1, p2, p3) in m along the detector's axes: poni and distance included, neither parallax nor rotation.
std::array<double, 3> detector_place_m(const kernels::PixelGeometry& geometry, double row, double column) {
  if (geometry.vertices.empty()) {
    const double index1 = geometry.flip1 ? geometry.rows - row : row;
    const double index2 = geometry.flip2 ? geometry.columns - column : column;
    return {geometry.pixel1_m * index1 - geometry.poni1_m, geometry.pixel2_m * index2 - geometry.poni2_m,
            geometry.distance_m};
  }
  const double first_row = std::clamp(std::floor(row), 0.0, geometry.rows - 1.0);
  const double first_column = std::clamp(std::floor(column), 0.0, geometry.columns - 1.0);
  const double down = row - first_row;
  const double right = column - first_column;
  const std::size_t pixel =
      static_cast<std::size_t>(first_row) * geometry.columns + static_cast<std::size_t>(first_column);
  const std::array<double, 4> weights = {(1.0 - down) * (1.0 - right), down * (1.0 - right), down * right,
                                         (1.0 - down) * right};
  std::array<double, 3> zyx{};
  for (std::size_t corner = 0; corner < 4; ++corner) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      zyx[axis] += weights[corner] * static_cast<double>(geometry.vertices[12 * pixel + 3 * corner + axis]);
    }
  }
  return {zyx[1] - geometry.poni1_m, zyx[2] - geometry.poni2_m, zyx[0] + geometry.distance_m};
}

}  // namespace

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

std::vector<double> parallax_table_m(const Geometry& geometry) {
  if (geometry.parallax == Parallax::off) return {};
  if (!geometry.wavelength_m)
    throw InputError("the correction of parallax needs a wavelength, and the geometry has none");
  if (!geometry.detector.sensor) {
    throw InputError("the correction of parallax needs a sensor (material, thickness), and detector " +
                     geometry.detector.name + " has none");
  }
  const double energy_kev = hc_kev_angstrom * 1e-10 / *geometry.wavelength_m;
  return parallax_correction_m(*geometry.detector.sensor, energy_kev, geometry.distance_m);
}

kernels::PixelGeometry pixel_geometry(const Geometry& geometry, std::span<const double> parallax_m) {
  const Detector& detector = geometry.detector;
  ANNULUS_EXPECT(detector.has_shape());
  ANNULUS_EXPECT(detector.pixel1_m > 0.0 && detector.pixel2_m > 0.0);
  ANNULUS_EXPECT(parallax_m.size() == (geometry.parallax == Parallax::on ? kernels::parallax_nodes : 0));
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
  if (detector.vertices) {
    ANNULUS_EXPECT(detector.vertices->size() == pixels.pixels() * 12);
    pixels.vertices = *detector.vertices;
  }
  pixels.parallax_m = parallax_m;
  return pixels;
}

double parallax_factor(std::span<const double> parallax_m, double p1, double p2, double p3) {
  return 1.0 + kernels::shared::parallax_stretch(parallax_m.data(), static_cast<int>(parallax_m.size()), p1, p2, p3);
}

std::array<double, 3> position_m(const kernels::PixelGeometry& geometry, double row, double column) {
  const auto [p1, p2, p3] = detector_place_m(geometry, row, column);
  return laboratory_m(geometry, p1, p2, p3);
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
