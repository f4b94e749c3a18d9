// A batch of frames as they lie in their files: compressed or not, decoded by the engine where it works best.
//
// An Encoding says all that it takes to make pixels of a frame's bytes, and decode() does it; engines that decode block
// by block, or on a device, do so for the encodings that they know, and call decode() for all others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/pixel_type.hpp"

namespace annulus::kernels {

/// How the bytes of pixels were brought into another order, before anything compressed them.
enum class Shuffle : std::uint8_t {
  none,
  bytes,  ///< HDF5 filter 2: the first bytes of all pixels, then all second ones, and so on
  bits,   ///< filter 32008: bit planes, block by block, which are also compressed block by block (bitshuffle_chunk.hpp)
};

/// What compressed them.
enum class Compression : std::uint8_t {
  none,
  lz4,      ///< liblz4's blocks; without bit planes in the frame of HDF5 filter 32004
  zstd,     ///< Zstandard, as HDF5 filter 32015 stores it
  deflate,  ///< a zlib stream, HDF5 filter 1
};

/// How the bytes of a frame are encoded. Pixels are in native byte order.
struct Encoding {
  Compression compression = Compression::none;
  Shuffle shuffle = Shuffle::none;
  /// Bytes of a block of bit planes that nothing compressed, 0 = 8 KiB. Of compressed ones the chunk tells it.
  std::uint64_t block_bytes = 0;

  bool operator==(const Encoding&) const = default;

  static const Encoding raw;     ///< nothing but pixels
  static const Encoding bslz4;   ///< filter 32008 with LZ4: what Dectris detectors write
  static const Encoding bszstd;  ///< filter 32008 with Zstandard
};
inline constexpr Encoding Encoding::raw{};
inline constexpr Encoding Encoding::bslz4{Compression::lz4, Shuffle::bits};
inline constexpr Encoding Encoding::bszstd{Compression::zstd, Shuffle::bits};

/// For messages: "uncompressed", "bitshuffle + LZ4", "shuffle + deflate".
[[nodiscard]] std::string name_of(const Encoding& encoding);

/// What became of an encoded frame.
enum class DecodeStatus : std::uint8_t {
  ok,
  truncated,   ///< the chunk ends before its data does
  wrong_size,  ///< the decoded size is not the frame's
  corrupt,     ///< what was compressed cannot be decompressed, or to another length than a header says
};

/// The bytes of one frame; somebody else's.
struct EncodedFrame {
  std::span<const std::byte> bytes;
  Encoding encoding = Encoding::raw;
};

/// Frames of one pixel type and shape.
struct EncodedBatch {
  PixelType type = PixelType::u16;
  std::size_t pixels = 0;  ///< of each frame
  std::span<const EncodedFrame> frames;

  [[nodiscard]] std::size_t frame_bytes() const { return pixels * size_of(type); }
};

/// Decodes a frame of elements of `element_size` bytes (1, 2, 4 or 8) into `out`, which must have the frame's exact
/// size in bytes; on failure `out` is undefined, and no byte outside it or outside the frame's own is ever touched,
/// whatever those hold. Needs as much memory again for bytes that were shuffled before they were compressed. Throws
/// std::bad_alloc alone. Safe to call from many threads.
[[nodiscard]] DecodeStatus decode(const EncodedFrame& frame, std::size_t element_size, std::span<std::byte> out);

}  // namespace annulus::kernels
