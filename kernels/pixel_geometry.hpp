// Where the pixels of a flat detector stand, as plain numbers that host and device code share.
//
// Conventions and formulas: the PONI geometry of pyFAI (J. Kieffer and D. Karkoulis, J. Phys.: Conf. Ser. 425 (2013)
// 202012, doi:10.1088/1742-6596/425/20/202012). Axis 1 is vertical (slow, rows), axis 2 horizontal (fast, columns),
// axis 3 along the beam.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace annulus::kernels {

/// The radial coordinate in which bins are counted. Internal units: rad, nm^-1, m.
enum class RadialSpace : std::uint8_t { two_theta, q, r };

enum class Splitting : std::uint8_t { no, bbox };

/// A flat detector in the laboratory. `rotation` maps detector coordinates (p1, p2, p3) to (y, x, z): row-major 3 x 3.
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

  [[nodiscard]] std::size_t pixels() const { return static_cast<std::size_t>(rows) * columns; }
};

/// What the bins cover. Bin b holds the radial interval [minimum + b * width, minimum + (b + 1) * width).
struct BinAxis {
  double minimum = 0.0;  ///< rad, nm^-1 or m
  double maximum = 0.0;  ///< upper edge of the last bin
  std::uint32_t bins = 0;

  [[nodiscard]] double width() const { return (maximum - minimum) / bins; }
};

}  // namespace annulus::kernels
