// Pose fit: the pose that brings places to their rings, by the hundred thousand.
//
// The search asks this for every proposal, so it is written for vector units: targets lie in lanes, and sums are taken
// lane by lane in one order, so that every processor gives the same bits.
#pragma once

#include <cstddef>
#include <vector>

#include "calibration/pose.hpp"

namespace annulus::calibration {

/// Places on the detector that shall have given sines of theta (half of 2theta), with weights; or, in a group of their
/// own, the same sine, whichever it is.
class RingTargets {
 public:
  static constexpr std::size_t lanes = 8;
  struct Block {
    double place[3][lanes];  ///< m
    double sine[lanes];
    double weight[lanes];  ///< 0 in lanes without a target
  };
  /// Targets that lie on one ring: blocks [first, last).
  struct Group {
    std::size_t first = 0, last = 0;
    bool free = false;  ///< the ring's sine is what fits best
  };

  void clear();
  /// Starts a group: the targets added from here on. Without any, all targets have the sines that they came with.
  void begin_group(bool free);
  void add(const Eigen::Vector3d& place_m, double sine, double weight);
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  [[nodiscard]] const std::vector<Group>& groups() const { return groups_; }

 private:
  std::vector<Block> blocks_;
  std::vector<Group> groups_;
  std::size_t size_ = 0;
  std::size_t lane_ = 0;  ///< next one in the last block
};

struct PoseFitSettings {
  double pixel_m = 0.0;
  double scale_px = 1.0;  ///< from here on errors count linearly (pseudo-Huber)
  int iterations = 5;
  double tilt_prior_rad = 3.0;  ///< a beam so far off the detector's normal costs one; keeps it where nothing tells
};

/// Moves `pose` to less cost by Levenberg and Marquardt on its five numbers; returns the cost: squares of pixels.
double fit_pose(Pose& pose, const RingTargets& targets, const PoseFitSettings& settings);

}  // namespace annulus::calibration
