#include "simulation/calibration_image.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <set>
#include <string>

#include "base/errors.hpp"
#include "simulation/calibration_cases.hpp"

namespace annulus::simulation {
namespace {

/// A ring of one line about the middle of a small detector across the beam, 40 pixels in radius.
CalibrationImageSettings one_ring() {
  CalibrationImageSettings settings;
  settings.geometry.detector =
      integrator::make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [101, 101]})");
  settings.geometry.distance_m = 0.1;
  settings.geometry.poni1_m = 50.5e-4;
  settings.geometry.poni2_m = 50.5e-4;
  settings.geometry.wavelength_m = 1e-10;
  const double two_theta = std::atan(40.0 * 1e-4 / 0.1);
  settings.lines = {{1.0 / (2.0 * std::sin(0.5 * two_theta)), 1.0}};
  settings.fwhm_rad = 3e-3;  // 3 pixels
  settings.solid_angle = false;
  return settings;
}

TEST(CalibrationImage, ARingStandsWhereItsSpacingPutsIt) {
  const CalibrationPicture picture = make_calibration_image(one_ring());
  // Along the row through the beam: the centre of gravity of the line, at columns 50.5 +- 40.
  for (const double side : {-1.0, 1.0}) {
    double weight = 0.0;
    double sum = 0.0;
    for (std::uint32_t column = 0; column < 101; ++column) {
      const double away = column + 0.5 - (50.5 + 40.0 * side);
      if (std::abs(away) > 9.0) continue;
      const auto counts = static_cast<double>(picture.expected[50 * 101 + column]);
      weight += counts;
      sum += counts * away;
    }
    // What is not on the line's middle is the ring's bend within a pixel's height, h^2 / 24 R = 0.001 pixels, and that
    // equal steps of radius are unequal ones of angle: sigma^2 (2 / R_angle) = 1.6 * 8e-4 / 1 pixel.
    EXPECT_NEAR(sum / weight * side, 0.0, 0.003);
  }
}

TEST(CalibrationImage, CountsAreTheMeanWithPoissonsNoise) {
  CalibrationImageSettings settings = one_ring();
  settings.peak_counts = 400.0;
  settings.background.flat = 100.0;
  const CalibrationPicture picture = make_calibration_image(settings);
  double chi_squared = 0.0;
  for (std::size_t pixel = 0; pixel < picture.counts.size(); ++pixel) {
    const auto expected = static_cast<double>(picture.expected[pixel]);
    const double error = static_cast<double>(picture.counts[pixel]) - expected;
    chi_squared += error * error / expected;
  }
  const auto pixels = static_cast<double>(picture.counts.size());
  // Its standard deviation is sqrt(2 / n) = 0.014.
  EXPECT_NEAR(chi_squared / pixels, 1.0, 0.07);
  EXPECT_NEAR(*std::max_element(picture.expected.begin(), picture.expected.end()), 500.0, 5.0);
}

TEST(CalibrationImage, TheSeedAloneMakesTheNoise) {
  CalibrationImageSettings settings = one_ring();
  const CalibrationPicture first = make_calibration_image(settings);
  EXPECT_EQ(make_calibration_image(settings).counts, first.counts);
  settings.seed = 2;
  EXPECT_NE(make_calibration_image(settings).counts, first.counts);
}

TEST(CalibrationImage, OrientationTurnsTheImageAndNothingElse) {
  CalibrationImageSettings settings = one_ring();
  settings.geometry.poni1_m = 30e-4;  // off the middle, tilted
  settings.geometry.rot1_rad = 0.2;
  const std::vector<float> right = make_calibration_image(settings).expected;
  settings.geometry.detector = integrator::oriented_to(settings.geometry.detector, integrator::Orientation::top_left);
  const std::vector<float> turned = make_calibration_image(settings).expected;
  const float highest = *std::max_element(right.begin(), right.end());
  for (std::size_t pixel = 0; pixel < right.size(); ++pixel) {
    ASSERT_NEAR(turned[right.size() - 1 - pixel], right[pixel], 1e-5 * highest);
  }
}

TEST(CalibrationImage, StopGapsAndBadPixelsAreThere) {
  CalibrationImageSettings settings = one_ring();
  settings.geometry.detector = integrator::make_detector("Pilatus300k");
  settings.background.flat = 50.0;
  settings.beam_stop = {.radius_pixels = 10.0, .holder_pixels = 4.0, .holder_rad = 0.0, .transmission = 0.0};
  settings.hot_pixels = 1e-3;
  const CalibrationPicture picture = make_calibration_image(settings);
  const std::uint32_t columns = settings.geometry.detector.columns;
  const auto at = [&](double down, double right) {
    return static_cast<std::size_t>((50.5e-4 / 172e-6) + down) * columns +
           static_cast<std::size_t>((50.5e-4 / 172e-6) + right);
  };
  EXPECT_EQ(picture.mask[at(0, 0)], 1);
  EXPECT_EQ(picture.expected[at(0, 0)], 0.0F);
  EXPECT_EQ(picture.mask[at(0, 200)], 1);  // the holder, towards rising columns
  EXPECT_EQ(picture.mask[at(0, -15)], 0);
  EXPECT_EQ(picture.counts[200 * std::size_t{columns}], -1.0F);  // the gap below the first module
  EXPECT_EQ(picture.mask[200 * std::size_t{columns}], 1);
  const auto hot =
      std::count_if(picture.counts.begin(), picture.counts.end(), [](float count) { return count > 1e6F; });
  EXPECT_GT(hot, 250);  // 301 drawn, with those in gaps and twice the same
  settings.beam_stop.masked = false;
  EXPECT_EQ(make_calibration_image(settings).mask[at(0, 0)], 0);
}

TEST(CalibrationImage, GrainsMakeSpotsWithTheMeanOfARing) {
  CalibrationImageSettings settings = one_ring();
  const std::vector<float> ring = make_calibration_image(settings).expected;
  settings.grains = 4000.0;
  const std::vector<float> grainy = make_calibration_image(settings).expected;
  const auto total = [](const std::vector<float>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
  };
  // Exponential strengths: a relative variance of 2 / n, sqrt(2 / 4000) = 2.2 %.
  EXPECT_NEAR(total(grainy) / total(ring), 1.0, 0.1);
  settings.grains = 30.0;
  const std::vector<float> spotty = make_calibration_image(settings).expected;
  EXPECT_GT(*std::max_element(spotty.begin(), spotty.end()), 2.0F * *std::max_element(ring.begin(), ring.end()));
}

TEST(CalibrationImage, SettingsThatMakeNoImageAreRefused) {
  CalibrationImageSettings settings = one_ring();
  settings.geometry.wavelength_m.reset();
  EXPECT_THROW((void)make_calibration_image(settings), InputError);
  settings = one_ring();
  settings.fwhm_rad = 0.0;
  EXPECT_THROW((void)make_calibration_image(settings), InputError);
}

TEST(CalibrationCases, EachKindHasItsDifficulty) {
  std::set<std::string> names;
  for (const CaseKind kind : case_kinds()) {
    names.emplace(name_of(kind));
    for (std::uint32_t number = 0; number < 2; ++number) {
      const CalibrationCase sample = make_case(kind, number, CaseSize::small);
      const integrator::Geometry& truth = sample.image.geometry;
      const TwoThetaRange range = two_theta_range(truth);
      const double tilt_deg = std::acos(std::cos(truth.rot1_rad) * std::cos(truth.rot2_rad)) * 180.0 / std::numbers::pi;
      switch (kind) {
        case CaseKind::beam_outside: EXPECT_GT(range.lowest_rad, 0.0); break;
        case CaseKind::large_angle: EXPECT_GT(range.lowest_rad * 180.0 / std::numbers::pi, 39.9); break;
        case CaseKind::tilted: EXPECT_GT(tilt_deg, 9.9); break;
        case CaseKind::wrong_wavelength:
          EXPECT_NEAR(std::abs(sample.wavelength_m / *truth.wavelength_m - 1.0), 0.01, 1e-9);
          break;
        case CaseKind::blank: EXPECT_TRUE(sample.image.lines.empty()); break;
        case CaseKind::plain: EXPECT_EQ(sample.wavelength_m, *truth.wavelength_m); break;
        default: break;
      }
      EXPECT_EQ(sample.detector.rows, truth.detector.rows);
    }
  }
  // The same case again is the same; another is not.
  const CalibrationCase one = make_case(CaseKind::tilted, 1, CaseSize::small);
  EXPECT_EQ(make_case(CaseKind::tilted, 1, CaseSize::small).image.seed, one.image.seed);
  EXPECT_NE(make_case(CaseKind::tilted, 2, CaseSize::small).image.seed, one.image.seed);
  EXPECT_EQ(names.size(), case_kinds().size());
}

}  // namespace
}  // namespace annulus::simulation
