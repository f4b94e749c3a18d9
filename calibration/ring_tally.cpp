#include "calibration/ring_tally.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/errors.hpp"

namespace annulus::calibration {
namespace {

/// From sin(theta) to a length across the rings in the detection's pixels, which is even on every detector.
class Radius {
 public:
  Radius(const RidgeMap& ridges, std::span<const float> sines) {
    float lowest = std::numeric_limits<float>::infinity(), highest = 0.0F;
    for (std::size_t pixel = 0; pixel < sines.size(); ++pixel) {
      if (ridges.weights[pixel] <= 0.0F) continue;
      lowest = std::min(lowest, sines[pixel]);
      highest = std::max(highest, sines[pixel]);
    }
    lowest_ = lowest;
    if (!(highest > lowest)) return;
    inverse_cell_ = static_cast<double>(cells) / (static_cast<double>(highest) - lowest);
    // Some thousand pixels tell the mean slope in each cell.
    std::array<double, cells> slope_sums{}, counts{};
    constexpr std::size_t stride = 3;
    for (std::size_t row = 0; row + 1 < ridges.rows; row += stride) {
      for (std::size_t column = 0; column + 1 < ridges.columns; column += stride) {
        const std::size_t pixel = row * ridges.columns + column;
        if (ridges.weights[pixel] <= 0.0F) continue;
        const double slope = std::hypot(sines[pixel + 1] - sines[pixel], sines[pixel + ridges.columns] - sines[pixel]);
        const std::size_t cell = cell_of(sines[pixel]);
        slope_sums[cell] += slope;
        counts[cell] += 1.0;
      }
    }
    double last_slope = 0.0;
    for (std::size_t cell = 0; cell < cells && last_slope == 0.0; ++cell) {
      if (counts[cell] > 0.0) last_slope = slope_sums[cell] / counts[cell];
    }
    if (last_slope <= 0.0) return;
    for (std::size_t cell = 0; cell < cells; ++cell) {
      if (counts[cell] > 0.0 && slope_sums[cell] > 0.0) last_slope = slope_sums[cell] / counts[cell];
      edges_[cell + 1] = edges_[cell] + 1.0 / (inverse_cell_ * last_slope);
    }
  }

  [[nodiscard]] double length() const { return edges_[cells]; }
  /// Length from the innermost pixel; beyond the detector it goes on as at its edge.
  [[nodiscard]] double operator()(double sine) const {
    const std::size_t cell = cell_of(sine);
    const double place = (sine - lowest_) * inverse_cell_ - static_cast<double>(cell);
    return edges_[cell] + place * (edges_[cell + 1] - edges_[cell]);
  }

 private:
  static constexpr std::size_t cells = 128;
  [[nodiscard]] std::size_t cell_of(double sine) const {
    const double place = std::clamp((sine - lowest_) * inverse_cell_, 0.0, static_cast<double>(cells - 1));
    return static_cast<std::size_t>(place);
  }

  double lowest_ = 0.0;
  double inverse_cell_ = 0.0;
  std::array<double, cells + 1> edges_{};
};

constexpr double bin_px = 0.5;
/// A ring is seen when a line's top is within so many bins of it: a geometry found from crests is right to a pixel.
constexpr std::ptrdiff_t tolerance_bins = 2;

/// n times the divergence of Bernoulli distributions: the log-likelihood ratio of the best share to the chance.
double evidence_of(double seen, double listed, double chance) {
  const double share = seen / listed;
  if (share <= chance) return 0.0;
  double sum = seen * std::log(share / chance);
  if (seen < listed) sum += (listed - seen) * std::log((1.0 - share) / (1.0 - chance));
  return sum;
}

}  // namespace

RingTally tally_rings(const RidgeMap& ridges, std::span<const float> sines, std::span<const double> ring_sines) {
  ANNULUS_EXPECT(sines.size() == ridges.roots.size());
  RingTally tally;
  const Radius radius(ridges, sines);
  const auto bins = static_cast<std::ptrdiff_t>(radius.length() / bin_px) + 1;
  constexpr std::ptrdiff_t fewest_bins = 20;
  if (bins < fewest_bins) return tally;

  // Mean root of the counts at each radius: its noise is 1/2 over the root of how many pixels it has.
  struct Bin {
    double sum = 0.0, weight = 0.0, sine = 0.0;
  };
  std::vector<Bin> profile(static_cast<std::size_t>(bins));
  for (std::size_t pixel = 0; pixel < sines.size(); ++pixel) {
    const float weight = ridges.weights[pixel];
    if (weight <= 0.0F) continue;
    const auto place = static_cast<std::ptrdiff_t>(radius(sines[pixel]) / bin_px);
    Bin& bin = profile[static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(place, 0, bins - 1))];
    bin.sum += ridges.roots[pixel];
    bin.weight += weight;
    bin.sine += static_cast<double>(weight) * sines[pixel];
  }

  // Tops of lines: higher than both sides two to three pixels away, by five standard deviations of their mean.
  constexpr std::ptrdiff_t core = 1, near_flank = 4, far_flank = 6;
  constexpr double clear = 5.0;
  const double fewest_counts = 20.0 * ridges.scale_px * ridges.scale_px;
  const auto mean_of = [&](std::ptrdiff_t first, std::ptrdiff_t last) {
    Bin mean;
    for (std::ptrdiff_t bin = first; bin <= last; ++bin) {
      mean.sum += profile[static_cast<std::size_t>(bin)].sum;
      mean.weight += profile[static_cast<std::size_t>(bin)].weight;
    }
    if (mean.weight > 0.0) mean.sum /= mean.weight;
    return mean;
  };
  std::vector<double> height(profile.size(), 0.0);
  std::vector<char> covered(profile.size(), 0), near_top(profile.size(), 0);
  for (std::ptrdiff_t bin = far_flank; bin + far_flank < bins; ++bin) {
    const Bin middle = mean_of(bin - core, bin + core);
    const Bin before = mean_of(bin - far_flank, bin - near_flank);
    const Bin after = mean_of(bin + near_flank, bin + far_flank);
    if (std::min({middle.weight, before.weight, after.weight}) < fewest_counts) continue;
    covered[static_cast<std::size_t>(bin)] = 1;
    const double noise = 0.5 * std::sqrt(1.0 / middle.weight + 0.25 / before.weight + 0.25 / after.weight);
    const double contrast = middle.sum - 0.5 * (before.sum + after.sum);
    if (contrast > clear * noise && middle.sum > std::max(before.sum, after.sum))
      height[static_cast<std::size_t>(bin)] = contrast;
  }
  double possible = 0.0, hits = 0.0;
  std::vector<std::ptrdiff_t> tops;
  for (std::ptrdiff_t bin = far_flank; bin + far_flank < bins; ++bin) {
    const double here = height[static_cast<std::size_t>(bin)];
    if (here <= 0.0 || height[static_cast<std::size_t>(bin - 1)] >= here ||
        height[static_cast<std::size_t>(bin + 1)] > here)
      continue;
    tops.push_back(bin);
    for (std::ptrdiff_t other = bin - tolerance_bins; other <= bin + tolerance_bins; ++other)
      near_top[static_cast<std::size_t>(other)] = 1;
  }
  for (std::size_t bin = 0; bin < profile.size(); ++bin) {
    if (covered[bin] == 0) continue;
    possible += 1.0;
    hits += near_top[bin] != 0 ? 1.0 : 0.0;
  }
  if (possible < 1.0) return tally;
  // Half a hit more and less: no profile is without lines or without place for them.
  tally.chance = (hits + 0.5) / (possible + 1.0);

  // Rings on the list as they can be told: what lies within a tolerance is one, and what has another ring where its
  // flank should be is none.
  constexpr std::size_t fewest_rings = 3;
  std::vector<char> near_ring(profile.size(), 0);
  std::vector<std::ptrdiff_t> places;
  for (const double sine : ring_sines) {
    const auto bin = static_cast<std::ptrdiff_t>(std::floor(radius(sine) / bin_px));
    if (bin < 0) continue;
    if (bin >= bins) break;
    places.push_back(bin);
    for (std::ptrdiff_t other = std::max<std::ptrdiff_t>(bin - tolerance_bins - 1, 0);
         other <= std::min(bin + tolerance_bins + 1, bins - 1); ++other)
      near_ring[static_cast<std::size_t>(other)] = 1;
  }
  for (std::size_t first = 0; first < places.size();) {
    std::size_t last = first + 1;
    while (last < places.size() && places[last] - places[last - 1] < far_flank) ++last;
    const std::ptrdiff_t extent = places[last - 1] - places[first];
    const auto bin = static_cast<std::size_t>((places[first] + places[last - 1]) / 2);
    first = last;
    if (extent > tolerance_bins || covered[bin] == 0) continue;
    ++tally.listed;
    tally.seen += near_top[bin] != 0 ? 1 : 0;
    if (tally.listed >= fewest_rings) {
      tally.evidence = std::max(tally.evidence, evidence_of(static_cast<double>(tally.seen),
                                                            static_cast<double>(tally.listed), tally.chance));
    }
  }
  for (const std::ptrdiff_t top : tops) {
    const Bin& bin = profile[static_cast<std::size_t>(top)];
    if (near_ring[static_cast<std::size_t>(top)] == 0 && bin.weight > 0.0)
      tally.foreign_sines.push_back(bin.sine / bin.weight);
  }
  return tally;
}

}  // namespace annulus::calibration
