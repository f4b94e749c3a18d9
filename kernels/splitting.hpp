// Where the pixels of a detector fall and what each bin gets of them, for the host backends: splitting.inc in C++, and
// what both backends need around it.
//
// Rounding as in pyFAI, whose numbers we reproduce: pixel centres in float64, pixel corners rounded to float32, the
// half width of a box = the largest distance of a rounded corner from the centre.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "base/errors.hpp"
#include "kernels/matrix.hpp"

namespace annulus::kernels {

namespace shared {
using std::asin, std::asinh, std::atan2, std::fabs, std::floor, std::isfinite, std::log;
using std::log10, std::log1p, std::sin, std::sqrt;
#define ANNULUS_SHARED inline
#define ANNULUS_GLOBAL
#include "kernels/splitting.inc"
#undef ANNULUS_SHARED
#undef ANNULUS_GLOBAL
}  // namespace shared

static_assert(static_cast<int>(RadialSpace::two_theta) == ANNULUS_SPACE_TWO_THETA);
static_assert(static_cast<int>(RadialSpace::r) == ANNULUS_SPACE_R);
static_assert(static_cast<int>(RadialSpace::q) == ANNULUS_SPACE_Q);
static_assert(static_cast<int>(RadialSpace::d_star_squared) == ANNULUS_SPACE_D_STAR_SQUARED);
static_assert(static_cast<int>(RadialSpace::log10_q_m) == ANNULUS_SPACE_LOG10_Q_M);
static_assert(static_cast<int>(RadialSpace::arcsinh_q_a) == ANNULUS_SPACE_ARCSINH_Q_A);
static_assert(static_cast<int>(RadialSpace::chi) == ANNULUS_SPACE_CHI);
static_assert(static_cast<int>(RadialSpace::angle_vertical) == ANNULUS_SPACE_ANGLE_VERTICAL);
static_assert(static_cast<int>(RadialSpace::q_in_plane) == ANNULUS_SPACE_Q_IN_PLANE);
static_assert(static_cast<int>(RadialSpace::q_total) == ANNULUS_SPACE_Q_TOTAL);
static_assert(static_cast<int>(Splitting::full) == ANNULUS_SPLIT_FULL);

/// A point in the laboratory, in m: y vertical, x horizontal, z along the beam.
struct Position {
  double y = 0.0;
  double x = 0.0;
  double z = 0.0;
};

/// The point (p1, p2, p3) of the detector, before poni and distance, in the laboratory; parallax included.
[[nodiscard]] inline Position laboratory_position(const PixelGeometry& geometry, double p1, double p2, double p3) {
  p1 -= geometry.poni1_m;
  p2 -= geometry.poni2_m;
  p3 += geometry.distance_m;
  if (!geometry.parallax_m.empty()) {
    const double stretch =
        shared::parallax_stretch(geometry.parallax_m.data(), static_cast<int>(geometry.parallax_m.size()), p1, p2, p3);
    p1 += p1 * stretch;
    p2 += p2 * stretch;
  }
  const auto& m = geometry.rotation;
  return {m[0] * p1 + m[1] * p2 + m[2] * p3, m[3] * p1 + m[4] * p2 + m[5] * p3, m[6] * p1 + m[7] * p2 + m[8] * p3};
}

/// A point of a regular grid at pixel coordinates (row, column); (0.5, 0.5) is the first pixel's centre.
[[nodiscard]] inline Position grid_position(const PixelGeometry& geometry, double row, double column) {
  return laboratory_position(geometry, geometry.pixel1_m * (geometry.flip1 ? geometry.rows - row : row),
                             geometry.pixel2_m * (geometry.flip2 ? geometry.columns - column : column), 0.0);
}

/// As grid_position, with the point's place on the detector found in float32: pyFAI's way to corners in spaces other
/// than 2theta, q, r and chi, and with parallax.
[[nodiscard]] inline Position rounded_grid_position(const PixelGeometry& geometry, double row, double column) {
  const double down = geometry.flip1 ? geometry.rows - row : row;
  const double right = geometry.flip2 ? geometry.columns - column : column;
  return laboratory_position(geometry, static_cast<float>(geometry.pixel1_m) * static_cast<float>(down),
                             static_cast<float>(geometry.pixel2_m) * static_cast<float>(right), 0.0);
}

/// Corner 0 to 3 of a pixel that is given by its vertices.
[[nodiscard]] inline Position vertex_position(const PixelGeometry& geometry, std::size_t pixel, std::size_t corner) {
  const float* vertex = geometry.vertices.data() + (pixel * 4 + corner) * 3;
  return laboratory_position(geometry, vertex[1], vertex[2], vertex[0]);
}

/// The centre of any pixel.
[[nodiscard]] inline Position centre_position(const PixelGeometry& geometry, std::uint32_t row, std::uint32_t column) {
  if (geometry.vertices.empty()) return grid_position(geometry, row + 0.5, column + 0.5);
  const float* vertices = geometry.vertices.data() + (static_cast<std::size_t>(row) * geometry.columns + column) * 12;
  double mean[3];
  for (std::size_t axis = 0; axis < 3; ++axis) {
    mean[axis] =
        0.25 * (static_cast<double>(vertices[axis]) + vertices[3 + axis] + vertices[6 + axis] + vertices[9 + axis]);
  }
  return laboratory_position(geometry, mean[1], mean[2], mean[0]);
}

[[nodiscard]] inline double radial_coordinate(const MatrixSpec& spec, const Position& position) {
  return shared::coordinate_value(static_cast<int>(spec.space), spec.frame.data(),
                                  spec.cut == AzimuthCut::at_zero ? 1 : 0, spec.geometry.wavelength_m, position.y,
                                  position.x, position.z);
}

[[nodiscard]] inline double azimuthal_coordinate(const MatrixSpec& spec, const Position& position) {
  return shared::coordinate_value(static_cast<int>(spec.azimuthal_space), spec.azimuthal_frame.data(),
                                  spec.cut == AzimuthCut::at_zero ? 1 : 0, spec.geometry.wavelength_m, position.y,
                                  position.x, position.z);
}

/// The period over which half_width measures; 0 = none. pyFAI forgets that of chi_sample.
[[nodiscard]] inline double width_period(const MatrixSpec& spec, RadialSpace space) {
  const bool forgotten = spec.convention == Convention::pyfai && space == RadialSpace::chi_sample;
  return is_azimuth(space) && !forgotten ? 2.0 * std::numbers::pi : 0.0;
}

/// Whether the corners of a regular grid are those of rounded_grid_position.
[[nodiscard]] inline bool rounds_positions(const MatrixSpec& spec) {
  const auto fast = [](RadialSpace space) {
    return space == RadialSpace::two_theta || space == RadialSpace::q || space == RadialSpace::r ||
           space == RadialSpace::chi;
  };
  if (spec.convention == Convention::exact) return false;
  return !spec.geometry.parallax_m.empty() || !fast(spec.space) || !fast(spec.azimuthal_space);
}

/// What is asked of the pixels' azimuth: none when all azimuths make one pattern.
[[nodiscard]] inline bool needs_azimuth(const MatrixSpec& spec) {
  return spec.azimuthal_bins > 0 || spec.azimuthal_range.has_value();
}

/// Whether shares follow from the corners alone.
[[nodiscard]] inline bool splits_by_area(Splitting splitting) {
  return splitting == Splitting::full || splitting == Splitting::pseudo;
}

/// The largest of the distances of four corners from the centre, over a period (0 = none).
[[nodiscard]] inline double half_width(double centre, const std::array<float, 4>& corners, double period) {
  double widest = 0.0;
  for (const float corner : corners) {
    double distance = std::abs(corner - centre);
    if (period > 0.0) distance = std::min(distance, period - distance);
    widest = std::max(widest, distance);
  }
  return widest;
}

/// The smallest and largest coordinates of the pixels in use; start from a default one and `include` them.
struct CoordinateExtent {
  double lower = std::numeric_limits<double>::infinity();
  double upper = -std::numeric_limits<double>::infinity();

  void include(double low, double high) {
    if (!std::isfinite(low) || !std::isfinite(high)) return;
    lower = std::min(lower, low);
    upper = std::max(upper, high);
  }
};

/// The bins over the extents or the user's ranges, with pyFAI's edges: negative radial values cut off at 0 unless they
/// are allowed, azimuths cut off at the (float32) ends of their circle, the upper edge moved up by one float32 epsilon
/// so that the outermost value falls into the last bin. Throws InputError for an empty range or when no pixel is left.
[[nodiscard]] BinAxes make_bin_axes(const MatrixSpec& spec, CoordinateExtent radial, CoordinateExtent azimuthal);

/// The bins as splitting.inc takes them.
[[nodiscard]] shared::SharedBins shared_bins(const MatrixSpec& spec, const BinAxes& axes);

/// Throws InputError when a matrix that was built holds no pixel at all.
void expect_entries(const MatrixSpec& spec, std::uint64_t entries);

/// The footprint of a pixel; false when it falls into no bin. Splitting by area takes the corners [4] alone, the others
/// centre and half widths alone (0 without splitting).
[[nodiscard]] inline bool find_footprint(const shared::SharedBins& bins, double radial_centre, double radial_half_width,
                                         double azimuth_centre, double azimuth_half_width, const float* corner_radius,
                                         const float* corner_azimuth, shared::Footprint& footprint) {
  if (bins.splitting == ANNULUS_SPLIT_PSEUDO && bins.azimuthal.bins > 0) {
    return shared::pseudo_footprint(&bins, corner_radius, corner_azimuth, &footprint) != 0;
  }
  if (bins.splitting >= ANNULUS_SPLIT_PSEUDO) {
    return shared::quad_footprint(&bins, corner_radius, corner_azimuth, &footprint) != 0;
  }
  return shared::box_footprint(&bins, radial_centre, radial_half_width, azimuth_centre, azimuth_half_width,
                               &footprint) != 0;
}

/// What is left of cells that a quadrilateral does not reach, after areas of some 10 bins are subtracted in float64.
inline constexpr double area_rounding = 1e-14;

/// Calls emit(row, weight) for every bin of a footprint that gets a share, ascending by azimuth, then radius.
template <typename Emit>
inline void for_each_share(const shared::Footprint& footprint, std::uint32_t radial_bins, Emit&& emit) {
  const bool exact_area = footprint.kind == ANNULUS_QUAD || footprint.kind == ANNULUS_QUAD_1D;
  for (unsigned azimuthal_bin = footprint.first_y; azimuthal_bin <= footprint.last_y; ++azimuthal_bin) {
    for (unsigned bin = footprint.first_x; bin <= footprint.last_x; ++bin) {
      const double share = footprint.scale * shared::raw_share(&footprint, radial_bins, bin, azimuthal_bin);
      if (share == 0.0 || (exact_area && share < area_rounding)) continue;
      emit(azimuthal_bin * radial_bins + bin, share);
    }
  }
}

}  // namespace annulus::kernels
