// Bit transposition of elements, the half of bslz4 that is not LZ4: the format of bitshuffle (K. Masui et al.,
// Astronomy and Computing 12 (2015) 181, doi:10.1016/j.ascom.2015.07.002).
//
// A block of n elements (n a multiple of 8) of E bytes becomes 8 E bit planes of n / 8 bytes each, one behind the
// other. Plane 8 b + k holds bit k of byte b of every element; in its byte j, bit i belongs to element 8 j + i. Bytes
// count in memory order, bits from the least significant one.
//
// The instruction set is chosen at run time, so that one binary runs on any x86-64; every path gives the same bytes.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/simd_path.hpp"

namespace annulus::kernels {

/// Elements to planes. `elements` holds a multiple of 8 elements of `element_size` bytes (1, 2, 4 or 8); `planes` has
/// the same size, is overwritten and must not overlap `elements`. `path` must be one of available_paths().
void bit_shuffle(SimdPath path, std::span<const std::byte> elements, std::size_t element_size,
                 std::span<std::byte> planes);

/// Planes to elements, the inverse of bit_shuffle() under the same conditions.
void bit_unshuffle(SimdPath path, std::span<const std::byte> planes, std::size_t element_size,
                   std::span<std::byte> elements);

}  // namespace annulus::kernels
