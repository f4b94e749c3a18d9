#include "kernels/openmp/pair_product.hpp"

#include <algorithm>
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
inline void store_lanes(float* to, const Lanes& lanes) { std::copy_n(lanes.lane, lane_count, to); }
inline void add_eight(double* sums, const float* values) {
  for (std::size_t index = 0; index < 8; ++index) sums[index] += static_cast<double>(values[index]);
}
constexpr bool counts_ahead = false;
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
ANNULUS_TARGET inline void store_lanes(float* to, const Lanes& lanes) {
  _mm256_store_ps(to, lanes.half[0]);
  _mm256_store_ps(to + 8, lanes.half[1]);
}
ANNULUS_TARGET inline void add_eight(double* sums, const float* values) {
  _mm256_store_pd(sums, _mm256_add_pd(_mm256_load_pd(sums), _mm256_cvtps_pd(_mm_load_ps(values))));
  _mm256_store_pd(sums + 4, _mm256_add_pd(_mm256_load_pd(sums + 4), _mm256_cvtps_pd(_mm_load_ps(values + 4))));
}
constexpr bool counts_ahead = false;
#include "kernels/openmp/pair_product.inc"

#define ANNULUS_MM(operation) _mm256_##operation
#define ANNULUS_SI(operation) _mm256_##operation##_si256
using Vector = __m256i;
ANNULUS_TARGET inline void store_lanes(void* out, std::size_t stride, const Vector (&v)[4]) {
  auto* to = static_cast<std::byte*>(out);
  for (std::size_t index = 0; index < 4; index += 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16 * index),
                        _mm256_permute2x128_si256(v[index], v[index + 1], 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + stride + 16 * index),
                        _mm256_permute2x128_si256(v[index], v[index + 1], 0x31));
  }
}
#include "kernels/openmp/interleave.inc"
#undef ANNULUS_MM
#undef ANNULUS_SI
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
ANNULUS_TARGET inline void store_lanes(float* to, Lanes lanes) { _mm512_store_ps(to, lanes); }
ANNULUS_TARGET inline void add_eight(double* sums, const float* values) {
  _mm512_store_pd(sums, _mm512_add_pd(_mm512_load_pd(sums), _mm512_cvtps_pd(_mm256_load_ps(values))));
}
constexpr bool counts_ahead = true;
#include "kernels/openmp/pair_product.inc"

#define ANNULUS_MM(operation) _mm512_##operation
#define ANNULUS_SI(operation) _mm512_##operation##_si512
using Vector = __m512i;
ANNULUS_TARGET inline void store_lanes(void* out, std::size_t stride, const Vector (&v)[4]) {
  auto* to = static_cast<std::byte*>(out);
  const Vector low01 = _mm512_shuffle_i64x2(v[0], v[1], 0x44);
  const Vector high01 = _mm512_shuffle_i64x2(v[0], v[1], 0xee);
  const Vector low23 = _mm512_shuffle_i64x2(v[2], v[3], 0x44);
  const Vector high23 = _mm512_shuffle_i64x2(v[2], v[3], 0xee);
  _mm512_storeu_si512(to, _mm512_shuffle_i64x2(low01, low23, 0x88));
  _mm512_storeu_si512(to + stride, _mm512_shuffle_i64x2(low01, low23, 0xdd));
  _mm512_storeu_si512(to + 2 * stride, _mm512_shuffle_i64x2(high01, high23, 0x88));
  _mm512_storeu_si512(to + 3 * stride, _mm512_shuffle_i64x2(high01, high23, 0xdd));
}
#include "kernels/openmp/interleave.inc"
#undef ANNULUS_MM
#undef ANNULUS_SI
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

ANNULUS_FOR_EVERY_CPU void widen(const std::uint8_t* from, std::size_t count, std::uint16_t* to) {
  // By parts that are read before they are written: the compiler, which sees that both may overlap, would go one by
  // one.
  typedef std::uint8_t Bytes __attribute__((vector_size(16)));
  typedef std::uint16_t Words __attribute__((vector_size(32)));
  std::size_t done = 0;
  for (; done + sizeof(Bytes) <= count; done += sizeof(Bytes)) {
    Bytes bytes;
    std::memcpy(&bytes, from + done, sizeof bytes);
    const Words words = __builtin_convertvector(bytes, Words);
    std::memcpy(to + done, &words, sizeof words);
  }
  for (; done < count; ++done) to[done] = from[done];
}

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
