// A batch of frames as they lie in their files: compressed or not, decoded by the engine where it works best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/pixel_type.hpp"

namespace annulus::kernels {

/// How the bytes of a frame are encoded.
enum class Encoding : std::uint8_t {
  raw,    ///< pixels in native byte order
  bslz4,  ///< one chunk of HDF5 filter 32008 with LZ4, see bslz4.hpp
};

/// What became of an encoded frame.
enum class DecodeStatus : std::uint8_t {
  ok,
  truncated,   ///< the chunk ends before its data does
  wrong_size,  ///< the decoded size is not the frame's
  corrupt,     ///< a block is no valid LZ4, or of another length than the header says
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

}  // namespace annulus::kernels
