#include "kernels/bslz4.hpp"

#include <lz4.h>

#include <algorithm>
#include <array>

#include "base/errors.hpp"
#include "kernels/big_endian.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/bitshuffle_chunk.hpp"

namespace annulus::kernels {

DecodeStatus decode_bslz4(std::span<const std::byte> chunk, std::size_t element_size, std::span<std::byte> out) {
  return decode_bitshuffle({chunk, Encoding::bslz4}, element_size, out);
}

std::vector<std::byte> encode_bslz4(std::span<const std::byte> in, std::size_t element_size) {
  ANNULUS_EXPECT(element_size == 1 || element_size == 2 || element_size == 4 || element_size == 8);
  ANNULUS_EXPECT(in.size() % element_size == 0);
  std::array<std::byte, default_block_bytes> planes;
  std::array<std::byte, LZ4_COMPRESSBOUND(default_block_bytes)> compressed;
  const std::size_t raw_bytes = in.size() % (8 * element_size);
  const std::size_t shuffled_bytes = in.size() - raw_bytes;
  const SimdPath path = best_path();

  std::vector<std::byte> chunk;
  chunk.reserve(bitshuffle_header_bytes +
                in.size() / 2);  // detector frames shrink to a half or less; others let it grow
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
