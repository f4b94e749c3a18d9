#include "kernels/bitshuffle_chunk.hpp"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "base/errors.hpp"
#include "kernels/big_endian.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/decompress.hpp"

namespace annulus::kernels {
namespace {

constexpr std::size_t length_bytes = 4;  ///< uint32 before each block

/// Blocks up to this size are decoded on the stack, where they stay in the first-level cache: detectors write 8 KiB.
constexpr std::size_t stack_block_bytes = 2 * default_block_bytes;

bool is_element_size(std::size_t element_size) {
  return element_size == 1 || element_size == 2 || element_size == 4 || element_size == 8;
}

}  // namespace

DecodeStatus BlockReader::open(const EncodedFrame& chunk, std::size_t element_size, std::size_t decoded_bytes) {
  ANNULUS_EXPECT(chunk.encoding.shuffle == Shuffle::bits && chunk.encoding.compression != Compression::deflate);
  ANNULUS_EXPECT(is_element_size(element_size));
  ANNULUS_EXPECT(decoded_bytes % element_size == 0);
  *this = {};
  std::uint64_t block_bytes = chunk.encoding.block_bytes;
  std::size_t header_bytes = 0;
  if (chunk.encoding.compression == Compression::none) {
    if (chunk.bytes.size() != decoded_bytes) return DecodeStatus::wrong_size;
  } else {
    header_bytes = bitshuffle_header_bytes;
    if (chunk.bytes.size() < header_bytes) return DecodeStatus::truncated;
    if (read_big_endian<std::uint64_t>(chunk.bytes) != decoded_bytes) return DecodeStatus::wrong_size;
    block_bytes = read_big_endian<std::uint32_t>(chunk.bytes.subspan(sizeof(std::uint64_t)));
  }
  if (block_bytes == 0) block_bytes = default_block_bytes;
  const std::size_t group_bytes = 8 * element_size;
  if (block_bytes % group_bytes != 0) return DecodeStatus::corrupt;
  const std::size_t rest_bytes = decoded_bytes % group_bytes;
  // Whatever the header says, no block is larger than the frame, for which the caller has memory.
  block_bytes = std::min<std::uint64_t>(block_bytes, decoded_bytes - rest_bytes);
  if (block_bytes > LZ4_MAX_INPUT_SIZE) return DecodeStatus::corrupt;
  chunk_ = chunk.bytes.subspan(header_bytes);
  compression_ = chunk.encoding.compression;
  block_bytes_ = block_bytes;
  shuffled_bytes_ = decoded_bytes - rest_bytes;
  rest_bytes_ = rest_bytes;
  return DecodeStatus::ok;
}

DecodeStatus BlockReader::take(std::span<const std::byte>& block) {
  std::size_t length = next_bytes();
  if (compression_ != Compression::none) {
    if (chunk_.size() < length_bytes) return DecodeStatus::truncated;
    // No encoder stores more than its bound: such a length is nonsense, not the sign of a short file.
    const std::size_t longest = compression_ == Compression::zstd
                                    ? ZSTD_COMPRESSBOUND(length)
                                    : static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(length)));
    length = read_big_endian<std::uint32_t>(chunk_);
    chunk_ = chunk_.subspan(length_bytes);
    if (length == 0 || length > longest) return DecodeStatus::corrupt;
  }
  if (length > chunk_.size()) return DecodeStatus::truncated;
  block = chunk_.first(length);
  chunk_ = chunk_.subspan(length);
  return DecodeStatus::ok;
}

DecodeStatus BlockReader::skip() {
  std::span<const std::byte> block;
  const DecodeStatus status = take(block);
  shuffled_bytes_ -= next_bytes();
  return status;
}

DecodeStatus BlockReader::next(SimdPath path, std::byte* planes, WrittenBytes& written) {
  std::span<const std::byte> block;
  const DecodeStatus status = take(block);
  if (status != DecodeStatus::ok) return status;
  // The next block will be as long as this one, or nearly: it is on its way while other frames are decoded.
  const std::size_t ahead = std::min(block.size() + 256, chunk_.size());
  for (std::size_t byte = 0; byte < ahead; byte += 64) __builtin_prefetch(chunk_.data() + byte, 0, 2);
  const std::size_t bytes = next_bytes();
  shuffled_bytes_ -= bytes;
  written = {bytes, 1};
  if (compression_ != Compression::lz4) {
    const bool ok = decompress(compression_, block, {planes, bytes}) == DecodeStatus::ok;
    return ok ? DecodeStatus::ok : DecodeStatus::corrupt;
  }
  // Behind a chunk's last blocks lie fewer bytes than the decoder may read.
  std::vector<std::byte> padded;
  if (chunk_.size() < lz4_slack) {
    padded.resize(block.size() + lz4_slack);
    std::copy(block.begin(), block.end(), padded.begin());
    block = std::span(padded).first(block.size());
  }
  const bool ok = decode_lz4_block(path, block.data(), block.size(), planes, bytes, written);
  return ok ? DecodeStatus::ok : DecodeStatus::corrupt;
}

DecodeStatus BlockReader::rest(std::span<const std::byte>& bytes) const {
  if (chunk_.size() < rest_bytes_) return DecodeStatus::truncated;
  bytes = chunk_.first(rest_bytes_);
  return DecodeStatus::ok;
}

DecodeStatus decode_bitshuffle(const EncodedFrame& chunk, std::size_t element_size, std::span<std::byte> out) {
  BlockReader reader;
  DecodeStatus status = reader.open(chunk, element_size, out.size());
  if (status != DecodeStatus::ok) return status;

  alignas(64) std::array<std::byte, stack_block_bytes + lz4_slack> on_stack;
  std::unique_ptr<std::byte[]> on_heap;
  if (reader.block_bytes() > stack_block_bytes) {
    on_heap = std::make_unique_for_overwrite<std::byte[]>(reader.block_bytes() + lz4_slack);
  }
  std::byte* const planes = on_heap ? on_heap.get() : on_stack.data();
  const SimdPath path = best_path();
  std::size_t position = 0;
  while (const std::size_t bytes = reader.next_bytes()) {
    WrittenBytes written;
    status = reader.next(path, planes, written);
    if (status != DecodeStatus::ok) return status;
    written.extend(planes, bytes);
    bit_unshuffle(path, std::span(planes, bytes), element_size, out.subspan(position, bytes));
    position += bytes;
  }
  std::span<const std::byte> rest;
  status = reader.rest(rest);
  if (status == DecodeStatus::ok)
    std::copy(rest.begin(), rest.end(), out.begin() + static_cast<std::ptrdiff_t>(position));
  return status;
}

}  // namespace annulus::kernels
