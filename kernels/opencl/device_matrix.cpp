#include "kernels/opencl/device_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/opencl/matrix_build.cl.hpp"
#include "kernels/splitting.hpp"
#include "kernels/splitting.inc.hpp"

namespace annulus::kernels::opencl {
namespace {

/// splitting.inc in OpenCL C and the kernels that use it.
ProgramSource matrix_build_source() {
  static const std::string text = fmt::format(
      "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n#pragma OPENCL FP_CONTRACT OFF\n"
      "#define ANNULUS_SHARED\n#define ANNULUS_GLOBAL __global\n#define AREA_ROUNDING {}\n{}\n{}",
      area_rounding, splitting_inc, matrix_build_cl);
  return {"matrix_build.cl", text};
}

// The twin of Geometry in matrix_build.cl.
struct DeviceGeometry {
  std::array<cl_double, 9> rotation;
  cl_double pixel1_m;
  cl_double pixel2_m;
  cl_double distance_m;
  cl_double poni1_m;
  cl_double poni2_m;
  cl_double wavelength_m;
  std::array<cl_double, 9> frame;
  std::array<cl_double, 9> azimuthal_frame;
  cl_double radial_period;
  cl_double azimuthal_period;
  cl_uint rows;
  cl_uint columns;
  cl_uint flip1;
  cl_uint flip2;
  cl_int space;
  cl_int azimuthal_space;
  cl_int cut_at_zero;
  cl_int rounded;
  cl_int parallax_nodes;
  cl_int unused;
};
static_assert(std::is_trivially_copyable_v<DeviceGeometry> && sizeof(DeviceGeometry) == 35 * 8 + 10 * 4);
// Passed to kernels as they are: float64 first, then 32-bit integers, no padding.
static_assert(std::is_trivially_copyable_v<shared::SharedBins> && sizeof(shared::SharedBins) == 2 * 40 + 2 * 8 + 4 * 4);

DeviceGeometry on_device(const MatrixSpec& spec) {
  const PixelGeometry& geometry = spec.geometry;
  return {geometry.rotation,
          geometry.pixel1_m,
          geometry.pixel2_m,
          geometry.distance_m,
          geometry.poni1_m,
          geometry.poni2_m,
          geometry.wavelength_m,
          spec.frame,
          spec.azimuthal_frame,
          width_period(spec, spec.space),
          width_period(spec, spec.azimuthal_space),
          geometry.rows,
          geometry.columns,
          geometry.flip1,
          geometry.flip2,
          static_cast<cl_int>(spec.space),
          static_cast<cl_int>(spec.azimuthal_space),
          spec.cut == AzimuthCut::at_zero ? 1 : 0,
          rounds_positions(spec) ? 1 : 0,
          static_cast<cl_int>(geometry.parallax_m.size()),
          0};
}

// How the pixels are cut into runs, each walked by one work-item.
struct Tiling {
  cl_uint tiles = 1;
  cl_uint tile_pixels = 1;
};

constexpr std::uint64_t largest_counts = (std::uint64_t{64} << 20) / sizeof(cl_uint);

Tiling choose_tiling(const Runtime& runtime, std::uint32_t pixels, std::uint64_t affordable) {
  // Enough work-items to hide the latency of a GPU's memory, not more: the scan over tiles is serial in each row. On a
  // CPU a few a core, so that cores stay busy when tiles are not alike.
  const std::uint64_t wanted = runtime.is_cpu() ? std::uint64_t{8} * runtime.info().compute_units : 16384;
  const std::uint64_t tiles = std::clamp<std::uint64_t>(std::min(wanted, affordable), 1, pixels);
  Tiling tiling;
  tiling.tile_pixels = static_cast<cl_uint>((pixels + tiles - 1) / tiles);
  tiling.tiles = (pixels - 1) / tiling.tile_pixels + 1;
  return tiling;
}

/// Allocates the entries of `matrix`, whose row lengths are given, and its offsets.
void allocate_rows(Runtime& runtime, const MatrixSpec& spec, std::span<const cl_uint> row_entries,
                   DeviceMatrix& matrix) {
  std::vector<std::uint64_t> offsets(row_entries.size() + 1, 0);
  for (std::size_t row = 0; row < row_entries.size(); ++row) offsets[row + 1] = offsets[row] + row_entries[row];
  matrix.entries = offsets.back();
  matrix.longest_row = *std::ranges::max_element(row_entries);
  expect_entries(spec, matrix.entries);
  matrix.offsets = runtime.upload(std::span<const std::uint64_t>(offsets), "the matrix' row offsets");
  matrix.pixels = runtime.allocate(4 * matrix.entries, "the matrix' pixels");
  matrix.weights = runtime.allocate(4 * matrix.entries, "the matrix' weights");
}

}  // namespace

BinAxes build_matrix(Runtime& runtime, const MatrixSpec& spec, DeviceMatrix& matrix) {
  const PixelGeometry& geometry = spec.geometry;
  ANNULUS_EXPECT(geometry.pixels() > 0 && geometry.pixels() < std::numeric_limits<std::uint32_t>::max());
  ANNULUS_EXPECT(spec.mask.empty() || spec.mask.size() == geometry.pixels());
  ANNULUS_EXPECT(spec.bins > 0);

  const auto pixels = static_cast<cl_uint>(geometry.pixels());
  const cl_uint columns = geometry.columns;
  const bool by_area = splits_by_area(spec.splitting);
  const bool grid = geometry.vertices.empty();
  const bool with_azimuth = by_area || needs_azimuth(spec);
  const DeviceGeometry device_geometry = on_device(spec);
  const std::string options =
      fmt::format("-DBY_AREA={} -DAZIMUTH={} -DGRID={}", by_area ? 1 : 0, with_azimuth ? 1 : 0, grid ? 1 : 0);
  const auto kernel = [&](const char* name) { return runtime.kernel(matrix_build_source(), options, name); };

  Buffer mask;
  if (!spec.mask.empty()) mask = runtime.upload(spec.mask, "the mask");
  Buffer corner_radius;
  Buffer corner_azimuth;
  Buffer radial;
  Buffer azimuthal;
  {
    Buffer vertices;
    if (!grid) vertices = runtime.upload(geometry.vertices, "the pixels' vertices");
    Buffer parallax;
    if (!geometry.parallax_m.empty()) parallax = runtime.upload(geometry.parallax_m, "the parallax");
    if (spec.splitting != Splitting::no) {
      const std::size_t corners =
          grid ? (std::size_t{geometry.rows} + 1) * (std::size_t{columns} + 1) : geometry.pixels() * 4;
      corner_radius = runtime.allocate(4 * corners, "the pixels' corners");
      if (with_azimuth) corner_azimuth = runtime.allocate(4 * corners, "the pixels' corners");
      runtime.launch_items(kernel("corner_coordinates"), corners, device_geometry, parallax, vertices, corner_radius,
                           corner_azimuth);
    }
    if (!by_area) {
      radial = runtime.allocate(std::uint64_t{16} * pixels, "the pixels' radial coordinates");
      if (with_azimuth) azimuthal = runtime.allocate(std::uint64_t{16} * pixels, "the pixels' azimuths");
      runtime.launch_items(kernel("pixel_box"), pixels, device_geometry, parallax, vertices, mask, corner_radius,
                           corner_azimuth, radial, azimuthal);
    }
    runtime.queue().finish();  // before the vertices go
  }

  const Tiling extent_tiling = choose_tiling(runtime, pixels, pixels);
  const Buffer extent_buffer = runtime.allocate(std::uint64_t{32} * extent_tiling.tiles, "the tiles' extents");
  runtime.launch_items(kernel("pixel_extent"), extent_tiling.tiles, columns, pixels, extent_tiling.tile_pixels,
                       extent_tiling.tiles, mask, corner_radius, corner_azimuth, radial, azimuthal, extent_buffer);
  std::vector<std::array<CoordinateExtent, 2>> tile_extents(extent_tiling.tiles);
  static_assert(sizeof(std::array<CoordinateExtent, 2>) == 32);
  runtime.download(extent_buffer, std::span(tile_extents));
  CoordinateExtent radial_extent;
  CoordinateExtent azimuthal_extent;
  for (const auto& [tile_radial, tile_azimuthal] : tile_extents) {
    radial_extent.include(tile_radial.lower, tile_radial.upper);
    azimuthal_extent.include(tile_azimuthal.lower, tile_azimuthal.upper);
  }
  const BinAxes axes = make_bin_axes(spec, radial_extent, azimuthal_extent);
  const shared::SharedBins bins = shared_bins(spec, axes);

  DeviceMatrix built;
  built.rows = axes.rows();
  built.columns = pixels;
  const cl_uint rows = built.rows;
  std::vector<cl_uint> row_entries(rows);
  const Buffer row_entries_buffer = runtime.allocate(std::uint64_t{4} * rows, "the rows' lengths");
  // Fewer tiles than this leave a GPU idle; a CPU needs few.
  const std::uint64_t affordable_tiles = largest_counts / rows;
  if (affordable_tiles >= (runtime.is_cpu() ? 64 : 1024)) {
    const Tiling tiling = choose_tiling(runtime, pixels, affordable_tiles);
    const Buffer counts = runtime.allocate(std::uint64_t{4} * tiling.tiles * rows, "the tiles' entry counts");
    runtime.queue().enqueueFillBuffer(counts.memory(), cl_uint{0}, 0, counts.bytes());
    runtime.launch_items(kernel("count_by_tile"), tiling.tiles, columns, pixels, mask, corner_radius, corner_azimuth,
                         radial, azimuthal, bins, tiling.tile_pixels, tiling.tiles, rows, counts);
    runtime.launch_items(kernel("scan_tiles"), rows, tiling.tiles, rows, counts, row_entries_buffer);
    runtime.download(row_entries_buffer, std::span(row_entries));
    allocate_rows(runtime, spec, row_entries, built);
    runtime.launch_items(kernel("fill_by_tile"), tiling.tiles, columns, pixels, mask, corner_radius, corner_azimuth,
                         radial, azimuthal, bins, tiling.tile_pixels, tiling.tiles, rows, counts, built.offsets,
                         built.pixels, built.weights);
    runtime.queue().finish();  // before the counts go
  } else {
    const auto clear = [&] {
      runtime.queue().enqueueFillBuffer(row_entries_buffer.memory(), cl_uint{0}, 0, row_entries_buffer.bytes());
    };
    clear();
    runtime.launch_items(kernel("count_by_pixel"), pixels, columns, pixels, mask, corner_radius, corner_azimuth, radial,
                         azimuthal, bins, row_entries_buffer);
    runtime.download(row_entries_buffer, std::span(row_entries));
    allocate_rows(runtime, spec, row_entries, built);
    clear();
    runtime.launch_items(kernel("fill_by_pixel"), pixels, columns, pixels, mask, corner_radius, corner_azimuth, radial,
                         azimuthal, bins, row_entries_buffer, built.offsets, built.pixels, built.weights);
    runtime.launch_items(kernel("sort_rows"), rows, rows, built.offsets, built.pixels, built.weights);
  }
  runtime.queue().finish();
  matrix = std::move(built);
  return axes;
}

DeviceMatrix upload(Runtime& runtime, const CsrMatrix& matrix) {
  DeviceMatrix device;
  device.rows = matrix.rows;
  device.columns = matrix.columns;
  device.entries = matrix.entries();
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    device.longest_row =
        std::max(device.longest_row, static_cast<std::uint32_t>(matrix.offsets[row + 1] - matrix.offsets[row]));
  }
  device.offsets = runtime.upload(std::span(matrix.offsets), "the matrix' row offsets");
  device.pixels = runtime.upload(std::span(matrix.pixels), "the matrix' pixels");
  device.weights = runtime.upload(std::span(matrix.weights), "the matrix' weights");
  return device;
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
