// Chunks of HDF5 filter 32008, bitshuffle: bit planes in blocks, each compressed by itself or not at all.
//
// Layout of a chunk (bitshuffle's h5 filter) with LZ4 (bslz4) or Zstandard (bszstd): uint64 big-endian decoded size in
// bytes, uint32 big-endian block size in bytes, then per block a uint32 big-endian compressed length and the compressed
// planes. Blocks hold a multiple of 8 elements; a last shorter block too; what is left over (fewer than 8 elements)
// follows uncompressed. Block size 0 means bitshuffle's default: 8192 bytes / element size, rounded down to a multiple
// of 8 elements. Without compression there is no header and no length: planes, block by block, then what is left over.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "kernels/encoded_batch.hpp"
#include "kernels/lz4_block.hpp"

namespace annulus::kernels {

/// Bytes before the first block of a compressed chunk, and those of its block size where the header says 0.
inline constexpr std::size_t bitshuffle_header_bytes = 12;
inline constexpr std::size_t default_block_bytes = 8192;

/// The blocks of one chunk, in order: for those who decode a frame block by block.
class BlockReader {
 public:
  /// Reads the header of a chunk of elements of `element_size` bytes (1, 2, 4 or 8) that must decode to
  /// `decoded_bytes`. Its encoding is one of bit planes, compressed by LZ4, Zstandard or nothing.
  [[nodiscard]] DecodeStatus open(const EncodedFrame& chunk, std::size_t element_size, std::size_t decoded_bytes);
  /// Bytes of every block but the last, which may be shorter.
  [[nodiscard]] std::size_t block_bytes() const { return block_bytes_; }
  /// Decoded bytes of the next block; 0 when none is left.
  [[nodiscard]] std::size_t next_bytes() const { return std::min(block_bytes_, shuffled_bytes_); }
  /// Decodes the next block's bit planes into `planes`, which holds next_bytes() + lz4_slack.
  /// @param written  set to how far they were written
  [[nodiscard]] DecodeStatus next(SimdPath path, std::byte* planes, WrittenBytes& written);
  /// Passes over the next block.
  [[nodiscard]] DecodeStatus skip();
  /// What follows the last block: fewer than 8 elements, as they are. `bytes` is its expected length.
  [[nodiscard]] DecodeStatus rest(std::span<const std::byte>& bytes) const;

 private:
  /// Takes the next block's bytes off the chunk.
  [[nodiscard]] DecodeStatus take(std::span<const std::byte>& block);

  std::span<const std::byte> chunk_;  ///< what is left of it
  Compression compression_ = Compression::none;
  std::size_t block_bytes_ = 0;
  std::size_t shuffled_bytes_ = 0;  ///< decoded bytes of the blocks that are left
  std::size_t rest_bytes_ = 0;
};

/// Decodes a chunk as a whole, as decode() does.
[[nodiscard]] DecodeStatus decode_bitshuffle(const EncodedFrame& chunk, std::size_t element_size,
                                             std::span<std::byte> out);

}  // namespace annulus::kernels
