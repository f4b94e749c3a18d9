// One bin's sums from its pixels, one after the other: what clips outliers, takes medians, or must follow pyFAI's order
// of summation. The host backends share it; kernels/opencl/bin_statistics.cl does the same on a device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include "base/errors.hpp"
#include "kernels/engine.hpp"

namespace annulus::kernels {

/// One pixel in one bin of one frame.
struct BinEntry {
  double weight = 0.0;         ///< c, the share
  double signal = 0.0;         ///< s = x - d
  double normalisation = 0.0;  ///< w, without the monitor
  double variance = 0.0;       ///< v of the error model; of no part for azimuthal variance
};

/// The sums S, N, V, W of engine.hpp for monitor 1.
struct BinSums {
  double signal = 0.0;
  double normalisation = 0.0;
  double variance = 0.0;
  double square = 0.0;
  double count = 0.0;  ///< sum of the shares
};

/// How the variance of a sum is found.
enum class Variance : std::uint8_t {
  given,       ///< sum c^2 v
  scatter,     ///< sum c^2 (s - w I)^2 with the final I
  sequential,  ///< pyFAI's: each pixel against the means before and after it; depends on the order
};

/// Without an error model outliers are found by the scatter, as with `hybrid`.
[[nodiscard]] inline Variance variance_of(ErrorModel model, Convention convention, bool clipping) {
  const bool scatter =
      model == ErrorModel::azimuthal || (clipping && (model == ErrorModel::hybrid || model == ErrorModel::no));
  if (!scatter) return Variance::given;
  return convention == Convention::pyfai ? Variance::sequential : Variance::scatter;
}

/// Sums the entries that `keep` says yes to, in order.
template <typename Keep>
[[nodiscard]] inline BinSums sum_entries(std::span<const BinEntry> entries, Variance variance, Keep&& keep) {
  BinSums sums;
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const BinEntry& entry = entries[index];
    if (entry.weight == 0.0 || !keep(index)) continue;
    const double share = entry.weight * entry.normalisation;
    if (variance == Variance::sequential && sums.square > 0.0) {
      const double value = entry.signal / entry.normalisation;
      const double before = sums.signal / sums.normalisation - value;
      sums.signal += entry.weight * entry.signal;
      sums.normalisation += share;
      sums.variance += share * share * before * (sums.signal / sums.normalisation - value);
    } else {
      sums.signal += entry.weight * entry.signal;
      sums.normalisation += share;
      if (variance == Variance::given) sums.variance += entry.weight * entry.weight * entry.variance;
    }
    sums.square += share * share;
    sums.count += entry.weight;
  }
  if (variance != Variance::scatter || sums.normalisation == 0.0) return sums;
  const double mean = sums.signal / sums.normalisation;
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const BinEntry& entry = entries[index];
    if (entry.weight == 0.0 || !keep(index)) continue;
    const double deviation = entry.weight * (entry.signal - entry.normalisation * mean);
    sums.variance += deviation * deviation;
  }
  return sums;
}

/// Chauvenet's criterion, or the user's threshold where that is wider.
[[nodiscard]] inline double clip_width(double threshold, double count) {
  return std::max(threshold, std::sqrt(2.0 * std::log(std::max(3.0, count) / std::sqrt(2.0 * std::numbers::pi))));
}

/// How far from the mean is too far: `width` standard deviations, and what rounding can make of no distance at all, as
/// in a bin of one pixel, or of the limit itself, as in a bin of two.
[[nodiscard]] inline double clip_limit(double width, double standard_deviation, double mean) {
  return (1.0 + 1e-9) * width * standard_deviation + 1e-12 * std::abs(mean);
}

/// The sums without outliers. `dropped` is scratch.
[[nodiscard]] inline BinSums clip_outliers(std::span<const BinEntry> entries, const SigmaClip& clip, ErrorModel model,
                                           Convention convention, std::vector<std::uint8_t>& dropped) {
  dropped.assign(entries.size(), 0);
  const auto kept = [&](std::size_t index) { return dropped[index] == 0; };
  const Variance clipping = variance_of(model, convention, true);
  const Variance final_variance = variance_of(model, convention, false);
  BinSums sums = sum_entries(entries, clip.cycles > 0 ? clipping : final_variance, kept);
  for (std::uint32_t cycle = 0; cycle < clip.cycles; ++cycle) {
    if (sums.normalisation == 0.0 || sums.count == 0.0 || !(sums.square > 0.0)) break;
    const double mean = sums.signal / sums.normalisation;
    const double limit =
        clip_limit(clip_width(clip.threshold, sums.count), std::sqrt(sums.variance / sums.square), mean);
    bool more = false;
    for (std::size_t index = 0; index < entries.size(); ++index) {
      const BinEntry& entry = entries[index];
      if (entry.weight == 0.0 || dropped[index] != 0) continue;
      if (std::abs(entry.signal / entry.normalisation - mean) > limit) {
        dropped[index] = 1;
        more = true;
      }
    }
    if (!more && clipping == final_variance) break;
    const bool last = !more || cycle + 1 == clip.cycles;
    sums = sum_entries(entries, last ? final_variance : clipping, kept);
    if (!more) break;
  }
  return sums;
}

/// The sums of the pixels between two quantiles of the normalisation. `order` and `kept` are scratch.
[[nodiscard]] inline BinSums sum_quantiles(std::span<const BinEntry> entries, const QuantileRange& quantiles,
                                           ErrorModel model, Convention convention, std::vector<std::uint32_t>& order,
                                           std::vector<std::uint8_t>& kept) {
  const bool pyfai = convention == Convention::pyfai;
  order.clear();
  for (std::uint32_t index = 0; index < entries.size(); ++index) {
    if (entries[index].weight != 0.0) order.push_back(index);
  }
  // float32 keys, as pyFAI sorts by them; equal ones in the order of the pixels.
  const auto key = [&](std::uint32_t index) {
    return static_cast<float>(entries[index].signal / entries[index].normalisation);
  };
  std::sort(order.begin(), order.end(), [&](std::uint32_t left, std::uint32_t right) {
    const float a = key(left);
    const float b = key(right);
    return a < b || (a == b && left < right);
  });
  double total = 0.0;
  for (const std::uint32_t index : order) total += entries[index].weight * entries[index].normalisation;
  // Rounding must not decide at a tie: sums of 10^5 float64 terms are good to 10^-11. pyFAI's are float32 there.
  const double slack = pyfai ? 0.0 : 1e-10 * std::abs(total);
  const double low = pyfai ? static_cast<float>(quantiles.lower * total) : quantiles.lower * total;
  const double high = pyfai ? static_cast<float>(quantiles.upper * total) : quantiles.upper * total;
  kept.assign(entries.size(), 0);
  double reached = 0.0;
  double before = 0.0;
  for (const std::uint32_t index : order) {
    reached += entries[index].weight * entries[index].normalisation;
    const double after = pyfai ? static_cast<float>(reached) : reached;
    const bool between = low <= before + slack && after <= high + slack;
    const bool around = low >= before - slack && high <= after + slack;
    kept[index] = between || around ? 1 : 0;
    before = after;
  }
  const bool scatter = model == ErrorModel::azimuthal && !pyfai;  // pyFAI has no azimuthal variance here
  return sum_entries(entries, scatter ? Variance::scatter : Variance::given,
                     [&](std::size_t index) { return kept[index] != 0; });
}

/// The sums of a bin by any filter; the last two arguments are scratch.
[[nodiscard]] inline BinSums filtered_sums(std::span<const BinEntry> entries, const OutlierFilter& filter,
                                           ErrorModel model, Convention convention, std::vector<std::uint32_t>& order,
                                           std::vector<std::uint8_t>& flags) {
  if (const auto* clip = std::get_if<SigmaClip>(&filter)) {
    return clip_outliers(entries, *clip, model, convention, flags);
  }
  if (const auto* quantiles = std::get_if<QuantileRange>(&filter)) {
    return sum_quantiles(entries, *quantiles, model, convention, order, flags);
  }
  return sum_entries(entries, variance_of(model, convention, false), [](std::size_t) { return true; });
}

/// Writes one bin's results from its sums for monitor 1; an empty bin is 0.
inline void write_bin(double signal, double normalisation, double variance, double square, double monitor,
                      const Patterns& patterns, std::size_t place) {
  const double divisor = monitor * normalisation;
  const bool empty = divisor == 0.0;
  patterns.intensity[place] = empty ? 0.0F : static_cast<float>(signal / divisor);
  if (patterns.sem.empty() && patterns.std.empty()) return;
  const double deviation = std::sqrt(std::max(variance, 0.0));
  if (!patterns.sem.empty()) patterns.sem[place] = empty ? 0.0F : static_cast<float>(deviation / std::abs(divisor));
  if (!patterns.std.empty()) {
    patterns.std[place] = empty ? 0.0F : static_cast<float>(deviation / (std::abs(monitor) * std::sqrt(square)));
  }
}

/// What every engine asks of its arguments.
inline void expect_sizes(const Corrections& corrections, std::size_t pixels) {
  ANNULUS_EXPECT(corrections.normalisation.size() == pixels);
  ANNULUS_EXPECT(corrections.dark.empty() || corrections.dark.size() == pixels);
  ANNULUS_EXPECT(corrections.variance.size() == (corrections.error_model == ErrorModel::variance ? pixels : 0));
}
inline void expect_sizes(const FrameBatch& batch, std::span<const double> monitor, const Patterns& patterns,
                         ErrorModel model, std::size_t pixels, std::size_t rows) {
  ANNULUS_EXPECT(batch.frames > 0 && batch.pixels == pixels && monitor.size() == batch.frames);
  ANNULUS_EXPECT(patterns.intensity.size() == batch.frames * rows);
  ANNULUS_EXPECT(patterns.sem.empty() || patterns.sem.size() == patterns.intensity.size());
  ANNULUS_EXPECT(patterns.std.empty() || patterns.std.size() == patterns.intensity.size());
  ANNULUS_EXPECT(model != ErrorModel::no || (patterns.sem.empty() && patterns.std.empty()));
}

}  // namespace annulus::kernels
