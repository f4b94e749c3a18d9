// The mean over the pixels of a bin between two quantiles: sorts each row of each frame, then sums what is wanted.
//
// Launch shapes: 2-D, a work-group of ITEMS work-items a row x a frame, for each kernel
//   sort_row       puts keys of the row's pixels in order (bitonic, in global memory)
//   sum_quantiles  sums the pixels between the quantiles
//
// Defines:   PIXEL, TYPE_MAXIMUM, NEGATIVE, DUMMY  as in batch_product.cl
//            VARIANCE  0 no errors, 1 of a given image, 2 max(x, 1) of the raw counts, 3 the scatter about the mean
//            ITEMS     a power of two
//            PYFAI     1: sums are compared as float32, as pyFAI does; 0: with a slack for rounding
// Oracle:    kernels/bin_statistics.hpp, sum_quantiles
// Error:     sums to n 2^-53 of the sum of their absolute terms; which pixels they have is exact, unless the sum of
//            norms up to a pixel equals a quantile's to within the slack.

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

bool is_bad(double value, double dummy, double delta_dummy) {
  bool bad = !isfinite(value);
#ifdef TYPE_MAXIMUM
  bad = bad || value == TYPE_MAXIMUM;
#endif
#if NEGATIVE
  bad = bad || value < 0.0;
#endif
#if DUMMY
  bad = bad || fabs(value - dummy) <= delta_dummy;
#endif
  return bad;
}

// Behind all others: bad pixels and the padding of a row to a power of two.
#define LAST_KEY 0xffffffffffffffffUL

// An integer that grows with the value; equal values are kept apart by their place in the row.
ulong key_of(float value, uint place) {
  const uint bits = as_uint(value == 0.0f ? 0.0f : value);  // -0 and 0 are equal
  const uint ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return ((ulong)ordered << 32) | place;
}

// raw            [frames, stride], of which the first pixels count
// key_offsets    [rows + 1] first key of each row, a power of two (or 0) a row
// keys           [frames, key_offsets[rows]], overwritten
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void sort_row(
    uint stride, uint rows, double dummy, double delta_dummy, __global const ulong* offsets,
    __global const uint* entry_pixels, __global const float* normalisation, __global const float* dark,
    __global const PIXEL* raw, __global const ulong* key_offsets, __global ulong* keys) {
  const size_t row = get_group_id(0);
  const size_t frame = get_group_id(1);
  const uint item = (uint)get_local_id(0);
  __global ulong* row_keys = keys + frame * key_offsets[rows] + key_offsets[row];
  const uint padded = (uint)(key_offsets[row + 1] - key_offsets[row]);
  const uint entries = (uint)(offsets[row + 1] - offsets[row]);
  __global const PIXEL* values = raw + frame * stride;
  for (uint place = item; place < padded; place += ITEMS) {
    ulong key = LAST_KEY;
    if (place < entries) {
      const uint pixel = entry_pixels[offsets[row] + place];
      const double counts = (double)values[pixel];
      const double net = counts - (dark != 0 ? (double)dark[pixel] : 0.0);
      if (!is_bad(counts, dummy, delta_dummy)) key = key_of((float)(net / (double)normalisation[pixel]), place);
    }
    row_keys[place] = key;
  }
  for (uint run = 2; run <= padded; run *= 2) {
    for (uint step = run / 2; step > 0; step /= 2) {
      barrier(CLK_GLOBAL_MEM_FENCE);
      for (uint pair = item; pair < padded / 2; pair += ITEMS) {
        const uint low = 2 * pair - (pair & (step - 1));
        const ulong a = row_keys[low];
        const ulong b = row_keys[low + step];
        if ((a > b) == ((low & run) == 0)) {
          row_keys[low] = b;
          row_keys[low + step] = a;
        }
      }
    }
  }
}

// The sum of `value` over the work-group, in every work-item.
double sum_items(__local double* partial, double value) {
  const uint item = (uint)get_local_id(0);
  partial[item] = value;
  for (uint half_ = ITEMS / 2; half_ > 0; half_ /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < half_) partial[item] += partial[item + half_];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  const double sum = partial[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  return sum;
}

// keys    from sort_row
// others  as in batch_product.cl, integrate
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void sum_quantiles(
    uint stride, uint rows, double lower, double upper, __global const ulong* offsets,
    __global const uint* entry_pixels, __global const float* entry_weights, __global const float* normalisation,
    __global const float* dark, __global const float* variance_image, __global const PIXEL* raw,
    __global const ulong* key_offsets, __global const ulong* keys, __global const double* monitor,
    __global float* intensity, __global float* sem, __global float* std) {
  __local double partial[ITEMS];
  const size_t row = get_group_id(0);
  const size_t frame = get_group_id(1);
  const uint item = (uint)get_local_id(0);
  __global const ulong* row_keys = keys + frame * key_offsets[rows] + key_offsets[row];
  const uint entries = (uint)(offsets[row + 1] - offsets[row]);
  __global const PIXEL* values = raw + frame * stride;

  // Each work-item takes a run of consecutive keys; what the runs before it hold is added up once.
  const uint run = (entries + ITEMS - 1) / ITEMS;
  const uint first = min(item * run, entries);
  const uint last = min(first + run, entries);
  double own = 0.0;
  for (uint place = first; place < last && row_keys[place] != LAST_KEY; ++place) {
    const ulong entry = offsets[row] + (uint)row_keys[place];
    own += (double)entry_weights[entry] * (double)normalisation[entry_pixels[entry]];
  }
  partial[item] = own;
  barrier(CLK_LOCAL_MEM_FENCE);
  double reached_before = 0.0;
  double total = 0.0;
  for (uint other = 0; other < ITEMS; ++other) {
    if (other == item) reached_before = total;
    total += partial[other];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
#if PYFAI
  const double slack = 0.0;
  const double low = (float)(lower * total);
  const double high = (float)(upper * total);
#define COMPARED(sum) ((double)(float)(sum))
#else
  const double slack = 1e-10 * fabs(total);
  const double low = lower * total;
  const double high = upper * total;
#define COMPARED(sum) (sum)
#endif

  double signal = 0.0, norm = 0.0, square = 0.0, variance = 0.0, mean = 0.0;
  for (int pass = 0; pass < (VARIANCE == 3 ? 2 : 1); ++pass) {
    double reached = reached_before;
    for (uint place = first; place < last && row_keys[place] != LAST_KEY; ++place) {
      const ulong entry = offsets[row] + (uint)row_keys[place];
      const uint pixel = entry_pixels[entry];
      const double weight = entry_weights[entry];
      const double pixel_norm = normalisation[pixel];
      const double before = COMPARED(reached);
      reached += weight * pixel_norm;
      const double after = COMPARED(reached);
      const bool between = low <= before + slack && after <= high + slack;
      const bool around = low >= before - slack && high <= after + slack;
      if (!between && !around) continue;
      const double counts = (double)values[pixel];
      const double net = counts - (dark != 0 ? (double)dark[pixel] : 0.0);
      if (pass == 0) {
        signal += weight * net;
        norm += weight * pixel_norm;
        square += weight * pixel_norm * (weight * pixel_norm);
#if VARIANCE == 1
        variance += weight * weight * (double)variance_image[pixel];
#elif VARIANCE == 2
        variance += weight * weight * fmax(counts, 1.0);
#endif
      } else {
        const double deviation = weight * (net - pixel_norm * mean);
        variance += deviation * deviation;
      }
    }
    if (pass == 0) {
      signal = sum_items(partial, signal);
      norm = sum_items(partial, norm);
      square = sum_items(partial, square);
      mean = norm == 0.0 ? 0.0 : signal / norm;
    }
  }
  variance = sum_items(partial, variance);
  if (item != 0) return;
  const double divisor = monitor[frame] * norm;
  const bool empty = divisor == 0.0;
  const size_t target = frame * rows + row;
  intensity[target] = empty ? 0.0f : (float)(signal / divisor);
  if (sem != 0) sem[target] = empty ? 0.0f : (float)(sqrt(variance) / fabs(divisor));
  if (std != 0) std[target] = empty ? 0.0f : (float)(sqrt(variance) / (fabs(monitor[frame]) * sqrt(square)));
}
