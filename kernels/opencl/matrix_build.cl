// Builds the integration matrix on the device: compressed sparse rows, bins x pixels, pixels ascending in each row.
// Stands behind kernels/splitting.inc, which has all formulas.
//
// Order of launches, each 1-D, global size padded to the local size (surplus work-items return at once):
//   corner_coordinates   a work-item a corner    (unless there is no splitting)
//   pixel_box            a work-item a pixel     (unless BY_AREA)
//   pixel_extent         a work-item a tile      (a tile is a run of `tile_pixels` consecutive pixels)
// and then, for matrices of not too many rows,
//   count_by_tile        a work-item a tile
//   scan_tiles           a work-item a row
//   fill_by_tile         a work-item a tile
// or, for many rows with few entries each,
//   count_by_pixel       a work-item a pixel
//   fill_by_pixel        a work-item a pixel
//   sort_rows            a work-item a row
// A tile is walked by one work-item in pixel order and has its own counts: no atomics, no sorting. With many rows those
// counts would not fit, and atomics put the entries in any order, which the sort then undoes. Either way the rows are
// the same for any number of tiles, on any device.
//
// Defines:   BY_AREA   1: pixels are split by area (pseudo, full), 0: by boxes or not at all
//            AZIMUTH   1: azimuths are needed
//            GRID      1: regular pixels, 0: by vertices
// (Everything else is an argument: compiling takes longer than any branch.)
// Oracle:    kernels/reference
// Error:     centres and edges to 4 ulp of float64 (atan2, sin of the device: OpenCL allows 6 and 4 ulp), weights to 1
//            ulp of float32, except where that last bit decides: a corner whose float64 value lies that close to the
//            middle between two floats (1 in 10^8) is rounded the other way and shifts its pixel's interval by 1 ulp of
//            float32, and an interval that ends that close to a bin's edge gains or loses an entry of no weight.

// The host's twin is DeviceGeometry in device_matrix.cpp: float64 first, then 32-bit integers, no padding.
typedef struct {
  double rotation[9];  // row-major, (p1, p2, p3) to (y, x, z)
  double pixel1_m;
  double pixel2_m;
  double distance_m;
  double poni1_m;
  double poni2_m;
  double wavelength_m;
  double frame[9];            // of the radial space and of the azimuthal one, as coordinate_value takes them
  double azimuthal_frame[9];
  double radial_period;       // over which half widths are measured; 0 = none
  double azimuthal_period;
  uint rows;
  uint columns;
  uint flip1;
  uint flip2;
  int space;           // ANNULUS_SPACE_...
  int azimuthal_space;
  int cut_at_zero;     // the azimuth goes from 0 to 2 pi instead of -pi to pi
  int rounded;         // corners' places on the detector are rounded to float32 (pyFAI's slow path)
  int parallax_nodes;  // entries of the parallax table; 0 = none
  int unused;          // the size stays a multiple of 8
} Geometry;

// (radial, azimuthal) coordinates of the point (p1, p2, p3) of the detector, before poni and distance.
double2 coordinates_at(const Geometry* geometry, __global const double* parallax, double p1, double p2, double p3) {
  const double* rotation = geometry->rotation;
  p1 -= geometry->poni1_m;
  p2 -= geometry->poni2_m;
  p3 += geometry->distance_m;
  if (geometry->parallax_nodes > 0) {
    const double stretch = parallax_stretch(parallax, geometry->parallax_nodes, p1, p2, p3);
    p1 += p1 * stretch;
    p2 += p2 * stretch;
  }
  const double y = rotation[0] * p1 + rotation[1] * p2 + rotation[2] * p3;
  const double x = rotation[3] * p1 + rotation[4] * p2 + rotation[5] * p3;
  const double z = rotation[6] * p1 + rotation[7] * p2 + rotation[8] * p3;
  const double radial =
      coordinate_value(geometry->space, geometry->frame, geometry->cut_at_zero, geometry->wavelength_m, y, x, z);
#if AZIMUTH
  return (double2)(radial, coordinate_value(geometry->azimuthal_space, geometry->azimuthal_frame,
                                            geometry->cut_at_zero, geometry->wavelength_m, y, x, z));
#else
  return (double2)(radial, 0.0);
#endif
}

// Place on axis 1 or 2 of a point of a regular grid, in m; found in float32 when `rounded`.
double along(double pixel_m, uint flip, uint extent, double index, int rounded) {
  const double pixels = flip ? (double)extent - index : index;
  return rounded ? (double)((float)pixel_m * (float)pixels) : pixel_m * pixels;
}

// vertices         [pixels, 4, 3] (z, y, x); null for a regular grid
// corner_radius    [rows + 1, columns + 1] of a grid, else [pixels, 4]; overwritten, rounded to float32 as pyFAI does
// corner_azimuth   likewise; null when AZIMUTH is 0
__kernel void corner_coordinates(const Geometry geometry, __global const double* parallax,
                                 __global const float* vertices, __global float* corner_radius,
                                 __global float* corner_azimuth) {
  const size_t corner = get_global_id(0);
#if GRID
  const size_t width = (size_t)geometry.columns + 1;
  if (corner >= width * ((size_t)geometry.rows + 1)) return;
  const double p1 =
      along(geometry.pixel1_m, geometry.flip1, geometry.rows, (double)(corner / width), geometry.rounded);
  const double p2 =
      along(geometry.pixel2_m, geometry.flip2, geometry.columns, (double)(corner % width), geometry.rounded);
  const double p3 = 0.0;
#else
  if (corner >= (size_t)geometry.rows * geometry.columns * 4) return;
  const double p1 = vertices[3 * corner + 1];
  const double p2 = vertices[3 * corner + 2];
  const double p3 = vertices[3 * corner];
#endif
  const double2 place = coordinates_at(&geometry, parallax, p1, p2, p3);
  corner_radius[corner] = (float)place.x;
#if AZIMUTH
  corner_azimuth[corner] = (float)place.y;
#endif
}

// The four corners of a pixel, in the order (0, 0), (1, 0), (1, 1), (0, 1).
void load_corners(uint columns, size_t pixel, __global const float* values, float* corners) {
#if GRID
  const size_t width = (size_t)columns + 1;
  __global const float* corner = values + pixel / columns * width + pixel % columns;
  corners[0] = corner[0];
  corners[1] = corner[width];
  corners[2] = corner[width + 1];
  corners[3] = corner[1];
#else
  for (int corner = 0; corner < 4; ++corner) corners[corner] = values[4 * pixel + corner];
#endif
}

// The largest distance of a corner from the centre; over a period when there is one.
double widest(double centre, const float* corners, double period) {
  double half_width = 0.0;
  for (int corner = 0; corner < 4; ++corner) {
    double distance = fabs((double)corners[corner] - centre);
    if (period > 0.0) distance = fmin(distance, period - distance);
    half_width = fmax(half_width, distance);
  }
  return half_width;
}

// mask    [pixels] 0 = used, 1 = not there, 2 = there, but not used; null = all pixels are used
// corner_radius, corner_azimuth  from corner_coordinates; null without splitting
// radial  [pixels] centre and half width, overwritten; NaN where masked
// azimuthal  likewise; null when AZIMUTH is 0
__kernel void pixel_box(const Geometry geometry, __global const double* parallax,
                        __global const float* vertices, __global const uchar* mask,
                        __global const float* corner_radius, __global const float* corner_azimuth,
                        __global double2* radial, __global double2* azimuthal) {
  const size_t pixel = get_global_id(0);
  if (pixel >= (size_t)geometry.rows * geometry.columns) return;
  if (mask != 0 && mask[pixel] == 1) {
    radial[pixel] = (double2)(NAN, 0.0);
    return;
  }
  double p1, p2, p3;
#if GRID
  p1 = along(geometry.pixel1_m, geometry.flip1, geometry.rows, (double)(pixel / geometry.columns) + 0.5, 0);
  p2 = along(geometry.pixel2_m, geometry.flip2, geometry.columns, (double)(pixel % geometry.columns) + 0.5, 0);
  p3 = 0.0;
#else
  __global const float* own = vertices + 12 * pixel;
  p3 = 0.25 * ((double)own[0] + own[3] + own[6] + own[9]);
  p1 = 0.25 * ((double)own[1] + own[4] + own[7] + own[10]);
  p2 = 0.25 * ((double)own[2] + own[5] + own[8] + own[11]);
#endif
  const double2 centre = coordinates_at(&geometry, parallax, p1, p2, p3);
  double2 half_width = 0.0;
  if (corner_radius != 0) {
    float corners[4];
    load_corners(geometry.columns, pixel, corner_radius, corners);
    half_width.x = widest(centre.x, corners, geometry.radial_period);
#if AZIMUTH
    load_corners(geometry.columns, pixel, corner_azimuth, corners);
    half_width.y = widest(centre.y, corners, geometry.azimuthal_period);
#endif
  }
  radial[pixel] = (double2)(centre.x, half_width.x);
#if AZIMUTH
  azimuthal[pixel] = (double2)(centre.y, half_width.y);
#endif
}

// Widens (least, greatest) by [low, high] unless one of them is not finite.
double2 widened(double2 extent, double low, double high) {
  if (!isfinite(low) || !isfinite(high)) return extent;
  return (double2)(fmin(extent.x, low), fmax(extent.y, high));
}

// extent  [tiles, 2] radial and azimuthal, least and greatest; overwritten; (+inf, -inf) when all are masked
__kernel void pixel_extent(uint columns, uint pixels, uint tile_pixels, uint tiles, __global const uchar* mask,
                           __global const float* corner_radius, __global const float* corner_azimuth,
                           __global const double2* radial, __global const double2* azimuthal,
                           __global double2* extent) {
  const uint tile = (uint)get_global_id(0);
  if (tile >= tiles) return;
  const size_t first = (size_t)tile * tile_pixels;
  const size_t last = min(first + tile_pixels, (size_t)pixels);
  double2 radial_extent = (double2)(INFINITY, -INFINITY);
  double2 azimuthal_extent = (double2)(INFINITY, -INFINITY);
  for (size_t pixel = first; pixel < last; ++pixel) {
    if (mask != 0 && mask[pixel] == 1) continue;
#if BY_AREA
    float corners[4];
    load_corners(columns, pixel, corner_radius, corners);
    radial_extent = widened(radial_extent, fmin(fmin(corners[0], corners[1]), fmin(corners[2], corners[3])),
                            fmax(fmax(corners[0], corners[1]), fmax(corners[2], corners[3])));
    load_corners(columns, pixel, corner_azimuth, corners);
    azimuthal_extent = widened(azimuthal_extent, fmin(fmin(corners[0], corners[1]), fmin(corners[2], corners[3])),
                               fmax(fmax(corners[0], corners[1]), fmax(corners[2], corners[3])));
#else
    radial_extent = widened(radial_extent, radial[pixel].x - radial[pixel].y, radial[pixel].x + radial[pixel].y);
#if AZIMUTH
    azimuthal_extent =
        widened(azimuthal_extent, azimuthal[pixel].x - azimuthal[pixel].y, azimuthal[pixel].x + azimuthal[pixel].y);
#endif
#endif
  }
  extent[2 * tile] = radial_extent;
  extent[2 * tile + 1] = azimuthal_extent;
}

// Where the pixels are: the arrays of the kernels above, as every kernel below takes them.
#define PLACES                                                                                         \
  uint columns, uint pixels, __global const uchar *mask, __global const float *corner_radius,         \
      __global const float *corner_azimuth, __global const double2 *radial, __global const double2 *azimuthal
#define PLACES_GIVEN columns, pixels, mask, corner_radius, corner_azimuth, radial, azimuthal

// The footprint of a pixel; 0 when it is masked or falls into no bin.
int footprint_of(PLACES, const SharedBins* bins, size_t pixel, Footprint* footprint) {
  if (mask != 0 && mask[pixel] != 0) return 0;
#if BY_AREA
  float radius[4], azimuth[4];
  load_corners(columns, pixel, corner_radius, radius);
  load_corners(columns, pixel, corner_azimuth, azimuth);
  if (bins->splitting == ANNULUS_SPLIT_PSEUDO && bins->azimuthal.bins > 0) {
    return pseudo_footprint(bins, radius, azimuth, footprint);
  }
  return quad_footprint(bins, radius, azimuth, footprint);
#else
  const double2 across = AZIMUTH ? azimuthal[pixel] : (double2)(0.0);
  return box_footprint(bins, radial[pixel].x, radial[pixel].y, across.x, across.y, footprint);
#endif
}

// The share of a bin, 0 when there is none to speak of.
double share_of(const Footprint* footprint, uint radial_bins, uint bin, uint azimuthal_bin) {
  const double share = footprint->scale * raw_share(footprint, radial_bins, bin, azimuthal_bin);
  const bool exact_area = footprint->kind == ANNULUS_QUAD || footprint->kind == ANNULUS_QUAD_1D;
  return exact_area && share < AREA_ROUNDING ? 0.0 : share;
}

// Runs `statement` for each row and share of `footprint`, ascending by row.
#define FOR_EACH_SHARE(statement)                                                                          \
  for (uint azimuthal_bin = footprint.first_y; azimuthal_bin <= footprint.last_y; ++azimuthal_bin) {       \
    for (uint bin = footprint.first_x; bin <= footprint.last_x; ++bin) {                                   \
      const double share = share_of(&footprint, bins.radial.bins, bin, azimuthal_bin);                     \
      const uint row = azimuthal_bin * bins.radial.bins + bin;                                             \
      if (share != 0.0) statement                                                                          \
    }                                                                                                      \
  }

// counts  [tiles, rows], must be 0: the number of entries that each tile adds to each row
__kernel void count_by_tile(PLACES, const SharedBins bins, uint tile_pixels, uint tiles, uint rows,
                            __global uint* counts) {
  const uint tile = (uint)get_global_id(0);
  if (tile >= tiles) return;
  __global uint* tile_counts = counts + (size_t)tile * rows;
  const size_t first = (size_t)tile * tile_pixels;
  const size_t last = min(first + tile_pixels, (size_t)pixels);
  for (size_t pixel = first; pixel < last; ++pixel) {
    Footprint footprint;
    if (!footprint_of(PLACES_GIVEN, &bins, pixel, &footprint)) continue;
    FOR_EACH_SHARE({ ++tile_counts[row]; })
  }
}

// counts       [tiles, rows], in: entries; out: the place of the tile's first entry within its row
// row_entries  [rows], overwritten: the length of each row
__kernel void scan_tiles(uint tiles, uint rows, __global uint* counts, __global uint* row_entries) {
  const uint row = (uint)get_global_id(0);
  if (row >= rows) return;
  uint sum = 0;
  for (uint tile = 0; tile < tiles; ++tile) {
    __global uint* count = counts + (size_t)tile * rows + row;
    const uint entries = *count;
    *count = sum;
    sum += entries;
  }
  row_entries[row] = sum;
}

// places         [tiles, rows] from scan_tiles; used up
// offsets        [rows + 1] first entry of each row
// entry_pixels   [entries], overwritten
// entry_weights  [entries], overwritten
__kernel void fill_by_tile(PLACES, const SharedBins bins, uint tile_pixels, uint tiles, uint rows,
                           __global uint* places, __global const ulong* offsets, __global uint* entry_pixels,
                           __global float* entry_weights) {
  const uint tile = (uint)get_global_id(0);
  if (tile >= tiles) return;
  __global uint* tile_places = places + (size_t)tile * rows;
  const size_t first = (size_t)tile * tile_pixels;
  const size_t last = min(first + tile_pixels, (size_t)pixels);
  for (size_t pixel = first; pixel < last; ++pixel) {
    Footprint footprint;
    if (!footprint_of(PLACES_GIVEN, &bins, pixel, &footprint)) continue;
    FOR_EACH_SHARE({
      const ulong entry = offsets[row] + tile_places[row]++;
      entry_pixels[entry] = (uint)pixel;
      entry_weights[entry] = (float)share;
    })
  }
}

// row_entries  [rows], must be 0: the length of each row
__kernel void count_by_pixel(PLACES, const SharedBins bins, volatile __global uint* row_entries) {
  const size_t pixel = get_global_id(0);
  if (pixel >= pixels) return;
  Footprint footprint;
  if (!footprint_of(PLACES_GIVEN, &bins, pixel, &footprint)) return;
  FOR_EACH_SHARE({ atomic_inc(&row_entries[row]); })
}

// used  [rows], must be 0
__kernel void fill_by_pixel(PLACES, const SharedBins bins, volatile __global uint* used,
                            __global const ulong* offsets, __global uint* entry_pixels,
                            __global float* entry_weights) {
  const size_t pixel = get_global_id(0);
  if (pixel >= pixels) return;
  Footprint footprint;
  if (!footprint_of(PLACES_GIVEN, &bins, pixel, &footprint)) return;
  FOR_EACH_SHARE({
    const ulong entry = offsets[row] + atomic_inc(&used[row]);
    entry_pixels[entry] = (uint)pixel;
    entry_weights[entry] = (float)share;
  })
}

// Heap sort of each row by pixel: in place, without a bad case.
__kernel void sort_rows(uint rows, __global const ulong* offsets, __global uint* entry_pixels,
                        __global float* entry_weights) {
  const uint row = (uint)get_global_id(0);
  if (row >= rows) return;
  __global uint* pixels = entry_pixels + offsets[row];
  __global float* weights = entry_weights + offsets[row];
  uint count = (uint)(offsets[row + 1] - offsets[row]);
  uint parent = count / 2;
  while (count > 1) {
    uint pixel;
    float weight;
    if (parent > 0) {  // still building the heap
      --parent;
      pixel = pixels[parent];
      weight = weights[parent];
    } else {  // the greatest goes to its place
      --count;
      pixel = pixels[count];
      weight = weights[count];
      pixels[count] = pixels[0];
      weights[count] = weights[0];
    }
    uint hole = parent;
    for (uint child = 2 * hole + 1; child < count; child = 2 * hole + 1) {
      if (child + 1 < count && pixels[child + 1] > pixels[child]) ++child;
      if (pixels[child] <= pixel) break;
      pixels[hole] = pixels[child];
      weights[hole] = weights[child];
      hole = child;
    }
    pixels[hole] = pixel;
    weights[hole] = weight;
  }
}
