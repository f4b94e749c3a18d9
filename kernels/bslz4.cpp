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

/// Decodes the next block of `chunk`, which is shortened by it, into `elements`; `planes` has the same size.
DecodeStatus decode_block(std::span<const std::byte>& chunk, SimdPath path, std::size_t element_size,
                          std::span<std::byte> planes, std::span<std::byte> elements) {
  if (chunk.size() < length_bytes) return DecodeStatus::truncated;
  const std::size_t length = read_big_endian<std::uint32_t>(chunk);
  chunk = chunk.subspan(length_bytes);
  // LZ4 counts in int. No encoder stores more than the bound: such a length is nonsense, not the sign of a short file.
  if (length > static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(planes.size())))) {
    return DecodeStatus::corrupt;
  }
  if (length > chunk.size()) return DecodeStatus::truncated;
  const int decoded =
      LZ4_decompress_safe(reinterpret_cast<const char*>(chunk.data()), reinterpret_cast<char*>(planes.data()),
                          static_cast<int>(length), static_cast<int>(planes.size()));
  if (decoded < 0 || static_cast<std::size_t>(decoded) != planes.size()) return DecodeStatus::corrupt;
  chunk = chunk.subspan(length);
  bit_unshuffle(path, planes, element_size, elements);
  return DecodeStatus::ok;
}

}  // namespace

DecodeStatus decode_bslz4(std::span<const std::byte> chunk, std::size_t element_size, std::span<std::byte> out) {
  ANNULUS_EXPECT(is_element_size(element_size));
  ANNULUS_EXPECT(out.size() % element_size == 0);
  if (chunk.size() < header_bytes) return DecodeStatus::truncated;
  if (read_big_endian<std::uint64_t>(chunk) != out.size()) return DecodeStatus::wrong_size;
  std::size_t block_bytes = read_big_endian<std::uint32_t>(chunk.subspan(sizeof(std::uint64_t)));
  if (block_bytes == 0) block_bytes = default_block_bytes;
  const std::size_t group_bytes = 8 * element_size;
  if (block_bytes % group_bytes != 0) return DecodeStatus::corrupt;
  chunk = chunk.subspan(header_bytes);

  const std::size_t raw_bytes = out.size() % group_bytes;
  const std::size_t shuffled_bytes = out.size() - raw_bytes;
  // Whatever the header says, no block is larger than the frame, for which the caller had memory.
  block_bytes = std::min(block_bytes, shuffled_bytes);
  if (block_bytes > LZ4_MAX_INPUT_SIZE) return DecodeStatus::corrupt;

  alignas(64) std::array<std::byte, stack_block_bytes> on_stack;
  std::unique_ptr<std::byte[]> on_heap;
  if (block_bytes > on_stack.size()) on_heap = std::make_unique_for_overwrite<std::byte[]>(block_bytes);
  std::byte* const planes = on_heap ? on_heap.get() : on_stack.data();

  const SimdPath path = available_paths().back();
  for (std::size_t position = 0; position < shuffled_bytes; position += block_bytes) {
    const std::size_t bytes = std::min(block_bytes, shuffled_bytes - position);
    const DecodeStatus status =
        decode_block(chunk, path, element_size, std::span(planes, bytes), out.subspan(position, bytes));
    if (status != DecodeStatus::ok) return status;
  }
  if (chunk.size() < raw_bytes) return DecodeStatus::truncated;
  std::copy_n(chunk.begin(), raw_bytes, out.begin() + static_cast<std::ptrdiff_t>(shuffled_bytes));
  return DecodeStatus::ok;
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
  const SimdPath path = available_paths().back();

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
