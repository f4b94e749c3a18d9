// Builds the integration matrix on the device: compressed sparse rows, bins x pixels, pixels ascending in each row.
//
// Order of launches, each 1-D, global size padded to the local size (surplus work-items return at once):
//   corner_radius       a work-item a corner    (splitting over bins only)
//   pixel_interval      a work-item a pixel
//   interval_extent     a work-item a tile      (a tile is a run of `tile_pixels` consecutive pixels)
//   count_entries       a work-item a tile
//   scan_tiles          a work-item a bin
//   fill_entries        a work-item a tile
// A tile is walked by one work-item in pixel order and has its own counts, so the rows need no atomics and no sorting
// and are the same for any number of tiles, on any device.
//
// Defines:   SPACE     0 two theta in rad, 1 q in nm^-1, 2 radius in m
//            SPLIT     0 a pixel's whole weight goes to the bin of its centre, 1 shared over the bins of its interval
// Oracle:    kernels/reference
// Error:     centres and edges to 4 ulp of float64 (atan2, sin of the device: OpenCL allows 6 and 4 ulp), weights to 1
//            ulp of float32, except where that last bit decides: a corner whose float64 value lies that close to the
//            middle between two floats (1 in 10^8) is rounded the other way and shifts its pixel's interval by 1 ulp of
//            float32, and an interval that ends that close to a bin's edge gains or loses an entry of no weight.

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

// The host's twin is DeviceGeometry in device_matrix.cpp: float64 first, then 32-bit integers, no padding.
typedef struct {
  double rotation[9];  // row-major, (p1, p2, p3) to (y, x, z)
  double pixel1_m;
  double pixel2_m;
  double distance_m;
  double poni1_m;
  double poni2_m;
  double wavelength_m;
  uint rows;
  uint columns;
  uint flip1;
  uint flip2;
} Geometry;

// Radial coordinate, in rad, nm^-1 or m, of the point at (row, column) in pixels from the detector's first corner.
double radius_at(const Geometry* geometry, double row, double column) {
  const double along1 = geometry->flip1 ? (double)geometry->rows - row : row;
  const double along2 = geometry->flip2 ? (double)geometry->columns - column : column;
  const double p1 = geometry->pixel1_m * along1 - geometry->poni1_m;
  const double p2 = geometry->pixel2_m * along2 - geometry->poni2_m;
  const double p3 = geometry->distance_m;
  const double* rotation = geometry->rotation;
  const double y = rotation[0] * p1 + rotation[1] * p2 + rotation[2] * p3;
  const double x = rotation[3] * p1 + rotation[4] * p2 + rotation[5] * p3;
  const double radius_m = sqrt(x * x + y * y);
#if SPACE == 2
  return radius_m;
#else
  const double z = rotation[6] * p1 + rotation[7] * p2 + rotation[8] * p3;
  const double two_theta_rad = atan2(radius_m, z);
#if SPACE == 0
  return two_theta_rad;
#else
  return 4e-9 * M_PI / geometry->wavelength_m * sin(0.5 * two_theta_rad);
#endif
#endif
}

// corners [rows + 1, columns + 1], overwritten: radial coordinates, rounded to float32 as pyFAI does.
__kernel void corner_radius(const Geometry geometry, __global float* corners) {
  const size_t corner = get_global_id(0);
  const size_t width = (size_t)geometry.columns + 1;
  if (corner >= width * ((size_t)geometry.rows + 1)) return;
  corners[corner] = (float)radius_at(&geometry, (double)(corner / width), (double)(corner % width));
}

// mask        [pixels] nonzero = unused; null = all pixels are used
// corners     [rows + 1, columns + 1] from corner_radius; null when SPLIT is 0
// centre      [pixels], overwritten: radial coordinate, NaN where masked
// half_width  [pixels], overwritten: the largest distance of a corner from the centre; 0 when SPLIT is 0
__kernel void pixel_interval(const Geometry geometry, __global const uchar* mask, __global const float* corners,
                             __global double* centre, __global double* half_width) {
  const size_t pixel = get_global_id(0);
  if (pixel >= (size_t)geometry.rows * geometry.columns) return;
  double middle = NAN;
  double half_extent = 0.0;
  if (mask == 0 || mask[pixel] == 0) {
    const size_t row = pixel / geometry.columns;
    const size_t column = pixel % geometry.columns;
    middle = radius_at(&geometry, (double)row + 0.5, (double)column + 0.5);
#if SPLIT
    const size_t width = (size_t)geometry.columns + 1;
    __global const float* corner = corners + row * width + column;
    half_extent = fmax(fmax(fabs((double)corner[0] - middle), fabs((double)corner[1] - middle)),
                       fmax(fabs((double)corner[width] - middle), fabs((double)corner[width + 1] - middle)));
#endif
  }
  centre[pixel] = middle;
  half_width[pixel] = half_extent;
}

// extent  [tiles, 2], overwritten: least and greatest end of the tile's intervals; (+inf, -inf) when all are masked
__kernel void interval_extent(uint pixels, uint tile_pixels, uint tiles, __global const double* centre,
                              __global const double* half_width, __global double* extent) {
  const uint tile = (uint)get_global_id(0);
  if (tile >= tiles) return;
  const size_t first = (size_t)tile * tile_pixels;
  const size_t last = min(first + tile_pixels, (size_t)pixels);
  double least = INFINITY;
  double greatest = -INFINITY;
  for (size_t pixel = first; pixel < last; ++pixel) {
    // fmin and fmax pass over the NaN of a masked pixel.
    least = fmin(least, centre[pixel] - half_width[pixel]);
    greatest = fmax(greatest, centre[pixel] + half_width[pixel]);
  }
  extent[2 * tile] = least;
  extent[2 * tile + 1] = greatest;
}

// Where a pixel falls, in units of bins.
typedef struct {
  double start;
  double end;
  uint first_bin;
  uint last_bin;
} Span;

// False when the pixel is masked or lies outside the bins.
bool find_span(double centre, double half_width, double lower, double bin_width, uint bins, Span* span) {
  span->start = (centre - half_width - lower) / bin_width;
  span->end = (centre + half_width - lower) / bin_width;
  // A NaN compares false.
  if (!(span->end >= 0.0 && span->start < (double)bins)) return false;
  span->first_bin = (uint)fmax(floor(span->start), 0.0);
  span->last_bin = (uint)fmin(floor(span->end), (double)(bins - 1));
  return true;
}

// counts  [tiles, bins], must be 0: the number of entries that each tile adds to each row
__kernel void count_entries(uint pixels, uint tile_pixels, uint tiles, double lower, double bin_width, uint bins,
                            __global const double* centre, __global const double* half_width, __global uint* counts) {
  const uint tile = (uint)get_global_id(0);
  if (tile >= tiles) return;
  __global uint* tile_counts = counts + (size_t)tile * bins;
  const size_t first = (size_t)tile * tile_pixels;
  const size_t last = min(first + tile_pixels, (size_t)pixels);
  for (size_t pixel = first; pixel < last; ++pixel) {
    Span span;
    if (!find_span(centre[pixel], half_width[pixel], lower, bin_width, bins, &span)) continue;
    for (uint bin = span.first_bin; bin <= span.last_bin; ++bin) ++tile_counts[bin];
  }
}

// counts       [tiles, bins], in: entries; out: the place of the tile's first entry within its row
// row_entries  [bins], overwritten: the length of each row
__kernel void scan_tiles(uint tiles, uint bins, __global uint* counts, __global uint* row_entries) {
  const uint bin = (uint)get_global_id(0);
  if (bin >= bins) return;
  uint sum = 0;
  for (uint tile = 0; tile < tiles; ++tile) {
    __global uint* count = counts + (size_t)tile * bins + bin;
    const uint entries = *count;
    *count = sum;
    sum += entries;
  }
  row_entries[bin] = sum;
}

// places         [tiles, bins] from scan_tiles; used up
// offsets        [bins + 1] first entry of each row
// entry_pixels   [entries], overwritten
// entry_weights  [entries], overwritten
__kernel void fill_entries(uint pixels, uint tile_pixels, uint tiles, double lower, double bin_width, uint bins,
                           __global const double* centre, __global const double* half_width, __global uint* places,
                           __global const ulong* offsets, __global uint* entry_pixels, __global float* entry_weights) {
  const uint tile = (uint)get_global_id(0);
  if (tile >= tiles) return;
  __global uint* tile_places = places + (size_t)tile * bins;
  const size_t first = (size_t)tile * tile_pixels;
  const size_t last = min(first + tile_pixels, (size_t)pixels);
  for (size_t pixel = first; pixel < last; ++pixel) {
    Span span;
    if (!find_span(centre[pixel], half_width[pixel], lower, bin_width, bins, &span)) continue;
    const double whole_bin = 1.0 / (span.end - span.start);
    for (uint bin = span.first_bin; bin <= span.last_bin; ++bin) {
      double weight = whole_bin;
      if (span.first_bin == span.last_bin) {
        weight = 1.0;
      } else if (bin == span.first_bin) {
        weight = whole_bin * ((double)(bin + 1) - span.start);  // with what lies below the first bin
      } else if (bin == span.last_bin) {
        weight = whole_bin * (span.end - (double)bin);  // with what lies above the last bin
      }
      const ulong entry = offsets[bin] + tile_places[bin]++;
      entry_pixels[entry] = (uint)pixel;
      entry_weights[entry] = (float)weight;
    }
  }
}
