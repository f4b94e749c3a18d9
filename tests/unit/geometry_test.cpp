// Geometry: hand-computed places of pixels, and pyFAI's numbers for tilted detectors of every orientation.
#include "integrator/geometry.hpp"

#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "tests/unit/pyfai_geometry_reference.hpp"
#include "tests/unit/pyfai_reference.hpp"
#include "tests/unit/reference_places.hpp"

namespace annulus::integrator {
namespace {

constexpr double pi = std::numbers::pi;
constexpr double epsilon = std::numeric_limits<double>::epsilon();

/// A detector of 4 x 6 pixels of 1 mm x 2 mm, 1 m away, its point of normal incidence at the first index' corner.
Geometry small_geometry() {
  Geometry geometry;
  geometry.detector = make_detector("Detector", R"({"pixel1": 0.001, "pixel2": 0.002, "max_shape": [4, 6]})");
  return geometry;
}

void expect_position(const std::array<double, 3>& found, double y, double x, double z) {
  // Lengths near 1 m, each a sum of three products: a few roundings of 1.
  constexpr double tolerance_m = 8 * epsilon;
  EXPECT_NEAR(found[0], y, tolerance_m);
  EXPECT_NEAR(found[1], x, tolerance_m);
  EXPECT_NEAR(found[2], z, tolerance_m);
}

TEST(Geometry, PixelCentresStandHalfAPixelIn) {
  const auto pixels = pixel_geometry(small_geometry());
  EXPECT_EQ(pixels.pixels(), 24U);
  expect_position(position_m(pixels, 0.5, 0.5), 0.0005, 0.001, 1.0);
  expect_position(position_m(pixels, 3.5, 5.5), 0.0035, 0.011, 1.0);
}

TEST(Geometry, PoniIsTheOriginOfTheDetector) {
  Geometry geometry = small_geometry();
  geometry.poni1_m = 0.002;
  geometry.poni2_m = 0.006;
  const auto pixels = pixel_geometry(geometry);
  expect_position(position_m(pixels, 2.0, 3.0), 0.0, 0.0, 1.0);
  EXPECT_EQ(two_theta_rad(pixels, 2.0, 3.0), 0.0);
  // 1.5 mm up and 2 mm aside make 2.5 mm; tan 2theta = 0.0025 / 1.
  EXPECT_NEAR(two_theta_rad(pixels, 3.5, 4.0), std::atan(0.0025), 8 * epsilon);
  EXPECT_NEAR(chi_rad(pixels, 3.5, 4.0), std::atan2(0.0015, 0.002), 1e3 * 8 * epsilon);  // mm: roundings of 1 m count
}

TEST(Geometry, ChiRunsFromTheHorizontalToTheVertical) {
  Geometry geometry = small_geometry();
  geometry.poni1_m = 0.002;
  geometry.poni2_m = 0.006;
  const auto pixels = pixel_geometry(geometry);
  EXPECT_EQ(chi_rad(pixels, 2.0, 5.0), 0.0);
  EXPECT_EQ(chi_rad(pixels, 4.0, 3.0), pi / 2.0);
  EXPECT_EQ(chi_rad(pixels, 2.0, 1.0), pi);
  EXPECT_EQ(chi_rad(pixels, 0.0, 3.0), -pi / 2.0);
}

TEST(Geometry, Rot1TurnsTheNormalTowardsAxis2) {
  Geometry geometry = small_geometry();
  geometry.rot1_rad = pi / 2.0;
  const auto pixels = pixel_geometry(geometry);
  expect_position(position_m(pixels, 0.0, 0.0), 0.0, 1.0, 0.0);
  EXPECT_NEAR(two_theta_rad(pixels, 0.0, 0.0), pi / 2.0, 8 * epsilon);
  // Left-handed: what was to the side now lies upstream, beyond 90 degrees.
  expect_position(position_m(pixels, 0.0, 5.0), 0.0, 1.0, -0.01);
  EXPECT_NEAR(two_theta_rad(pixels, 0.0, 5.0), pi / 2.0 + std::atan(0.01), 8 * epsilon);
}

TEST(Geometry, Rot2TurnsTheNormalDown) {
  Geometry geometry = small_geometry();
  geometry.rot2_rad = pi / 2.0;
  const auto pixels = pixel_geometry(geometry);
  expect_position(position_m(pixels, 0.0, 0.0), -1.0, 0.0, 0.0);
  expect_position(position_m(pixels, 3.0, 0.0), -1.0, 0.0, 0.003);
}

TEST(Geometry, Rot3TurnsAboutTheBeam) {
  Geometry geometry = small_geometry();
  geometry.rot3_rad = pi / 2.0;
  const auto pixels = pixel_geometry(geometry);
  // Right-handed: axis 1 goes where axis 2 was.
  expect_position(position_m(pixels, 3.0, 0.0), 0.0, 0.003, 1.0);
  expect_position(position_m(pixels, 0.0, 3.0), -0.006, 0.0, 1.0);
}

TEST(Geometry, RotationsAreAppliedInTheOrder123) {
  Geometry geometry = small_geometry();
  geometry.rot1_rad = pi / 2.0;
  geometry.rot2_rad = pi / 2.0;
  // R2 (R1 e3) = R2 e2 = e2, while R1 (R2 e3) = R1 (-e1) = -e1.
  expect_position(position_m(pixel_geometry(geometry), 0.0, 0.0), 0.0, 1.0, 0.0);
}

TEST(Geometry, RotationMatrixKeepsLengthsAndHands) {
  Geometry geometry = small_geometry();
  geometry.rot1_rad = 0.7;
  geometry.rot2_rad = -1.9;
  geometry.rot3_rad = 2.6;
  const auto matrix = rotation_matrix(geometry);
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t other = 0; other < 3; ++other) {
      double product = 0.0;
      for (std::size_t column = 0; column < 3; ++column) {
        product += matrix[3 * row + column] * matrix[3 * other + column];
      }
      EXPECT_NEAR(product, row == other ? 1.0 : 0.0, 8 * epsilon);
    }
  }
  const double determinant = matrix[0] * (matrix[4] * matrix[8] - matrix[5] * matrix[7]) -
                             matrix[1] * (matrix[3] * matrix[8] - matrix[5] * matrix[6]) +
                             matrix[2] * (matrix[3] * matrix[7] - matrix[4] * matrix[6]);
  EXPECT_NEAR(determinant, 1.0, 16 * epsilon);
}

TEST(Geometry, OrientationReversesTheIndices) {
  Geometry geometry = small_geometry();
  const auto first_pixel = [&](Orientation orientation) {
    geometry.detector.orientation = orientation;
    return position_m(pixel_geometry(geometry), 0.5, 0.5);
  };
  expect_position(first_pixel(Orientation::bottom_right), 0.0005, 0.001, 1.0);
  expect_position(first_pixel(Orientation::top_left), 0.0035, 0.011, 1.0);
  expect_position(first_pixel(Orientation::top_right), 0.0035, 0.001, 1.0);
  expect_position(first_pixel(Orientation::bottom_left), 0.0005, 0.011, 1.0);
}

TEST(Geometry, PlacesOfPixelsArePyfais) {
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
    const auto pixels = pixel_geometry(geometry);
    const double row = reference.row + 0.5;
    const double column = reference.column + 0.5;
    const auto [y, x, z] = position_m(pixels, row, column);

    // Each coordinate is a sum of some 12 rounded terms, none longer than the ray; seen from the sample (2theta) such a
    // length is an angle of that over the ray, seen along the beam (chi) over the radius.
    const double ray_m = std::hypot(x, y, z);
    const double error_m = 16 * epsilon * ray_m;
    EXPECT_NEAR(std::hypot(x, y), reference.radius_m, error_m);
    EXPECT_NEAR(two_theta_rad(pixels, row, column), reference.two_theta_rad, error_m / ray_m);
    EXPECT_NEAR(chi_rad(pixels, row, column), reference.chi_rad, error_m / reference.radius_m);
    const double q_per_nm = 4e-9 * pi / reference.wavelength_m * std::sin(two_theta_rad(pixels, row, column) / 2.0);
    EXPECT_NEAR(q_per_nm, reference.q_per_nm, 4e-9 * pi / reference.wavelength_m * error_m / ray_m);
  }
}

TEST(Geometry, DetectorWithoutShapeHasNoPixelGeometry) {
  Geometry geometry = small_geometry();
  geometry.detector.rows = 0;
  EXPECT_THROW(static_cast<void>(pixel_geometry(geometry)), InternalError);
}

TEST(Geometry, WavelengthIsHandedOnWhereThereIsOne) {
  Geometry geometry = small_geometry();
  EXPECT_EQ(pixel_geometry(geometry).wavelength_m, 0.0);
  geometry.wavelength_m = 1.5e-10;
  EXPECT_EQ(pixel_geometry(geometry).wavelength_m, 1.5e-10);
}

TEST(Geometry, PlacesBehindThickSensorsArePyfais) {
  for (const test::ParallaxPlaceReference& reference : test::parallax_place_references) {
    SCOPED_TRACE(testing::Message() << "distance " << reference.distance_m << ", orientation "
                                    << reference.orientation);
    Geometry geometry;
    geometry.detector.rows = test::sensor_rows;
    geometry.detector.columns = test::sensor_columns;
    geometry.detector.pixel1_m = test::sensor_pixel1_m;
    geometry.detector.pixel2_m = test::sensor_pixel2_m;
    geometry.detector.orientation = static_cast<Orientation>(reference.orientation);
    geometry.detector.sensor = Sensor{"Si", 1e-3};
    test::place(geometry, reference);
    geometry.parallax = Parallax::on;
    const auto table_m = parallax_table_m(geometry);
    const auto pixels = pixel_geometry(geometry, table_m);
    const double row = reference.row + 0.5;
    const double column = reference.column + 0.5;
    const auto [y, x, z] = position_m(pixels, row, column);
    const double ray_m = std::hypot(x, y, z);
    // As without parallax, and the table's entries, which agree to 1e-12 of their largest, 1 mm.
    const double error_m = 16 * epsilon * ray_m + 1e-12 * 1e-3;
    EXPECT_NEAR(std::hypot(x, y), reference.radius_m, error_m);
    EXPECT_NEAR(two_theta_rad(pixels, row, column), reference.two_theta_rad, error_m / ray_m);
    EXPECT_NEAR(chi_rad(pixels, row, column), reference.chi_rad, error_m / reference.radius_m);
    // It is no small thing here: the sensor is half a pixel thick.
    geometry.parallax = Parallax::off;
    EXPECT_GT(std::abs(two_theta_rad(pixel_geometry(geometry), row, column) - reference.two_theta_rad), 1e-5);
  }
}

TEST(Geometry, ParallaxNeedsWavelengthAndSensor) {
  const auto error_of = [](const Geometry& geometry) -> std::string {
    try {
      static_cast<void>(parallax_table_m(geometry));
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  Geometry geometry = small_geometry();
  EXPECT_TRUE(parallax_table_m(geometry).empty());
  geometry.parallax = Parallax::on;
  EXPECT_NE(error_of(geometry).find("needs a wavelength"), std::string::npos);
  geometry.wavelength_m = 1e-10;
  EXPECT_NE(error_of(geometry).find("needs a sensor"), std::string::npos);
  geometry.detector.sensor = Sensor{"Si", 320e-6};
  EXPECT_EQ(parallax_table_m(geometry).size(), kernels::parallax_nodes);
  EXPECT_THROW(static_cast<void>(pixel_geometry(geometry)), InternalError);  // the table was forgotten
}

TEST(Geometry, CentreOfAPixelIsTheMeanOfItsVertices) {
  for (const test::CurvedReference& reference : test::curved_references) {
    Geometry geometry;
    geometry.detector.rows = test::sensor_rows;
    geometry.detector.columns = test::sensor_columns;
    geometry.detector.pixel1_m = test::sensor_pixel1_m;
    geometry.detector.pixel2_m = test::sensor_pixel2_m;
    geometry.detector.orientation = Orientation::top_left;  // has no part: vertices stand where they stand
    geometry.detector.vertices =
        std::make_shared<const std::vector<float>>(test::curved_vertices.begin(), test::curved_vertices.end());
    test::place(geometry, reference);
    const auto pixels = pixel_geometry(geometry);
    expect_position(position_m(pixels, reference.row + 0.5, reference.column + 0.5), reference.y_m, reference.x_m,
                    reference.z_m);
    // Neighbours share their corners, and the last pixel's far corner belongs to it.
    const auto corner = position_m(pixels, 1.0, 1.0);
    expect_position(position_m(pixels, std::nextafter(1.0, 0.0), 1.0), corner[0], corner[1], corner[2]);
    const auto last = position_m(pixels, test::sensor_rows, test::sensor_columns);
    const std::size_t c = test::curved_vertices.size() - 6;  // (z, y, x) of corner (1, 1)
    const auto& matrix = pixels.rotation;
    const double p1 = double{test::curved_vertices[c + 1]} - geometry.poni1_m;
    const double p2 = double{test::curved_vertices[c + 2]} - geometry.poni2_m;
    const double p3 = double{test::curved_vertices[c]} + geometry.distance_m;
    expect_position(last, matrix[0] * p1 + matrix[1] * p2 + matrix[2] * p3,
                    matrix[3] * p1 + matrix[4] * p2 + matrix[5] * p3, matrix[6] * p1 + matrix[7] * p2 + matrix[8] * p3);
  }
}

}  // namespace
}  // namespace annulus::integrator
