#include "kernels/openmp/counts_product.hpp"

#include <algorithm>

namespace annulus::kernels::openmp {
namespace {

/// Pieces of different lanes lie a little more than a multiple of 4 KiB apart: 16 streams at the same offset would
/// compete for the same eight places of the first-level cache.
constexpr std::size_t piece_stride = tile_pixels + 64;

}  // namespace

void CountSums::reset(std::size_t bins) {
  for (const std::uint32_t place : touched_) removed_[place] = {};
  touched_.clear();
  if (bins != bins_) removed_.clear();
  bins_ = bins;
  sums_.assign((bins + 1) * bin_stride, 0.0);
}

void CountSums::remove(std::size_t place, const Removed& part) {
  if (removed_.empty()) removed_.resize(bins_ * lane_count);
  Removed& sum = removed_[place];
  if (sum.entries == 0) touched_.push_back(static_cast<std::uint32_t>(place));
  sum.normalisation += part.normalisation;
  sum.square += part.square;
  sum.variance += part.variance;
  sum.entries += part.entries;
}

void CountSums::add(const CountSums& other) {
  double* to = sums_.data();
  const double* from = other.sums_.data();
  for (std::size_t place = 0; place < sums_.size(); ++place) to[place] += from[place];
  for (const std::uint32_t place : other.touched_) remove(place, other.removed_[place]);
}

CountsProduct::Scratch::Scratch() : lane_(std::make_unique<LaneScratch>()) {
  tile_.resize(pair_tile_pixels * lane_count);
  pieces_.resize(lane_count * piece_stride);
}

CountsProduct::CountsProduct(const TiledMatrix& matrix, int threads)
    : matrix_(matrix, threads), used_bits_((matrix.columns() + 63) / 64 * 8) {
  const std::span<const std::uint8_t> used = matrix.used();
  for (std::size_t pixel = 0; pixel < used.size(); ++pixel) {
    used_bits_[pixel / 8] = static_cast<std::uint8_t>(used_bits_[pixel / 8] | (used[pixel] & 1U) << (pixel % 8));
  }
}

void CountsProduct::add(std::span<FrameLane> lanes, std::size_t tile, std::size_t end_tile,
                        std::span<const std::uint8_t> used, const CountCorrections& corrections, SimdPath path,
                        Scratch& scratch, CountSums& sums, std::span<DecodeStatus> status) const {
  alignas(64) static const std::uint16_t zeros[tile_pixels] = {};
  for (; tile < end_tile; ++tile) {
    const PairMatrix::Tile part = matrix_.tile(tile);
    const std::size_t first_pixel = tile * pair_tile_pixels;
    const std::size_t pixels = std::min(pair_tile_pixels, used.size() - first_pixel);
    for (auto& singles : scratch.singles_) singles.clear();
    std::uint16_t* values = scratch.tile_.data();
    std::size_t filled = 0;  // pixels up to which the tile was written
    bool any = false;
    for (std::size_t done = 0; done < pixels; done += tile_pixels) {
      const std::size_t count = std::min(tile_pixels, pixels - done);
      const std::size_t place = first_pixel + done;
      const std::uint16_t* pieces[lane_count];
      std::fill_n(pieces, lane_count, +zeros);
      bool any_here = false;
      for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
        const FrameLane::Piece piece =
            lanes[lane].read(count, {used.data() + place, used_bits_.data() + place / 8}, corrections.rules, done,
                             *scratch.lane_, scratch.pieces_.data() + lane * piece_stride, scratch.singles_[lane]);
        if (piece.status != DecodeStatus::ok) status[lane] = piece.status;
        if (piece.counts == nullptr) continue;
        pieces[lane] = piece.counts;
        any_here = true;
      }
      if (!any_here) continue;
      // Pieces without a count are written only when another one has some.
      std::fill_n(values + filled * lane_count, (done - filled) * lane_count, std::uint16_t{0});
      interleave(path, pieces, count, values + done * lane_count);
      filled = done + count;
      any = true;
    }
    if (any) {
      std::fill_n(values + filled * lane_count, (pixels - filled) * lane_count, std::uint16_t{0});
      multiply_pairs(path, corrections.moments, part, values, sums.sums());
    } else {
      add_zero_counts(corrections.moments, part, sums.sums());
    }

    const bool poisson = corrections.moments == PairMoments::poisson;
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      const std::span<const SinglePixel> singles = scratch.singles_[lane];
      for (std::size_t index = 0; index < singles.size(); ++index) {
        const SinglePixel& single = singles[index];
        // They lie far apart: each one's weights are another line of memory.
        if (index + 8 < singles.size()) __builtin_prefetch(part.weights + singles[index + 8].pixel);
        const std::size_t pixel = first_pixel + single.pixel;
        part.for_each_weight(single.pixel, [&](std::size_t bin, float weight) {
          double* place = sums.sums() + bin * bin_stride + lane;
          // The product took the pixel for a 0, which has a variance of 1.
          const double product_variance = weight * weight;
          if (!single.bad) {
            place[0] += weight * single.count;
            if (poisson && single.count > 1.0) place[lane_count] += product_variance * (single.count - 1.0);
            return;
          }
          if (poisson) place[lane_count] -= product_variance;
          const double share = static_cast<double>(weight) * corrections.normalisation[pixel];
          const double variance = corrections.variance.empty() ? 0.0 : double{corrections.variance[pixel]};
          sums.remove(bin, lane, {share, share * share, static_cast<double>(weight) * weight * variance, 1});
        });
      }
    }
  }
}

}  // namespace annulus::kernels::openmp
