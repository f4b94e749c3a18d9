#include "calibration/pose.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "integrator/detector.hpp"
#include "integrator/geometry.hpp"

namespace annulus::calibration {
namespace {

integrator::Geometry tilted_geometry(integrator::Orientation orientation) {
  integrator::Geometry geometry;
  geometry.detector =
      integrator::make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": [200, 100]})");
  geometry.detector.orientation = orientation;
  geometry.distance_m = 0.11;
  geometry.poni1_m = 0.013;
  geometry.poni2_m = -0.02;
  geometry.rot1_rad = 0.4;
  geometry.rot2_rad = -0.25;
  geometry.rot3_rad = 1.1;
  return geometry;
}

TEST(CalibrationPose, AngleOfATriangleWithSides5And12) {
  // Beam along the normal, 12 mm to the detector, 3 and 4 mm off: 2theta = atan(5 / 12), whose cosine is 12 / 13.
  const Pose pose{{0.001, 0.002, -0.012}, {0.0, 0.0, 1.0}};
  EXPECT_NEAR(two_theta_rad(pose, {0.004, 0.006, 0.0}), std::acos(12.0 / 13.0), 1e-15);
}

TEST(CalibrationPose, AgreesWithTheIntegratorInEveryOrientation) {
  int compared = 0;
  for (const int number : {1, 2, 3, 4}) {
    const integrator::Geometry geometry = tilted_geometry(static_cast<integrator::Orientation>(number));
    const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry);
    const DetectorPlaces places(geometry.detector);
    const Pose pose = pose_of(geometry);
    for (const double row : {0.0, 37.3, 200.0}) {
      for (const double column : {0.5, 99.0}) {
        // Some ten operations on numbers near 1.
        EXPECT_NEAR(two_theta_rad(pose, places.at(row, column)), integrator::two_theta_rad(pixels, row, column), 1e-14);
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 24);
}

TEST(CalibrationPose, ReturnsToTheGeometryItCameFrom) {
  const integrator::Geometry geometry = tilted_geometry(integrator::Orientation::bottom_right);
  integrator::Geometry back;
  back.rot3_rad = geometry.rot3_rad;
  set_pose(pose_of(geometry), back);
  EXPECT_NEAR(back.distance_m, geometry.distance_m, 1e-16);
  EXPECT_NEAR(back.poni1_m, geometry.poni1_m, 1e-16);
  EXPECT_NEAR(back.poni2_m, geometry.poni2_m, 1e-16);
  EXPECT_NEAR(back.rot1_rad, geometry.rot1_rad, 1e-15);
  EXPECT_NEAR(back.rot2_rad, geometry.rot2_rad, 1e-15);
}

TEST(CalibrationPose, DerivativesAreThoseOfDifferences) {
  const Pose pose = pose_of(tilted_geometry(integrator::Orientation::bottom_right));
  const Eigen::Vector3d place(0.004, 0.011, 0.0);
  const AngleAt angle = angle_at(pose, place);
  // Central differences of step h are wrong by h^2 times a third derivative (1e3 /m^3 here) and by rounding, 1e-16 / h.
  const double step = 1e-6;
  for (int axis = 0; axis < 3; ++axis) {
    const Eigen::Vector3d by = step * Eigen::Vector3d::Unit(axis);
    const double difference = (two_theta_rad(pose, place + by) - two_theta_rad(pose, place - by)) / (2.0 * step);
    EXPECT_NEAR(angle.gradient[axis], difference, 1e-7) << axis;
  }
  const Tangents tangents = tangents_of(pose.beam);
  for (int direction = 0; direction < 2; ++direction) {
    Eigen::Matrix<double, 5, 1> by = Eigen::Matrix<double, 5, 1>::Zero();
    by[3 + direction] = step;
    const double difference =
        (two_theta_rad(moved(pose, by), place) - two_theta_rad(moved(pose, -by), place)) / (2.0 * step);
    const Eigen::Vector3d& tangent = direction == 0 ? tangents.first : tangents.second;
    EXPECT_NEAR(angle.by_beam.dot(tangent), difference, 1e-8) << direction;
  }
}

}  // namespace
}  // namespace annulus::calibration
