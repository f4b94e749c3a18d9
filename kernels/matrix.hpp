// The integration matrix: bins x pixels, the share of each pixel that falls in each bin.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/pixel_geometry.hpp"

namespace annulus::kernels {

/// Compressed sparse rows, as pyFAI lays them out: a row a bin, within a row pixels in ascending order.
struct CsrMatrix {
  std::uint32_t rows = 0;              ///< bins
  std::uint32_t columns = 0;           ///< pixels
  std::vector<std::uint64_t> offsets;  ///< [rows + 1] first entry of each row
  std::vector<std::uint32_t> pixels;   ///< [entries] column of each entry
  std::vector<float> weights;          ///< [entries] share of the pixel, 0 to 1; over a column they sum to 1

  [[nodiscard]] std::uint64_t entries() const { return weights.size(); }
};

/// Everything that the matrix depends on.
struct MatrixSpec {
  PixelGeometry geometry;
  RadialSpace space = RadialSpace::two_theta;
  Splitting splitting = Splitting::bbox;
  std::uint32_t bins = 1000;
  std::optional<std::pair<double, double>> range;  ///< Lower and upper edge in rad, nm^-1 or m; all pixels when absent.
  std::span<const std::uint8_t> mask;              ///< [pixels] nonzero = unused; empty = all are used
};

}  // namespace annulus::kernels
