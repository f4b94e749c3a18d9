// The radial coordinate of a point on the detector and the share of an interval in each bin: scalar formulas that the
// host backends share (kernels/opencl has them in OpenCL C).
//
// Rounding as in pyFAI, whose numbers we reproduce: pixel centres in float64, pixel corners rounded to float32, the
// half width of a pixel = the largest distance of a rounded corner from the centre.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

#include "base/errors.hpp"
#include "kernels/matrix.hpp"
#include "kernels/pixel_geometry.hpp"

namespace annulus::kernels {

/// Radial coordinate (rad, nm^-1 or m) of the point at pixel coordinates (row, column); (0.5, 0.5) is a pixel's centre.
[[nodiscard]] inline double radial_position(const PixelGeometry& geometry, RadialSpace space, double row,
                                            double column) {
  const double p1 = geometry.pixel1_m * (geometry.flip1 ? geometry.rows - row : row) - geometry.poni1_m;
  const double p2 = geometry.pixel2_m * (geometry.flip2 ? geometry.columns - column : column) - geometry.poni2_m;
  const double p3 = geometry.distance_m;
  const auto& m = geometry.rotation;
  const double y = m[0] * p1 + m[1] * p2 + m[2] * p3;
  const double x = m[3] * p1 + m[4] * p2 + m[5] * p3;
  const double z = m[6] * p1 + m[7] * p2 + m[8] * p3;
  const double r = std::sqrt(x * x + y * y);
  switch (space) {
    case RadialSpace::two_theta: return std::atan2(r, z);
    case RadialSpace::q: return 4e-9 * std::numbers::pi / geometry.wavelength_m * std::sin(0.5 * std::atan2(r, z));
    case RadialSpace::r: return r;
  }
  return 0.0;
}

/// What a pixel covers of the radial axis: [lower, upper], equal without splitting.
struct RadialInterval {
  double lower = 0.0;
  double upper = 0.0;
};

[[nodiscard]] inline RadialInterval bounding_interval(double centre, float corner_a, float corner_b, float corner_c,
                                                      float corner_d) {
  const double half_width = std::max(std::max(std::abs(corner_a - centre), std::abs(corner_b - centre)),
                                     std::max(std::abs(corner_c - centre), std::abs(corner_d - centre)));
  return {centre - half_width, centre + half_width};
}

/// The smallest and largest radial value of the pixels in use; start from a default one and `include` them.
struct RadialExtent {
  double lower = std::numeric_limits<double>::infinity();
  double upper = -std::numeric_limits<double>::infinity();

  void include(const RadialInterval& interval) {
    lower = std::min(lower, interval.lower);
    upper = std::max(upper, interval.upper);
  }
};

/// The bins over an extent or the user's range, with pyFAI's edges: negative values cut off at 0, the upper edge moved
/// up by one float32 epsilon so that the outermost value falls into the last bin. Throws InputError for an empty range.
[[nodiscard]] inline BinAxis make_bin_axis(const MatrixSpec& spec, const RadialExtent& extent) {
  ANNULUS_EXPECT(spec.bins > 0);
  double lower = std::max(0.0, extent.lower);
  double upper = std::max(0.0, extent.upper);
  if (spec.range) {
    lower = std::min(spec.range->first, spec.range->second);
    upper = std::max(spec.range->first, spec.range->second);
  } else if (extent.lower > extent.upper) {
    throw InputError("no pixel is left to integrate: the mask covers the whole detector");
  }
  if (!(upper > lower)) throw InputError("the radial range is empty: all pixels have the same radial coordinate");
  constexpr double float32_epsilon = 1.1920928955078125e-07;
  return {lower, upper * (1.0 + float32_epsilon), spec.bins};
}

/// Throws InputError when a matrix that was built holds no pixel at all.
inline void expect_entries(const MatrixSpec& spec, std::uint64_t entries) {
  if (entries > 0) return;
  throw InputError(spec.range ? "no pixel is left to integrate: none that is not masked lies in the radial range"
                              : "no pixel is left to integrate");
}

/// Calls emit(bin, weight) for every bin that the interval reaches, in ascending order; the weights sum to 1, also when
/// a part of the pixel lies outside the range (the outermost bins take it, as in pyFAI). Nothing for a pixel outside.
template <typename Emit>
inline void split_interval(const RadialInterval& interval, const BinAxis& axis, double width, Emit&& emit) {
  const double first = (interval.lower - axis.minimum) / width;
  const double last = (interval.upper - axis.minimum) / width;
  const double bins = axis.bins;
  if (!(last >= 0.0) || !(first < bins)) return;  // also when not a number
  const auto first_bin = static_cast<std::uint32_t>(std::max(first, 0.0));
  const auto last_bin = static_cast<std::uint32_t>(std::min(last, bins - 1.0));
  if (first_bin == last_bin) {
    emit(first_bin, 1.0F);
    return;
  }
  const double share = 1.0 / (last - first);
  emit(first_bin, static_cast<float>(share * (first_bin + 1.0 - first)));
  for (std::uint32_t bin = first_bin + 1; bin < last_bin; ++bin) emit(bin, static_cast<float>(share));
  emit(last_bin, static_cast<float>(share * (last - last_bin)));
}

}  // namespace annulus::kernels
