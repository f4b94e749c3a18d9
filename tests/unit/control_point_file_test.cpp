#include "calibration/control_point_file.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/errors.hpp"

namespace annulus::calibration {
namespace {

std::vector<ControlPoint> some_points() {
  std::vector<ControlPoint> points(4);
  points[0] = {.image = 0, .ring = 2, .row = 10.5, .column = 20.25};
  points[1] = {.image = 0, .ring = 0, .row = 1.0 / 3.0, .column = 7.5};
  points[2] = {.image = 1, .ring = 0, .row = 99.0, .column = 98.0};
  points[3] = {.image = 0, .ring = 2, .row = 11.5, .column = 21.25};
  return points;
}

TEST(ControlPointFile, ReadsBackWhatWasWritten) {
  const Calibrant calibrant = make_calibrant("CeO2");
  const std::string text = control_point_text(calibrant, 4.066e-11, some_points());
  const ControlPointSet set = parse_control_points(text, "a.npt");
  EXPECT_EQ(set.calibrant_name, "CeO2");
  EXPECT_EQ(set.wavelength_m, 4.066e-11);
  ASSERT_EQ(set.d_spacings_m.size(), calibrant.d_spacings_m.size());
  EXPECT_NEAR(set.d_spacings_m[3] / calibrant.d_spacings_m[3], 1.0, 1e-11);  // 12 digits
  // Those of image 0 alone, ring by ring; adding and taking 0.5 costs a rounding.
  ASSERT_EQ(set.points.size(), 3U);
  EXPECT_EQ(set.points[0].ring, 0U);
  EXPECT_NEAR(set.points[0].row, 1.0 / 3.0, 1e-15);
  EXPECT_EQ(set.points[2].ring, 2U);
  EXPECT_EQ(set.points[2].row, 11.5);
  EXPECT_EQ(set.points[2].column, 21.25);
}

TEST(ControlPointFile, PixelCentresAreWholeNumbers) {
  const std::string text = control_point_text(make_calibrant("CeO2"), 4.066e-11, some_points());
  EXPECT_NE(text.find("ring: 2\npoint: x=19.75 y=10\n"), std::string::npos) << text.substr(text.find("New"));
}

TEST(ControlPointFile, OutliersAreNotHandedOn) {
  std::vector<ControlPoint> points = some_points();
  points[0].weight = 0.1;
  EXPECT_EQ(parse_control_points(control_point_text(make_calibrant("Ni"), 4e-11, points), "a.npt").points.size(), 2U);
}

TEST(ControlPointFile, NameIsLeftOutWherePyfaiMeansOtherRings) {
  const auto has_name = [](const Calibrant& calibrant) {
    return control_point_text(calibrant, 4e-11, some_points()).find("calibrant:") != std::string::npos;
  };
  EXPECT_TRUE(has_name(make_calibrant("LaB6")));
  EXPECT_FALSE(has_name(make_calibrant("C60")));  // two spacings stand twice in pyFAI's list
  Calibrant own = make_calibrant("LaB6");
  own.d_spacings_m[1] *= 1.0001;
  EXPECT_FALSE(has_name(own));
}

TEST(ControlPointFile, FilesOfPyfaiAreRead) {
  const ControlPointSet set = parse_control_points(
      "# set\ncalibrant: LaB6 Calibrant with 1441 reflections at wavelength 1e-10\nwavelength: 1e-10\n"
      "dspacing: 4.156826 2.93931985\n\nNew group of points: 0\n2theta: 0.24\nring: 0\npoint: x=1 y=2\n"
      "New group of points: 1\nring: None\npoint: x=3 y=4\n",
      "b.npt");
  EXPECT_EQ(set.calibrant_name, "LaB6");
  ASSERT_EQ(set.points.size(), 1U);
  EXPECT_EQ(set.points[0].column, 1.5);
  EXPECT_EQ(set.points[0].row, 2.5);
}

TEST(ControlPointFile, EveryBadLineIsTold) {
  try {
    (void)parse_control_points("ring: two\npoint: x=1\nwavelength: long\n", "bad.npt");
    FAIL();
  } catch (const InputError& error) {
    const std::string message = error.what();
    for (const char* part : {"line 1", "line 2", "line 3"}) EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  EXPECT_THROW((void)parse_control_points("# nothing\n", "empty.npt"), InputError);
}

}  // namespace
}  // namespace annulus::calibration
