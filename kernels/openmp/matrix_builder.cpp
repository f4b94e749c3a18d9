#include "kernels/openmp/matrix_builder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "kernels/large_vector.hpp"
#include "kernels/openmp/grid_coordinates.hpp"
#include "kernels/openmp/strip_shares.hpp"
#include "kernels/splitting.hpp"

namespace annulus::kernels::openmp {
namespace {

/// Where the pixels' centres and corners are, in (radial, azimuthal) coordinates: of what the splitting needs.
struct PixelCoordinates {
  // [pixels], of the centres
  LargeVector<double> radius;
  LargeVector<double> azimuth;
  // [rows + 1, columns + 1] of a regular grid, else [pixels, 4]
  LargeVector<float> corner_radius;
  LargeVector<float> corner_azimuth;
};

/// The four corners of a pixel from one of the arrays above.
std::array<float, 4> corners_of(const LargeVector<float>& values, const PixelGeometry& geometry, std::size_t pixel) {
  if (!geometry.vertices.empty()) {
    const float* own = values.data() + 4 * pixel;
    return {own[0], own[1], own[2], own[3]};
  }
  const std::size_t width = std::size_t{geometry.columns} + 1;
  // One more corner than pixels in each row. (In 32 bits, where a division is several times as fast.)
  const float* corner = values.data() + pixel + static_cast<std::uint32_t>(pixel) / geometry.columns;
  return {corner[0], corner[width], corner[width + 1], corner[1]};
}

/// The corners of pixels side by side in a row, brought together where each pixel has its own.
class StripCornerValues {
 public:
  StripCorners of(const LargeVector<float>& values, const PixelGeometry& geometry, std::size_t row, std::size_t column,
                  std::size_t count) {
    if (geometry.vertices.empty()) {
      const std::size_t width = std::size_t{geometry.columns} + 1;
      const float* corner = values.data() + row * width + column;
      return {corner, corner + width, corner + width + 1, corner + 1};
    }
    const float* own = values.data() + 4 * (row * geometry.columns + column);
    for (std::size_t pixel = 0; pixel < count; ++pixel) {
      for (std::size_t corner = 0; corner < 4; ++corner) values_[corner][pixel] = own[4 * pixel + corner];
    }
    return {values_[0].data(), values_[1].data(), values_[2].data(), values_[3].data()};
  }

 private:
  std::array<std::array<float, strip_pixels>, 4> values_;
};

/// Calls visit(first column, count) for the strips of a row of pixels.
template <typename Visit>
void for_each_strip(std::size_t columns, Visit&& visit) {
  for (std::size_t column = 0; column < columns; column += strip_pixels) {
    visit(column, std::min(strip_pixels, columns - column));
  }
}

/// What widen_extents() found of one coordinate in each column, of one thread.
class ColumnExtents {
 public:
  explicit ColumnExtents(std::size_t columns)
      : least_(columns, std::numeric_limits<double>::max()),
        greatest_(columns, std::numeric_limits<double>::lowest()) {}

  void widen(const MatrixSpec& spec, const StripEnds& ends, std::size_t row, std::size_t column, std::size_t count) {
    const std::uint8_t* mask = spec.mask.empty() ? nullptr : spec.mask.data() + row * spec.geometry.columns + column;
    widen_extents(ends, mask, count, least_.data() + column, greatest_.data() + column);
  }
  void add_to(CoordinateExtent& extent) const {
    for (std::size_t column = 0; column < least_.size(); ++column) {
      if (least_[column] <= greatest_[column]) extent.include(least_[column], greatest_[column]);
    }
  }

 private:
  std::vector<double> least_;
  std::vector<double> greatest_;
};

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

/// The ends of the boxes of a strip along one coordinate: those of points without splitting.
class StripBoxes {
 public:
  StripEnds of(const MatrixSpec& spec, const LargeVector<double>& centres, const LargeVector<float>& corners,
               double period, std::size_t row, std::size_t column, std::size_t count) {
    const double* centre = centres.data() + row * spec.geometry.columns + column;
    if (spec.splitting == Splitting::no) return {centre, centre};
    box_ends(centre, corners_.of(corners, spec.geometry, row, column, count), period, count, low_.data(), high_.data());
    return {low_.data(), high_.data()};
  }

 private:
  StripCornerValues corners_;
  std::array<double, strip_pixels> low_;
  std::array<double, strip_pixels> high_;
};

/// The centres of all pixels, and the extents of the boxes of those in use.
void fill_centres(const MatrixSpec& spec, int threads, PixelCoordinates& coordinates, CoordinateExtent& radial,
                  CoordinateExtent& azimuthal) {
  const PixelGeometry& geometry = spec.geometry;
  const std::size_t columns = geometry.columns;
  const bool with_azimuth = needs_azimuth(spec);
  const bool fast = has_fast_coordinates(spec);
  coordinates.radius.resize(geometry.pixels());
  if (with_azimuth) coordinates.azimuth.resize(geometry.pixels());
#pragma omp parallel num_threads(threads)
  {
    ColumnExtents own_radial(columns);
    ColumnExtents own_azimuthal(columns);
    StripBoxes boxes;
#pragma omp for schedule(static)
    for (std::uint32_t row = 0; row < geometry.rows; ++row) {
      const std::span radius(coordinates.radius.data() + row * columns, columns);
      const std::span azimuth(with_azimuth ? coordinates.azimuth.data() + row * columns : nullptr,
                              with_azimuth ? columns : 0);
      if (fast) {
        line_coordinates(spec, row + 0.5, 0.5, radius, azimuth);
      } else {
        for (std::uint32_t column = 0; column < geometry.columns; ++column) {
          const Position centre = centre_position(geometry, row, column);
          radius[column] = radial_coordinate(spec, centre);
          if (with_azimuth) azimuth[column] = azimuthal_coordinate(spec, centre);
        }
      }
      for_each_strip(columns, [&](std::size_t column, std::size_t count) {
        own_radial.widen(spec,
                         boxes.of(spec, coordinates.radius, coordinates.corner_radius, width_period(spec, spec.space),
                                  row, column, count),
                         row, column, count);
        if (!with_azimuth) return;
        own_azimuthal.widen(spec,
                            boxes.of(spec, coordinates.azimuth, coordinates.corner_azimuth,
                                     width_period(spec, spec.azimuthal_space), row, column, count),
                            row, column, count);
      });
    }
#pragma omp critical(annulus_extents)
    {
      own_radial.add_to(radial);
      own_azimuthal.add_to(azimuthal);
    }
  }
}

/// The extents of the corners of the pixels in use.
void find_corner_extents(const MatrixSpec& spec, int threads, const PixelCoordinates& coordinates,
                         CoordinateExtent& radial, CoordinateExtent& azimuthal) {
  const PixelGeometry& geometry = spec.geometry;
#pragma omp parallel num_threads(threads)
  {
    ColumnExtents own_radial(geometry.columns);
    ColumnExtents own_azimuthal(geometry.columns);
    StripCornerValues corners;
    std::array<double, strip_pixels> low;
    std::array<double, strip_pixels> high;
#pragma omp for schedule(static)
    for (std::size_t row = 0; row < geometry.rows; ++row) {
      for_each_strip(geometry.columns, [&](std::size_t column, std::size_t count) {
        corner_ends(corners.of(coordinates.corner_radius, geometry, row, column, count), count, low.data(),
                    high.data());
        own_radial.widen(spec, {low.data(), high.data()}, row, column, count);
        corner_ends(corners.of(coordinates.corner_azimuth, geometry, row, column, count), count, low.data(),
                    high.data());
        own_azimuthal.widen(spec, {low.data(), high.data()}, row, column, count);
      });
    }
#pragma omp critical(annulus_extents)
    {
      own_radial.add_to(radial);
      own_azimuthal.add_to(azimuthal);
    }
  }
}

/// One entry of a tile before it is sorted by row.
struct Entry {
  std::uint32_t row;
  std::uint16_t pixel;
  float weight;
};

/// Finds the entries of tile after tile; of one thread.
class TileBuilder {
 public:
  TileBuilder(const MatrixSpec& spec, const PixelCoordinates& coordinates, const BinAxes& axes)
      : spec_(spec),
        coordinates_(coordinates),
        bins_(shared_bins(spec, axes)),
        by_area_(splits_by_area(spec.splitting)),
        with_azimuth_(needs_azimuth(spec)),
        rows_(axes.rows()),
        by_strips_(has_strip_shares(bins_, axes.rows())) {}

  /// Entries sorted by row, within a row by pixel.
  [[nodiscard]] TileEntries build(std::size_t tile) {
    const std::size_t columns = spec_.geometry.columns;
    const std::size_t first_pixel = tile * tile_pixels;
    const std::size_t end_pixel = std::min(first_pixel + tile_pixels, spec_.geometry.pixels());
    count_ = 0;
    for (std::size_t pixel = first_pixel; pixel < end_pixel;) {
      const std::size_t row = pixel / columns;
      const std::size_t column = pixel % columns;
      const std::size_t count = std::min({strip_pixels, columns - column, end_pixel - pixel});
      find_shares(row, column, count);
      add_strip(pixel, first_pixel, count);
      pixel += count;
    }
    return sorted();
  }

 private:
  void find_shares(std::size_t row, std::size_t column, std::size_t count) {
    if (!by_strips_) {
      std::fill_n(shares_.count.begin(), count, unusual);
    } else if (by_area_) {
      area_shares(bins_, corner_radius_.of(coordinates_.corner_radius, spec_.geometry, row, column, count),
                  corner_azimuth_.of(coordinates_.corner_azimuth, spec_.geometry, row, column, count), count, shares_);
    } else {
      StripEnds azimuthal;
      if (with_azimuth_) {
        azimuthal = azimuthal_boxes_.of(spec_, coordinates_.azimuth, coordinates_.corner_azimuth,
                                        width_period(spec_, spec_.azimuthal_space), row, column, count);
      }
      box_shares(bins_,
                 radial_boxes_.of(spec_, coordinates_.radius, coordinates_.corner_radius,
                                  width_period(spec_, spec_.space), row, column, count),
                 azimuthal, count, shares_);
    }
  }

  void make_room(std::size_t more) {
    if (count_ + more > entries_.size()) entries_.resize(2 * (count_ + more));
  }

  /// Adds the entries of the pixels from `pixel` on, of which shares_ tells.
  void add_strip(std::size_t pixel, std::size_t first_pixel, std::size_t count) {
    switch (*std::max_element(shares_.count.begin(), shares_.count.begin() + static_cast<std::ptrdiff_t>(count))) {
      case 4: return add_strip_of<4>(pixel, first_pixel, count);
      case 3: return add_strip_of<3>(pixel, first_pixel, count);
      case 2: return add_strip_of<2>(pixel, first_pixel, count);
      default: return add_strip_of<1>(pixel, first_pixel, count);
    }
  }

  /// @tparam slots  the most shares that a pixel of the strip has, but unusual ones
  template <std::uint32_t slots>
  void add_strip_of(std::size_t pixel, std::size_t first_pixel, std::size_t count) {
    make_room(count * slots);
    for (std::size_t place = 0; place < count; ++place, ++pixel) {
      if (!spec_.is_used(pixel)) continue;
      const auto pixel_of_tile = static_cast<std::uint16_t>(pixel - first_pixel);
      if (shares_.count[place] == unusual) {
        add_pixel(pixel, pixel_of_tile);
        make_room((count - place) * slots);
        continue;
      }
      // All that there might be, and then on by those that there are: quicker than a branch that nobody can foresee.
      Entry* next = entries_.data() + count_;
      for (std::uint32_t slot = 0; slot < slots; ++slot) {
        next[slot] = {static_cast<std::uint32_t>(shares_.row[place]) + slot, pixel_of_tile,
                      shares_.weight[slot][place]};
      }
      count_ += static_cast<std::size_t>(shares_.count[place]);
    }
  }

  void add_pixel(std::size_t pixel, std::uint16_t pixel_of_tile) {
    const PixelGeometry& geometry = spec_.geometry;
    std::array<float, 4> radius{};
    std::array<float, 4> azimuth{};
    if (!coordinates_.corner_radius.empty()) radius = corners_of(coordinates_.corner_radius, geometry, pixel);
    if (!coordinates_.corner_azimuth.empty()) azimuth = corners_of(coordinates_.corner_azimuth, geometry, pixel);
    double radial_centre = 0.0, radial_half = 0.0, azimuth_centre = 0.0, azimuth_half = 0.0;
    if (!by_area_) {
      const bool box = spec_.splitting == Splitting::bbox;
      radial_centre = coordinates_.radius[pixel];
      if (box) radial_half = half_width(radial_centre, radius, width_period(spec_, spec_.space));
      if (with_azimuth_) azimuth_centre = coordinates_.azimuth[pixel];
      if (box && with_azimuth_) {
        azimuth_half = half_width(azimuth_centre, azimuth, width_period(spec_, spec_.azimuthal_space));
      }
    }
    shared::Footprint footprint;
    if (!find_footprint(bins_, radial_centre, radial_half, azimuth_centre, azimuth_half, radius.data(), azimuth.data(),
                        footprint)) {
      return;
    }
    make_room((std::size_t{footprint.last_x} - footprint.first_x + 1) *
              (std::size_t{footprint.last_y} - footprint.first_y + 1));
    for_each_share(footprint, bins_.radial.bins, [&](std::uint32_t row, double weight) {
      entries_[count_++] = {row, pixel_of_tile, static_cast<float>(weight)};
    });
  }

  /// Sorts the entries by row, digit by digit from the last one; pixels stay in order.
  TileEntries sorted() {
    TileEntries tile;
    if (count_ == 0) return tile;
    // The counts of a digit's values stay in first-level cache.
    constexpr int most_digit_bits = 12;
    const int bits = std::max(1, static_cast<int>(std::bit_width(rows_ - 1)));
    const int digits = (bits + most_digit_bits - 1) / most_digit_bits;
    const int digit_bits = (bits + digits - 1) / digits;
    const std::uint32_t ones = (std::uint32_t{1} << digit_bits) - 1;
    for (int digit = 0; digit + 1 < digits; ++digit) {
      const int shift = digit * digit_bits;
      find_places([&](const Entry& entry) { return entry.row >> shift & ones; }, ones);
      sorted_.resize(entries_.size());
      for (const Entry& entry : found()) sorted_[places_[entry.row >> shift & ones]++] = entry;
      std::swap(entries_, sorted_);
    }
    const int shift = (digits - 1) * digit_bits;
    find_places([&](const Entry& entry) { return entry.row >> shift; }, ones);
    tile.pixels.resize(count_);
    tile.weights.resize(count_);
    if (digits == 1) {
      for (const Entry& entry : found()) {
        const std::uint32_t place = places_[entry.row]++;
        tile.pixels[place] = entry.pixel;
        tile.weights[place] = entry.weight;
      }
      std::uint32_t end = 0;
      for (std::uint32_t row = 0; row < rows_; ++row) {
        if (places_[row] > end) tile.rows.push_back({row, places_[row]});
        end = places_[row];
      }
      return tile;
    }
    row_of_.resize(count_);
    for (const Entry& entry : found()) {
      const std::uint32_t place = places_[entry.row >> shift]++;
      tile.pixels[place] = entry.pixel;
      tile.weights[place] = entry.weight;
      row_of_[place] = entry.row;
    }
    for (std::uint32_t place = 1; place < count_; ++place) {
      if (row_of_[place] != row_of_[place - 1]) tile.rows.push_back({row_of_[place - 1], place});
    }
    tile.rows.push_back({row_of_[count_ - 1], static_cast<std::uint32_t>(count_)});
    return tile;
  }

  [[nodiscard]] std::span<const Entry> found() const { return std::span(entries_).first(count_); }

  /// places_: where the entries of each value of a digit begin, once they are sorted by it.
  template <typename Digit>
  void find_places(Digit&& digit, std::uint32_t greatest_digit) {
    places_.assign(std::size_t{greatest_digit} + 1, 0);
    for (const Entry& entry : found()) ++places_[digit(entry)];
    std::exclusive_scan(places_.begin(), places_.end(), places_.begin(), std::uint32_t{0});
  }

  const MatrixSpec& spec_;
  const PixelCoordinates& coordinates_;
  const shared::SharedBins bins_;
  const bool by_area_;
  const bool with_azimuth_;
  const std::uint32_t rows_;
  const bool by_strips_;
  StripCornerValues corner_radius_, corner_azimuth_;
  StripBoxes radial_boxes_, azimuthal_boxes_;
  StripShares shares_;
  std::vector<Entry> entries_;  // in the order of the pixels; the first count_ hold something
  std::size_t count_ = 0;
  std::vector<Entry> sorted_;
  std::vector<std::uint32_t> places_;
  std::vector<std::uint32_t> row_of_;
};

}  // namespace

TiledMatrix build_matrix(const MatrixSpec& spec, int threads, BinAxes& axes) {
  const PixelGeometry& geometry = spec.geometry;
  const bool by_area = splits_by_area(spec.splitting);
  PixelCoordinates coordinates;
  CoordinateExtent radial;
  CoordinateExtent azimuthal;
  if (spec.splitting != Splitting::no) fill_corners(spec, threads, by_area || needs_azimuth(spec), coordinates);
  if (by_area) {
    find_corner_extents(spec, threads, coordinates, radial, azimuthal);
  } else {
    fill_centres(spec, threads, coordinates, radial, azimuthal);
  }
  axes = make_bin_axes(spec, radial, azimuthal);

  const std::size_t pixels = geometry.pixels();
  const std::size_t tile_count = (pixels + tile_pixels - 1) / tile_pixels;
  std::vector<TileEntries> tiles(tile_count);
  std::uint64_t entries = 0;
#pragma omp parallel num_threads(threads) reduction(+ : entries)
  {
    TileBuilder builder(spec, coordinates, axes);
    // Tiles beside the beam or in gaps cost less than others.
#pragma omp for schedule(dynamic, 8)
    for (std::size_t tile = 0; tile < tile_count; ++tile) {
      tiles[tile] = builder.build(tile);
      entries += tiles[tile].weights.size();
    }
  }
  expect_entries(spec, entries);
  return TiledMatrix(axes.rows(), static_cast<std::uint32_t>(pixels), tiles, threads);
}

}  // namespace annulus::kernels::openmp
