// The matrix as the batched product reads it: one slot for a pixel and its weights in two neighbouring bins.
//
// A pixel is a little smaller or larger than a bin, so its weights lie in one to three consecutive bins: a slot reads
// the pixel once for two of them. Slots go in groups of eight with one first bin, filled up with slots of weight 0: a
// group's sums stay in registers, and no branch depends on the data.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/large_vector.hpp"
#include "kernels/openmp/tiled_matrix.hpp"

namespace annulus::kernels::openmp {

/// Pixels of a tile here: 16 frames of it as uint16 fill 512 KiB, half of a second-level cache of today; large enough
/// that most bins which a tile meets have more than one group.
inline constexpr std::size_t pair_tile_pixels = 4 * tile_pixels;

inline constexpr std::size_t slots_per_group = 8;

/// What one slot says, found by its pixel.
struct PixelWeights {
  std::uint32_t bin = 0;
  std::uint32_t more = 0;  ///< 0, or 1 + the place of the pixel's further slots among its tile's
  float first = 0.0F;
  float second = 0.0F;
};
struct FurtherWeights {
  std::uint32_t pixel = 0;  ///< counted from the tile's first
  PixelWeights weights;
};

class PairMatrix {
 public:
  PairMatrix() = default;
  /// The same entries; whatever the number of `threads`.
  PairMatrix(const TiledMatrix& matrix, int threads);

  /// The slots of one tile: groups ascend by first bin, within a bin slots ascend by pixel.
  struct Tile {
    std::span<const std::uint32_t> bins;      ///< [groups] first of the two bins
    const std::uint16_t* pixels;              ///< [groups, slots_per_group] counted from the tile's first
    const float* first;                       ///< [groups, slots_per_group] weight in the first bin
    const float* second;                      ///< [groups, slots_per_group] weight in the bin behind it
    const float* first_squares;               ///< [groups] sum of the squares of `first`, in the order of the product
    const float* second_squares;              ///< [groups]
    const PixelWeights* weights;              ///< [pair_tile_pixels] the first slot of each pixel
    std::span<const FurtherWeights> further;  ///< those of pixels with more, by pixel

    /// Calls visit(bin, weight) for each weight of a pixel that is not 0.
    template <typename Visit>
    void for_each_weight(std::size_t pixel, Visit&& visit) const {
      const auto visit_both = [&](const PixelWeights& both) {
        if (both.first != 0.0F) visit(both.bin, both.first);
        if (both.second != 0.0F) visit(both.bin + 1, both.second);
      };
      visit_both(weights[pixel]);
      for_each_further(pixel, visit_both);
    }
    /// Calls visit(PixelWeights) for each slot of a pixel but its first one.
    template <typename Visit>
    void for_each_further(std::size_t pixel, Visit&& visit) const {
      if (weights[pixel].more == 0) return;
      for (std::size_t place = weights[pixel].more - 1; place < further.size() && further[place].pixel == pixel;
           ++place) {
        visit(further[place].weights);
      }
    }
  };
  [[nodiscard]] Tile tile(std::size_t index) const {
    const std::size_t begin = offsets_[index];
    const std::size_t slot = begin * slots_per_group;
    return {
        std::span(bins_).subspan(begin, offsets_[index + 1] - begin),
        pixels_.data() + slot,
        first_.data() + slot,
        second_.data() + slot,
        first_squares_.data() + begin,
        second_squares_.data() + begin,
        weights_.data() + index * pair_tile_pixels,
        std::span(further_).subspan(further_offsets_[index], further_offsets_[index + 1] - further_offsets_[index])};
  }
  [[nodiscard]] std::size_t tiles() const { return offsets_.empty() ? 0 : offsets_.size() - 1; }
  [[nodiscard]] std::size_t slots() const { return pixels_.size(); }
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  std::vector<std::uint64_t> offsets_;  // [tiles + 1] groups
  std::vector<std::uint32_t> bins_;
  LargeVector<std::uint16_t> pixels_;
  LargeVector<float> first_;
  LargeVector<float> second_;
  std::vector<float> first_squares_;
  std::vector<float> second_squares_;
  LargeVector<PixelWeights> weights_;           // [tiles, pair_tile_pixels]
  std::vector<std::uint64_t> further_offsets_;  // [tiles + 1]
  std::vector<FurtherWeights> further_;
};

}  // namespace annulus::kernels::openmp
