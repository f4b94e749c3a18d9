// Where the sample stands and the beam runs, as seen from the detector: what a set of rings tells of a geometry.
//
// 2theta of a place u on the detector is the angle between the beam b and the line from the sample S to u. Five numbers
// (three of S, two of b) hold all that rings can say: rot3 turns the laboratory about the beam and changes no 2theta.
#pragma once

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <cstddef>

#include "integrator/geometry.hpp"

namespace annulus::calibration {

/// Places of pixels along the detector's own axes 1, 2 and 3, in m, before poni, distance and rotation; orientation and
/// vertices included, parallax not.
class DetectorPlaces {
 public:
  explicit DetectorPlaces(const integrator::Detector& detector);

  /// Place of the point at pixel coordinates (row, column).
  [[nodiscard]] Eigen::Vector3d at(double row, double column) const;

 private:
  integrator::Geometry flat_;  ///< at the origin, not rotated: owns the detector
  kernels::PixelGeometry pixels_;
};

/// Sample and beam in the detector's frame.
struct Pose {
  Eigen::Vector3d sample;  ///< (poni1, poni2, -distance) in m
  Eigen::Vector3d beam;    ///< unit vector along the beam
};

/// Row i of its rotation matrix is the laboratory's axis i seen from the detector; the beam is the third.
[[nodiscard]] Pose pose_of(const integrator::Geometry& geometry);

/// Puts the pose into distance, poni and rot1, rot2 of `geometry`, whose rot3 stays. The beam must run towards the
/// detector's front or along it (its third component >= 0 gives |rot1| <= pi/2; beyond is as valid).
void set_pose(const Pose& pose, integrator::Geometry& geometry);

/// 2theta in rad of the place `u` in m, and its derivatives by u, in rad/m.
struct AngleAt {
  double two_theta_rad = 0.0;
  Eigen::Vector3d gradient;  ///< by the place; by the sample it is the negative
  Eigen::Vector3d by_beam;   ///< by the beam's vector, along the tangents of the unit sphere alone
};
[[nodiscard]] AngleAt angle_at(const Pose& pose, const Eigen::Vector3d& u);

/// 2theta alone.
[[nodiscard]] double two_theta_rad(const Pose& pose, const Eigen::Vector3d& u);

/// Two unit vectors that with `beam` make a right-handed frame: the directions in which a beam can turn.
struct Tangents {
  Eigen::Vector3d first;
  Eigen::Vector3d second;
};
[[nodiscard]] Tangents tangents_of(const Eigen::Vector3d& beam);

/// The pose after a step: (sample in m [3], turn of the beam along tangents_of(pose.beam) in rad [2]).
[[nodiscard]] Pose moved(const Pose& pose, const Eigen::Matrix<double, 5, 1>& step);

}  // namespace annulus::calibration
