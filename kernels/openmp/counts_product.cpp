#include "kernels/openmp/counts_product.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/every_cpu.hpp"

namespace annulus::kernels::openmp {
namespace {

/// Pieces of different lanes lie a little more than a multiple of 4 KiB apart: 16 streams at the same offset would
/// compete for the same eight places of the first-level cache.
constexpr std::size_t piece_stride = tile_pixels + 64;

/// Lists the pixels of a block with a count of 1 and sends for their weights, each of which is another line of memory.
ANNULUS_FOR_EVERY_CPU void list_ones(const PairMatrix::Tile& tile, const PixelsOfOne& pixels, std::uint16_t* list) {
  // A word has one or two pixels mostly, and a loop over those of one would end by surprise: so this one goes on to the
  // next word without a branch, whose bits it holds ready.
  std::uint64_t words = pixels.filled;
  auto word = static_cast<std::size_t>(std::countr_zero(words));
  std::uint64_t left = pixels.bits[word];
  words &= words - 1;
  for (std::size_t index = 0; index < pixels.count; ++index) {
    const auto next_word = static_cast<std::size_t>(std::countr_zero(words));
    const std::uint64_t next = pixels.bits[next_word];
    const std::size_t pixel = pixels.first + word * 64 + static_cast<std::size_t>(std::countr_zero(left));
    list[index] = static_cast<std::uint16_t>(pixel);
    __builtin_prefetch(tile.weights + pixel);
    left &= left - 1;
    const std::uint64_t done = left == 0 ? ~std::uint64_t{0} : 0;
    left |= next & done;
    word ^= (word ^ next_word) & done;
    words &= (words - 1) | ~done;
  }
}

/// Adds such pixels of one lane, which the product took for 0: their variance is that of a 0.
ANNULUS_FOR_EVERY_CPU void add_ones(const PairMatrix::Tile& tile, std::span<const std::uint16_t> list,
                                    double* signals) {
  for (const std::uint16_t pixel : list) {
    const auto add = [&](const PixelWeights& weights) {  // a weight of 0 adds 0 and needs no branch
      double* place = signals + weights.bin;
      place[0] += static_cast<double>(weights.first);
      place[1] += static_cast<double>(weights.second);
    };
    add(tile.weights[pixel]);
    tile.for_each_further(pixel, add);
  }
}

/// Adds other pixels of one lane of a tile, which the product took for 0.
void add_singles(const PairMatrix::Tile& tile, std::size_t first_pixel, std::size_t lane,
                 std::span<const SinglePixel> singles, const CountCorrections& corrections, CountSums& sums) {
  double* const signals = sums.singles(lane);
  double* const variances = sums.sums() + lane_count + lane;
  const bool poisson = corrections.moments == PairMoments::poisson;
  for (std::size_t index = 0; index < singles.size(); ++index) {
    // They lie far apart: each one's weights are another line of memory.
    if (index + 8 < singles.size()) __builtin_prefetch(tile.weights + singles[index + 8].pixel);
    const SinglePixel single = singles[index];
    const bool bad = single.bad != 0;
    const double count = bad ? 0.0 : static_cast<double>(std::int64_t{single.count});
    // The product took the pixel for a 0, which has a variance of 1.
    const double more_variance = bad ? -1.0 : std::max(count - 1.0, 0.0);
    const auto add = [&](const PixelWeights& weights) {  // a weight of 0 adds 0 and needs no branch
      signals[weights.bin] += weights.first * count;
      signals[weights.bin + 1] += weights.second * count;
      if (!poisson) return;
      const float first_square = weights.first * weights.first;
      const float second_square = weights.second * weights.second;
      variances[weights.bin * bin_stride] += first_square * more_variance;
      variances[(weights.bin + 1) * bin_stride] += second_square * more_variance;
    };
    add(tile.weights[single.pixel]);
    tile.for_each_further(single.pixel, add);
    if (!bad) continue;
    const std::size_t pixel = first_pixel + single.pixel;
    tile.for_each_weight(single.pixel, [&](std::size_t bin, float weight) {
      const double share = static_cast<double>(weight) * corrections.normalisation[pixel];
      const double variance = corrections.variance.empty() ? 0.0 : double{corrections.variance[pixel]};
      sums.remove(bin, lane, {share, share * share, static_cast<double>(weight) * weight * variance, 1});
    });
  }
}

}  // namespace

void CountSums::reset(std::size_t bins) {
  for (const std::uint32_t place : touched_) removed_[place] = {};
  touched_.clear();
  if (bins != bins_) removed_.clear();
  bins_ = bins;
  sums_.assign((bins + 1) * bin_stride, 0.0);
  singles_.assign((bins + 1) * lane_count, 0.0);
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
  const auto add_all = [](const LargeVector<double>& from, LargeVector<double>& to) {
    for (std::size_t place = 0; place < to.size(); ++place) to[place] += from[place];
  };
  add_all(other.sums_, sums_);
  add_all(other.singles_, singles_);
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
  const auto* zero_bytes = reinterpret_cast<const std::uint8_t*>(zeros);
  const std::size_t first_tile = tile;
  for (; tile < end_tile; ++tile) {
    for (FrameLane& lane : lanes) lane.begin_tile(tile == first_tile);
    const PairMatrix::Tile part = matrix_.tile(tile);
    const std::size_t first_pixel = tile * pair_tile_pixels;
    const std::size_t pixels = std::min(pair_tile_pixels, used.size() - first_pixel);
    for (auto& singles : scratch.singles_) singles.clear();
    // Counts lie as bytes in the upper half of the tile up to the first piece with larger ones.
    std::uint16_t* words = scratch.tile_.data();
    auto* bytes = reinterpret_cast<std::uint8_t*>(words) + pair_tile_pixels * lane_count;
    bool as_bytes = true;
    std::size_t filled = 0;  // pixels up to which the tile was written
    const auto fill_with_zeros = [&](std::size_t end) {
      const std::size_t count = (end - filled) * lane_count;
      as_bytes ? std::memset(bytes + filled * lane_count, 0, count)
               : std::memset(words + filled * lane_count, 0, count * sizeof(std::uint16_t));
      filled = end;
    };
    for (std::size_t done = 0; done < pixels; done += tile_pixels) {
      const std::size_t count = std::min(tile_pixels, pixels - done);
      const std::size_t place = first_pixel + done;
      FrameLane::Piece pieces[lane_count];
      bool any_bytes = false;
      bool any_words = false;
      for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
        pieces[lane] =
            lanes[lane].read(count, {used.data() + place, used_bits_.data() + place / 8}, corrections.rules, done,
                             *scratch.lane_, scratch.pieces_.data() + lane * piece_stride, scratch.singles_[lane]);
        if (pieces[lane].status != DecodeStatus::ok) status[lane] = pieces[lane].status;
        any_bytes |= pieces[lane].bytes != nullptr;
        any_words |= pieces[lane].words != nullptr;
      }
      // Pieces without a count are written only when another one has some.
      if (!any_bytes && !any_words) continue;
      if (any_words && as_bytes) {
        widen(bytes, filled * lane_count, words);
        as_bytes = false;
      }
      fill_with_zeros(done);
      if (as_bytes) {
        const std::uint8_t* from[lane_count];
        for (std::size_t lane = 0; lane < lane_count; ++lane) {
          from[lane] = pieces[lane].bytes != nullptr ? pieces[lane].bytes : zero_bytes;
        }
        interleave(path, from, count, bytes + done * lane_count);
      } else {
        const std::uint16_t* from[lane_count];
        for (std::size_t lane = 0; lane < lane_count; ++lane) {
          from[lane] = pieces[lane].words != nullptr ? pieces[lane].words : zeros;
          if (pieces[lane].bytes == nullptr) continue;
          std::uint16_t* own = scratch.pieces_.data() + lane * piece_stride;
          widen(pieces[lane].bytes, count, own);
          from[lane] = own;
        }
        interleave(path, from, count, words + done * lane_count);
      }
      filled = done + count;
    }
    if (filled > 0) {
      fill_with_zeros(pixels);
      as_bytes ? multiply_pairs(path, corrections.moments, part, bytes, sums.sums())
               : multiply_pairs(path, corrections.moments, part, words, sums.sums());
    } else {
      add_zero_counts(corrections.moments, part, sums.sums());
    }

    // While the pixels of one block are added, the weights of the next one's are on their way.
    std::uint16_t lists[2][tile_pixels];
    std::size_t listed = 0;  // in the list of before
    double* signals_before = nullptr;
    std::size_t turn = 0;
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      for (const PixelsOfOne& ones : scratch.singles_[lane].ones) {
        list_ones(part, ones, lists[turn]);
        turn = 1 - turn;
        add_ones(part, {lists[turn], listed}, signals_before);
        listed = ones.count;
        signals_before = sums.singles(lane);
      }
    }
    add_ones(part, {lists[1 - turn], listed}, signals_before);

    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      add_singles(part, first_pixel, lane, scratch.singles_[lane].others, corrections, sums);
    }
  }
}

}  // namespace annulus::kernels::openmp
