#include "kernels/bslz4.hpp"

#include <lz4.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/errors.hpp"
#include "kernels/bitshuffle.hpp"

namespace annulus::kernels {
namespace {

constexpr std::size_t header_bytes = 12;  ///< uint64 decoded size, uint32 block size
constexpr std::size_t length_bytes = 4;   ///< uint32 before each block
constexpr std::size_t default_block_bytes = 8192;

/// Blocks up to this size are decoded on the stack, where they stay in the first-level cache: detectors write 8 KiB.
constexpr std::size_t stack_block_bytes = 2 * default_block_bytes;

bool is_element_size(std::size_t element_size) {
  return element_size == 1 || element_size == 2 || element_size == 4 || element_size == 8;
}

template <typename Integer>
Integer read_big_endian(std::span<const std::byte> bytes) {
  Integer value = 0;
  for (std::size_t index = 0; index < sizeof(Integer); ++index) {
    value = static_cast<Integer>((value << 8) | std::to_integer<Integer>(bytes[index]));
  }
  return value;
}

template <typename Integer>
void append_big_endian(Integer value, std::vector<std::byte>& bytes) {
  for (std::size_t index = sizeof(Integer); index-- > 0;) bytes.push_back(static_cast<std::byte>(value >> (8 * index)));
}

}  // namespace

DecodeStatus Bslz4Reader::open(std::span<const std::byte> chunk, std::size_t element_size, std::size_t decoded_bytes) {
  ANNULUS_EXPECT(is_element_size(element_size));
  ANNULUS_EXPECT(decoded_bytes % element_size == 0);
  *this = {};
  if (chunk.size() < header_bytes) return DecodeStatus::truncated;
  if (read_big_endian<std::uint64_t>(chunk) != decoded_bytes) return DecodeStatus::wrong_size;
  std::size_t block_bytes = read_big_endian<std::uint32_t>(chunk.subspan(sizeof(std::uint64_t)));
  if (block_bytes == 0) block_bytes = default_block_bytes;
  const std::size_t group_bytes = 8 * element_size;
  if (block_bytes % group_bytes != 0) return DecodeStatus::corrupt;
  const std::size_t rest_bytes = decoded_bytes % group_bytes;
  // Whatever the header says, no block is larger than the frame, for which the caller has memory.
  block_bytes = std::min(block_bytes, decoded_bytes - rest_bytes);
  if (block_bytes > LZ4_MAX_INPUT_SIZE) return DecodeStatus::corrupt;
  chunk_ = chunk.subspan(header_bytes);
  block_bytes_ = block_bytes;
  shuffled_bytes_ = decoded_bytes - rest_bytes;
  rest_bytes_ = rest_bytes;
  return DecodeStatus::ok;
}

DecodeStatus Bslz4Reader::take(std::span<const std::byte>& block) {
  if (chunk_.size() < length_bytes) return DecodeStatus::truncated;
  const std::size_t length = read_big_endian<std::uint32_t>(chunk_);
  chunk_ = chunk_.subspan(length_bytes);
  // LZ4 counts in int. No encoder stores more than the bound: such a length is nonsense, not the sign of a short file.
  if (length == 0 || length > static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(next_bytes())))) {
    return DecodeStatus::corrupt;
  }
  if (length > chunk_.size()) return DecodeStatus::truncated;
  block = chunk_.first(length);
  chunk_ = chunk_.subspan(length);
  return DecodeStatus::ok;
}

DecodeStatus Bslz4Reader::skip() {
  std::span<const std::byte> block;
  const DecodeStatus status = take(block);
  shuffled_bytes_ -= next_bytes();
  return status;
}

DecodeStatus Bslz4Reader::next(SimdPath path, std::byte* planes) {
  std::span<const std::byte> block;
  const DecodeStatus status = take(block);
  if (status != DecodeStatus::ok) return status;
  // Behind a chunk's last blocks lie fewer bytes than the decoder may read.
  std::vector<std::byte> padded;
  if (chunk_.size() < lz4_slack) {
    padded.resize(block.size() + lz4_slack);
    std::copy(block.begin(), block.end(), padded.begin());
    block = std::span(padded).first(block.size());
  }
  // The next block will be as long as this one, or nearly: it is on its way while other frames are decoded.
  const std::size_t ahead = std::min(block.size() + 256, chunk_.size());
  for (std::size_t byte = 0; byte < ahead; byte += 64) __builtin_prefetch(chunk_.data() + byte, 0, 2);
  if (!decode_lz4_block(path, block.data(), block.size(), planes, next_bytes())) return DecodeStatus::corrupt;
  shuffled_bytes_ -= next_bytes();
  return DecodeStatus::ok;
}

DecodeStatus Bslz4Reader::rest(std::span<const std::byte>& bytes) const {
  if (chunk_.size() < rest_bytes_) return DecodeStatus::truncated;
  bytes = chunk_.first(rest_bytes_);
  return DecodeStatus::ok;
}

DecodeStatus decode_bslz4(std::span<const std::byte> chunk, std::size_t element_size, std::span<std::byte> out) {
  Bslz4Reader reader;
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
    status = reader.next(path, planes);
    if (status != DecodeStatus::ok) return status;
    bit_unshuffle(path, std::span(planes, bytes), element_size, out.subspan(position, bytes));
    position += bytes;
  }
  std::span<const std::byte> rest;
  status = reader.rest(rest);
  if (status == DecodeStatus::ok)
    std::copy(rest.begin(), rest.end(), out.begin() + static_cast<std::ptrdiff_t>(position));
  return status;
}

DecodeStatus decode(const EncodedFrame& frame, std::size_t element_size, std::span<std::byte> out) {
  if (frame.encoding == Encoding::bslz4) return decode_bslz4(frame.bytes, element_size, out);
  if (frame.bytes.size() != out.size()) return DecodeStatus::wrong_size;
  std::copy(frame.bytes.begin(), frame.bytes.end(), out.begin());
  return DecodeStatus::ok;
}

std::vector<std::byte> encode_bslz4(std::span<const std::byte> in, std::size_t element_size) {
  ANNULUS_EXPECT(is_element_size(element_size));
  ANNULUS_EXPECT(in.size() % element_size == 0);
  std::array<std::byte, default_block_bytes> planes;
  std::array<std::byte, LZ4_COMPRESSBOUND(default_block_bytes)> compressed;
  const std::size_t raw_bytes = in.size() % (8 * element_size);
  const std::size_t shuffled_bytes = in.size() - raw_bytes;
  const SimdPath path = best_path();

  std::vector<std::byte> chunk;
  chunk.reserve(header_bytes + in.size() / 2);  // detector frames shrink to a half or less; others let it grow
  append_big_endian<std::uint64_t>(in.size(), chunk);
  append_big_endian<std::uint32_t>(default_block_bytes, chunk);
  for (std::size_t position = 0; position < shuffled_bytes; position += default_block_bytes) {
    const std::size_t bytes = std::min(default_block_bytes, shuffled_bytes - position);
    bit_shuffle(path, in.subspan(position, bytes), element_size, std::span(planes).first(bytes));
    const int length =
        LZ4_compress_default(reinterpret_cast<const char*>(planes.data()), reinterpret_cast<char*>(compressed.data()),
                             static_cast<int>(bytes), static_cast<int>(compressed.size()));
    ANNULUS_EXPECT(length > 0);
    append_big_endian(static_cast<std::uint32_t>(length), chunk);
    chunk.insert(chunk.end(), compressed.begin(), compressed.begin() + length);
  }
  chunk.insert(chunk.end(), in.end() - static_cast<std::ptrdiff_t>(raw_bytes), in.end());
  return chunk;
}

}  // namespace annulus::kernels
