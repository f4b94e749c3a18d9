#include "calibration/ring_tally.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "simulation/noise.hpp"

namespace annulus::calibration {
namespace {

constexpr std::size_t side = 400;
constexpr double middle = 200.0;
/// sin(theta) per pixel from the middle: a detector of small angles.
constexpr double sine_of_pixel = 1e-3;

/// An image of rings of 3 pixels FWHM with these radii, 400 counts high on 25, and what the tally wants of it.
struct Image {
  RidgeMap ridges;
  std::vector<float> sines;

  explicit Image(std::span<const double> radii) {
    ridges.rows = ridges.columns = side;
    ridges.roots.resize(side * side);
    ridges.weights.assign(side * side, 1.0F);
    sines.resize(side * side);
    const simulation::PoissonSampler poisson;
    simulation::Random random(1, 1);
    for (std::size_t row = 0; row < side; ++row) {
      for (std::size_t column = 0; column < side; ++column) {
        const double radius =
            std::hypot(static_cast<double>(row) + 0.5 - middle, static_cast<double>(column) + 0.5 - middle);
        double counts = 25.0;
        for (const double ring : radii) counts += 400.0 * std::exp(-0.5 * std::pow((radius - ring) / 1.27, 2));
        ridges.roots[row * side + column] = static_cast<float>(std::sqrt(static_cast<double>(poisson(random, counts))));
        sines[row * side + column] = static_cast<float>(radius * sine_of_pixel);
      }
    }
  }
};

std::vector<double> sines_of(std::vector<double> radii) {
  for (double& radius : radii) radius *= sine_of_pixel;
  return radii;
}

const std::vector<double>& radii() {
  static const std::vector<double> values = {40.0, 55.0, 71.0, 90.0, 104.0, 125.0, 149.0, 160.0};
  return values;
}

TEST(RingTally, ARightListIsSeenAndSpeaks) {
  const Image image(radii());
  const RingTally tally = tally_rings(image.ridges, image.sines, sines_of(radii()));
  EXPECT_EQ(tally.listed, 8U);
  EXPECT_EQ(tally.seen, 8U);
  // Eight tops of five bins on some 550 bins: 0.07, a little more at the corners' noise.
  EXPECT_NEAR(tally.chance, 0.075, 0.02);
  EXPECT_NEAR(tally.evidence, 8.0 * std::log(1.0 / tally.chance), 1e-9);
  EXPECT_TRUE(tally.foreign_sines.empty());
}

TEST(RingTally, AListThatHasAllRingsAndTwiceAsManyMoreSaysLittle) {
  // As of the same lattice at half the distance: each ring is on it, and most of it is not there.
  std::vector<double> dense;
  for (double radius = 30.0; radius < 190.0; radius += 7.3) {
    if (std::none_of(radii().begin(), radii().end(), [&](double ring) { return std::abs(ring - radius) < 4.0; }))
      dense.push_back(radius);
  }
  dense.insert(dense.end(), radii().begin(), radii().end());
  std::sort(dense.begin(), dense.end());
  const Image image(radii());
  const RingTally tally = tally_rings(image.ridges, image.sines, sines_of(dense));
  const RingTally right = tally_rings(image.ridges, image.sines, sines_of(radii()));
  EXPECT_EQ(tally.seen, 8U);
  EXPECT_GT(tally.listed, 15U);
  EXPECT_LT(tally.evidence, 0.6 * right.evidence);
}

TEST(RingTally, AnotherListIsSeenByChanceAlone) {
  const Image image(radii());
  const RingTally tally =
      tally_rings(image.ridges, image.sines, sines_of({33.0, 47.0, 62.5, 80.0, 97.0, 115.0, 136.0, 154.5, 172.0}));
  EXPECT_EQ(tally.seen, 0U);
  EXPECT_EQ(tally.evidence, 0.0);
  // All that the image shows is foreign to it, and where it is, to half a bin.
  ASSERT_EQ(tally.foreign_sines.size(), radii().size());
  for (std::size_t ring = 0; ring < radii().size(); ++ring)
    EXPECT_NEAR(tally.foreign_sines[ring], radii()[ring] * sine_of_pixel, 0.5 * sine_of_pixel);
}

TEST(RingTally, FaintRingsAtTheEndTakeNothingAway) {
  std::vector<double> longer = radii();
  for (const double radius : {167.0, 173.0, 179.0, 185.0, 191.0, 196.0}) longer.push_back(radius);
  const Image image(radii());
  const RingTally tally = tally_rings(image.ridges, image.sines, sines_of(longer));
  EXPECT_EQ(tally.listed, 14U);
  EXPECT_EQ(tally.seen, 8U);
  EXPECT_NEAR(tally.evidence, 8.0 * std::log(1.0 / tally.chance), 1e-9);
}

TEST(RingTally, RingsTooNearToBeToldCountOnce) {
  std::vector<double> doubled = radii();
  for (const double radius : radii()) doubled.push_back(radius + 0.8);
  std::sort(doubled.begin(), doubled.end());
  const Image image(radii());
  EXPECT_EQ(tally_rings(image.ridges, image.sines, sines_of(doubled)).listed, 8U);
}

TEST(RingTally, ABlankImageShowsNothing) {
  const Image image({});
  const RingTally tally = tally_rings(image.ridges, image.sines, sines_of(radii()));
  EXPECT_EQ(tally.listed, 8U);
  EXPECT_LE(tally.seen, 1U);
  EXPECT_LT(tally.evidence, 5.0);
}

}  // namespace
}  // namespace annulus::calibration
