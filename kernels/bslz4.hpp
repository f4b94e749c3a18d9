// Bitshuffle + LZ4 chunks, HDF5 filter 32008: what Dectris detectors write.
//
// Layout of a chunk (bitshuffle's h5 filter): uint64 big-endian decoded size in bytes, uint32 big-endian block size in
// bytes, then per block a uint32 big-endian compressed length and an LZ4 block of bit-transposed elements. Blocks hold
// a multiple of 8 elements; a last shorter block too; what is left over (fewer than 8 elements) follows uncompressed.
// Block size 0 means bitshuffle's default: 8192 bytes / element size, rounded down to a multiple of 8 elements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/encoded_batch.hpp"
#include "kernels/lz4_block.hpp"

namespace annulus::kernels {

/// The blocks of one chunk, in order: for those who decode a frame block by block.
class Bslz4Reader {
 public:
  /// Reads the header of a chunk of elements of `element_size` bytes (1, 2, 4 or 8) that must decode to
  /// `decoded_bytes`.
  [[nodiscard]] DecodeStatus open(std::span<const std::byte> chunk, std::size_t element_size,
                                  std::size_t decoded_bytes);
  /// Bytes of every block but the last, which may be shorter.
  [[nodiscard]] std::size_t block_bytes() const { return block_bytes_; }
  /// Decoded bytes of the next block; 0 when none is left.
  [[nodiscard]] std::size_t next_bytes() const { return std::min(block_bytes_, shuffled_bytes_); }
  /// Decodes the next block's bit planes into `planes`, which holds next_bytes() + lz4_slack.
  [[nodiscard]] DecodeStatus next(SimdPath path, std::byte* planes);
  /// Passes over the next block.
  [[nodiscard]] DecodeStatus skip();
  /// What follows the last block: fewer than 8 elements, as they are. `bytes` is its expected length.
  [[nodiscard]] DecodeStatus rest(std::span<const std::byte>& bytes) const;

 private:
  /// Takes the next block's compressed bytes off the chunk.
  [[nodiscard]] DecodeStatus take(std::span<const std::byte>& block);

  std::span<const std::byte> chunk_;  ///< what is left of it
  std::size_t block_bytes_ = 0;
  std::size_t shuffled_bytes_ = 0;  ///< decoded bytes of the blocks that are left
  std::size_t rest_bytes_ = 0;
};

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
