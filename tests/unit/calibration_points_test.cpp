#include "calibration/control_points.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "simulation/noise.hpp"

namespace annulus::calibration {
namespace {

struct Peak {
  std::vector<float> x, counts;
};

/// Pixels of a sector: 12 pixels long, at places that a ring at an angle to the grid gives them.
Peak sector(simulation::Random& random, const simulation::PoissonSampler& poisson, double place, double sigma,
            double amplitude, double background, double slope) {
  Peak peak;
  for (int along = 0; along < 12; ++along) {
    for (int across = -6; across <= 6; ++across) {
      const double x = across + 0.083 * along - 0.5;
      const double t = (x - place) / sigma;
      peak.x.push_back(static_cast<float>(x));
      peak.counts.push_back(
          static_cast<float>(poisson(random, amplitude * std::exp(-0.5 * t * t) + background + slope * x)));
    }
  }
  return peak;
}

struct Statistics {
  double mean = 0.0;      ///< of (place - truth) / error
  double variance = 0.0;  ///< of the same
  double bias = 0.0;      ///< of place - truth
  int fits = 0;
};

Statistics repeat(double amplitude, double background, double slope, int repeats) {
  simulation::Random random(7, static_cast<std::uint64_t>(amplitude));
  const simulation::PoissonSampler poisson;
  Statistics statistics;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double place = random.uniform() - 0.5;
    const Peak peak = sector(random, poisson, place, 1.3, amplitude, background, slope);
    const PeakFit fit = fit_peak({peak.x, peak.counts, {}, {}, {}}, 0.0, 1.2, true);
    if (!fit.good) continue;
    const double pull = (fit.place - place) / fit.place_error;
    ++statistics.fits;
    statistics.mean += pull;
    statistics.variance += pull * pull;
    statistics.bias += fit.place - place;
  }
  statistics.mean /= statistics.fits;
  statistics.variance /= statistics.fits;
  statistics.bias /= statistics.fits;
  return statistics;
}

TEST(CalibrationPeak, ExactWithoutNoise) {
  std::vector<float> x, y;
  for (int sample = -20; sample <= 20; ++sample) {
    x.push_back(0.3F * static_cast<float>(sample));
    const double t = (x.back() - 0.4) / 1.1;
    y.push_back(static_cast<float>(5000.0 * std::exp(-0.5 * t * t) + 100.0 - 3.0 * x.back()));
  }
  const PeakFit fit = fit_peak({x, y, {}, {}, {}}, -0.3, 1.5, true);
  ASSERT_TRUE(fit.good);
  // Counts are float32: 1e-7 of 5000.
  EXPECT_NEAR(fit.place, 0.4, 1e-5);
  EXPECT_NEAR(fit.sigma, 1.1, 1e-4);
  EXPECT_NEAR(fit.amplitude, 5000.0, 0.5);
  EXPECT_NEAR(fit.slope, -3.0, 0.05);
}

TEST(CalibrationPeak, ErrorsAreThoseOfCountingOnBrightLines) {
  const Statistics bright = repeat(10000.0, 200.0, 5.0, 600);
  ASSERT_EQ(bright.fits, 600);
  // The mean of 600 numbers of variance 1 has the error 0.041, their variance 0.058: four of these.
  EXPECT_NEAR(bright.mean, 0.0, 0.17);
  EXPECT_NEAR(bright.variance, 1.0, 0.24);
  EXPECT_NEAR(bright.bias, 0.0, 1e-3);
}

TEST(CalibrationPeak, ErrorsAreThoseOfCountingOnFaintLines) {
  const Statistics faint = repeat(20.0, 1.5, 0.0, 600);
  ASSERT_GT(faint.fits, 580);
  EXPECT_NEAR(faint.mean, 0.0, 0.17);
  EXPECT_NEAR(faint.variance, 1.0, 0.24);
}

TEST(CalibrationPeak, BackgroundAloneIsNoPeak) {
  simulation::Random random(3, 1);
  const simulation::PoissonSampler poisson;
  int taken = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Peak peak = sector(random, poisson, 0.0, 1.3, 0.0, 50.0, 2.0);
    taken += fit_peak({peak.x, peak.counts, {}, {}, {}}, 0.0, 1.2, true).good ? 1 : 0;
  }
  // Four standard deviations, at a place that is free within some widths: one in thousands.
  EXPECT_LE(taken, 2);
}

TEST(CalibrationPeak, OneFlankIsNoPeak) {
  std::vector<float> x, y;
  for (int sample = 0; sample <= 20; ++sample) {
    x.push_back(0.3F * static_cast<float>(sample));
    y.push_back(static_cast<float>(1000.0 * std::exp(-0.5 * x.back() * x.back()) + 10.0));
  }
  EXPECT_FALSE(fit_peak({x, y, {}, {}, {}}, 0.0, 1.0, false).good);
}

TEST(CalibrationPeak, ANeighboursTailDoesNotMoveIt) {
  std::vector<float> x, y;
  for (int sample = -12; sample <= 12; ++sample) {
    x.push_back(0.2F * static_cast<float>(sample));
    const double t = x.back();
    y.push_back(
        static_cast<float>(1000.0 * (std::exp(-0.5 * t * t) + 1.5 * std::exp(-0.5 * (t - 4.0) * (t - 4.0))) + 50.0));
  }
  const std::vector<PeakNeighbour> neighbours = {{4.0, 1.5}};
  EXPECT_NEAR(fit_peak({x, y, {}, {}, neighbours}, 0.2, 1.0, true).place, 0.0, 1e-4);
  EXPECT_GT(std::abs(fit_peak({x, y, {}, {}, {}}, 0.2, 1.0, true).place), 1e-3);  // and would without
}

TEST(CalibrationDefects, SinglePixelsAreMaskedLinesAndSpotsAreNot) {
  constexpr std::uint32_t rows = 12, columns = 12;
  std::vector<float> counts(rows * columns, 100.0F);
  std::vector<std::uint8_t> mask(rows * columns, 0);
  counts[3 * columns + 3] = 100000.0F;                                                 // hot
  counts[8 * columns + 2] = 0.0F;                                                      // dead
  for (std::uint32_t row = 0; row < rows; ++row) counts[row * columns + 6] = 5000.0F;  // a line
  for (std::uint32_t row = 8; row < 10; ++row) {
    for (std::uint32_t column = 9; column < 11; ++column) counts[row * columns + column] = 9000.0F;  // a spot
  }
  mask[0] = 1;
  const std::vector<std::uint8_t> found = with_defects_masked({counts, mask, 0.0}, rows, columns);
  std::vector<std::uint8_t> expected = mask;
  expected[3 * columns + 3] = 1;
  expected[8 * columns + 2] = 1;
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace annulus::calibration
