// Bitshuffle + LZ4 chunks, HDF5 filter 32008 as Dectris detectors write it: see bitshuffle_chunk.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/encoded_batch.hpp"

namespace annulus::kernels {

/// Decodes one chunk of elements of `element_size` bytes (1, 2, 4 or 8) into `out`, as decode() does.
[[nodiscard]] DecodeStatus decode_bslz4(std::span<const std::byte> chunk, std::size_t element_size,
                                        std::span<std::byte> out);

/// Encodes a frame as one chunk, blocks of bitshuffle's default size (8 KiB). `in` holds whole elements.
[[nodiscard]] std::vector<std::byte> encode_bslz4(std::span<const std::byte> in, std::size_t element_size);

}  // namespace annulus::kernels
