// Fit2D's spline files: how a taper of fibres or a lens displaces the pixels of a CCD.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "integrator/detector_shapes.hpp"

namespace annulus::integrator {

/// A bicubic tensor-product spline s(x, y) = sum_ij c_ij B_i(x) B_j(y), as FITPACK's surface fits give it
/// (P. Dierckx, Curve and Surface Fitting with Splines, Oxford 1993).
struct BicubicSpline {
  std::vector<double> knots_x;       ///< [m], m >= 8, non-decreasing
  std::vector<double> knots_y;       ///< [n], n >= 8, non-decreasing
  std::vector<double> coefficients;  ///< [m - 4, n - 4]

  /// [y.size(), x.size()] values at all pairs. Beyond the knots the value is that at the nearest end. Each x costs
  /// 16 multiplications a y.
  [[nodiscard]] std::vector<double> on_grid(std::span<const double> x, std::span<const double> y) const;
};

/// What a spline file holds; x runs along columns (axis 2), y along rows (axis 1).
struct SplineDistortion {
  double x_min = 0.0;  ///< the valid region, in pixels
  double y_min = 0.0;
  double x_max = 0.0;
  double y_max = 0.0;
  double pixel_x_m = 0.0;
  double pixel_y_m = 0.0;
  BicubicSpline displacement_x;  ///< in pixels, at places in pixels
  BicubicSpline displacement_y;

  /// The valid region's size, its fractions cut off.
  [[nodiscard]] Shape shape() const;

  /// [shape(), 4, 3] Corner (row, column) stands at (row + displacement_y, column + displacement_x) pixels.
  [[nodiscard]] std::vector<float> vertices() const;

  /// [shape()] 1 where a pixel's displaced centre is out of the valid region.
  [[nodiscard]] std::vector<std::uint8_t> mask() const;
};

/// Reads the text of a spline file: numbers in columns of 14 characters under the titles VALID REGION; GRID SPACING,
/// X-PIXEL SIZE, Y-PIXEL SIZE; X-DISTORTION; Y-DISTORTION. Throws InputError naming `source`, title, found, expected.
[[nodiscard]] SplineDistortion parse_spline(std::string_view text, std::string_view source);
[[nodiscard]] SplineDistortion read_spline(const std::filesystem::path& file);

}  // namespace annulus::integrator
