#include "kernels/openmp/frame_lane.hpp"

#include <algorithm>
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
constexpr std::size_t pixels_per_sparse_count = 32;

constexpr std::uint16_t largest_count = std::numeric_limits<std::uint16_t>::max();

/// Whether a used pixel is bad or does not fit into uint16.
template <typename Pixel>
ANNULUS_FOR_EVERY_CPU bool any_single(const Pixel* values, const std::uint8_t* used, std::size_t pixels,
                                      const BadIntervals<Pixel>& intervals) {
  const BadIntervals<Pixel> rules = intervals;
  std::uint8_t any = 0;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    bool single = rules.contain(values[pixel]);
    if constexpr (sizeof(Pixel) > 2) single |= static_cast<std::uint32_t>(values[pixel]) > largest_count;
    if constexpr (std::is_signed_v<Pixel> && sizeof(Pixel) <= 2) single |= values[pixel] < 0;
    any |= static_cast<std::uint8_t>(static_cast<std::uint8_t>(single) & used[pixel]);
  }
  return any != 0;
}

template <typename Pixel>
ANNULUS_FOR_EVERY_CPU void narrow(const Pixel* values, std::size_t pixels, std::uint16_t* out) {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) out[pixel] = static_cast<std::uint16_t>(values[pixel]);
}

/// One bit for each pixel in which a plane has one, ANDed with `used`; returns how many there are. `words` of 64.
ANNULUS_FOR_EVERY_CPU std::size_t nonzero_pixels(const std::byte* planes, std::size_t plane_count, std::size_t words,
                                                 const std::uint8_t* used, std::uint64_t* bits) {
  std::memcpy(bits, planes, words * 8);
  for (std::size_t plane = 1; plane < plane_count; ++plane) {
    const std::byte* from = planes + plane * words * 8;
    for (std::size_t word = 0; word < words; ++word) {
      std::uint64_t value;
      std::memcpy(&value, from + word * 8, 8);
      bits[word] |= value;
    }
  }
  std::size_t count = 0;
  for (std::size_t word = 0; word < words; ++word) {
    std::uint64_t mask;
    std::memcpy(&mask, used + word * 8, 8);
    bits[word] &= mask;
    count += static_cast<std::size_t>(std::popcount(bits[word]));
  }
  return count;
}

/// The value of one pixel from its planes.
template <typename Pixel>
Pixel pixel_of(const std::byte* planes, std::size_t plane_bytes, std::size_t pixel) {
  using Unsigned = std::make_unsigned_t<Pixel>;
  Unsigned value = 0;
  for (std::size_t plane = 0; plane < 8 * sizeof(Pixel); ++plane) {
    const auto byte = std::to_integer<unsigned>(planes[plane * plane_bytes + pixel / 8]);
    value = static_cast<Unsigned>(value | static_cast<Unsigned>((byte >> (pixel % 8) & 1U) << plane));
  }
  return static_cast<Pixel>(value);
}

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
                               std::size_t first, LaneScratch& scratch, Pixel* out, std::vector<SinglePixel>& singles) {
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
      break;
    }
    status_ = blocks_.next(path_, scratch.planes);
    if (status_ != DecodeStatus::ok) break;
    std::uint64_t nonzero[tile_pixels / 64];
    const bool whole_words = block % 64 == 0;
    const std::size_t words = block / 64;
    const std::size_t count =
        whole_words ? nonzero_pixels(scratch.planes, 8 * sizeof(Pixel), words, used.bits + done / 8, nonzero) : block;
    if (whole_words && count <= block / pixels_per_sparse_count) {
      for (std::size_t word = 0; word < words; ++word) {
        for (std::uint64_t bits = nonzero[word]; bits != 0; bits &= bits - 1) {
          const std::size_t pixel = word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
          const Pixel value = pixel_of<Pixel>(scratch.planes, block / 8, pixel);
          singles.push_back(
              {static_cast<std::uint16_t>(first + done + pixel), is_bad(value, rules), static_cast<double>(value)});
        }
      }
      if (any) std::fill_n(out + done, block, Pixel{0});
    } else {
      if (!any) std::fill_n(out, done, Pixel{0});
      any = true;
      bit_unshuffle(path_, {scratch.planes, bytes}, sizeof(Pixel), {reinterpret_cast<std::byte*>(out + done), bytes});
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
  if (raw_ != nullptr) {
    values = reinterpret_cast<const Pixel*>(raw_);
    raw_ += pixels * sizeof(Pixel);
  } else {
    auto* place = sizeof(Pixel) == 2 ? reinterpret_cast<Pixel*>(out) : reinterpret_cast<Pixel*>(scratch.values);
    values = decode<Pixel>(pixels, used, rules, first, scratch, place, singles);
    if (values == nullptr) return {nullptr, status_};
  }
  const BadIntervals<Pixel> intervals(rules);
  const bool with_singles = any_single<Pixel>(values, used.bytes, pixels, intervals);
  if constexpr (sizeof(Pixel) == 2) {
    if (with_singles && static_cast<const void*>(values) != static_cast<const void*>(out)) {
      std::memcpy(out, values, pixels * sizeof(Pixel));
    }
    if (!with_singles) return {reinterpret_cast<const std::uint16_t*>(values), status_};
  } else {
    narrow<Pixel>(values, pixels, out);
  }
  for (std::size_t pixel = 0; with_singles && pixel < pixels; ++pixel) {
    if (used.bytes[pixel] == 0) continue;
    const Pixel value = values[pixel];
    const bool bad = intervals.contain(value);
    bool single = bad;
    if constexpr (std::is_signed_v<Pixel>) single |= value < 0;
    if constexpr (sizeof(Pixel) > 2) single |= static_cast<std::uint32_t>(value) > largest_count;
    if (!single) continue;
    singles.push_back({static_cast<std::uint16_t>(first + pixel), bad, static_cast<double>(value)});
    out[pixel] = 0;
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
