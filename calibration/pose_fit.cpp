#include "calibration/pose_fit.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/every_cpu.hpp"

namespace annulus::calibration {
namespace {

using Vector5 = Eigen::Matrix<double, 5, 1>;
using Matrix5 = Eigen::Matrix<double, 5, 5>;

constexpr std::size_t lanes = RingTargets::lanes;
constexpr std::size_t unknowns = 5;
constexpr std::size_t products = unknowns * (unknowns + 1) / 2;

/// A pose as plain numbers, with the directions in which its beam can turn.
struct PlainPose {
  double sample[3];
  double beam[3];
  double turns[2][3];
};

struct Sums {
  double normal[products];    ///< rows of the upper triangle
  double gradient[unknowns];  ///< of half the cost
  double cost;
  double level[unknowns];  ///< products with the derivative by a common sine, without its sign
  double level_normal;
  double level_gradient;
};

/// Sums over all targets; without derivatives only the cost.
template <bool derivatives>
inline __attribute__((always_inline)) void sum_over(const RingTargets::Block* blocks, std::size_t count,
                                                    const PlainPose& pose, double pixel_m, double scale_px,
                                                    Sums& sums) {
  double normal[products][lanes] = {};
  double gradient[unknowns][lanes] = {};
  double cost[lanes] = {};
  double level[unknowns][lanes] = {}, level_normal[lanes] = {}, level_gradient[lanes] = {};
  const double inverse_square = 1.0 / (scale_px * scale_px);
  const double twice_square = 2.0 * scale_px * scale_px;
  for (std::size_t block = 0; block < count; ++block) {
    const RingTargets::Block& targets = blocks[block];
    double weights[lanes], errors[lanes], scales[lanes], rows[unknowns][lanes];
#pragma omp simd
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double ray0 = targets.place[0][lane] - pose.sample[0];
      const double ray1 = targets.place[1][lane] - pose.sample[1];
      const double ray2 = targets.place[2][lane] - pose.sample[2];
      const double inverse = 1.0 / std::sqrt(ray0 * ray0 + ray1 * ray1 + ray2 * ray2);
      const double way0 = ray0 * inverse, way1 = ray1 * inverse, way2 = ray2 * inverse;
      const double cosine = way0 * pose.beam[0] + way1 * pose.beam[1] + way2 * pose.beam[2];
      const double half = 0.5 * (1.0 - cosine);
      const double sine = std::sqrt(half > 1e-18 ? half : 1e-18);
      const double factor = -0.25 / sine;  // d(sine) / d(cosine)
      const double by_place = factor * inverse;
      const double slope0 = by_place * (pose.beam[0] - cosine * way0);
      const double slope1 = by_place * (pose.beam[1] - cosine * way1);
      const double slope2 = by_place * (pose.beam[2] - cosine * way2);
      const double slope = std::sqrt(slope0 * slope0 + slope1 * slope1);
      const double to_pixels = 1.0 / ((slope > 1e-9 ? slope : 1e-9) * pixel_m);
      const double error = (sine - targets.sine[lane]) * to_pixels;
      const double root = std::sqrt(1.0 + error * error * inverse_square);
      cost[lane] += targets.weight[lane] * twice_square * (root - 1.0);
      if (derivatives) {
        weights[lane] = targets.weight[lane] / root;
        errors[lane] = error;
        scales[lane] = to_pixels;
        rows[0][lane] = -slope0 * to_pixels;
        rows[1][lane] = -slope1 * to_pixels;
        rows[2][lane] = -slope2 * to_pixels;
        const double by_beam = factor * to_pixels;
        rows[3][lane] = by_beam * (way0 * pose.turns[0][0] + way1 * pose.turns[0][1] + way2 * pose.turns[0][2]);
        rows[4][lane] = by_beam * (way0 * pose.turns[1][0] + way1 * pose.turns[1][1] + way2 * pose.turns[1][2]);
      }
    }
    if (!derivatives) continue;
#pragma omp simd
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      level_normal[lane] += weights[lane] * scales[lane] * scales[lane];
      level_gradient[lane] += weights[lane] * scales[lane] * errors[lane];
    }
    std::size_t product = 0;
    for (std::size_t one = 0; one < unknowns; ++one) {
      double weighed[lanes];
#pragma omp simd
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        weighed[lane] = weights[lane] * rows[one][lane];
        gradient[one][lane] += weighed[lane] * errors[lane];
        level[one][lane] += weighed[lane] * scales[lane];
      }
      for (std::size_t other = one; other < unknowns; ++other, ++product) {
#pragma omp simd
        for (std::size_t lane = 0; lane < lanes; ++lane) normal[product][lane] += weighed[lane] * rows[other][lane];
      }
    }
  }
  const auto over_lanes = [](const double(&values)[lanes]) {
    double sum = 0.0;
    for (const double value : values) sum += value;
    return sum;
  };
  sums.cost = over_lanes(cost);
  if (!derivatives) return;
  for (std::size_t product = 0; product < products; ++product) sums.normal[product] = over_lanes(normal[product]);
  for (std::size_t one = 0; one < unknowns; ++one) {
    sums.gradient[one] = over_lanes(gradient[one]);
    sums.level[one] = over_lanes(level[one]);
  }
  sums.level_normal = over_lanes(level_normal);
  sums.level_gradient = over_lanes(level_gradient);
}

ANNULUS_FOR_EVERY_CPU void sum_all(const RingTargets::Block* blocks, std::size_t count, const PlainPose& pose,
                                   double pixel_m, double scale_px, Sums& sums) {
  sum_over<true>(blocks, count, pose, pixel_m, scale_px, sums);
}

ANNULUS_FOR_EVERY_CPU void sum_cost(const RingTargets::Block* blocks, std::size_t count, const PlainPose& pose,
                                    double pixel_m, double scale_px, Sums& sums) {
  sum_over<false>(blocks, count, pose, pixel_m, scale_px, sums);
}

PlainPose plain(const Pose& pose, const Tangents& tangents) {
  PlainPose numbers{};
  for (int axis = 0; axis < 3; ++axis) {
    numbers.sample[axis] = pose.sample[axis];
    numbers.beam[axis] = pose.beam[axis];
    numbers.turns[0][axis] = tangents.first[axis];
    numbers.turns[1][axis] = tangents.second[axis];
  }
  return numbers;
}

/// The sine that the targets of a block range have on average.
double mean_sine(const std::vector<RingTargets::Block>& blocks, const RingTargets::Group& group, const Pose& pose) {
  double sum = 0.0, weights = 0.0;
  for (std::size_t block = group.first; block < group.last; ++block) {
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const Eigen::Vector3d place(blocks[block].place[0][lane], blocks[block].place[1][lane],
                                  blocks[block].place[2][lane]);
      const Eigen::Vector3d ray = (place - pose.sample).normalized();
      sum += blocks[block].weight[lane] * 0.5 * (ray - pose.beam).norm();
      weights += blocks[block].weight[lane];
    }
  }
  return weights > 0.0 ? sum / weights : 0.0;
}

void set_sine(std::vector<RingTargets::Block>& blocks, const RingTargets::Group& group, double sine) {
  for (std::size_t block = group.first; block < group.last; ++block)
    std::fill(std::begin(blocks[block].sine), std::end(blocks[block].sine), sine);
}

}  // namespace

void RingTargets::clear() {
  blocks_.clear();
  groups_.clear();
  size_ = 0;
  lane_ = 0;
}

void RingTargets::begin_group(bool free) {
  groups_.push_back({blocks_.size(), blocks_.size(), free});
  lane_ = 0;
}

void RingTargets::add(const Eigen::Vector3d& place_m, double sine, double weight) {
  if (groups_.empty()) begin_group(false);
  if (lane_ == 0) {
    // Lanes yet to be filled stand where nothing goes wrong.
    Block empty{};
    for (std::size_t other = 0; other < lanes; ++other) {
      for (int axis = 0; axis < 3; ++axis) empty.place[axis][other] = place_m[axis];
      empty.sine[other] = sine;
    }
    blocks_.push_back(empty);
    groups_.back().last = blocks_.size();
  }
  Block& block = blocks_.back();
  for (int axis = 0; axis < 3; ++axis) block.place[axis][lane_] = place_m[axis];
  block.sine[lane_] = sine;
  block.weight[lane_] = weight;
  lane_ = (lane_ + 1) % lanes;
  ++size_;
}

double fit_pose(Pose& pose, const RingTargets& targets, const PoseFitSettings& settings) {
  const double prior = 1.0 / (settings.tilt_prior_rad * settings.tilt_prior_rad);
  std::vector<RingTargets::Block> blocks = targets.blocks();
  const std::vector<RingTargets::Group>& groups = targets.groups();
  std::vector<double> levels(groups.size(), 0.0), trial_levels(groups.size(), 0.0);
  std::vector<Sums> of_groups(groups.size());
  for (std::size_t group = 0; group < groups.size(); ++group) {
    if (groups[group].free) levels[group] = mean_sine(blocks, groups[group], pose);
  }
  const auto tilt_cost = [&](const Pose& at) { return prior * at.beam.head<2>().squaredNorm(); };
  double cost = std::numeric_limits<double>::infinity();
  double damping = 1e-3;
  for (int iteration = 0; iteration < settings.iterations; ++iteration) {
    const Tangents tangents = tangents_of(pose.beam);
    const PlainPose numbers = plain(pose, tangents);
    cost = tilt_cost(pose);
    Matrix5 hessian = Matrix5::Zero();
    Vector5 gradient = Vector5::Zero();
    for (std::size_t group = 0; group < groups.size(); ++group) {
      const RingTargets::Group& range = groups[group];
      if (range.free) set_sine(blocks, range, levels[group]);
      Sums& sums = of_groups[group];
      sum_all(blocks.data() + range.first, range.last - range.first, numbers, settings.pixel_m, settings.scale_px,
              sums);
      cost += sums.cost;
      // A free level is eliminated: what it takes up tells nothing about the pose.
      const double taken = range.free && sums.level_normal > 0.0 ? 1.0 / sums.level_normal : 0.0;
      std::size_t product = 0;
      for (int one = 0; one < static_cast<int>(unknowns); ++one) {
        gradient[one] += sums.gradient[one] - taken * sums.level[one] * sums.level_gradient;
        for (int other = one; other < static_cast<int>(unknowns); ++other)
          hessian(one, other) += sums.normal[product++] - taken * sums.level[one] * sums.level[other];
      }
    }
    for (int one = 0; one < static_cast<int>(unknowns); ++one) {
      for (int other = one + 1; other < static_cast<int>(unknowns); ++other) hessian(other, one) = hessian(one, other);
    }
    for (int axis = 0; axis < 2; ++axis) {
      Vector5 row = Vector5::Zero();
      row[3] = tangents.first[axis];
      row[4] = tangents.second[axis];
      hessian += prior * row * row.transpose();
      gradient += prior * pose.beam[axis] * row;
    }
    bool better = false;
    for (int attempt = 0; attempt < 6; ++attempt) {
      Matrix5 damped = hessian;
      damped.diagonal() *= 1.0 + damping;
      damped.diagonal().array() += 1e-30;
      const Vector5 step = -damped.ldlt().solve(gradient);
      // No step may turn the beam by more than half a radian: the model is not linear beyond.
      if (!step.allFinite() || step.tail<2>().norm() > 0.5) {
        damping = std::max(damping * 10.0, 1e-6);
        continue;
      }
      const Pose trial = moved(pose, step);
      double trial_cost = std::numeric_limits<double>::infinity();
      // The sample stays in front of the detector, by two pixels at least.
      if (trial.sample[2] < -2.0 * settings.pixel_m) {
        const PlainPose trial_numbers = plain(trial, tangents);
        trial_cost = tilt_cost(trial);
        for (std::size_t group = 0; group < groups.size(); ++group) {
          const RingTargets::Group& range = groups[group];
          const Sums& sums = of_groups[group];
          if (range.free) {
            double along = sums.level_gradient;
            for (int one = 0; one < static_cast<int>(unknowns); ++one) along += sums.level[one] * step[one];
            trial_levels[group] = levels[group] + (sums.level_normal > 0.0 ? along / sums.level_normal : 0.0);
            set_sine(blocks, range, trial_levels[group]);
          }
          Sums trial_sums{};
          sum_cost(blocks.data() + range.first, range.last - range.first, trial_numbers, settings.pixel_m,
                   settings.scale_px, trial_sums);
          trial_cost += trial_sums.cost;
        }
      }
      if (trial_cost < cost) {
        const bool small = cost - trial_cost < 1e-5 * cost;
        pose = trial;
        levels.swap(trial_levels);
        cost = trial_cost;
        damping = std::max(damping * 0.2, 1e-9);
        better = !small;
        break;
      }
      damping *= 8.0;
    }
    if (!better) break;
  }
  return cost;
}

}  // namespace annulus::calibration
