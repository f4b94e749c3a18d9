#include "calibration/ring_detection.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/errors.hpp"

namespace annulus::calibration {
namespace {

/// An image as the detection works on it.
struct Plane {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<float> values;

  Plane(std::size_t plane_rows, std::size_t plane_columns)
      : rows(plane_rows), columns(plane_columns), values(plane_rows * plane_columns, 0.0F) {}
  [[nodiscard]] float at(std::size_t row, std::size_t column) const { return values[row * columns + column]; }
};

std::vector<float> gaussian(double sigma) {
  const int radius = std::max(1, static_cast<int>(std::ceil(3.5 * sigma)));
  std::vector<float> weights(2 * radius + 1);
  for (int offset = -radius; offset <= radius; ++offset) {
    weights[offset + radius] = static_cast<float>(std::exp(-0.5 * offset * offset / (sigma * sigma)));
  }
  const float sum = std::accumulate(weights.begin(), weights.end(), 0.0F);
  for (float& weight : weights) weight /= sum;
  return weights;
}

/// Convolution with a Gaussian; what lies outside counts as zero, in values and weights alike.
Plane smoothed(const Plane& plane, double sigma) {
  const std::vector<float> weights = gaussian(sigma);
  const std::ptrdiff_t radius = static_cast<std::ptrdiff_t>(weights.size() / 2);
  const std::ptrdiff_t rows = static_cast<std::ptrdiff_t>(plane.rows);
  const std::ptrdiff_t columns = static_cast<std::ptrdiff_t>(plane.columns);
  Plane along(plane.rows, plane.columns);
  Plane both(plane.rows, plane.columns);
#pragma omp parallel
  {
#pragma omp for
    for (std::ptrdiff_t row = 0; row < rows; ++row) {
      const float* from = plane.values.data() + row * columns;
      float* to = along.values.data() + row * columns;
      for (std::ptrdiff_t offset = -radius; offset <= radius; ++offset) {
        const float weight = weights[offset + radius];
        const std::ptrdiff_t first = std::max<std::ptrdiff_t>(0, -offset);
        const std::ptrdiff_t last = std::min(columns, columns - offset);
        for (std::ptrdiff_t column = first; column < last; ++column) to[column] += weight * from[column + offset];
      }
    }
#pragma omp for
    for (std::ptrdiff_t row = 0; row < rows; ++row) {
      float* to = both.values.data() + row * columns;
      for (std::ptrdiff_t offset = -radius; offset <= radius; ++offset) {
        if (row + offset < 0 || row + offset >= rows) continue;
        const float weight = weights[offset + radius];
        const float* from = along.values.data() + (row + offset) * columns;
        for (std::ptrdiff_t column = 0; column < columns; ++column) to[column] += weight * from[column];
      }
    }
  }
  return both;
}

/// One pixel of a crest, in binned coordinates of its centre plus the sub-pixel step.
struct CrestPoint {
  double row = 0.0;
  double column = 0.0;
  double normal_row = 0.0;
  double normal_column = 0.0;
  double strength = 0.0;
};

class DisjointSets {
 public:
  explicit DisjointSets(std::size_t count) : parents_(count) { std::iota(parents_.begin(), parents_.end(), 0U); }
  std::uint32_t root(std::uint32_t item) {
    while (parents_[item] != item) {
      parents_[item] = parents_[parents_[item]];
      item = parents_[item];
    }
    return item;
  }
  void join(std::uint32_t one, std::uint32_t other) {
    const std::uint32_t root1 = root(one);
    const std::uint32_t root2 = root(other);
    parents_[std::max(root1, root2)] = std::min(root1, root2);
  }

 private:
  std::vector<std::uint32_t> parents_;
};

/// Points of one curve are joined over cells this wide, in binned pixels: the sagitta of a ring of radius 50 over 10 is
/// a quarter of a pixel, and ten points average their errors.
constexpr double segment_cell = 10.0;

}  // namespace

std::uint32_t detection_binning(std::uint32_t rows, std::uint32_t columns) {
  constexpr double side = 600.0;
  return static_cast<std::uint32_t>(std::max(1.0, std::round(std::max(rows, columns) / side)));
}

RidgeMap detect_ridges(std::span<const float> counts, std::span<const std::uint8_t> mask, std::uint32_t rows,
                       std::uint32_t columns, const RidgeSettings& settings) {
  ANNULUS_EXPECT(counts.size() == static_cast<std::size_t>(rows) * columns && mask.size() == counts.size());
  const std::size_t binning = settings.binning;
  const std::size_t small_rows = rows / binning;
  const std::size_t small_columns = columns / binning;
  RidgeMap map;
  map.scale_px = static_cast<double>(binning);
  if (small_rows < 8 || small_columns < 8) return map;

  // Square roots of counts have the same noise everywhere, 1/2, and single bright pixels (grains, hot pixels, cosmic
  // rays) lose most of their weight. Their mean over what is not masked knows no gaps.
  Plane sum(small_rows, small_columns);
  Plane weight(small_rows, small_columns);
#pragma omp parallel for
  for (std::size_t row = 0; row < small_rows; ++row) {
    for (std::size_t down = 0; down < binning; ++down) {
      const std::size_t line = (row * binning + down) * columns;
      for (std::size_t column = 0; column < small_columns * binning; ++column) {
        if (mask[line + column] != 0) continue;
        sum.values[row * small_columns + column / binning] += counts[line + column];
        weight.values[row * small_columns + column / binning] += 1.0F;
      }
    }
    for (std::size_t pixel = row * small_columns; pixel < (row + 1) * small_columns; ++pixel) {
      // The sum's root, then as of one pixel times the weight: its noise is 1/2 over the root of the weight.
      if (weight.values[pixel] > 0.0F) {
        sum.values[pixel] = std::sqrt(std::max(sum.values[pixel], 0.0F) * weight.values[pixel]);
      }
    }
  }
  map.rows = small_rows;
  map.columns = small_columns;
  map.roots = sum.values;
  map.weights = weight.values;
  const Plane smooth_sum = smoothed(sum, settings.smoothing_px);
  const Plane smooth_weight = smoothed(weight, settings.smoothing_px);
  const Plane wide_sum = smoothed(sum, 4.0 * settings.smoothing_px);
  const Plane wide_weight = smoothed(weight, 4.0 * settings.smoothing_px);
  Plane smooth(small_rows, small_columns);
  const float full = static_cast<float>(binning * binning);
  for (std::size_t pixel = 0; pixel < smooth.values.size(); ++pixel) {
    if (smooth_weight.values[pixel] > 0.02F * full) {
      smooth.values[pixel] = smooth_sum.values[pixel] / smooth_weight.values[pixel];
    } else if (wide_weight.values[pixel] > 1e-3F) {
      smooth.values[pixel] = wide_sum.values[pixel] / wide_weight.values[pixel];
    }
  }

  // Second derivative across the ridge, in units of its noise: that of a Gaussian with noise 1/2 in each of n joined
  // pixels has the variance 1 / (4 n) * 3 / (16 pi s^6).
  const double s = settings.smoothing_px;
  const double noise = 0.5 * std::sqrt(3.0 / (16.0 * std::numbers::pi) / std::pow(s, 6) / full);
  struct Curvature {
    float significance = 0.0F;
    float step_row = 0.0F, step_column = 0.0F;
    float normal_row = 0.0F, normal_column = 0.0F;
  };
  std::vector<Curvature> curvatures(smooth.values.size());
#pragma omp parallel for
  for (std::size_t row = 1; row < small_rows - 1; ++row) {
    for (std::size_t column = 1; column < small_columns - 1; ++column) {
      const std::size_t pixel = row * small_columns + column;
      // A crest is told from a step only where both its sides are seen.
      if (smooth_weight.values[pixel] < 0.4F * full) continue;
      const double middle = smooth.at(row, column);
      const double gradient_row = 0.5 * (smooth.at(row + 1, column) - smooth.at(row - 1, column));
      const double gradient_column = 0.5 * (smooth.at(row, column + 1) - smooth.at(row, column - 1));
      const double hessian_rr = smooth.at(row + 1, column) + smooth.at(row - 1, column) - 2.0 * middle;
      const double hessian_cc = smooth.at(row, column + 1) + smooth.at(row, column - 1) - 2.0 * middle;
      const double hessian_rc = 0.25 * (smooth.at(row + 1, column + 1) - smooth.at(row + 1, column - 1) -
                                        smooth.at(row - 1, column + 1) + smooth.at(row - 1, column - 1));
      const double half_trace = 0.5 * (hessian_rr + hessian_cc);
      const double root = std::hypot(0.5 * (hessian_rr - hessian_cc), hessian_rc);
      const double lowest = half_trace - root;
      // Beside a spot the image bends down along the spot's edge and up across it, more: no crest.
      if (lowest >= 0.0 || half_trace >= 0.0) continue;
      const double angle = 0.5 * std::atan2(2.0 * hessian_rc, hessian_rr - hessian_cc);  // of the highest eigenvalue
      const double normal_row = -std::sin(angle);
      const double normal_column = std::cos(angle);
      const double step = -(gradient_row * normal_row + gradient_column * normal_column) / lowest;
      Curvature& curvature = curvatures[pixel];
      curvature.significance = static_cast<float>(-lowest / noise);
      curvature.normal_row = static_cast<float>(normal_row);
      curvature.normal_column = static_cast<float>(normal_column);
      curvature.step_row = static_cast<float>(step * normal_row);
      curvature.step_column = static_cast<float>(step * normal_column);
    }
  }

  // Counts that were averaged or scaled have another noise, which the spread of the values tells: without any ridge
  // the median significance is near 1. It is used where it is smaller; larger it comes from the rings themselves.
  std::vector<float> sample;
  for (std::size_t pixel = 0; pixel < curvatures.size(); pixel += 7) {
    if (curvatures[pixel].significance > 0.0F) sample.push_back(curvatures[pixel].significance);
  }
  if (sample.size() < 100) return map;
  std::nth_element(sample.begin(), sample.begin() + sample.size() / 2, sample.end());
  const double scale = std::min(1.0, static_cast<double>(sample[sample.size() / 2]));
  if (scale <= 0.0) return map;

  std::vector<CrestPoint> points;
  std::vector<std::int32_t> point_at(curvatures.size(), -1);
  for (std::size_t row = 1; row + 1 < small_rows; ++row) {
    for (std::size_t column = 1; column + 1 < small_columns; ++column) {
      const std::size_t pixel = row * small_columns + column;
      const Curvature& curvature = curvatures[pixel];
      if (curvature.significance < settings.threshold * scale) continue;
      if (std::abs(curvature.step_row) > 0.6F || std::abs(curvature.step_column) > 0.6F) continue;
      point_at[pixel] = static_cast<std::int32_t>(points.size());
      points.push_back({static_cast<double>(row) + curvature.step_row,
                        static_cast<double>(column) + curvature.step_column, curvature.normal_row,
                        curvature.normal_column, curvature.significance / scale});
    }
  }

  // Neighbouring points whose normals agree within 25 degrees belong to one curve.
  const double least_cosine = 0.9;
  DisjointSets sets(points.size());
  // Points two apart still do: a bright grain beside the crest or a dead pixel must not cut it.
  constexpr std::ptrdiff_t reach = 2;
  for (std::size_t row = 1; row + 1 < small_rows; ++row) {
    for (std::size_t column = 1; column + 1 < small_columns; ++column) {
      const std::int32_t point = point_at[row * small_columns + column];
      if (point < 0) continue;
      for (std::ptrdiff_t down = 0; down <= reach && row + down < small_rows; ++down) {
        for (std::ptrdiff_t right = down == 0 ? 1 : -reach; right <= reach; ++right) {
          const std::ptrdiff_t other_column = static_cast<std::ptrdiff_t>(column) + right;
          if (other_column < 0 || other_column >= static_cast<std::ptrdiff_t>(small_columns)) continue;
          const std::int32_t other = point_at[(row + down) * small_columns + other_column];
          if (other < 0) continue;
          const CrestPoint& from = points[point];
          const CrestPoint& to = points[other];
          const double cosine = from.normal_row * to.normal_row + from.normal_column * to.normal_column;
          if (std::abs(cosine) < least_cosine) continue;
          // Across the crest they must agree to a pixel: else they are on neighbouring crests.
          const double across = (to.row - from.row) * from.normal_row + (to.column - from.column) * from.normal_column;
          if (std::abs(across) < 1.0) sets.join(static_cast<std::uint32_t>(point), static_cast<std::uint32_t>(other));
        }
      }
    }
  }

  // Segments: the points of one curve in one cell.
  struct Key {
    std::uint32_t curve = 0;
    std::uint32_t cell = 0;
    std::uint32_t point = 0;
    auto operator<=>(const Key&) const = default;
  };
  std::vector<Key> keys(points.size());
  for (std::uint32_t point = 0; point < points.size(); ++point) {
    const auto cell_row = static_cast<std::uint32_t>(points[point].row / segment_cell);
    const auto cell_column = static_cast<std::uint32_t>(points[point].column / segment_cell);
    keys[point] = {sets.root(point), cell_row * 65536U + cell_column, point};
  }
  std::sort(keys.begin(), keys.end());
  std::uint32_t last_root = std::numeric_limits<std::uint32_t>::max();
  for (std::size_t first = 0; first < keys.size();) {
    std::size_t last = first;
    RidgeSegment segment;
    double rr = 0.0, rc = 0.0, cc = 0.0;
    for (; last < keys.size() && keys[last].curve == keys[first].curve && keys[last].cell == keys[first].cell; ++last) {
      const CrestPoint& point = points[keys[last].point];
      segment.row += point.row;
      segment.column += point.column;
      segment.strength += point.strength;
      rr += point.normal_row * point.normal_row;
      rc += point.normal_row * point.normal_column;
      cc += point.normal_column * point.normal_column;
    }
    const double count = static_cast<double>(last - first);
    if (keys[first].curve != last_root) ++map.curves;
    last_root = keys[first].curve;
    segment.curve = map.curves - 1;
    segment.points = count;
    segment.strength /= count;
    segment.row = (segment.row / count + 0.5) * static_cast<double>(binning);
    segment.column = (segment.column / count + 0.5) * static_cast<double>(binning);
    // Normals have no sign: their mean is the axis of the mean outer product.
    const double angle = 0.5 * std::atan2(2.0 * rc, rr - cc);
    segment.normal_row = std::cos(angle);
    segment.normal_column = std::sin(angle);
    if (count >= 2.0) map.segments.push_back(segment);
    first = last;
  }
  return map;
}

}  // namespace annulus::calibration
