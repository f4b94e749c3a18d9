#include "kernels/opencl/decode_plan.hpp"

#include <algorithm>
#include <limits>

namespace annulus::kernels::opencl {
namespace {

constexpr std::size_t header_bytes = 12;  // uint64 decoded size, uint32 block size
constexpr std::size_t length_bytes = 4;   // before each block

std::uint64_t read_big_endian(const std::byte* bytes, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t index = 0; index < count; ++index) value = value << 8 | std::to_integer<std::uint64_t>(bytes[index]);
  return value;
}

/// The longest LZ4 block that an encoder makes of n bytes.
constexpr std::size_t longest_lz4(std::size_t n) { return n + n / 255 + 16; }

/// A chunk on the way through its blocks.
struct Walk {
  std::size_t frame = 0;
  std::span<const std::byte> chunk;
  std::size_t position = header_bytes;
  std::size_t longest = 0;
};

}  // namespace

std::size_t decode_buffer_bytes(std::size_t block_bytes) {
  // 18 bytes beyond n + n / 255 keep writing behind reading (bslz4_decode.cl), 15 more are for the alignment.
  return (block_bytes + block_bytes / 255 + 48 + 15) / 16 * 16;
}

DecodePlan plan_decoding(std::span<const EncodedFrame> frames, std::size_t pixels, std::size_t element_size,
                         std::size_t largest_block) {
  DecodePlan plan;
  plan.frames.resize(frames.size());
  if (element_size > 4) return plan;
  const std::size_t group_bytes = 8 * element_size;
  const std::size_t shuffled_bytes = pixels / 8 * group_bytes;
  const std::size_t rest_bytes = pixels % 8 * element_size;

  for (std::size_t place = 0; place < frames.size(); ++place) {
    const std::span<const std::byte> chunk = frames[place].bytes;
    if (frames[place].encoding != Encoding::bslz4 || chunk.size() < header_bytes + length_bytes + rest_bytes) continue;
    if (chunk.size() > std::numeric_limits<std::uint32_t>::max()) continue;
    if (read_big_endian(chunk.data(), 8) != pixels * element_size) continue;
    std::size_t block_bytes = read_big_endian(chunk.data() + 8, 4);
    if (block_bytes == 0) block_bytes = 8192;
    if (block_bytes % group_bytes != 0 || block_bytes < smallest_device_block) continue;
    block_bytes = std::min(block_bytes, shuffled_bytes);
    if (block_bytes == 0 || block_bytes > largest_block) continue;
    DeviceFrame& frame = plan.frames[place];
    frame.first_start = plan.block_starts.size();
    frame.blocks = static_cast<std::uint32_t>((shuffled_bytes + block_bytes - 1) / block_bytes);
    frame.block_bytes = static_cast<std::uint32_t>(block_bytes);
    plan.block_starts.resize(plan.block_starts.size() + frame.blocks + 1);
    plan.most_blocks = std::max(plan.most_blocks, frame.blocks);
    plan.largest_block = std::max(plan.largest_block, frame.block_bytes);
  }
  plan.rest_bytes = rest_bytes;
  return plan;
}

void find_blocks(std::span<const EncodedFrame> frames, DecodePlan& plan) {
  std::vector<Walk> walks;
  for (std::size_t place = 0; place < frames.size(); ++place) {
    if (plan.frames[place].blocks == 0) continue;
    walks.push_back({place, frames[place].bytes, header_bytes, longest_lz4(plan.frames[place].block_bytes)});
  }
  for (std::uint32_t block = 0; !walks.empty(); ++block) {
    std::erase_if(walks, [&](Walk& walk) {
      DeviceFrame& frame = plan.frames[walk.frame];
      std::uint32_t& start = plan.block_starts[frame.first_start + block];
      start = static_cast<std::uint32_t>(walk.position + length_bytes);
      // One entry behind the last block: where the next would start, so that all lengths are differences.
      if (block == frame.blocks) {
        if (walk.chunk.size() - walk.position < plan.rest_bytes) frame.blocks = 0;
        return true;
      }
      if (walk.chunk.size() - walk.position < length_bytes) {
        frame.blocks = 0;
        return true;
      }
      const std::size_t length = read_big_endian(walk.chunk.data() + walk.position, length_bytes);
      walk.position += length_bytes;
      if (length == 0 || length > walk.longest || length > walk.chunk.size() - walk.position) {
        frame.blocks = 0;
        return true;
      }
      walk.position += length;
      __builtin_prefetch(walk.chunk.data() + walk.position);
      return false;
    });
  }
}

unsigned host_sixteenths(const StageTimes& times) {
  const auto slowest = [&](unsigned sixteenths) {
    const double host = sixteenths / 16.0;
    return std::max({(1.0 - host) * times.upload_encoded + host * times.upload_decoded,
                     (1.0 - host) * times.device_decode + times.product, host * times.host_decode});
  };
  unsigned best = 0;
  for (unsigned sixteenths = 1; sixteenths <= 16; ++sixteenths) {
    if (slowest(sixteenths) < slowest(best)) best = sixteenths;
  }
  return slowest(best) < 0.9 * slowest(0) ? best : 0;
}

}  // namespace annulus::kernels::opencl
