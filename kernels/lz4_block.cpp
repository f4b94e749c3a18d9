#include "kernels/lz4_block.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace annulus::kernels {
namespace {

/// The format's rules for the end of a block: the last bytes are literals, no match begins near them.
constexpr std::ptrdiff_t last_literals = 5;
constexpr std::ptrdiff_t last_match_margin = 12;
constexpr std::ptrdiff_t least_input_behind_literals = 2 + 1 + last_literals;  ///< period, token, literals

constexpr std::size_t least_repetition = 256;  ///< length of a match up to the last literals that need not be written

/// How a match of period p < 16 goes on from the 16 bytes before it.
struct Periods {
  alignas(16) std::array<std::array<std::uint8_t, 16>, 17> order{};  ///< [p] shuffle that repeats the first p bytes
  std::array<std::uint8_t, 17> step{};                               ///< [p] largest multiple of p up to 16

  constexpr Periods() {
    for (std::size_t period = 1; period <= 16; ++period) {
      for (std::size_t byte = 0; byte < 16; ++byte) order[period][byte] = static_cast<std::uint8_t>(byte % period);
      step[period] = static_cast<std::uint8_t>(16 - 16 % period);
    }
  }
};
constexpr Periods periods;

/// Adds the bytes that continue a length whose first byte was 255. False at the end of the input.
inline bool continue_length(const std::uint8_t*& in, const std::uint8_t* in_end, std::size_t& length) {
  std::uint8_t byte = 255;
  while (byte == 255) {
    if (in >= in_end) return false;
    byte = *in++;
    length += byte;
  }
  return true;
}

/// Whether all that is left of the input are the last literals, and these go on with what a match of `length` bytes
/// repeats: the `period` bytes at `repeated`.
inline bool goes_on(const std::uint8_t* in, const std::uint8_t* in_end, const std::uint8_t* repeated,
                    std::size_t period, std::size_t length) {
  if (in_end - in != 1 + last_literals || *in != last_literals << 4) return false;
  std::size_t place = length % period;
  for (std::ptrdiff_t literal = 1; literal <= last_literals; ++literal) {
    if (in[literal] != repeated[place]) return false;
    if (++place == period) place = 0;
  }
  return true;
}

namespace plain {
#define ANNULUS_TARGET
struct Bytes16 {
  std::uint8_t bytes[16];
};
inline Bytes16 load16(const std::uint8_t* from) {
  Bytes16 value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void store16(std::uint8_t* to, const Bytes16& value) { std::memcpy(to, &value, sizeof value); }
inline void copy32(std::uint8_t* to, const std::uint8_t* from) { std::memcpy(to, from, 32); }
inline Bytes16 shuffle(const Bytes16& value, const std::array<std::uint8_t, 16>& order) {
  Bytes16 shuffled;
  for (std::size_t byte = 0; byte < 16; ++byte) shuffled.bytes[byte] = value.bytes[order[byte]];
  return shuffled;
}
#include "kernels/lz4_block.inc"
#undef ANNULUS_TARGET
}  // namespace plain

#if defined(__x86_64__)
namespace avx2 {
#define ANNULUS_TARGET __attribute__((target("avx2")))
ANNULUS_TARGET inline __m128i load16(const std::uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
ANNULUS_TARGET inline void store16(std::uint8_t* to, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value);
}
ANNULUS_TARGET inline void copy32(std::uint8_t* to, const std::uint8_t* from) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
ANNULUS_TARGET inline __m128i shuffle(__m128i value, const std::array<std::uint8_t, 16>& order) {
  return _mm_shuffle_epi8(value, _mm_load_si128(reinterpret_cast<const __m128i*>(order.data())));
}
#include "kernels/lz4_block.inc"
#undef ANNULUS_TARGET
}  // namespace avx2
#endif

}  // namespace

void WrittenBytes::extend(std::byte* out, std::size_t end) {
  for (std::size_t repeated = period; count < end;) {  // bytes before `count` that all repeat: a multiple of the period
    const std::size_t more = std::min(repeated, end - count);
    std::memcpy(out + count, out + count - repeated, more);
    count += more;
    repeated += more;
  }
}

bool decode_lz4_block(SimdPath path, const std::byte* in, std::size_t in_bytes, std::byte* out, std::size_t out_bytes,
                      WrittenBytes& written) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(in);
  auto* to = reinterpret_cast<std::uint8_t*>(out);
#if defined(__x86_64__)
  if (path >= SimdPath::avx2) return avx2::decode(begin, begin + in_bytes, to, to + out_bytes, written);
#endif
  static_cast<void>(path);
  return plain::decode(begin, begin + in_bytes, to, to + out_bytes, written);
}

}  // namespace annulus::kernels
