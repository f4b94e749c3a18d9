#include "calibration/pose.hpp"

#include <algorithm>
#include <cmath>

namespace annulus::calibration {

DetectorPlaces::DetectorPlaces(const integrator::Detector& detector) {
  flat_.detector = detector;
  flat_.distance_m = 0.0;
  pixels_ = integrator::pixel_geometry(flat_);
}

Eigen::Vector3d DetectorPlaces::at(double row, double column) const {
  const auto [first, second, third] = integrator::position_m(pixels_, row, column);
  return {first, second, third};
}

Pose pose_of(const integrator::Geometry& geometry) {
  const std::array<double, 9> rotation = integrator::rotation_matrix(geometry);
  return {{geometry.poni1_m, geometry.poni2_m, -geometry.distance_m}, {rotation[6], rotation[7], rotation[8]}};
}

void set_pose(const Pose& pose, integrator::Geometry& geometry) {
  geometry.poni1_m = pose.sample[0];
  geometry.poni2_m = pose.sample[1];
  geometry.distance_m = -pose.sample[2];
  // The rotation's third row is (sin2, -cos2 sin1, cos1 cos2).
  geometry.rot2_rad = std::asin(std::clamp(pose.beam[0], -1.0, 1.0));
  geometry.rot1_rad = std::atan2(-pose.beam[1], pose.beam[2]);
}

double two_theta_rad(const Pose& pose, const Eigen::Vector3d& u) {
  const Eigen::Vector3d ray = u - pose.sample;
  return std::atan2(ray.cross(pose.beam).norm(), ray.dot(pose.beam));
}

AngleAt angle_at(const Pose& pose, const Eigen::Vector3d& u) {
  AngleAt angle;
  const Eigen::Vector3d ray = u - pose.sample;
  const double length = ray.norm();
  const double across = ray.cross(pose.beam).norm();
  angle.two_theta_rad = std::atan2(across, ray.dot(pose.beam));
  // With r the ray's direction: d(2theta) = -(b - r cos) / (sin |ray|) du - (r - b cos) / sin db. On the beam itself
  // there is no derivative; a sine that small is met by no ring.
  const double cosine = ray.dot(pose.beam) / length;
  const double sine = std::max(across / length, 1e-12);
  const Eigen::Vector3d direction = ray / length;
  angle.gradient = (direction * cosine - pose.beam) / (sine * length);
  angle.by_beam = (pose.beam * cosine - direction) / sine;
  return angle;
}

Tangents tangents_of(const Eigen::Vector3d& beam) {
  // The axis that is least along the beam gives the best-conditioned frame.
  Eigen::Index axis = 0;
  beam.cwiseAbs().minCoeff(&axis);
  const Eigen::Vector3d first = (Eigen::Vector3d::Unit(axis) - beam[axis] * beam).normalized();
  return {first, beam.cross(first)};
}

Pose moved(const Pose& pose, const Eigen::Matrix<double, 5, 1>& step) {
  const Tangents tangents = tangents_of(pose.beam);
  return {pose.sample + step.head<3>(),
          (pose.beam + step[3] * tangents.first + step[4] * tangents.second).normalized()};
}

}  // namespace annulus::calibration
