// Decodes bslz4 frames (kernels/bslz4.hpp): LZ4 and bit-unshuffle of every block, by a work-group a block. Follows
// pixel_rules.cl.
//
// Launch shape: decode_blocks  1-D, a work-group of LANES work-items a block x a frame (which runs faster, so that what
//                              lies side by side is written at the same time)
//
// Defines:   those of pixel_rules.cl, and
//            LANES         work-items of a group, a power of two: the lanes that run in step on most GPUs
//            RUN           pixels that stay together where frames lie side by side, 16
// Oracle:    kernels/bslz4.cpp
// Exact. Whatever the chunks hold, nothing outside the arguments is read or written. A block that is not plainly valid
// marks its frame: the host's decoder then decides what is to be said of it. What is plainly valid is so for liblz4
// too, which asks no more than the format's rules for the end of a block: the last 5 bytes are literals, and the last
// match begins 12 bytes before the end or earlier.
//
// A block is decoded in the very memory that holds its compressed bytes. They lie at its end, and n bytes are decoded
// from its start: writing never overtakes reading, because what is left to read is longer than what is left to write
// by n / 255 + 2 bytes at the most (a match of at least 4 bytes takes 3, its length a byte for 255, and so do literals;
// the last sequence has none).

#define ELEMENT PIXEL_BYTES
#define ROWS (8 * ELEMENT)
#define RUN_BYTES (RUN * ELEMENT)
#define STEP (4 * LANES)
#define LAST_LITERALS 5
#define MATCH_LIMIT 12

// Where a frame's blocks lie; the twin of DeviceFrame in decode_plan.hpp.
typedef struct {
  ulong chunk;        // its first byte among the encoded bytes
  ulong first_start;  // its first entry of block_starts
  uint blocks;        // 0: not for this kernel
  uint block_bytes;   // of all blocks but the last
} DeviceFrame;

// Decodes the LZ4 block that lies at [ip, end) of `bytes` to [0, size); false where that is not plainly valid.
// Collective over the work-group: all work-items come along with the same numbers.
bool decode_lz4(__local uchar* bytes, uint ip, uint end, uint size) {
  const uint lane = (uint)get_local_id(0);
  uint op = 0;
  while (ip < end) {
    const uint token = bytes[ip++];
    uint literals = token >> 4;
    if (literals == 15) {
      uint more = 255;
      while (more == 255 && ip < end) {
        more = bytes[ip++];
        literals += more;
      }
    }
    const uint from = ip;
    if (literals > end - ip || literals > size - op) return false;
    ip += literals;
    const uint match_at = op + literals;
    const bool last = ip == end;
    uint match = 0;
    uint offset = 1;
    if (last) {
      if (match_at != size) return false;
    } else {
      if (end - ip < 3 + LAST_LITERALS || size - match_at < MATCH_LIMIT) return false;
      offset = bytes[ip] | (uint)bytes[ip + 1] << 8;
      ip += 2;
      match = (token & 15) + 4;
      if (match == 19) {
        uint more = 255;
        while (more == 255 && ip < end - LAST_LITERALS + 1) {
          more = bytes[ip++];
          match += more;
        }
        if (more == 255) return false;
      }
      if (offset == 0 || offset > match_at || match > size - match_at - LAST_LITERALS) return false;
    }
    const uint total = literals + match;
    if (op + total > ip) return false;

    barrier(CLK_LOCAL_MEM_FENCE);  // what the sequences before have written
    if (total <= LANES) {
      uchar byte = 0;
      if (lane < total) {
        uint place = from + lane;
        if (lane >= literals) {
          // A match that reaches into itself repeats its first `offset` bytes; one that reaches into the literals
          // before it finds them where they came from.
          uint step = lane - literals;
          if (step >= offset) step %= offset;
          place = match_at + step - offset;
          if (place >= op) place += from - op;
        }
        byte = bytes[place];
      }
      if (op + total > from) barrier(CLK_LOCAL_MEM_FENCE);
      if (lane < total) bytes[op + lane] = byte;
    } else {
      const bool overlaps = op + literals > from;
      for (uint first = lane; first < literals + lane; first += STEP) {
        uchar copied[4];
        for (uint part = 0; part < 4; ++part) {
          const uint place = first + part * LANES;
          if (place < literals) copied[part] = bytes[from + place];
        }
        if (overlaps) barrier(CLK_LOCAL_MEM_FENCE);
        for (uint part = 0; part < 4; ++part) {
          const uint place = first + part * LANES;
          if (place < literals) bytes[op + place] = copied[part];
        }
      }
      // After the first step the match repeats itself at any multiple of its offset: at one that is no shorter than a
      // step, so that a step reads nothing that it writes.
      const uint period = offset >= STEP ? offset : (STEP + offset - 1) / offset * offset;
      for (uint first = lane; first < match + lane; first += STEP) {
        barrier(CLK_LOCAL_MEM_FENCE);
        uchar copied[4];
        for (uint part = 0; part < 4; ++part) {
          const uint place = first + part * LANES;
          const uint behind = place >= STEP ? place - period : (place >= offset ? place % offset : place) - offset;
          if (place < match) copied[part] = bytes[match_at + behind];
        }
        for (uint part = 0; part < 4; ++part) {
          const uint place = first + part * LANES;
          if (place < match) bytes[match_at + place] = copied[part];
        }
      }
    }
    op += total;
    if (last) return true;
  }
  return false;
}

// Where a frame goes: its runs begin `run_stride` bytes apart.
typedef struct {
  __global uchar* runs;
  ulong run_stride;
  // What is told of bad pixels; see decode_blocks.
  __global const uint2* run_places;
  __global uint* bad_frames;
  uint frame_bit;
  double dummy;
  double delta_dummy;
} Target;

// Tells of the bad pixels of a run, a bit each, that the matrix uses.
void tell_bad(const Target* target, uint run, uint bad) {
  if (bad == 0 || target->run_places == 0) return;
  const uint2 place = target->run_places[run];
  if (bad & place.y) atomic_or(target->bad_frames + place.x, target->frame_bit);
}

// Which of 32 pixels are bad, a bit each, from their bit planes and from themselves.
uint bad_pixels(const uint* planes, const uint* elements, double dummy, double delta_dummy) {
#if DUMMY
  union {
    uint words[ROWS];
    PIXEL pixels[32];
  } values;
  uint bad = 0;
#pragma unroll
  for (uint word = 0; word < ROWS; ++word) values.words[word] = elements[word];
#pragma unroll
  for (uint pixel = 0; pixel < 32; ++pixel) bad |= (uint)is_bad(values.pixels[pixel], dummy, delta_dummy) << pixel;
  return bad;
#else
  uint bad = 0;
#if KIND == 2
  bad = 0xFFFFFFFFu;  // not finite: all bits of the exponent
#pragma unroll
  for (uint plane = 23; plane < 31; ++plane) bad &= planes[plane];
#endif
#ifdef TYPE_MAXIMUM
  bad = 0xFFFFFFFFu;
#pragma unroll
  for (uint plane = 0; plane < ROWS; ++plane) bad &= planes[plane];
#endif
#if NEGATIVE && KIND == 1
  bad = planes[ROWS - 1];
#elif NEGATIVE
  uint any = 0;  // -0 is not negative
#pragma unroll
  for (uint plane = 0; plane < ROWS - 1; ++plane) any |= planes[plane];
  bad |= planes[ROWS - 1] & any;
#endif
  return bad;
#endif
}

// Bit planes to elements, 32 elements at a time by a work-item: each of `planes` has `words` 32-bit words.
// first_run  the run of the first element
void unshuffle_words(__local const uint* planes, uint words, uint first_run, const Target* target) {
  // All work-items go round alike: PoCL 3.1 lets those in that would go to the kernel's end at once.
  for (uint done = 0; done < words; done += LANES) {
    const uint word = done + (uint)get_local_id(0);
    if (word >= words) continue;
    uint rows[ROWS];
#pragma unroll
    for (uint row = 0; row < ROWS; ++row) rows[row] = planes[row * words + word];
#if !DUMMY
    const uint bad = bad_pixels(rows, rows, target->dummy, target->delta_dummy);
#endif
    // ROWS x ROWS bits, 32 / ROWS of them side by side: exchanges of off-diagonal squares (H. S. Warren, Hacker's
    // Delight, 2nd ed., section 7-3).
#if ELEMENT == 4
#define EXCHANGE_HALVES 16
#elif ELEMENT == 2
#define EXCHANGE_HALVES 8
#else
#define EXCHANGE_HALVES 4
#endif
#pragma unroll
    for (uint width = EXCHANGE_HALVES; width > 0; width /= 2) {
      const uint mask = width == 16 ? 0x0000FFFFu
                        : width == 8 ? 0x00FF00FFu
                        : width == 4 ? 0x0F0F0F0Fu
                        : width == 2 ? 0x33333333u
                                     : 0x55555555u;
#pragma unroll
      for (uint row = 0; row < ROWS; ++row) {
        if ((row & width) == 0) {
          const uint difference = (rows[row] >> width ^ rows[row + width]) & mask;
          rows[row] ^= difference << width;
          rows[row + width] ^= difference;
        }
      }
    }
    // Row r holds the elements r, r + ROWS, ...
    uint packed[ROWS];
#if ELEMENT == 4
#pragma unroll
    for (uint row = 0; row < ROWS; ++row) packed[row] = rows[row];
#elif ELEMENT == 2
#pragma unroll
    for (uint pair = 0; pair < 8; ++pair) {
      packed[pair] = (rows[2 * pair] & 0xFFFFu) | rows[2 * pair + 1] << 16;
      packed[8 + pair] = rows[2 * pair] >> 16 | (rows[2 * pair + 1] & 0xFFFF0000u);
    }
#else
#pragma unroll
    for (uint field = 0; field < 4; ++field) {
#pragma unroll
      for (uint half_ = 0; half_ < 2; ++half_) {
        uint joined = 0;
#pragma unroll
        for (uint byte = 0; byte < 4; ++byte) {
          joined |= (rows[4 * half_ + byte] >> 8 * field & 0xFFu) << 8 * byte;
        }
        packed[2 * field + half_] = joined;
      }
    }
#endif
#if DUMMY
    const uint bad = bad_pixels(rows, packed, target->dummy, target->delta_dummy);
#endif
#pragma unroll
    for (uint half_ = 0; half_ < 2; ++half_) {
      const uint run = first_run + 2 * word + half_;
      __global uint4* to = (__global uint4*)(target->runs + run * target->run_stride);
      const uint* from = packed + half_ * (ROWS / 2);
#pragma unroll
      for (uint four = 0; four < ROWS / 8; ++four) {
        to[four] = (uint4)(from[4 * four], from[4 * four + 1], from[4 * four + 2], from[4 * four + 3]);
      }
      tell_bad(target, run, bad >> half_ * RUN & 0xFFFFu);
    }
  }
}

// One pixel to its place.
void store_pixel(uint pixel, const uchar* bytes, const Target* target) {
  union {
    uchar bytes[ELEMENT];
    PIXEL pixel;
  } value;
  __global uchar* to = target->runs + pixel / RUN * target->run_stride + pixel % RUN * ELEMENT;
  for (uint byte = 0; byte < ELEMENT; ++byte) {
    value.bytes[byte] = bytes[byte];
    to[byte] = bytes[byte];
  }
  const bool bad = is_bad(value.pixel, target->dummy, target->delta_dummy);
  tell_bad(target, pixel / RUN, (uint)bad << pixel % RUN);
}

// The same for planes of any number of bytes, 8 elements at a time.
// first  number of the first element
void unshuffle_bytes(__local const uchar* planes, uint plane_bytes, uint first, const Target* target) {
  for (uint done = 0; done < plane_bytes; done += LANES) {
    const uint group = done + (uint)get_local_id(0);
    if (group >= plane_bytes) continue;
    ulong squares[ELEMENT];
    for (uint byte = 0; byte < ELEMENT; ++byte) {
      ulong square = 0;
      for (uint bit = 0; bit < 8; ++bit) square |= (ulong)planes[(8 * byte + bit) * plane_bytes + group] << 8 * bit;
      ulong difference = (square ^ square >> 7) & 0x00AA00AA00AA00AAul;
      square ^= difference ^ difference << 7;
      difference = (square ^ square >> 14) & 0x0000CCCC0000CCCCul;
      square ^= difference ^ difference << 14;
      difference = (square ^ square >> 28) & 0x00000000F0F0F0F0ul;
      squares[byte] = square ^ difference ^ difference << 28;
    }
    for (uint element = 0; element < 8; ++element) {
      uchar bytes[ELEMENT];
      for (uint byte = 0; byte < ELEMENT; ++byte) bytes[byte] = (uchar)(squares[byte] >> 8 * element);
      store_pixel(first + group * 8 + element, bytes, target);
    }
  }
}

// encoded       the chunks, readable to the next multiple of 16 bytes behind the last
// frame_count, frames   [frame_count]
// block_starts  for each frame [blocks + 1]: where each block's LZ4 bytes begin in its chunk, 4 bytes behind the end of
//               the block before; the host has checked that they lie in the chunk
// pixels        of a frame
// frame_runs    runs of a frame as they lie in decoded, at least those that the pixels fill
// group_frames  frames that lie side by side; 1: one frame behind the other
// tiles, run_places, bad_frames   as in tile_product.cl, side_by_side; run_places null = nobody asks for bad pixels
// decoded       [groups, frame_runs, group_frames, RUN], overwritten but for the padding
// failed        [frames], set to 1 where a block is not plainly valid, else left alone
// capacity      bytes of `buffer`, a multiple of 16: n + n / 255 + 48 for the largest block of n bytes
__kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void decode_blocks(
    __global const uchar* encoded, uint frame_count, __global const DeviceFrame* frames,
    __global const uint* block_starts, uint pixels, uint frame_runs, uint group_frames, uint tiles, double dummy,
    double delta_dummy, __global const uint2* run_places, __global uchar* decoded, __global uint* bad_frames,
    __global uint* failed, uint capacity, __local uint4* buffer) {
  const uint number = (uint)(get_group_id(0) % frame_count);
  const uint block = (uint)(get_group_id(0) / frame_count);
  const DeviceFrame frame = frames[number];
  if (block >= frame.blocks) return;
  const uint lane = (uint)get_local_id(0);
  __global const uint* starts = block_starts + frame.first_start + block;
  const uint start = starts[0];
  const uint length = starts[1] - 4 - start;
  const ulong shuffled_bytes = (ulong)(pixels / 8) * (8 * ELEMENT);
  const ulong position = (ulong)block * frame.block_bytes;
  const uint size = (uint)min((ulong)frame.block_bytes, shuffled_bytes - position);
  const uint first = (uint)(position / ELEMENT);
  __local uchar* bytes = (__local uchar*)buffer;
  const uint group = number / group_frames;
  const uint place = number % group_frames;
  Target target;
  target.runs = decoded + ((ulong)group * frame_runs * group_frames + place) * RUN_BYTES;
  target.run_stride = (ulong)group_frames * RUN_BYTES;
  target.run_places = run_places;
  target.bad_frames = bad_frames + (size_t)group * tiles;
  target.frame_bit = 1u << place;
  target.dummy = dummy;
  target.delta_dummy = delta_dummy;

  // To the end of the buffer, 16 bytes at a time: the first byte keeps its place among 16.
  const ulong source = frame.chunk + start;
  const uint shift = (uint)(source & 15);
  const uint vectors = (shift + length + 15) / 16;
  bool good = vectors * 16 <= capacity && size + size / 255 + 32 <= capacity;
  if (good) {
    __global const uint4* from = (__global const uint4*)(encoded + (source - shift));
    __local uint4* to = buffer + (capacity / 16 - vectors);
    for (uint vector = lane; vector < vectors; vector += LANES) to[vector] = from[vector];
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint begin = capacity - vectors * 16 + shift;
    good = decode_lz4(bytes, begin, begin + length, size);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (!good) {
    if (lane == 0) failed[number] = 1;
    return;
  }
  // Behind the last block lie pixels that are not shuffled. Not at the kernel's end: see unshuffle_words().
  const uint rest = block + 1 == frame.blocks ? pixels % 8 : 0;
  if (lane < rest) {
    uchar last[ELEMENT];
    for (uint byte = 0; byte < ELEMENT; ++byte) {
      last[byte] = encoded[frame.chunk + starts[1] - 4 + lane * ELEMENT + byte];
    }
    store_pixel(pixels - rest + lane, last, &target);
  }
  const uint plane_bytes = size / ROWS;
  if (plane_bytes % 4 == 0 && first % RUN == 0) {
    unshuffle_words((__local const uint*)buffer, plane_bytes / 4, first / RUN, &target);
  } else {
    unshuffle_bytes(bytes, plane_bytes, first, &target);
  }
}
