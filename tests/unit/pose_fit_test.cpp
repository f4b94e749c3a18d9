#include "calibration/pose_fit.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace annulus::calibration {
namespace {

constexpr double pixel_m = 1e-4;

Pose true_pose() { return {{0.021, 0.018, -0.11}, Eigen::Vector3d(0.35, -0.2, 1.0).normalized()}; }

double sine_at(const Pose& pose, const Eigen::Vector3d& place) { return std::sin(0.5 * two_theta_rad(pose, place)); }

/// Places on the detector's plane along four rings of the true pose, 13 each: not a multiple of the lanes.
std::vector<std::vector<Eigen::Vector3d>> rings_of_places() {
  const Pose pose = true_pose();
  const Eigen::Vector3d hit = pose.sample - pose.sample[2] / pose.beam[2] * pose.beam;
  std::vector<std::vector<Eigen::Vector3d>> rings;
  for (const double sine : {0.05, 0.08, 0.1, 0.14}) {
    rings.emplace_back();
    for (int step = 0; step < 13; ++step) {
      const double azimuth = 0.1 * step;  // an arc
      const Eigen::Vector3d way(std::cos(azimuth), std::sin(azimuth), 0.0);
      double radius = 0.02;
      for (int round = 0; round < 60; ++round) {
        const double here = sine_at(pose, hit + radius * way);
        const double slope = (sine_at(pose, hit + (radius + 1e-6) * way) - here) / 1e-6;
        radius += (sine - here) / slope;
      }
      rings.back().push_back(hit + radius * way);
    }
  }
  return rings;
}

Pose near_pose() {
  return {true_pose().sample + Eigen::Vector3d(0.002, -0.001, 0.004),
          (true_pose().beam + Eigen::Vector3d(0.02, 0.03, 0.0)).normalized()};
}

PoseFitSettings settings_of(int iterations) { return {pixel_m, 3.0, iterations, 1e3}; }

TEST(PoseFit, FindsThePoseOfExactPlaces) {
  RingTargets targets;
  for (const auto& ring : rings_of_places()) {
    for (const Eigen::Vector3d& place : ring) targets.add(place, sine_at(true_pose(), place), 1.0);
  }
  EXPECT_EQ(targets.size(), 52U);
  Pose pose = near_pose();
  const double cost = fit_pose(pose, targets, settings_of(100));
  EXPECT_LT(cost, 1e-6);
  EXPECT_LT((pose.sample - true_pose().sample).norm(), 1e-6);
  EXPECT_LT((pose.beam - true_pose().beam).norm(), 1e-5);
}

TEST(PoseFit, OutliersPullLinearly) {
  // One place of 52 taken for another ring: forgotten but for its constant pull.
  RingTargets targets;
  bool first = true;
  for (const auto& ring : rings_of_places()) {
    for (const Eigen::Vector3d& place : ring) {
      targets.add(place, sine_at(true_pose(), place) + (first ? 0.02 : 0.0), 1.0);
      first = false;
    }
  }
  Pose pose = near_pose();
  static_cast<void>(fit_pose(pose, targets, settings_of(100)));
  const Eigen::Vector3d place = rings_of_places()[2][6];
  const double slope_m =
      (sine_at(true_pose(), place + Eigen::Vector3d(pixel_m, 0.0, 0.0)) - sine_at(true_pose(), place));
  // 0.02 is some 50 pixels; the middle of the others is within one.
  EXPECT_LT(std::abs(sine_at(pose, place) - sine_at(true_pose(), place)), std::abs(slope_m));
}

TEST(PoseFit, FreeRingsTellByTheirShapesAlone) {
  // Two rings are known, the two others only as rings: they pin down what two short arcs leave open.
  const auto rings = rings_of_places();
  RingTargets known, all;
  for (std::size_t ring = 0; ring < rings.size(); ++ring) {
    const bool given = ring == 1 || ring == 2;
    all.begin_group(!given);
    for (const Eigen::Vector3d& place : rings[ring]) {
      const double sine = given ? sine_at(true_pose(), place) : 0.5;  // of a free ring not looked at
      all.add(place, sine, 1.0);
      if (given) known.add(place, sine, 1.0);
    }
  }
  Pose pose = near_pose();
  EXPECT_LT(fit_pose(pose, all, settings_of(200)), 1e-6);
  EXPECT_LT((pose.sample - true_pose().sample).norm(), 1e-5);
  // A free ring's own level does not matter, its being a ring does: places of two rings in one free group do not fit.
  RingTargets mixed;
  mixed.begin_group(true);
  for (const Eigen::Vector3d& place : rings[0]) mixed.add(place, 0.0, 1.0);
  for (const Eigen::Vector3d& place : rings[3]) mixed.add(place, 0.0, 1.0);
  Pose other = true_pose();
  EXPECT_GT(fit_pose(other, mixed, settings_of(0 + 1)), 100.0);
}

TEST(PoseFit, TheSampleStaysInFrontOfTheDetector) {
  RingTargets targets;
  for (const auto& ring : rings_of_places()) {
    for (const Eigen::Vector3d& place : ring) targets.add(place, 0.7, 1.0);  // 2theta of 89 degrees everywhere
  }
  Pose pose = near_pose();
  static_cast<void>(fit_pose(pose, targets, settings_of(200)));
  EXPECT_LT(pose.sample[2], -2.0 * pixel_m);
}

}  // namespace
}  // namespace annulus::calibration
