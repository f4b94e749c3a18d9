// The integration matrix times frames as they lie in memory, by tiles: for devices whose memory likes to be read once
// and in order. Layout of the matrix: device_tiles.hpp.
//
// Launch shapes (items = PIECES * LANES, LANES = GROUP_FRAMES / 4: one lane holds 4 frames):
//   tile_sums    1-D, a work-group of items work-items a slice of a tile x a group of frames (which runs faster, so
//                that groups that share a slice run at the same time and find it in the cache)
//   row_results  2-D, a work-group of SEGMENT_LANES * GROUP_FRAMES work-items a row x a group of frames
//   tile_totals  1-D, a work-group of PIECES * 4 work-items a slice
//   row_totals   1-D, a work-group of SEGMENT_LANES * 4 work-items a row
//
// Defines:   PIXEL         uchar, ushort, uint, char, short, int or float
//            PIXEL_BYTES   its size
//            KIND          0 unsigned, 1 signed, 2 floating point
//            GROUP_FRAMES  a multiple of 4; a group that the batch does not fill is padded with the last frame
//            VARIANCE      0 no errors, 1 of a given image, 2 max(x, 1) of the raw counts
//            PIECES, RUN, TILE_RUNS   of device_tiles.hpp
//            SEGMENT_LANES a power of two
//            TYPE_MAXIMUM, NEGATIVE, DUMMY   as in batch_product.cl
// Oracle:    kernels/reference
// Error:     as batch_product.cl. The order of summation depends on the matrix alone.

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#define CONCATENATE_(a, b) a##b
#define CONCATENATE(a, b) CONCATENATE_(a, b)
#define PIXEL4 CONCATENATE(PIXEL, 4)
#define LANES (GROUP_FRAMES / 4)
#define ITEMS (PIECES * LANES)
#define TILE_PIXELS (TILE_RUNS * RUN)
#define VECTOR_PIXELS (16 / PIXEL_BYTES)
// A pixel's place in local memory, in groups of frames: one left out after each vector, so that the work-items that
// bring in the vectors of several runs write to different banks.
#define PLACE(slot) ((slot) + (slot) / VECTOR_PIXELS)

// Exact. A device converts 32-bit integers to float64 at a fraction of the rate at which it adds: here the integer
// becomes the last bits of 2^52, which is taken away again (2^31 more where it is signed).
double exact(PIXEL value) {
#if KIND == 0
  return as_double(0x4330000000000000ul | (ulong)value) - 4503599627370496.0;
#elif KIND == 1
  return as_double(0x4330000000000000ul | (ulong)((uint)(int)value ^ 0x80000000u)) - 4503601774854144.0;
#else
  return (double)value;
#endif
}

double4 exact4(PIXEL4 counts) {
  return (double4)(exact(counts.x), exact(counts.y), exact(counts.z), exact(counts.w));
}

// The Poisson variance of counts; selected, which is cheaper than a maximum in float64.
double4 at_least_one(PIXEL4 counts, double4 values) {
  return (double4)(counts.x < (PIXEL)1 ? 1.0 : values.x, counts.y < (PIXEL)1 ? 1.0 : values.y,
                   counts.z < (PIXEL)1 ? 1.0 : values.z, counts.w < (PIXEL)1 ? 1.0 : values.w);
}

// The rules of kernels/bad_pixels.hpp.
bool is_bad(PIXEL value, double dummy, double delta_dummy) {
  bool bad = false;
#if KIND == 2
  bad = !isfinite(value);
#endif
#ifdef TYPE_MAXIMUM
  bad = bad || value == (PIXEL)TYPE_MAXIMUM;
#endif
#if NEGATIVE
  bad = bad || value < 0;
#endif
#if DUMMY
  bad = bad || fabs((double)value - dummy) <= delta_dummy;
#endif
  return bad;
}

// Sums the pieces of each segment of the slice, in order, and stores them.
// pieces    [PIECES, frames] the sums of all pieces, in local memory
// segments  [segments of the slice] first piece | pieces << 16
// places    [segments of the slice] where a segment's sums go in `sums` [segments of the matrix, frames]
void store_segments(__local const double* pieces, uint frames, uint segments, __global const uint* segment_pieces,
                    __global const uint* places, __global double* sums) {
  // All work-items go round alike: PoCL 3.1 lets those in that have nothing to do from the start.
  for (uint done = 0; done < segments * frames; done += (uint)get_local_size(0)) {
    const uint place = done + (uint)get_local_id(0);
    if (place >= segments * frames) continue;
    const uint segment = place / frames;
    const uint frame = place % frames;
    const uint first = segment_pieces[segment] & 0xFFFFu;
    const uint end = first + (segment_pieces[segment] >> 16);
    double sum = pieces[first * frames + frame];
    for (uint piece = first + 1; piece < end; ++piece) sum += pieces[piece * frames + frame];
    sums[(size_t)places[segment] * frames + frame] = sum;
  }
}

// One quantity of 4 frames of all pieces, to the segments' sums. Collective over the work-group.
#define STORE(value, quantity)                                                                                      \
  {                                                                                                                 \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                   \
    vstore4(value, get_local_id(0), pieces);                                                                        \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                   \
    store_segments(pieces, GROUP_FRAMES, segments, segment_pieces + first_segment, segment_places + first_segment,  \
                   sums + ((size_t)(quantity) * groups + group) * all_segments * GROUP_FRAMES);                     \
  }

// slices          [slices] tile, first segment, number of segments, entries of a piece
// slice_entries   [slices] the slice's first entry, in rows of PIECES entries
// tile_runs       [tiles, TILE_RUNS] first pixel of each run of RUN pixels
// weights, slots  [rows of entries, PIECES] an entry's weight and its pixel's place in the tile
// segment_pieces, segment_places   see store_segments; of all slices
// frames, stride  of raw [frames, stride], whose stride is a multiple of RUN pixels and of 16 bytes
// normalisation, dark, variance_image  [pixels]; the last two null = none
// sums            [4, groups, all_segments, GROUP_FRAMES] overwritten: signal, variance (removed variance for VARIANCE
//                 1), and, where has_removed is set, removed norm and removed square
// has_removed     [groups, all_segments] overwritten: whether the segment's tile has a bad pixel in the group
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void tile_sums(
    uint frames, uint stride, uint groups, uint all_segments, double dummy, double delta_dummy,
    __global const uint4* slices, __global const ulong* slice_entries, __global const uint* tile_runs,
    __global const float* weights, __global const ushort* slots, __global const uint* segment_pieces,
    __global const uint* segment_places, __global const float* normalisation, __global const float* dark,
    __global const float* variance_image, __global const PIXEL* raw, __global double* sums,
    __global uchar* has_removed) {
  // The tile's counts, [PLACE(TILE_PIXELS), GROUP_FRAMES]; afterwards the pieces' sums.
  __local double4 memory[PLACE(TILE_PIXELS) * GROUP_FRAMES * PIXEL_BYTES / 32];
  __local int any_bad;
  __local PIXEL* tile = (__local PIXEL*)memory;
  __local double* pieces = (__local double*)memory;
  const uint item = (uint)get_local_id(0);
  const uint group = (uint)get_group_id(0) % groups;
  const size_t slice_number = get_group_id(0) / groups;
  const uint4 slice = slices[slice_number];
  const uint first_segment = slice.y;
  const uint segments = slice.z;
  __global const uint* runs = tile_runs + (size_t)slice.x * TILE_RUNS;

  if (item == 0) any_bad = 0;
  barrier(CLK_LOCAL_MEM_FENCE);
  bool bad = false;
  for (uint place = item; place < TILE_RUNS * GROUP_FRAMES * RUN / VECTOR_PIXELS; place += ITEMS) {
    const uint place_of_frame = place % GROUP_FRAMES;
    const uint first = place / GROUP_FRAMES * VECTOR_PIXELS;
    const uint frame = min(group * GROUP_FRAMES + place_of_frame, frames - 1);
    union {
      uint4 vector;
      PIXEL pixels[VECTOR_PIXELS];
    } values;
    values.vector = *(__global const uint4*)(raw + (size_t)frame * stride + runs[first / RUN] + first % RUN);
#pragma unroll
    for (uint pixel = 0; pixel < VECTOR_PIXELS; ++pixel) {
      bad |= is_bad(values.pixels[pixel], dummy, delta_dummy);
      tile[PLACE(first + pixel) * GROUP_FRAMES + place_of_frame] = values.pixels[pixel];
    }
  }
  if (bad) any_bad = 1;
  barrier(CLK_LOCAL_MEM_FENCE);

  const uint lane = item % LANES;
  const uint piece = item / LANES;
  const uint length = slice.w;
  __global const float* piece_weights = weights + slice_entries[slice_number] * PIECES + piece;
  __global const ushort* piece_slots = slots + slice_entries[slice_number] * PIECES + piece;
  __local const PIXEL4* counts_of = (__local const PIXEL4*)tile + lane;
  double4 signal = 0.0;
  double4 variance = 0.0;
  double4 removed = 0.0;
  double4 removed_square = 0.0;
  const bool with_removed = any_bad != 0;
  if (!with_removed) {
#pragma unroll 4
    for (uint entry = 0; entry < length; ++entry) {
      const double weight = piece_weights[entry * PIECES];
      const PIXEL4 counts = counts_of[PLACE((uint)piece_slots[entry * PIECES]) * LANES];
      const double4 values = exact4(counts);
      signal = fma((double4)weight, values, signal);
#if VARIANCE == 2
      variance = fma((double4)(weight * weight), at_least_one(counts, values), variance);
#endif
    }
  } else {
    for (uint entry = 0; entry < length; ++entry) {
      const double weight = piece_weights[entry * PIECES];
      const uint slot = piece_slots[entry * PIECES];
      const PIXEL4 counts = counts_of[PLACE(slot) * LANES];
      double4 values = exact4(counts);
#if VARIANCE == 2
      double4 counts_variance = at_least_one(counts, values);
#endif
      const long4 is_out = -(long4)(is_bad(counts.x, dummy, delta_dummy), is_bad(counts.y, dummy, delta_dummy),
                                    is_bad(counts.z, dummy, delta_dummy), is_bad(counts.w, dummy, delta_dummy));
      if (any(is_out)) {
        // A bad pixel counts as its dark, which the total dark takes away again. Its norm is summed in the order of the
        // total, so that a bin without a good pixel is left with exactly 0.
        const uint pixel = runs[slot / RUN] + slot % RUN;
        const double share = weight * normalisation[pixel];
        removed += select((double4)0.0, (double4)share, is_out);
        removed_square = fma((double4)share, select((double4)0.0, (double4)share, is_out), removed_square);
        values = select(values, (double4)(dark != 0 ? (double)dark[pixel] : 0.0), is_out);
#if VARIANCE == 1
        variance =
            fma((double4)(weight * weight), select((double4)0.0, (double4)variance_image[pixel], is_out), variance);
#elif VARIANCE == 2
        counts_variance = select(counts_variance, (double4)0.0, is_out);
#endif
      }
      signal = fma((double4)weight, values, signal);
#if VARIANCE == 2
      variance = fma((double4)(weight * weight), counts_variance, variance);
#endif
    }
  }

  STORE(signal, 0)
#if VARIANCE == 2
  STORE(variance, 1)
#endif
  if (with_removed) {
#if VARIANCE == 1
    STORE(variance, 1)
#endif
    STORE(removed, 2)
    STORE(removed_square, 3)
  }
  if (item < segments) has_removed[(size_t)group * all_segments + segment_places[first_segment + item]] = with_removed;
}

// The sum over the segment lanes, a balanced tree, in every work-item of the column. Collective.
double sum_segment_lanes(__local double* partial, uint columns, double value) {
  const uint item = (uint)get_local_id(0);
  barrier(CLK_LOCAL_MEM_FENCE);
  partial[item] = value;
  for (uint half_ = SEGMENT_LANES / 2; half_ > 0; half_ /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < half_ * columns) partial[item] += partial[item + half_ * columns];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return partial[item % columns];
}

// row_segments  [rows + 1] first segment of each row
// totals        [rows], of row_totals
// monitor       [frames]
// intensity, sem, std  [frames, rows], overwritten; the last two null when they are not wanted
// others        as in tile_sums
__kernel __attribute__((reqd_work_group_size(SEGMENT_LANES * GROUP_FRAMES, 1, 1))) void row_results(
    uint frames, uint rows, uint all_segments, __global const uint* row_segments, __global const double4* totals,
    __global const double* sums, __global const uchar* has_removed, __global const double* monitor,
    __global float* intensity, __global float* sem, __global float* std) {
  __local double partial[SEGMENT_LANES * GROUP_FRAMES];
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
    signal += sums[at];
#if VARIANCE == 2
    variance += sums[quantity + at];
#endif
    if (has_removed[group * all_segments + segment]) {
#if VARIANCE == 1
      variance += sums[quantity + at];
#endif
      removed += sums[2 * quantity + at];
      removed_square += sums[3 * quantity + at];
    }
  }
  const double4 total = totals[row];
  const double net = sum_segment_lanes(partial, GROUP_FRAMES, signal) - total.y;
  const double norm = total.x - sum_segment_lanes(partial, GROUP_FRAMES, removed);
#if VARIANCE
  const double square = total.z - sum_segment_lanes(partial, GROUP_FRAMES, removed_square);
  variance = sum_segment_lanes(partial, GROUP_FRAMES, variance);
#else
  const double square = 1.0;
#endif
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
    __global const uint4* slices, __global const ulong* slice_entries, __global const uint* tile_runs,
    __global const float* weights, __global const ushort* slots, __global const uint* segment_pieces,
    __global const uint* segment_places, __global const float* normalisation, __global const float* dark,
    __global const float* variance_image, __global double* sums) {
  __local double pieces[PIECES * 4];
  const uint quantity = (uint)get_local_id(0) % 4;
  const uint piece = (uint)get_local_id(0) / 4;
  const uint4 slice = slices[get_group_id(0)];
  __global const uint* runs = tile_runs + (size_t)slice.x * TILE_RUNS;
  const size_t first = slice_entries[get_group_id(0)] * PIECES + piece;
  double sum = 0.0;
  for (uint entry = 0; entry < slice.w; ++entry) {
    const double weight = weights[first + entry * PIECES];
    const uint slot = slots[first + entry * PIECES];
    const uint pixel = runs[slot / RUN] + slot % RUN;
    const double share = weight * normalisation[pixel];
    if (quantity == 0) sum += share;
    if (quantity == 1 && dark != 0) sum = fma(weight, (double)dark[pixel], sum);
    if (quantity == 2) sum = fma(share, share, sum);
    if (quantity == 3 && variance_image != 0) sum = fma(weight * weight, (double)variance_image[pixel], sum);
  }
  pieces[get_local_id(0)] = sum;
  barrier(CLK_LOCAL_MEM_FENCE);
  store_segments(pieces, 4, slice.z, segment_pieces + slice.y, segment_places + slice.y, sums);
}

// totals  [rows] x normalisation, y dark, z square, w variance; overwritten
__kernel __attribute__((reqd_work_group_size(SEGMENT_LANES * 4, 1, 1))) void row_totals(
    __global const uint* row_segments, __global const double* sums, __global double* totals) {
  __local double partial[SEGMENT_LANES * 4];
  const size_t row = get_group_id(0);
  const uint quantity = (uint)get_local_id(0) % 4;
  const uint segment_lane = (uint)get_local_id(0) / 4;
  double sum = 0.0;
  for (uint segment = row_segments[row] + segment_lane; segment < row_segments[row + 1]; segment += SEGMENT_LANES) {
    sum += sums[(size_t)segment * 4 + quantity];
  }
  sum = sum_segment_lanes(partial, 4, sum);
  if (segment_lane == 0) totals[row * 4 + quantity] = sum;
}
