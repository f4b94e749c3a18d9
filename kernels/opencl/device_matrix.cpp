#include "kernels/opencl/device_matrix.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/opencl/matrix_build.cl.hpp"
#include "kernels/radial.hpp"

namespace annulus::kernels::opencl {
namespace {

constexpr ProgramSource matrix_build_source{"matrix_build.cl", matrix_build_cl};

// The twin of Geometry in matrix_build.cl.
struct DeviceGeometry {
  std::array<cl_double, 9> rotation;
  cl_double pixel1_m;
  cl_double pixel2_m;
  cl_double distance_m;
  cl_double poni1_m;
  cl_double poni2_m;
  cl_double wavelength_m;
  cl_uint rows;
  cl_uint columns;
  cl_uint flip1;
  cl_uint flip2;
};
static_assert(std::is_trivially_copyable_v<DeviceGeometry> && sizeof(DeviceGeometry) == 15 * 8 + 4 * 4);

DeviceGeometry on_device(const PixelGeometry& geometry) {
  return {geometry.rotation, geometry.pixel1_m, geometry.pixel2_m,     geometry.distance_m,
          geometry.poni1_m,  geometry.poni2_m,  geometry.wavelength_m, geometry.rows,
          geometry.columns,  geometry.flip1,    geometry.flip2};
}

std::string options_of(const MatrixSpec& spec) {
  int space = 0;
  switch (spec.space) {
    case RadialSpace::two_theta: space = 0; break;
    case RadialSpace::q: space = 1; break;
    case RadialSpace::r: space = 2; break;
  }
  return "-DSPACE=" + std::to_string(space) + " -DSPLIT=" + (spec.splitting == Splitting::bbox ? "1" : "0");
}

// How the pixels are cut into runs, each walked by one work-item.
struct Tiling {
  cl_uint tiles = 1;
  cl_uint tile_pixels = 1;
};

Tiling choose_tiling(const Runtime& runtime, std::uint32_t pixels, std::uint32_t bins) {
  // Enough work-items to hide the latency of a GPU's memory, not more: the scan over tiles is serial in each bin. On a
  // CPU a few a core, so that cores stay busy when tiles are not alike.
  const std::uint64_t wanted = runtime.is_cpu() ? std::uint64_t{8} * runtime.info().compute_units : 16384;
  constexpr std::uint64_t largest_counts = (std::uint64_t{64} << 20) / sizeof(cl_uint);
  const std::uint64_t affordable = std::max<std::uint64_t>(largest_counts / bins, 1);
  const std::uint64_t tiles = std::clamp<std::uint64_t>(std::min(wanted, affordable), 1, pixels);
  Tiling tiling;
  tiling.tile_pixels = static_cast<cl_uint>((pixels + tiles - 1) / tiles);
  tiling.tiles = (pixels - 1) / tiling.tile_pixels + 1;
  return tiling;
}

}  // namespace

BinAxis build_matrix(Runtime& runtime, const MatrixSpec& spec, DeviceMatrix& matrix) {
  const PixelGeometry& geometry = spec.geometry;
  ANNULUS_EXPECT(geometry.pixels() > 0 && geometry.pixels() < std::numeric_limits<std::uint32_t>::max());
  ANNULUS_EXPECT(spec.mask.empty() || spec.mask.size() == geometry.pixels());
  ANNULUS_EXPECT(spec.bins > 0);

  const auto pixels = static_cast<cl_uint>(geometry.pixels());
  const cl_uint bins = spec.bins;
  const DeviceGeometry device_geometry = on_device(geometry);
  const Tiling tiling = choose_tiling(runtime, pixels, bins);
  const std::string options = options_of(spec);
  const auto kernel = [&](const char* name) { return runtime.kernel(matrix_build_source, options, name); };

  const Buffer centre = runtime.allocate(std::uint64_t{8} * pixels, "the pixels' radial coordinates");
  const Buffer half_width = runtime.allocate(std::uint64_t{8} * pixels, "the pixels' half widths");
  {
    Buffer mask;
    if (!spec.mask.empty()) mask = runtime.upload(spec.mask, "the mask");
    Buffer corners;
    if (spec.splitting == Splitting::bbox) {
      const std::size_t corner_count = (std::size_t{geometry.rows} + 1) * (std::size_t{geometry.columns} + 1);
      corners = runtime.allocate(4 * corner_count, "the pixels' corners");
      runtime.launch_items(kernel("corner_radius"), corner_count, device_geometry, corners);
    }
    runtime.launch_items(kernel("pixel_interval"), pixels, device_geometry, mask, corners, centre, half_width);
    runtime.queue().finish();  // before the mask and the corners go
  }

  const Buffer extent_buffer = runtime.allocate(std::uint64_t{16} * tiling.tiles, "the tiles' extents");
  runtime.launch_items(kernel("interval_extent"), tiling.tiles, pixels, tiling.tile_pixels, tiling.tiles, centre,
                       half_width, extent_buffer);
  std::vector<RadialInterval> tile_extents(tiling.tiles);
  static_assert(sizeof(RadialInterval) == 16);
  runtime.download(extent_buffer, std::span(tile_extents));
  RadialExtent extent;
  for (const RadialInterval& interval : tile_extents) extent.include(interval);
  const BinAxis axis = make_bin_axis(spec, extent);

  const Buffer counts = runtime.allocate(std::uint64_t{4} * tiling.tiles * bins, "the tiles' entry counts");
  runtime.queue().enqueueFillBuffer(counts.memory(), cl_uint{0}, 0, counts.bytes());
  runtime.launch_items(kernel("count_entries"), tiling.tiles, pixels, tiling.tile_pixels, tiling.tiles, axis.minimum,
                       axis.width(), bins, centre, half_width, counts);
  const Buffer row_entries_buffer = runtime.allocate(std::uint64_t{4} * bins, "the rows' lengths");
  runtime.launch_items(kernel("scan_tiles"), bins, tiling.tiles, bins, counts, row_entries_buffer);
  std::vector<cl_uint> row_entries(bins);
  runtime.download(row_entries_buffer, std::span(row_entries));

  std::vector<std::uint64_t> offsets(std::size_t{bins} + 1, 0);
  for (std::size_t bin = 0; bin < bins; ++bin) offsets[bin + 1] = offsets[bin] + row_entries[bin];

  DeviceMatrix built;
  built.rows = bins;
  built.columns = pixels;
  built.entries = offsets.back();
  expect_entries(spec, built.entries);
  built.offsets = runtime.upload(std::span<const std::uint64_t>(offsets), "the matrix' row offsets");
  built.pixels = runtime.allocate(4 * built.entries, "the matrix' pixels");
  built.weights = runtime.allocate(4 * built.entries, "the matrix' weights");
  runtime.launch_items(kernel("fill_entries"), tiling.tiles, pixels, tiling.tile_pixels, tiling.tiles, axis.minimum,
                       axis.width(), bins, centre, half_width, counts, built.offsets, built.pixels, built.weights);
  runtime.queue().finish();
  matrix = std::move(built);
  return axis;
}

CsrMatrix download(Runtime& runtime, const DeviceMatrix& matrix) {
  CsrMatrix host;
  host.rows = matrix.rows;
  host.columns = matrix.columns;
  host.offsets.resize(std::size_t{matrix.rows} + 1);
  host.pixels.resize(matrix.entries);
  host.weights.resize(matrix.entries);
  runtime.download(matrix.offsets, std::span(host.offsets));
  runtime.download(matrix.pixels, std::span(host.pixels));
  runtime.download(matrix.weights, std::span(host.weights));
  return host;
}

}  // namespace annulus::kernels::opencl
