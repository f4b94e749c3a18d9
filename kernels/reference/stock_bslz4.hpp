// Bitshuffle + LZ4 chunks decoded as anybody would: stock liblz4 and then the bit transposition, block by block.
//
// It is what decode_bslz4() is measured against: the floor that annulus bench and the benchmarks tell, and the oracle
// of its tests. Never used to integrate.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "kernels/bitshuffle.hpp"
#include "kernels/encoded_batch.hpp"

namespace annulus::kernels::reference {

/// Decodes a chunk as decode_bslz4() does, with the unshuffle of `path`; a block stays in the first-level cache between
/// the two steps where it has at most 16 KiB. `chunk` may hold anything, but the words for what is wrong are fewer: all
/// that is no chunk of out.size() bytes is `corrupt`.
[[nodiscard]] DecodeStatus decode_stock_bslz4(SimdPath path, std::span<const std::byte> chunk, std::size_t element_size,
                                              std::span<std::byte> out);

/// The version of liblz4 that is linked: "1.9.4".
[[nodiscard]] std::string stock_lz4_version();

}  // namespace annulus::kernels::reference
