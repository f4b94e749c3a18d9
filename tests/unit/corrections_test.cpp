// Corrections: closed forms, and pyFAI's numbers for tilted detectors of every orientation.
#include "integrator/corrections.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"
#include "tests/unit/pyfai_reference.hpp"

namespace annulus::integrator {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

/// One row of three pixels of 1 m, 1 m from the sample, normal incidence at the middle one: 45, 0 and 45 degrees.
Geometry three_pixels() {
  Geometry geometry;
  geometry.detector = make_detector("Detector", R"({"pixel1": 1.0, "pixel2": 1.0, "max_shape": [1, 3]})");
  geometry.poni1_m = 0.5;
  geometry.poni2_m = 1.5;
  return geometry;
}

std::vector<double> solid_angles(const Geometry& geometry) {
  const auto pixels = pixel_geometry(geometry);
  std::vector<double> out(pixels.pixels(), -1.0);
  solid_angle(pixels, out);
  return out;
}

std::vector<double> polarisations(const Geometry& geometry, double factor) {
  const auto pixels = pixel_geometry(geometry);
  std::vector<double> out(pixels.pixels(), -1.0);
  polarisation(pixels, factor, out);
  return out;
}

TEST(Corrections, SolidAngleIsTheCosineCubed) {
  const auto found = solid_angles(three_pixels());
  EXPECT_EQ(found[1], 1.0);
  EXPECT_NEAR(found[0], std::pow(0.5, 1.5), 8 * epsilon);
  EXPECT_NEAR(found[2], std::pow(0.5, 1.5), 8 * epsilon);
}

TEST(Corrections, SolidAngleDoesNotDependOnTheTilt) {
  Geometry geometry = three_pixels();
  const auto straight = solid_angles(geometry);
  geometry.rot1_rad = 0.4;
  geometry.rot2_rad = -1.1;
  geometry.rot3_rad = 2.0;
  const auto tilted = solid_angles(geometry);
  // The squared length, a sum of some 12 rounded products, to the power -3/2.
  for (std::size_t pixel = 0; pixel < 3; ++pixel) EXPECT_NEAR(tilted[pixel], straight[pixel], 24 * epsilon);
}

TEST(Corrections, HorizontalBeamScattersLessSidewaysAndFullyUp) {
  // At 45 degrees in the horizontal plane: P = (1 + 1/2 - factor / 2) / 2.
  for (const double factor : {-1.0, -0.3, 0.0, 0.95, 1.0}) {
    const auto found = polarisations(three_pixels(), factor);
    EXPECT_NEAR(found[0], 0.75 - 0.25 * factor, 8 * epsilon) << factor;
    EXPECT_NEAR(found[1], 1.0, 8 * epsilon) << factor;
    EXPECT_NEAR(found[2], 0.75 - 0.25 * factor, 8 * epsilon) << factor;
  }
  // The same pixels turned into the vertical plane.
  Geometry upright = three_pixels();
  upright.rot3_rad = std::numbers::pi / 2.0;
  EXPECT_NEAR(polarisations(upright, 1.0)[0], 1.0, 8 * epsilon);
  EXPECT_NEAR(polarisations(upright, -1.0)[2], 0.5, 8 * epsilon);
}

TEST(Corrections, PolarisationVanishesAtRightAnglesInThePlaneOfTheField) {
  Geometry geometry = three_pixels();
  geometry.rot1_rad = std::numbers::pi / 2.0;  // the middle pixel now stands at 2theta = 90 degrees, chi = 0
  EXPECT_NEAR(polarisations(geometry, 1.0)[1], 0.0, 8 * epsilon);
}

TEST(Corrections, SolidAngleAndPolarisationArePyfais) {
  for (const test::PlaceReference& reference : test::place_references) {
    SCOPED_TRACE(testing::Message() << "distance " << reference.distance_m << ", orientation "
                                    << reference.orientation);
    Geometry geometry;
    geometry.detector.rows = test::place_rows;
    geometry.detector.columns = test::place_columns;
    geometry.detector.pixel1_m = test::place_pixel1_m;
    geometry.detector.pixel2_m = test::place_pixel2_m;
    geometry.detector.orientation = static_cast<Orientation>(reference.orientation);
    geometry.distance_m = reference.distance_m;
    geometry.poni1_m = reference.poni1_m;
    geometry.poni2_m = reference.poni2_m;
    geometry.rot1_rad = reference.rot1_rad;
    geometry.rot2_rad = reference.rot2_rad;
    geometry.rot3_rad = reference.rot3_rad;
    const std::size_t pixel = std::size_t{reference.row} * test::place_columns + reference.column;
    // Relative: three times the error of the ray's length, of some 16 roundings.
    EXPECT_NEAR(solid_angles(geometry)[pixel], reference.solid_angle, 48 * epsilon * reference.solid_angle);
    // pyFAI's is rounded to float32: half a unit in the last place of numbers below 1 is 2^-25; float64's own errors
    // are nothing beside that.
    EXPECT_NEAR(polarisations(geometry, test::place_polarisation_factor)[pixel], reference.polarisation,
                std::ldexp(1.0, -25) * 1.01);
  }
}

TEST(Corrections, NormalisationIsTheProductOfFloat32Factors) {
  const Geometry geometry = three_pixels();
  const std::vector<float> flat = {0.9F, 1.1F, 1.3F};
  const auto found = pixel_normalisation(pixel_geometry(geometry), {true, 0.95}, flat);
  const auto angles = solid_angles(geometry);
  const auto factors = polarisations(geometry, 0.95);
  ASSERT_EQ(found.size(), 3U);
  for (std::size_t pixel = 0; pixel < 3; ++pixel) {
    EXPECT_EQ(found[pixel], flat[pixel] * static_cast<float>(angles[pixel]) * static_cast<float>(factors[pixel]));
  }
}

TEST(Corrections, EachCorrectionCanBeLeftOut) {
  const auto pixels = pixel_geometry(three_pixels());
  EXPECT_EQ(pixel_normalisation(pixels, {false, std::nullopt}, {}), (std::vector<float>{1.0F, 1.0F, 1.0F}));
  const std::vector<float> flat = {0.5F, 2.0F, 4.0F};
  EXPECT_EQ(pixel_normalisation(pixels, {false, std::nullopt}, flat), flat);
  EXPECT_FLOAT_EQ(pixel_normalisation(pixels, {true, std::nullopt}, {})[0], 0.35355339F);  // 2^-1.5
  EXPECT_FLOAT_EQ(pixel_normalisation(pixels, {false, 0.0}, {})[0], 0.75F);  // unpolarised is not "no correction"
}

TEST(Corrections, PolarisationFactorBeyondOneIsRefused) {
  const auto pixels = pixel_geometry(three_pixels());
  for (const double factor : {1.01, -2.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(static_cast<void>(pixel_normalisation(pixels, {true, factor}, {})), InputError) << factor;
  }
}

TEST(Corrections, FlatOfAnotherSizeIsADefect) {
  const auto pixels = pixel_geometry(three_pixels());
  const std::vector<float> flat(2, 1.0F);
  EXPECT_THROW(static_cast<void>(pixel_normalisation(pixels, {true, std::nullopt}, flat)), InternalError);
}

}  // namespace
}  // namespace annulus::integrator
