#include "kernels/openmp/matrix_builder.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "kernels/openmp/grid_coordinates.hpp"
#include "kernels/splitting.hpp"

namespace annulus::kernels::openmp {
namespace {

/// Where the pixels' centres and corners are, in (radial, azimuthal) coordinates: of what the splitting needs.
struct PixelCoordinates {
  // [pixels], for boxes
  std::vector<double> radius;
  std::vector<double> radial_half;
  std::vector<double> azimuth;
  std::vector<double> azimuth_half;
  // [rows + 1, columns + 1] of a regular grid, else [pixels, 4]
  std::vector<float> corner_radius;
  std::vector<float> corner_azimuth;
};

/// The four corners of a pixel from one of the arrays above.
std::array<float, 4> corners_of(const std::vector<float>& values, const PixelGeometry& geometry, std::size_t pixel) {
  if (!geometry.vertices.empty()) {
    const float* own = values.data() + 4 * pixel;
    return {own[0], own[1], own[2], own[3]};
  }
  const std::size_t width = std::size_t{geometry.columns} + 1;
  // One more corner than pixels in each row. (In 32 bits, where a division is several times as fast.)
  const float* corner = values.data() + pixel + static_cast<std::uint32_t>(pixel) / geometry.columns;
  return {corner[0], corner[width], corner[width + 1], corner[1]};
}

void fill_corners(const MatrixSpec& spec, int threads, bool with_azimuth, PixelCoordinates& coordinates) {
  const PixelGeometry& geometry = spec.geometry;
  const bool grid = geometry.vertices.empty();
  const std::size_t rows = grid ? std::size_t{geometry.rows} + 1 : geometry.rows;
  const std::size_t width = grid ? std::size_t{geometry.columns} + 1 : std::size_t{geometry.columns} * 4;
  const bool rounded = rounds_positions(spec);
  coordinates.corner_radius.resize(rows * width);
  if (with_azimuth) coordinates.corner_azimuth.resize(rows * width);
  const bool fast = has_fast_coordinates(spec);
#pragma omp parallel num_threads(threads)
  {
    std::vector<double> radius(width);
    std::vector<double> azimuth(with_azimuth ? width : 0);
#pragma omp for schedule(static)
    for (std::size_t row = 0; row < rows; ++row) {
      if (fast) {
        line_coordinates(spec, static_cast<double>(row), 0.0, radius, azimuth);
      } else {
        for (std::size_t place = 0; place < width; ++place) {
          const auto down = static_cast<double>(row);
          const auto right = static_cast<double>(place);
          const Position position = !grid     ? vertex_position(geometry, row * geometry.columns + place / 4, place % 4)
                                    : rounded ? rounded_grid_position(geometry, down, right)
                                              : grid_position(geometry, down, right);
          radius[place] = radial_coordinate(spec, position);
          if (with_azimuth) azimuth[place] = azimuthal_coordinate(spec, position);
        }
      }
      const auto rounded_to_float = [](double value) { return static_cast<float>(value); };
      std::ranges::transform(radius, coordinates.corner_radius.data() + row * width, rounded_to_float);
      if (with_azimuth) {
        std::ranges::transform(azimuth, coordinates.corner_azimuth.data() + row * width, rounded_to_float);
      }
    }
  }
}

/// Centres and half widths of all pixels, and the extents of those in use.
void fill_boxes(const MatrixSpec& spec, int threads, PixelCoordinates& coordinates, CoordinateExtent& radial,
                CoordinateExtent& azimuthal) {
  const PixelGeometry& geometry = spec.geometry;
  const std::size_t pixels = geometry.pixels();
  const bool with_azimuth = needs_azimuth(spec);
  const bool fast = has_fast_coordinates(spec);
  coordinates.radius.resize(pixels);
  coordinates.radial_half.resize(pixels);
  coordinates.azimuth.resize(with_azimuth ? pixels : 0);
  coordinates.azimuth_half.resize(with_azimuth ? pixels : 0);
#pragma omp parallel num_threads(threads)
  {
    CoordinateExtent own_radial;
    CoordinateExtent own_azimuthal;
    std::vector<double> line_radius(geometry.columns);
    std::vector<double> line_azimuth(with_azimuth ? geometry.columns : 0);
#pragma omp for schedule(static)
    for (std::uint32_t row = 0; row < geometry.rows; ++row) {
      if (fast) line_coordinates(spec, row + 0.5, 0.5, line_radius, line_azimuth);
      for (std::uint32_t column = 0; column < geometry.columns; ++column) {
        const std::size_t pixel = std::size_t{row} * geometry.columns + column;
        if (!spec.is_there(pixel)) continue;
        const Position centre = fast ? Position{} : centre_position(geometry, row, column);
        const double radius = fast ? line_radius[column] : radial_coordinate(spec, centre);
        double half = 0.0;
        if (spec.splitting == Splitting::bbox) {
          half = half_width(radius, corners_of(coordinates.corner_radius, geometry, pixel), 0.0);
        }
        coordinates.radius[pixel] = radius;
        coordinates.radial_half[pixel] = half;
        own_radial.include(radius - half, radius + half);
        if (!with_azimuth) continue;
        const double azimuth = fast ? line_azimuth[column] : azimuthal_coordinate(spec, centre);
        half = 0.0;
        if (spec.splitting == Splitting::bbox) {
          half = half_width(azimuth, corners_of(coordinates.corner_azimuth, geometry, pixel), 2.0 * std::numbers::pi);
        }
        coordinates.azimuth[pixel] = azimuth;
        coordinates.azimuth_half[pixel] = half;
        own_azimuthal.include(azimuth - half, azimuth + half);
      }
    }
#pragma omp critical(annulus_extents)
    {
      radial.include(own_radial.lower, own_radial.upper);
      azimuthal.include(own_azimuthal.lower, own_azimuthal.upper);
    }
  }
}

/// The extents of the corners of the pixels in use.
void find_corner_extents(const MatrixSpec& spec, int threads, const PixelCoordinates& coordinates,
                         CoordinateExtent& radial, CoordinateExtent& azimuthal) {
  const std::size_t pixels = spec.geometry.pixels();
#pragma omp parallel num_threads(threads)
  {
    CoordinateExtent own_radial;
    CoordinateExtent own_azimuthal;
#pragma omp for schedule(static)
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      if (!spec.is_there(pixel)) continue;
      const auto radius = corners_of(coordinates.corner_radius, spec.geometry, pixel);
      const auto azimuth = corners_of(coordinates.corner_azimuth, spec.geometry, pixel);
      own_radial.include(std::min(std::min(radius[0], radius[1]), std::min(radius[2], radius[3])),
                         std::max(std::max(radius[0], radius[1]), std::max(radius[2], radius[3])));
      own_azimuthal.include(std::min(std::min(azimuth[0], azimuth[1]), std::min(azimuth[2], azimuth[3])),
                            std::max(std::max(azimuth[0], azimuth[1]), std::max(azimuth[2], azimuth[3])));
    }
#pragma omp critical(annulus_extents)
    {
      radial.include(own_radial.lower, own_radial.upper);
      azimuthal.include(own_azimuthal.lower, own_azimuthal.upper);
    }
  }
}

/// One entry of a tile before it is sorted by row.
struct Entry {
  std::uint32_t row;
  std::uint16_t pixel;
  float weight;
};

/// The entries of one tile in the order of its pixels, and what sorting them takes; of one thread.
struct Scratch {
  std::vector<Entry> entries;  // the first `count` hold something
  std::size_t count = 0;
  std::vector<std::uint32_t> places;  // first counts, then the next place of each row

  void make_room(std::size_t more) {
    if (count + more > entries.size()) entries.resize(2 * (count + more));
  }
};

/// Sorts a tile's entries by row; pixels stay in order.
TileEntries sorted(Scratch& scratch) {
  const std::span<Entry> entries = std::span(scratch.entries).first(scratch.count);
  TileEntries tile;
  if (entries.empty()) return tile;
  tile.pixels.resize(entries.size());
  tile.weights.resize(entries.size());
  std::uint32_t first_row = entries.front().row;
  std::uint32_t last_row = first_row;
  for (const Entry& entry : entries) {
    first_row = std::min(first_row, entry.row);
    last_row = std::max(last_row, entry.row);
  }
  const std::size_t span = std::size_t{last_row} - first_row + 1;
  if (span <= 16 * entries.size() + 1024) {
    scratch.places.assign(span + 1, 0);
    for (const Entry& entry : entries) ++scratch.places[entry.row - first_row + 1];
    for (std::size_t row = 0; row < span; ++row) {
      if (scratch.places[row + 1] == 0) {
        scratch.places[row + 1] = scratch.places[row];
        continue;
      }
      scratch.places[row + 1] += scratch.places[row];
      tile.rows.push_back({static_cast<std::uint32_t>(first_row + row), scratch.places[row + 1]});
    }
    for (const Entry& entry : entries) {
      const std::uint32_t place = scratch.places[entry.row - first_row]++;
      tile.pixels[place] = entry.pixel;
      tile.weights[place] = entry.weight;
    }
    return tile;
  }
  // A few entries in rows far apart.
  std::ranges::stable_sort(entries, {}, &Entry::row);
  for (std::uint32_t place = 0; place < entries.size(); ++place) {
    const Entry& entry = entries[place];
    tile.pixels[place] = entry.pixel;
    tile.weights[place] = entry.weight;
    if (tile.rows.empty() || tile.rows.back().bin != entry.row) tile.rows.push_back({entry.row, place});
    tile.rows.back().end = place + 1;
  }
  return tile;
}

}  // namespace

TiledMatrix build_matrix(const MatrixSpec& spec, int threads, BinAxes& axes) {
  const PixelGeometry& geometry = spec.geometry;
  const bool by_area = splits_by_area(spec.splitting);
  const bool with_azimuth = needs_azimuth(spec);
  PixelCoordinates coordinates;
  CoordinateExtent radial;
  CoordinateExtent azimuthal;
  if (spec.splitting != Splitting::no) fill_corners(spec, threads, by_area || with_azimuth, coordinates);
  if (by_area) {
    find_corner_extents(spec, threads, coordinates, radial, azimuthal);
  } else {
    fill_boxes(spec, threads, coordinates, radial, azimuthal);
  }
  axes = make_bin_axes(spec, radial, azimuthal);
  const shared::SharedBins bins = shared_bins(spec, axes);

  const std::size_t pixels = geometry.pixels();
  const std::size_t tile_count = (pixels + tile_pixels - 1) / tile_pixels;
  std::vector<TileEntries> tiles(tile_count);
  std::uint64_t entries = 0;
#pragma omp parallel num_threads(threads) reduction(+ : entries)
  {
    Scratch scratch;
    // Tiles beside the beam or in gaps cost less than others.
#pragma omp for schedule(dynamic, 8)
    for (std::size_t tile = 0; tile < tile_count; ++tile) {
      const std::size_t first_pixel = tile * tile_pixels;
      scratch.count = 0;
      for (std::size_t pixel = first_pixel; pixel < std::min(first_pixel + tile_pixels, pixels); ++pixel) {
        if (!spec.is_used(pixel)) continue;
        shared::Footprint footprint;
        bool found = false;
        if (by_area) {
          const auto radius = corners_of(coordinates.corner_radius, geometry, pixel);
          const auto azimuth = corners_of(coordinates.corner_azimuth, geometry, pixel);
          found = find_footprint(bins, 0.0, 0.0, 0.0, 0.0, radius.data(), azimuth.data(), footprint);
        } else {
          found = find_footprint(bins, coordinates.radius[pixel], coordinates.radial_half[pixel],
                                 with_azimuth ? coordinates.azimuth[pixel] : 0.0,
                                 with_azimuth ? coordinates.azimuth_half[pixel] : 0.0, nullptr, nullptr, footprint);
        }
        if (!found) continue;
        scratch.make_room((std::size_t{footprint.last_x} - footprint.first_x + 1) *
                          (std::size_t{footprint.last_y} - footprint.first_y + 1));
        for_each_share(footprint, axes.radial.bins, [&](std::uint32_t row, double weight) {
          scratch.entries[scratch.count++] = {row, static_cast<std::uint16_t>(pixel - first_pixel),
                                              static_cast<float>(weight)};
        });
      }
      entries += scratch.count;
      tiles[tile] = sorted(scratch);
    }
  }
  expect_entries(spec, entries);
  return TiledMatrix(axes.rows(), static_cast<std::uint32_t>(pixels), tiles, threads);
}

}  // namespace annulus::kernels::openmp
