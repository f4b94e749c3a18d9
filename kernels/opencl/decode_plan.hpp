// What the device must know of a batch's bslz4 chunks: where their blocks lie, found on the host. And how frames are
// shared between the device's decoder and the host's. No OpenCL call.
//
// Each block's place depends on the length of the one before: a chain of a thousand reads, each from memory that the
// processor has not seen. Walking through all chunks of a batch in step keeps many of them on their way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/encoded_batch.hpp"

namespace annulus::kernels::opencl {

/// Where a frame's blocks lie; the twin of DeviceFrame in bslz4_decode.cl.
struct DeviceFrame {
  std::uint64_t chunk = 0;        ///< its first byte among the encoded bytes on the device
  std::uint64_t first_start = 0;  ///< its first entry of block_starts
  std::uint32_t blocks = 0;       ///< 0: not for the device
  std::uint32_t block_bytes = 0;  ///< of all blocks but the last
};

/// The blocks of a batch's chunks.
struct DecodePlan {
  std::vector<DeviceFrame> frames;  ///< [frames]; `chunk` is left to the caller
  std::vector<std::uint32_t>
      block_starts;                 ///< [blocks + 1] of each frame: where its blocks' LZ4 bytes begin, see there
  std::uint32_t most_blocks = 0;    ///< of a frame
  std::uint32_t largest_block = 0;  ///< decoded bytes
  std::size_t rest_bytes = 0;       ///< behind the last block of a frame: pixels that fill no group of eight
};

/// Blocks smaller than this are left to the host: no detector writes them, and a frame would have too many.
inline constexpr std::size_t smallest_device_block = 1024;

/// Bytes of local memory in which a block of `block_bytes` decoded bytes is decoded; a multiple of 16.
[[nodiscard]] std::size_t decode_buffer_bytes(std::size_t block_bytes);

/// Looks at the chunks' headers: which are for the device, and room for their blocks' places. Left to the host are
/// frames of other encodings, and chunks with blocks larger than `largest_block` or of another size than the frame's.
/// @param pixels        of a frame
/// @param element_size  bytes of a pixel: 1, 2 or 4; for 8 no frame is for the device
[[nodiscard]] DecodePlan plan_decoding(std::span<const EncodedFrame> frames, std::size_t pixels,
                                       std::size_t element_size, std::size_t largest_block);

/// Walks through the chunks that are for the device and fills `block_starts`. Those whose lengths lead out of them are
/// left to the host (blocks = 0), which finds out what is wrong. Some 0.13 us a block, whatever the number of frames.
void find_blocks(std::span<const EncodedFrame> frames, DecodePlan& plan);

/// How long the stages take for one frame, s.
struct StageTimes {
  double upload_encoded = 0.0;  ///< compressed, to the device
  double upload_decoded = 0.0;  ///< decoded, to the device
  double device_decode = 0.0;
  double product = 0.0;
  double host_decode = 0.0;  ///< all host threads together
};

/// Frames are shared out in sixteenths: how many of 16 the host should decode, so that the slowest of bus, device and
/// host is fastest. 0 unless the host makes the whole faster by a tenth: it has readers to serve too.
[[nodiscard]] unsigned host_sixteenths(const StageTimes& times);

/// Whether the host decodes the frame at `place` of a batch: `sixteenths` of every 16, evenly spread.
[[nodiscard]] constexpr bool host_decodes(std::size_t place, unsigned sixteenths) {
  return place * sixteenths / 16 != (place + 1) * sixteenths / 16;
}

}  // namespace annulus::kernels::opencl
