#include "kernels/reference/reference_engine.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/bin_statistics.hpp"
#include "kernels/splitting.hpp"

namespace annulus::kernels::reference {
namespace {

/// A polygon in (radial, azimuthal) coordinates, in bins.
struct Point {
  double x = 0.0;
  double y = 0.0;
};
using Polygon = std::vector<Point>;

/// The part of a polygon where `inside` of a point is at least 0; `inside` is linear (Sutherland and Hodgman,
/// doi:10.1145/360767.360802).
template <typename Inside>
Polygon clipped(const Polygon& polygon, Inside&& inside) {
  Polygon part;
  for (std::size_t corner = 0; corner < polygon.size(); ++corner) {
    const Point& here = polygon[corner];
    const Point& next = polygon[(corner + 1) % polygon.size()];
    const double depth = inside(here);
    const double next_depth = inside(next);
    if (depth >= 0.0) part.push_back(here);
    if ((depth >= 0.0) != (next_depth >= 0.0)) {
      const double way = depth / (depth - next_depth);
      part.push_back({here.x + way * (next.x - here.x), here.y + way * (next.y - here.y)});
    }
  }
  return part;
}

double area_of(const Polygon& polygon) {
  double twice = 0.0;
  for (std::size_t corner = 0; corner < polygon.size(); ++corner) {
    // From the first corner, so that little is lost to rounding far from the origin.
    const Point& origin = polygon.front();
    const Point& here = polygon[corner];
    const Point& next = polygon[(corner + 1) % polygon.size()];
    twice += (here.x - origin.x) * (next.y - origin.y) - (next.x - origin.x) * (here.y - origin.y);
  }
  return 0.5 * std::abs(twice);
}

/// One bin's share of [start, end] along one axis, in bins; the outermost bins take what lies outside.
std::vector<double> overlaps(double start, double end, std::uint32_t bins, std::uint32_t& first) {
  if (!std::isfinite(start) || !std::isfinite(end) || end < 0.0 || start >= bins) return {};
  const double first_bin = std::max(std::floor(start), 0.0);
  const double last_bin = std::min(std::floor(end), bins - 1.0);
  first = static_cast<std::uint32_t>(first_bin);
  if (first_bin == last_bin) return {1.0};
  std::vector<double> shares;
  for (double bin = first_bin; bin <= last_bin; ++bin) {
    const double left = bin == first_bin ? start : bin;
    const double right = bin == last_bin ? end : bin + 1.0;
    shares.push_back((right - left) / (end - start));
  }
  return shares;
}

double in_bins(double value, const BinAxis& axis) { return (value - axis.minimum) / axis.width(); }

std::vector<Share> box_shares(const BinAxes& axes, double radial_low, double radial_high, double azimuth_low,
                              double azimuth_high) {
  std::uint32_t first_bin = 0;
  std::uint32_t first_azimuth = 0;
  const std::vector<double> along =
      overlaps(in_bins(radial_low, axes.radial), in_bins(radial_high, axes.radial), axes.radial.bins, first_bin);
  std::vector<double> across{1.0};
  if (axes.azimuthal.bins > 0) {
    across = overlaps(in_bins(azimuth_low, axes.azimuthal), in_bins(azimuth_high, axes.azimuthal), axes.azimuthal.bins,
                      first_azimuth);
  } else if (azimuth_high < axes.azimuthal.minimum || azimuth_low > axes.azimuthal.greatest_value) {
    return {};
  }
  std::vector<Share> shares;
  for (std::uint32_t azimuth = 0; azimuth < across.size(); ++azimuth) {
    for (std::uint32_t bin = 0; bin < along.size(); ++bin) {
      const double weight = along[bin] * across[azimuth];
      if (weight == 0.0) continue;
      shares.push_back({(first_azimuth + azimuth) * axes.radial.bins + first_bin + bin, weight});
    }
  }
  return shares;
}

/// Values of corners on one side of the cut, that of their middle.
void move_to_one_side(std::array<double, 4>& values, AzimuthCut cut) {
  const auto [low, high] = std::ranges::minmax(values);
  if (high - low <= std::numbers::pi) return;
  const double middle_of_circle = cut == AzimuthCut::at_pi ? 0.0 : std::numbers::pi;
  double mean = 0.0;
  for (double& value : values) {
    if (value < middle_of_circle) value += 2.0 * std::numbers::pi;
    mean += 0.25 * value;
  }
  if (mean <= middle_of_circle + std::numbers::pi) return;
  for (double& value : values) value -= 2.0 * std::numbers::pi;
}

std::array<Point, 4> corners_of(const MatrixSpec& spec, const PixelShape& shape) {
  std::array<double, 4> x;
  std::array<double, 4> y;
  std::ranges::copy(shape.corner_radius, x.begin());
  std::ranges::copy(shape.corner_azimuth, y.begin());
  if (is_azimuth(spec.space)) move_to_one_side(x, spec.cut);
  if (is_azimuth(spec.azimuthal_space)) move_to_one_side(y, spec.cut);
  return {Point{x[0], y[0]}, Point{x[1], y[1]}, Point{x[2], y[2]}, Point{x[3], y[3]}};
}

std::vector<Share> area_shares(const MatrixSpec& spec, const BinAxes& axes, const PixelShape& shape) {
  const std::array<Point, 4> corners = corners_of(spec, shape);
  const auto [left, right] = std::ranges::minmax(corners, {}, &Point::x);
  const auto [bottom, top] = std::ranges::minmax(corners, {}, &Point::y);
  const bool binned = axes.azimuthal.bins > 0;
  if (binned && spec.splitting == Splitting::pseudo) {
    const double area = area_of({corners.begin(), corners.end()});
    const double box = (right.x - left.x) * (top.y - bottom.y);
    const double shrink = box > 0.0 ? std::sqrt(std::min(area / box, 1.0)) : 1.0;
    Point middle;
    for (const Point& corner : corners) middle = {middle.x + 0.25 * corner.x, middle.y + 0.25 * corner.y};
    const double half_x = 0.5 * shrink * (right.x - left.x);
    const double half_y = 0.5 * shrink * (top.y - bottom.y);
    std::vector<Share> shrunk =
        box_shares(axes, middle.x - half_x, middle.x + half_x, middle.y - half_y, middle.y + half_y);
    // The pixel around the beam has all azimuths, and its middle may be one that no corner has.
    return shrunk.empty() ? box_shares(axes, left.x, right.x, bottom.y, top.y) : shrunk;
  }
  if (!binned && (top.y < axes.azimuthal.minimum || bottom.y > axes.azimuthal.greatest_value)) return {};

  // Without azimuthal bins the azimuth keeps its own scale: areas between the radial edges are in proportion.
  Polygon polygon;
  for (const Point& corner : corners) {
    polygon.push_back({in_bins(corner.x, axes.radial), binned ? in_bins(corner.y, axes.azimuthal) : corner.y});
  }
  std::vector<Share> whole = box_shares(axes, left.x, right.x, bottom.y, top.y);
  std::vector<Share> shares = whole;
  double sum = 0.0;
  for (Share& share : shares) {
    const double bin = share.row % axes.radial.bins;
    Polygon part = clipped(polygon, [&](const Point& point) { return point.x - bin; });
    part = clipped(part, [&](const Point& point) { return bin + 1.0 - point.x; });
    if (binned) {
      const double azimuth = std::floor(static_cast<double>(share.row) / axes.radial.bins);
      part = clipped(part, [&](const Point& point) { return point.y - azimuth; });
      part = clipped(part, [&](const Point& point) { return azimuth + 1.0 - point.y; });
    }
    share.weight = part.empty() ? 0.0 : area_of(part);
    sum += share.weight;
  }
  if (!(sum > 0.0) || !std::isfinite(sum) || whole.size() == 1) return whole;  // a line: its box says all there is
  for (Share& share : shares) share.weight /= sum;
  std::erase_if(shares, [](const Share& share) { return share.weight < area_rounding; });
  return shares;
}

}  // namespace

std::vector<PixelShape> pixel_shapes(const MatrixSpec& spec) {
  const PixelGeometry& geometry = spec.geometry;
  std::vector<PixelShape> shapes;
  shapes.reserve(geometry.pixels());
  for (std::uint32_t row = 0; row < geometry.rows; ++row) {
    for (std::uint32_t column = 0; column < geometry.columns; ++column) {
      PixelShape shape;
      const Position centre = centre_position(geometry, row, column);
      shape.radius = radial_coordinate(spec, centre);
      shape.azimuth = azimuthal_coordinate(spec, centre);
      constexpr std::array<std::uint32_t, 4> down{0, 1, 1, 0};
      constexpr std::array<std::uint32_t, 4> right{0, 0, 1, 1};
      for (std::size_t corner = 0; corner < 4; ++corner) {
        const Position position = !geometry.vertices.empty() ? vertex_position(geometry, shapes.size(), corner)
                                  : rounds_positions(spec)
                                      ? rounded_grid_position(geometry, row + down[corner], column + right[corner])
                                      : grid_position(geometry, row + down[corner], column + right[corner]);
        shape.corner_radius[corner] = static_cast<float>(radial_coordinate(spec, position));
        shape.corner_azimuth[corner] = static_cast<float>(azimuthal_coordinate(spec, position));
      }
      shapes.push_back(shape);
    }
  }
  return shapes;
}

namespace {

struct Box {
  double radial_half = 0.0;
  double azimuth_half = 0.0;
};

Box box_of(const MatrixSpec& spec, const PixelShape& shape) {
  if (spec.splitting == Splitting::no) return {};
  return {half_width(shape.radius, shape.corner_radius, width_period(spec, spec.space)),
          half_width(shape.azimuth, shape.corner_azimuth, width_period(spec, spec.azimuthal_space))};
}

}  // namespace

BinAxes bin_axes(const MatrixSpec& spec, std::span<const PixelShape> shapes) {
  CoordinateExtent radial;
  CoordinateExtent azimuthal;
  for (std::size_t pixel = 0; pixel < shapes.size(); ++pixel) {
    if (!spec.is_there(pixel)) continue;
    const PixelShape& shape = shapes[pixel];
    if (splits_by_area(spec.splitting)) {
      const auto [near, far] = std::ranges::minmax(shape.corner_radius);
      const auto [low, high] = std::ranges::minmax(shape.corner_azimuth);
      radial.include(near, far);
      azimuthal.include(low, high);
    } else {
      const Box box = box_of(spec, shape);
      radial.include(shape.radius - box.radial_half, shape.radius + box.radial_half);
      azimuthal.include(shape.azimuth - box.azimuth_half, shape.azimuth + box.azimuth_half);
    }
  }
  return make_bin_axes(spec, radial, azimuthal);
}

std::vector<Share> shares_of(const MatrixSpec& spec, const BinAxes& axes, const PixelShape& shape) {
  const bool by_area = splits_by_area(spec.splitting);
  const Box box = by_area ? Box{} : box_of(spec, shape);
  if (spec.convention == Convention::pyfai) {
    const shared::SharedBins bins = shared_bins(spec, axes);
    shared::Footprint footprint;
    std::vector<Share> shares;
    if (find_footprint(bins, shape.radius, box.radial_half, shape.azimuth, box.azimuth_half, shape.corner_radius.data(),
                       shape.corner_azimuth.data(), footprint)) {
      for_each_share(footprint, axes.radial.bins, [&](std::uint32_t row, double weight) {
        shares.push_back({row, weight});
      });
    }
    return shares;
  }
  if (by_area) return area_shares(spec, axes, shape);
  return box_shares(axes, shape.radius - box.radial_half, shape.radius + box.radial_half,
                    shape.azimuth - box.azimuth_half, shape.azimuth + box.azimuth_half);
}

Matrix build_matrix(const MatrixSpec& spec, std::span<const PixelShape> shapes, const BinAxes& axes) {
  Matrix matrix;
  matrix.columns = static_cast<std::uint32_t>(shapes.size());
  matrix.rows.resize(axes.rows());
  for (std::size_t pixel = 0; pixel < shapes.size(); ++pixel) {
    if (!spec.is_used(pixel)) continue;
    for (const Share& share : shares_of(spec, axes, shapes[pixel])) {
      matrix.rows[share.row].push_back({static_cast<std::uint32_t>(pixel), share.weight});
    }
  }
  return matrix;
}

std::vector<BinSums> sum_frame(const Matrix& matrix, const Corrections& corrections, const FrameBatch& batch,
                               std::size_t frame) {
  std::vector<BinSums> all;
  std::vector<BinEntry> entries;
  std::vector<std::uint8_t> flags;
  std::vector<std::uint32_t> order;
  visit_pixel_type(batch.type, [&]<typename Pixel>() {
    const Pixel* values = batch.frame<Pixel>(frame);
    for (const std::vector<Matrix::Entry>& row : matrix.rows) {
      entries.clear();
      for (const auto& [pixel, weight] : row) {
        if (is_bad(values[pixel], corrections.bad_pixels)) continue;
        const double value = static_cast<double>(values[pixel]);
        const double dark = corrections.dark.empty() ? 0.0 : corrections.dark[pixel];
        double variance = 0.0;
        if (corrections.error_model == ErrorModel::variance) variance = corrections.variance[pixel];
        if (corrections.error_model == ErrorModel::poisson || corrections.error_model == ErrorModel::hybrid) {
          variance = std::max(value, 1.0);
        }
        entries.push_back({weight, value - dark, corrections.normalisation[pixel], variance});
      }
      all.push_back(
          filtered_sums(entries, corrections.filter, corrections.error_model, corrections.convention, order, flags));
    }
  });
  return all;
}

namespace {

class ReferenceEngine final : public Engine {
 public:
  [[nodiscard]] Backend backend() const override { return Backend::reference; }
  [[nodiscard]] std::string device_name() const override { return "1 thread, float64"; }

  BinAxes build_matrix(const MatrixSpec& spec) override {
    const std::vector<PixelShape> shapes = pixel_shapes(spec);
    const BinAxes axes = bin_axes(spec, shapes);
    matrix_ = reference::build_matrix(spec, shapes, axes);
    std::uint64_t entries = 0;
    for (const auto& row : matrix_.rows) entries += row.size();
    expect_entries(spec, entries);
    return axes;
  }

  void set_matrix(CsrMatrix matrix) override {
    matrix_ = {};
    matrix_.columns = matrix.columns;
    matrix_.rows.resize(matrix.rows);
    for (std::uint32_t row = 0; row < matrix.rows; ++row) {
      for (std::uint64_t entry = matrix.offsets[row]; entry < matrix.offsets[row + 1]; ++entry) {
        matrix_.rows[row].push_back({matrix.pixels[entry], matrix.weights[entry]});
      }
    }
  }

  [[nodiscard]] CsrMatrix matrix() const override {
    CsrMatrix matrix;
    matrix.rows = static_cast<std::uint32_t>(matrix_.rows.size());
    matrix.columns = matrix_.columns;
    matrix.offsets.push_back(0);
    for (const auto& row : matrix_.rows) {
      for (const Matrix::Entry& entry : row) {
        matrix.pixels.push_back(entry.pixel);
        matrix.weights.push_back(static_cast<float>(entry.weight));
      }
      matrix.offsets.push_back(matrix.pixels.size());
    }
    return matrix;
  }

  void set_corrections(const Corrections& corrections) override {
    expect_sizes(corrections, matrix_.columns);
    normalisation_.assign(corrections.normalisation.begin(), corrections.normalisation.end());
    dark_.assign(corrections.dark.begin(), corrections.dark.end());
    variance_.assign(corrections.variance.begin(), corrections.variance.end());
    corrections_ = corrections;
    corrections_.normalisation = normalisation_;
    corrections_.dark = dark_;
    corrections_.variance = variance_;
  }

  void integrate(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns) override {
    const std::size_t rows = matrix_.rows.size();
    expect_sizes(batch, monitor, patterns, corrections_.error_model, matrix_.columns, rows);
    for (std::size_t frame = 0; frame < batch.frames; ++frame) {
      const std::vector<BinSums> sums = sum_frame(matrix_, corrections_, batch, frame);
      for (std::size_t row = 0; row < rows; ++row) {
        write_bin(sums[row].signal, sums[row].normalisation, sums[row].variance, sums[row].square, monitor[frame],
                  patterns, frame * rows + row);
      }
    }
  }

 private:
  Matrix matrix_;
  std::vector<float> normalisation_;
  std::vector<float> dark_;
  std::vector<float> variance_;
  Corrections corrections_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(const DeviceChoice&) { return std::make_unique<ReferenceEngine>(); }

}  // namespace annulus::kernels::reference
