// One tile of the paired matrix times the same tile of 16 frames of counts.
//
// The frames lie side by side, one in each lane: tile[pixel][lane], as bytes or as uint16, which holds all but a
// handful of counts (those go by pixel, see frame_lane.hpp). Within a group of eight slots float32 sums by fused
// multiply-add, groups are added in float64: a group's relative error is below 8 x 2^-24, and every lane and
// instruction set does the same operations in the same order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/openmp/pair_matrix.hpp"
#include "kernels/simd_path.hpp"

namespace annulus::kernels::openmp {

/// Frames that go through the matrix side by side.
inline constexpr std::size_t lane_count = 16;

/// Whether the variance is summed too.
enum class PairMoments : std::uint8_t { signal, poisson };

/// float64 sums of a bin: lane_count signals `sum c x`, then lane_count variances `sum c^2 max(x, 1)`.
inline constexpr std::size_t bin_stride = 2 * lane_count;

/// Brings 16 frames side by side: out[pixel][lane] = frames[lane][pixel].
/// @param frames  first pixel of each lane; @param pixels any number
void interleave(SimdPath path, const std::uint16_t* const (&frames)[lane_count], std::size_t pixels,
                std::uint16_t* out);
void interleave(SimdPath path, const std::uint8_t* const (&frames)[lane_count], std::size_t pixels, std::uint8_t* out);

/// Turns bytes into uint16. Both may share their memory where `from` lies behind `to` by at least `count` bytes.
void widen(const std::uint8_t* from, std::size_t count, std::uint16_t* to);

/// Adds the product of a tile to `sums`, [bins + 1][bin_stride]; 64-byte alignment of `values` and `sums`.
/// @param values  [pixels of the tile][lane_count]
void multiply_pairs(SimdPath path, PairMoments moments, const PairMatrix::Tile& tile, const std::uint16_t* values,
                    double* sums);
void multiply_pairs(SimdPath path, PairMoments moments, const PairMatrix::Tile& tile, const std::uint8_t* values,
                    double* sums);

/// What multiply_pairs() adds, to the last bit, for a tile in which no frame has a count.
void add_zero_counts(PairMoments moments, const PairMatrix::Tile& tile, double* sums);

}  // namespace annulus::kernels::openmp
