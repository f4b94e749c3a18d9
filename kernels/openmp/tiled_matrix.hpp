// The matrix as the CPU reads it: cut into tiles of consecutive pixels, so that a tile of many frames stays in cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/matrix.hpp"

namespace annulus::kernels::openmp {

/// Pixels of a tile: an 8 KiB block of bitshuffled uint16; 16 frames of it fill 128 KiB, within the second-level cache.
inline constexpr std::size_t tile_pixels = 4096;

/// The entries of one bin within one tile.
struct TileRow {
  std::uint32_t bin;
  std::uint32_t end;  ///< one past the row's last entry, counted from the tile's first; rows follow one another
};

/// The entries of one tile, while a matrix is built: rows ascend by bin, within a row entries ascend by pixel.
struct TileEntries {
  std::vector<TileRow> rows;
  std::vector<std::uint16_t> pixels;
  std::vector<float> weights;
};

/// Tile-major matrix; within a tile rows ascend by bin, within a row entries ascend by pixel.
class TiledMatrix {
 public:
  TiledMatrix() = default;
  /// From the entries of each tile; `threads` copy them.
  TiledMatrix(std::uint32_t bins, std::uint32_t columns, std::span<const TileEntries> tiles, int threads);
  /// From rows; the same whatever the number of `threads`.
  TiledMatrix(const CsrMatrix& matrix, int threads);

  struct Tile {
    std::span<const TileRow> rows;
    const std::uint16_t* pixels;  ///< pixel of each entry, counted from the tile's first
    const float* weights;
  };
  [[nodiscard]] Tile tile(std::size_t index) const {
    return {std::span(rows_).subspan(row_offsets_[index], row_offsets_[index + 1] - row_offsets_[index]),
            pixels_.data() + entry_offsets_[index], weights_.data() + entry_offsets_[index]};
  }
  [[nodiscard]] std::size_t tiles() const { return entry_offsets_.empty() ? 0 : entry_offsets_.size() - 1; }
  [[nodiscard]] std::uint32_t bins() const { return bins_; }
  [[nodiscard]] std::uint32_t columns() const { return columns_; }
  [[nodiscard]] std::uint64_t entries() const { return weights_.size(); }
  /// 1 for a pixel that has a weight, else 0: [columns].
  [[nodiscard]] std::span<const std::uint8_t> used() const { return used_; }
  /// As rows: for what works bin by bin, for caches and tests.
  [[nodiscard]] CsrMatrix csr() const;

 private:
  std::uint32_t bins_ = 0;
  std::uint32_t columns_ = 0;
  std::vector<std::uint64_t> entry_offsets_;  // [tiles + 1]
  std::vector<std::uint64_t> row_offsets_;    // [tiles + 1]
  std::vector<TileRow> rows_;
  std::vector<std::uint16_t> pixels_;
  std::vector<float> weights_;
  std::vector<std::uint8_t> used_;
};

}  // namespace annulus::kernels::openmp
