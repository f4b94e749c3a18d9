// Where the pixels of a detector stand, as plain numbers that host and device code share.
//
// Conventions and formulas: the PONI geometry of pyFAI (J. Kieffer and D. Karkoulis, J. Phys.: Conf. Ser. 425 (2013)
// 202012, doi:10.1088/1742-6596/425/20/202012). Axis 1 is vertical (slow, rows), axis 2 horizontal (fast, columns),
// axis 3 along the beam.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace annulus::kernels {

/// Entries of PixelGeometry::parallax_m.
inline constexpr std::size_t parallax_nodes = 1024;

/// A detector in the laboratory. `rotation` maps detector coordinates (p1, p2, p3) to (y, x, z): row-major 3 x 3.
struct PixelGeometry {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  double pixel1_m = 0.0;
  double pixel2_m = 0.0;
  double distance_m = 0.0;
  double poni1_m = 0.0;
  double poni2_m = 0.0;
  double wavelength_m = 0.0;         ///< Needed for q alone.
  std::array<double, 9> rotation{};  ///< [3, 3] without unit.
  bool flip1 = false;                ///< Row index counts against axis 1 (orientations 1 and 2).
  bool flip2 = false;                ///< Column index counts against axis 2 (orientations 1 and 4).
  /// [pixels, 4, 3] where the corners stand, as (z, y, x) in m along axes 3, 1 and 2 of the detector: before poni,
  /// distance and rotation, orientation included (flip1 and flip2 have no part). Corners in the order (0, 0), (1, 0),
  /// (1, 1), (0, 1) of (row, column); a pixel's centre is their mean in float64. Empty = a regular flat grid of
  /// pixel1_m x pixel2_m. The owner, the geometry's detector, must live longer.
  std::span<const float> vertices{};
  /// [parallax_nodes] in m, <= 0: what a thick sensor adds to a point's distance from the point of normal incidence, in
  /// the detector's plane, at the incidence angles node * (pi / 2) / (parallax_nodes - 1); linear in between, in the
  /// sine of the angle. Empty = no parallax. The owner must live longer.
  std::span<const double> parallax_m{};

  [[nodiscard]] std::size_t pixels() const { return static_cast<std::size_t>(rows) * columns; }
};

}  // namespace annulus::kernels
