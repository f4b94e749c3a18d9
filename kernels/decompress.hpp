// Decompression of a whole buffer whose decoded size is known, by libzstd, libdeflate and liblz4.
//
// None writes beyond that size, whatever the input promises: there are no decompression bombs. The libraries' contexts
// are kept, one a thread: to make one costs as much as to decode a block.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/encoded_batch.hpp"

namespace annulus::kernels {

/// Decompresses `in` into exactly `out`, which is undefined on failure:
/// - none: the same bytes; another size is `wrong_size`;
/// - lz4: HDF5 filter 32004, uint64 decoded size, uint32 block size, then per block a uint32 compressed length (all
///   big-endian) and an LZ4 block, or the bytes themselves where that length is the block's own;
/// - zstd: Zstandard frames (RFC 8878), with their checksums where they have some;
/// - deflate: a zlib stream (RFC 1950) with its checksum; bytes behind its end are ignored, as HDF5 does. It does not
///   say its size, and a truncated one may seem to end early or to go on: every failure is `corrupt`.
/// Throws std::bad_alloc. Safe to call from many threads.
[[nodiscard]] DecodeStatus decompress(Compression compression, std::span<const std::byte> in, std::span<std::byte> out);

}  // namespace annulus::kernels
