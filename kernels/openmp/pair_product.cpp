#include "kernels/openmp/pair_product.hpp"

#include <bit>
#include <cstring>

#include "base/every_cpu.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// g++ 12 takes its own intrinsics' undefined operands for a mistake (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace annulus::kernels::openmp {
namespace {

namespace plain {
#define ANNULUS_TARGET
struct Lanes {
  float lane[lane_count];
};
inline Lanes zero() { return {}; }
template <typename Count>
Lanes load_counts(const Count* counts) {
  Lanes lanes;
  for (std::size_t lane = 0; lane < lane_count; ++lane) lanes.lane[lane] = counts[lane];
  return lanes;
}
/// a b + c rounded once, as a fused multiply-add does: the product is exact in float64, and a sum rounded to odd there
/// loses nothing that the rounding to float32 could miss (S. Boldo and G. Melquiond, doi:10.1109/TC.2007.70819).
inline float fused(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = c;
  const double sum = product + addend;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (addend - part);
  auto bits = std::bit_cast<std::int64_t>(sum);
  if (error != 0.0 && (bits & 1) == 0) bits += ((error > 0.0) == (sum > 0.0)) ? 1 : -1;
  return static_cast<float>(std::bit_cast<double>(bits));
}
inline Lanes fused(const Lanes& counts, float weight, Lanes sum) {
  for (std::size_t lane = 0; lane < lane_count; ++lane) {
    sum.lane[lane] = fused(counts.lane[lane], weight, sum.lane[lane]);
  }
  return sum;
}
inline Lanes at_least_one(Lanes counts) {
  for (float& count : counts.lane) count = count > 1.0F ? count : 1.0F;
  return counts;
}
inline void square_weights(const float* weights, float* squares) {
  for (std::size_t slot = 0; slot < slots_per_group; ++slot) squares[slot] = weights[slot] * weights[slot];
}
inline void add_lanes(double* sums, const Lanes& lanes) {
  for (std::size_t lane = 0; lane < lane_count; ++lane) sums[lane] += static_cast<double>(lanes.lane[lane]);
}
#include "kernels/openmp/pair_product.inc"
#undef ANNULUS_TARGET

template <typename Count>
void interleave(const Count* const (&frames)[lane_count], std::size_t pixels, Count* out) {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t lane = 0; lane < lane_count; ++lane) out[pixel * lane_count + lane] = frames[lane][pixel];
  }
}
}  // namespace plain

#if defined(__x86_64__)

namespace avx2 {
#define ANNULUS_TARGET __attribute__((target("avx2,fma")))
struct Lanes {
  __m256 half[2];
};
ANNULUS_TARGET inline Lanes zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
ANNULUS_TARGET inline Lanes load_counts(const std::uint16_t* counts) {
  const auto* from = reinterpret_cast<const __m128i*>(counts);
  return {{_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_load_si128(from))),
           _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_load_si128(from + 1)))}};
}
ANNULUS_TARGET inline Lanes load_counts(const std::uint8_t* counts) {
  const __m128i all = _mm_load_si128(reinterpret_cast<const __m128i*>(counts));
  return {{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(all)),
           _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(all, all)))}};
}
ANNULUS_TARGET inline Lanes fused(const Lanes& counts, float weight, const Lanes& sum) {
  const __m256 all = _mm256_set1_ps(weight);
  return {{_mm256_fmadd_ps(counts.half[0], all, sum.half[0]), _mm256_fmadd_ps(counts.half[1], all, sum.half[1])}};
}
ANNULUS_TARGET inline Lanes at_least_one(const Lanes& counts) {
  const __m256 one = _mm256_set1_ps(1.0F);
  return {{_mm256_max_ps(counts.half[0], one), _mm256_max_ps(counts.half[1], one)}};
}
ANNULUS_TARGET inline void square_weights(const float* weights, float* squares) {
  const __m256 all = _mm256_loadu_ps(weights);
  _mm256_store_ps(squares, _mm256_mul_ps(all, all));
}
ANNULUS_TARGET inline void add_lanes(double* sums, const Lanes& lanes) {
#pragma GCC unroll 4
  for (std::size_t quarter = 0; quarter < 4; ++quarter) {
    const __m256 half = lanes.half[quarter / 2];
    const __m128 four = quarter % 2 == 0 ? _mm256_castps256_ps128(half) : _mm256_extractf128_ps(half, 1);
    _mm256_store_pd(sums + 4 * quarter, _mm256_add_pd(_mm256_load_pd(sums + 4 * quarter), _mm256_cvtps_pd(four)));
  }
}
#include "kernels/openmp/pair_product.inc"

/// 8 x 8: in each 16-byte lane of the 8 vectors, element p of vector f goes to element f of vector p.
ANNULUS_TARGET inline void transpose(__m256i (&v)[8]) {
  for (int step = 0; step < 3; ++step) {
    __m256i next[8];
#pragma GCC unroll 4
    for (std::size_t half = 0; half < 4; ++half) {
      next[2 * half] = _mm256_unpacklo_epi16(v[half], v[half + 4]);
      next[2 * half + 1] = _mm256_unpackhi_epi16(v[half], v[half + 4]);
    }
#pragma GCC unroll 8
    for (std::size_t index = 0; index < 8; ++index) v[index] = next[index];
  }
}

ANNULUS_TARGET void interleave(const std::uint16_t* const (&frames)[lane_count], std::size_t pixels,
                               std::uint16_t* out) {
  std::size_t pixel = 0;
  for (; pixel + 16 <= pixels; pixel += 16) {
    __m256i low[8];
    __m256i high[8];
#pragma GCC unroll 8
    for (std::size_t lane = 0; lane < 8; ++lane) {
      low[lane] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(frames[lane] + pixel));
      high[lane] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(frames[lane + 8] + pixel));
    }
    transpose(low);
    transpose(high);
#pragma GCC unroll 8
    for (std::size_t index = 0; index < 8; ++index) {
      auto* to = reinterpret_cast<__m256i*>(out + (pixel + index) * lane_count);
      _mm256_store_si256(to, _mm256_permute2x128_si256(low[index], high[index], 0x20));
      _mm256_store_si256(to + 8, _mm256_permute2x128_si256(low[index], high[index], 0x31));
    }
  }
  for (; pixel < pixels; ++pixel) {
    for (std::size_t lane = 0; lane < lane_count; ++lane) out[pixel * lane_count + lane] = frames[lane][pixel];
  }
}

/// 16 x 16 bytes: in each 16-byte lane of the 16 vectors, byte p of vector f goes to byte f of vector p.
ANNULUS_TARGET inline void transpose(__m256i (&v)[16]) {
  for (int step = 0; step < 4; ++step) {
    __m256i next[16];
#pragma GCC unroll 8
    for (std::size_t half = 0; half < 8; ++half) {
      next[2 * half] = _mm256_unpacklo_epi8(v[half], v[half + 8]);
      next[2 * half + 1] = _mm256_unpackhi_epi8(v[half], v[half + 8]);
    }
#pragma GCC unroll 16
    for (std::size_t index = 0; index < 16; ++index) v[index] = next[index];
  }
}

ANNULUS_TARGET void interleave(const std::uint8_t* const (&frames)[lane_count], std::size_t pixels, std::uint8_t* out) {
  std::size_t pixel = 0;
  for (; pixel + 32 <= pixels; pixel += 32) {
    __m256i v[16];
#pragma GCC unroll 16
    for (std::size_t lane = 0; lane < 16; ++lane) {
      v[lane] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(frames[lane] + pixel));
    }
    transpose(v);
#pragma GCC unroll 8
    for (std::size_t index = 0; index < 16; index += 2) {
      auto* to = reinterpret_cast<__m256i*>(out + (pixel + index) * lane_count);
      _mm256_store_si256(to, _mm256_permute2x128_si256(v[index], v[index + 1], 0x20));
      _mm256_store_si256(to + 8, _mm256_permute2x128_si256(v[index], v[index + 1], 0x31));
    }
  }
  for (; pixel < pixels; ++pixel) {
    for (std::size_t lane = 0; lane < lane_count; ++lane) out[pixel * lane_count + lane] = frames[lane][pixel];
  }
}
#undef ANNULUS_TARGET
}  // namespace avx2

namespace avx512 {
#define ANNULUS_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
using Lanes = __m512;
ANNULUS_TARGET inline Lanes zero() { return _mm512_setzero_ps(); }
ANNULUS_TARGET inline Lanes load_counts(const std::uint16_t* counts) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(counts))));
}
ANNULUS_TARGET inline Lanes load_counts(const std::uint8_t* counts) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(counts))));
}
ANNULUS_TARGET inline Lanes fused(Lanes counts, float weight, Lanes sum) {
  return _mm512_fmadd_ps(counts, _mm512_set1_ps(weight), sum);
}
ANNULUS_TARGET inline Lanes at_least_one(Lanes counts) { return _mm512_max_ps(counts, _mm512_set1_ps(1.0F)); }
ANNULUS_TARGET inline void square_weights(const float* weights, float* squares) {
  const __m256 all = _mm256_loadu_ps(weights);
  _mm256_store_ps(squares, _mm256_mul_ps(all, all));
}
ANNULUS_TARGET inline void add_lanes(double* sums, Lanes lanes) {
  // By way of memory, from where a half is widened as it is loaded: in registers it would be moved down first.
  alignas(64) float all[lane_count];
  _mm512_store_ps(all, lanes);
  asm volatile("" : "+m"(all));
  _mm512_store_pd(sums, _mm512_add_pd(_mm512_load_pd(sums), _mm512_cvtps_pd(_mm256_load_ps(all))));
  _mm512_store_pd(sums + 8, _mm512_add_pd(_mm512_load_pd(sums + 8), _mm512_cvtps_pd(_mm256_load_ps(all + 8))));
}
#include "kernels/openmp/pair_product.inc"

ANNULUS_TARGET inline void transpose(__m512i (&v)[8]) {
  for (int step = 0; step < 3; ++step) {
    __m512i next[8];
#pragma GCC unroll 4
    for (std::size_t half = 0; half < 4; ++half) {
      next[2 * half] = _mm512_unpacklo_epi16(v[half], v[half + 4]);
      next[2 * half + 1] = _mm512_unpackhi_epi16(v[half], v[half + 4]);
    }
#pragma GCC unroll 8
    for (std::size_t index = 0; index < 8; ++index) v[index] = next[index];
  }
}

ANNULUS_TARGET void interleave(const std::uint16_t* const (&frames)[lane_count], std::size_t pixels,
                               std::uint16_t* out) {
  // Lane l of vector p of the transposed ones holds pixel 8 l + p of eight frames.
  const __m512i first_pixels = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
  const __m512i last_pixels = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  std::size_t pixel = 0;
  for (; pixel + 32 <= pixels; pixel += 32) {
    __m512i low[8];
    __m512i high[8];
#pragma GCC unroll 8
    for (std::size_t lane = 0; lane < 8; ++lane) {
      low[lane] = _mm512_loadu_si512(frames[lane] + pixel);
      high[lane] = _mm512_loadu_si512(frames[lane + 8] + pixel);
    }
    transpose(low);
    transpose(high);
#pragma GCC unroll 8
    for (std::size_t index = 0; index < 8; ++index) {
      const __m512i first = _mm512_permutex2var_epi64(low[index], first_pixels, high[index]);
      const __m512i last = _mm512_permutex2var_epi64(low[index], last_pixels, high[index]);
      auto* to = reinterpret_cast<__m256i*>(out + (pixel + index) * lane_count);
      _mm256_store_si256(to, _mm512_castsi512_si256(first));
      _mm256_store_si256(to + 8, _mm512_maskz_extracti64x4_epi64(0xf, first, 1));
      _mm256_store_si256(to + 16, _mm512_castsi512_si256(last));
      _mm256_store_si256(to + 24, _mm512_maskz_extracti64x4_epi64(0xf, last, 1));
    }
  }
  for (; pixel < pixels; ++pixel) {
    for (std::size_t lane = 0; lane < lane_count; ++lane) out[pixel * lane_count + lane] = frames[lane][pixel];
  }
}

ANNULUS_TARGET inline void transpose(__m512i (&v)[16]) {
  for (int step = 0; step < 4; ++step) {
    __m512i next[16];
#pragma GCC unroll 8
    for (std::size_t half = 0; half < 8; ++half) {
      next[2 * half] = _mm512_unpacklo_epi8(v[half], v[half + 8]);
      next[2 * half + 1] = _mm512_unpackhi_epi8(v[half], v[half + 8]);
    }
#pragma GCC unroll 16
    for (std::size_t index = 0; index < 16; ++index) v[index] = next[index];
  }
}

ANNULUS_TARGET void interleave(const std::uint8_t* const (&frames)[lane_count], std::size_t pixels, std::uint8_t* out) {
  std::size_t pixel = 0;
  for (; pixel + 64 <= pixels; pixel += 64) {
    __m512i v[16];
#pragma GCC unroll 16
    for (std::size_t lane = 0; lane < 16; ++lane) v[lane] = _mm512_loadu_si512(frames[lane] + pixel);
    transpose(v);
    // Lane l of vector p holds pixel 16 l + p of all frames.
#pragma GCC unroll 4
    for (std::size_t index = 0; index < 16; index += 4) {
      const __m512i low01 = _mm512_shuffle_i64x2(v[index], v[index + 1], 0x44);
      const __m512i high01 = _mm512_shuffle_i64x2(v[index], v[index + 1], 0xee);
      const __m512i low23 = _mm512_shuffle_i64x2(v[index + 2], v[index + 3], 0x44);
      const __m512i high23 = _mm512_shuffle_i64x2(v[index + 2], v[index + 3], 0xee);
      std::uint8_t* to = out + (pixel + index) * lane_count;
      _mm512_store_si512(to, _mm512_shuffle_i64x2(low01, low23, 0x88));
      _mm512_store_si512(to + 16 * lane_count, _mm512_shuffle_i64x2(low01, low23, 0xdd));
      _mm512_store_si512(to + 32 * lane_count, _mm512_shuffle_i64x2(high01, high23, 0x88));
      _mm512_store_si512(to + 48 * lane_count, _mm512_shuffle_i64x2(high01, high23, 0xdd));
    }
  }
  for (; pixel < pixels; ++pixel) {
    for (std::size_t lane = 0; lane < lane_count; ++lane) out[pixel * lane_count + lane] = frames[lane][pixel];
  }
}
#undef ANNULUS_TARGET
}  // namespace avx512

#endif  // __x86_64__

/// The variances of a tile in which all counts are 0.
ANNULUS_FOR_EVERY_CPU void add_squares(const PairMatrix::Tile& tile, double* sums) {
  for (std::size_t group = 0; group < tile.bins.size(); ++group) {
    double* variances = sums + std::size_t{tile.bins[group]} * bin_stride + lane_count;
    const double first = tile.first_squares[group];
    const double second = tile.second_squares[group];
    for (std::size_t lane = 0; lane < lane_count; ++lane) variances[lane] += first;
    variances += bin_stride;
    for (std::size_t lane = 0; lane < lane_count; ++lane) variances[lane] += second;
  }
}

template <typename Count>
void interleave_counts(SimdPath path, const Count* const (&frames)[lane_count], std::size_t pixels, Count* out) {
#if defined(__x86_64__)
  if (path >= SimdPath::avx512) return avx512::interleave(frames, pixels, out);
  if (path >= SimdPath::avx2) return avx2::interleave(frames, pixels, out);
#endif
  static_cast<void>(path);
  plain::interleave(frames, pixels, out);
}

template <PairMoments moments, typename Count>
void multiply_counts(SimdPath path, const PairMatrix::Tile& tile, const Count* values, double* sums) {
#if defined(__x86_64__)
  if (path >= SimdPath::avx512) return avx512::multiply<moments>(tile, values, sums);
  if (path >= SimdPath::avx2) return avx2::multiply<moments>(tile, values, sums);
#endif
  static_cast<void>(path);
  plain::multiply<moments>(tile, values, sums);
}

}  // namespace

void interleave(SimdPath path, const std::uint16_t* const (&frames)[lane_count], std::size_t pixels,
                std::uint16_t* out) {
  interleave_counts(path, frames, pixels, out);
}

void interleave(SimdPath path, const std::uint8_t* const (&frames)[lane_count], std::size_t pixels, std::uint8_t* out) {
  interleave_counts(path, frames, pixels, out);
}

void multiply_pairs(SimdPath path, PairMoments moments, const PairMatrix::Tile& tile, const std::uint16_t* values,
                    double* sums) {
  moments == PairMoments::poisson ? multiply_counts<PairMoments::poisson>(path, tile, values, sums)
                                  : multiply_counts<PairMoments::signal>(path, tile, values, sums);
}

void multiply_pairs(SimdPath path, PairMoments moments, const PairMatrix::Tile& tile, const std::uint8_t* values,
                    double* sums) {
  moments == PairMoments::poisson ? multiply_counts<PairMoments::poisson>(path, tile, values, sums)
                                  : multiply_counts<PairMoments::signal>(path, tile, values, sums);
}

void add_zero_counts(PairMoments moments, const PairMatrix::Tile& tile, double* sums) {
  if (moments == PairMoments::poisson) add_squares(tile, sums);
}

}  // namespace annulus::kernels::openmp
