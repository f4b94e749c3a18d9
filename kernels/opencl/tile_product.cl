// The integration matrix times frames that lie side by side in runs, by tiles: for devices whose memory likes to be
// read once and in order. Layout of the matrix and of the frames: device_tiles.hpp. Follows pixel_rules.cl.
//
// Launch shapes (items = PIECES * LANES, LANES = GROUP_FRAMES / LANE_FRAMES: one lane holds LANE_FRAMES frames):
//   side_by_side  2-D, a work-item VECTOR_PIXELS pixels (padded to the local size) x a frame
//   tile_sums     1-D, a work-group of items work-items a slice of a tile x a group of frames (which runs faster, so
//                 that groups that share a slice run at the same time and find it in the cache)
//   row_results   2-D, a work-group of SEGMENT_LANES * GROUP_FRAMES work-items a row x a group of frames
//   tile_totals   1-D, a work-group of PIECES * 4 work-items a slice
//   row_totals    1-D, a work-group of SEGMENT_LANES work-items a row
//
// Defines:   those of pixel_rules.cl, and
//            GROUP_FRAMES  at most 32, even, a multiple of LANE_FRAMES; what lies at places that the batch does not
//                          fill is summed, too, and never looked at
//            LANE_FRAMES   so many that their counts fill 4, 8 or 16 bytes
//            SINGLE        1: sums in float32, for counts, which are not negative and so do not cancel; 0: float64
//            VARIANCE      0 no errors, 1 of a given image, 2 max(x, 1) of the raw counts
//            PIECES, RUN, TILE_RUNS, STEP   of device_tiles.hpp
//            SEGMENT_LANES a power of two
// Oracle:    kernels/reference
// Error:     SINGLE 0: as batch_product.cl. SINGLE 1: eight products at a time are summed in float32 by fused
//            multiply-add, and these sums of a piece, too, which errs by less than (8 + steps / 2) x 2^-24 (a piece has
//            some 8 steps); pieces, segments and so on in float64. Squares of weights, and counts beyond 2^24, are
//            rounded before, which adds one more 2^-24 each. The order of summation depends on the matrix alone.

#define LANES (GROUP_FRAMES / LANE_FRAMES)
#define ITEMS (PIECES * LANES)
#define TILE_PIXELS (TILE_RUNS * RUN)
#define VECTOR_PIXELS (16 / PIXEL_BYTES)
#define RUN_VECTORS (RUN / VECTOR_PIXELS)
#if LANE_FRAMES * PIXEL_BYTES == 16
#define LANE_VECTOR uint4
#elif LANE_FRAMES * PIXEL_BYTES == 8
#define LANE_VECTOR uint2
#else
#define LANE_VECTOR uint
#endif
// Work-items that bring in a run, each a vector of its pixels in two frames; runs that they bring in at a time; and how
// many times that makes a tile.
#define RUN_ITEMS (GROUP_FRAMES / 2 * RUN_VECTORS)
#define ROUND_RUNS (ITEMS / RUN_ITEMS)
#define ROUNDS (TILE_RUNS / ROUND_RUNS)
#define PASTE(left, right) left##right
#define VECTOR_OF_TWO(type) PASTE(type, 2)
#define PIXEL2 VECTOR_OF_TWO(PIXEL)
// Quantities that are summed of the bad pixels alone.
#define REMOVED (VARIANCE == 1 ? 3 : 2)
// Quantities that are summed of all pixels.
#define SUMS (VARIANCE == 2 ? 2 : 1)
// Sums of a piece in local memory; one place is left free, so that those of neighbouring pieces lie in different banks.
#define COLUMNS (SUMS * GROUP_FRAMES)
#define PIECE_STRIDE (COLUMNS + 1)
// The tile's counts, afterwards the pieces' sums.
#define TILE_BYTES (TILE_PIXELS * GROUP_FRAMES * PIXEL_BYTES)
#define PIECES_BYTES (PIECES * PIECE_STRIDE * 8)
#define MEMORY_BYTES (TILE_BYTES > PIECES_BYTES ? TILE_BYTES : PIECES_BYTES)

// A pixel's place in local memory, in groups of frames. Pixels of one vector would lie in few banks when several
// work-items bring in theirs; the matrix holds places, so that sums have nothing to work out.
#define PLACE(slot) ((slot) ^ ((slot) / 8 & 3))

#if SINGLE
typedef float Sum;
#else
typedef double Sum;
#endif

// The counts of a pixel in the frames of a lane.
typedef union {
  LANE_VECTOR vector;
  PIXEL of[LANE_FRAMES];
} Counts;

typedef union {
  uint4 vector;
  PIXEL of[VECTOR_PIXELS];
} Pixels;

// Exact, but for counts beyond 2^24 in float32. To float64 devices convert at a fraction of the rate at which they add:
// there the integer becomes the last bits of 2^52, which is taken away again (2^31 more where it is signed).
Sum exact(PIXEL value) {
#if SINGLE || KIND == 2
  return (Sum)value;
#elif KIND == 0
  return as_double(0x4330000000000000ul | (ulong)value) - 4503599627370496.0;
#else
  return as_double(0x4330000000000000ul | (ulong)((uint)(int)value ^ 0x80000000u)) - 4503601774854144.0;
#endif
}

// The Poisson variance of a count; in float64 selected, which is cheaper than a maximum.
Sum at_least_one(PIXEL count, Sum value) {
#if SINGLE
  return fmax(value, 1.0f);
#else
  return count < (PIXEL)1 ? 1.0 : value;
#endif
}

// Frames as they lie one behind the other, to runs side by side; and which tiles have bad pixels in them.
// first_frame  number of the first of them, in both arrays
// stride       pixels from frame to frame in `raw`, a multiple of RUN
// run_places   [stride / RUN] tile of a run, and which of its pixels the matrix uses, one bit each
// raw          [frames, stride]
// runs         [groups, stride / RUN, GROUP_FRAMES, RUN], overwritten where these frames lie
// bad_frames   [groups, tiles] one bit a frame of the group; added to
__kernel void side_by_side(uint first_frame, uint stride, uint tiles, double dummy, double delta_dummy,
                           __global const uint2* run_places, __global const uint4* raw, __global uint4* runs,
                           __global uint* bad_frames) {
  const uint frame_vectors = stride / VECTOR_PIXELS;
  const uint vector = (uint)get_global_id(0);
  if (vector >= frame_vectors) return;
  const uint frame = first_frame + (uint)get_global_id(1);
  const uint group = frame / GROUP_FRAMES;
  const uint place = frame % GROUP_FRAMES;
  const uint run = vector / RUN_VECTORS;
  const uint part = vector % RUN_VECTORS;
  Pixels values;
  values.vector = raw[(size_t)frame * frame_vectors + vector];
  runs[(((size_t)group * (stride / RUN) + run) * GROUP_FRAMES + place) * RUN_VECTORS + part] = values.vector;
  uint bad = 0;
#pragma unroll
  for (uint pixel = 0; pixel < VECTOR_PIXELS; ++pixel) {
    if (is_bad(values.of[pixel], dummy, delta_dummy)) bad |= 1u << pixel;
  }
  if (bad == 0) return;
  const uint2 run_place = run_places[run];
  if (bad << part * VECTOR_PIXELS & run_place.y) {
    atomic_or(bad_frames + (size_t)group * tiles + run_place.x, 1u << place);
  }
}

// Sums the pieces of each segment of a slice, in order, and stores them.
// pieces    [PIECES, columns] the sums of all pieces, in local memory, those of a piece `piece_stride` behind those of
//           the one before; `columns` divides the size of the work-group
// segments  [count] x first piece | pieces << 16, y the segment's place in `sums`
// sums      [segments of the matrix, stride], for columns of which this work-item has `column`
void store_segments(__local const double* pieces, uint piece_stride, uint columns, __local const uint2* segments,
                    uint count, __global double* sums, uint stride) {
  const uint rows = (uint)get_local_size(0) / columns;
  const uint column = (uint)get_local_id(0) % columns;
  // All work-items go round alike: PoCL 3.1 lets those in that would leave at once.
  for (uint done = 0; done < count; done += rows) {
    const uint number = done + (uint)get_local_id(0) / columns;
    if (number >= count) continue;
    const uint2 segment = segments[number];
    __local const double* piece = pieces + (segment.x & 0xFFFFu) * piece_stride + column;
    double sum = *piece;
    for (uint left = (segment.x >> 16) - 1; left > 0; --left) {
      piece += piece_stride;
      sum += *piece;
    }
    sums[(size_t)segment.y * stride + column] = sum;
  }
}

// What a work-item reads of the matrix at once: STEP entries of its piece.
typedef struct {
  union {
    float4 vector;
    float of[STEP];
  } weights;
  union {
    ushort4 vector;
    ushort of[STEP];
  } places;
} Step;

Step read_step(__global const float4* weights, __global const ushort4* places, uint number) {
  Step step;
  step.weights.vector = weights[number * PIECES];
  step.places.vector = places[number * PIECES];
  return step;
}

// Adds STEP entries of a piece for the frames of a lane. With `checked`, bad pixels count as their dark and vary by
// nothing.
void add_step(bool checked, Step step, __local const LANE_VECTOR* tile, __global const uint* runs,
              __global const float* dark, double dummy, double delta_dummy, Sum* signal, Sum* variance) {
#pragma unroll
  for (uint entry = 0; entry < STEP; ++entry) {
    const uint place = step.places.of[entry];
    const Sum weight = step.weights.of[entry];
    const Sum square = weight * weight;
    Counts counts;
    counts.vector = tile[place * LANES];
#pragma unroll
    for (uint frame = 0; frame < LANE_FRAMES; ++frame) {
      const PIXEL count = counts.of[frame];
      Sum value = exact(count);
      Sum least_one = at_least_one(count, value);
      if (checked && is_bad(count, dummy, delta_dummy)) {
        value = 0;
        least_one = 0;
#if !SINGLE
        if (dark != 0) value = dark[runs[PLACE(place) / RUN] * RUN + PLACE(place) % RUN];
#endif
      }
      signal[frame] = fma(weight, value, signal[frame]);
#if VARIANCE == 2
      variance[frame] = fma(square, least_one, variance[frame]);
#endif
    }
  }
}

// Sums a piece, of which the first two steps were read, for the frames of a lane; see add_step().
// signal, variance  [LANE_FRAMES], overwritten
void sum_piece(bool checked, uint steps, Step first, Step second, __global const float4* weights,
               __global const ushort4* places, __local const LANE_VECTOR* tile, __global const uint* runs,
               __global const float* dark, double dummy, double delta_dummy, Sum* signal, Sum* variance) {
#pragma unroll
  for (uint frame = 0; frame < LANE_FRAMES; ++frame) {
    signal[frame] = 0;
    variance[frame] = 0;
  }
  for (uint done = 0; done < steps; done += 2) {
#if SINGLE
    float signal_part[LANE_FRAMES];
    float variance_part[LANE_FRAMES];
#pragma unroll
    for (uint frame = 0; frame < LANE_FRAMES; ++frame) {
      signal_part[frame] = 0;
      variance_part[frame] = 0;
    }
#else
    double* const signal_part = signal;
    double* const variance_part = variance;
#endif
    add_step(checked, first, tile, runs, dark, dummy, delta_dummy, signal_part, variance_part);
    if (done + 1 < steps) add_step(checked, second, tile, runs, dark, dummy, delta_dummy, signal_part, variance_part);
#if SINGLE
#pragma unroll
    for (uint frame = 0; frame < LANE_FRAMES; ++frame) {
      signal[frame] += signal_part[frame];
      variance[frame] += variance_part[frame];
    }
#endif
    first = read_step(weights, places, done + 2);
    second = read_step(weights, places, done + 3);
  }
}

// slices          [slices] tile, first segment, number of segments, steps of a piece
// slice_steps     [slices] the slice's first step, in rows of PIECES steps
// slice_runs      [slices, TILE_RUNS] number of each run of the slice's tile in its frame
// weights, places [rows of steps, PIECES, STEP] an entry's weight and its pixel's place in the tile; two rows more,
//                 which are read but not used
// slice_segments  see store_segments; of all slices
// frame_runs, runs, bad_frames     as in side_by_side; frame_runs = stride / RUN
// normalisation, dark, variance_image  [pixels]; the last two null = none
// sums            [groups, all_segments, SUMS, GROUP_FRAMES] overwritten: signal and, for VARIANCE 2, variance
// removed_sums    [REMOVED, groups, all_segments, GROUP_FRAMES] overwritten where a frame has bad pixels in the tile:
//                 their norm, its square and, for VARIANCE 1, their variance
// has_removed     [groups, all_segments] overwritten: bad_frames of the segment's tile
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void tile_sums(
    uint frame_runs, uint groups, uint tiles, uint all_segments, double dummy, double delta_dummy,
    __global const uint4* slices, __global const ulong* slice_steps, __global const uint* slice_runs,
    __global const float4* weights, __global const ushort4* places, __global const uint2* slice_segments,
    __global const float* normalisation, __global const float* dark, __global const float* variance_image,
    __global const uint4* runs, __global const uint* bad_frames, __global double* sums, __global double* removed_sums,
    __global uint* has_removed) {
  // The tile's counts, [TILE_PIXELS, GROUP_FRAMES] by PLACE; afterwards the pieces' sums.
  __local double2 memory[MEMORY_BYTES / 16 + 1];
  __local uint2 own_segments[PIECES];
  __local double removed[ITEMS];
  __local LANE_VECTOR* tile = (__local LANE_VECTOR*)memory;
  __local double* pieces = (__local double*)memory;
  const uint item = (uint)get_local_id(0);
  const uint lane = item % LANES;
  const uint piece = item / LANES;
  const uint group = (uint)get_group_id(0) % groups;
  const uint slice_number = (uint)get_group_id(0) / groups;
  __global const uint* own_runs = slice_runs + (size_t)slice_number * TILE_RUNS;
  const size_t first_step = slice_steps[slice_number] * PIECES;
  const uint4 slice = slices[slice_number];

  // Neighbours bring in neighbouring vectors of two frames' pixels, all of them on their way at once, and write the
  // counts of both together. A vector begins at a multiple of 4 places, of which PLACE exchanges every four in an order
  // that is the work-item's own.
  {
    const uint part = item % RUN_VECTORS;
    const uint two = item % RUN_ITEMS / RUN_VECTORS;
    const uint own_run = item / RUN_ITEMS;
    const uint slot = own_run * RUN + part * VECTOR_PIXELS;
    __global const uint4* from = runs + ((size_t)group * frame_runs * GROUP_FRAMES + two * 2) * RUN_VECTORS + part;
    Pixels even[ROUNDS];
    Pixels odd[ROUNDS];
#pragma unroll
    for (uint round = 0; round < ROUNDS; ++round) {
      const size_t run = (size_t)own_runs[own_run + round * ROUND_RUNS] * (GROUP_FRAMES * RUN_VECTORS);
      even[round].vector = from[run];
      odd[round].vector = from[run + RUN_VECTORS];
    }
    __local PIXEL2* to[4];
#pragma unroll
    for (uint place = 0; place < 4; ++place) {
      to[place] = (__local PIXEL2*)memory + (slot + (place ^ (slot / 8 & 3))) * (GROUP_FRAMES / 2) + two;
    }
#pragma unroll
    for (uint round = 0; round < ROUNDS; ++round) {
#pragma unroll
      for (uint pixel = 0; pixel < VECTOR_PIXELS; ++pixel) {
        to[(pixel ^ pixel / 8) % 4][(round * (ROUND_RUNS * RUN) + pixel / 4 * 4) * (GROUP_FRAMES / 2)] =
            (PIXEL2)(even[round].of[pixel], odd[round].of[pixel]);
      }
    }
  }
  __global const float4* piece_weights = weights + first_step + piece;
  __global const ushort4* piece_places = places + first_step + piece;
  const Step first = read_step(piece_weights, piece_places, 0);
  const Step second = read_step(piece_weights, piece_places, 1);
  const uint segments = slice.z;
  const uint steps = slice.w;
  const uint bad = bad_frames[(size_t)group * tiles + slice.x];
  if (item < segments) {
    own_segments[item] = slice_segments[slice.y + item];
    has_removed[(size_t)group * all_segments + own_segments[item].y] = bad;
  }
  barrier(CLK_LOCAL_MEM_FENCE);

  // A bad pixel's norm is summed in the order of the total, so that a bin without a good pixel is left with exactly 0.
  for (uint left = bad; left != 0; left &= left - 1) {
    const uint frame = 31 - clz(left & -left);
    __local const PIXEL* counts_of = (__local const PIXEL*)memory + frame;
    // The lanes take one quantity after another, PIECES work-items each.
    for (uint quantity = 0; quantity < REMOVED; quantity += LANES) {
      const uint own = quantity + item / PIECES;
      double sum = 0.0;
      for (uint number = 0; number < steps; ++number) {
        const Step step = read_step(weights + first_step + item % PIECES, places + first_step + item % PIECES, number);
#pragma unroll
        for (uint entry = 0; entry < STEP; ++entry) {
          const uint place = step.places.of[entry];
          if (is_bad(counts_of[place * GROUP_FRAMES], dummy, delta_dummy)) {
            const uint pixel = own_runs[PLACE(place) / RUN] * RUN + PLACE(place) % RUN;
            const double weight = step.weights.of[entry];
            const double share = weight * normalisation[pixel];
            if (own == 0) sum += share;
            if (own == 1) sum = fma(share, share, sum);
#if VARIANCE == 1
            if (own == 2) sum = fma(weight * weight, (double)variance_image[pixel], sum);
#endif
          }
        }
      }
      barrier(CLK_LOCAL_MEM_FENCE);
      removed[item] = sum;
      barrier(CLK_LOCAL_MEM_FENCE);
      for (uint place = 0; place < LANES && quantity + place < REMOVED; ++place) {
        store_segments(removed + place * PIECES, 1, 1, own_segments, segments,
                       removed_sums + ((size_t)(quantity + place) * groups + group) * all_segments * GROUP_FRAMES +
                           frame,
                       GROUP_FRAMES);
      }
    }
  }

  Sum signal[LANE_FRAMES];
  Sum variance[LANE_FRAMES];
  if (bad == 0) {
    sum_piece(false, steps, first, second, piece_weights, piece_places, tile + lane, own_runs, dark, dummy,
              delta_dummy, signal, variance);
  } else {
    sum_piece(true, steps, first, second, piece_weights, piece_places, tile + lane, own_runs, dark, dummy, delta_dummy,
              signal, variance);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  __local double* own_pieces = pieces + piece * PIECE_STRIDE + lane * LANE_FRAMES;
#pragma unroll
  for (uint frame = 0; frame < LANE_FRAMES; ++frame) {
    own_pieces[frame] = signal[frame];
#if VARIANCE == 2
    own_pieces[GROUP_FRAMES + frame] = variance[frame];
#endif
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  store_segments(pieces, PIECE_STRIDE, COLUMNS, own_segments, segments, sums + (size_t)group * all_segments * COLUMNS,
                 COLUMNS);
}

// The sums over the segment lanes, a balanced tree; right in the first of them. Collective.
// partial  [SEGMENT_LANES, columns] in local memory
double4 sum_segment_lanes(__local double4* partial, uint columns, double4 value) {
  const uint item = (uint)get_local_id(0);
  partial[item] = value;
  for (uint half_ = SEGMENT_LANES / 2; half_ > 0; half_ /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < half_ * columns) {
      value += partial[item + half_ * columns];
      partial[item] = value;
    }
  }
  return value;
}

// row_segments  [rows + 1] first segment of each row
// totals        [rows], of row_totals
// monitor       [frames]
// intensity, sem, std  [frames, rows], overwritten; the last two null when they are not wanted
// others        as in tile_sums
__kernel __attribute__((reqd_work_group_size(SEGMENT_LANES * GROUP_FRAMES, 1, 1))) void row_results(
    uint frames, uint rows, uint all_segments, __global const uint* row_segments, __global const double4* totals,
    __global const double* sums, __global const double* removed_sums, __global const uint* has_removed,
    __global const double* monitor, __global float* intensity, __global float* sem, __global float* std) {
  __local double4 partial[SEGMENT_LANES * GROUP_FRAMES];
  const size_t row = get_group_id(0);
  const size_t group = get_group_id(1);
  const size_t groups = get_num_groups(1);
  const uint place = (uint)get_local_id(0) % GROUP_FRAMES;
  const uint segment_lane = (uint)get_local_id(0) / GROUP_FRAMES;
  const size_t quantity = groups * all_segments * GROUP_FRAMES;
  double signal = 0.0;
  double variance = 0.0;
  double removed = 0.0;
  double removed_square = 0.0;
  for (uint segment = row_segments[row] + segment_lane; segment < row_segments[row + 1]; segment += SEGMENT_LANES) {
    const size_t at = (group * all_segments + segment) * GROUP_FRAMES + place;
    __global const double* own = sums + (group * all_segments + segment) * COLUMNS + place;
    signal += own[0];
#if VARIANCE == 2
    variance += own[GROUP_FRAMES];
#endif
    if (has_removed[group * all_segments + segment] >> place & 1) {
      removed += removed_sums[at];
      removed_square += removed_sums[quantity + at];
#if VARIANCE == 1
      variance += removed_sums[2 * quantity + at];
#endif
    }
  }
  const double4 total = totals[row];
  const double4 sum =
      sum_segment_lanes(partial, GROUP_FRAMES, (double4)(signal, removed, removed_square, variance));
  const double net = sum.x - total.y;
  const double norm = total.x - sum.y;
  const double square = total.z - sum.z;
  variance = sum.w;
#if VARIANCE == 1
  variance = total.w - variance;
#endif
  const size_t frame = group * GROUP_FRAMES + place;
  if (segment_lane != 0 || frame >= frames) return;
  const double divisor = monitor[frame] * norm;
  const bool empty = divisor == 0.0;
  const double deviation = sqrt(fmax(variance, 0.0));
  const size_t target = frame * rows + row;
  intensity[target] = empty ? 0.0f : (float)(net / divisor);
  if (sem != 0) sem[target] = empty ? 0.0f : (float)(deviation / fabs(divisor));
  if (std != 0) std[target] = empty ? 0.0f : (float)(deviation / (fabs(monitor[frame]) * sqrt(square)));
}

// What does not depend on the frame, as sum_corrections of batch_product.cl, but in the order of tile_sums: a lane of 4
// for each of normalisation, dark, square and variance.
// sums  [all_segments, 4], overwritten
__kernel __attribute__((reqd_work_group_size(PIECES * 4, 1, 1))) void tile_totals(
    __global const uint4* slices, __global const ulong* slice_steps, __global const uint* slice_runs,
    __global const float4* weights, __global const ushort4* places, __global const uint2* slice_segments,
    __global const float* normalisation, __global const float* dark, __global const float* variance_image,
    __global double* sums) {
  __local double pieces[PIECES * 4];
  __local uint2 own_segments[PIECES];
  const uint item = (uint)get_local_id(0);
  const uint quantity = item % 4;
  const uint piece = item / 4;
  const uint4 slice = slices[get_group_id(0)];
  __global const uint* runs = slice_runs + get_group_id(0) * TILE_RUNS;
  const size_t first_step = slice_steps[get_group_id(0)] * PIECES + piece;
  if (item < slice.z) own_segments[item] = slice_segments[slice.y + item];
  double sum = 0.0;
  for (uint number = 0; number < slice.w; ++number) {
    const Step step = read_step(weights + first_step, places + first_step, number);
    for (uint entry = 0; entry < STEP; ++entry) {
      const double weight = step.weights.of[entry];
      const uint slot = PLACE((uint)step.places.of[entry]);
      const uint pixel = runs[slot / RUN] * RUN + slot % RUN;
      const double share = weight * normalisation[pixel];
      if (quantity == 0) sum += share;
      if (quantity == 1 && dark != 0) sum = fma(weight, (double)dark[pixel], sum);
      if (quantity == 2) sum = fma(share, share, sum);
      if (quantity == 3 && variance_image != 0) sum = fma(weight * weight, (double)variance_image[pixel], sum);
    }
  }
  pieces[item] = sum;
  barrier(CLK_LOCAL_MEM_FENCE);
  store_segments(pieces, 4, 4, own_segments, slice.z, sums, 4);
}

// totals  [rows] x normalisation, y dark, z square, w variance; overwritten
__kernel __attribute__((reqd_work_group_size(SEGMENT_LANES, 1, 1))) void row_totals(
    __global const uint* row_segments, __global const double4* sums, __global double4* totals) {
  __local double4 partial[SEGMENT_LANES];
  const size_t row = get_group_id(0);
  const uint segment_lane = (uint)get_local_id(0);
  double4 sum = 0.0;
  for (uint segment = row_segments[row] + segment_lane; segment < row_segments[row + 1]; segment += SEGMENT_LANES) {
    sum += sums[segment];
  }
  sum = sum_segment_lanes(partial, 1, sum);
  if (segment_lane == 0) totals[row] = sum;
}
