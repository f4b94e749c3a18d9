#include "kernels/reference/stock_bslz4.hpp"

#include <lz4.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/errors.hpp"

namespace annulus::kernels::reference {
namespace {

constexpr std::size_t header_bytes = 12;
constexpr std::size_t default_block_bytes = 8192;

std::uint64_t big_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8U | std::to_integer<std::uint64_t>(byte);
  return value;
}

}  // namespace

DecodeStatus decode_stock_bslz4(SimdPath path, std::span<const std::byte> chunk, std::size_t element_size,
                                std::span<std::byte> out) {
  ANNULUS_EXPECT(element_size > 0 && out.size() % element_size == 0);
  if (chunk.size() < header_bytes || big_endian(chunk.first(8)) != out.size()) return DecodeStatus::corrupt;
  std::size_t block_bytes = big_endian(chunk.subspan(8, 4));
  if (block_bytes == 0) block_bytes = default_block_bytes;
  const std::size_t group = 8 * element_size;
  if (block_bytes % group != 0) return DecodeStatus::corrupt;
  chunk = chunk.subspan(header_bytes);

  const std::size_t shuffled = out.size() - out.size() % group;
  block_bytes = std::min(block_bytes, shuffled);
  if (block_bytes > LZ4_MAX_INPUT_SIZE) return DecodeStatus::corrupt;
  static thread_local std::vector<std::byte> planes;
  planes.resize(block_bytes);
  for (std::size_t done = 0; done < shuffled;) {
    // The last block may be shorter.
    const std::size_t bytes = std::min(block_bytes, shuffled - done);
    if (chunk.size() < 4) return DecodeStatus::corrupt;
    const std::size_t length = big_endian(chunk.first(4));
    if (length > chunk.size() - 4 || length > LZ4_MAX_INPUT_SIZE) return DecodeStatus::corrupt;
    const int decoded =
        LZ4_decompress_safe(reinterpret_cast<const char*>(chunk.data() + 4), reinterpret_cast<char*>(planes.data()),
                            static_cast<int>(length), static_cast<int>(bytes));
    if (decoded < 0 || static_cast<std::size_t>(decoded) != bytes) return DecodeStatus::corrupt;
    bit_unshuffle(path, std::span<const std::byte>(planes).first(bytes), element_size, out.subspan(done, bytes));
    chunk = chunk.subspan(4 + length);
    done += bytes;
  }
  if (chunk.size() != out.size() - shuffled) return DecodeStatus::corrupt;
  if (!chunk.empty()) std::memcpy(out.data() + shuffled, chunk.data(), chunk.size());
  return DecodeStatus::ok;
}

std::string stock_lz4_version() { return LZ4_versionString(); }

}  // namespace annulus::kernels::reference
