#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/openmp/openmp_engine.hpp"
#include "kernels/radial.hpp"

namespace annulus::kernels::openmp {
namespace {

/// Intervals of all pixels, [pixels], and the extent of those in use. A corner is computed once for its four pixels.
std::vector<RadialInterval> pixel_intervals(const MatrixSpec& spec, int threads, RadialExtent& extent) {
  const PixelGeometry& geometry = spec.geometry;
  const std::size_t columns = geometry.columns;
  std::vector<RadialInterval> intervals(geometry.pixels());
  double lower = extent.lower;
  double upper = extent.upper;
  std::vector<float> corners(static_cast<std::size_t>(threads) * 2 * (columns + 1));
#pragma omp parallel num_threads(threads) reduction(min : lower) reduction(max : upper)
  {
    float* above = corners.data() + static_cast<std::size_t>(omp_get_thread_num()) * 2 * (columns + 1);
    float* below = above + columns + 1;
    const auto fill = [&](float* line, std::size_t row) {
      for (std::size_t column = 0; column <= columns; ++column) {
        line[column] = static_cast<float>(
            radial_position(geometry, spec.space, static_cast<double>(row), static_cast<double>(column)));
      }
    };
    std::size_t filled = static_cast<std::size_t>(-1);  // the row whose lower corners `below` holds
#pragma omp for schedule(static)
    for (std::size_t row = 0; row < geometry.rows; ++row) {
      if (spec.splitting == Splitting::bbox) {
        if (filled + 1 == row && row > 0) {
          std::swap(above, below);
        } else {
          fill(above, row);
        }
        fill(below, row + 1);
        filled = row;
      }
      for (std::size_t column = 0; column < columns; ++column) {
        const double centre =
            radial_position(geometry, spec.space, static_cast<double>(row) + 0.5, static_cast<double>(column) + 0.5);
        const std::size_t pixel = row * columns + column;
        intervals[pixel] = spec.splitting == Splitting::no ? RadialInterval{centre, centre}
                                                           : bounding_interval(centre, above[column], below[column],
                                                                               below[column + 1], above[column + 1]);
        if (!spec.mask.empty() && spec.mask[pixel] != 0) continue;
        lower = std::min(lower, intervals[pixel].lower);
        upper = std::max(upper, intervals[pixel].upper);
      }
    }
  }
  extent = {lower, upper};
  return intervals;
}

}  // namespace

CsrMatrix build_matrix(const MatrixSpec& spec, int threads, BinAxis& axis) {
  RadialExtent extent;
  const std::vector<RadialInterval> intervals = pixel_intervals(spec, threads, extent);
  axis = make_bin_axis(spec, extent);
  const double width = axis.width();
  const std::size_t bins = axis.bins;
  const std::size_t pixels = intervals.size();

  // Consecutive parts of the detector are counted and filled by themselves; part after part gives ascending pixels.
  const auto parts = static_cast<std::size_t>(threads);
  const auto part_begin = [&](std::size_t part) { return pixels * part / parts; };
  const auto for_each_entry = [&](std::size_t part, auto&& emit) {
    for (std::size_t pixel = part_begin(part); pixel < part_begin(part + 1); ++pixel) {
      if (!spec.mask.empty() && spec.mask[pixel] != 0) continue;
      split_interval(intervals[pixel], axis, width,
                     [&](std::uint32_t bin, float weight) { emit(bin, static_cast<std::uint32_t>(pixel), weight); });
    }
  };

  std::vector<std::uint64_t> cursor(parts * bins);  // [parts, bins] first counts, then the place of the next entry
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (std::size_t part = 0; part < parts; ++part) {
    for_each_entry(part, [&](std::uint32_t bin, std::uint32_t, float) { ++cursor[part * bins + bin]; });
  }

  CsrMatrix matrix;
  matrix.rows = axis.bins;
  matrix.columns = static_cast<std::uint32_t>(pixels);
  matrix.offsets.resize(bins + 1);
  std::uint64_t next = 0;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    matrix.offsets[bin] = next;
    for (std::size_t part = 0; part < parts; ++part) next += std::exchange(cursor[part * bins + bin], next);
  }
  matrix.offsets[bins] = next;
  expect_entries(spec, next);
  matrix.pixels.resize(next);
  matrix.weights.resize(next);

#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (std::size_t part = 0; part < parts; ++part) {
    for_each_entry(part, [&](std::uint32_t bin, std::uint32_t pixel, float weight) {
      const std::uint64_t place = cursor[part * bins + bin]++;
      matrix.pixels[place] = pixel;
      matrix.weights[place] = weight;
    });
  }
  return matrix;
}

}  // namespace annulus::kernels::openmp
