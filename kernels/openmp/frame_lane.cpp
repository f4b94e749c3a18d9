#include "kernels/openmp/frame_lane.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/errors.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/openmp/bad_intervals.hpp"
#include "kernels/openmp/every_cpu.hpp"

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

template <typename Pixel>
ANNULUS_FOR_EVERY_CPU void narrow(const Pixel* values, std::size_t pixels, std::uint16_t* out) {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) out[pixel] = static_cast<std::uint16_t>(values[pixel]);
}

/// 512 bits, one a pixel.
typedef std::uint64_t PixelBits __attribute__((vector_size(64)));
constexpr std::size_t words_per_bits = sizeof(PixelBits) / 8;

/// One bit for each pixel in which a plane has one, ANDed with `used`; returns how many there are, or more than `most`
/// as soon as it is known. `words` of 64 pixels, a multiple of words_per_bits.
ANNULUS_FOR_EVERY_CPU std::size_t nonzero_pixels(const std::byte* planes, std::size_t plane_count, std::size_t words,
                                                 const std::uint8_t* used, std::size_t most, std::uint64_t* bits) {
  std::size_t count = 0;
  for (std::size_t word = 0; word < words && count <= most; word += words_per_bits) {
    PixelBits any = {};
    for (std::size_t plane = 0; plane < plane_count; ++plane) {
      PixelBits value;
      std::memcpy(&value, planes + (plane * words + word) * 8, sizeof value);
      any |= value;
    }
    PixelBits mask;
    std::memcpy(&mask, used + word * 8, sizeof mask);
    any &= mask;
    std::memcpy(bits + word, &any, sizeof any);
    for (std::size_t part = 0; part < words_per_bits; ++part) {
      count += static_cast<std::size_t>(std::popcount(bits[word + part]));
    }
  }
  return count;
}

/// Whether a used pixel has a bit in planes [first, end).
ANNULUS_FOR_EVERY_CPU bool any_bit(const std::byte* planes, std::size_t plane_bytes, std::size_t first, std::size_t end,
                                   const std::uint8_t* used) {
  std::uint8_t any = 0;
  for (std::size_t plane = first; plane < end; ++plane) {
    const auto* bits = reinterpret_cast<const std::uint8_t*>(planes + plane * plane_bytes);
    for (std::size_t byte = 0; byte < plane_bytes; ++byte) any |= static_cast<std::uint8_t>(bits[byte] & used[byte]);
  }
  return any != 0;
}

/// The planes that have a bit at all.
template <typename Pixel>
struct LivePlanes {
  static constexpr std::size_t count = 8 * sizeof(Pixel);
  std::array<std::uint8_t, count> number{};
  std::size_t live = 0;

  LivePlanes(const std::byte* planes, std::size_t plane_bytes, const std::uint8_t* used) {
    for (std::size_t plane = 0; plane < count; ++plane) {
      if (any_bit(planes, plane_bytes, plane, plane + 1, used)) number[live++] = static_cast<std::uint8_t>(plane);
    }
  }
  /// The value of one pixel.
  [[nodiscard]] Pixel value(const std::byte* planes, std::size_t plane_bytes, std::size_t pixel) const {
    using Unsigned = std::make_unsigned_t<Pixel>;
    Unsigned value = 0;
    for (std::size_t index = 0; index < live; ++index) {
      const auto byte = std::to_integer<unsigned>(planes[number[index] * plane_bytes + pixel / 8]);
      value = static_cast<Unsigned>(value | static_cast<Unsigned>((byte >> (pixel % 8) & 1U) << number[index]));
    }
    return static_cast<Pixel>(value);
  }
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
const Pixel* FrameLane::decode(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                               std::size_t first, LaneScratch& scratch, Pixel* out, std::vector<SinglePixel>& singles,
                               bool& more_singles) {
  // Planes that have no bit in a good count of up to 16 bits: the upper half of wide pixels; of uint16, where the
  // type's maximum alone is bad, any one will do.
  constexpr std::size_t planes = 8 * sizeof(Pixel);
  constexpr std::size_t first_telling = sizeof(Pixel) > 2 ? 16 : planes - 1;
  const BadIntervals<Pixel> intervals(rules);
  const bool planes_tell = intervals.first_b > intervals.last_b;  // no dummy among this type's values
  more_singles = false;
  bool any = false;
  std::size_t done = 0;
  const std::size_t singles_before = singles.size();
  while (done < pixels) {
    const std::size_t bytes = blocks_.next_bytes();
    const std::size_t block = bytes / sizeof(Pixel);
    if (block == 0) {  // fewer than 8 pixels, behind the last block
      std::span<const std::byte> rest;
      status_ = blocks_.rest(rest);
      if (status_ != DecodeStatus::ok) break;
      if (!any) std::fill_n(out, done, Pixel{0});
      any = true;
      std::memcpy(out + done, rest.data(), rest.size());
      more_singles = true;
      break;
    }
    status_ = blocks_.next(path_, scratch.planes);
    if (status_ != DecodeStatus::ok) break;
    std::uint64_t nonzero[tile_pixels / 64];
    const bool whole_words = block % (64 * words_per_bits) == 0;
    const std::size_t words = block / 64;
    const std::size_t most = block / pixels_per_sparse_count;
    const std::size_t count =
        whole_words ? nonzero_pixels(scratch.planes, planes, words, used.bits + done / 8, most, nonzero) : block;
    if (count <= most) {
      const LivePlanes<Pixel> live(scratch.planes, block / 8, used.bits + done / 8);
      for (std::size_t word = 0; word < words; ++word) {
        for (std::uint64_t bits = nonzero[word]; bits != 0; bits &= bits - 1) {
          const std::size_t pixel = word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
          const Pixel value = live.value(scratch.planes, block / 8, pixel);
          singles.push_back(
              {static_cast<std::uint16_t>(first + done + pixel), is_bad(value, rules), static_cast<double>(value)});
        }
      }
      if (any) std::fill_n(out + done, block, Pixel{0});
    } else {
      if (!any) std::fill_n(out, done, Pixel{0});
      any = true;
      bit_unshuffle(path_, {scratch.planes, bytes}, sizeof(Pixel), {reinterpret_cast<std::byte*>(out + done), bytes});
      if (!planes_tell || !whole_words) {
        more_singles = true;
      } else if (nonzero_pixels(scratch.planes + first_telling * (block / 8), planes - first_telling, words,
                                used.bits + done / 8, block, nonzero) > 0) {
        for (std::size_t word = 0; word < words; ++word) {
          for (std::uint64_t bits = nonzero[word]; bits != 0; bits &= bits - 1) {
            const std::size_t pixel = word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
            Pixel& value = out[done + pixel];
            const bool bad = is_bad(value, rules);
            if (!bad && fits_lane(value)) continue;
            singles.push_back({static_cast<std::uint16_t>(first + done + pixel), bad, static_cast<double>(value)});
            value = 0;
          }
        }
      }
    }
    done += block;
  }
  if (status_ != DecodeStatus::ok) {
    singles.resize(singles_before);
    return nullptr;
  }
  return any ? out : nullptr;
}

template <typename Pixel>
FrameLane::Piece FrameLane::read_typed(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                       std::size_t first, LaneScratch& scratch, std::uint16_t* out,
                                       std::vector<SinglePixel>& singles) {
  const Pixel* values = nullptr;
  bool more_singles = true;
  if (raw_ != nullptr) {
    values = reinterpret_cast<const Pixel*>(raw_);
    raw_ += pixels * sizeof(Pixel);
  } else {
    auto* place = sizeof(Pixel) == 2 ? reinterpret_cast<Pixel*>(out) : reinterpret_cast<Pixel*>(scratch.values);
    values = decode<Pixel>(pixels, used, rules, first, scratch, place, singles, more_singles);
    if (values == nullptr) return {nullptr, status_};
  }
  const BadIntervals<Pixel> intervals(rules);
  const bool with_singles = more_singles && any_single<Pixel>(values, used.bytes, pixels, intervals);
  if constexpr (sizeof(Pixel) == 2) {
    if (with_singles && static_cast<const void*>(values) != static_cast<const void*>(out)) {
      std::memcpy(out, values, pixels * sizeof(Pixel));
    }
    if (!with_singles) return {reinterpret_cast<const std::uint16_t*>(values), status_};
  } else {
    narrow<Pixel>(values, pixels, out);
  }
  constexpr std::size_t part = 64;
  for (std::size_t begin = 0; with_singles && begin < pixels; begin += part) {
    const std::size_t end = std::min(begin + part, pixels);
    if (!any_single<Pixel>(values + begin, used.bytes + begin, end - begin, intervals)) continue;
    for (std::size_t pixel = begin; pixel < end; ++pixel) {
      if (used.bytes[pixel] == 0) continue;
      const Pixel value = values[pixel];
      const bool bad = intervals.contain(value);
      if (!bad && fits_lane(value)) continue;
      singles.push_back({static_cast<std::uint16_t>(first + pixel), bad, static_cast<double>(value)});
      out[pixel] = 0;
    }
  }
  return {out, status_};
}

FrameLane::Piece FrameLane::read(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules,
                                 std::size_t first, LaneScratch& scratch, std::uint16_t* out,
                                 std::vector<SinglePixel>& singles) {
  if (status_ != DecodeStatus::ok) return {nullptr, status_};
  return visit_pixel_type(type_, [&]<typename Pixel>() -> Piece {
    if constexpr (std::is_integral_v<Pixel>) {
      return read_typed<Pixel>(pixels, used, rules, first, scratch, out, singles);
    } else {
      throw InternalError("a lane of frames that are not integers");
    }
  });
}

}  // namespace annulus::kernels::openmp
