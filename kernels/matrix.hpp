// The integration matrix: bins x pixels, the share of each pixel that falls in each bin; and all that it depends on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/pixel_geometry.hpp"

namespace annulus::kernels {

/// To be raised with every change of a builder that may change a bit of a matrix or of its bins: kept ones are then
/// built anew.
inline constexpr std::uint32_t matrix_version = 2;

/// The coordinate in which bins are counted, and its internal unit; either axis takes any. With q = 4 pi sin(theta) /
/// wavelength. Numbers as in splitting.inc.
enum class RadialSpace : std::uint8_t {
  two_theta,       ///< rad
  r,               ///< distance from the beam, m
  q,               ///< nm^-1
  d,               ///< 2 pi / q, m
  d_star_squared,  ///< (q / 2 pi)^2, nm^-2
  log10_q_m,       ///< log10 of q in m^-1
  log_q_nm,        ///< log of q in nm^-1
  log1p_q_nm,      ///< log of 1 + q in nm^-1
  log1p_q_a,       ///< log of 1 + q in A^-1
  arcsinh_q_nm,    ///< arcsinh of q in nm^-1
  arcsinh_q_a,     ///< arcsinh of q in A^-1
  qx,              ///< horizontal part of q in the detector's rectilinear sense, nm^-1
  qy,              ///< vertical part, nm^-1
  chi,             ///< azimuth about the beam, rad
  // Seen from the sample, in its axes (SampleFrame): x horizontal, y normal to the surface, z along the surface.
  angle_vertical,    ///< from its plane, rad
  angle_horizontal,  ///< within its plane, rad
  q_sample_x,        ///< nm^-1
  q_sample_y,        ///< out of its plane, nm^-1
  q_sample_z,        ///< nm^-1
  q_in_plane,        ///< root of q_sample_x^2 + q_sample_z^2 with the sign of q_sample_x, nm^-1
  chi_sample,        ///< from its normal, rad: atan2(q_in_plane, q_sample_y)
  q_total,           ///< q, nm^-1, as what pyFAI takes the way of the others for
};

/// How a pixel that reaches over several bins is shared out; the shares of a used pixel sum to 1.
enum class Splitting : std::uint8_t {
  no,      ///< all to the bin of its centre
  bbox,    ///< by overlap with its bounding box, centred on its centre
  pseudo,  ///< by overlap with its bounding box shrunk to the pixel's area; in one dimension the same as full
  full,    ///< by area: the pixel as a quadrilateral of (radial, azimuthal) corners
};

/// Whose numbers where pyFAI has defects: the right ones, or pyFAI's, bit by bit as far as float32 allows.
enum class Convention : std::uint8_t { exact, pyfai };

/// Where the azimuth jumps: at +-180 degrees (-pi to pi) or at 0 (0 to 2 pi).
enum class AzimuthCut : std::uint8_t { at_pi, at_zero };

/// Whether a coordinate goes around: by 2 pi.
[[nodiscard]] constexpr bool is_azimuth(RadialSpace space) {
  return space == RadialSpace::chi || space == RadialSpace::chi_sample;
}

/// Row-major rotation of (x, y, z) of the laboratory (x horizontal, y vertical, z the beam) into the sample's axes.
using SampleFrame = std::array<double, 9>;
inline constexpr SampleFrame unturned_sample = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0};

/// The bins of one coordinate. Bin b holds the interval [minimum + b * width, minimum + (b + 1) * width).
struct BinAxis {
  double minimum = 0.0;         ///< in the internal unit
  double maximum = 0.0;         ///< upper edge of the last bin: the greatest value, and one float32 epsilon more
  double greatest_value = 0.0;  ///< greatest value of the pixels, or of the range
  std::uint32_t bins = 0;

  [[nodiscard]] double width() const { return (maximum - minimum) / bins; }
  bool operator==(const BinAxis&) const = default;
};

struct BinAxes {
  BinAxis radial;
  BinAxis azimuthal;  ///< no bins without azimuthal binning

  /// Rows of the matrix, azimuth by azimuth: row = azimuthal bin * radial bins + radial bin.
  [[nodiscard]] std::uint32_t rows() const { return azimuthal.bins == 0 ? radial.bins : radial.bins * azimuthal.bins; }
  bool operator==(const BinAxes&) const = default;
};

/// Compressed sparse rows: a row a bin, within a row pixels in ascending order.
struct CsrMatrix {
  std::uint32_t rows = 0;              ///< bins
  std::uint32_t columns = 0;           ///< pixels
  std::vector<std::uint64_t> offsets;  ///< [rows + 1] first entry of each row
  std::vector<std::uint32_t> pixels;   ///< [entries] column of each entry
  std::vector<float> weights;          ///< [entries] share of the pixel, 0 to 1; over a column they sum to 1

  [[nodiscard]] std::uint64_t entries() const { return weights.size(); }
};

/// What a mask says of a pixel.
enum class PixelUse : std::uint8_t {
  used = 0,
  masked = 1,   ///< not there: the bins need not reach it
  useless = 2,  ///< there, so that the bins reach over it as in pyFAI, but without a share (a flat field of 0)
};

/// Everything that the matrix depends on.
struct MatrixSpec {
  PixelGeometry geometry;
  RadialSpace space = RadialSpace::two_theta;
  SampleFrame frame = unturned_sample;  ///< of `space`, where it is seen from the sample
  RadialSpace azimuthal_space = RadialSpace::chi;
  SampleFrame azimuthal_frame = unturned_sample;
  Splitting splitting = Splitting::bbox;
  std::uint32_t bins = 1000;
  std::uint32_t azimuthal_bins = 0;                          ///< 0 = one pattern of all azimuths
  std::optional<std::pair<double, double>> range;            ///< radial, in the internal unit; all pixels when absent
  std::optional<std::pair<double, double>> azimuthal_range;  ///< without azimuthal bins it selects whole pixels
  AzimuthCut cut = AzimuthCut::at_pi;
  bool azimuth_in_degrees = true;  ///< the user's unit: with Convention::pyfai full splitting mistakes it
  bool negative_radial = false;    ///< Bins may reach below 0 (the logarithmic spaces, qx, qy, ...).
  Convention convention = Convention::exact;
  std::span<const std::uint8_t> mask;  ///< [pixels] PixelUse; empty = all are used

  /// Whether a pixel gets shares, and whether the bins reach over it.
  [[nodiscard]] bool is_used(std::size_t pixel) const { return mask.empty() || mask[pixel] == 0; }
  [[nodiscard]] bool is_there(std::size_t pixel) const {
    return mask.empty() || mask[pixel] != static_cast<std::uint8_t>(PixelUse::masked);
  }
};

}  // namespace annulus::kernels
