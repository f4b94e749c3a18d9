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

/// Where one pixel in so many has a count, or fewer, all of a tile costs as much pixel by pixel as it does in the
/// product.
constexpr std::size_t pixels_per_count = 50;
/// Blocks of such a tile that still go pixel by pixel, lest one of them brings the product into play; and of others,
/// where nothing is spared but the block's way to the product.
constexpr std::size_t pixels_per_count_if_sparse = 16;
constexpr std::size_t pixels_per_count_if_dense = 128;

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

/// With more counts than this a block is dense, however many there are.
constexpr std::size_t dense_from(std::size_t pixels) { return pixels / pixels_per_count_if_sparse; }

/// How many used pixels are not 0; stops with more than `most`. `pixels` is a multiple of sparse_block_pixels.
template <typename Pixel>
ANNULUS_FOR_EVERY_CPU std::size_t count_nonzero(const Pixel* values, std::size_t pixels, const std::uint8_t* used,
                                                std::size_t most) {
  std::size_t count = 0;
  for (std::size_t done = 0; done < pixels && count <= most; done += sparse_block_pixels) {
    std::uint16_t here = 0;
    for (std::size_t pixel = done; pixel < done + sparse_block_pixels; ++pixel) {
      here = static_cast<std::uint16_t>(here + (static_cast<std::uint16_t>(values[pixel] != 0) & used[pixel]));
    }
    count += here;
  }
  return count;
}

/// Finds the used pixels that are not 0, one bit each.
template <typename Pixel>
ANNULUS_FOR_EVERY_CPU void find_nonzero(const Pixel* values, std::size_t pixels, const std::uint8_t* used_bits,
                                        std::uint64_t* bits) {
  for (std::size_t word = 0; word < pixels / 64; ++word) {
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
    std::memcpy(&mask, used_bits + word * 8, sizeof mask);
    bits[word] = found & mask;
  }
}

/// Moves all counts of a block to `singles` where they are few, as it is done with planes.
/// @param used  of the block
/// @param most  counts of a block that is taken
/// @return the counts; or a few more than dense_from(pixels), if there are more than that
template <typename Pixel>
std::size_t take_sparse_block(const Pixel* values, std::size_t pixels, const UsedPixels& used, std::size_t most,
                              const BadIntervals<Pixel>& intervals, std::size_t first, SinglePixels& singles) {
  // Blocks of bytes fill more than a tile, so that no such frame comes in planes.
  if (sizeof(Pixel) == 1 || pixels % sparse_block_pixels != 0 || intervals.contain(Pixel{0})) return pixels;
  const std::size_t count = count_nonzero(values, pixels, used.bytes, dense_from(pixels));
  if (count > most) return count;
  std::uint64_t bits[tile_pixels / 64];
  find_nonzero(values, pixels, used.bits, bits);
  const bool bad_one = intervals.contain(Pixel{1});
  PixelsOfOne& ones = singles.ones.emplace_back(first);
  for (std::size_t word = 0; word < pixels / 64; ++word) {
    ones.bits[word] = 0;
    for (std::uint64_t left = bits[word]; left != 0; left &= left - 1) {
      const std::size_t pixel = word * 64 + static_cast<std::size_t>(std::countr_zero(left));
      if (values[pixel] == Pixel{1} && !bad_one) {
        ones.bits[word] |= left & -left;
        ++ones.count;
      } else {
        singles.others.push_back(single_pixel(first + pixel, intervals.contain(values[pixel]), values[pixel]));
      }
    }
    ones.filled |= std::uint64_t{ones.bits[word] != 0} << word;
  }
  return count;
}

/// 512 bits, one a pixel.
typedef std::uint64_t PixelBits __attribute__((vector_size(64)));
constexpr std::size_t words_per_bits = sizeof(PixelBits) / 8;
static_assert(sparse_block_pixels == 8 * sizeof(PixelBits));

/// The bit planes of a block, the lowest first. From the last of those that were written on, all are alike: so whoever
/// asks for a bit in any plane looks at these alone.
class BitPlanes {
 public:
  /// `all` planes of a block of which so much was written.
  BitPlanes(std::byte* bytes, std::size_t plane_bytes, std::size_t all, WrittenBytes written)
      : bytes_(bytes), plane_bytes_(plane_bytes), count_(all), written_(written) {
    if (plane_bytes % written.period == 0) {
      const std::size_t repeating = written.count - std::min(written.count, written.period);
      count_ = std::min(all, (repeating + plane_bytes - 1) / plane_bytes + 1);
    }
    written_.extend(bytes_, count_ * plane_bytes_);
  }

  /// Planes from the first to the one that the others are like.
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::size_t words() const { return plane_bytes_ / 8; }
  /// The first 64 pixels, and each further 64, of any plane.
  [[nodiscard]] const std::byte* plane(std::size_t number) const {
    return bytes_ + std::min(number, count_ - 1) * plane_bytes_;
  }
  /// The first planes, so many of them, as one piece of memory.
  [[nodiscard]] std::span<const std::byte> complete(std::size_t planes) {
    written_.extend(bytes_, planes * plane_bytes_);
    return {bytes_, planes * plane_bytes_};
  }

 private:
  std::byte* bytes_;
  std::size_t plane_bytes_;
  std::size_t count_;
  WrittenBytes written_;
};

/// The used pixels of 512 that have a bit in planes [first, end), from this word on.
[[gnu::always_inline]] inline PixelBits any_of(const BitPlanes& planes, std::size_t first, std::size_t end,
                                               std::size_t word, const std::uint8_t* used) {
  PixelBits any = {};
  PixelBits value;
  for (std::size_t plane = first; plane < end; ++plane) {
    std::memcpy(&value, planes.plane(plane) + word * 8, sizeof value);
    any |= value;
  }
  std::memcpy(&value, used + word * 8, sizeof value);
  return any & value;
}

/// Those that have a bit in any plane from `first` on.
[[gnu::always_inline]] inline PixelBits beyond(const BitPlanes& planes, std::size_t first, std::size_t word,
                                               const std::uint8_t* used) {
  return any_of(planes, first, std::max(planes.count(), first + 1), word, used);
}

/// Whether any bit is set.
[[gnu::always_inline]] inline bool any(const PixelBits& bits) {
  std::uint64_t all = 0;
  for (std::size_t part = 0; part < words_per_bits; ++part) all |= bits[part];
  return all != 0;
}

/// One bit for each word that is not 0.
[[gnu::always_inline]] inline std::uint64_t filled_words(const PixelBits& bits) {
  typedef std::uint8_t Flags __attribute__((vector_size(words_per_bits)));
  // A byte for each word, of all ones or none: bit i of byte i is kept, and the product adds them up in the last one.
  const Flags flags = __builtin_convertvector(bits != 0, Flags);
  std::uint64_t gathered;
  static_assert(sizeof gathered == sizeof flags);
  std::memcpy(&gathered, &flags, sizeof gathered);
  return ((gathered & 0x8040201008040201U) * 0x0101010101010101U) >> 56;
}

[[gnu::always_inline]] inline std::size_t count_bits(const PixelBits& bits) {
  std::size_t count = 0;
  for (std::size_t part = 0; part < words_per_bits; ++part) {
    count += static_cast<std::size_t>(std::popcount(bits[part]));
  }
  return count;
}

/// Pixels of a block: one bit each.
struct BlockPixels {
  std::uint64_t filled = 0;  ///< one bit for each of the `bits` that is not 0, the lowest for the first
  alignas(64) std::uint64_t bits[tile_pixels / 64];
};

/// Finds the used pixels that are not 0, those of 1 by themselves; stops with more than `most`. Here and below the
/// words of a block are a multiple of words_per_bits.
/// @return how many were found
ANNULUS_FOR_EVERY_CPU std::size_t find_nonzero(const BitPlanes& planes, const std::uint8_t* used, std::size_t most,
                                               PixelsOfOne& ones, BlockPixels& others) {
  std::size_t count = 0;
  for (std::size_t word = 0; word < planes.words() && count <= most; word += words_per_bits) {
    // (Where there is one plane, all are alike: so the second is asked for in any case.)
    const PixelBits more = beyond(planes, 1, word, used);
    const PixelBits one = any_of(planes, 0, 1, word, used) & ~more;
    std::memcpy(ones.bits + word, &one, sizeof one);
    std::memcpy(others.bits + word, &more, sizeof more);
    count += count_bits(one | more);
    ones.filled |= filled_words(one) << word;
    others.filled |= filled_words(more) << word;
  }
  ones.count = count;
  for (std::uint64_t filled = others.filled; filled != 0; filled &= filled - 1) {
    ones.count -= static_cast<std::size_t>(std::popcount(others.bits[std::countr_zero(filled)]));
  }
  return count;
}

/// Finds the used pixels that have a bit in one of the planes from `first` on.
ANNULUS_FOR_EVERY_CPU std::size_t find_beyond(const BitPlanes& planes, std::size_t first, const std::uint8_t* used,
                                              std::size_t most, BlockPixels& found) {
  std::size_t count = 0;
  for (std::size_t word = 0; word < planes.words() && count <= most; word += words_per_bits) {
    const PixelBits bits = beyond(planes, first, word, used);
    std::memcpy(found.bits + word, &bits, sizeof bits);
    count += count_bits(bits);
    found.filled |= filled_words(bits) << word;
  }
  return count;
}

/// Whether there is such a pixel.
ANNULUS_FOR_EVERY_CPU bool any_beyond(const BitPlanes& planes, std::size_t first, const std::uint8_t* used) {
  PixelBits all = {};
  for (std::size_t word = 0; word < planes.words(); word += words_per_bits) all |= beyond(planes, first, word, used);
  return any(all);
}

/// The value of one pixel of a block.
template <typename Pixel>
Pixel value_of(const BitPlanes& planes, std::size_t pixel) {
  const auto bit_of = [&](std::size_t plane) {
    return std::to_integer<std::uint32_t>(planes.plane(plane)[pixel / 8]) >> (pixel % 8) & 1U;
  };
  const std::size_t last = planes.count() - 1;
  std::uint32_t value = (0U - bit_of(last)) << last;
  for (std::size_t plane = 0; plane < last; ++plane) value |= bit_of(plane) << plane;
  return static_cast<Pixel>(value);
}

/// Appends pixels of a block to `singles`, in their order; the block's first one has the number `first`.
template <typename Pixel>
void list_pixels(const BlockPixels& pixels, const BitPlanes& planes, std::size_t first,
                 const BadIntervals<Pixel>& intervals, std::vector<SinglePixel>& singles) {
  for (std::uint64_t filled = pixels.filled; filled != 0; filled &= filled - 1) {
    const auto word = static_cast<std::size_t>(std::countr_zero(filled));
    for (std::uint64_t left = pixels.bits[word]; left != 0; left &= left - 1) {
      const std::size_t pixel = word * 64 + static_cast<std::size_t>(std::countr_zero(left));
      const auto value = value_of<Pixel>(planes, pixel);
      singles.push_back(single_pixel(first + pixel, intervals.contain(value), value));
    }
  }
}

/// Moves all counts of a block to `singles` where they are few; as above.
template <typename Pixel>
std::size_t take_sparse_block(const BitPlanes& planes, const std::uint8_t* used, std::size_t most,
                              const BadIntervals<Pixel>& intervals, std::size_t first, SinglePixels& singles) {
  const std::size_t pixels = planes.words() * 64;
  if (intervals.contain(Pixel{0})) return pixels;  // empty pixels are no less single than others
  PixelsOfOne& ones = singles.ones.emplace_back(first);
  BlockPixels others;
  const std::size_t count = find_nonzero(planes, used, dense_from(pixels), ones, others);
  if (count <= most) {
    if (intervals.contain(Pixel{1})) {
      for (std::size_t word = 0; word < planes.words(); ++word) others.bits[word] |= ones.bits[word];
      others.filled |= ones.filled;
      ones.count = 0;
    }
    list_pixels(others, planes, first, intervals, singles.others);
  }
  if (count > most || ones.count == 0) singles.ones.pop_back();
  return count;
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

void FrameLane::begin_tile(bool first) {
  sparse_ = !first && counts_ <= pair_tile_pixels / pixels_per_count;
  counts_ = 0;
}

std::size_t FrameLane::most_counts(std::size_t pixels) const {
  return pixels / (sparse_ ? pixels_per_count_if_sparse : pixels_per_count_if_dense);
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
                                   std::size_t first, LaneScratch& scratch, std::uint16_t* out, SinglePixels& singles) {
  constexpr std::size_t plane_count = 8 * sizeof(Pixel);
  const BadIntervals<Pixel> intervals(rules);
  // Where no dummy lies among this type's values, a pixel that is single has bits in upper planes: of wide types in
  // those beyond uint16, of uint16, whose maximum alone is bad, in any one.
  const bool planes_tell = sizeof(Pixel) > 1 && intervals.first_b > intervals.last_b;
  constexpr std::size_t first_telling = sizeof(Pixel) > 2 ? 16 : plane_count - 1;
  PieceWriter writer(out);
  const std::size_t ones_before = singles.ones.size();
  const std::size_t others_before_all = singles.others.size();
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
      take_singles(values, pixels - done, used_bytes, intervals, first + done, counts, singles.others);
      break;
    }
    WrittenBytes written;
    status_ = blocks_.next(path_, scratch.planes, written);
    if (status_ != DecodeStatus::ok) break;
    BitPlanes planes(scratch.planes, block / 8, plane_count, written);

    const bool whole_words = block % sparse_block_pixels == 0;
    const std::size_t most = most_counts(block);
    const std::size_t count =
        whole_words ? take_sparse_block(planes, used_bits, most, intervals, first + done, singles) : block;
    counts_ += std::min(count, dense_from(block) + 1);
    if (count <= most) {
      writer.zeros(done, block);
      done += block;
      continue;
    }

    // Of counts below 256 the first eight planes are all that there is, but for a few single pixels.
    const bool tells = planes_tell && whole_words;
    bool as_bytes = tells && writer.takes_bytes();
    const std::size_t others_before = singles.others.size();
    if (as_bytes && any_beyond(planes, 8, used_bits)) {
      BlockPixels large;
      as_bytes = find_beyond(planes, 8, used_bits, most, large) <= most;
      if (as_bytes) {  // if all of these are single pixels
        list_pixels(large, planes, first + done, intervals, singles.others);
        as_bytes = std::all_of(
            singles.others.data() + others_before, singles.others.data() + singles.others.size(),
            [](const SinglePixel& single) { return single.bad != 0 || !fits_lane(std::int64_t{single.count}); });
      }
      if (!as_bytes) singles.others.resize(others_before);
    }
    if (as_bytes) {
      std::uint8_t* counts = writer.bytes(done);
      bit_unshuffle(path_, planes.complete(8), 1, {reinterpret_cast<std::byte*>(counts), block});
      for (std::size_t single = others_before; single < singles.others.size(); ++single) {
        counts[singles.others[single].pixel - first - done] = 0;
      }
    } else {
      std::uint16_t* counts = writer.words(done);
      auto* place = sizeof(Pixel) == 2 ? reinterpret_cast<std::byte*>(counts) : scratch.values;
      const auto* values = reinterpret_cast<const Pixel*>(place);
      bit_unshuffle(path_, planes.complete(plane_count), sizeof(Pixel), {place, bytes});
      if (sizeof(Pixel) != 2) to_words(values, block, counts);
      if (!tells || any_beyond(planes, first_telling, used_bits)) {
        take_singles(values, block, used_bytes, intervals, first + done, counts, singles.others);
      }
    }
    done += block;
  }
  if (status_ != DecodeStatus::ok) {
    singles.ones.erase(singles.ones.begin() + static_cast<std::ptrdiff_t>(ones_before), singles.ones.end());
    singles.others.resize(others_before_all);
    return {nullptr, nullptr, status_};
  }
  return writer.piece();
}

template <typename Pixel>
FrameLane::Piece FrameLane::read_typed(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                       std::size_t first, LaneScratch& scratch, std::uint16_t* out,
                                       SinglePixels& singles) {
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
    const std::size_t most = most_counts(block);
    const std::size_t count = take_sparse_block(values + done, block, {used_bytes, used.bits + done / 8}, most,
                                                intervals, first + done, singles);
    counts_ += std::min(count, dense_from(block) + 1);
    if (count <= most) {
      writer.zeros(done, block);
    } else {
      const bool with_singles = any_single<Pixel>(values + done, used_bytes, block, intervals);
      if (sizeof(Pixel) == 2 && block == pixels && !with_singles) {
        return {nullptr, reinterpret_cast<const std::uint16_t*>(values), status_};
      }
      std::uint16_t* counts = writer.words(done);
      to_words(values + done, block, counts);
      if (with_singles) take_singles(values + done, block, used_bytes, intervals, first + done, counts, singles.others);
    }
    done += block;
  }
  return writer.piece();
}

FrameLane::Piece FrameLane::read(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                 std::size_t first, LaneScratch& scratch, std::uint16_t* out, SinglePixels& singles) {
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
