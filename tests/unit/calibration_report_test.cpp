#include "calibration/report.hpp"

#include <gtest/gtest.h>
#include <png.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "integrator/detector.hpp"

namespace annulus::calibration {
namespace {

/// A small detector across the beam, with one ring of 20 pixels' radius and four points on it.
struct Sample {
  CalibrationSettings settings;
  CalibrationResult result;
  std::vector<float> counts;
  std::vector<std::uint8_t> mask;

  Sample() {
    settings.detector =
        integrator::make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [60, 80]})");
    settings.wavelength_m = 1e-10;
    const double two_theta = std::atan(20.0 * 1e-4 / 0.05);
    const double d_angstrom = 1.0 / (2.0 * std::sin(0.5 * two_theta));
    settings.calibrant = calibrant_of_spacings("<one & only>", std::vector{d_angstrom});
    result.geometry.detector = settings.detector;
    result.geometry.distance_m = 0.05;
    result.geometry.poni1_m = 30e-4;
    result.geometry.poni2_m = 40e-4;
    result.geometry.wavelength_m = 1e-10;
    result.verdict = Verdict::doubtful;
    result.reasons = {"a < b"};
    result.fitted = {true, true, true, false, false, false, false};
    result.determined = {true, true, false, false, false, false, false};
    result.standard_error[0] = 1e-6;
    result.correlation[1][0] = -0.25;
    for (const auto& [row, column] : {std::pair{10.0, 40.0}, {50.0, 40.0}, {30.0, 20.0}, {30.0, 60.0}}) {
      result.points.push_back({.image = 0,
                               .ring = 0,
                               .row = row,
                               .column = column,
                               .sigma_rad = 1e-4,
                               .residual_rad = 1e-5,
                               .weight = 1.0});
    }
    RingEvidence ring;
    ring.points = 4;
    ring.two_theta_rad = two_theta;
    ring.predicted_residual_rad = std::numeric_limits<double>::quiet_NaN();
    result.rings = {ring};
    counts.assign(60 * 80, 5.0F);
    mask.assign(60 * 80, 0);
    mask[7] = 1;
  }

  [[nodiscard]] std::string html() const {
    const std::vector<CalibrationImage> images{{counts, mask, 0.0}};
    return report_html(images, settings, result, {"image.tif", settings.calibrant.name, "", "1.2", {"look out"}});
  }
};

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(CalibrationReport, PageHasItsPartsAndLoadsNothing) {
  const std::string page = Sample().html();
  EXPECT_EQ(count_of(page, "data:image/png;base64,"), 2U);  // the image and the cake
  EXPECT_EQ(count_of(page, "href=\""), count_of(page, "href=\"data:"));
  EXPECT_EQ(count_of(page, "src="), 0U);
  EXPECT_NE(page.find("verdict doubtful"), std::string::npos);
  EXPECT_NE(page.find("a &lt; b"), std::string::npos);
  EXPECT_NE(page.find("&lt;one &amp; only&gt;"), std::string::npos);
  EXPECT_EQ(page.find("<one"), std::string::npos);
  EXPECT_NE(page.find("look out"), std::string::npos);
  EXPECT_NE(page.find("not determined"), std::string::npos);
  EXPECT_EQ(count_of(page, "<svg"), count_of(page, "</svg>"));
}

TEST(CalibrationReport, RingIsDrawnWhereItIs) {
  // Every point of the path lies 20 pixels from (30, 40): the chord of a cell of one pixel errs by 1 / (8 R) and
  // rounding to 0.1.
  const std::string page = Sample().html();
  const std::size_t begin = page.find("<path d=\"M") + 9;
  std::string path = page.substr(begin, page.find('"', begin) - begin);
  for (char& letter : path) {
    if (letter == 'M' || letter == 'L') letter = ' ';
  }
  std::istringstream numbers(path);
  double column = 0.0;
  double row = 0.0;
  std::size_t points = 0;
  while (numbers >> column >> row) {
    EXPECT_NEAR(std::hypot(column - 40.0, row - 30.0), 20.0, 0.12);
    ++points;
  }
  EXPECT_GT(points, 200U);
}

TEST(CalibrationReport, FailedCalibrationShowsTheImageAlone) {
  Sample sample;
  sample.result = {};
  const std::string page = sample.html();
  EXPECT_NE(page.find("verdict failed"), std::string::npos);
  EXPECT_EQ(count_of(page, "data:image/png;base64,"), 1U);
  EXPECT_EQ(page.find("<path"), std::string::npos);
}

TEST(CalibrationReport, EvidenceIsJsonWithUnitsAndWithoutPoints) {
  const Sample sample;
  const auto json =
      nlohmann::json::parse(evidence_json(sample.result, {"image.tif", "CeO2", "NIST", "1.2", {"look out"}}));
  EXPECT_EQ(json["verdict"], "doubtful");
  EXPECT_EQ(json["calibrant"], "CeO2");
  EXPECT_EQ(json["points"], 4);
  EXPECT_EQ(json["parameters"]["distance"]["value"], 0.05);
  EXPECT_EQ(json["parameters"]["distance"]["unit"], "m");
  EXPECT_EQ(json["parameters"]["distance"]["standard_error"], 1e-6);
  EXPECT_EQ(json["parameters"]["poni1"]["correlation"]["distance"], -0.25);
  EXPECT_EQ(json["parameters"]["poni2"]["determined"], false);
  EXPECT_FALSE(json["parameters"]["rot1"].contains("standard_error"));
  EXPECT_TRUE(json["rings"][0]["predicted_residual_rad"].is_null());
}

TEST(CalibrationReport, PngReadsBack) {
  std::vector<std::uint8_t> rgb(5 * 7 * 3);
  for (std::size_t place = 0; place < rgb.size(); ++place) rgb[place] = static_cast<std::uint8_t>(37 * place);
  const std::vector<std::uint8_t> bytes = encode_png(5, 7, rgb);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  ASSERT_NE(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()), 0);
  EXPECT_EQ(image.height, 5U);
  EXPECT_EQ(image.width, 7U);
  image.format = PNG_FORMAT_RGB;
  std::vector<std::uint8_t> back(rgb.size());
  ASSERT_NE(png_image_finish_read(&image, nullptr, back.data(), 0, nullptr), 0);
  EXPECT_EQ(back, rgb);
}

}  // namespace
}  // namespace annulus::calibration
