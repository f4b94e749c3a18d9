// Bitshuffle + LZ4 chunks, HDF5 filter 32008: what Dectris detectors write.
//
// Layout of a chunk (bitshuffle's h5 filter): uint64 big-endian decoded size in bytes, uint32 big-endian block size in
// bytes, then per block a uint32 big-endian compressed length and an LZ4 block of bit-transposed elements. Blocks hold
// a multiple of 8 elements; a last shorter block too; what is left over (fewer than 8 elements) follows uncompressed.
// Block size 0 means bitshuffle's default: 8192 bytes / element size, rounded down to a multiple of 8 elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/encoded_batch.hpp"

namespace annulus::kernels {

/// Decodes one chunk of elements of `element_size` bytes (1, 2, 4 or 8) into `out`, which must have the frame's exact
/// size in bytes; on failure `out` is undefined, and no byte outside it or outside `chunk` is ever touched, whatever
/// the chunk holds. Safe to call from many threads.
[[nodiscard]] DecodeStatus decode_bslz4(std::span<const std::byte> chunk, std::size_t element_size,
                                        std::span<std::byte> out);

/// Decodes a frame of whichever encoding, as decode_bslz4() does.
[[nodiscard]] DecodeStatus decode(const EncodedFrame& frame, std::size_t element_size, std::span<std::byte> out);

/// Encodes a frame as one chunk, blocks of bitshuffle's default size (8 KiB). `in` holds whole elements.
[[nodiscard]] std::vector<std::byte> encode_bslz4(std::span<const std::byte> in, std::size_t element_size);

}  // namespace annulus::kernels
