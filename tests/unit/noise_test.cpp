#include "simulation/noise.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

namespace annulus::simulation {
namespace {

/// Chi-square of `samples` counts against the Poisson probabilities, cells joined until 20 are expected in each.
struct ChiSquare {
  double value = 0.0;
  double degrees_of_freedom = 0.0;
};

ChiSquare chi_square(const std::vector<std::uint64_t>& samples, double mean) {
  const std::uint64_t highest = *std::max_element(samples.begin(), samples.end());
  std::vector<double> found(highest + 1, 0.0);
  for (const std::uint64_t sample : samples) found[sample] += 1.0;

  const auto total = static_cast<double>(samples.size());
  ChiSquare result;
  double expected_cell = 0.0;
  double found_cell = 0.0;
  double expected_before = 0.0;
  for (std::uint64_t count = 0; count <= highest; ++count) {
    const auto k = static_cast<double>(count);
    expected_cell += total * std::exp(k * std::log(mean) - mean - std::lgamma(k + 1.0));
    found_cell += found[count];
    // The last cell holds all that is above it: it is closed below.
    if (expected_cell >= 20.0 && total - expected_before - expected_cell >= 20.0) {
      result.value += (found_cell - expected_cell) * (found_cell - expected_cell) / expected_cell;
      result.degrees_of_freedom += 1.0;
      expected_before += expected_cell;
      expected_cell = 0.0;
      found_cell = 0.0;
    }
  }
  const double expected_last = total - expected_before;
  result.value += (found_cell - expected_last) * (found_cell - expected_last) / expected_last;
  return result;
}

constexpr std::size_t sample_count = 200000;

class PoissonTest : public ::testing::TestWithParam<double> {
 protected:
  [[nodiscard]] static std::vector<std::uint64_t> draw(double mean) {
    const PoissonSampler poisson;
    Random random(7, 1);
    std::vector<std::uint64_t> samples(sample_count);
    for (std::uint64_t& sample : samples) sample = poisson(random, mean);
    return samples;
  }
};

TEST_P(PoissonTest, MeanAndVarianceAreThoseOfThePoissonLaw) {
  const double mean = GetParam();
  double sum = 0.0;
  double squares = 0.0;
  for (const std::uint64_t sample : draw(mean)) {
    const double difference = static_cast<double>(sample) - mean;
    sum += difference;
    squares += difference * difference;
  }
  // Standard deviations over n samples: of the mean sqrt(m / n), of the variance about m sqrt((m + 3 m^2 - m^2) / n).
  const double n = sample_count;
  EXPECT_NEAR(sum / n, 0.0, 4.5 * std::sqrt(mean / n));
  EXPECT_NEAR(squares / n, mean, 4.5 * std::sqrt((mean + 2.0 * mean * mean) / n));
}

TEST_P(PoissonTest, CountsFollowThePoissonLawByChiSquare) {
  const ChiSquare result = chi_square(draw(GetParam()), GetParam());
  // Chi-square has the variance 2 f. One cell (0 degrees) is possible for no mean in use.
  ASSERT_GE(result.degrees_of_freedom, 1.0);
  EXPECT_LT(std::abs(result.value - result.degrees_of_freedom), 4.5 * std::sqrt(2.0 * result.degrees_of_freedom));
}

// Every branch: below and on a table's mean, the rest near 0 and near 1/4, the coarse tables, rejection, and the edges.
INSTANTIATE_TEST_SUITE_P(Means, PoissonTest,
                         ::testing::Values(0.01, 0.24, 0.25, 0.7, 1.0, 3.1, 9.99, 10.0, 31.4, 63.99, 64.0, 130.2,
                                           1023.9, 1024.0, 5000.5, 1e5));

TEST(PoissonRejection, CountsFollowThePoissonLawFromMeanTenOn) {
  for (const double mean : {10.0, 25.5, 300.0}) {
    Random random(11, 2);
    std::vector<std::uint64_t> samples(sample_count);
    for (std::uint64_t& sample : samples) sample = poisson_by_rejection(random, mean);
    const ChiSquare result = chi_square(samples, mean);
    EXPECT_LT(std::abs(result.value - result.degrees_of_freedom), 4.5 * std::sqrt(2.0 * result.degrees_of_freedom))
        << "mean " << mean;
  }
}

TEST(PoissonSampler, MeanOfZeroOrLessGivesZero) {
  const PoissonSampler poisson;
  Random random(1, 1);
  EXPECT_EQ(poisson(random, 0.0), 0U);
  EXPECT_EQ(poisson(random, -3.0), 0U);
}

TEST(LogFactorial, IsTheLogarithmOfTheGammaFunction) {
  for (const double k : {0.0, 1.0, 2.0, 5.0, 9.0, 10.0, 11.0, 40.0, 1e3, 1e6}) {
    // The series is good to 1e-12 from 10 on; beside it stands the rounding of the result itself.
    const double expected = std::lgamma(k + 1.0);
    EXPECT_NEAR(log_factorial(k), expected, 1e-12 + 4e-16 * expected) << "k = " << k;
  }
}

TEST(Random, SplitMix64GivesItsPublishedFirstNumbers) {
  // First outputs for the seed 1234567, as found in many tests of the algorithm.
  std::uint64_t state = 1234567;
  EXPECT_EQ(splitmix64(state), 6457827717110365317U);
  EXPECT_EQ(splitmix64(state), 3203168211198807973U);
}

TEST(Random, SameSeedAndStreamGiveTheSameNumbers) {
  Random first(5, 17);
  Random second(5, 17);
  for (int number = 0; number < 100; ++number) EXPECT_EQ(first.bits(), second.bits());
}

TEST(Random, NeighbouringSeedsAndStreamsShareNoNumber) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (std::uint64_t stream = 0; stream < 20; ++stream) {
      Random random(seed, stream);
      for (int number = 0; number < 5; ++number) seen.insert(random.bits());
    }
  }
  // Of 2000 numbers of 64 bits two are equal by chance once in 10^13 trials.
  EXPECT_EQ(seen.size(), 2000U);
}

TEST(Random, BelowReachesEveryNumberEquallyOften) {
  Random random(3, 3);
  std::vector<double> found(7, 0.0);
  for (int draw = 0; draw < 70000; ++draw) found[random.below(7)] += 1.0;
  // Binomial with p = 1/7: standard deviation 93 of 10000.
  for (const double count : found) EXPECT_NEAR(count, 10000.0, 4.5 * 93.0);
}

TEST(Random, NormalHasMeanZeroAndVarianceOne) {
  Random random(3, 4);
  const double n = 200000.0;
  double sum = 0.0;
  double squares = 0.0;
  for (double draw = 0.0; draw < n; draw += 1.0) {
    const double value = random.normal();
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / n, 0.0, 4.5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1.0, 4.5 * std::sqrt(2.0 / n));
}

}  // namespace
}  // namespace annulus::simulation
