#include "calibration/hypothesis_search.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>

#include "calibration/pose_fit.hpp"

namespace annulus::calibration {
namespace {

double squared(double value) { return value * value; }

/// A segment of a crest on the detector.
struct Crest {
  Eigen::Vector3d place;   ///< m
  Eigen::Vector3d normal;  ///< unit vector
  double weight = 1.0;     ///< 1 for a full segment
  std::uint32_t curve = 0;
};

/// sin(theta) of a place, theta being half of 2theta, and its derivatives: what a ring's sine, wavelength / 2 d, is
/// compared with. It needs one square root where an angle needs an arc tangent, and this file asks for it 10^7 times.
struct SineAt {
  double sine = 0.0;
  Eigen::Vector3d gradient;  ///< by the place, 1/m; by the sample it is the negative
  Eigen::Vector3d by_beam;   ///< along the tangents of the unit sphere alone
};

SineAt sine_at(const Pose& pose, const Eigen::Vector3d& place) {
  SineAt at;
  const Eigen::Vector3d ray = place - pose.sample;
  const double inverse = 1.0 / ray.norm();
  const Eigen::Vector3d direction = ray * inverse;
  const double cosine = direction.dot(pose.beam);
  at.sine = std::sqrt(std::max(0.5 * (1.0 - cosine), 1e-18));
  const double factor = -0.25 / at.sine;  // d(sine) / d(cosine)
  at.gradient = (factor * inverse) * (pose.beam - cosine * direction);
  at.by_beam = factor * direction;
  return at;
}

double sine_alone(const Pose& pose, const Eigen::Vector3d& place) {
  const Eigen::Vector3d ray = place - pose.sample;
  return std::sqrt(std::max(0.5 * (1.0 - ray.dot(pose.beam) / ray.norm()), 0.0));
}

/// The rings by their sines, and at once which is nearest to one.
class RingList {
 public:
  explicit RingList(std::span<const double> rings_rad) {
    for (const double ring_rad : rings_rad) rings_.push_back(std::sin(0.5 * ring_rad));
    std::uint32_t ring = 0;
    for (std::size_t entry = 0; entry < nearest_.size(); ++entry) {
      const double sine = (static_cast<double>(entry) + 0.5) / static_cast<double>(nearest_.size());
      while (ring + 1 < rings_.size() && rings_[ring + 1] + rings_[ring] < 2.0 * sine) ++ring;
      nearest_[entry] = ring;
    }
  }
  [[nodiscard]] std::size_t size() const { return rings_.size(); }
  [[nodiscard]] double operator[](std::size_t ring) const { return rings_[ring]; }

  [[nodiscard]] std::uint32_t nearest(double sine) const {
    const auto entry = static_cast<std::size_t>(sine * static_cast<double>(nearest_.size()));
    std::uint32_t ring = nearest_[std::min(entry, nearest_.size() - 1)];
    while (ring > 0 && rings_[ring] + rings_[ring - 1] > 2.0 * sine) --ring;
    while (ring + 1 < rings_.size() && rings_[ring + 1] + rings_[ring] < 2.0 * sine) ++ring;
    return ring;
  }
  /// Width of the range of sines that is nearest to this ring. The first and the last ring's are symmetric.
  [[nodiscard]] double cell(std::uint32_t ring) const {
    if (rings_.size() == 1) return rings_[0];
    const double below = ring > 0 ? rings_[ring] - rings_[ring - 1] : rings_[1] - rings_[0];
    const double above = ring + 1 < rings_.size() ? rings_[ring + 1] - rings_[ring] : below;
    return 0.5 * (below + above);
  }

 private:
  std::vector<double> rings_;
  std::array<std::uint32_t, 16384> nearest_{};
};

/// Half a right angle's share that a crest's direction is off, when it belongs to a ring: segments of ten points have
/// their normals to some degrees.
constexpr double direction_sigma_rad = 0.12;

class Search {
 public:
  Search(const SearchInput& input, std::size_t most_crests)
      : rings_(input.rings_rad), pixel_m_(input.pixel_m), scale_px_(input.ridges->scale_px) {
    // The longest curves first, weighed by how clear they are, until there are four times as many segments as wanted;
    // of these evenly, along the curves.
    const std::vector<RidgeSegment>& segments = input.ridges->segments;
    std::vector<double> importance(input.ridges->curves, 0.0);
    for (const RidgeSegment& segment : segments) {
      importance[segment.curve] += segment.points * std::log1p(segment.strength);
    }
    std::vector<std::uint32_t> order(segments.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t one, std::uint32_t other) {
      return importance[segments[one].curve] > importance[segments[other].curve];
    });
    if (order.size() > 4 * most_crests) order.resize(4 * most_crests);
    const double share =
        std::min(1.0, static_cast<double>(most_crests) / std::max<double>(1.0, static_cast<double>(order.size())));
    double due = 0.0;
    std::uint32_t last_curve = 0;
    for (const std::uint32_t index : order) {
      due += share;
      if (due < 1.0) continue;
      due -= 1.0;
      const RidgeSegment& segment = segments[index];
      Crest crest;
      crest.place = input.places->at(segment.row, segment.column);
      constexpr double step = 0.5;  // px
      crest.normal =
          (input.places->at(segment.row + step * segment.normal_row, segment.column + step * segment.normal_column) -
           crest.place)
              .normalized();
      crest.weight = std::min(1.0, segment.points / 5.0);
      // Curves are numbered anew, in the order in which they are met.
      if (crests_.empty() || segment.curve != last_curve) ++curves_;
      last_curve = segment.curve;
      crest.curve = curves_ - 1;
      crests_.push_back(crest);
    }
    constexpr std::uint32_t grid = 14;
    for (std::uint32_t row = 0; row < grid; ++row) {
      for (std::uint32_t column = 0; column < grid; ++column) {
        const double place_row = (row + 0.5) * input.rows / grid;
        const double place_column = (column + 0.5) * input.columns / grid;
        const std::size_t pixel =
            static_cast<std::size_t>(place_row) * input.columns + static_cast<std::size_t>(place_column);
        if (input.mask[pixel] == 0) grid_.push_back(input.places->at(place_row, place_column));
      }
    }
    lowest_ = highest_ = input.places->at(0.0, 0.0);
    for (const auto& corner : {input.places->at(input.rows, 0.0), input.places->at(0.0, input.columns),
                               input.places->at(input.rows, input.columns)}) {
      lowest_ = lowest_.cwiseMin(corner);
      highest_ = highest_.cwiseMax(corner);
    }
    size_m_ = (highest_ - lowest_).maxCoeff();
  }

  [[nodiscard]] const std::vector<Crest>& crests() const { return crests_; }

  /// Scores a pose; `tolerance_px` is the standard deviation of a crest about its ring.
  [[nodiscard]] Hypothesis scored(const Pose& pose, double tolerance_px) const {
    Hypothesis hypothesis;
    hypothesis.pose = pose;
    // Share of crests that belong to no ring (other phases, noise) even when the hypothesis is right, and of those on
    // rings that run in any direction: grains make spots, not lines.
    constexpr double astray = 0.2;
    constexpr double spots = 0.2;
    const double log_astray = std::log(astray);
    const double tolerance_m = tolerance_px * pixel_m_;
    std::vector<char> seen(rings_.size(), 0);
    for (const Crest& crest : crests_) {
      const SineAt at = sine_at(pose, crest.place);
      const std::uint32_t ring = rings_.nearest(at.sine);
      const double slope = std::max(at.gradient.head<2>().norm(), 1e-9);
      const double cell_m = std::min(rings_.cell(ring) / slope, 0.5 * size_m_);
      const double error_m = (at.sine - rings_[ring]) / slope;
      const double sine_squared =
          1.0 - std::min(1.0, squared(crest.normal.head<2>().dot(at.gradient.head<2>()) / slope));
      const double place_deviation = error_m * error_m / (tolerance_m * tolerance_m);
      const double direction_deviation = sine_squared / (direction_sigma_rad * direction_sigma_rad);
      // Densities over those of chance: a cell's width, half a turn.
      const double place_best = cell_m / (tolerance_m * std::sqrt(2.0 * std::numbers::pi));
      const double direction_best = (1.0 - spots) * std::sqrt(0.5 * std::numbers::pi) / direction_sigma_rad;
      double gain = log_astray;
      if (place_deviation < 25.0) {
        const double direction =
            spots + (direction_deviation < 25.0 ? direction_best * std::exp(-0.5 * direction_deviation) : 0.0);
        gain = std::log(astray + (1.0 - astray) * place_best * std::exp(-0.5 * place_deviation) * direction);
      }
      hypothesis.score += crest.weight * gain;
      if (gain > 0.0) seen[ring] = 1;
    }
    // Rings that should be on the detector and have nothing: weak ones are many, so each counts little.
    constexpr double nats_per_missing_ring = 2.0;
    std::vector<std::uint32_t> covered(rings_.size(), 0);
    for (const Eigen::Vector3d& place : grid_) {
      const double sine = sine_alone(pose, place);
      const std::uint32_t ring = rings_.nearest(sine);
      if (std::abs(sine - rings_[ring]) < 0.5 * rings_.cell(ring)) ++covered[ring];
    }
    for (std::size_t ring = 0; ring < seen.size(); ++ring) {
      if (seen[ring] != 0)
        ++hypothesis.rings;
      else if (covered[ring] >= 2)
        hypothesis.score -= nats_per_missing_ring;
    }
    return hypothesis;
  }

  [[nodiscard]] double fit(Pose& pose, const RingTargets& targets, double scale_px, int iterations,
                           double tilt_prior_rad) const {
    return fit_pose(pose, targets, {pixel_m_, scale_px, iterations, tilt_prior_rad});
  }

  /// Assigns crests to rings, fits, and again, the tolerance falling.
  [[nodiscard]] Hypothesis refined(Pose pose, double first_tolerance_px) const {
    const double last_tolerance_px = 0.7 * scale_px_;
    double tolerance_px = first_tolerance_px;
    RingTargets targets;
    for (int round = 0; round < 7; ++round) {
      targets.clear();
      for (const Crest& crest : crests_) {
        const SineAt at = sine_at(pose, crest.place);
        const std::uint32_t ring = rings_.nearest(at.sine);
        const double slope = std::max(at.gradient.head<2>().norm(), 1e-9);
        const double error = std::abs(at.sine - rings_[ring]);
        const double cosine = std::abs(crest.normal.head<2>().dot(at.gradient.head<2>())) / slope;
        if (error < 0.45 * rings_.cell(ring) && error / slope < 4.0 * tolerance_px * pixel_m_ && cosine > 0.9)
          targets.add(crest.place, rings_[ring], crest.weight);
      }
      if (targets.size() < 6) break;
      static_cast<void>(fit(pose, targets, tolerance_px, 5, loose_tilt_rad));
      tolerance_px = std::max(last_tolerance_px, 0.6 * tolerance_px);
    }
    return scored(pose, last_tolerance_px * 1.3);
  }

  /// The best of what comes of taking each curve for another ring: one of many rings evenly apart is easily taken for
  /// its neighbour, and no small step leads from there to the right one.
  [[nodiscard]] Hypothesis reassigned(Hypothesis best) const {
    // Of the crests' squared sines, in which lattices are even: by so many mean distances of rings there, and stretched
    // about their middle.
    struct Move {
      double shift;
      double stretch;
    };
    // (Lists of cubic compounds repeat themselves nearly after seven or eight rings.)
    constexpr std::array moves{Move{-8.0, 1.0},  Move{-7.0, 1.0},  Move{-5.0, 1.0}, Move{-3.0, 1.0},  Move{-2.0, 1.0},
                               Move{-1.0, 1.0},  Move{-0.5, 1.0},  Move{0.5, 1.0},  Move{1.0, 1.0},   Move{2.0, 1.0},
                               Move{3.0, 1.0},   Move{5.0, 1.0},   Move{7.0, 1.0},  Move{8.0, 1.0},   Move{-1.0, 0.95},
                               Move{1.0, 0.95},  Move{-0.5, 0.95}, Move{0.5, 0.95}, Move{-1.0, 1.05}, Move{1.0, 1.05},
                               Move{-0.5, 1.05}, Move{0.5, 1.05},  Move{0.0, 0.85}, Move{0.0, 0.92},  Move{0.0, 0.97},
                               Move{0.0, 1.03},  Move{0.0, 1.08},  Move{0.0, 1.15}};
    constexpr int rounds = 6;
    for (int round = 0; round < rounds; ++round) {
      const Hypothesis from = best;
      std::vector<double> sums(curves_, 0.0), weights(curves_, 0.0);
      double middle = 0.0, total = 0.0;
      for (const Crest& crest : crests_) {
        const double square = squared(sine_alone(from.pose, crest.place));
        sums[crest.curve] += crest.weight * square;
        weights[crest.curve] += crest.weight;
        middle += crest.weight * square;
        total += crest.weight;
      }
      middle /= total;
      double lowest = 1.0, highest = 0.0;
      for (std::uint32_t curve = 0; curve < curves_; ++curve) {
        if (weights[curve] <= 0.0) continue;
        lowest = std::min(lowest, sums[curve] / weights[curve]);
        highest = std::max(highest, sums[curve] / weights[curve]);
      }
      const double apart = (highest - lowest) / std::max(1.0, static_cast<double>(rings_.nearest(std::sqrt(highest))) -
                                                                  rings_.nearest(std::sqrt(lowest)));
      for (const Move& move : moves) {
        RingTargets targets;
        for (const Crest& crest : crests_) {
          constexpr double least_weight = 2.0;  // curves of less are no rings
          if (weights[crest.curve] < least_weight) continue;
          const double mean = sums[crest.curve] / weights[crest.curve];
          const double wanted = middle + move.stretch * (mean - middle) + move.shift * apart;
          targets.add(crest.place, rings_[rings_.nearest(std::sqrt(std::clamp(wanted, 0.0, 1.0)))], crest.weight);
        }
        if (targets.size() < 6) continue;
        Pose pose = from.pose;
        static_cast<void>(fit(pose, targets, 4.0 * scale_px_, 12, loose_tilt_rad));
        const Hypothesis trial = refined(pose, 6.0 * scale_px_);
        if (trial.score > best.score) best = trial;
      }
      constexpr double least_gain = 10.0;  // nats
      if (best.score < from.score + least_gain) break;
    }
    return best;
  }

  /// Best distance for this beam and pattern: equal angles along each curve place the sample over the detector, then
  /// all distances are tried.
  void propose_at_beam(const Pose& start, double lowest_ratio, double highest_ratio, std::size_t count,
                       std::vector<Hypothesis>& proposals) const {
    Pose pose = start;
    equalise(pose);
    // The point where the beam meets the detector stays while the distance is scanned.
    const Eigen::Vector3d hit = pose.sample - pose.sample[2] / pose.beam[2] * pose.beam;
    const double length = -pose.sample[2] / pose.beam[2];
    // The best distances, no two within some steps: with a tilt yet to be found, the right one need not be the first.
    std::vector<std::pair<int, Hypothesis>> trials;
    int step = 0;
    for (double ratio = lowest_ratio; ratio < highest_ratio; ratio *= 1.006, ++step) {
      trials.emplace_back(step, scored({hit - ratio * length * pose.beam, pose.beam}, 2.0 * scale_px_));
    }
    std::stable_sort(trials.begin(), trials.end(),
                     [](const auto& one, const auto& other) { return one.second.score > other.second.score; });
    std::vector<int> taken;
    for (const auto& [place, hypothesis] : trials) {
      constexpr int apart = 3;
      if (taken.size() == count) break;
      if (std::any_of(taken.begin(), taken.end(), [&](int other) { return std::abs(other - place) < apart; })) continue;
      taken.push_back(place);
      proposals.push_back(hypothesis);
    }
  }

  /// Moves the sample parallel to the detector until each curve has the same 2theta all along.
  void equalise(Pose& pose) const {
    std::vector<double> means, weights;
    for (int iteration = 0; iteration < 8; ++iteration) {
      const std::size_t curves = curves_;
      means.assign(curves, 0.0);
      weights.assign(curves, 0.0);
      std::vector<Eigen::Vector2d> mean_rows(curves, Eigen::Vector2d::Zero());
      for (const Crest& crest : crests_) {
        const SineAt at = sine_at(pose, crest.place);
        means[crest.curve] += crest.weight * at.sine;
        weights[crest.curve] += crest.weight;
        mean_rows[crest.curve] -= crest.weight * at.gradient.head<2>();
      }
      for (std::size_t curve = 0; curve < curves; ++curve) {
        if (weights[curve] > 0.0) {
          means[curve] /= weights[curve];
          mean_rows[curve] /= weights[curve];
        }
      }
      Eigen::Matrix2d hessian = Eigen::Matrix2d::Zero();
      Eigen::Vector2d gradient = Eigen::Vector2d::Zero();
      for (const Crest& crest : crests_) {
        if (weights[crest.curve] < 3.0) continue;
        const SineAt at = sine_at(pose, crest.place);
        const double inverse = 1.0 / (std::max(at.gradient.head<2>().norm(), 1e-9) * pixel_m_);
        const Eigen::Vector2d row = (-at.gradient.head<2>() - mean_rows[crest.curve]) * inverse;
        const double error = (at.sine - means[crest.curve]) * inverse;
        const double scale = 3.0 * scale_px_ * (1 << std::max(0, 4 - iteration));
        const double weight = crest.weight / (1.0 + error * error / (scale * scale));
        hessian += weight * row * row.transpose();
        gradient += weight * error * row;
      }
      hessian.diagonal() *= 1.001;
      hessian.diagonal().array() += 1e-12;
      Eigen::Vector2d step = -hessian.ldlt().solve(gradient);
      if (!step.allFinite()) return;
      const double most = 0.3 * size_m_;
      if (step.norm() > most) step *= most / step.norm();
      pose.sample.head<2>() += step;
      if (step.norm() < 0.05 * pixel_m_) return;
    }
  }

  /// Where most normals meet, in m on the detector's plane; best first.
  [[nodiscard]] std::vector<Eigen::Vector2d> pattern_centres(std::size_t count) const {
    // Cells of 1/40 of the detector over a square of five detectors: further out, normals are parallel for all that
    // their errors tell.
    constexpr int cells = 200;
    const double cell_m = size_m_ / 40.0;
    const Eigen::Vector2d corner =
        0.5 * (lowest_ + highest_).head<2>() - Eigen::Vector2d::Constant(0.5 * cells * cell_m);
    std::vector<float> votes(cells * cells, 0.0F);
    for (const Crest& crest : crests_) {
      const Eigen::Vector2d from = (crest.place.head<2>() - corner) / cell_m;
      const Eigen::Vector2d along = crest.normal.head<2>();
      const int main_axis = std::abs(along[0]) > std::abs(along[1]) ? 0 : 1;
      const double slope = along[1 - main_axis] / along[main_axis];
      for (int place = 0; place < cells; ++place) {
        const double across = from[1 - main_axis] + (place + 0.5 - from[main_axis]) * slope;
        // A vote is spread over the two cells that it falls between.
        const double low = std::floor(across - 0.5);
        const int first = static_cast<int>(low);
        const float share = static_cast<float>(across - 0.5 - low);
        for (int side = 0; side < 2; ++side) {
          if (first + side < 0 || first + side >= cells) continue;
          const std::size_t cell = main_axis == 0 ? static_cast<std::size_t>(place) * cells + first + side
                                                  : static_cast<std::size_t>(first + side) * cells + place;
          votes[cell] += static_cast<float>(crest.weight) * (side == 0 ? 1.0F - share : share);
        }
      }
    }
    std::vector<float> blurred(votes.size(), 0.0F);
    for (int row = 1; row < cells - 1; ++row) {
      for (int column = 1; column < cells - 1; ++column) {
        for (int down = -1; down <= 1; ++down) {
          for (int right = -1; right <= 1; ++right)
            blurred[row * cells + column] += votes[(row + down) * cells + column + right];
        }
      }
    }
    std::vector<Eigen::Vector2d> centres;
    for (std::size_t peak = 0; peak < count; ++peak) {
      const auto highest = std::max_element(blurred.begin(), blurred.end());
      if (*highest <= 0.0F) break;
      const int place = static_cast<int>(highest - blurred.begin());
      const int row = place / cells, column = place % cells;
      centres.emplace_back(corner + cell_m * Eigen::Vector2d(row + 0.5, column + 0.5));
      for (int r = std::max(0, row - 4); r <= std::min(cells - 1, row + 4); ++r) {
        for (int c = std::max(0, column - 4); c <= std::min(cells - 1, column + 4); ++c) blurred[r * cells + c] = 0.0F;
      }
    }
    return centres;
  }

  /// Patterns about a centre: tilts on a coarse grid, then all distances.
  void propose_around_centres(SearchEffort effort, std::vector<Hypothesis>& proposals) const {
    struct Start {
      Pose pose;
      double low = 1.0, high = 1.0;
      std::size_t count = 1;
    };
    std::vector<Start> starts;
    const auto centres = pattern_centres(3);
    for (std::size_t index = 0; index < centres.size(); ++index) {
      const Eigen::Vector3d hit(centres[index][0], centres[index][1], 0.0);
      // Without tilt the pattern's form does not depend on the distance: one start for three decades.
      starts.push_back({{hit - size_m_ * Eigen::Vector3d::UnitZ(), Eigen::Vector3d::UnitZ()}, 0.05, 60.0, 40});
      if (index > 0 || effort == SearchEffort::quick) continue;
      for (const double tilt : {0.2, 0.4, 0.6}) {
        const int directions = tilt < 0.3 ? 8 : 12;
        for (int direction = 0; direction < directions; ++direction) {
          const double azimuth = 2.0 * std::numbers::pi * direction / directions;
          const Eigen::Vector3d beam(std::sin(tilt) * std::cos(azimuth), std::sin(tilt) * std::sin(azimuth),
                                     std::cos(tilt));
          for (double length = 0.15 * size_m_; length < 6.0 * size_m_; length *= 1.5) {
            starts.push_back({{hit - length * beam, beam}, 0.8, 1.25, 1});
          }
        }
      }
    }
    std::vector<std::vector<Hypothesis>> found(starts.size());
#pragma omp parallel for schedule(dynamic)
    for (std::size_t start = 0; start < starts.size(); ++start) {
      propose_at_beam(starts[start].pose, starts[start].low, starts[start].high, starts[start].count, found[start]);
    }
    for (const auto& some : found) proposals.insert(proposals.end(), some.begin(), some.end());
  }

  /// Any two long curves as any two rings.
  void propose_from_pairs(std::vector<Hypothesis>& proposals) const;

 private:
  /// Of the final fits: keeps a tilt that nothing determines from running away.
  static constexpr double loose_tilt_rad = 3.0;

  RingList rings_;
  double pixel_m_;
  double scale_px_;
  std::vector<Crest> crests_;
  std::vector<Eigen::Vector3d> grid_;  ///< places over the detector, not masked
  Eigen::Vector3d lowest_, highest_;
  double size_m_ = 0.0;
  std::uint32_t curves_ = 0;
};

void Search::propose_from_pairs(std::vector<Hypothesis>& proposals) const {
  // The curves' crests, the longest curves first.
  struct Curve {
    std::vector<const Crest*> crests;
    double weight = 0.0;
    Eigen::Vector3d middle = Eigen::Vector3d::Zero();
  };
  std::vector<Curve> curves;
  for (std::size_t first = 0; first < crests_.size();) {
    std::size_t last = first;
    Curve curve;
    for (; last < crests_.size() && crests_[last].curve == crests_[first].curve; ++last) {
      curve.crests.push_back(&crests_[last]);
      curve.weight += crests_[last].weight;
      curve.middle += crests_[last].place;
    }
    curve.middle /= static_cast<double>(last - first);
    if (curve.crests.size() >= 3) curves.push_back(curve);
    first = last;
  }
  std::stable_sort(curves.begin(), curves.end(),
                   [](const Curve& one, const Curve& other) { return one.weight > other.weight; });
  // The pairs are of the first ones; the others tell of the pose by their shapes.
  constexpr std::size_t most_curves = 14;
  constexpr std::size_t paired_curves = 4;
  if (curves.size() > most_curves) curves.resize(most_curves);

  // At most ten crests of each, evenly: more do not change what a hypothesis predicts.
  for (Curve& curve : curves) {
    constexpr std::size_t most = 10;
    if (curve.crests.size() <= most) continue;
    std::vector<const Crest*> some;
    for (std::size_t index = 0; index < most; ++index)
      some.push_back(curve.crests[index * (curve.crests.size() - 1) / (most - 1)]);
    curve.crests = some;
  }

  struct Job {
    std::size_t one, other;      ///< curves; `one` is the inner
    std::uint32_t inner, outer;  ///< rings
    Eigen::Vector3d foot;        ///< between the curves
    Eigen::Vector3d outward;     ///< unit vector in the detector's plane
    double separation_m;
  };
  std::vector<Job> jobs;
  const std::uint32_t most_rings = static_cast<std::uint32_t>(std::min<std::size_t>(rings_.size(), 80));
  const std::size_t paired = std::min(paired_curves, curves.size());
  for (std::size_t one = 0; one < paired; ++one) {
    for (std::size_t other = one + 1; other < paired; ++other) {
      // The nearest crests of the two, and the way across there.
      const Crest* from = nullptr;
      const Crest* to = nullptr;
      double nearest = std::numeric_limits<double>::infinity();
      for (const Crest* a : curves[one].crests) {
        for (const Crest* b : curves[other].crests) {
          const double apart = (a->place - b->place).norm();
          if (apart < nearest) {
            nearest = apart;
            from = a;
            to = b;
          }
        }
      }
      const Eigen::Vector3d across = to->place - from->place;
      Eigen::Vector3d normal = from->normal;
      normal[2] = 0.0;
      double separation = across.dot(normal);
      if (separation < 0.0) {
        separation = -separation;
        normal = -normal;
      }
      if (separation < 8.0 * pixel_m_ || separation < 0.5 * across.norm()) continue;
      for (std::uint32_t inner = 0; inner < most_rings; ++inner) {
        for (std::uint32_t outer = inner + 1; outer < most_rings; ++outer) {
          if (rings_[outer] - rings_[inner] > 0.35) break;  // some 45 degrees: more than a detector holds
          jobs.push_back({one, other, inner, outer, 0.5 * (from->place + to->place), normal, separation});
          jobs.push_back({other, one, inner, outer, 0.5 * (from->place + to->place), -normal, separation});
        }
      }
    }
  }
  constexpr std::size_t most_jobs = 6000;  // some 50 us each
  const double keep =
      std::min(1.0, static_cast<double>(most_jobs) / std::max<double>(1.0, static_cast<double>(jobs.size())));
  std::vector<Hypothesis> found(jobs.size());
#pragma omp parallel for schedule(dynamic, 64)
  for (std::size_t index = 0; index < jobs.size(); ++index) {
    found[index].score = -std::numeric_limits<double>::infinity();
    if (std::floor(static_cast<double>(index) * keep) == std::floor(static_cast<double>(index + 1) * keep)) continue;
    const Job& job = jobs[index];
    RingTargets targets;
    for (const Crest* crest : curves[job.one].crests) targets.add(crest->place, rings_[job.inner], 1.0);
    for (const Crest* crest : curves[job.other].crests) targets.add(crest->place, rings_[job.outer], 1.0);
    const double inner_rad = 2.0 * std::asin(rings_[job.inner]);
    const double outer_rad = 2.0 * std::asin(rings_[job.outer]);
    const double angle = 0.5 * (inner_rad + outer_rad);
    const double between = outer_rad - inner_rad;
    // Three starts: the detector across the beam, facing the sample, and half-way.
    for (const double facing : {0.0, 0.5, 1.0}) {
      const double tilt = facing * angle;     // of the detector's normal against the beam, towards the sample
      const double incidence = angle - tilt;  // of the ray against the detector's normal
      if (incidence > 1.3) continue;
      // Along the detector, d(2theta)/dx = cos(incidence) / |ray|.
      const double length = job.separation_m * std::cos(incidence) / between;
      // In the frame (outward, normal of the detector): the ray to the foot is at `incidence`, the beam at -tilt.
      const Eigen::Vector3d ray = std::sin(incidence) * job.outward + std::cos(incidence) * Eigen::Vector3d::UnitZ();
      const Eigen::Vector3d beam = -std::sin(tilt) * job.outward + std::cos(tilt) * Eigen::Vector3d::UnitZ();
      Pose pose{job.foot - length * ray, beam.normalized()};
      double cost = fit(pose, targets, 2.0 * scale_px_, 8, 0.5);
      if (cost > static_cast<double>(targets.size()) * 4.0 * scale_px_ * scale_px_) continue;
      // All other curves must be rings of this pose, too, whichever they are.
      RingTargets all;
      for (std::size_t index2 = 0; index2 < curves.size(); ++index2) {
        const bool free = index2 != job.one && index2 != job.other;
        all.begin_group(free);
        for (const Crest* crest : curves[index2].crests)
          all.add(crest->place, rings_[index2 == job.one ? job.inner : job.outer], 1.0);
      }
      cost = fit(pose, all, 2.0 * scale_px_, 10, loose_tilt_rad);
      if (cost > static_cast<double>(all.size()) * 4.0 * scale_px_ * scale_px_) continue;
      // Two arcs can fit in more than one way; the other crests tell which, and more than chance is enough.
      const Hypothesis trial = scored(pose, 2.5 * scale_px_);
      if (trial.score > found[index].score) found[index] = trial;
      if (found[index].score > 0.0) break;
    }
  }
  for (const Hypothesis& hypothesis : found) {
    if (std::isfinite(hypothesis.score)) proposals.push_back(hypothesis);
  }
}

/// Whether two poses say the same for every place, to a few pixels.
bool alike(const Pose& one, const Pose& other, std::span<const Crest> crests, double pixel_m, double scale_px) {
  double worst = 0.0;
  for (std::size_t index = 0; index < crests.size(); index += std::max<std::size_t>(1, crests.size() / 20)) {
    const SineAt at = sine_at(one, crests[index].place);
    const double difference = std::abs(at.sine - sine_alone(other, crests[index].place));
    worst = std::max(worst, difference / std::max(at.gradient.head<2>().norm() * pixel_m, 1e-12));
  }
  return worst < 2.0 * scale_px;
}

}  // namespace

std::vector<Eigen::Vector3f> places_of(const RidgeMap& ridges, const DetectorPlaces& places) {
  std::vector<Eigen::Vector3f> found(ridges.rows * ridges.columns);
#pragma omp parallel for
  for (std::size_t row = 0; row < ridges.rows; ++row) {
    for (std::size_t column = 0; column < ridges.columns; ++column) {
      found[row * ridges.columns + column] = places
                                                 .at((static_cast<double>(row) + 0.5) * ridges.scale_px,
                                                     (static_cast<double>(column) + 0.5) * ridges.scale_px)
                                                 .cast<float>();
    }
  }
  return found;
}

std::vector<Hypothesis> search_hypotheses(const SearchInput& input, std::span<const Pose> guesses, SearchEffort effort,
                                          std::size_t count) {
  constexpr std::size_t fewest_segments = 6;
  if (input.rings_rad.empty() || input.ridges->segments.size() < fewest_segments) return {};
  const Search coarse(input, 240);
  const Search fine(input, 1500);
  const double scale_px = input.ridges->scale_px;
  const auto higher_score = [](const Hypothesis& one, const Hypothesis& other) { return one.score > other.score; };

  std::vector<Hypothesis> proposals;
  for (const Pose& guess : guesses) proposals.push_back(coarse.scored(guess, 3.0 * scale_px));
  coarse.propose_around_centres(effort, proposals);
  if (effort == SearchEffort::full) coarse.propose_from_pairs(proposals);
  std::stable_sort(proposals.begin() + static_cast<std::ptrdiff_t>(guesses.size()), proposals.end(), higher_score);

  const std::size_t tried = std::min<std::size_t>(proposals.size(), guesses.size() + 120);
  std::vector<Hypothesis> refined(tried);
#pragma omp parallel for schedule(dynamic)
  for (std::size_t index = 0; index < tried; ++index)
    refined[index] = coarse.refined(proposals[index].pose, 6.0 * scale_px);
  const auto known_among = [&](const std::vector<Hypothesis>& others, const Hypothesis& hypothesis) {
    return std::any_of(others.begin(), others.end(), [&](const Hypothesis& other) {
      return alike(hypothesis.pose, other.pose, coarse.crests(), input.pixel_m, scale_px);
    });
  };
  const auto distinct_of = [&](std::vector<Hypothesis>& some, std::size_t most) {
    std::stable_sort(some.begin(), some.end(), higher_score);
    std::vector<Hypothesis> distinct;
    for (const Hypothesis& hypothesis : some) {
      if (distinct.size() == most) break;
      if (!known_among(distinct, hypothesis)) distinct.push_back(hypothesis);
    }
    return distinct;
  };
  // A wrong geometry that explains many crests may do so better than the right one: the rings themselves decide.
  constexpr std::size_t rivals = 4;
  std::vector<Hypothesis> distinct = distinct_of(refined, rivals * count);
  if (effort == SearchEffort::full) {
    const std::size_t moved_on = std::min<std::size_t>(distinct.size(), 2 * count);
#pragma omp parallel for schedule(dynamic)
    for (std::size_t index = 0; index < moved_on; ++index) distinct[index] = coarse.reassigned(distinct[index]);
    // Cones seen from their other side: a lattice's rings there are near to its rings here, now and then on them. Both
    // are kept: points tell them apart, crests need not.
    std::vector<Hypothesis> mirrored(moved_on);
#pragma omp parallel for schedule(dynamic)
    for (std::size_t index = 0; index < moved_on; ++index) {
      const Pose& pose = distinct[index].pose;
      mirrored[index] = coarse.refined({pose.sample, -pose.beam}, 6.0 * scale_px);
    }
    distinct.insert(distinct.end(), mirrored.begin(), mirrored.end());
    distinct = distinct_of(distinct, rivals * count);
  }
  std::vector<double> ring_sines;
  for (const double ring_rad : input.rings_rad) ring_sines.push_back(std::sin(0.5 * ring_rad));
#pragma omp parallel
  {
    std::vector<float> sines(input.ridge_places->size());
#pragma omp for schedule(dynamic)
    for (std::size_t index = 0; index < distinct.size(); ++index) {
      Hypothesis& hypothesis = distinct[index];
      hypothesis = fine.refined(hypothesis.pose, 3.0 * scale_px);
      const Eigen::Vector3f sample = hypothesis.pose.sample.cast<float>();
      const Eigen::Vector3f beam = hypothesis.pose.beam.cast<float>();
      for (std::size_t pixel = 0; pixel < sines.size(); ++pixel) {
        // |direction - beam| = 2 sin(theta) keeps its digits at small angles, where a cosine loses them.
        sines[pixel] = 0.5F * (((*input.ridge_places)[pixel] - sample).normalized() - beam).norm();
      }
      hypothesis.tally = tally_rings(*input.ridges, sines, ring_sines);
    }
  }
  std::stable_sort(distinct.begin(), distinct.end(), [](const Hypothesis& one, const Hypothesis& other) {
    return one.tally.evidence != other.tally.evidence ? one.tally.evidence > other.tally.evidence
                                                      : one.score > other.score;
  });
  // What was apart at first may have come together.
  std::vector<Hypothesis> best;
  for (const Hypothesis& hypothesis : distinct) {
    if (best.size() == count) break;
    if (!known_among(best, hypothesis)) best.push_back(hypothesis);
  }
  return best;
}

CrestShare explained_crests(const SearchInput& input, const integrator::Geometry& geometry, std::span<const char> seen,
                            double tolerance_px) {
  constexpr int fewest_segments = 3;
  const std::vector<double> parallax = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);
  const std::span<const double> rings = input.rings_rad;
  const auto on_ring = [&](double row, double column) {
    constexpr double step = 0.5;
    const double angle = integrator::two_theta_rad(pixels, row, column);
    const double slope = std::hypot(
        integrator::two_theta_rad(pixels, row + step, column) - integrator::two_theta_rad(pixels, row - step, column),
        integrator::two_theta_rad(pixels, row, column + step) - integrator::two_theta_rad(pixels, row, column - step));
    const double reach = tolerance_px * slope;
    auto ring = std::lower_bound(rings.begin(), rings.end(), angle - reach);
    for (; ring != rings.end() && *ring < angle + reach; ++ring) {
      if (seen[static_cast<std::size_t>(ring - rings.begin())] != 0) return true;
    }
    return false;
  };
  const std::vector<RidgeSegment>& segments = input.ridges->segments;
  std::vector<int> length(input.ridges->curves, 0);
  for (const RidgeSegment& segment : segments) ++length[segment.curve];
  double on_rings = 0.0, all = 0.0;
  for (const RidgeSegment& segment : segments) {
    if (length[segment.curve] < fewest_segments) continue;
    all += segment.points;
    if (on_ring(segment.row, segment.column)) on_rings += segment.points;
  }
  // What would be so near to a ring by chance.
  constexpr std::uint32_t grid = 64;
  double hits = 0.0, tries = 0.0;
  for (std::uint32_t row = 0; row < grid; ++row) {
    for (std::uint32_t column = 0; column < grid; ++column) {
      const double place_row = (row + 0.5) * input.rows / grid;
      const double place_column = (column + 0.5) * input.columns / grid;
      if (input.mask[static_cast<std::size_t>(place_row) * input.columns + static_cast<std::size_t>(place_column)] != 0)
        continue;
      tries += 1.0;
      hits += on_ring(place_row, place_column) ? 1.0 : 0.0;
    }
  }
  CrestShare share;
  share.length_px = all * input.ridges->scale_px;
  share.chance = tries > 0.0 ? hits / tries : 0.0;
  if (all > 0.0 && share.chance < 1.0)
    share.explained = std::max(0.0, (on_rings / all - share.chance) / (1.0 - share.chance));
  return share;
}

}  // namespace annulus::calibration
