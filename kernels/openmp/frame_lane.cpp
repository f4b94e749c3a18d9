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
#include "kernels/openmp/pair_product.hpp"

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

template <typename Pixel>
SinglePixel single_pixel(std::size_t pixel, bool bad, Pixel value) {
  return {static_cast<std::uint16_t>(pixel), static_cast<std::uint64_t>(bad), std::int64_t{value}};
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
      singles.push_back(single_pixel(first + pixel, bad, value));
      counts[pixel] = 0;
    }
  }
}

/// Blocks of bit planes whose pixels are no multiple of this are not looked through for counts.
constexpr std::size_t sparse_block_pixels = 512;

/// Finds the used pixels that are not 0, one bit each; stops with more than `most`. `pixels` is a multiple of 64.
template <typename Pixel>
ANNULUS_FOR_EVERY_CPU std::size_t find_nonzero(const Pixel* values, std::size_t pixels, const std::uint8_t* used,
                                               std::size_t most, std::uint64_t* bits) {
  std::size_t count = 0;
  for (std::size_t word = 0; word < pixels / 64 && count <= most; ++word) {
    std::uint8_t flags[64];
    for (std::size_t pixel = 0; pixel < 64; ++pixel) {
      flags[pixel] = static_cast<std::uint8_t>(values[word * 64 + pixel] != 0);
    }
    // The product brings the flag in byte i to bit i of the last byte; no two flags meet elsewhere.
    std::uint64_t found = 0;
    for (std::size_t eight = 0; eight < 64; eight += 8) {
      std::uint64_t gathered;
      std::memcpy(&gathered, flags + eight, sizeof gathered);
      found |= (gathered * 0x0102040810204080U) >> 56 << eight;
    }
    std::uint64_t mask;
    std::memcpy(&mask, used + word * 8, sizeof mask);
    bits[word] = found & mask;
    count += static_cast<std::size_t>(std::popcount(bits[word]));
  }
  return count;
}

/// Moves all counts of a block to `singles` where they are few, as decode() does by its planes.
/// @param used  one bit a pixel
template <typename Pixel>
bool take_sparse_block(const Pixel* values, std::size_t pixels, const std::uint8_t* used,
                       const BadIntervals<Pixel>& intervals, std::size_t first, std::vector<SinglePixel>& singles) {
  // Blocks of bytes fill more than a tile, so that no such frame comes in planes.
  if (sizeof(Pixel) == 1 || pixels % sparse_block_pixels != 0 || intervals.contain(Pixel{0})) return false;
  std::uint64_t bits[tile_pixels / 64];
  const std::size_t most = pixels / pixels_per_sparse_count;
  if (find_nonzero(values, pixels, used, most, bits) > most) return false;
  for (std::size_t word = 0; word < pixels / 64; ++word) {
    for (std::uint64_t left = bits[word]; left != 0; left &= left - 1) {
      const std::size_t pixel = word * 64 + static_cast<std::size_t>(std::countr_zero(left));
      singles.push_back(single_pixel(first + pixel, intervals.contain(values[pixel]), values[pixel]));
    }
  }
  return true;
}

/// 512 bits, one a pixel.
typedef std::uint64_t PixelBits __attribute__((vector_size(64)));
constexpr std::size_t words_per_bits = sizeof(PixelBits) / 8;
static_assert(sparse_block_pixels == 8 * sizeof(PixelBits));

/// The used pixels of a block that are not 0.
struct NonzeroPixels {
  std::size_t count = 0;
  std::uint64_t filled = 0;                ///< one bit for each of the `bits` that is not 0, the lowest for the first
  std::uint64_t bits[tile_pixels / 64];    ///< one bit a pixel
  std::uint64_t beyond[tile_pixels / 64];  ///< those of them that have a bit in other planes than the first
};
static_assert(tile_pixels / 64 <= 64);

/// Finds the used pixels that have a bit in one of the planes. Stops with more than `most` of them. `words` of 64
/// pixels, a multiple of words_per_bits.
template <std::size_t plane_count>
ANNULUS_FOR_EVERY_CPU void find_nonzero(const std::byte* planes, std::size_t words, const std::uint8_t* used,
                                        std::size_t most, NonzeroPixels& found) {
  typedef std::uint8_t Flags __attribute__((vector_size(words_per_bits)));
  std::size_t count = 0;
  std::uint64_t filled = 0;
  for (std::size_t word = 0; word < words && count <= most; word += words_per_bits) {
    PixelBits first;
    PixelBits beyond = {};
    std::memcpy(&first, planes + word * 8, sizeof first);
#pragma GCC unroll 32
    for (std::size_t plane = 1; plane < plane_count; ++plane) {
      PixelBits value;
      std::memcpy(&value, planes + (plane * words + word) * 8, sizeof value);
      beyond |= value;
    }
    PixelBits mask;
    std::memcpy(&mask, used + word * 8, sizeof mask);
    beyond &= mask;
    const PixelBits any = (first & mask) | beyond;
    std::memcpy(found.bits + word, &any, sizeof any);
    std::memcpy(found.beyond + word, &beyond, sizeof beyond);
    // A byte for each word, of all ones or none: bit i of byte i is kept, and the product adds them up in the last one.
    const Flags flags = __builtin_convertvector(any != 0, Flags);
    std::uint64_t gathered;
    static_assert(sizeof gathered == sizeof flags);
    std::memcpy(&gathered, &flags, sizeof gathered);
    filled |= ((gathered & 0x8040201008040201U) * 0x0101010101010101U) >> 56 << word;
    for (std::size_t part = 0; part < words_per_bits; ++part) {
      count += static_cast<std::size_t>(std::popcount(found.bits[word + part]));
    }
  }
  found.count = count;
  found.filled = filled;
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

/// The value of one pixel of a block.
template <typename Pixel>
Pixel value_of(const std::byte* planes, std::size_t plane_bytes, std::size_t pixel) {
  std::uint32_t value = 0;
#pragma GCC unroll 32
  for (std::size_t plane = 0; plane < 8 * sizeof(Pixel); ++plane) {
    value |= (std::to_integer<std::uint32_t>(planes[plane * plane_bytes + pixel / 8]) >> (pixel % 8) & 1U) << plane;
  }
  return static_cast<Pixel>(value);
}

/// Appends what was found in a block to `singles`, in the order of the pixels; the block's first one has the number
/// `first`.
template <typename Pixel>
void list_pixels(const NonzeroPixels& found, const std::byte* planes, std::size_t plane_bytes, std::size_t first,
                 const BadIntervals<Pixel>& intervals, std::vector<SinglePixel>& singles) {
  const std::size_t before = singles.size();
  singles.resize(before + found.count + 1);  // one may be written beyond the last
  SinglePixel* place = singles.data() + before;
  const bool bad_one = intervals.contain(Pixel{1});
  for (std::uint64_t filled = found.filled; filled != 0; filled &= filled - 1) {
    const auto word = static_cast<std::size_t>(std::countr_zero(filled));
    const std::size_t first_of_word = first + word * 64;
    SinglePixel* const begin = place;
    // As if all were 1, which most are. Most words have one or two: a branch between these would be mistaken often.
    std::uint64_t left = found.bits[word];
    do {
      place[0] = single_pixel(first_of_word + static_cast<std::size_t>(std::countr_zero(left)), bad_one, Pixel{1});
      left &= left - 1;
      place[1] = single_pixel(first_of_word + static_cast<std::size_t>(std::countr_zero(left)), bad_one, Pixel{1});
      place += left != 0 ? 2 : 1;
      left &= left - 1;
    } while (left != 0);
    for (std::uint64_t beyond = found.beyond[word]; beyond != 0; beyond &= beyond - 1) {
      const auto bit = static_cast<std::size_t>(std::countr_zero(beyond));
      const auto value = value_of<Pixel>(planes, plane_bytes, word * 64 + bit);
      const std::uint64_t of_those_before = found.bits[word] & ((std::uint64_t{1} << bit) - 1);
      begin[std::popcount(of_those_before)] = single_pixel(first_of_word + bit, intervals.contain(value), value);
    }
  }
  singles.resize(before + found.count);
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
    if (kind_ == Kind::bytes) widen(bytes_, done, words_);  // which lie in the upper half of the words
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
  if (frame.encoding.shuffle == Shuffle::bits) {
    status_ = blocks_.open(frame, pixel_bytes, pixels * pixel_bytes);
    const std::size_t block_pixels = blocks_.block_bytes() / pixel_bytes;
    const bool whole_frame = block_pixels >= pixels - pixels % 8;  // one block, however large
    const bool in_tiles = !whole_frame && block_pixels != 0 && tile_pixels % block_pixels == 0;
    if (status_ != DecodeStatus::ok || in_tiles) return status_;
  }
  const std::shared_ptr<std::byte[]> decoded = std::make_shared_for_overwrite<std::byte[]>(pixels * pixel_bytes);
  status_ = kernels::decode(frame, pixel_bytes, {decoded.get(), pixels * pixel_bytes});
  raw_ = decoded.get();
  decoded_ = decoded;
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
    const bool whole_words = block % sparse_block_pixels == 0;
    const std::size_t most = block / pixels_per_sparse_count;
    NonzeroPixels nonzero;

    // Where 0 itself is bad, empty pixels are no less single than others.
    if (whole_words && !intervals.contain(Pixel{0})) {
      find_nonzero<plane_count>(planes, words, used_bits, most, nonzero);
      if (nonzero.count <= most) {
        list_pixels(nonzero, planes, plane_bytes, first + done, intervals, singles);
        writer.zeros(done, block);
        done += block;
        continue;
      }
    }

    // Of counts below 256 the first eight planes are all that there is, but for a few single pixels.
    const bool tells = planes_tell && whole_words;
    bool as_bytes = tells && writer.takes_bytes();
    const std::size_t singles_of_others = singles.size();
    if (as_bytes && any_bit<plane_count - 8>(planes + 8 * plane_bytes, words, used_bits)) {
      find_nonzero<plane_count - 8>(planes + 8 * plane_bytes, words, used_bits, most, nonzero);
      as_bytes = nonzero.count <= most;
      if (as_bytes) {  // if all of these are single pixels
        std::copy_n(nonzero.bits, words, nonzero.beyond);
        list_pixels(nonzero, planes, plane_bytes, first + done, intervals, singles);
        as_bytes = std::all_of(
            singles.data() + singles_of_others, singles.data() + singles.size(),
            [](const SinglePixel& single) { return single.bad != 0 || !fits_lane(std::int64_t{single.count}); });
      }
      if (!as_bytes) singles.resize(singles_of_others);
    }
    if (as_bytes) {
      std::uint8_t* counts = writer.bytes(done);
      bit_unshuffle(path_, {planes, block}, 1, {reinterpret_cast<std::byte*>(counts), block});
      for (std::size_t single = singles_of_others; single < singles.size(); ++single) {
        counts[singles[single].pixel - first - done] = 0;
      }
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
  PieceWriter writer(out);
  for (std::size_t done = 0; done < pixels;) {
    // The blocks that decode() would meet: which pixels are single must not depend on how the frame was stored.
    const std::size_t left = pixels - done;
    const std::size_t block = left < 8 ? left : std::min(default_block_bytes / sizeof(Pixel), left - left % 8);
    const std::uint8_t* used_bytes = used.bytes + done;
    if (take_sparse_block(values + done, block, used.bits + done / 8, intervals, first + done, singles)) {
      writer.zeros(done, block);
    } else {
      const bool with_singles = any_single<Pixel>(values + done, used_bytes, block, intervals);
      if (sizeof(Pixel) == 2 && block == pixels && !with_singles) {
        return {nullptr, reinterpret_cast<const std::uint16_t*>(values), status_};
      }
      std::uint16_t* counts = writer.words(done);
      to_words(values + done, block, counts);
      if (with_singles) take_singles(values + done, block, used_bytes, intervals, first + done, counts, singles);
    }
    done += block;
  }
  return writer.piece();
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
