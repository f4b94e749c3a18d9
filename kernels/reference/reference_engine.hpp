// The reference backend: float64, one thread, the plainest code that is right. The oracle of all others.
//
// Shares by area come from clipping polygons, not from the trapezoids that the fast backends share; only
// Convention::pyfai, which has pyFAI itself for an oracle, uses their code.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/bin_statistics.hpp"
#include "kernels/engine.hpp"
#include "kernels/matrix.hpp"

namespace annulus::kernels::reference {

/// A pixel in (radial, azimuthal) coordinates: its centre, and its corners in the order of PixelGeometry::vertices.
struct PixelShape {
  double radius = 0.0;
  double azimuth = 0.0;
  std::array<float, 4> corner_radius{};
  std::array<float, 4> corner_azimuth{};
};

/// The shape of every pixel, [pixels].
[[nodiscard]] std::vector<PixelShape> pixel_shapes(const MatrixSpec& spec);

/// The edges of the bins over the unmasked pixels, or over the ranges. Throws InputError when no pixel is left.
[[nodiscard]] BinAxes bin_axes(const MatrixSpec& spec, std::span<const PixelShape> shapes);

/// One pixel's share in one row.
struct Share {
  std::uint32_t row = 0;
  double weight = 0.0;
};

/// The rows that a pixel falls in, ascending, and its share in each: they sum to 1. Empty outside the ranges.
[[nodiscard]] std::vector<Share> shares_of(const MatrixSpec& spec, const BinAxes& axes, const PixelShape& shape);

/// As CsrMatrix, in float64.
struct Matrix {
  std::uint32_t columns = 0;
  struct Entry {
    std::uint32_t pixel = 0;
    double weight = 0.0;
  };
  std::vector<std::vector<Entry>> rows;  ///< pixels ascending
};

/// The matrix over the given bins.
[[nodiscard]] Matrix build_matrix(const MatrixSpec& spec, std::span<const PixelShape> shapes, const BinAxes& axes);

/// The sums of every bin of one frame, [rows], over the pixels that are good and not filtered out.
[[nodiscard]] std::vector<BinSums> sum_frame(const Matrix& matrix, const Corrections& corrections,
                                             const FrameBatch& batch, std::size_t frame);

[[nodiscard]] std::unique_ptr<Engine> make_engine(const DeviceChoice& choice);

}  // namespace annulus::kernels::reference
