#include "calibration/control_points.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "base/errors.hpp"

namespace annulus::calibration {
namespace {

/// A pixel near a ring.
struct NearPixel {
  std::uint32_t ring = 0;
  std::uint32_t pixel = 0;
  float distance_rad = 0.0F;  ///< its 2theta minus the ring's
  float chi_rad = 0.0F;
  float factor = 1.0F;  ///< relative solid angle and polarisation
};

/// Bins of the joined profile, in units of a pixel's width in 2theta.
constexpr double profile_bin_px = 0.25;

/// Rings nearer than this many widths are one peak to a fit. Beyond, the neighbour's tail is part of the fitted line.
constexpr double resolved_sigmas = 3.0;
/// Beyond this many widths a neighbour of the same height is below 1e-5 all over the line.
constexpr double tail_sigmas = 8.0;

/// A line so many times wider than the median one is two lines: a calibrant's own widths change slowly with the angle.
constexpr double merged_width = 1.7;

double median_of(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

std::vector<std::uint8_t> with_defects_masked(const CalibrationImage& image, std::uint32_t rows,
                                              std::uint32_t columns) {
  std::vector<std::uint8_t> mask(image.mask.begin(), image.mask.end());
#pragma omp parallel for
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) {
      const std::size_t pixel = row * columns + column;
      if (image.mask[pixel] != 0) continue;
      if (!std::isfinite(image.counts[pixel]) || image.counts[pixel] < 0.0F) {
        mask[pixel] = 1;
        continue;
      }
      float lowest = std::numeric_limits<float>::infinity();
      float highest = -1.0F;
      for (std::size_t r = row > 0 ? row - 1 : 0; r <= std::min<std::size_t>(row + 1, rows - 1); ++r) {
        for (std::size_t c = column > 0 ? column - 1 : 0; c <= std::min<std::size_t>(column + 1, columns - 1); ++c) {
          const std::size_t other = r * columns + c;
          if (other == pixel || image.mask[other] != 0 || !(image.counts[other] >= 0.0F)) continue;
          lowest = std::min(lowest, image.counts[other]);
          highest = std::max(highest, image.counts[other]);
        }
      }
      if (highest < 0.0F) continue;
      // A third of the next pixel's counts and six standard deviations besides. A line of 1 pixel FWHM, the sharpest
      // that a detector sees, gives its neighbours 6 % across but all of its counts along.
      const float value = image.counts[pixel];
      if (value > 4.0F * highest + 6.0F * std::sqrt(highest) + 20.0F ||
          4.0F * value + 6.0F * std::sqrt(value) + 20.0F < lowest)
        mask[pixel] = 1;
    }
  }
  return mask;
}

PeakFit fit_peak(const PeakSamples& samples, double place, double sigma, bool free_width) {
  const std::size_t count = samples.x.size();
  PeakFit fit;
  fit.place = place;
  fit.sigma = sigma;
  constexpr std::size_t fewest = 8;
  if (count < fewest) return fit;
  const double start_sigma = sigma;
  double lowest_x = samples.x[0], highest_x = samples.x[0];
  for (const float x : samples.x) {
    lowest_x = std::min<double>(lowest_x, x);
    highest_x = std::max<double>(highest_x, x);
  }

  // Linear parameters (amplitude, background, slope) follow from the others; the first variance is that of the mean.
  double mean = 0.0;
  for (const float value : samples.counts) mean += value;
  mean = std::max(mean / static_cast<double>(count), 1e-3);
  // Places and slopes in units of the width keep the normal matrix well scaled.
  const double unit = start_sigma;
  using Vector = Eigen::Matrix<double, 5, 1>;
  using Matrix = Eigen::Matrix<double, 5, 5>;
  // amplitude, place, background, slope, width
  Vector parameters;
  parameters << 0.0, place / unit, mean, 0.0, 1.0;
  double chi_squared = 0.0;
  Matrix normal;
  int unknowns = 3;
  constexpr int iterations = 14;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    // Amplitude and background alone first, then the place, then the width.
    const bool with_place = iteration >= 1;
    const bool with_width = free_width && iteration >= 2 && fit.amplitude > 20.0 * fit.amplitude_error;
    unknowns = with_width ? 5 : (with_place ? 4 : 3);
    normal.setZero();
    Vector right = Vector::Zero();
    chi_squared = 0.0;
    const double inverse_width = 1.0 / parameters[4];
    for (std::size_t sample = 0; sample < count; ++sample) {
      const double x = samples.x[sample] / unit;
      const double factor = samples.factor.empty() ? 1.0 : static_cast<double>(samples.factor[sample]);
      const double pixels = samples.pixels.empty() ? 1.0 : static_cast<double>(samples.pixels[sample]);
      const double t = (x - parameters[1]) * inverse_width;
      double bell = std::exp(-0.5 * t * t);
      double bell_by_place = bell * t;  // times sigma
      double bell_by_width = bell * t * t;
      for (const PeakNeighbour& neighbour : samples.neighbours) {
        const double away = t - neighbour.offset / unit * inverse_width;
        const double tail = neighbour.ratio * std::exp(-0.5 * away * away);
        bell += tail;
        bell_by_place += tail * away;
        bell_by_width += tail * away * away;
      }
      bell *= factor * (1.0 + samples.skew * t * (t * t - 1.0));
      const double model = parameters[0] * bell + parameters[2] + parameters[3] * x;
      const double variance = iteration == 0 ? mean : std::max(model, 0.02 * mean + 1e-3);
      const double weight = pixels / variance;
      const double error = samples.counts[sample] - model;
      Vector row;
      const double scale = parameters[0] * factor * inverse_width;
      row << bell, with_place ? scale * bell_by_place : 0.0, 1.0, x, with_width ? scale * bell_by_width : 0.0;
      normal.noalias() += weight * row * row.transpose();
      right.noalias() += weight * error * row;
      chi_squared += weight * error * error;
    }
    if (!with_place) normal(1, 1) = 1.0;
    if (!with_width) normal(4, 4) = 1.0;
    const Eigen::LDLT<Matrix> factors(normal);
    if (factors.info() != Eigen::Success || !factors.isPositive()) return fit;
    Vector step = factors.solve(right);
    if (!step.allFinite()) return fit;
    // A step of more than half a width in place or a third in width leaves the range in which the model is linear.
    step[1] = std::clamp(step[1], -0.5, 0.5);
    step[4] = std::clamp(step[4], -0.3 * parameters[4], 0.3 * parameters[4]);
    parameters += step;
    const Matrix covariance = factors.solve(Matrix::Identity());
    fit.amplitude = parameters[0];
    fit.amplitude_error = std::sqrt(std::max(covariance(0, 0), 0.0));
    fit.place = parameters[1] * unit;
    fit.place_error = with_place ? std::sqrt(std::max(covariance(1, 1), 0.0)) * unit : 0.0;
    fit.background = parameters[2];
    fit.slope = parameters[3] / unit;
    fit.sigma = parameters[4] * unit;
    if (!(parameters[4] > 0.2) || parameters[4] > 5.0) return fit;
    if (fit.place < lowest_x || fit.place > highest_x) return fit;
    // A ten-thousandth of the width is below any line's error.
    if (iteration >= 3 && std::abs(step[1]) < 1e-4 && std::abs(step[4]) < 1e-3) break;
  }
  fit.reduced_chi_squared = chi_squared / std::max(1.0, static_cast<double>(count) - unknowns);
  if (!(fit.amplitude > 0.0) || fit.place_error <= 0.0) return fit;

  // Both flanks must be seen: without one, the peak could be any slope's end.
  std::size_t left = 0, right_side = 0;
  for (const float x : samples.x) {
    const double t = (x - fit.place) / fit.sigma;
    if (t > -2.0 && t < -0.4) ++left;
    if (t > 0.4 && t < 2.0) ++right_side;
  }
  const std::size_t flanks = left + right_side;
  const bool both = 4 * std::min(left, right_side) >= flanks && std::min(left, right_side) >= 2;
  fit.good = both && fit.amplitude > 4.0 * fit.amplitude_error && fit.place_error < 0.5 * fit.sigma;
  return fit;
}

namespace {

/// All lines that the image may have, rising, and which of them are not the calibrant's.
struct LineList {
  std::vector<double> angles_rad;
  std::vector<char> foreign;
  std::vector<std::uint32_t> ring;  ///< of the calibrant
};

LineList joined_lines(std::span<const double> rings_rad, std::span<const double> foreign_rad) {
  LineList lines;
  std::uint32_t ring = 0;
  for (const double foreign : foreign_rad) {
    for (; ring < rings_rad.size() && rings_rad[ring] <= foreign; ++ring) {
      lines.angles_rad.push_back(rings_rad[ring]);
      lines.foreign.push_back(0);
      lines.ring.push_back(ring);
    }
    lines.angles_rad.push_back(foreign);
    lines.foreign.push_back(1);
    lines.ring.push_back(0);
  }
  for (; ring < rings_rad.size(); ++ring) {
    lines.angles_rad.push_back(rings_rad[ring]);
    lines.foreign.push_back(0);
    lines.ring.push_back(ring);
  }
  return lines;
}

/// What extract_rings() does, lines numbered as in `lines`.
ExtractedRings extract_lines(std::span<const float> counts, std::span<const std::uint8_t> mask,
                             const integrator::Geometry& geometry, const LineList& lines,
                             const ExtractionSettings& settings) {
  const std::uint32_t rows = geometry.detector.rows;
  const std::uint32_t columns = geometry.detector.columns;
  ANNULUS_EXPECT(counts.size() == static_cast<std::size_t>(rows) * columns && mask.size() == counts.size());
  const std::vector<double> parallax = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);
  const double pixel_m = std::sqrt(geometry.detector.pixel1_m * geometry.detector.pixel2_m);
  const std::vector<double>& rings_rad = lines.angles_rad;
  const std::size_t ring_count = rings_rad.size();

  ExtractedRings result;
  result.profiles.resize(ring_count);
  result.tried.assign(ring_count, 0);
  for (std::uint32_t ring = 0; ring < ring_count; ++ring) result.profiles[ring].ring = ring;
  if (ring_count == 0) return result;

  // 1. Pixels near rings, row by row; rows are joined in order, so that threads do not matter.
  std::vector<std::vector<NearPixel>> by_row(rows);
#pragma omp parallel for schedule(dynamic, 16)
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::vector<NearPixel>& near = by_row[row];
    std::size_t ring = 0;  // from pixel to pixel the nearest ring hardly changes
    for (std::uint32_t column = 0; column < columns; ++column) {
      const std::uint32_t pixel = row * columns + column;
      if (mask[pixel] != 0) continue;
      const auto [y, x, z] = integrator::position_m(pixels, row + 0.5, column + 0.5);
      const double across = std::sqrt(x * x + y * y);
      const double angle = std::atan2(across, z);
      while (ring + 1 < ring_count && rings_rad[ring] + rings_rad[ring + 1] < 2.0 * angle) ++ring;
      while (ring > 0 && rings_rad[ring] + rings_rad[ring - 1] > 2.0 * angle) --ring;
      // d(2theta)/dx along the detector is at most the pixel over the ray; the incidence makes it smaller.
      const double ray = std::sqrt(across * across + z * z);
      const double cosine = std::abs(geometry.distance_m) / ray;
      const double reach = settings.reach_px * 1.5 * pixel_m / ray;
      if (std::abs(angle - rings_rad[ring]) > reach) continue;
      // Both change over a line's width, and so move its top.
      const double cosine_squared = z * z / (ray * ray);
      const double double_azimuth = across > 0.0 ? (x * x - y * y) / (across * across) : 0.0;
      const double polarised =
          0.5 * (1.0 + cosine_squared - settings.polarisation * double_azimuth * (1.0 - cosine_squared));
      near.push_back({static_cast<std::uint32_t>(ring), pixel, static_cast<float>(angle - rings_rad[ring]),
                      static_cast<float>(std::atan2(y, x)), static_cast<float>(cosine * cosine * cosine * polarised)});
    }
  }
  std::vector<std::size_t> first(ring_count + 1, 0);
  for (const auto& near : by_row) {
    for (const NearPixel& pixel : near) ++first[pixel.ring + 1];
  }
  for (std::size_t ring = 0; ring < ring_count; ++ring) first[ring + 1] += first[ring];
  std::vector<NearPixel> sorted(first.back());
  std::vector<std::size_t> next(first.begin(), first.end() - 1);
  for (const auto& near : by_row) {
    for (const NearPixel& pixel : near) sorted[next[pixel.ring]++] = pixel;
  }
  by_row.clear();

  // 2. How a pixel's width stands in 2theta at each ring, and each ring's joined profile. The width of a step in 2theta
  //    follows from the count: pixels within a range = length x range / slope.
  std::vector<double> step_rad(ring_count, 0.0);
  std::vector<double> half_gap(ring_count);
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    const double below = ring > 0 ? rings_rad[ring] - rings_rad[ring - 1] : rings_rad[ring];
    const double above = ring + 1 < ring_count ? rings_rad[ring + 1] - rings_rad[ring] : below;
    half_gap[ring] = 0.5 * std::min(below, above);
  }
  const auto slope_at = [&](double row, double column) {
    const double down =
        integrator::two_theta_rad(pixels, row + 0.5, column) - integrator::two_theta_rad(pixels, row - 0.5, column);
    const double right =
        integrator::two_theta_rad(pixels, row, column + 0.5) - integrator::two_theta_rad(pixels, row, column - 0.5);
    return std::array<double, 2>{down, right};
  };
  // A pixel's own width, slope^2 / 12 in variance, changes across a line where the detector is not across the ray.
  const auto skew_at = [&](std::uint32_t pixel, double sigma_rad) {
    const double row = pixel / columns + 0.5, column = pixel % columns + 0.5;
    const auto [down, right] = slope_at(row, column);
    const double slope = std::hypot(down, right);
    if (slope <= 0.0) return 0.0;
    const auto [down1, right1] = slope_at(row + down / slope, column + right / slope);
    const auto [down0, right0] = slope_at(row - down / slope, column - right / slope);
    const double growth =
        (down1 * down1 + right1 * right1 - down0 * down0 - right0 * right0) / (12.0 * 2.0 * slope);  // of the variance
    return growth / (2.0 * sigma_rad);
  };
  struct Joined {
    std::vector<float> x, y, n;
  };
  std::vector<Joined> joined(ring_count);
  const auto take = [&](std::size_t ring, const PeakFit& fit) {
    RingProfile& profile = result.profiles[ring];
    profile.amplitude = fit.amplitude;
    // Grains, texture and lines that are no Gaussians make the misfit larger than counting does.
    profile.amplitude_error = fit.amplitude_error * std::sqrt(std::max(1.0, fit.reduced_chi_squared));
    profile.clearness = fit.amplitude_error > 0.0 ? fit.amplitude / fit.amplitude_error : 0.0;
    profile.background = fit.background;
    profile.shift_rad = fit.place;
    profile.sigma_rad = fit.sigma;
    profile.seen = fit.good && profile.amplitude > 5.0 * profile.amplitude_error;
  };
#pragma omp parallel for schedule(dynamic)
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    RingProfile& profile = result.profiles[ring];
    const std::size_t count = first[ring + 1] - first[ring];
    constexpr std::size_t fewest_pixels = 60;
    if (count < fewest_pixels) continue;
    // Mean over some of its pixels.
    double sum = 0.0;
    constexpr std::size_t probes = 32;
    for (std::size_t probe = 0; probe < probes; ++probe) {
      const NearPixel& pixel = sorted[first[ring] + probe * (count - 1) / (probes - 1)];
      const auto [down, right] = slope_at(pixel.pixel / columns + 0.5, pixel.pixel % columns + 0.5);
      sum += std::hypot(down, right);
    }
    step_rad[ring] = sum / static_cast<double>(probes);
    const double reach = std::min(settings.reach_px * step_rad[ring], half_gap[ring]);
    const std::size_t bins = static_cast<std::size_t>(2.0 * reach / (profile_bin_px * step_rad[ring]));
    if (bins < 10) continue;
    std::vector<double> sums(bins, 0.0), weights(bins, 0.0);
    std::size_t inside = 0;
    for (std::size_t index = first[ring]; index < first[ring + 1]; ++index) {
      const double place = (sorted[index].distance_rad + reach) / (2.0 * reach) * static_cast<double>(bins);
      if (place < 0.0 || place >= static_cast<double>(bins)) continue;
      sums[static_cast<std::size_t>(place)] += counts[sorted[index].pixel];
      weights[static_cast<std::size_t>(place)] += 1.0;
      ++inside;
    }
    profile.length_px = static_cast<double>(inside) / (2.0 * reach / step_rad[ring]);
    constexpr double shortest_px = 15.0;
    profile.covered = profile.length_px > shortest_px;
    if (!profile.covered) continue;
    std::vector<float>&x = joined[ring].x, &y = joined[ring].y, &n = joined[ring].n;
    for (std::size_t bin = 0; bin < bins; ++bin) {
      if (weights[bin] == 0.0) continue;
      x.push_back(
          static_cast<float>(((static_cast<double>(bin) + 0.5) / static_cast<double>(bins) * 2.0 - 1.0) * reach));
      y.push_back(static_cast<float>(sums[bin] / weights[bin]));
      n.push_back(static_cast<float>(weights[bin]));
    }
    if (x.size() < 10) continue;
    // The highest place of the profile smoothed over two pixels is where the fit starts.
    const std::ptrdiff_t half = static_cast<std::ptrdiff_t>(1.0 / profile_bin_px);
    double highest = -1.0;
    std::size_t top = x.size() / 2;
    for (std::ptrdiff_t bin = half; bin + half < static_cast<std::ptrdiff_t>(x.size()); ++bin) {
      double mean = 0.0;
      for (std::ptrdiff_t offset = -half; offset <= half; ++offset) mean += y[bin + offset];
      if (mean > highest) {
        highest = mean;
        top = static_cast<std::size_t>(bin);
      }
    }
    PeakFit fit;
    for (const double start_px : {1.2, 2.5}) {
      fit = fit_peak({x, y, {}, n, {}}, x[top], std::min(start_px * step_rad[ring], 0.5 * reach), true);
      if (fit.good) break;
    }
    profile.told = true;
    take(ring, fit);
  }

  // The lines' width: the median over rings, in pixels; rings much off it are merged ones, or no rings.
  std::vector<double> widths;
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    if (result.profiles[ring].seen && lines.foreign[ring] == 0)
      widths.push_back(result.profiles[ring].sigma_rad / step_rad[ring]);
  }
  if (widths.empty()) return result;
  result.line_sigma_px = median_of(widths);
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    if (half_gap[ring] < 0.5 * resolved_sigmas * result.line_sigma_px * step_rad[ring])
      result.profiles[ring].told = false;
  }

  std::vector<double> shifts_px;
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    if (result.profiles[ring].seen && result.profiles[ring].told && lines.foreign[ring] == 0)
      shifts_px.push_back(result.profiles[ring].shift_rad / step_rad[ring]);
  }
  const double common_shift_px = median_of(shifts_px);

  // Again with the neighbours' tails: three sweeps, since each needs the others' heights.
  const auto neighbours_of = [&](std::size_t ring) {
    std::vector<PeakNeighbour> neighbours;
    const RingProfile& profile = result.profiles[ring];
    for (std::size_t other = ring > 4 ? ring - 4 : 0; other < std::min(ring + 5, ring_count); ++other) {
      const RingProfile& beside = result.profiles[other];
      double offset = rings_rad[other] - rings_rad[ring];
      // The calibrant's rings are all off alike; another line is where it is found.
      if (lines.foreign[ring] != lines.foreign[other]) offset += beside.shift_rad - profile.shift_rad;
      if (other == ring || !beside.seen || !beside.told || std::abs(offset) > tail_sigmas * profile.sigma_rad) continue;
      neighbours.push_back({offset, beside.amplitude / profile.amplitude});
    }
    return neighbours;
  };
  constexpr int sweeps = 3;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (std::size_t ring = 0; ring < ring_count; ++ring) {
      RingProfile& profile = result.profiles[ring];
      if (!profile.told) continue;
      if (!profile.seen) {
        // Drawn to a neighbour's flank, or not there at all: it is looked for where the others say that it is.
        profile.shift_rad = common_shift_px * step_rad[ring];
        profile.sigma_rad = result.line_sigma_px * step_rad[ring];
        profile.amplitude = 1.0;  // neighbours_of() then gives their heights in counts
      }
      const std::vector<PeakNeighbour> neighbours = neighbours_of(ring);
      if (neighbours.empty()) continue;
      const Joined& samples = joined[ring];
      std::vector<float> without(samples.y);
      for (const PeakNeighbour& neighbour : neighbours) {
        for (std::size_t bin = 0; bin < without.size(); ++bin) {
          const double away =
              (samples.x[bin] - common_shift_px * step_rad[ring] - neighbour.offset) / profile.sigma_rad;
          without[bin] -= static_cast<float>(neighbour.ratio * profile.amplitude * std::exp(-0.5 * away * away));
        }
      }
      take(ring, fit_peak({samples.x, without, {}, samples.n, {}}, profile.shift_rad, profile.sigma_rad, true));
    }
  }

  double total_length = 0.0;
  const auto used = [&](std::size_t ring) {
    return lines.foreign[ring] == 0 && (settings.max_rings == 0 || lines.ring[ring] < settings.max_rings);
  };
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    RingProfile& profile = result.profiles[ring];
    if (!profile.seen) continue;
    const double sigma = std::max(profile.sigma_rad, 0.5 * result.line_sigma_px * step_rad[ring]);
    profile.resolved = true;
    for (std::size_t other = ring > 3 ? ring - 3 : 0; other < std::min(ring + 4, ring_count); ++other) {
      if (other == ring) continue;
      const double gap = std::abs(rings_rad[other] - rings_rad[ring]);
      // A neighbour too close to have been looked at separately counts as seen.
      const bool there = !result.profiles[other].told ||
                         (result.profiles[other].seen && result.profiles[other].amplitude > 0.003 * profile.amplitude);
      const double least = result.profiles[other].told ? resolved_sigmas : 2.0 * resolved_sigmas;
      if (there && gap < least * sigma) profile.resolved = false;
    }
    if (profile.sigma_rad > merged_width * result.line_sigma_px * step_rad[ring]) profile.resolved = false;
  }

  // A line that hides under a ring bends its profile. How far profiles are off in height at all (grains, lines that are
  // no Gaussians) the best ones tell; what is four times that has something under it.
  std::vector<double> misfits_of_rings;
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    const RingProfile& profile = result.profiles[ring];
    if (profile.resolved && used(ring)) misfits_of_rings.push_back(profile.amplitude_error / profile.amplitude);
  }
  constexpr std::size_t fewest_to_compare = 4;
  double most_misfit = std::numeric_limits<double>::infinity();
  if (misfits_of_rings.size() >= fewest_to_compare) {
    std::nth_element(misfits_of_rings.begin(), misfits_of_rings.begin() + 1, misfits_of_rings.end());
    most_misfit = 4.0 * misfits_of_rings[1];
  }
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    RingProfile& profile = result.profiles[ring];
    const double scatter = profile.amplitude_error / profile.amplitude;
    const double counting = 1.0 / profile.clearness;
    constexpr double chance = 1.8;  // of some 50 bins, three standard deviations of chi squared
    if (profile.resolved && scatter * scatter > most_misfit * most_misfit + chance * counting * counting)
      profile.resolved = false;
    if (profile.resolved && used(ring)) total_length += profile.length_px;
  }

  // 3. Sectors of some pixels' length; longer on weak rings, and where there would be too many.
  struct Sector {
    std::uint32_t ring = 0;
    std::size_t first = 0, last = 0;
  };
  constexpr double shortest_arc_px = 12.0;
  const double arc_px = std::max(shortest_arc_px, total_length / static_cast<double>(settings.most_points));
  // A part of each sector is enough to find the geometry that the last points are looked for with.
  const double taken_share = settings.in_parts ? std::min(1.0, 2.0 * shortest_arc_px / arc_px) : 1.0;
  std::vector<std::vector<Sector>> of_rings(ring_count);
  std::vector<NearPixel> ordered(sorted.size());  // by ring and sector
#pragma omp parallel for schedule(dynamic)
  for (std::uint32_t ring = 0; ring < ring_count; ++ring) {
    const RingProfile& profile = result.profiles[ring];
    if (!profile.resolved || !used(ring)) continue;
    const double clearness = profile.clearness * std::sqrt(arc_px / profile.length_px);
    constexpr double wanted_clearness = 12.0;
    const double longer = std::clamp(std::pow(wanted_clearness / clearness, 2), 1.0, 10.0);
    // Length along the ring of one radian of azimuth, in pixels: sin(2theta) |ray|, with the ray from what one step is.
    const double radius_px = std::sin(rings_rad[ring]) / step_rad[ring];
    const double sector_rad =
        std::clamp(arc_px * longer / radius_px, 2.0 * std::numbers::pi / 20000.0, std::numbers::pi / 6.0);
    const double half_width =
        std::min(half_gap[ring], 4.0 * profile.sigma_rad + std::abs(profile.shift_rad) + step_rad[ring]);
    // Counted, then put in their places: the order within a sector stays that of the image.
    const auto sectors_around = static_cast<std::size_t>(2.0 * std::numbers::pi / sector_rad) + 2;
    constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
    const auto sector_of = [&](const NearPixel& pixel) {
      const double place = (static_cast<double>(pixel.chi_rad) + std::numbers::pi) / sector_rad;
      const double sector = std::floor(place);
      if (!(std::abs(static_cast<double>(pixel.distance_rad)) < half_width) || place - sector > taken_share)
        return none;
      return std::min(static_cast<std::size_t>(std::max(sector, 0.0)), sectors_around - 1);
    };
    std::vector<std::size_t> starts(sectors_around + 1, 0);
    for (std::size_t pixel = first[ring]; pixel < first[ring + 1]; ++pixel) {
      if (const std::size_t sector = sector_of(sorted[pixel]); sector != none) ++starts[sector + 1];
    }
    starts[0] = first[ring];
    for (std::size_t sector = 0; sector < sectors_around; ++sector) starts[sector + 1] += starts[sector];
    // What a whole sector has, a third of it is enough to try.
    const double whole = taken_share * arc_px * longer * 2.0 * half_width / step_rad[ring];
    for (std::size_t sector = 0; sector < sectors_around; ++sector) {
      if (static_cast<double>(starts[sector + 1] - starts[sector]) <= std::max(0.33 * whole, 1.0)) continue;
      of_rings[ring].push_back({ring, starts[sector], starts[sector + 1]});
      ++result.tried[ring];
    }
    for (std::size_t pixel = first[ring]; pixel < first[ring + 1]; ++pixel) {
      if (const std::size_t sector = sector_of(sorted[pixel]); sector != none)
        ordered[starts[sector]++] = sorted[pixel];
    }
  }
  sorted.swap(ordered);
  std::vector<Sector> sectors;
  for (const auto& some : of_rings) sectors.insert(sectors.end(), some.begin(), some.end());

  // 4. A peak for each sector.
  std::vector<std::vector<PeakNeighbour>> neighbours(ring_count);
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    if (result.profiles[ring].resolved) neighbours[ring] = neighbours_of(ring);
  }
  std::vector<RingSector> found(sectors.size());
  std::vector<char> good(sectors.size(), 0);
  std::vector<double> misfits(sectors.size(), 0.0);
#pragma omp parallel
  {
    std::vector<float> x, y, factor;
#pragma omp for schedule(dynamic, 32)
    for (std::size_t index = 0; index < sectors.size(); ++index) {
      const Sector& sector = sectors[index];
      const RingProfile& profile = result.profiles[sector.ring];
      x.clear(), y.clear(), factor.clear();
      double mean_factor = 0.0;
      for (std::size_t pixel = sector.first; pixel < sector.last; ++pixel) mean_factor += sorted[pixel].factor;
      mean_factor /= static_cast<double>(sector.last - sector.first);
      for (std::size_t pixel = sector.first; pixel < sector.last; ++pixel) {
        x.push_back(sorted[pixel].distance_rad);
        y.push_back(counts[sorted[pixel].pixel]);
        factor.push_back(static_cast<float>(sorted[pixel].factor / mean_factor));
      }
      const double skew = skew_at(sorted[(sector.first + sector.last) / 2].pixel, profile.sigma_rad);
      const PeakFit fit =
          fit_peak({x, y, factor, {}, neighbours[sector.ring], skew}, profile.shift_rad, profile.sigma_rad, true);
      if (!fit.good || fit.sigma < 0.5 * profile.sigma_rad || fit.sigma > 2.0 * profile.sigma_rad) continue;
      if (std::abs(fit.place - profile.shift_rad) > 3.0 * profile.sigma_rad) continue;
      // The peak's middle along the ring, then onto its top across it.
      double row = 0.0, column = 0.0, weights = 0.0, sin_chi = 0.0, cos_chi = 0.0;
      for (std::size_t pixel = sector.first; pixel < sector.last; ++pixel) {
        const double t = (sorted[pixel].distance_rad - fit.place) / fit.sigma;
        const double weight = std::exp(-0.5 * t * t);
        row += weight * (sorted[pixel].pixel / columns + 0.5);
        column += weight * (sorted[pixel].pixel % columns + 0.5);
        sin_chi += weight * std::sin(sorted[pixel].chi_rad);
        cos_chi += weight * std::cos(sorted[pixel].chi_rad);
        weights += weight;
      }
      row /= weights;
      column /= weights;
      const double wanted = rings_rad[sector.ring] + fit.place;
      double slope = 0.0;
      for (int round = 0; round < 3; ++round) {
        const auto [down, right] = slope_at(row, column);
        slope = std::hypot(down, right);
        const double missing = wanted - integrator::two_theta_rad(pixels, row, column);
        row += missing * down / (slope * slope);
        column += missing * right / (slope * slope);
      }
      // A pixel's counts are its mean: over it 2theta is, for the ring's bend, 1/24 of the Laplacian more than at its
      // centre (0.4 thousandths of a pixel on a ring of 100 pixels).
      double laplacian = -4.0 * integrator::two_theta_rad(pixels, row, column);
      laplacian +=
          integrator::two_theta_rad(pixels, row + 1.0, column) + integrator::two_theta_rad(pixels, row - 1.0, column) +
          integrator::two_theta_rad(pixels, row, column + 1.0) + integrator::two_theta_rad(pixels, row, column - 1.0);
      const double bend = laplacian / 24.0;
      {
        const auto [down, right] = slope_at(row, column);
        row += bend * down / (slope * slope);
        column += bend * right / (slope * slope);
      }
      if (!(row > 0.0 && row < rows && column > 0.0 && column < columns)) continue;
      RingSector& one = found[index];
      one.point.ring = sector.ring;
      one.point.row = row;
      one.point.column = column;
      // Grains within the sector, or lines under this one, make the misfit larger than counting does.
      const double chance = 1.0 + 2.0 * std::sqrt(2.0 / static_cast<double>(x.size()));
      misfits[index] = fit.reduced_chi_squared;
      const double error_rad =
          fit.place_error * (fit.reduced_chi_squared > chance ? std::sqrt(fit.reduced_chi_squared) : 1.0);
      one.point.sigma_rad = error_rad;
      one.point.residual_rad = fit.place + bend;
      one.chi_rad = std::atan2(sin_chi, cos_chi);
      one.amplitude = fit.amplitude / mean_factor;
      one.sigma_px = error_rad / slope;
      good[index] = 1;
    }
  }
  // Counts that were averaged or scaled fit better than counts can.
  std::vector<double> of_good;
  for (std::size_t index = 0; index < found.size(); ++index) {
    if (good[index] != 0) of_good.push_back(misfits[index]);
  }
  constexpr double too_good = 0.7;
  const double misfit = median_of(of_good);
  const double scale = misfit < too_good ? std::sqrt(std::max(misfit, 1e-6)) : 1.0;
  for (std::size_t index = 0; index < found.size(); ++index) {
    if (good[index] == 0) continue;
    found[index].point.sigma_rad *= scale;
    found[index].sigma_px *= scale;
    result.sectors.push_back(found[index]);
  }
  return result;
}

}  // namespace

ExtractedRings extract_rings(std::span<const float> counts, std::span<const std::uint8_t> mask,
                             const integrator::Geometry& geometry, std::span<const double> rings_rad,
                             const ExtractionSettings& settings) {
  const LineList lines = joined_lines(rings_rad, settings.foreign_rad);
  ExtractedRings all = extract_lines(counts, mask, geometry, lines, settings);
  if (settings.foreign_rad.empty()) return all;
  ExtractedRings own;
  own.line_sigma_px = all.line_sigma_px;
  for (std::size_t line = 0; line < lines.angles_rad.size(); ++line) {
    if (lines.foreign[line] != 0) continue;
    own.profiles.push_back(all.profiles[line]);
    own.profiles.back().ring = lines.ring[line];
    own.tried.push_back(all.tried[line]);
  }
  own.sectors = std::move(all.sectors);
  for (RingSector& sector : own.sectors) sector.point.ring = lines.ring[sector.point.ring];
  return own;
}

double polarisation_of(const ExtractedRings& rings, std::span<const double> rings_rad) {
  // Each ring's amplitudes are B (1 + c^2 - F (1 - c^2) cos 2chi): B and B F by least squares, F from all rings by
  // their errors. The amplitudes have the solid angle and that of no polarisation, 1 + c^2, taken out.
  double sum = 0.0, weights = 0.0;
  for (std::size_t first = 0; first < rings.sectors.size();) {
    std::size_t last = first;
    const std::uint32_t ring = rings.sectors[first].point.ring;
    double n = 0.0, x = 0.0, xx = 0.0, y = 0.0, xy = 0.0;
    for (; last < rings.sectors.size() && rings.sectors[last].point.ring == ring; ++last) {
      const double azimuth = std::cos(2.0 * rings.sectors[last].chi_rad);
      n += 1.0;
      x += azimuth;
      xx += azimuth * azimuth;
      y += rings.sectors[last].amplitude;
      xy += azimuth * rings.sectors[last].amplitude;
    }
    first = last;
    const double spread = n * xx - x * x;
    if (n < 10.0 || spread <= 1e-3 * n * n) continue;
    const double slope = (n * xy - x * y) / spread;
    const double mean = (y - slope * x) / n;
    const double cosine_squared = std::pow(std::cos(rings_rad[ring]), 2);
    const double lever = (1.0 - cosine_squared) / (1.0 + cosine_squared);
    if (!(mean > 0.0) || lever < 1e-4) continue;
    const double weight = spread / n * lever * lever;
    sum += weight * (-slope / mean / lever);
    weights += weight;
  }
  // Where the rings tell little (small angles, where it moves nothing either, or arcs), it is as at synchrotrons.
  constexpr double usual = 0.95;
  constexpr double usual_weight = 0.05;
  return std::clamp((sum + usual_weight * usual) / (weights + usual_weight), -1.0, 1.0);
}

}  // namespace annulus::calibration
