#include "kernels/bitshuffle.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "base/errors.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace annulus::kernels {
namespace {

/// One path, which needs at least `tile` groups of 8 elements. Blocks with fewer go to the next slower path.
struct Implementation {
  using Function = void (*)(const std::byte* in, std::byte* out, std::size_t groups);
  std::size_t tile;
  std::array<Function, 4> unshuffle;  ///< by log2 of the element size
  std::array<Function, 4> shuffle;
};

namespace plain {

/// 8 x 8 bits: bit i of byte k becomes bit k of byte i. Three rounds of exchanging off-diagonal squares of 1, 2 and 4
/// bits (H. S. Warren, Hacker's Delight, 2nd ed., section 7-3).
std::uint64_t transpose_bits(std::uint64_t square) {
  std::uint64_t difference = (square ^ (square >> 7)) & 0x00AA00AA00AA00AAULL;
  square ^= difference ^ (difference << 7);
  difference = (square ^ (square >> 14)) & 0x0000CCCC0000CCCCULL;
  square ^= difference ^ (difference << 14);
  difference = (square ^ (square >> 28)) & 0x00000000F0F0F0F0ULL;
  return square ^ difference ^ (difference << 28);
}

std::uint64_t gather(const std::byte* bytes, std::size_t stride) {
  std::uint64_t square = 0;
  for (std::size_t k = 0; k < 8; ++k) square |= std::to_integer<std::uint64_t>(bytes[k * stride]) << (8 * k);
  return square;
}

void scatter(std::uint64_t square, std::byte* bytes, std::size_t stride) {
  for (std::size_t k = 0; k < 8; ++k) bytes[k * stride] = static_cast<std::byte>(square >> (8 * k));
}

template <std::size_t element_size>
void unshuffle(const std::byte* planes, std::byte* elements, std::size_t groups) {
  for (std::size_t group = 0; group < groups; ++group) {
    for (std::size_t byte = 0; byte < element_size; ++byte) {
      const std::uint64_t square = gather(planes + 8 * byte * groups + group, groups);
      scatter(transpose_bits(square), elements + 8 * element_size * group + byte, element_size);
    }
  }
}

template <std::size_t element_size>
void shuffle(const std::byte* elements, std::byte* planes, std::size_t groups) {
  for (std::size_t group = 0; group < groups; ++group) {
    for (std::size_t byte = 0; byte < element_size; ++byte) {
      const std::uint64_t square = gather(elements + 8 * element_size * group + byte, element_size);
      scatter(transpose_bits(square), planes + 8 * byte * groups + group, groups);
    }
  }
}

constexpr Implementation implementation = {
    0, {unshuffle<1>, unshuffle<2>, unshuffle<4>, unshuffle<8>}, {shuffle<1>, shuffle<2>, shuffle<4>, shuffle<8>}};

}  // namespace plain

#if defined(__x86_64__)

namespace sse2 {
#define ANNULUS_TARGET __attribute__((target("sse2")))
#define ANNULUS_MM(operation) _mm_##operation
#define ANNULUS_SI(operation) _mm_##operation##_si128
using Vector = __m128i;
ANNULUS_TARGET inline Vector load_lanes(const std::byte* from, std::size_t) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
ANNULUS_TARGET inline void store_lanes(std::byte* to, std::size_t, const Vector* v) {
  for (std::size_t index = 0; index < 4; ++index) _mm_storeu_si128(reinterpret_cast<__m128i*>(to) + index, v[index]);
}
ANNULUS_TARGET inline bool is_zero(Vector v) { return _mm_movemask_epi8(_mm_cmpeq_epi8(v, Vector{})) == 0xffff; }
#include "kernels/bitshuffle_tile.inc"
#undef ANNULUS_TARGET
#undef ANNULUS_MM
#undef ANNULUS_SI
}  // namespace sse2

namespace avx2 {
#define ANNULUS_TARGET __attribute__((target("avx2")))
#define ANNULUS_MM(operation) _mm256_##operation
#define ANNULUS_SI(operation) _mm256_##operation##_si256
using Vector = __m256i;
ANNULUS_TARGET inline Vector load_lanes(const std::byte* from, std::size_t stride) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(from + stride), reinterpret_cast<const __m128i*>(from));
}
ANNULUS_TARGET inline void store_lanes(std::byte* to, std::size_t stride, const Vector* v) {
  for (std::size_t index = 0; index < 4; index += 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16 * index),
                        _mm256_permute2x128_si256(v[index], v[index + 1], 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + stride + 16 * index),
                        _mm256_permute2x128_si256(v[index], v[index + 1], 0x31));
  }
}
ANNULUS_TARGET inline bool is_zero(Vector v) { return _mm256_testz_si256(v, v) != 0; }
#include "kernels/bitshuffle_tile.inc"
#undef ANNULUS_TARGET
#undef ANNULUS_MM
#undef ANNULUS_SI
}  // namespace avx2

// g++ 12 takes its own intrinsics' undefined operands for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"

// The same loads and stores for both paths with 64-byte registers.
#define ANNULUS_MM(operation) _mm512_##operation
#define ANNULUS_SI(operation) _mm512_##operation##_si512
#define ANNULUS_LANES_OF_512                                                                               \
  using Vector = __m512i;                                                                                  \
  ANNULUS_TARGET inline Vector load_lanes(const std::byte* from, std::size_t stride) {                     \
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));           \
    v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + stride)), 1);        \
    v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * stride)), 2);    \
    return _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 3 * stride)), 3); \
  }                                                                                                        \
  ANNULUS_TARGET inline void store_lanes(std::byte* to, std::size_t stride, const Vector* v) {             \
    const Vector low01 = _mm512_shuffle_i64x2(v[0], v[1], 0x44);                                           \
    const Vector high01 = _mm512_shuffle_i64x2(v[0], v[1], 0xee);                                          \
    const Vector low23 = _mm512_shuffle_i64x2(v[2], v[3], 0x44);                                           \
    const Vector high23 = _mm512_shuffle_i64x2(v[2], v[3], 0xee);                                          \
    _mm512_storeu_si512(to, _mm512_shuffle_i64x2(low01, low23, 0x88));                                     \
    _mm512_storeu_si512(to + stride, _mm512_shuffle_i64x2(low01, low23, 0xdd));                            \
    _mm512_storeu_si512(to + 2 * stride, _mm512_shuffle_i64x2(high01, high23, 0x88));                      \
    _mm512_storeu_si512(to + 3 * stride, _mm512_shuffle_i64x2(high01, high23, 0xdd));                      \
  }                                                                                                        \
  ANNULUS_TARGET inline Vector select(Vector mask, Vector a, Vector b) {                                   \
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);                                                    \
  }

#define ANNULUS_HAS_SELECT

namespace avx512 {
#define ANNULUS_TARGET __attribute__((target("avx512f,avx512bw")))
ANNULUS_LANES_OF_512
ANNULUS_TARGET inline bool is_zero(Vector v) { return _mm512_test_epi64_mask(v, v) == 0; }
#include "kernels/bitshuffle_tile.inc"
#undef ANNULUS_TARGET
}  // namespace avx512

namespace gfni {
#define ANNULUS_TARGET __attribute__((target("avx512f,avx512bw,gfni")))
#define ANNULUS_HAS_WORD_TRANSPOSE
ANNULUS_LANES_OF_512
/// The instruction takes row 7 - i of its matrix, the data, times byte x of its vector as bit i of the result's byte x.
/// With the unit vectors 1 << x as the vector this is the transposed matrix, provided that the rows came reversed.
ANNULUS_TARGET inline Vector transpose_bits_in_words(Vector v) {
  return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64(static_cast<long long>(0x8040201008040201ULL)), v, 0);
}
#include "kernels/bitshuffle_tile.inc"
#undef ANNULUS_TARGET
#undef ANNULUS_HAS_WORD_TRANSPOSE
}  // namespace gfni

#undef ANNULUS_MM
#undef ANNULUS_SI
#undef ANNULUS_LANES_OF_512
#undef ANNULUS_HAS_SELECT
#pragma GCC diagnostic pop

#endif  // __x86_64__

/// In the order of SimdPath.
constexpr Implementation implementations[] = {
    plain::implementation,
#if defined(__x86_64__)
    sse2::implementation,  avx2::implementation, avx512::implementation, gfni::implementation,
#endif
};

/// Position of an element size in the tables.
std::size_t size_index(std::size_t element_size) {
  switch (element_size) {
    case 1: return 0;
    case 2: return 1;
    case 4: return 2;
    case 8: return 3;
    default:
      throw InternalError("bitshuffle: element size " + std::to_string(element_size) + ", expected 1, 2, 4 or 8");
  }
}

/// Checks the arguments of both directions and calls `direction` of the path, or of the first slower one whose tile the
/// block fills.
void run(SimdPath path, std::array<Implementation::Function, 4> Implementation::*direction,
         std::span<const std::byte> in, std::size_t element_size, std::span<std::byte> out) {
  const std::size_t index = size_index(element_size);
  const std::size_t group_bytes = 8 * element_size;
  ANNULUS_EXPECT(in.size() % group_bytes == 0);
  ANNULUS_EXPECT(out.size() == in.size());
  ANNULUS_EXPECT(path <= available_paths().back());
  const std::size_t groups = in.size() / group_bytes;
  auto chosen = static_cast<std::size_t>(path);
  while (implementations[chosen].tile > groups) --chosen;
  (implementations[chosen].*direction)[index](in.data(), out.data(), groups);
}

}  // namespace

void bit_shuffle(SimdPath path, std::span<const std::byte> elements, std::size_t element_size,
                 std::span<std::byte> planes) {
  run(path, &Implementation::shuffle, elements, element_size, planes);
}

void bit_unshuffle(SimdPath path, std::span<const std::byte> planes, std::size_t element_size,
                   std::span<std::byte> elements) {
  run(path, &Implementation::unshuffle, planes, element_size, elements);
}

}  // namespace annulus::kernels
