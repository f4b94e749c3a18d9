// Counts times the matrix tile by tile: whichever way a frame's counts take (as bytes, as uint16, pixel by pixel), its
// sums are those of the definition, and the same to the last bit beside any other frames and on any instruction set.
#include "kernels/openmp/counts_product.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "tests/fuzz/bslz4_fuzz.hpp"

namespace {
using namespace annulus::kernels;
namespace fuzz = annulus::fuzz;
using namespace annulus::kernels::openmp;

constexpr std::uint32_t bins = 61;
/// Two whole tiles and a bit, whose last block is short and followed by pixels that no block holds.
constexpr std::size_t pixels = 2 * pair_tile_pixels + tile_pixels + 83;

/// Most pixels lie in two bins, some in one, in three, or in none.
CsrMatrix some_matrix() {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<float> weight(0.01F, 1.0F);
  std::vector<std::vector<std::pair<std::uint32_t, float>>> rows(bins);
  for (std::uint32_t pixel = 0; pixel < pixels; ++pixel) {
    const std::uint32_t first = pixel / 64 % (bins - 2);
    const std::uint32_t count = pixel % 41 == 0 ? 0 : pixel % 37 == 0 ? 3 : pixel % 5 == 0 ? 1 : 2;
    for (std::uint32_t bin = first; bin < first + count; ++bin) rows[bin].push_back({pixel, weight(random)});
  }
  CsrMatrix matrix;
  matrix.rows = bins;
  matrix.columns = pixels;
  matrix.offsets = {0};
  for (const auto& row : rows) {
    for (const auto& [pixel, share] : row) {
      matrix.pixels.push_back(pixel);
      matrix.weights.push_back(share);
    }
    matrix.offsets.push_back(matrix.pixels.size());
  }
  return matrix;
}

template <typename Pixel>
using Frame = std::vector<Pixel>;

/// Counts up to `most` in a share of all pixels.
template <typename Pixel>
Frame<Pixel> counts_up_to(Pixel most, double share, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform;
  Frame<Pixel> frame(pixels);
  for (Pixel& value : frame) {
    if (uniform(random) < share) value = static_cast<Pixel>(1 + uniform(random) * (static_cast<double>(most) - 0.5));
  }
  return frame;
}

/// Frames of every kind that goes a way of its own, and of those that change from one way to another.
template <typename Pixel>
std::vector<Frame<Pixel>> all_kinds() {
  constexpr auto largest = std::numeric_limits<Pixel>::max();
  constexpr std::size_t block = 8192 / sizeof(Pixel);
  const auto most = static_cast<Pixel>(sizeof(Pixel) == 1 ? largest - 1 : 20000);
  std::vector<Frame<Pixel>> frames;
  frames.emplace_back(pixels);
  frames.push_back(counts_up_to<Pixel>(9, 0.5, 1));
  frames.push_back(counts_up_to<Pixel>(most, 0.9, 2));
  frames.push_back(counts_up_to<Pixel>(3, 0.004, 3));     // sparse, counts of few bits
  frames.push_back(counts_up_to<Pixel>(most, 0.004, 4));  // sparse, counts of many
  // Small counts with saturated pixels: one alone, and many.
  frames.push_back(counts_up_to<Pixel>(100, 0.7, 5));
  frames.back()[pair_tile_pixels + 5] = largest;
  frames.push_back(counts_up_to<Pixel>(100, 0.7, 6));
  for (std::size_t pixel = 3; pixel < pixels; pixel += 29) frames.back()[pixel] = largest;
  // Small ones, then larger ones, in the third piece of the second tile and within a piece of several blocks.
  for (const std::size_t place : {pair_tile_pixels + 2 * tile_pixels + 17, tile_pixels + block + 9}) {
    frames.push_back(counts_up_to<Pixel>(100, 0.7, 7));
    frames.back()[place] = most;
  }
  // Sparse blocks beside others, either first.
  for (const std::size_t odd : {0U, 1U}) {
    frames.push_back(counts_up_to<Pixel>(100, 0.7, 8));
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      if (pixel / block % 2 == odd && pixel % 511 != 0) frames.back()[pixel] = 0;
    }
  }
  if constexpr (std::is_signed_v<Pixel>) {
    frames.push_back(counts_up_to<Pixel>(100, 0.7, 9));
    for (std::size_t pixel = 1; pixel < pixels; pixel += 1013) frames.back()[pixel] = -1;
  }
  if constexpr (sizeof(Pixel) > 2) {
    frames.push_back(counts_up_to<Pixel>(100, 0.7, 10));
    for (std::size_t pixel = 2; pixel < pixels; pixel += 917) {
      frames.back()[pixel] = static_cast<Pixel>(65000 + pixel);
    }
  }
  // At the border of a byte.
  for (const int border : {127, 255, 256}) {
    if (border > static_cast<int>(most)) continue;
    frames.push_back(counts_up_to<Pixel>(static_cast<Pixel>(border), 0.7, 11));
    frames.back()[100] = frames.back()[9000] = static_cast<Pixel>(border);
  }
  return frames;
}

/// Frames of which a tile, or a part of one, is sparse.
template <typename Pixel>
std::vector<Frame<Pixel>> sparse_kinds() {
  constexpr auto largest = std::numeric_limits<Pixel>::max();
  constexpr std::size_t block = 8192 / sizeof(Pixel);
  std::vector<Frame<Pixel>> frames;
  // Behind a sparse tile: blocks that go pixel by pixel for that alone, and one with more.
  frames.push_back(counts_up_to<Pixel>(3, 0.004, 1));
  const Frame<Pixel> some = counts_up_to<Pixel>(5, 0.04, 2);
  std::copy_n(some.begin() + pair_tile_pixels, 3 * block, frames.back().begin() + pair_tile_pixels);
  const Frame<Pixel> more = counts_up_to<Pixel>(5, 0.1, 3);
  frames.push_back(frames.back());
  std::copy_n(more.begin(), block, frames.back().begin() + pair_tile_pixels + block);
  // The same counts in its first tile, of which none is known to be sparse.
  frames.push_back(some);
  // A dense tile, then an empty one, then a sparse one.
  frames.push_back(more);
  std::fill(frames.back().begin() + pair_tile_pixels, frames.back().begin() + 2 * pair_tile_pixels, Pixel{0});
  // Gaps of the detector: all planes above the counts are alike, and not empty.
  for (const std::size_t kind : {0U, 1U, 3U}) {
    frames.push_back(frames[kind]);
    for (std::size_t pixel = 0; pixel < pixels; pixel += 41) frames.back()[pixel] = largest;  // in no bin
    frames.back()[pair_tile_pixels + 7] = largest;                                            // in two
  }
  // All counts are 1, or none is.
  for (const int value : {1, 2, 4}) {
    frames.emplace_back(pixels);
    for (std::size_t pixel = 5; pixel < pixels; pixel += 97) frames.back()[pixel] = static_cast<Pixel>(value);
  }
  return frames;
}

struct Sums {
  std::vector<double> signal, variance, removed;
  bool operator==(const Sums&) const = default;
};

class CountsProductTest : public ::testing::Test {
 protected:
  template <typename Pixel>
  static constexpr PixelType type_of() {
    PixelType found = PixelType::f64;
    for (const PixelType type :
         {PixelType::u8, PixelType::u16, PixelType::u32, PixelType::i8, PixelType::i16, PixelType::i32}) {
      visit_pixel_type(type, [&]<typename Other>() {
        if (std::is_same_v<Pixel, Other>) found = type;
      });
    }
    return found;
  }

  template <typename Pixel>
  std::vector<Sums> multiply(std::span<const Frame<Pixel>> frames, Encoding encoding, SimdPath path) {
    std::vector<std::vector<std::byte>> chunks;
    std::vector<FrameLane> lanes(frames.size());
    for (const Frame<Pixel>& frame : frames) {
      const auto bytes = std::as_bytes(std::span(frame));
      chunks.push_back(encoding == Encoding::raw ? std::vector(bytes.begin(), bytes.end())
                                                 : fuzz::encode_by_definition(bytes, sizeof(Pixel), 8192, encoding));
    }
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      EXPECT_EQ(lanes[lane].open({chunks[lane], encoding}, type_of<Pixel>(), pixels, path), DecodeStatus::ok);
    }
    CountSums sums;
    sums.reset(bins);
    std::vector<DecodeStatus> status(lanes.size(), DecodeStatus::ok);
    product_.add(lanes, 0, product_.tiles(), tiled_.used(), {normalisation_, {}, PairMoments::poisson, rules_}, path,
                 scratch_, sums, status);
    std::vector<Sums> all;
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      EXPECT_EQ(status[lane], DecodeStatus::ok);
      Sums& one = all.emplace_back();
      for (std::size_t bin = 0; bin < bins; ++bin) {
        const CountSums::Removed* removed = sums.removed(bin, lane);
        one.signal.push_back(sums.signal(bin, lane));
        one.variance.push_back(sums.variance(bin, lane));
        one.removed.push_back(removed == nullptr ? 0.0 : removed->normalisation);
      }
    }
    return all;
  }

  template <typename Pixel>
  Sums by_definition(const Frame<Pixel>& frame) const {
    Sums sums{std::vector(bins, 0.0), std::vector(bins, 0.0), std::vector(bins, 0.0)};
    for (std::size_t bin = 0; bin < bins; ++bin) {
      for (std::uint64_t entry = matrix_.offsets[bin]; entry < matrix_.offsets[bin + 1]; ++entry) {
        const Pixel value = frame[matrix_.pixels[entry]];
        const double weight = matrix_.weights[entry];
        if (is_bad(value, rules_)) {
          sums.removed[bin] += weight * normalisation_[matrix_.pixels[entry]];
          continue;
        }
        sums.signal[bin] += weight * static_cast<double>(value);
        sums.variance[bin] += weight * weight * std::max(1.0, static_cast<double>(value));
      }
    }
    return sums;
  }

  template <typename Pixel>
  void expect_the_definition(const std::vector<Frame<Pixel>>& frames) {
    ASSERT_LE(frames.size(), lane_count);
    const std::vector<Sums> plain = multiply<Pixel>(frames, Encoding::bslz4, SimdPath::plain);
    // Eight multiply-adds in float32 and the rounding of a squared weight: 10 x 2^-24 of sums without cancellation
    // (saturated pixels take back a variance of 1 each, of sums that they seldom halve).
    const double tolerance = 20.0 / (1 << 24);
    for (std::size_t lane = 0; lane < frames.size(); ++lane) {
      const Sums expected = by_definition(frames[lane]);
      for (std::size_t bin = 0; bin < bins; ++bin) {
        const std::string where = "frame " + std::to_string(lane) + ", bin " + std::to_string(bin);
        ASSERT_NEAR(plain[lane].signal[bin], expected.signal[bin], tolerance * expected.signal[bin]) << where;
        ASSERT_NEAR(plain[lane].variance[bin], expected.variance[bin], tolerance * expected.variance[bin]) << where;
        ASSERT_NEAR(plain[lane].removed[bin], expected.removed[bin], 1e-12 * expected.removed[bin]) << where;
      }
    }
    for (const SimdPath path : available_paths()) {
      for (const Encoding& encoding : {Encoding::bslz4, Encoding::bszstd, Encoding::raw}) {
        EXPECT_EQ(multiply<Pixel>(frames, encoding, path), plain) << name_of(path) << ", " << name_of(encoding);
      }
      for (std::size_t lane = 0; lane < frames.size(); ++lane) {
        const auto alone = multiply<Pixel>(std::span(frames).subspan(lane, 1), Encoding::bslz4, path);
        EXPECT_EQ(alone.front(), plain[lane]) << "frame " << lane << " alone, " << name_of(path);
      }
    }
  }

  CsrMatrix matrix_ = some_matrix();
  TiledMatrix tiled_{matrix_, 1};
  CountsProduct product_{tiled_, 1};
  CountsProduct::Scratch scratch_;
  std::vector<float> normalisation_ = std::vector<float>(pixels, 1.5F);
  BadPixelRules rules_;
};

TEST_F(CountsProductTest, FramesOfEveryKindAndTypeGiveTheSumsOfTheDefinition) {
  rules_.negative = true;
  expect_the_definition(all_kinds<std::uint8_t>());
  expect_the_definition(all_kinds<std::uint16_t>());
  expect_the_definition(all_kinds<std::uint32_t>());
  expect_the_definition(all_kinds<std::int16_t>());
  expect_the_definition(all_kinds<std::int32_t>());
}

TEST_F(CountsProductTest, FramesWithSparseTilesDoToo) {
  rules_.negative = true;
  expect_the_definition(sparse_kinds<std::uint16_t>());
  expect_the_definition(sparse_kinds<std::uint32_t>());
  expect_the_definition(sparse_kinds<std::int32_t>());
}

TEST_F(CountsProductTest, ADummyAmongTheCountsIsBad) {
  rules_.negative = true;
  rules_.dummy_on = true;
  for (const double dummy : {1.0, 7.0}) {  // 1: what most counts of sparse blocks are
    rules_.dummy = dummy;
    expect_the_definition(all_kinds<std::uint16_t>());
    expect_the_definition(all_kinds<std::int32_t>());
    expect_the_definition(sparse_kinds<std::uint16_t>());
  }
}

TEST_F(CountsProductTest, ADummyOfZeroIsBadInEmptyBlocksToo) {
  rules_.dummy_on = true;
  const std::vector<Frame<std::uint16_t>> frames{Frame<std::uint16_t>(pixels),
                                                 counts_up_to<std::uint16_t>(20000, 0.004, 12)};
  for (const Encoding& encoding : {Encoding::bslz4, Encoding::raw}) {
    const std::vector<Sums> sums = multiply<std::uint16_t>(frames, encoding, best_path());
    for (std::size_t lane = 0; lane < frames.size(); ++lane) {
      const Sums expected = by_definition(frames[lane]);
      for (std::size_t bin = 0; bin < bins; ++bin) {
        ASSERT_NEAR(sums[lane].signal[bin], expected.signal[bin], 1e-6 * expected.signal[bin]) << name_of(encoding);
        ASSERT_NEAR(sums[lane].removed[bin], expected.removed[bin], 1e-12 * expected.removed[bin]) << name_of(encoding);
      }
    }
  }
}

TEST_F(CountsProductTest, CountsAsBytesGiveTheSumsOfCountsAsTheyCame) {
  // No block with so few counts that they go by themselves.
  std::vector<Frame<std::uint16_t>> frames;
  for (unsigned seed = 0; seed < lane_count; ++seed) frames.push_back(counts_up_to<std::uint16_t>(200, 0.8, seed));
  frames[1][pair_tile_pixels + tile_pixels + 1] = 300;  // the first tile is all bytes
  for (const SimdPath path : available_paths()) {
    EXPECT_EQ(multiply<std::uint16_t>(frames, Encoding::bslz4, path),
              multiply<std::uint16_t>(frames, Encoding::raw, path))
        << name_of(path);
  }
}

}  // namespace
