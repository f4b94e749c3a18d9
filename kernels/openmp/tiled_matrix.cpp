#include "kernels/openmp/tiled_matrix.hpp"

namespace annulus::kernels::openmp {

TiledMatrix::TiledMatrix(const CsrMatrix& matrix)
    : bins_(matrix.rows),
      columns_(matrix.columns),
      pixels_(matrix.entries()),
      weights_(matrix.entries()),
      used_(matrix.columns) {
  const std::size_t tiles = (columns_ + tile_pixels - 1) / tile_pixels;
  entry_offsets_.assign(tiles + 1, 0);
  row_offsets_.assign(tiles + 1, 0);

  constexpr std::uint32_t no_bin = static_cast<std::uint32_t>(-1);
  std::vector<std::uint32_t> last_bin(tiles, no_bin);  // to see where a tile's next row starts
  const auto for_each_entry = [&](auto&& visit) {
    for (std::uint32_t bin = 0; bin < bins_; ++bin) {
      for (std::uint64_t entry = matrix.offsets[bin]; entry < matrix.offsets[bin + 1]; ++entry) {
        const std::size_t tile = matrix.pixels[entry] / tile_pixels;
        visit(bin, entry, tile, last_bin[tile] != bin);
        last_bin[tile] = bin;
      }
    }
    last_bin.assign(tiles, no_bin);
  };

  for_each_entry([&](std::uint32_t, std::uint64_t, std::size_t tile, bool new_row) {
    ++entry_offsets_[tile + 1];
    if (new_row) ++row_offsets_[tile + 1];
  });
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    entry_offsets_[tile + 1] += entry_offsets_[tile];
    row_offsets_[tile + 1] += row_offsets_[tile];
  }
  rows_.resize(row_offsets_[tiles]);

  std::vector<std::uint64_t> next_entry(entry_offsets_.begin(), entry_offsets_.end() - 1);
  std::vector<std::uint64_t> next_row(row_offsets_.begin(), row_offsets_.end() - 1);
  for_each_entry([&](std::uint32_t bin, std::uint64_t entry, std::size_t tile, bool new_row) {
    const std::uint64_t place = next_entry[tile]++;
    pixels_[place] = static_cast<std::uint16_t>(matrix.pixels[entry] % tile_pixels);
    weights_[place] = matrix.weights[entry];
    used_[matrix.pixels[entry]] = 1;
    if (new_row) rows_[next_row[tile]++].bin = bin;
    rows_[next_row[tile] - 1].end = static_cast<std::uint32_t>(place + 1 - entry_offsets_[tile]);
  });
}

CsrMatrix TiledMatrix::csr() const {
  CsrMatrix matrix;
  matrix.rows = bins_;
  matrix.columns = columns_;
  matrix.offsets.assign(bins_ + std::size_t{1}, 0);
  matrix.pixels.resize(weights_.size());
  matrix.weights.resize(weights_.size());
  const auto for_each_entry = [&](auto&& visit) {
    for (std::size_t index = 0; index < tiles(); ++index) {
      const Tile part = tile(index);
      std::uint32_t entry = 0;
      for (const TileRow& row : part.rows) {
        for (; entry < row.end; ++entry) visit(row.bin, index * tile_pixels + part.pixels[entry], part.weights[entry]);
      }
    }
  };
  for_each_entry([&](std::uint32_t bin, std::size_t, float) { ++matrix.offsets[bin + 1]; });
  for (std::uint32_t bin = 0; bin < bins_; ++bin) matrix.offsets[bin + 1] += matrix.offsets[bin];
  std::vector<std::uint64_t> next(matrix.offsets.begin(), matrix.offsets.end() - 1);
  for_each_entry([&](std::uint32_t bin, std::size_t pixel, float weight) {
    matrix.pixels[next[bin]] = static_cast<std::uint32_t>(pixel);
    matrix.weights[next[bin]++] = weight;
  });
  return matrix;
}

}  // namespace annulus::kernels::openmp
