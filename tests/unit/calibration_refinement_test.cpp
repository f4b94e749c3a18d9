#include "calibration/refinement.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "calibration/pose.hpp"
#include "integrator/detector.hpp"
#include "simulation/noise.hpp"

namespace annulus::calibration {
namespace {

constexpr double wavelength_m = 4e-11;

integrator::Geometry true_geometry(double distance_m) {
  integrator::Geometry geometry;
  geometry.detector =
      integrator::make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [1000, 1000]})");
  geometry.distance_m = distance_m;
  geometry.poni1_m = 0.052;
  geometry.poni2_m = 0.047;
  geometry.rot1_rad = 0.05;
  geometry.rot2_rad = -0.03;
  geometry.wavelength_m = wavelength_m;
  return geometry;
}

const std::vector<double>& spacings_m() {
  static const std::vector<double> spacings = {3.1e-10, 2.7e-10, 1.9e-10, 1.6e-10, 1.35e-10, 1.2e-10};
  return spacings;
}

double gaussian(simulation::Random& random) {
  return std::sqrt(-2.0 * std::log(1.0 - random.uniform())) * std::cos(2.0 * std::numbers::pi * random.uniform());
}

/// Points on the rings of a geometry, every five degrees, also beyond the detector's edges, each off across its ring by
/// a Gaussian of `error_px`, and with all of its ring by one of `ring_error_px`.
std::vector<ControlPoint> points_on(const integrator::Geometry& geometry, simulation::Random& random, double error_px,
                                    std::uint32_t image = 0, double ring_error_px = 0.0) {
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry);
  const Pose pose = pose_of(geometry);
  const Eigen::Vector3d hit = (pose.sample - pose.sample[2] / pose.beam[2] * pose.beam) / geometry.detector.pixel1_m;
  std::vector<ControlPoint> points;
  for (std::uint32_t ring = 0; ring < spacings_m().size(); ++ring) {
    const double two_theta = 2.0 * std::asin(wavelength_m / (2.0 * spacings_m()[ring]));
    const double shift_px = ring_error_px > 0.0 ? ring_error_px * gaussian(random) : 0.0;
    for (int degree = 0; degree < 360; degree += 5) {
      const double down = std::sin(degree * std::numbers::pi / 180.0);
      const double right = std::cos(degree * std::numbers::pi / 180.0);
      const auto at = [&](double radius) {
        return integrator::two_theta_rad(pixels, hit[0] + radius * down, hit[1] + radius * right);
      };
      // From the beam's place outwards until 2theta is the ring's (Newton).
      double radius = geometry.distance_m / geometry.detector.pixel1_m * std::tan(two_theta);
      double slope = 0.0;
      for (int round = 0; round < 8; ++round) {
        slope = at(radius + 0.5) - at(radius - 0.5);
        radius += (two_theta - at(radius)) / slope;
      }
      radius += shift_px + error_px * gaussian(random);
      ControlPoint point;
      point.image = image;
      point.ring = ring;
      point.row = hit[0] + radius * down;
      point.column = hit[1] + radius * right;
      point.sigma_rad = error_px * slope;
      points.push_back(point);
    }
  }
  return points;
}

RefinementSettings settings_of() {
  RefinementSettings settings;
  settings.freedom = make_freedom();
  settings.d_spacings_m = spacings_m();
  return settings;
}

integrator::Geometry start_near(integrator::Geometry geometry) {
  geometry.distance_m *= 1.002;
  geometry.poni1_m += 2e-4;
  geometry.rot1_rad -= 0.01;
  return geometry;
}

TEST(CalibrationRefinement, ModelIsTheIntegrators) {
  integrator::Geometry geometry = true_geometry(0.1);
  geometry.rot3_rad = 0.7;
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry);
  const DetectorPlaces places(geometry.detector);
  for (const double row : {0.0, 400.5, 1000.0}) {
    const Eigen::Vector3d place = places.at(row, 123.0);
    EXPECT_NEAR(model_two_theta_rad(geometry, {place[0], place[1], place[2]}, 0.0, {}),
                integrator::two_theta_rad(pixels, row, 123.0), 1e-14);
  }
}

TEST(CalibrationRefinement, ModelWithParallaxIsTheIntegrators) {
  integrator::Geometry geometry = true_geometry(0.1);
  geometry.detector.sensor = integrator::Sensor{"Si", 4.5e-4};
  geometry.parallax = integrator::Parallax::on;
  const std::vector<double> table = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, table);
  const DetectorPlaces places(geometry.detector);
  const Eigen::Vector3d place = places.at(900.0, 20.0);
  const double with = model_two_theta_rad(geometry, {place[0], place[1], place[2]}, 0.0, table);
  EXPECT_NEAR(with, integrator::two_theta_rad(pixels, 900.0, 20.0), 1e-14);
  EXPECT_GT(std::abs(with - model_two_theta_rad(geometry, {place[0], place[1], place[2]}, 0.0, {})), 1e-5);
}

TEST(CalibrationRefinement, ExactPointsGiveTheExactGeometry) {
  simulation::Random random(1, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  std::vector<ControlPoint> points = points_on(truth, random, 0.0);
  for (ControlPoint& point : points) point.sigma_rad = 1e-6;
  const Refinement fit = refine(start_near(truth), points, settings_of());
  ASSERT_TRUE(fit.converged);
  EXPECT_NEAR(fit.geometry.distance_m / truth.distance_m, 1.0, 1e-8);
  EXPECT_NEAR(fit.geometry.rot1_rad, truth.rot1_rad, 1e-7);
}

TEST(CalibrationRefinement, ErrorsOfParametersAreTheirStandardErrors) {
  simulation::Random random(2, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  constexpr int repeats = 60;
  double squares = 0.0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    std::vector<ControlPoint> points = points_on(truth, random, 0.05);
    const Refinement fit = refine(start_near(truth), points, settings_of());
    for (const Parameter parameter :
         {Parameter::distance, Parameter::poni1, Parameter::poni2, Parameter::rot1, Parameter::rot2}) {
      const double error = fit.standard_error[static_cast<std::size_t>(parameter)];
      squares += std::pow((value_of(fit.geometry, parameter) - value_of(truth, parameter)) / error, 2) / 5.0;
    }
  }
  // The mean of 60 means of five squares: its error is 0.08 when the five are independent, 0.18 when they are one.
  // Twice that; losses and scales that are found from the data cost some hundredths.
  EXPECT_NEAR(squares / repeats, 1.0, 0.36);
}

TEST(CalibrationRefinement, OutliersHaveNoSay) {
  simulation::Random random(3, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  std::vector<ControlPoint> points = points_on(truth, random, 0.05);
  for (std::size_t point = 0; point < points.size(); point += 7) points[point].column += 3.0;
  const Refinement fit = refine(start_near(truth), points, settings_of());
  for (const Parameter parameter :
       {Parameter::distance, Parameter::poni1, Parameter::poni2, Parameter::rot1, Parameter::rot2}) {
    const double error = fit.standard_error[static_cast<std::size_t>(parameter)];
    EXPECT_LT(std::abs(value_of(fit.geometry, parameter) - value_of(truth, parameter)), 5.0 * error)
        << name_of(parameter);
  }
  // A seventh was moved, some of it along its ring, where it stays good.
  std::size_t rejected = 0;
  for (const ControlPoint& point : points) rejected += point.weight == 0.0 ? 1 : 0;
  EXPECT_GT(rejected, points.size() / 10);
  EXPECT_LT(rejected, points.size() / 6);
}

TEST(CalibrationRefinement, ExcessScatterIsFoundInPixels) {
  simulation::Random random(4, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  std::vector<ControlPoint> points = points_on(truth, random, 0.1);
  for (ControlPoint& point : points) point.sigma_rad *= 0.1;
  const Refinement fit = refine(start_near(truth), points, settings_of());
  // sqrt(0.1^2 - 0.01^2), to the error of a median deviation over 400 points, 6 %: three of these.
  EXPECT_NEAR(fit.excess_px, 0.0995, 0.018);
}

TEST(CalibrationRefinement, RotationAboutTheBeamIsNeverFitted) {
  simulation::Random random(5, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  std::vector<ControlPoint> points = points_on(truth, random, 0.05);
  RefinementSettings settings = settings_of();
  settings.freedom[static_cast<std::size_t>(Parameter::rot3)].kind = Freedom::Kind::free;
  const Refinement fit = refine(truth, points, settings);
  EXPECT_FALSE(fit.fitted[static_cast<std::size_t>(Parameter::rot3)]);
  EXPECT_FALSE(fit.determined[static_cast<std::size_t>(Parameter::rot3)]);
  EXPECT_TRUE(fit.determined[static_cast<std::size_t>(Parameter::distance)]);
}

TEST(CalibrationRefinement, TiltThatPartOfARingCannotTellIsToldSo) {
  // A sixth of one ring is a circle's arc to within its errors, whatever the tilt.
  simulation::Random random(6, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  std::vector<ControlPoint> points = points_on(truth, random, 0.1);
  points.resize(12);
  const Refinement fit = refine(truth, points, settings_of());
  EXPECT_TRUE(fit.fitted[static_cast<std::size_t>(Parameter::rot1)]);
  EXPECT_FALSE(fit.determined[static_cast<std::size_t>(Parameter::rot1)]);
}

TEST(CalibrationRefinement, TwoDistancesTellTheWavelength) {
  simulation::Random random(7, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  const std::vector<double> offsets_m = {0.0, 0.05};
  std::vector<ControlPoint> points = points_on(truth, random, 0.02);
  const std::vector<ControlPoint> second = points_on(moved_back(truth, offsets_m[1]), random, 0.02, 1);
  points.insert(points.end(), second.begin(), second.end());
  RefinementSettings settings = settings_of();
  settings.distance_offsets_m = offsets_m;
  settings.freedom[static_cast<std::size_t>(Parameter::wavelength)].kind = Freedom::Kind::free;
  integrator::Geometry start = start_near(truth);
  start.wavelength_m = 1.005 * wavelength_m;
  const Refinement fit = refine(start, points, settings);
  const double error = fit.standard_error[static_cast<std::size_t>(Parameter::wavelength)];
  EXPECT_LT(error, 1e-4 * wavelength_m);
  EXPECT_LT(std::abs(*fit.geometry.wavelength_m - wavelength_m), 4.0 * error);
}

TEST(CalibrationRefinement, TiedParametersFollowAndTheirErrorsToo) {
  simulation::Random random(9, 1);
  integrator::Geometry truth = true_geometry(0.1);
  truth.rot2_rad = 2.0 * truth.rot1_rad + 0.001;
  std::vector<ControlPoint> points = points_on(truth, random, 0.02);
  RefinementSettings settings = settings_of();
  Freedom& rot2 = settings.freedom[static_cast<std::size_t>(Parameter::rot2)];
  rot2.kind = Freedom::Kind::tied;
  rot2.tie = {Parameter::rot1, 2.0, 0.001};
  const Refinement fit = refine(start_near(truth), points, settings);
  EXPECT_DOUBLE_EQ(fit.geometry.rot2_rad, 2.0 * fit.geometry.rot1_rad + 0.001);
  const double error = fit.standard_error[static_cast<std::size_t>(Parameter::rot1)];
  EXPECT_GT(error, 0.0);
  EXPECT_DOUBLE_EQ(fit.standard_error[static_cast<std::size_t>(Parameter::rot2)], 2.0 * error);
  EXPECT_LT(std::abs(fit.geometry.rot1_rad - truth.rot1_rad), 4.0 * error);
  // One number less to be found: its error is smaller than when both are free.
  std::vector<ControlPoint> again = points;
  const Refinement free = refine(start_near(truth), again, settings_of());
  EXPECT_LT(error, free.standard_error[static_cast<std::size_t>(Parameter::rot1)]);
}

TEST(CalibrationRefinement, RingsThatAreOffTheirPlacesWidenTheErrors) {
  // Every ring is off by a shift of its own, eight times what the mean of its 72 points is uncertain by.
  const integrator::Geometry truth = true_geometry(0.1);
  double chi_squared = 0.0;
  constexpr int trials = 40;
  for (int trial = 0; trial < trials; ++trial) {
    simulation::Random random(10, static_cast<std::uint64_t>(trial));
    std::vector<ControlPoint> points = points_on(truth, random, 0.02, 0, 0.02);
    const Refinement fit = refine(truth, points, settings_of());
    const double error = (fit.geometry.distance_m - truth.distance_m) / fit.standard_error[0];
    chi_squared += error * error / trials;
  }
  // Without the rings' own errors it is 21. The mean of 40 has a standard deviation of 0.22 about 1; few rings
  // tell their spread badly, which widens it.
  EXPECT_LT(chi_squared, 3.0);
  EXPECT_GT(chi_squared, 0.2);
}

TEST(CalibrationRefinement, BoundsHold) {
  simulation::Random random(8, 1);
  const integrator::Geometry truth = true_geometry(0.1);
  std::vector<ControlPoint> points = points_on(truth, random, 0.05);
  RefinementSettings settings = settings_of();
  settings.freedom[0].lower = 0.101;
  EXPECT_GE(refine(start_near(truth), points, settings).geometry.distance_m, 0.101);
}

}  // namespace
}  // namespace annulus::calibration
