#include "kernels/encoded_batch.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/errors.hpp"
#include "base/every_cpu.hpp"
#include "kernels/bitshuffle_chunk.hpp"
#include "kernels/decompress.hpp"

namespace annulus::kernels {
namespace {

/// Puts the bytes of each element together again: `in` holds all first bytes, then all second ones, and so on.
template <std::size_t element_size>
ANNULUS_FOR_EVERY_CPU void unshuffle_bytes(const std::byte* in, std::size_t elements, std::byte* out) {
  for (std::size_t element = 0; element < elements; ++element) {
    for (std::size_t byte = 0; byte < element_size; ++byte) {
      out[element * element_size + byte] = in[byte * elements + element];
    }
  }
}

void unshuffle_bytes(const std::byte* in, std::size_t element_size, std::span<std::byte> out) {
  switch (element_size) {
    case 2: return unshuffle_bytes<2>(in, out.size() / 2, out.data());
    case 4: return unshuffle_bytes<4>(in, out.size() / 4, out.data());
    case 8: return unshuffle_bytes<8>(in, out.size() / 8, out.data());
    default: std::memcpy(out.data(), in, out.size());
  }
}

}  // namespace

std::string name_of(const Encoding& encoding) {
  std::string_view shuffle;
  switch (encoding.shuffle) {
    case Shuffle::none: break;
    case Shuffle::bytes: shuffle = "shuffle"; break;
    case Shuffle::bits: shuffle = "bitshuffle"; break;
  }
  std::string_view compression;
  switch (encoding.compression) {
    case Compression::none: break;
    case Compression::lz4: compression = "LZ4"; break;
    case Compression::zstd: compression = "Zstandard"; break;
    case Compression::deflate: compression = "deflate"; break;
  }
  if (shuffle.empty() && compression.empty()) return "uncompressed";
  return std::string(shuffle) + (shuffle.empty() || compression.empty() ? "" : " + ") + std::string(compression);
}

DecodeStatus decode(const EncodedFrame& frame, std::size_t element_size, std::span<std::byte> out) {
  ANNULUS_EXPECT(element_size == 1 || element_size == 2 || element_size == 4 || element_size == 8);
  const auto [compression, shuffle, block_bytes] = frame.encoding;
  if (shuffle == Shuffle::bits) return decode_bitshuffle(frame, element_size, out);
  if (shuffle == Shuffle::none || element_size == 1) return decompress(compression, frame.bytes, out);
  ANNULUS_EXPECT(out.size() % element_size == 0);
  if (compression == Compression::none) {
    if (frame.bytes.size() != out.size()) return DecodeStatus::wrong_size;
    unshuffle_bytes(frame.bytes.data(), element_size, out);
    return DecodeStatus::ok;
  }
  const auto shuffled = std::make_unique_for_overwrite<std::byte[]>(out.size());
  const DecodeStatus status = decompress(compression, frame.bytes, {shuffled.get(), out.size()});
  if (status == DecodeStatus::ok) unshuffle_bytes(shuffled.get(), element_size, out);
  return status;
}

}  // namespace annulus::kernels
