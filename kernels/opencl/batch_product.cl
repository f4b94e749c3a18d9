// The integration matrix times a batch of frames, with normalisation and errors: intensity and sigma of each bin.
//
// Launch shapes (lanes = GROUP_FRAMES / 4, one lane holds 4 frames of a group of GROUP_FRAMES):
//   sum_corrections  1-D, a work-group of ENTRY_LANES work-items a bin
//   interleave       2-D, a work-item a pixel (padded to the local size) x a group of frames
//   integrate        2-D, a work-group of lanes * ENTRY_LANES work-items a bin x a group of frames
// Frames are gathered by pixel, and the pixels of a bin lie scattered: interleaved, one gather of GROUP_FRAMES
// neighbouring values serves a whole group, and each entry of the matrix is read once a group instead of once a frame.
//
// Defines:   PIXEL         uchar, ushort, uint, char, short, int, float or double
//            GROUP_FRAMES  4 or 16; a group that the batch does not fill is padded with copies of the last frame
//            ENTRY_LANES   a power of two, work-items that share a row: the order of summation depends on it alone
//            POISSON       1: write sigma with the variance max(x, 1) of the raw counts; 0: no sigma
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

// offsets        [bins + 1]
// entry_pixels   [entries]
// entry_weights  [entries]
// normalisation  [pixels]
// dark           [pixels] counts; null = none
// total_norm     [bins], overwritten: sum of weight * normalisation
// total_dark     [bins], overwritten: sum of weight * dark
__kernel __attribute__((reqd_work_group_size(ENTRY_LANES, 1, 1))) void sum_corrections(
    __global const ulong* offsets, __global const uint* entry_pixels, __global const float* entry_weights,
    __global const float* normalisation, __global const float* dark, __global double* total_norm,
    __global double* total_dark) {
  __local double norm_partial[ENTRY_LANES];
  __local double dark_partial[ENTRY_LANES];
  const uint bin = (uint)get_group_id(0);
  const uint entry_lane = (uint)get_local_id(0);
  double norm = 0.0;
  double dark_sum = 0.0;
  for (ulong entry = offsets[bin] + entry_lane; entry < offsets[bin + 1]; entry += ENTRY_LANES) {
    const double weight = entry_weights[entry];
    const uint pixel = entry_pixels[entry];
    norm = fma(weight, (double)normalisation[pixel], norm);
    if (dark != 0) dark_sum = fma(weight, (double)dark[pixel], dark_sum);
  }
  norm_partial[entry_lane] = norm;
  dark_partial[entry_lane] = dark_sum;
  REDUCE_ENTRY_LANES(norm_partial, entry_lane, 1)
  REDUCE_ENTRY_LANES(dark_partial, entry_lane, 1)
  if (entry_lane == 0) {
    total_norm[bin] = norm_partial[0];
    total_dark[bin] = dark_partial[0];
  }
}

// raw          [frames, pixels]
// interleaved  [groups, pixels, GROUP_FRAMES], overwritten
__kernel void interleave(uint pixels, uint frames, __global const PIXEL* raw, __global PIXEL_GROUP* interleaved) {
  const size_t pixel = get_global_id(0);
  if (pixel >= pixels) return;
  const size_t group = get_global_id(1);
  union {
    PIXEL_GROUP vector;
    PIXEL frame[GROUP_FRAMES];
  } values;
  for (uint place = 0; place < GROUP_FRAMES; ++place) {
    const size_t frame = min((uint)group * GROUP_FRAMES + place, frames - 1);
    values.frame[place] = raw[frame * pixels + pixel];
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

// offsets, entry_pixels, entry_weights, normalisation, dark, total_norm, total_dark: as in sum_corrections
// interleaved  [groups, pixels, lanes] vectors of 4 frames
// monitor      [frames]
// intensity    [frames, bins], overwritten
// sigma        [frames, bins], overwritten; null when POISSON is 0
__kernel __attribute__((reqd_work_group_size(FRAME_LANES * ENTRY_LANES, 1, 1))) void integrate(
    uint pixels, uint frames, uint bins, double dummy, double delta_dummy, __global const ulong* offsets,
    __global const uint* entry_pixels, __global const float* entry_weights, __global const float* normalisation,
    __global const float* dark, __global const double* total_norm, __global const double* total_dark,
    __global const PIXEL4* interleaved, __global const double* monitor, __global float* intensity,
    __global float* sigma) {
  __local double4 signal_partial[FRAME_LANES * ENTRY_LANES];
  __local double4 removed_partial[FRAME_LANES * ENTRY_LANES];
#if POISSON
  __local double4 variance_partial[FRAME_LANES * ENTRY_LANES];
#endif
  const uint bin = (uint)get_group_id(0);
  const size_t group = get_group_id(1);
  const uint frame_lane = (uint)get_local_id(0) % FRAME_LANES;
  const uint entry_lane = (uint)get_local_id(0) / FRAME_LANES;
  __global const PIXEL4* frames_of_pixel = interleaved + group * pixels * FRAME_LANES + frame_lane;
  const ulong row_end = offsets[bin + 1];

  double4 signal = 0.0;
  double4 removed = 0.0;
#if POISSON
  double4 variance = 0.0;
#endif
  for (ulong entry = offsets[bin] + entry_lane; entry < row_end; entry += ENTRY_LANES) {
    const double weight = entry_weights[entry];
    const size_t pixel = entry_pixels[entry];
    double4 counts = convert_double4(frames_of_pixel[pixel * FRAME_LANES]);
#if POISSON
    double4 counts_variance = fmax(counts, 1.0);
#endif
    const long4 bad = is_bad(counts, dummy, delta_dummy);
    if (any(bad)) {
      // A bad pixel counts as its dark, which total_dark takes away again. Its norm is summed in the order of
      // total_norm, so that a bin without a good pixel is left with exactly 0.
      const double4 pixel_norm = (double)normalisation[pixel];
      const double4 pixel_dark = dark != 0 ? (double)dark[pixel] : 0.0;
      removed = fma((double4)weight, select((double4)0.0, pixel_norm, bad), removed);
      counts = select(counts, pixel_dark, bad);
#if POISSON
      counts_variance = select(counts_variance, (double4)0.0, bad);
#endif
    }
    signal = fma((double4)weight, counts, signal);
#if POISSON
    variance = fma((double4)(weight * weight), counts_variance, variance);
#endif
  }

  signal_partial[get_local_id(0)] = signal;
  removed_partial[get_local_id(0)] = removed;
  REDUCE_ENTRY_LANES(signal_partial, entry_lane, FRAME_LANES)
  REDUCE_ENTRY_LANES(removed_partial, entry_lane, FRAME_LANES)
#if POISSON
  variance_partial[get_local_id(0)] = variance;
  REDUCE_ENTRY_LANES(variance_partial, entry_lane, FRAME_LANES)
#endif
  if (entry_lane != 0) return;

  union {
    double4 vector;
    double frame[4];
  } net, norm;
  net.vector = signal_partial[frame_lane] - total_dark[bin];
  norm.vector = total_norm[bin] - removed_partial[frame_lane];
#if POISSON
  union {
    double4 vector;
    double frame[4];
  } deviation;
  deviation.vector = sqrt(variance_partial[frame_lane]);
#endif
  for (uint place = 0; place < 4; ++place) {
    const size_t frame = group * GROUP_FRAMES + frame_lane * 4 + place;
    if (frame >= frames) break;
    const double divisor = monitor[frame] * norm.frame[place];
    const bool empty = divisor == 0.0;
    intensity[frame * bins + bin] = empty ? 0.0f : (float)(net.frame[place] / divisor);
#if POISSON
    sigma[frame * bins + bin] = empty ? 0.0f : (float)(deviation.frame[place] / fabs(divisor));
#endif
  }
}
