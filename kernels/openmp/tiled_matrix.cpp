#include "kernels/openmp/tiled_matrix.hpp"

#include <algorithm>

namespace annulus::kernels::openmp {

TiledMatrix::TiledMatrix(std::uint32_t bins, std::uint32_t columns, std::span<const TileEntries> tiles, int threads)
    : bins_(bins), columns_(columns), entry_offsets_{0}, row_offsets_{0}, used_(columns) {
  for (const TileEntries& tile : tiles) {
    entry_offsets_.push_back(entry_offsets_.back() + tile.weights.size());
    row_offsets_.push_back(row_offsets_.back() + tile.rows.size());
  }
  rows_.resize(row_offsets_.back());
  pixels_.resize(entry_offsets_.back());
  weights_.resize(entry_offsets_.back());
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::size_t index = 0; index < tiles.size(); ++index) {
    const TileEntries& tile = tiles[index];
    std::copy(tile.rows.begin(), tile.rows.end(), rows_.begin() + static_cast<std::ptrdiff_t>(row_offsets_[index]));
    const auto first = static_cast<std::ptrdiff_t>(entry_offsets_[index]);
    std::copy(tile.pixels.begin(), tile.pixels.end(), pixels_.begin() + first);
    std::copy(tile.weights.begin(), tile.weights.end(), weights_.begin() + first);
    for (const std::uint16_t pixel : tile.pixels) used_[index * tile_pixels + pixel] = 1;
  }
}

TiledMatrix::TiledMatrix(const CsrMatrix& matrix, int threads)
    : bins_(matrix.rows),
      columns_(matrix.columns),
      pixels_(matrix.entries()),
      weights_(matrix.entries()),
      used_(matrix.columns) {
  const std::size_t tiles = (columns_ + tile_pixels - 1) / tile_pixels;
  entry_offsets_.assign(tiles + 1, 0);
  row_offsets_.assign(tiles + 1, 0);

  // Each thread takes a part: consecutive bins, about as many entries as in any other.
  const auto parts = static_cast<std::size_t>(threads);
  const auto first_bin = [&](std::size_t part) {
    const auto first = std::ranges::lower_bound(matrix.offsets, matrix.entries() * part / parts);
    return part == parts ? bins_ : static_cast<std::uint32_t>(first - matrix.offsets.begin());
  };
  // Calls visit(bin, tile, first entry, last entry + 1) for what the bins of a part have in each tile.
  const auto for_each_run = [&](std::size_t part, auto&& visit) {
    const std::uint32_t end_bin = first_bin(part + 1);
    for (std::uint32_t bin = first_bin(part); bin < end_bin; ++bin) {
      std::uint64_t entry = matrix.offsets[bin];
      while (entry < matrix.offsets[bin + 1]) {
        const std::uint64_t first = entry;
        const std::size_t tile = matrix.pixels[entry] / tile_pixels;
        while (entry < matrix.offsets[bin + 1] && matrix.pixels[entry] / tile_pixels == tile) ++entry;
        visit(bin, tile, first, entry);
      }
    }
  };

  // What each part has in each tile, then where that starts: within a tile part after part, since rows ascend by bin.
  struct Share {
    std::uint64_t entries = 0;
    std::uint64_t rows = 0;
  };
  std::vector<Share> shares(parts * tiles);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::size_t part = 0; part < parts; ++part) {
    for_each_run(part, [&](std::uint32_t, std::size_t tile, std::uint64_t first, std::uint64_t end) {
      shares[part * tiles + tile].entries += end - first;
      ++shares[part * tiles + tile].rows;
    });
  }
  Share sum;
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    for (std::size_t part = 0; part < parts; ++part) {
      Share& share = shares[part * tiles + tile];
      const Share start = sum;
      sum.entries += share.entries;
      sum.rows += share.rows;
      share = start;
    }
    entry_offsets_[tile + 1] = sum.entries;
    row_offsets_[tile + 1] = sum.rows;
  }
  rows_.resize(sum.rows);

#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (std::size_t part = 0; part < parts; ++part) {
      for_each_run(part, [&](std::uint32_t bin, std::size_t tile, std::uint64_t first, std::uint64_t end) {
        Share& next = shares[part * tiles + tile];
        for (std::uint64_t entry = first; entry < end; ++entry, ++next.entries) {
          pixels_[next.entries] = static_cast<std::uint16_t>(matrix.pixels[entry] % tile_pixels);
          weights_[next.entries] = matrix.weights[entry];
        }
        rows_[next.rows++] = {bin, static_cast<std::uint32_t>(next.entries - entry_offsets_[tile])};
      });
    }
    // By tile: a pixel may have entries in the bins of several parts.
#pragma omp for schedule(static)
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      for (std::uint64_t entry = entry_offsets_[tile]; entry < entry_offsets_[tile + 1]; ++entry) {
        used_[tile * tile_pixels + pixels_[entry]] = 1;
      }
    }
  }
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
