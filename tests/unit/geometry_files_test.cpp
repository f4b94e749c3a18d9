// Geometry of Fit2D and ImageD11: pyFAI's conversions, round trips, and files recognised by their content.
#include "integrator/geometry_files.hpp"

#include <cmath>
#include <filesystem>
#include <limits>
#include <numbers>
#include <random>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/errors.hpp"
#include "tests/unit/pyfai_geometry_reference.hpp"
#include "tests/unit/reference_places.hpp"

namespace annulus::integrator {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

template <typename Parse>
std::string error_of(Parse&& parse) {
  try {
    static_cast<void>(parse());
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect_in(const std::string& message, std::string_view part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

Geometry plain_geometry(double pixel1_m, double pixel2_m) {
  Geometry geometry;
  geometry.detector = make_detector(
      "Detector", fmt::format(R"({{"pixel1": {}, "pixel2": {}, "max_shape": [5, 4]}})", pixel1_m, pixel2_m));
  return geometry;
}

template <typename Reference>
Geometry geometry_of(const Reference& reference) {
  Geometry geometry = plain_geometry(test::sensor_pixel1_m, test::sensor_pixel2_m);
  test::place(geometry, reference);
  return geometry;
}

double number_after(const std::string& text, const std::string& key) {
  const std::size_t at = text.find("\n" + key + ": ");
  EXPECT_NE(at, std::string::npos) << key << " is not in " << text;
  return std::stod(text.substr(at + key.size() + 3));
}

/// pyFAI takes the tilt and its direction by arccosines, which are wrong by epsilon / sine of the angle.
double arccosine_error(double angle_rad) { return 4 * epsilon / std::max(std::abs(std::sin(angle_rad)), 1e-8); }

TEST(Fit2D, ParametersArePyfais) {
  for (const test::Fit2dReference& reference : test::fit2d_references) {
    SCOPED_TRACE(testing::Message() << "tilt " << reference.tilt_deg << ", direction " << reference.direction_deg);
    const std::string text = fit2d_text(geometry_of(reference));
    const double degree = std::numbers::pi / 180.0;
    const double tilt_error = arccosine_error(reference.tilt_deg * degree);
    // The direction comes of sines of the tilt, which has that error relative to itself.
    const double direction_error =
        arccosine_error(reference.direction_deg * degree) +
        (reference.tilt_deg == 0.0 ? 0.0 : tilt_error / std::abs(std::sin(reference.tilt_deg * degree)));
    const double length_error = 8 * epsilon * reference.direct_mm;
    const double centre_error_mm =
        length_error +
        1e3 * reference.distance_m * (tilt_error + std::abs(std::tan(reference.tilt_deg * degree)) * direction_error);
    EXPECT_NEAR(number_after(text, "directDist"), reference.direct_mm, length_error);
    EXPECT_NEAR(number_after(text, "tilt"), reference.tilt_deg, tilt_error / degree);
    EXPECT_NEAR(number_after(text, "tiltPlanRotation"), reference.direction_deg, direction_error / degree);
    EXPECT_NEAR(number_after(text, "centerX"), reference.centre_x,
                16 * epsilon * (10 + reference.direct_mm) + centre_error_mm / 3.0);
    EXPECT_NEAR(number_after(text, "centerY"), reference.centre_y,
                16 * epsilon * (10 + reference.direct_mm) + centre_error_mm / 2.0);
    EXPECT_NEAR(number_after(text, "pixelX"), reference.pixel_x_um, 4 * epsilon * reference.pixel_x_um);
    EXPECT_NEAR(number_after(text, "pixelY"), reference.pixel_y_um, 4 * epsilon * reference.pixel_y_um);
    EXPECT_NEAR(number_after(text, "wavelength"), reference.wavelength_angstrom, 4 * epsilon);
  }
}

TEST(Fit2D, GeometryIsPyfais) {
  for (const test::Fit2dReference& reference : test::fit2d_references) {
    SCOPED_TRACE(testing::Message() << "tilt " << reference.tilt_deg << ", direction " << reference.direction_deg);
    const Geometry found = parse_fit2d(
        fmt::format("directDist: {}\ncenterX: {}\ncenterY: {}\ntilt: {}\ntiltPlanRotation: {}\npixelX: {}\npixelY: {}\n"
                    "wavelength: {}\n",
                    reference.direct_mm, reference.centre_x, reference.centre_y, reference.tilt_deg,
                    reference.direction_deg, reference.pixel_x_um, reference.pixel_y_um, reference.wavelength_angstrom),
        "x.fit2d");
    const double length_error = 16 * epsilon * (reference.direct_mm / 1e3 + 0.1);
    EXPECT_NEAR(found.distance_m, reference.back_distance_m, length_error);
    EXPECT_NEAR(found.poni1_m, reference.back_poni1_m, length_error);
    EXPECT_NEAR(found.poni2_m, reference.back_poni2_m, length_error);
    EXPECT_NEAR(found.rot1_rad, reference.back_rot1_rad, arccosine_error(reference.back_rot1_rad));
    EXPECT_NEAR(found.rot2_rad, reference.back_rot2_rad, 8 * epsilon);
    EXPECT_NEAR(found.rot3_rad, reference.back_rot3_rad, 8 * epsilon);  // an arccosine near 90 degrees
    EXPECT_NEAR(*found.wavelength_m, reference.wavelength_m, 4 * epsilon * reference.wavelength_m);
  }
}

TEST(Fit2D, ParametersComeBackTo1e12) {
  std::mt19937_64 random(5);
  const auto between = [&](double lower, double upper) {
    return std::uniform_real_distribution<double>(lower, upper)(random);
  };
  for (int round = 0; round < 300; ++round) {
    // Tilts from 1e-9 degree to 80.
    const double tilt_deg = std::pow(10.0, between(-9.0, 1.9));
    const double direction_deg = between(-179.0, 179.0);
    const double direct_mm = between(50.0, 3000.0);
    const double centre_x = between(-1000.0, 3000.0);
    const double centre_y = between(-1000.0, 3000.0);
    const std::string text = fit2d_text(parse_fit2d(
        fmt::format(
            "DIRECTDIST = {}\ncenterx = {}\ncentery={}\ntilt\t= {}\ntiltplanrotation: {}\npixelx: 75\npixely: 172\n",
            direct_mm, centre_x, centre_y, tilt_deg, direction_deg),
        "x.fit2d"));
    SCOPED_TRACE(text);
    EXPECT_NEAR(number_after(text, "directDist"), direct_mm, 1e-12 * direct_mm);
    // The centre lies direct_mm tan(tilt) from the point of normal incidence, up to 6 times direct_mm.
    EXPECT_NEAR(number_after(text, "centerX"), centre_x, 1e-12 * (direct_mm / 0.075 + 3000.0));
    EXPECT_NEAR(number_after(text, "centerY"), centre_y, 1e-12 * (direct_mm / 0.172 + 3000.0));
    EXPECT_NEAR(number_after(text, "tilt"), tilt_deg, 1e-12 * tilt_deg);
    EXPECT_NEAR(number_after(text, "tiltPlanRotation"), direction_deg, 1e-12 * 180.0);
  }
}

TEST(Fit2D, TextKeepsTwoThetaAndTheDetector) {
  Geometry geometry;
  geometry.detector = make_detector("Pilatus100k");
  geometry.distance_m = 0.2;
  geometry.poni1_m = 0.01;
  geometry.poni2_m = 0.03;
  geometry.rot1_rad = 0.3;
  geometry.rot2_rad = -0.2;
  geometry.rot3_rad = 1.1;
  geometry.wavelength_m = 7e-11;
  const Geometry found = parse_geometry(fit2d_text(geometry), "x.txt");
  EXPECT_EQ(found.detector.name, "Pilatus100k");
  EXPECT_EQ(found.detector.pixel1_m, geometry.detector.pixel1_m);
  const auto before = pixel_geometry(geometry);
  const auto after = pixel_geometry(found);
  for (const double row : {0.5, 100.0, 194.0}) {
    EXPECT_NEAR(two_theta_rad(after, row, 2.0 * row), two_theta_rad(before, row, 2.0 * row), 1e-14);
  }
}

TEST(Fit2D, LineThatPyfaiPrintsIsRead) {
  const Geometry geometry = parse_geometry(
      "pixelX: 100\npixelY: 200\n"
      "DirectBeamDist= 10.255 mm\tCenter: x=9.967, y=30.373 pix\tTilt= 12.795\xc2\xb0 tiltPlanRotation= 116.220\xc2\xb0"
      " \xce\xbb= 0.600\xc3\x85\n",
      "x.txt");
  EXPECT_NEAR(geometry.distance_m, 10.255e-3 * std::cos(12.795 * std::numbers::pi / 180.0), 8 * epsilon);
  EXPECT_NEAR(*geometry.wavelength_m, 0.6e-10, 4e-26);
  EXPECT_NEAR(geometry.rot2_rad,
              std::asin(std::sin(12.795 * std::numbers::pi / 180.0) * std::sin(116.22 * std::numbers::pi / 180.0)),
              8 * epsilon);
}

TEST(Fit2D, DictionaryIsReadToo) {
  const Geometry geometry = parse_geometry(
      R"({"directDist": 100, "centerX": 5, "centerY": 6, "tilt": 0, "tiltPlanRotation": 0, "pixelX": 100,
          "pixelY": 200, "splineFile": null, "detector": null, "wavelength": null})",
      "x.json");
  EXPECT_EQ(geometry.distance_m, 0.1);
  EXPECT_NEAR(geometry.poni1_m, 6 * 200e-6, epsilon);
  EXPECT_NEAR(geometry.poni2_m, 5 * 100e-6, epsilon);
  EXPECT_FALSE(geometry.wavelength_m.has_value());
}

TEST(Fit2D, AllProblemsAreToldAtOnce) {
  const std::string message =
      error_of([] { return parse_fit2d("directDist: far\ncenterX: 1\ntilt: 95\ndetector: Nonesuch\n", "x.fit2d"); });
  for (const char* part : {"x.fit2d: directDist: found 'far', expected a positive number in mm", "centerY: found none",
                           "tilt: found 95 degree", "'Nonesuch'"}) {
    expect_in(message, part);
  }
  expect_in(error_of([] { return parse_fit2d("directDist: 1\ncenterX: 1\ncenterY: 1\n", "x.fit2d"); }),
            "found no pixel size, expected pixelX and pixelY");
}

TEST(Fit2D, WhatItCannotHoldIsRefused) {
  Geometry geometry = plain_geometry(1e-4, 1e-4);
  geometry.rot1_rad = 1.7;
  expect_in(error_of([&] { return fit2d_text(geometry); }), "97.4");
  geometry.rot1_rad = 0.0;
  geometry.parallax = Parallax::on;
  expect_in(error_of([&] { return fit2d_text(geometry); }), "parallax");
}

TEST(ImageD11, GeometryIsPyfais) {
  GeometryFileOptions options;
  options.image_rows = test::sensor_rows;
  options.image_columns = test::sensor_columns;
  options.imaged11_wavelength_unit_m = 1e-9;
  for (const test::ImageD11Reference& reference : test::imaged11_references) {
    SCOPED_TRACE(reference.text);
    const Geometry found = parse_geometry(reference.text, "x.par", options);
    // pyFAI's way there goes through Fit2D's parameters: the errors of its arccosines.
    const double tilt_rad = std::acos(std::cos(reference.rot1_rad) * std::cos(reference.rot2_rad));
    const double length_error =
        32 * epsilon * 0.1 + reference.distance_m * 4 * arccosine_error(tilt_rad) / std::sin(tilt_rad);
    EXPECT_NEAR(found.distance_m, reference.distance_m, length_error);
    EXPECT_NEAR(found.poni1_m, reference.poni1_m, length_error);
    EXPECT_NEAR(found.poni2_m, reference.poni2_m, length_error);
    EXPECT_EQ(found.rot1_rad, reference.rot1_rad);
    EXPECT_EQ(found.rot2_rad, reference.rot2_rad);
    EXPECT_EQ(found.rot3_rad, reference.rot3_rad);
    EXPECT_NEAR(*found.wavelength_m, reference.wavelength_m, 4 * epsilon * reference.wavelength_m);
    EXPECT_EQ(static_cast<int>(found.detector.orientation), reference.orientation);
    EXPECT_NEAR(found.detector.pixel1_m, test::sensor_pixel1_m, 4 * epsilon * test::sensor_pixel1_m);
    EXPECT_NEAR(found.detector.pixel2_m, test::sensor_pixel2_m, 4 * epsilon * test::sensor_pixel2_m);
  }
}

constexpr std::string_view par_text =
    "cell__a 4.1569\ncell_lattice_[P,A,B,C,I,F,R] P\ndistance 294662.658\no11 1\no12 0\no21 0\no22 -1\nomegasign 1.0\n"
    "tilt_x 0.0\ntilt_y -0.013173\ntilt_z 0.002378\nwavelength 0.154\ny-center 1016.328171\ny_size 48.0815\n"
    "z_center 984.924425\nz_size 46.77648\n";

TEST(ImageD11, WavelengthIsInAngstromUnlessToldOtherwise) {
  EXPECT_NEAR(*parse_imaged11(par_text, "x.par").wavelength_m, 0.154e-10, 1e-26);
  EXPECT_NEAR(*parse_imaged11(std::string(par_text) + "wavelength_unit nm\n", "x.par").wavelength_m, 0.154e-9, 1e-25);
  const Geometry geometry = parse_imaged11(par_text, "x.par");
  EXPECT_NEAR(geometry.distance_m, 0.294662658 * std::cos(0.013173) * std::cos(0.002378), 4 * epsilon);
  EXPECT_NEAR(geometry.poni1_m, 46.77648e-6 * 985.424425 + 0.294662658 * std::sin(0.013173), 4 * epsilon);
}

TEST(ImageD11, ReversedAxesNeedTheShape) {
  std::string text(par_text);
  text.replace(text.find("o11 1"), 5, "o11 -1");
  expect_in(error_of([&] { return parse_imaged11(text, "x.par"); }), "x.par: o11, o22: found a reversed axis");
  GeometryFileOptions options;
  options.image_rows = 2048;
  options.image_columns = 2048;
  EXPECT_EQ(parse_imaged11(text, "x.par", options).detector.orientation, Orientation::top_right);
}

TEST(ImageD11, AllProblemsAreToldAtOnce) {
  const std::string message =
      error_of([] { return parse_imaged11("o11 0\no12 1\ny_center a\nwavelength_unit inch\n", "x.par"); });
  for (const char* part : {"distance: found none", "y_center: found 'a'", "o11, o12, o21, o22: found 0, 1, 0, -1",
                           "wavelength_unit: found 'inch'"}) {
    expect_in(message, part);
  }
}

TEST(GeometryFile, IsRecognisedByItsContent) {
  const std::string poni = "Detector: Pilatus1M\nDistance: 0.25\n";
  EXPECT_EQ(parse_geometry(poni, "x").distance_m, 0.25);
  EXPECT_EQ(parse_geometry(R"({"dist": 0.5, "detector": "Pilatus1M", "detector_config": {}})", "x").distance_m, 0.5);
  EXPECT_EQ(parse_geometry("directDist: 750\ncenterX: 1\ncenterY: 1\ndetector: Pilatus1M\n", "x").distance_m, 0.75);
  EXPECT_NEAR(parse_geometry(par_text, "x").distance_m, 0.2946, 1e-4);
  for (const char* text : {"", "hello\n", "a: 1\n", "{}", "1 2\n3 4\n"}) {
    expect_in(error_of([&] { return parse_geometry(text, "x"); }),
              "x: found none of the keys of a PONI file, or the parameters of Fit2D or ImageD11");
  }
  expect_in(error_of([] { return parse_geometry(std::string_view("a\0b", 3), "x"); }), "x: found binary data");
  expect_in(error_of([] { return parse_geometry("{\"dist\": ", "x"); }), "no valid JSON object");
}

TEST(GeometryFile, IsWrittenAndRead) {
  const auto file = std::filesystem::path(testing::TempDir()) / fmt::format("annulus_{}.fit2d", ::getpid());
  Geometry geometry = plain_geometry(1e-4, 2e-4);
  geometry.distance_m = 0.3;
  write_fit2d(geometry, file);
  const Geometry found = read_geometry(file);
  std::filesystem::remove(file);
  EXPECT_EQ(found.distance_m, 0.3);
  EXPECT_EQ(found.detector.pixel2_m, 2e-4);
  expect_in(error_of([&] { return read_geometry(file); }), file.string() + ": cannot be opened");
}

}  // namespace
}  // namespace annulus::integrator
