// Random numbers of the simulation: one generator a frame, and exact Poisson counts.
//
// A frame's generator follows from (seed, frame) alone, so the data are the same for any number of ranks and threads.
// Everything is in the header because a count costs less than a function call would add per pixel.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

namespace annulus::simulation {

/// One step of splitmix64 (Steele, Lea and Flood, doi:10.1145/2660193.2660195): advances `state`, returns 64 mixed
/// bits.
[[nodiscard]] constexpr std::uint64_t splitmix64(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15U;
  std::uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
  return mixed ^ (mixed >> 31);
}

/// xoshiro256++ 1.0 (Blackman and Vigna, doi:10.1145/3460772): period 2^256 - 1, 1 ns a number.
class Random {
 public:
  /// The generator of stream `stream` under `seed`. Streams are far apart: both numbers are mixed before they meet, so
  /// (1, 2) and (2, 1), or neighbours, share no state.
  Random(std::uint64_t seed, std::uint64_t stream) {
    std::uint64_t mix = splitmix64(seed);
    mix = std::rotl(mix, 32) ^ splitmix64(stream);
    for (std::uint64_t& word : state_) word = splitmix64(mix);
  }

  [[nodiscard]] std::uint64_t bits() {
    const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, 1), 53 bits.
  [[nodiscard]] double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// Uniform in [0, bound), bound < 2^32: the high part of number * bound (Lemire, doi:10.1145/3230636); its bias is
  /// below bound / 2^64.
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t number = bits();
    const std::uint64_t high = (number >> 32) * bound;
    return (high + (((number & 0xffffffffU) * bound) >> 32)) >> 32;
  }

  /// Standard normal (Box and Muller, doi:10.1214/aoms/1177706645); the second of the pair is not kept.
  [[nodiscard]] double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::array<std::uint64_t, 4> state_{};
};

/// log(k!): Stirling's series to k^-7, whose error from k = 10 on is below 1e-12; smaller k by the product itself.
/// std::lgamma would do, but writes a global (signgam) and so must not run in several threads.
[[nodiscard]] inline double log_factorial(double k) {
  if (k < 10.0) {
    double product = 1.0;
    for (double factor = 2.0; factor <= k; factor += 1.0) product *= factor;
    return std::log(product);
  }
  constexpr double half_log_two_pi = 0.91893853320467274178;
  const double inverse = 1.0 / k;
  const double square = inverse * inverse;
  const double series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
  return (k + 0.5) * std::log(k) - k + half_log_two_pi + series;
}

/// A Poisson count of mean >= 10 by transformed rejection with squeeze, algorithm PTRS of W. Hoermann, Insurance:
/// Mathematics and Economics 12 (1993) 39, doi:10.1016/0167-6687(93)90997-4; the constants are his.
[[nodiscard]] inline std::uint64_t poisson_by_rejection(Random& random, double mean) {
  const double b = 0.931 + 2.53 * std::sqrt(mean);
  const double a = -0.059 + 0.02483 * b;
  const double squeeze = 0.9277 - 3.6224 / (b - 2.0);
  for (;;) {
    const double u = random.uniform() - 0.5;
    const double v = random.uniform();
    const double edge = 0.5 - std::abs(u);
    const double count = std::floor((2.0 * a / edge + b) * u + mean + 0.43);
    if (edge >= 0.07 && v <= squeeze) return static_cast<std::uint64_t>(count);
    if (count < 0.0 || (edge < 0.013 && v > edge)) continue;
    const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    if (std::log(v * inverse_alpha / (a / (edge * edge) + b)) <= count * std::log(mean) - mean - log_factorial(count)) {
      return static_cast<std::uint64_t>(count);
    }
  }
}

/// Poisson counts of any mean, exact in distribution: no step approximates (tables hold probabilities to 2^-48).
///
/// A mean below 64 is cut in two, mean = g / 4 + rest. The count of g / 4 comes from a table made ready for each g, by
/// A. J. Walker's alias method (doi:10.1145/355744.355749): one number, one look-up. The count of the rest is a count
/// of mean 1/4, of which each event is kept with probability rest / (1/4); in 78 of 100 cases it is zero at once. The
/// sum of independent Poisson counts is a Poisson count. So neither exp nor log is needed, and a count costs a third of
/// what it costs by inversion or rejection. Means of 64 to 1024 give their multiple of 64 to one more such table first;
/// larger ones go through poisson_by_rejection().
///
/// Tables: 0.5 MB, made in some ms. Const, and shared by all threads.
class PoissonSampler {
 public:
  PoissonSampler() {
    tables_.reserve(fine_tables + coarse_tables);
    for (std::size_t table = 0; table < fine_tables; ++table) append_table(static_cast<double>(table) * step);
    for (std::size_t table = 0; table < coarse_tables; ++table) {
      append_table(static_cast<double>(table + 1) * coarse_step);
    }
    double probability = std::exp(-step);
    double sum = 0.0;
    for (std::size_t count = 0; count < rest_cumulative_.size(); ++count) {
      sum += probability;
      rest_cumulative_[count] = sum;
      probability *= step / static_cast<double>(count + 1);
    }
  }

  /// A count of the given mean; a mean that is not above zero gives 0.
  [[nodiscard]] std::uint64_t operator()(Random& random, double mean) const {
    if (mean >= largest) return poisson_by_rejection(random, mean);
    if (!(mean > 0.0)) return 0;
    std::uint64_t coarse = 0;
    if (mean >= coarse_step) {
      const auto multiple = static_cast<std::uint32_t>(mean * (1.0 / coarse_step));
      coarse = from_table(random, tables_[fine_tables + multiple - 1]);
      mean -= multiple * coarse_step;
    }
    const double steps = mean * (1.0 / step);
    const auto whole = static_cast<std::uint32_t>(steps);
    return coarse + from_table(random, tables_[whole]) + of_rest(random, steps - whole);
  }

 private:
  static constexpr double step = 0.25;
  static constexpr double coarse_step = 64.0;
  static constexpr double largest = 1024.0;
  static constexpr std::size_t fine_tables = static_cast<std::size_t>(coarse_step / step);
  static constexpr std::size_t coarse_tables = static_cast<std::size_t>(largest / coarse_step) - 1;

  /// 2^n cells of the counts lowest, lowest + 1, ...
  struct Table {
    std::uint32_t begin;
    std::uint16_t index_mask;
    std::uint16_t lowest;
  };

  /// A cell of the alias table: the share (of 2^48) of its own count above 16 bits of the other count's index.
  [[nodiscard]] std::uint64_t from_table(Random& random, Table table) const {
    const std::uint64_t number = random.bits();
    const std::uint64_t index = number & table.index_mask;
    const std::uint64_t cell = cells_[table.begin + index];
    return table.lowest + ((number >> 16) < (cell >> 16) ? index : cell & 0xffffU);
  }

  /// A count of mean `share` * step, 0 <= share < 1, by thinning a count of mean `step`.
  [[nodiscard]] std::uint64_t of_rest(Random& random, double share) const {
    const double number = random.uniform();
    if (number < rest_cumulative_[0]) return 0;
    std::size_t events = 1;
    while (events + 1 < rest_cumulative_.size() && number >= rest_cumulative_[events]) ++events;
    std::uint64_t kept = 0;
    for (std::size_t event = 0; event < events; ++event) kept += random.uniform() < share ? 1U : 0U;
    return kept;
  }

  void append_table(double mean) {
    // Nine standard deviations and a margin for the skew of small means leave less than 2^-53 outside.
    const double reach = 9.0 * std::sqrt(mean) + 18.0;
    const double lowest = std::max(0.0, std::floor(mean - reach));
    const auto counts = static_cast<std::size_t>(mean + reach - lowest) + 1;
    const std::size_t cells = std::bit_ceil(counts);
    std::vector<double> share(cells, 0.0);  // probability times number of cells: 1 on average
    for (std::size_t index = 0; index < cells; ++index) {
      const double count = lowest + static_cast<double>(index);
      const double log_probability = mean > 0.0 ? count * std::log(mean) - mean - log_factorial(count) : 0.0;
      if (mean > 0.0 || count == 0.0) share[index] = std::exp(log_probability) * static_cast<double>(cells);
    }

    const std::size_t begin = cells_.size();
    tables_.push_back(
        {static_cast<std::uint32_t>(begin), static_cast<std::uint16_t>(cells - 1), static_cast<std::uint16_t>(lowest)});
    cells_.resize(begin + cells);
    // Vose's filling (doi:10.1109/32.92917): each cell with less than its share is topped up from one that has more.
    std::vector<std::size_t> poor;
    std::vector<std::size_t> rich;
    for (std::size_t index = 0; index < cells; ++index) (share[index] < 1.0 ? poor : rich).push_back(index);
    while (!poor.empty() && !rich.empty()) {
      const std::size_t taker = poor.back();
      const std::size_t giver = rich.back();
      poor.pop_back();
      cells_[begin + taker] = static_cast<std::uint64_t>(share[taker] * 0x1p48) << 16 | giver;
      share[giver] -= 1.0 - share[taker];
      if (share[giver] < 1.0) {
        rich.pop_back();
        poor.push_back(giver);
      }
    }
    // What is left differs from a full cell by rounding alone: such a cell names itself.
    for (const std::size_t index : poor) cells_[begin + index] = index;
    for (const std::size_t index : rich) cells_[begin + index] = index;
  }

  std::vector<Table> tables_;
  std::vector<std::uint64_t> cells_;
  std::array<double, 16> rest_cumulative_{};  ///< P(count of mean `step` <= k); beyond the last: 1e-23
};

}  // namespace annulus::simulation
