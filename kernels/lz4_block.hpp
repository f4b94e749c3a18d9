// One LZ4 block: the decoder of the hot path, for blocks of bit planes.
//
// Format: github.com/lz4/lz4, doc/lz4_Block_format.md. Bit planes of counts make many short sequences and long runs of
// short periods; stock liblz4 loses its time on mispredicted branches between those. Here a match of any
// period starts with one shuffled 16-byte store. The upper planes of counts are all alike, empty or with the same
// masked pixels: so it tells of a repetition that lasts up to a block's end, and does not write it.
#pragma once

#include <cstddef>

#include "kernels/simd_path.hpp"

namespace annulus::kernels {

/// Bytes behind a block's input that may be read, and behind its output that may be overwritten.
inline constexpr std::size_t lz4_slack = 64;

/// How far a block was written: those bytes that follow, if any, are the ones `period` before them, again and again.
struct WrittenBytes {
  std::size_t count = 0;
  std::size_t period = 1;

  /// Writes on up to `end`; `out` is where the block begins.
  void extend(std::byte* out, std::size_t end);
};

/// Decodes a block of `in_bytes` >= 1 into exactly `out_bytes`; false when it is no valid LZ4 or of another length.
/// Both must have lz4_slack accessible bytes behind them; nothing beyond is touched, whatever the block holds, and
/// nothing of the output depends on the slack.
/// @param written  set to how far the output was written: a long repetition at its end is left to who needs it
[[nodiscard]] bool decode_lz4_block(SimdPath path, const std::byte* in, std::size_t in_bytes, std::byte* out,
                                    std::size_t out_bytes, WrittenBytes& written);

}  // namespace annulus::kernels
