// Corrections: closed forms, and pyFAI's numbers for tilted detectors of every orientation.
#include "integrator/corrections.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <utility>

#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"
#include "tests/unit/pyfai_geometry_reference.hpp"
#include "tests/unit/pyfai_reference.hpp"
#include "tests/unit/reference_places.hpp"

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
    test::place(geometry, reference);
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

/// The detector of the references with a sensor of 1 mm of silicon.
Geometry sensor_geometry() {
  Geometry geometry;
  geometry.detector.rows = test::sensor_rows;
  geometry.detector.columns = test::sensor_columns;
  geometry.detector.pixel1_m = test::sensor_pixel1_m;
  geometry.detector.pixel2_m = test::sensor_pixel2_m;
  geometry.detector.sensor = Sensor{"Si", 1e-3};
  return geometry;
}

TEST(Corrections, TurnedPolarisationAndAbsorptionArePyfaisWithParallax) {
  for (const test::ParallaxPlaceReference& reference : test::parallax_place_references) {
    SCOPED_TRACE(testing::Message() << "distance " << reference.distance_m << ", orientation "
                                    << reference.orientation);
    Geometry geometry = sensor_geometry();
    geometry.detector.orientation = static_cast<Orientation>(reference.orientation);
    test::place(geometry, reference);
    geometry.parallax = Parallax::on;
    const auto table_m = parallax_table_m(geometry);
    const auto pixels = pixel_geometry(geometry, table_m);
    const std::size_t pixel = std::size_t{reference.row} * pixels.columns + reference.column;
    std::vector<double> found(pixels.pixels());
    solid_angle(pixels, found);
    EXPECT_NEAR(found[pixel], reference.solid_angle, 48 * epsilon * reference.solid_angle);
    polarisation(pixels, reference.polarisation_factor, found, reference.polarisation_offset_rad);
    EXPECT_NEAR(found[pixel], reference.polarisation, std::ldexp(1.0, -25) * 1.01);  // pyFAI's is rounded to float32
    absorption(pixels, reference.transmission_normal, found);
    // pyFAI subtracts from 1 what passes: epsilon relative to what is absorbed, twice.
    EXPECT_NEAR(found[pixel], reference.absorption, 48 * epsilon / (1.0 - reference.transmission_normal));
  }
}

TEST(Corrections, PolarisationOffsetTurnsThePlane) {
  // By 90 degrees, a horizontal beam is a vertical one.
  const auto pixels = pixel_geometry(three_pixels());
  std::vector<double> turned(3);
  polarisation(pixels, 0.7, turned, std::numbers::pi / 2.0);
  const auto vertical = polarisations(three_pixels(), -0.7);
  for (std::size_t pixel = 0; pixel < 3; ++pixel) EXPECT_NEAR(turned[pixel], vertical[pixel], 8 * epsilon);
  // Towards positive chi: at chi = 30 degrees and 2theta = 45, cos(2 (30 + 60)) = -1.
  Geometry geometry = three_pixels();
  geometry.rot3_rad = -std::numbers::pi / 6.0;
  const auto place = pixel_geometry(geometry);
  ASSERT_NEAR(chi_rad(place, 0.5, 2.5), std::numbers::pi / 6.0, 8 * epsilon);
  polarisation(place, 1.0, turned, std::numbers::pi / 3.0);
  EXPECT_NEAR(turned[2], 1.0, 8 * epsilon);
}

TEST(Corrections, AbsorptionGrowsWithThePath) {
  const auto pixels = pixel_geometry(three_pixels());
  std::vector<double> found(3);
  absorption(pixels, 0.25, found);  // at 45 degrees 1 - 0.25^sqrt(2), at normal incidence 1 - 0.25
  EXPECT_NEAR(found[0], (1.0 - std::pow(0.25, std::numbers::sqrt2)) / 0.75, 8 * epsilon);
  EXPECT_EQ(found[1], 1.0);
  absorption(pixels, 0.0, found);
  EXPECT_EQ(found, (std::vector<double>{1.0, 1.0, 1.0}));  // absorbs all at any angle
  absorption(pixels, 1.0, found);
  EXPECT_NEAR(found[0], std::numbers::sqrt2, 8 * epsilon);  // thin: in proportion to the path
  const std::vector<double> limit = found;
  absorption(pixels, 1.0 - 1e-9, found);
  EXPECT_NEAR(found[0], limit[0], 1e-9);
}

/// The detector of the references as its vertices say.
Geometry with_vertices(Geometry geometry, std::vector<float> vertices) {
  geometry.detector.vertices = std::make_shared<const std::vector<float>>(std::move(vertices));
  return geometry;
}

TEST(Corrections, SolidAngleOfBentDetectorsIsPyfaisByOption) {
  for (const test::CurvedReference& reference : test::curved_references) {
    Geometry geometry = with_vertices(sensor_geometry(), {test::curved_vertices.begin(), test::curved_vertices.end()});
    test::place(geometry, reference);
    const auto pixels = pixel_geometry(geometry);
    const std::size_t pixel = std::size_t{reference.row} * pixels.columns + reference.column;
    std::vector<double> found(pixels.pixels());
    solid_angle(pixels, found, kernels::Convention::pyfai);
    // pyFAI rounds the centres, coordinates below 0.02 m, to float32: 1.2e-9 m each, an angle when seen from the
    // sample.
    const double ray_m = std::hypot(reference.x_m, reference.y_m, reference.z_m);
    const double cosine_error = 3 * 1.2e-9 / ray_m;
    EXPECT_NEAR(found[pixel], std::pow(reference.cosine, 3), 3 * reference.cosine * reference.cosine * cosine_error);
    solid_angle(pixels, found);
    EXPECT_NEAR(found[pixel], reference.cosine * std::pow(reference.distance_m / ray_m, 2),
                cosine_error * std::pow(reference.distance_m / ray_m, 2));
    absorption(pixels, 1.0, found);
    EXPECT_NEAR(1.0 / found[pixel], reference.cosine, cosine_error);
  }
}

/// A pixel of 1 mm at (y, x) = (0, x_m), z_m off the plane, turned by `turn_rad` about axis 1.
std::vector<float> turned_pixel(double x_m, double z_m, double turn_rad, double half_m = 0.5e-3) {
  std::vector<float> vertices;
  for (const auto& [down, right] : {std::pair{-1, -1}, {1, -1}, {1, 1}, {-1, 1}}) {
    vertices.push_back(static_cast<float>(z_m + right * half_m * std::sin(turn_rad)));
    vertices.push_back(static_cast<float>(down * half_m));
    vertices.push_back(static_cast<float>(x_m + right * half_m * std::cos(turn_rad)));
  }
  return vertices;
}

TEST(Corrections, SolidAngleOfAPixelThatFacesTheSampleGoesWithItsDistance) {
  // 1 m beside the beam and 1 m downstream, turned by 45 degrees towards the sample: all of its face, at sqrt(2) m.
  Geometry geometry;
  geometry.detector = make_detector("Detector", R"({"pixel1": 0.001, "pixel2": 0.001, "max_shape": [1, 1]})");
  geometry = with_vertices(geometry, turned_pixel(1.0, 0.0, -std::numbers::pi / 4.0));
  const auto pixels = pixel_geometry(geometry);
  std::vector<double> found(1);
  // float32 vertices near 1 m are 6e-8 m wrong, their 1 mm diagonals 1.2e-4 of themselves; a turned pixel's cosine
  // suffers by that squared, its area directly.
  solid_angle(pixels, found);
  EXPECT_NEAR(found[0], 0.5, 1e-6);
  solid_angle(pixels, found, kernels::Convention::pyfai);
  EXPECT_NEAR(found[0], 1.0, 1e-6);  // what pyFAI has forgets the distance
  solid_angle(pixels, found, kernels::Convention::exact, PixelArea::own);
  EXPECT_NEAR(found[0], 0.5, 0.5 * 3e-4);
}

TEST(Corrections, CornersMayRunTheOtherWayAround) {
  // As in the vertices of a mirrored orientation.
  std::vector<float> vertices = turned_pixel(0.5, 0.0, 0.0);
  Geometry geometry;
  geometry.detector = make_detector("Detector", R"({"pixel1": 0.001, "pixel2": 0.001, "max_shape": [1, 1]})");
  const auto expected = solid_angles(with_vertices(geometry, vertices));
  std::swap_ranges(vertices.begin() + 3, vertices.begin() + 6, vertices.begin() + 9);
  EXPECT_EQ(solid_angles(with_vertices(geometry, vertices)), expected);
  EXPECT_NEAR(expected[0], std::pow(1.25, -1.5), 1e-6);
}

TEST(Corrections, OwnAreaOfPixelsCountsWhenAsked) {
  Geometry geometry;
  geometry.detector = make_detector("Detector", R"({"pixel1": 0.001, "pixel2": 0.001, "max_shape": [1, 1]})");
  geometry = with_vertices(geometry, turned_pixel(0.0, 0.0, 0.0, 1e-3));  // twice as high and wide
  const auto pixels = pixel_geometry(geometry);
  EXPECT_NEAR(double{pixel_normalisation(pixels, {}, {})[0]}, 1.0, 1e-7);
  CorrectionSettings settings;
  settings.pixel_area = PixelArea::own;
  EXPECT_NEAR(double{pixel_normalisation(pixels, settings, {})[0]}, 4.0, 1e-6);
}

TEST(Corrections, VerticesOfARegularGridAreTheGrid) {
  Geometry regular = sensor_geometry();
  regular.distance_m = 0.02;
  regular.poni1_m = 0.003;
  regular.poni2_m = 0.007;
  regular.rot1_rad = 0.2;
  std::vector<float> vertices;
  for (std::uint32_t row = 0; row < test::sensor_rows; ++row) {
    for (std::uint32_t column = 0; column < test::sensor_columns; ++column) {
      for (const auto& [down, right] : {std::pair{0U, 0U}, {1U, 0U}, {1U, 1U}, {0U, 1U}}) {
        vertices.push_back(0.0F);
        vertices.push_back(static_cast<float>(test::sensor_pixel1_m * (row + down)));
        vertices.push_back(static_cast<float>(test::sensor_pixel2_m * (column + right)));
      }
    }
  }
  const Geometry same = with_vertices(regular, vertices);
  CorrectionSettings settings;
  settings.polarisation_factor = 0.9;
  settings.transmission_normal = 0.3;
  settings.pixel_area = PixelArea::own;
  const auto expected = pixel_normalisation(pixel_geometry(regular), settings, {});
  const auto found = pixel_normalisation(pixel_geometry(same), settings, {});
  for (std::size_t pixel = 0; pixel < expected.size(); ++pixel) {
    // Vertices below 0.013 m in float32 are 5e-10 m wrong: 5e-7 of a pixel of 2 mm, and less in any angle.
    EXPECT_NEAR(found[pixel], expected[pixel], 2e-6F * expected[pixel]);
  }
}

TEST(Corrections, TransmissionBeyondOneIsRefused) {
  CorrectionSettings settings;
  for (const double transmission : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    settings.transmission_normal = transmission;
    EXPECT_THROW(static_cast<void>(pixel_normalisation(pixel_geometry(three_pixels()), settings, {})), InputError);
  }
}

}  // namespace
}  // namespace annulus::integrator
