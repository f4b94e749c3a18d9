// The integration matrix times a batch of frames, with normalisation and errors: intensity and errors of each bin.
//
// Launch shapes (lanes = GROUP_FRAMES / 4, one lane holds 4 frames of a group of GROUP_FRAMES):
//   sum_corrections  1-D, a work-group of ENTRY_LANES work-items a row
//   interleave       2-D, a work-item a pixel (padded to the local size) x a group of frames
//   integrate        2-D, a work-group of lanes * ENTRY_LANES work-items a row x a group of frames
//   clip             the same
// Frames are gathered by pixel, and the pixels of a bin lie scattered: interleaved, one gather of GROUP_FRAMES
// neighbouring values serves a whole group, and each entry of the matrix is read once a group instead of once a frame.
//
// Defines:   PIXEL         uchar, ushort, uint, char, short, int, float or double
//            GROUP_FRAMES  4 or 16; a group that the batch does not fill is padded with copies of the last frame
//            ENTRY_LANES   a power of two, work-items that share a row: the order of summation depends on it alone
//            VARIANCE      0 no errors, 1 of a given image, 2 max(x, 1) of the raw counts, 3 the scatter about the
//                          mean, 4 as pyFAI finds that scatter, pixel by pixel (ENTRY_LANES 1)
//            CLIP_VARIANCE likewise, while outliers are clipped
//            CYCLES        the most cycles of clipping that there is room for
//            TYPE_MAXIMUM  bad value of an unsigned type, a float64 literal; absent = no such rule
//            NEGATIVE      1: values below 0 are bad
//            DUMMY         1: values within delta_dummy of dummy are bad
// Oracle:    kernels/reference
// Error:     with n entries in a row, each sum to n 2^-53 of the sum of its absolute terms; where pixels are bad in a
//            frame, the norm to n 2^-53 of the whole bin's; the results then rounded to float32 (2^-24).
//            Bit for bit the same for a frame in any batch, at any place, for either GROUP_FRAMES.

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

#define CONCATENATE_(a, b) a##b
#define CONCATENATE(a, b) CONCATENATE_(a, b)
#define PIXEL4 CONCATENATE(PIXEL, 4)
#define PIXEL_GROUP CONCATENATE(PIXEL, GROUP_FRAMES)
#define FRAME_LANES (GROUP_FRAMES / 4)

// Sums `partial` [ENTRY_LANES, lanes] over its first axis, into its first row, as a balanced tree.
#define REDUCE_ENTRY_LANES(partial, entry_lane, lanes)                          \
  for (uint half_ = ENTRY_LANES / 2; half_ > 0; half_ /= 2) {                   \
    barrier(CLK_LOCAL_MEM_FENCE);                                               \
    if ((entry_lane) < half_) {                                                 \
      partial[get_local_id(0)] += partial[get_local_id(0) + half_ * (lanes)];   \
    }                                                                           \
  }

// What does not depend on the frame: sums over each row of weight times
//   x  normalisation   y  dark   z  weight * normalisation^2   w  weight * variance
// offsets        [rows + 1]
// entry_pixels   [entries]
// entry_weights  [entries]
// normalisation  [pixels]
// dark           [pixels] counts; null = none
// variance       [pixels] counts^2; null = none
// totals         [rows], overwritten
__kernel __attribute__((reqd_work_group_size(ENTRY_LANES, 1, 1))) void sum_corrections(
    __global const ulong* offsets, __global const uint* entry_pixels, __global const float* entry_weights,
    __global const float* normalisation, __global const float* dark, __global const float* variance,
    __global double4* totals) {
  __local double4 partial[ENTRY_LANES];
  const size_t row = get_group_id(0);
  const uint entry_lane = (uint)get_local_id(0);
  double4 sums = 0.0;
  for (ulong entry = offsets[row] + entry_lane; entry < offsets[row + 1]; entry += ENTRY_LANES) {
    const double weight = entry_weights[entry];
    const uint pixel = entry_pixels[entry];
    const double share = weight * normalisation[pixel];
    sums.x += share;
    if (dark != 0) sums.y = fma(weight, (double)dark[pixel], sums.y);
    sums.z = fma(share, share, sums.z);
    if (variance != 0) sums.w = fma(weight * weight, (double)variance[pixel], sums.w);
  }
  partial[entry_lane] = sums;
  REDUCE_ENTRY_LANES(partial, entry_lane, 1)
  if (entry_lane == 0) totals[row] = partial[0];
}

// raw          [frames, stride], of which the first `pixels` count
// interleaved  [groups, pixels, GROUP_FRAMES], overwritten
__kernel void interleave(uint pixels, uint stride, uint frames, __global const PIXEL* raw,
                         __global PIXEL_GROUP* interleaved) {
  const size_t pixel = get_global_id(0);
  if (pixel >= pixels) return;
  const size_t group = get_global_id(1);
  union {
    PIXEL_GROUP vector;
    PIXEL frame[GROUP_FRAMES];
  } values;
  for (uint place = 0; place < GROUP_FRAMES; ++place) {
    const size_t frame = min((uint)group * GROUP_FRAMES + place, frames - 1);
    values.frame[place] = raw[frame * stride + pixel];
  }
  interleaved[group * pixels + pixel] = values.vector;
}

// -1 where a value is bad in this frame: the rules of kernels/bad_pixels.hpp; every pixel type is exact in float64.
long4 is_bad(double4 value, double dummy, double delta_dummy) {
  long4 bad = ~isfinite(value);
#ifdef TYPE_MAXIMUM
  bad |= value == TYPE_MAXIMUM;
#endif
#if NEGATIVE
  bad |= value < 0.0;
#endif
#if DUMMY
  bad |= fabs(value - dummy) <= delta_dummy;
#endif
  return bad;
}

// The sums of a row over `values` of all entry lanes, for 4 frames; in every work-item of the frame lane.
double4 sum_lanes(__local double4* partial, uint entry_lane, uint frame_lane, double4 value) {
  partial[get_local_id(0)] = value;
  REDUCE_ENTRY_LANES(partial, entry_lane, FRAME_LANES)
  barrier(CLK_LOCAL_MEM_FENCE);
  const double4 sum = partial[frame_lane];
  barrier(CLK_LOCAL_MEM_FENCE);
  return sum;
}

// Writes the results of 4 frames of one row. A work-item of each frame lane calls it.
// monitor    [frames]
// intensity, sem, std  [frames, rows], overwritten; the last two null when they are not wanted
void write_row(uint frames, uint rows, size_t row, size_t first_frame, double4 net, double4 norm, double4 variance,
               double4 square, __global const double* monitor, __global float* intensity, __global float* sem,
               __global float* std) {
  union {
    double4 vector;
    double frame[4];
  } nets, norms, deviations, spreads;
  nets.vector = net;
  norms.vector = norm;
  deviations.vector = sqrt(fmax(variance, 0.0));
  spreads.vector = sqrt(square);
  for (uint place = 0; place < 4; ++place) {
    const size_t frame = first_frame + place;
    if (frame >= frames) return;
    const double divisor = monitor[frame] * norms.frame[place];
    const bool empty = divisor == 0.0;
    const size_t target = frame * rows + row;
    intensity[target] = empty ? 0.0f : (float)(nets.frame[place] / divisor);
    if (sem != 0) sem[target] = empty ? 0.0f : (float)(deviations.frame[place] / fabs(divisor));
    if (std != 0) {
      std[target] = empty ? 0.0f : (float)(deviations.frame[place] / (fabs(monitor[frame]) * spreads.frame[place]));
    }
  }
}

// offsets, entry_pixels, entry_weights, normalisation, dark, variance_image, totals: as in sum_corrections
// interleaved     [groups, pixels, lanes] vectors of 4 frames
// monitor         [frames]
// intensity, sem, std  [frames, rows], overwritten; the last two null when they are not wanted
__kernel __attribute__((reqd_work_group_size(FRAME_LANES * ENTRY_LANES, 1, 1))) void integrate(
    uint pixels, uint frames, uint rows, double dummy, double delta_dummy, __global const ulong* offsets,
    __global const uint* entry_pixels, __global const float* entry_weights, __global const float* normalisation,
    __global const float* dark, __global const float* variance_image, __global const double4* totals,
    __global const PIXEL4* interleaved, __global const double* monitor, __global float* intensity,
    __global float* sem, __global float* std) {
  __local double4 partial[FRAME_LANES * ENTRY_LANES];
  const size_t row = get_group_id(0);
  const size_t group = get_group_id(1);
  const uint frame_lane = (uint)get_local_id(0) % FRAME_LANES;
  const uint entry_lane = (uint)get_local_id(0) / FRAME_LANES;
  __global const PIXEL4* frames_of_pixel = interleaved + group * pixels * FRAME_LANES + frame_lane;
  const ulong row_end = offsets[row + 1];
  const double4 total = totals[row];

  double4 signal = 0.0;
  double4 removed = 0.0;
  double4 removed_square = 0.0;
  double4 removed_variance = 0.0;
  double4 variance = 0.0;
  for (ulong entry = offsets[row] + entry_lane; entry < row_end; entry += ENTRY_LANES) {
    const double weight = entry_weights[entry];
    const size_t pixel = entry_pixels[entry];
    double4 counts = convert_double4(frames_of_pixel[pixel * FRAME_LANES]);
#if VARIANCE == 2
    double4 counts_variance = fmax(counts, 1.0);
#endif
    const long4 bad = is_bad(counts, dummy, delta_dummy);
    if (any(bad)) {
      // A bad pixel counts as its dark, which the total dark takes away again. Its norm is summed in the order of the
      // total, so that a bin without a good pixel is left with exactly 0.
      const double share = weight * normalisation[pixel];
      removed += select((double4)0.0, (double4)share, bad);
      removed_square = fma((double4)share, select((double4)0.0, (double4)share, bad), removed_square);
      counts = select(counts, (double4)(dark != 0 ? (double)dark[pixel] : 0.0), bad);
#if VARIANCE == 1
      removed_variance =
          fma((double4)(weight * weight), select((double4)0.0, (double4)variance_image[pixel], bad), removed_variance);
#elif VARIANCE == 2
      counts_variance = select(counts_variance, (double4)0.0, bad);
#endif
    }
    signal = fma((double4)weight, counts, signal);
#if VARIANCE == 2
    variance = fma((double4)(weight * weight), counts_variance, variance);
#endif
  }

  const double4 net = sum_lanes(partial, entry_lane, frame_lane, signal) - total.y;
  const double4 norm = total.x - sum_lanes(partial, entry_lane, frame_lane, removed);
#if VARIANCE
  const double4 square = total.z - sum_lanes(partial, entry_lane, frame_lane, removed_square);
#else
  const double4 square = 1.0;
#endif
#if VARIANCE == 1
  variance = total.w - sum_lanes(partial, entry_lane, frame_lane, removed_variance);
#elif VARIANCE == 2
  variance = sum_lanes(partial, entry_lane, frame_lane, variance);
#elif VARIANCE == 3
  const double4 mean = select(net / norm, (double4)0.0, norm == 0.0);
  for (ulong entry = offsets[row] + entry_lane; entry < row_end; entry += ENTRY_LANES) {
    const double weight = entry_weights[entry];
    const size_t pixel = entry_pixels[entry];
    const double4 counts = convert_double4(frames_of_pixel[pixel * FRAME_LANES]);
    const double4 deviation =
        weight * (counts - (dark != 0 ? (double)dark[pixel] : 0.0) - (double)normalisation[pixel] * mean);
    variance += select(deviation * deviation, (double4)0.0, is_bad(counts, dummy, delta_dummy));
  }
  variance = sum_lanes(partial, entry_lane, frame_lane, variance);
#endif
  if (entry_lane != 0) return;
  write_row(frames, rows, row, group * GROUP_FRAMES + frame_lane * 4, net, norm, variance, square, monitor, intensity,
            sem, std);
}

// The sums of a row over pixels that are good and not clipped, for 4 frames.
typedef struct {
  double4 signal;
  double4 norm;
  double4 square;
  double4 count;
  double4 variance;
} RowSums;

#define ROW_ARGUMENTS                                                                                               \
  double dummy, double delta_dummy, ulong first_entry, ulong row_end, __global const uint *entry_pixels,            \
      __global const float *entry_weights, __global const float *normalisation, __global const float *dark,         \
      __global const float *variance_image, __global const PIXEL4 *frames_of_pixel
#define ROW_ARGUMENTS_GIVEN                                                                                         \
  dummy, delta_dummy, first_entry, row_end, entry_pixels, entry_weights, normalisation, dark, variance_image,      \
      frames_of_pixel

// -1 for each frame where a pixel counts: good, and within all limits so far (mean and width, in counts a norm of 1).
long4 counts_in(double4 counts, double4 value, double dummy, double delta_dummy, const double4* means,
                const double4* widths, uint limits) {
  long4 in = ~is_bad(counts, dummy, delta_dummy);
  for (uint limit = 0; limit < limits; ++limit) in &= ~(fabs(value - means[limit]) > widths[limit]);
  return in;
}

// Summed in the order of entries; `kind` as VARIANCE. Collective over the work-group.
RowSums sum_row(ROW_ARGUMENTS, __local double4* partial, uint entry_lane, uint frame_lane, int kind,
                const double4* means, const double4* widths, uint limits) {
  RowSums sums;
  sums.signal = sums.norm = sums.square = sums.count = sums.variance = 0.0;
  for (ulong entry = first_entry + entry_lane; entry < row_end; entry += ENTRY_LANES) {
    const double weight = entry_weights[entry];
    const size_t pixel = entry_pixels[entry];
    const double4 counts = convert_double4(frames_of_pixel[pixel * FRAME_LANES]);
    const double4 net = counts - (dark != 0 ? (double)dark[pixel] : 0.0);
    const double4 value = net / (double)normalisation[pixel];
    const long4 in = counts_in(counts, value, dummy, delta_dummy, means, widths, limits);
    const double share = weight * normalisation[pixel];
    const double4 shares = select((double4)0.0, (double4)share, in);
    const double4 signal = sums.signal + select((double4)0.0, weight * net, in);
    const double4 norm = sums.norm + shares;
    if (kind == 1) sums.variance += select((double4)0.0, (double4)(weight * weight * variance_image[pixel]), in);
    if (kind == 2) sums.variance += select((double4)0.0, weight * weight * fmax(counts, 1.0), in);
    if (kind == 4) {
      const double4 change = shares * shares * (sums.signal / sums.norm - value) * (signal / norm - value);
      sums.variance += select((double4)0.0, change, in & (sums.square > 0.0));
    }
    sums.signal = signal;
    sums.norm = norm;
    sums.square += shares * shares;
    sums.count += select((double4)0.0, (double4)weight, in);
  }
  sums.signal = sum_lanes(partial, entry_lane, frame_lane, sums.signal);
  sums.norm = sum_lanes(partial, entry_lane, frame_lane, sums.norm);
  sums.square = sum_lanes(partial, entry_lane, frame_lane, sums.square);
  sums.count = sum_lanes(partial, entry_lane, frame_lane, sums.count);
  if (kind == 3) {
    const double4 mean = select(sums.signal / sums.norm, (double4)0.0, sums.norm == 0.0);
    for (ulong entry = first_entry + entry_lane; entry < row_end; entry += ENTRY_LANES) {
      const double weight = entry_weights[entry];
      const size_t pixel = entry_pixels[entry];
      const double4 counts = convert_double4(frames_of_pixel[pixel * FRAME_LANES]);
      const double4 net = counts - (dark != 0 ? (double)dark[pixel] : 0.0);
      const long4 in =
          counts_in(counts, net / (double)normalisation[pixel], dummy, delta_dummy, means, widths, limits);
      const double4 deviation = weight * (net - (double)normalisation[pixel] * mean);
      sums.variance += select((double4)0.0, deviation * deviation, in);
    }
  }
  if (kind != 0) sums.variance = sum_lanes(partial, entry_lane, frame_lane, sums.variance);
  return sums;
}

// As integrate, without pixels further from their row's mean than `threshold` standard deviations, or Chauvenet's limit
// where that is wider; found anew up to `cycles` times. With 0 cycles nothing is clipped: it is pyFAI's order of
// summation alone.
__kernel __attribute__((reqd_work_group_size(FRAME_LANES * ENTRY_LANES, 1, 1))) void clip(
    uint pixels, uint frames, uint rows, double dummy, double delta_dummy, double threshold, uint cycles,
    __global const ulong* offsets, __global const uint* entry_pixels, __global const float* entry_weights,
    __global const float* normalisation, __global const float* dark, __global const float* variance_image,
    __global const PIXEL4* interleaved, __global const double* monitor, __global float* intensity,
    __global float* sem, __global float* std) {
  __local double4 partial[FRAME_LANES * ENTRY_LANES];
  __local int more;
  double4 means[CYCLES];
  double4 widths[CYCLES];
  const size_t row = get_group_id(0);
  const size_t group = get_group_id(1);
  const uint frame_lane = (uint)get_local_id(0) % FRAME_LANES;
  const uint entry_lane = (uint)get_local_id(0) / FRAME_LANES;
  __global const PIXEL4* frames_of_pixel = interleaved + group * pixels * FRAME_LANES + frame_lane;
  const ulong first_entry = offsets[row];
  const ulong row_end = offsets[row + 1];

  uint limits = 0;
  double4 last_count = -1.0;
  for (; limits < cycles; ++limits) {
    const RowSums sums = sum_row(ROW_ARGUMENTS_GIVEN, partial, entry_lane, frame_lane, CLIP_VARIANCE, means, widths,
                                 limits);
    if (get_local_id(0) == 0) more = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (entry_lane == 0 && any(sums.count != last_count)) more = 1;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (!more) break;
    last_count = sums.count;
    const double4 chauvenet = sqrt(2.0 * log(fmax(sums.count, 3.0) / sqrt(2.0 * M_PI)));
    means[limits] = sums.signal / sums.norm;
    // With what rounding can make of no distance at all, or of the limit itself: clip_limit in bin_statistics.hpp. A
    // variance below 0, which pyFAI's can be, is no limit.
    widths[limits] = (1.0 + 1e-9) * fmax(chauvenet, threshold) * sqrt(sums.variance / sums.square) +
                     1e-12 * fabs(means[limits]);
  }
  const RowSums sums = sum_row(ROW_ARGUMENTS_GIVEN, partial, entry_lane, frame_lane, VARIANCE, means, widths, limits);
  if (entry_lane != 0) return;
  write_row(frames, rows, row, group * GROUP_FRAMES + frame_lane * 4, sums.signal, sums.norm, sums.variance,
            sums.square, monitor, intensity, sem, std);
}
