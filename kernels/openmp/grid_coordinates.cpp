#include "kernels/openmp/grid_coordinates.hpp"

#include <cmath>
#include <numbers>

#include "base/every_cpu.hpp"

namespace annulus::kernels::openmp {
namespace {

/// atan2 without branches, so that loops over it become vector code. For |t| <= tan(pi / 8) or so, atan(t) is t and a
/// rational function of t^2, with the coefficients of the Cephes library (S. L. Moshier, atan.c: relative error 2e-16
/// up to 0.66); other arguments are reflected into that range.
inline __attribute__((always_inline)) double arctangent(double y, double x) {
  const double along = std::abs(x);
  const double across = std::abs(y);
  const double small = across < along ? across : along;
  const double large = across < along ? along : across;
  const bool middle = small > 0.41421356237309503 * large;  // tan(pi / 8)
  const double numerator = middle ? small - large : small;
  const double denominator = middle ? small + large : large;
  const double t = numerator / (denominator > 0.0 ? denominator : 1.0);
  const double z = t * t;
  double p = -8.750608600031904122785e-1;
  p = p * z - 1.615753718733365076637e1;
  p = p * z - 7.500855792314704667340e1;
  p = p * z - 1.228866684490136173410e2;
  p = p * z - 6.485021904942025371773e1;
  double q = z + 2.485846490142306297962e1;
  q = q * z + 1.650270098316988542046e2;
  q = q * z + 4.328810604912902668951e2;
  q = q * z + 4.853903996359136964868e2;
  q = q * z + 1.945506571482613964425e2;
  double angle = t + t * (z * p / q);
  angle = middle ? angle + 0.25 * std::numbers::pi : angle;
  angle = across > along ? 0.5 * std::numbers::pi - angle : angle;
  angle = x < 0.0 ? std::numbers::pi - angle : angle;
  return std::copysign(angle, y);
}

ANNULUS_FOR_EVERY_CPU void fill_line(const PixelGeometry& geometry, double row, double first_column, int space,
                                     bool cut_at_zero, std::size_t count, double* radius, double* azimuth) {
  const double p1 = geometry.pixel1_m * (geometry.flip1 ? geometry.rows - row : row) - geometry.poni1_m;
  const double p3 = geometry.distance_m;
  const double m0 = geometry.rotation[0], m1 = geometry.rotation[1], m2 = geometry.rotation[2];
  const double m3 = geometry.rotation[3], m4 = geometry.rotation[4], m5 = geometry.rotation[5];
  const double m6 = geometry.rotation[6], m7 = geometry.rotation[7], m8 = geometry.rotation[8];
  const double first = geometry.flip2 ? geometry.columns - first_column : first_column;
  const double sign = geometry.flip2 ? -1.0 : 1.0;
  const double pixel2_m = geometry.pixel2_m;
  const double poni2_m = geometry.poni2_m;
  const double scale_q = 4e-9 * std::numbers::pi / geometry.wavelength_m;
#pragma omp simd
  for (int column = 0; column < static_cast<int>(count); ++column) {
    const double p2 = pixel2_m * (first + sign * column) - poni2_m;
    const double y = m0 * p1 + m1 * p2 + m2 * p3;
    const double x = m3 * p1 + m4 * p2 + m5 * p3;
    const double z = m6 * p1 + m7 * p2 + m8 * p3;
    const double radius_m = std::sqrt(x * x + y * y);
    if (space == static_cast<int>(RadialSpace::r)) {
      radius[column] = radius_m;
    } else if (space == static_cast<int>(RadialSpace::q)) {
      // sin(theta) = sin(atan2(radius, z) / 2), without the angle; the sum that does not cancel.
      const double length = std::sqrt(radius_m * radius_m + z * z);
      const double behind = std::sqrt(0.5 * (length - z) / length);
      const double ahead = radius_m / std::sqrt(2.0 * length * (length + z));
      radius[column] = scale_q * (z < 0.0 ? behind : ahead);
    } else {
      radius[column] = arctangent(radius_m, z);
    }
    if (azimuth != nullptr) {
      const double chi = arctangent(y, x);
      azimuth[column] = cut_at_zero && chi < 0.0 ? chi + 2.0 * std::numbers::pi : chi;
    }
  }
}

}  // namespace

bool has_fast_coordinates(const MatrixSpec& spec) {
  return spec.geometry.vertices.empty() && spec.geometry.parallax_m.empty() &&
         spec.azimuthal_space == RadialSpace::chi &&
         (spec.space == RadialSpace::two_theta || spec.space == RadialSpace::q || spec.space == RadialSpace::r);
}

void line_coordinates(const MatrixSpec& spec, double row, double first_column, std::span<double> radius,
                      std::span<double> azimuth) {
  fill_line(spec.geometry, row, first_column, static_cast<int>(spec.space), spec.cut == AzimuthCut::at_zero,
            radius.size(), radius.data(), azimuth.empty() ? nullptr : azimuth.data());
}

}  // namespace annulus::kernels::openmp
