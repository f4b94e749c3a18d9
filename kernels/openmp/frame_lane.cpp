#include "kernels/openmp/frame_lane.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/errors.hpp"
#include "base/every_cpu.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/openmp/bad_intervals.hpp"

namespace annulus::kernels::openmp {
namespace {

/// A block with at most one count in so many pixels goes pixel by pixel: about where both ways cost the same.
constexpr std::size_t pixels_per_sparse_count = 64;

// Vectors pass between inlined functions alone: no ABI is at stake.
#pragma GCC diagnostic ignored "-Wpsabi"

constexpr std::uint16_t largest_count = std::numeric_limits<std::uint16_t>::max();

/// Whether a value can be one of a lane's uint16.
template <typename Pixel>
constexpr bool fits_lane(Pixel value) {
  if constexpr (sizeof(Pixel) > 2) return static_cast<std::uint32_t>(value) <= largest_count;
  return std::is_unsigned_v<Pixel> || value >= 0;
}

/// Whether a used pixel is bad or does not fit into uint16.
template <typename Pixel>
ANNULUS_FOR_EVERY_CPU bool any_single(const Pixel* values, const std::uint8_t* used, std::size_t pixels,
                                      const BadIntervals<Pixel>& intervals) {
  const BadIntervals<Pixel> rules = intervals;
  std::uint8_t any = 0;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    const bool single = static_cast<bool>(rules.contain(values[pixel]) | !fits_lane(values[pixel]));
    any |= static_cast<std::uint8_t>(static_cast<std::uint8_t>(single) & used[pixel]);
  }
  return any != 0;
}

template <typename From>
ANNULUS_FOR_EVERY_CPU void to_words(const From* values, std::size_t pixels, std::uint16_t* out) {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) out[pixel] = static_cast<std::uint16_t>(values[pixel]);
}

/// Moves the bad pixels and those that do not fit from `counts`, which `values` were made to, to `singles`.
template <typename Pixel>
void take_singles(const Pixel* values, std::size_t pixels, const std::uint8_t* used,
                  const BadIntervals<Pixel>& intervals, std::size_t first, std::uint16_t* counts,
                  std::vector<SinglePixel>& singles) {
  constexpr std::size_t part = 64;
  for (std::size_t begin = 0; begin < pixels; begin += part) {
    const std::size_t end = std::min(begin + part, pixels);
    if (!any_single<Pixel>(values + begin, used + begin, end - begin, intervals)) continue;
    for (std::size_t pixel = begin; pixel < end; ++pixel) {
      if (used[pixel] == 0) continue;
      const Pixel value = values[pixel];
      const bool bad = intervals.contain(value);
      if (!bad && fits_lane(value)) continue;
      singles.push_back({static_cast<std::uint16_t>(first + pixel), bad, static_cast<double>(value)});
      counts[pixel] = 0;
    }
  }
}

/// 512 bits, one a pixel.
typedef std::uint64_t PixelBits __attribute__((vector_size(64)));
constexpr std::size_t words_per_bits = sizeof(PixelBits) / 8;

/// Counts of sparse blocks seldom have more bits.
constexpr std::size_t low_planes = 4;

struct NonzeroPixels {
  std::size_t count = 0;
  bool beyond_low_planes = false;
};

/// One bit for each used pixel in which one of the planes has one. Stops with more than `most` of them. `words` of 64
/// pixels, a multiple of words_per_bits.
template <std::size_t plane_count>
ANNULUS_FOR_EVERY_CPU NonzeroPixels nonzero_pixels(const std::byte* planes, std::size_t words, const std::uint8_t* used,
                                                   std::size_t most, std::uint64_t* bits) {
  std::size_t count = 0;
  PixelBits beyond = {};
  for (std::size_t word = 0; word < words && count <= most; word += words_per_bits) {
    PixelBits low = {};
    PixelBits high = {};
#pragma GCC unroll 32
    for (std::size_t plane = 0; plane < plane_count; ++plane) {
      PixelBits value;
      std::memcpy(&value, planes + (plane * words + word) * 8, sizeof value);
      (plane < low_planes ? low : high) |= value;
    }
    PixelBits mask;
    std::memcpy(&mask, used + word * 8, sizeof mask);
    beyond |= high & mask;
    const PixelBits any = (low | high) & mask;
    std::memcpy(bits + word, &any, sizeof any);
    for (std::size_t part = 0; part < words_per_bits; ++part) {
      count += static_cast<std::size_t>(std::popcount(bits[word + part]));
    }
  }
  std::uint64_t any_beyond = 0;
  for (std::size_t part = 0; part < words_per_bits; ++part) any_beyond |= beyond[part];
  return {count, any_beyond != 0};
}

/// Whether a used pixel has a bit in one of the planes; `words` as above.
template <std::size_t plane_count>
ANNULUS_FOR_EVERY_CPU bool any_bit(const std::byte* planes, std::size_t words, const std::uint8_t* used) {
  PixelBits any = {};
  for (std::size_t word = 0; word < words; word += words_per_bits) {
    PixelBits here = {};
    PixelBits value;
#pragma GCC unroll 32
    for (std::size_t plane = 0; plane < plane_count; ++plane) {
      std::memcpy(&value, planes + (plane * words + word) * 8, sizeof value);
      here |= value;
    }
    std::memcpy(&value, used + word * 8, sizeof value);
    any |= here & value;
  }
  std::uint64_t all = 0;
  for (std::size_t part = 0; part < words_per_bits; ++part) all |= any[part];
  return all != 0;
}

/// The numbers of the pixels that have a bit, ascending. Most words have none or one: a branch on either would be
/// mistaken once a pixel.
/// @param pixels  room for two more than there are
std::size_t list_pixels(const std::uint64_t* bits, std::size_t words, std::uint16_t* pixels) {
  std::uint8_t filled[tile_pixels / 64];
  std::size_t filled_words = 0;
  for (std::size_t word = 0; word < words; ++word) {
    filled[filled_words] = static_cast<std::uint8_t>(word);
    filled_words += bits[word] != 0 ? 1 : 0;
  }
  std::size_t count = 0;
  for (std::size_t index = 0; index < filled_words; ++index) {
    const std::size_t word = filled[index];
    std::uint64_t left = bits[word];
    do {
      pixels[count] = static_cast<std::uint16_t>(word * 64 + static_cast<std::size_t>(std::countr_zero(left)));
      left &= left - 1;
      pixels[count + 1] = static_cast<std::uint16_t>(word * 64 + static_cast<std::size_t>(std::countr_zero(left)));
      count += left != 0 ? 2 : 1;
      left &= left - 1;
    } while (left != 0);
  }
  return count;
}

/// Values of the pixels of a block, from its first `plane_count` planes; the others have no bits there.
template <std::size_t plane_count, typename Pixel>
void gather_values(const std::byte* planes, std::size_t plane_bytes, const std::uint16_t* pixels, std::size_t count,
                   Pixel* values) {
  for (std::size_t index = 0; index < count; ++index) {
    const std::byte* bits = planes + pixels[index] / 8;
    const unsigned shift = pixels[index] % 8U;
    std::uint32_t value = 0;
#pragma GCC unroll 32
    for (std::size_t plane = 0; plane < plane_count; ++plane) {
      value |= (std::to_integer<std::uint32_t>(bits[plane * plane_bytes]) >> shift & 1U) << plane;
    }
    values[index] = static_cast<Pixel>(value);
  }
}

/// Where the counts of a piece go: as bytes for as long as they are such. Nothing is written before the first count.
class PieceWriter {
 public:
  explicit PieceWriter(std::uint16_t* out) : words_(out), bytes_(reinterpret_cast<std::uint8_t*>(out) + tile_pixels) {}

  /// Whether all counts before were bytes, or 0.
  [[nodiscard]] bool takes_bytes() const { return kind_ != Kind::words; }
  /// The place of the counts behind the first `done`, which were written or are all 0.
  std::uint8_t* bytes(std::size_t done) {
    if (kind_ == Kind::zeros) std::fill_n(bytes_, done, std::uint8_t{0});
    kind_ = Kind::bytes;
    return bytes_ + done;
  }
  std::uint16_t* words(std::size_t done) {
    if (kind_ == Kind::zeros) std::fill_n(words_, done, std::uint16_t{0});
    if (kind_ == Kind::bytes) {  // the bytes lie in the upper half of the words
      for (std::size_t pixel = 0; pixel < done; ++pixel) words_[pixel] = bytes_[pixel];
    }
    kind_ = Kind::words;
    return words_ + done;
  }
  void zeros(std::size_t done, std::size_t count) {
    if (kind_ == Kind::bytes) std::fill_n(bytes_ + done, count, std::uint8_t{0});
    if (kind_ == Kind::words) std::fill_n(words_ + done, count, std::uint16_t{0});
  }
  [[nodiscard]] FrameLane::Piece piece() const {
    return {kind_ == Kind::bytes ? bytes_ : nullptr, kind_ == Kind::words ? words_ : nullptr, DecodeStatus::ok};
  }

 private:
  enum class Kind : std::uint8_t { zeros, bytes, words };
  std::uint16_t* words_;
  std::uint8_t* bytes_;
  Kind kind_ = Kind::zeros;
};

}  // namespace

DecodeStatus FrameLane::open(const EncodedFrame& frame, PixelType type, std::size_t pixels, SimdPath path) {
  const std::size_t pixel_bytes = size_of(type);
  type_ = type;
  path_ = path;
  raw_ = nullptr;
  blocks_ = {};
  status_ = DecodeStatus::ok;
  if (frame.encoding == Encoding::raw) {
    raw_ = frame.bytes.data();
    if (frame.bytes.size() != pixels * pixel_bytes) status_ = DecodeStatus::wrong_size;
    return status_;
  }
  status_ = blocks_.open(frame.bytes, pixel_bytes, pixels * pixel_bytes);
  const std::size_t block_pixels = blocks_.block_bytes() / pixel_bytes;
  const bool whole_frame = block_pixels >= pixels - pixels % 8;  // one block, however large
  if (status_ == DecodeStatus::ok && (whole_frame || block_pixels == 0 || tile_pixels % block_pixels != 0)) {
    auto decoded = std::make_shared<std::vector<std::byte>>(pixels * pixel_bytes);
    status_ = decode_bslz4(frame.bytes, pixel_bytes, *decoded);
    raw_ = decoded->data();
    decoded_ = std::move(decoded);
  }
  return status_;
}

void FrameLane::skip() {
  if (status_ != DecodeStatus::ok) return;
  if (raw_ != nullptr) {
    raw_ += tile_pixels * size_of(type_);
    return;
  }
  const std::size_t blocks = tile_pixels * size_of(type_) / blocks_.block_bytes();
  for (std::size_t block = 0; block < blocks && status_ == DecodeStatus::ok; ++block) status_ = blocks_.skip();
}

template <typename Pixel>
FrameLane::Piece FrameLane::decode(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                   std::size_t first, LaneScratch& scratch, std::uint16_t* out,
                                   std::vector<SinglePixel>& singles) {
  constexpr std::size_t plane_count = 8 * sizeof(Pixel);
  const BadIntervals<Pixel> intervals(rules);
  // Where no dummy lies among this type's values, a pixel that is single has bits in upper planes: of wide types in
  // those beyond uint16, of uint16, whose maximum alone is bad, in any one.
  const bool planes_tell = sizeof(Pixel) > 1 && intervals.first_b > intervals.last_b;
  constexpr std::size_t first_telling = sizeof(Pixel) > 2 ? 16 : plane_count - 1;
  PieceWriter writer(out);
  const std::size_t singles_before = singles.size();
  for (std::size_t done = 0; done < pixels;) {
    const std::size_t bytes = blocks_.next_bytes();
    const std::size_t block = bytes / sizeof(Pixel);
    const std::uint8_t* used_bytes = used.bytes + done;
    const std::uint8_t* used_bits = used.bits + done / 8;
    if (block == 0) {  // fewer than 8 pixels, behind the last block
      std::span<const std::byte> rest;
      status_ = blocks_.rest(rest);
      if (status_ != DecodeStatus::ok) break;
      Pixel values[8];
      std::memcpy(values, rest.data(), rest.size());
      std::uint16_t* counts = writer.words(done);
      to_words(values, pixels - done, counts);
      take_singles(values, pixels - done, used_bytes, intervals, first + done, counts, singles);
      break;
    }
    status_ = blocks_.next(path_, scratch.planes);
    if (status_ != DecodeStatus::ok) break;

    const std::byte* planes = scratch.planes;
    const std::size_t plane_bytes = block / 8;
    const std::size_t words = block / 64;
    const bool whole_words = block % (64 * words_per_bits) == 0;
    const std::size_t most = block / pixels_per_sparse_count;
    std::uint64_t bits[tile_pixels / 64];
    std::uint16_t numbers[tile_pixels / pixels_per_sparse_count + 2];
    Pixel few[tile_pixels / pixels_per_sparse_count];

    const auto add_singles = [&](std::size_t count) {
      const std::size_t before = singles.size();
      singles.resize(before + count);
      SinglePixel* single = singles.data() + before;
      for (std::size_t index = 0; index < count; ++index) {
        single[index] = {static_cast<std::uint16_t>(first + done + numbers[index]), intervals.contain(few[index]),
                         static_cast<double>(few[index])};
      }
    };

    NonzeroPixels nonzero{block, true};
    if (whole_words) nonzero = nonzero_pixels<plane_count>(planes, words, used_bits, most, bits);
    if (nonzero.count <= most) {
      const std::size_t count = list_pixels(bits, words, numbers);
      nonzero.beyond_low_planes ? gather_values<plane_count>(planes, plane_bytes, numbers, count, few)
                                : gather_values<low_planes>(planes, plane_bytes, numbers, count, few);
      add_singles(count);
      writer.zeros(done, block);
      done += block;
      continue;
    }

    // Of counts below 256 the first eight planes are all that there is, but for a few single pixels.
    const bool tells = planes_tell && whole_words;
    bool as_bytes = tells && writer.takes_bytes();
    std::size_t count = 0;
    if (as_bytes && any_bit<plane_count - 8>(planes + 8 * plane_bytes, words, used_bits)) {
      as_bytes = nonzero_pixels<plane_count - 8>(planes + 8 * plane_bytes, words, used_bits, most, bits).count <= most;
      if (as_bytes) {
        count = list_pixels(bits, words, numbers);
        gather_values<plane_count>(planes, plane_bytes, numbers, count, few);
        as_bytes =
            std::all_of(few, few + count, [&](Pixel value) { return intervals.contain(value) || !fits_lane(value); });
      }
    }
    if (as_bytes) {
      std::uint8_t* counts = writer.bytes(done);
      bit_unshuffle(path_, {planes, block}, 1, {reinterpret_cast<std::byte*>(counts), block});
      for (std::size_t index = 0; index < count; ++index) counts[numbers[index]] = 0;
      add_singles(count);
    } else {
      std::uint16_t* counts = writer.words(done);
      auto* place = sizeof(Pixel) == 2 ? reinterpret_cast<std::byte*>(counts) : scratch.values;
      const auto* values = reinterpret_cast<const Pixel*>(place);
      bit_unshuffle(path_, {planes, bytes}, sizeof(Pixel), {place, bytes});
      if (sizeof(Pixel) != 2) to_words(values, block, counts);
      if (!tells || any_bit<plane_count - first_telling>(planes + first_telling * plane_bytes, words, used_bits)) {
        take_singles(values, block, used_bytes, intervals, first + done, counts, singles);
      }
    }
    done += block;
  }
  if (status_ != DecodeStatus::ok) {
    singles.resize(singles_before);
    return {nullptr, nullptr, status_};
  }
  return writer.piece();
}

template <typename Pixel>
FrameLane::Piece FrameLane::read_typed(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                       std::size_t first, LaneScratch& scratch, std::uint16_t* out,
                                       std::vector<SinglePixel>& singles) {
  if (raw_ == nullptr) return decode<Pixel>(pixels, used, rules, first, scratch, out, singles);
  const auto* values = reinterpret_cast<const Pixel*>(raw_);
  raw_ += pixels * sizeof(Pixel);
  const BadIntervals<Pixel> intervals(rules);
  const bool with_singles = any_single<Pixel>(values, used.bytes, pixels, intervals);
  if (sizeof(Pixel) == 2 && !with_singles) return {nullptr, reinterpret_cast<const std::uint16_t*>(values), status_};
  to_words(values, pixels, out);
  if (with_singles) take_singles(values, pixels, used.bytes, intervals, first, out, singles);
  return {nullptr, out, status_};
}

FrameLane::Piece FrameLane::read(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                 std::size_t first, LaneScratch& scratch, std::uint16_t* out,
                                 std::vector<SinglePixel>& singles) {
  if (status_ != DecodeStatus::ok) return {nullptr, nullptr, status_};
  return visit_pixel_type(type_, [&]<typename Pixel>() -> Piece {
    if constexpr (std::is_integral_v<Pixel>) {
      return read_typed<Pixel>(pixels, used, rules, first, scratch, out, singles);
    } else {
      throw InternalError("a lane of frames that are not integers");
    }
  });
}

}  // namespace annulus::kernels::openmp
