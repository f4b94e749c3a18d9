#include "kernels/openmp/strip_shares.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/every_cpu.hpp"

namespace annulus::kernels::openmp {
namespace {

#define ANNULUS_IN_VECTOR_CODE inline __attribute__((always_inline))

constexpr double greatest_finite = std::numeric_limits<double>::max();

/// std::min and std::max of numbers, by value.
ANNULUS_IN_VECTOR_CODE float least_of(float a, float b) { return b < a ? b : a; }
ANNULUS_IN_VECTOR_CODE float greatest_of(float a, float b) { return a < b ? b : a; }

/// The largest of `widest` and the distance of a corner from the centre, over a period if there is one.
template <bool around>
ANNULUS_IN_VECTOR_CODE double wider(double widest, double centre, float corner, double period) {
  double distance = std::fabs(corner - centre);
  if (around) distance = shared::lesser(period - distance, distance);
  return shared::greater(distance, widest);
}

/// shared::area_up_to, of edges that need not lie in memory.
ANNULUS_IN_VECTOR_CODE double area_up_to(shared::SharedEdge edge0, shared::SharedEdge edge1, shared::SharedEdge edge2,
                                         shared::SharedEdge edge3, double right) {
  return shared::area_left_of(edge0, right) + shared::area_left_of(edge1, right) + shared::area_left_of(edge2, right) +
         shared::area_left_of(edge3, right);
}

/// What quad_footprint, normalise_footprint and for_each_share do for pixels within the range, off the cut and within
/// one azimuthal bin.
/// @tparam binned  whether there are azimuthal bins
template <bool binned>
ANNULUS_IN_VECTOR_CODE void area_shares_of(const shared::SharedBins& bins, const StripCorners& radius,
                                           const StripCorners& azimuth, std::size_t count, StripShares& shares) {
  const float* const r0 = radius[0];
  const float* const r1 = radius[1];
  const float* const r2 = radius[2];
  const float* const r3 = radius[3];
  const float* const a0 = azimuth[0];
  const float* const a1 = azimuth[1];
  const float* const a2 = azimuth[2];
  const float* const a3 = azimuth[3];
  const shared::SharedAxis radial = bins.radial;
  const shared::SharedAxis azimuthal = bins.azimuthal;
  const double radial_bins = radial.bins;
  const double azimuthal_bins = azimuthal.bins;
  const double radial_minimum = radial.minimum, radial_width = radial.width;
  const double azimuthal_minimum = azimuthal.minimum, azimuthal_width = azimuthal.width;
  const double azimuthal_greatest = azimuthal.greatest_value;
  // Across the cut pixels seem wider than half a circle (3 rad: this bound need not be sharp).
  const double greatest_width = bins.radial_period > 0.0 ? 3.0 / radial_width : greatest_finite;
  std::int32_t* const rows = shares.row.data();
  std::int32_t* const counts = shares.count.data();
  float* const weight0 = shares.weight[0].data();
  float* const weight1 = shares.weight[1].data();
  float* const weight2 = shares.weight[2].data();
  float* const weight3 = shares.weight[3].data();
#pragma GCC ivdep
  for (int pixel = 0; pixel < static_cast<int>(count); ++pixel) {
    double y0 = a0[pixel], y1 = a1[pixel], y2 = a2[pixel], y3 = a3[pixel];
    double y_low = shared::lesser(shared::lesser(y0, y1), shared::lesser(y2, y3));
    double y_high = shared::greater(shared::greater(y0, y1), shared::greater(y2, y3));
    const double x0 = (r0[pixel] - radial_minimum) / radial_width;
    const double x1 = (r1[pixel] - radial_minimum) / radial_width;
    const double x2 = (r2[pixel] - radial_minimum) / radial_width;
    const double x3 = (r3[pixel] - radial_minimum) / radial_width;
    const double all = x0 + x1 + x2 + x3 + y0 + y1 + y2 + y3;
    double usual = all - all == 0.0 ? 1.0 : 0.0;  // finite
    usual = y_high - y_low <= ANNULUS_PI ? usual : 0.0;
    const double x_low = shared::lesser(shared::lesser(x0, x1), shared::lesser(x2, x3));
    const double x_high = shared::greater(shared::greater(x0, x1), shared::greater(x2, x3));
    usual = x_low >= 0.0 ? usual : 0.0;
    usual = x_high < radial_bins ? usual : 0.0;
    usual = x_high - x_low <= greatest_width ? usual : 0.0;
    double row = 0.0;
    if constexpr (binned) {
      y0 = (y0 - azimuthal_minimum) / azimuthal_width;
      y1 = (y1 - azimuthal_minimum) / azimuthal_width;
      y2 = (y2 - azimuthal_minimum) / azimuthal_width;
      y3 = (y3 - azimuthal_minimum) / azimuthal_width;
      y_low = shared::lesser(shared::lesser(y0, y1), shared::lesser(y2, y3));
      y_high = shared::greater(shared::greater(y0, y1), shared::greater(y2, y3));
      usual = y_low >= 0.0 ? usual : 0.0;
      usual = y_high < azimuthal_bins ? usual : 0.0;
      row = static_cast<std::int32_t>(shared::lesser(shared::greater(y_low, 0.0), azimuthal_bins));
      usual = y_high < row + 1.0 ? usual : 0.0;
      row *= radial_bins;
    } else {
      usual = y_high >= azimuthal_minimum ? usual : 0.0;
      usual = y_low <= azimuthal_greatest ? usual : 0.0;
    }
    const double first = static_cast<std::int32_t>(shared::lesser(shared::greater(x_low, 0.0), radial_bins));
    const double last = static_cast<std::int32_t>(shared::lesser(shared::greater(x_high, 0.0), radial_bins));
    const double reach = last - first;
    y1 -= y0;
    y2 -= y0;
    y3 -= y0;
    y0 -= y0;
    const shared::SharedEdge edge0 = shared::edge_between(x0, y0, x1, y1);
    const shared::SharedEdge edge1 = shared::edge_between(x1, y1, x2, y2);
    const shared::SharedEdge edge2 = shared::edge_between(x2, y2, x3, y3);
    const shared::SharedEdge edge3 = shared::edge_between(x3, y3, x0, y0);
    // Beyond the last bin all areas are the whole pixel's to the bit, and their differences 0.
    const double area0 = area_up_to(edge0, edge1, edge2, edge3, first + 1.0);
    const double area1 = area_up_to(edge0, edge1, edge2, edge3, first + 2.0);
    const double area2 = area_up_to(edge0, edge1, edge2, edge3, first + 3.0);
    const double area3 = area_up_to(edge0, edge1, edge2, edge3, first + 4.0);
    const double kept0 = std::abs(area0);
    const double kept1 = std::abs(area1 - area0);
    const double kept2 = std::abs(area2 - area1);
    const double kept3 = std::abs(area3 - area2);
    const double sum = kept0 + kept1 + kept2 + kept3;
    const double scale = 1.0 / (sum > 0.0 ? sum : 1.0);
    const double share0 = reach == 0.0 ? 1.0 : scale * kept0;
    const double share1 = scale * kept1;
    const double share2 = scale * kept2;
    const double share3 = scale * kept3;
    // Shares that are dropped leave gaps: not for us.
    usual = reach < static_cast<double>(strip_slots) ? usual : 0.0;
    usual = share0 >= area_rounding ? usual : 0.0;
    usual = (reach < 1.0 ? 1.0 : share1) >= area_rounding ? usual : 0.0;
    usual = (reach < 2.0 ? 1.0 : share2) >= area_rounding ? usual : 0.0;
    usual = (reach < 3.0 ? 1.0 : share3) >= area_rounding ? usual : 0.0;
    weight0[pixel] = static_cast<float>(share0);
    weight1[pixel] = static_cast<float>(share1);
    weight2[pixel] = static_cast<float>(share2);
    weight3[pixel] = static_cast<float>(share3);
    rows[pixel] = static_cast<std::int32_t>(row + first);
    counts[pixel] = static_cast<std::int32_t>(usual > 0.0 ? reach + 1.0 : unusual);
  }
}

/// What box_footprint and for_each_share do for boxes within the range and within one azimuthal bin.
/// @tparam binned  whether there are azimuthal bins; @tparam selected  or at least azimuths that select pixels
/// @tparam points  whether the boxes have no width
template <bool binned, bool selected, bool points>
ANNULUS_IN_VECTOR_CODE void box_shares_of(const shared::SharedBins& bins, const StripEnds& radial_ends,
                                          const StripEnds& azimuthal_ends, std::size_t count, StripShares& shares) {
  const double* const radial_low = radial_ends.low;
  const double* const radial_high = radial_ends.high;
  const double* const azimuthal_low = azimuthal_ends.low;
  const double* const azimuthal_high = azimuthal_ends.high;
  const shared::SharedAxis radial = bins.radial;
  const shared::SharedAxis azimuthal = bins.azimuthal;
  const double radial_bins = radial.bins;
  const double azimuthal_bins = azimuthal.bins;
  const double radial_minimum = radial.minimum, radial_width = radial.width;
  const double azimuthal_minimum = azimuthal.minimum, azimuthal_width = azimuthal.width;
  const double azimuthal_greatest = azimuthal.greatest_value;
  std::int32_t* const rows = shares.row.data();
  std::int32_t* const counts = shares.count.data();
  float* const weight0 = shares.weight[0].data();
  float* const weight1 = shares.weight[1].data();
  float* const weight2 = shares.weight[2].data();
  float* const weight3 = shares.weight[3].data();
#pragma GCC ivdep
  for (int pixel = 0; pixel < static_cast<int>(count); ++pixel) {
    const double start = (radial_low[pixel] - radial_minimum) / radial_width;
    const double end = (radial_high[pixel] - radial_minimum) / radial_width;
    double usual = start >= 0.0 ? 1.0 : 0.0;
    usual = end < radial_bins ? usual : 0.0;
    double row = 0.0;
    if constexpr (binned) {
      const double bottom = (azimuthal_low[pixel] - azimuthal_minimum) / azimuthal_width;
      const double top = (azimuthal_high[pixel] - azimuthal_minimum) / azimuthal_width;
      usual = bottom >= 0.0 ? usual : 0.0;
      usual = top < azimuthal_bins ? usual : 0.0;
      row = static_cast<std::int32_t>(shared::lesser(shared::greater(bottom, 0.0), azimuthal_bins));
      usual = top < row + 1.0 ? usual : 0.0;
      row *= radial_bins;
    } else if constexpr (selected) {
      usual = azimuthal_high[pixel] >= azimuthal_minimum ? usual : 0.0;
      usual = azimuthal_low[pixel] <= azimuthal_greatest ? usual : 0.0;
    }
    const double first = static_cast<std::int32_t>(shared::lesser(shared::greater(start, 0.0), radial_bins));
    if constexpr (points) {
      weight0[pixel] = 1.0F;
      rows[pixel] = static_cast<std::int32_t>(row + first);
      counts[pixel] = usual > 0.0 ? 1 : unusual;
      continue;
    }
    const double last = static_cast<std::int32_t>(shared::lesser(shared::greater(end, 0.0), radial_bins));
    const double reach = last - first;
    const double length = reach > 0.0 ? end - start : 1.0;
    const double share_first = reach > 0.0 ? (first + 1.0 - start) / length : 1.0;
    const double share_between = 1.0 / length;
    const double share_last = (end - last) / length;
    usual = reach < static_cast<double>(strip_slots) ? usual : 0.0;
    usual = (reach > 0.0 ? share_last : 1.0) > 0.0 ? usual : 0.0;  // a share of 0 is none
    weight0[pixel] = static_cast<float>(share_first);
    weight1[pixel] = static_cast<float>(reach > 1.0 ? share_between : share_last);
    weight2[pixel] = static_cast<float>(reach > 2.0 ? share_between : share_last);
    weight3[pixel] = static_cast<float>(share_last);
    rows[pixel] = static_cast<std::int32_t>(row + first);
    counts[pixel] = static_cast<std::int32_t>(usual > 0.0 ? reach + 1.0 : unusual);
  }
}

template <bool points>
ANNULUS_IN_VECTOR_CODE void box_shares_for(const shared::SharedBins& bins, const StripEnds& radial,
                                           const StripEnds& azimuthal, std::size_t count, StripShares& shares) {
  if (bins.azimuthal.bins > 0) {
    box_shares_of<true, true, points>(bins, radial, azimuthal, count, shares);
  } else if (azimuthal.low != nullptr) {
    box_shares_of<false, true, points>(bins, radial, azimuthal, count, shares);
  } else {
    box_shares_of<false, false, points>(bins, radial, azimuthal, count, shares);
  }
}

template <bool around>
ANNULUS_IN_VECTOR_CODE void box_ends_of(const double* centre, const StripCorners& corners, double period,
                                        std::size_t count, double* low, double* high) {
  const float* const c0 = corners[0];
  const float* const c1 = corners[1];
  const float* const c2 = corners[2];
  const float* const c3 = corners[3];
#pragma omp simd
  for (int pixel = 0; pixel < static_cast<int>(count); ++pixel) {
    const double middle = centre[pixel];
    double half = wider<around>(0.0, middle, c0[pixel], period);
    half = wider<around>(half, middle, c1[pixel], period);
    half = wider<around>(half, middle, c2[pixel], period);
    half = wider<around>(half, middle, c3[pixel], period);
    low[pixel] = middle - half;
    high[pixel] = middle + half;
  }
}

template <bool masked>
ANNULUS_IN_VECTOR_CODE void widen_extents_of(const StripEnds& ends, const std::uint8_t* mask, std::size_t count,
                                             double* least, double* greatest) {
  const double* const low = ends.low;
  const double* const high = ends.high;
#pragma omp simd
  for (int pixel = 0; pixel < static_cast<int>(count); ++pixel) {
    bool counts = std::abs(low[pixel]) <= greatest_finite;
    counts &= std::abs(high[pixel]) <= greatest_finite;
    if constexpr (masked) counts &= mask[pixel] != static_cast<std::uint8_t>(PixelUse::masked);
    const double lower = counts ? low[pixel] : greatest_finite;
    const double upper = counts ? high[pixel] : -greatest_finite;
    least[pixel] = lower < least[pixel] ? lower : least[pixel];
    greatest[pixel] = upper > greatest[pixel] ? upper : greatest[pixel];
  }
}

}  // namespace

bool has_strip_shares(const shared::SharedBins& bins, std::uint32_t rows) {
  if (rows > static_cast<std::uint32_t>(std::numeric_limits<std::int32_t>::max())) return false;
  if (bins.splitting < ANNULUS_SPLIT_PSEUDO) return true;
  return !bins.pyfai && !(bins.splitting == ANNULUS_SPLIT_PSEUDO && bins.azimuthal.bins > 0);
}

ANNULUS_FOR_EVERY_CPU void area_shares(const shared::SharedBins& bins, const StripCorners& radius,
                                       const StripCorners& azimuth, std::size_t count, StripShares& shares) {
  if (bins.azimuthal.bins > 0) {
    area_shares_of<true>(bins, radius, azimuth, count, shares);
  } else {
    area_shares_of<false>(bins, radius, azimuth, count, shares);
  }
}

ANNULUS_FOR_EVERY_CPU void box_shares(const shared::SharedBins& bins, const StripEnds& radial,
                                      const StripEnds& azimuthal, std::size_t count, StripShares& shares) {
  if (radial.low == radial.high) {
    box_shares_for<true>(bins, radial, azimuthal, count, shares);
  } else {
    box_shares_for<false>(bins, radial, azimuthal, count, shares);
  }
}

ANNULUS_FOR_EVERY_CPU void box_ends(const double* centre, const StripCorners& corners, double period, std::size_t count,
                                    double* low, double* high) {
  if (period > 0.0) {
    box_ends_of<true>(centre, corners, period, count, low, high);
  } else {
    box_ends_of<false>(centre, corners, period, count, low, high);
  }
}

ANNULUS_FOR_EVERY_CPU void corner_ends(const StripCorners& corners, std::size_t count, double* low, double* high) {
  const float* const c0 = corners[0];
  const float* const c1 = corners[1];
  const float* const c2 = corners[2];
  const float* const c3 = corners[3];
#pragma omp simd
  for (int pixel = 0; pixel < static_cast<int>(count); ++pixel) {
    low[pixel] = least_of(least_of(c0[pixel], c1[pixel]), least_of(c2[pixel], c3[pixel]));
    high[pixel] = greatest_of(greatest_of(c0[pixel], c1[pixel]), greatest_of(c2[pixel], c3[pixel]));
  }
}

ANNULUS_FOR_EVERY_CPU void widen_extents(const StripEnds& ends, const std::uint8_t* mask, std::size_t count,
                                         double* least, double* greatest) {
  if (mask == nullptr) {
    widen_extents_of<false>(ends, mask, count, least, greatest);
  } else {
    widen_extents_of<true>(ends, mask, count, least, greatest);
  }
}

}  // namespace annulus::kernels::openmp
