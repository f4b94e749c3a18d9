#include "kernels/splitting.hpp"

#include <tuple>

namespace annulus::kernels {
namespace {

/// `value` and one float32 epsilon more, towards larger numbers.
double just_above(double value) {
  constexpr double factor = 1.0 + 1.1920928955078125e-07;
  return value > 0.0 ? value * factor : value / factor;
}

BinAxis axis_between(double lower, double upper, std::uint32_t bins) { return {lower, just_above(upper), upper, bins}; }

std::pair<double, double> ascending(const std::pair<double, double>& range) {
  return {std::min(range.first, range.second), std::max(range.first, range.second)};
}

}  // namespace

BinAxes make_bin_axes(const MatrixSpec& spec, CoordinateExtent radial, CoordinateExtent azimuthal) {
  ANNULUS_EXPECT(spec.bins > 0);
  if (radial.lower > radial.upper && !spec.range) {
    throw InputError("no pixel is left to integrate: the mask covers the whole detector");
  }
  if (!spec.negative_radial) {
    radial.lower = std::max(radial.lower, 0.0);
    radial.upper = std::max(radial.upper, 0.0);
  }
  if (spec.range) std::tie(radial.lower, radial.upper) = ascending(*spec.range);
  if (!(radial.upper > radial.lower)) {
    throw InputError("the radial range is empty: all pixels have the same radial coordinate");
  }
  BinAxes axes;
  axes.radial = axis_between(radial.lower, radial.upper, spec.bins);

  // The ends of the circle as float32, since pyFAI's are: the last bin's edge shows it.
  const double pi = static_cast<double>(std::numbers::pi_v<float>);
  // (pyFAI forgets where the cut is when it bins boxes.)
  const bool at_pi =
      spec.cut == AzimuthCut::at_pi || (spec.convention == Convention::pyfai && !splits_by_area(spec.splitting));
  if (is_azimuth(spec.azimuthal_space)) {
    azimuthal.lower = std::max(azimuthal.lower, at_pi ? -pi : 0.0);
    azimuthal.upper = std::min(azimuthal.upper, at_pi ? pi : 2.0 * pi);
  }
  if (spec.azimuthal_range) std::tie(azimuthal.lower, azimuthal.upper) = ascending(*spec.azimuthal_range);
  if (spec.azimuthal_bins > 0 && !(azimuthal.upper > azimuthal.lower)) {
    throw InputError("the azimuthal range is empty: all pixels have the same azimuth");
  }
  if (needs_azimuth(spec)) {
    axes.azimuthal = axis_between(azimuthal.lower, azimuthal.upper, spec.azimuthal_bins);
  } else {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    axes.azimuthal = {-infinity, infinity, infinity, 0};
  }
  return axes;
}

shared::SharedBins shared_bins(const MatrixSpec& spec, const BinAxes& axes) {
  const int pyfai = spec.convention == Convention::pyfai ? 1 : 0;
  const auto shared_axis = [&](const BinAxis& axis) {
    return shared::SharedAxis{axis.minimum, axis.maximum, axis.greatest_value, axis.bins > 0 ? axis.width() : 0.0,
                              axis.bins,    pyfai};
  };
  constexpr double circle = 2.0 * std::numbers::pi;
  const bool mistaken = pyfai != 0 && axes.azimuthal.bins > 0 && spec.azimuth_in_degrees;
  return {shared_axis(axes.radial),
          shared_axis(axes.azimuthal),
          is_azimuth(spec.space) && pyfai == 0 ? circle : 0.0,  // pyFAI knows no such radial coordinate
          is_azimuth(spec.azimuthal_space) ? (mistaken ? 360.0 : circle) : 0.0,
          static_cast<int>(spec.splitting),
          spec.cut == AzimuthCut::at_zero ? 1 : 0,
          pyfai,
          spec.geometry.flip1 != spec.geometry.flip2 ? 1 : 0};
}

void expect_entries(const MatrixSpec& spec, std::uint64_t entries) {
  if (entries > 0) return;
  throw InputError(spec.range || spec.azimuthal_range
                       ? "no pixel is left to integrate: none that is not masked lies in the radial and azimuthal range"
                       : "no pixel is left to integrate");
}

}  // namespace annulus::kernels
