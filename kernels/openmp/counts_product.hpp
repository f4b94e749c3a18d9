// Frames of integers, encoded or not, times the matrix: decoded, brought side by side and multiplied tile by tile.
//
// Nothing of a frame is ever whole in memory: 16 frames of a tile are decoded into the second-level cache, multiplied
// there, and forgotten.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/large_vector.hpp"
#include "kernels/openmp/frame_lane.hpp"
#include "kernels/openmp/pair_matrix.hpp"
#include "kernels/openmp/pair_product.hpp"

namespace annulus::kernels::openmp {

/// What a matrix needs beside its slots. No dark: see OpenmpEngine::works_by_counts().
struct CountCorrections {
  std::span<const float> normalisation;  ///< [pixels]
  std::span<const float> variance;       ///< [pixels] or empty
  PairMoments moments = PairMoments::signal;
  BadPixelRules rules;
};

/// Sums of a group of frames over a part of the detector.
class CountSums {
 public:
  /// What pixels that are bad in one frame would have given to a bin's constants.
  struct Removed {
    double normalisation = 0.0;
    double square = 0.0;
    double variance = 0.0;
    std::uint64_t entries = 0;
  };

  /// All zero, for so many bins.
  void reset(std::size_t bins);
  /// Adds those of another part.
  void add(const CountSums& other);

  /// [bins + 1][bin_stride], see pair_product.hpp
  [[nodiscard]] double* sums() { return sums_.data(); }
  /// [bins + 1] signals of one lane's single pixels, which stay in the first-level cache where those of sums() would
  /// be a line of memory each.
  [[nodiscard]] double* singles(std::size_t lane) { return singles_.data() + lane * (bins_ + 1); }
  [[nodiscard]] double signal(std::size_t bin, std::size_t lane) const {
    return sums_[bin * bin_stride + lane] + singles_[lane * (bins_ + 1) + bin];
  }
  [[nodiscard]] double variance(std::size_t bin, std::size_t lane) const {
    return sums_[bin * bin_stride + lane_count + lane];
  }
  /// Null when no pixel was bad.
  [[nodiscard]] const Removed* removed(std::size_t bin, std::size_t lane) const {
    return touched_.empty() ? nullptr : &removed_[bin * lane_count + lane];
  }
  /// Takes one weight's part out of a bin.
  void remove(std::size_t bin, std::size_t lane, const Removed& part) { remove(bin * lane_count + lane, part); }

 private:
  void remove(std::size_t place, const Removed& part);

  std::size_t bins_ = 0;
  LargeVector<double> sums_;
  LargeVector<double> singles_;         // [lanes, bins + 1]
  std::vector<Removed> removed_;        // [bins, lanes] or, as long as no pixel was bad, empty
  std::vector<std::uint32_t> touched_;  // places of removed_ that are not zero: mostly few
};

class CountsProduct {
 public:
  /// Scratch of one thread.
  class Scratch {
   public:
    Scratch();

   private:
    friend class CountsProduct;
    LargeVector<std::uint16_t> tile_;    // [pair_tile_pixels][lane_count] counts, as bytes where that is enough
    LargeVector<std::uint16_t> pieces_;  // [lane_count][piece_stride]
    std::unique_ptr<LaneScratch> lane_;
    std::array<SinglePixels, lane_count> singles_;
  };

  CountsProduct() = default;
  CountsProduct(const TiledMatrix& matrix, int threads);

  [[nodiscard]] std::size_t tiles() const { return matrix_.tiles(); }
  [[nodiscard]] std::uint64_t bytes() const { return matrix_.bytes() + used_bits_.size(); }

  /// Adds the product of tiles [tile, end_tile) with up to 16 frames, each at the first of those tiles, to `sums`;
  /// `status` [lanes] tells which of them could not be decoded. `used` is TiledMatrix::used().
  void add(std::span<FrameLane> lanes, std::size_t tile, std::size_t end_tile, std::span<const std::uint8_t> used,
           const CountCorrections& corrections, SimdPath path, Scratch& scratch, CountSums& sums,
           std::span<DecodeStatus> status) const;

 private:
  PairMatrix matrix_;
  std::vector<std::uint8_t> used_bits_;
};

}  // namespace annulus::kernels::openmp
