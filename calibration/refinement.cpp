#include "calibration/refinement.hpp"

#include <ceres/ceres.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "calibration/pose.hpp"

namespace annulus::calibration {
namespace {

/// 2theta of a place by (distance, poni1, poni2, rot1, rot2, rot3, wavelength), as integrator::two_theta_rad has it.
/// `stretch` multiplies p1 and p2 (parallax), a number that the caller finds at the current parameters.
template <typename Number, typename Stretch>
Number two_theta_of(const Number* parameters, const std::array<double, 3>& place_m, double distance_offset_m,
                    const Stretch& stretch) {
  using std::atan2;
  using std::cos;
  using std::sin;
  using std::sqrt;
  const Number sin1 = sin(parameters[3]), cos1 = cos(parameters[3]);
  const Number sin2 = sin(parameters[4]), cos2 = cos(parameters[4]);
  // rot3 turns the laboratory about the beam: the angle to it does not change, so its matrix is left out.
  const Number beam1 = sin2;
  const Number beam2 = -cos2 * sin1;
  const Number beam3 = cos1 * cos2;
  // A detector further back along the beam is a sample further forward.
  Number p1 = place_m[0] - parameters[1] + distance_offset_m * beam1;
  Number p2 = place_m[1] - parameters[2] + distance_offset_m * beam2;
  const Number p3 = place_m[2] + parameters[0] + distance_offset_m * beam3;
  stretch(p1, p2, p3);
  const Number along = p1 * beam1 + p2 * beam2 + p3 * beam3;
  const Number across1 = p2 * beam3 - p3 * beam2;
  const Number across2 = p3 * beam1 - p1 * beam3;
  const Number across3 = p1 * beam2 - p2 * beam1;
  return atan2(sqrt(across1 * across1 + across2 * across2 + across3 * across3), along);
}

/// What parallax does to p1 and p2, with derivatives by differences of the table (which is linear in between).
struct ParallaxStretch {
  std::span<const double> table_m;

  void operator()(double& p1, double& p2, const double& p3) const {
    if (table_m.empty()) return;
    const double factor = integrator::parallax_factor(table_m, p1, p2, p3);
    p1 *= factor;
    p2 *= factor;
  }
  template <typename Jet>
  void operator()(Jet& p1, Jet& p2, const Jet& p3) const {
    if (table_m.empty()) return;
    const double factor = integrator::parallax_factor(table_m, p1.a, p2.a, p3.a);
    const double step = 1e-4 * std::abs(p3.a);
    const auto slope = [&](double d1, double d2, double d3) {
      return (integrator::parallax_factor(table_m, p1.a + d1, p2.a + d2, p3.a + d3) -
              integrator::parallax_factor(table_m, p1.a - d1, p2.a - d2, p3.a - d3)) /
             (2.0 * step);
    };
    Jet scale(factor);
    scale.v = slope(step, 0.0, 0.0) * p1.v + slope(0.0, step, 0.0) * p2.v + slope(0.0, 0.0, step) * p3.v;
    p1 *= scale;
    p2 *= scale;
  }
};

template <typename Number>
void tie_together(const std::array<Freedom, parameter_count>& freedom, Number* values) {
  for (std::size_t index = 0; index < parameter_count; ++index) {
    if (freedom[index].kind != Freedom::Kind::tied) continue;
    const Tie& tie = freedom[index].tie;
    values[index] = values[static_cast<std::size_t>(tie.to)] * tie.factor + tie.offset;
  }
}

/// The residual of one point in units of its error: off its ring, and the ring off its place by `shift`.
struct PointCost {
  std::array<double, 3> place_m;
  double distance_offset_m;
  double d_spacing_m;
  double inverse_error;
  std::span<const double> parallax_m;
  const std::array<Freedom, parameter_count>* freedom;

  template <typename Number>
  bool operator()(const Number* given, const Number* shift_rad, Number* residual) const {
    using std::asin;
    Number parameters[parameter_count];
    std::copy(given, given + parameter_count, parameters);
    tie_together(*freedom, parameters);
    const Number sine = parameters[6] / (2.0 * d_spacing_m);
    if (!(sine < 1.0)) return false;
    residual[0] = (two_theta_of(parameters, place_m, distance_offset_m, ParallaxStretch{parallax_m}) -
                   2.0 * asin(sine) - shift_rad[0]) *
                  inverse_error;
    return true;
  }
};

/// What a ring's shift costs.
struct ShiftCost {
  double inverse_error;

  template <typename Number>
  bool operator()(const Number* shift_rad, Number* residual) const {
    residual[0] = shift_rad[0] * inverse_error;
    return true;
  }
};

/// Tukey's biweight keeps 95 % of the efficiency of least squares on Gaussian errors with this constant, Cauchy's loss
/// with the other; both in standard deviations (P. Holland and R. Welsch, doi:10.1080/03610927708827533).
constexpr double tukey_constant = 4.685;
constexpr double cauchy_constant = 2.385;

/// A median of absolute deviations is this many standard deviations of a Gaussian.
constexpr double gaussian_mad = 0.6744897501960817;

double median_of(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// The error in pixels that with the others makes the spread of deviations, `spread(error)`, what it should be, 1.
template <typename Spread>
double excess_of(const Spread& spread) {
  double low = 0.0, high = 1e-3;
  while (spread(high) > 1.0 && high < 1e3) high *= 2.0;
  for (int step = 0; step < 30; ++step) {
    const double middle = 0.5 * (low + high);
    (spread(middle) > 1.0 ? low : high) = middle;
  }
  return high;
}

/// One ring in one image.
struct RingShift {
  double weight = 0.0, residual = 0.0, pixel = 0.0;  ///< sums over its points; residual weighed, rad
  std::size_t points = 0;
  double error_rad = 0.0;  ///< how far rings are off their places besides what their points' errors tell; 0 = nothing
  double say = 1.0;        ///< what its deviation from the others leaves it
  double shift_rad = 0.0;  ///< as fitted

  [[nodiscard]] double mean_rad() const { return residual / weight; }
  [[nodiscard]] double pixel_rad() const { return pixel / static_cast<double>(points); }
};

/// Rings as wholes. A second phase's line beside a ring, or a wrong spacing, moves all the points of a ring alike, each
/// by less than its own error: only the rings' means show it. How far rings are off is found from the spread of the
/// means, and rings that are further off than that are weighed by Tukey's biweight.
void weigh_rings(std::span<const ControlPoint> points, std::span<const double> residuals,
                 std::span<const double> errors_rad, std::span<const double> pixel_rad,
                 std::span<const std::size_t> ring_of, std::vector<RingShift>& rings) {
  for (RingShift& ring : rings) ring = RingShift{};
  for (std::size_t point = 0; point < points.size(); ++point) {
    RingShift& ring = rings[ring_of[point]];
    ring.pixel += pixel_rad[point];
    ++ring.points;
    // What is far out must not speak for its ring.
    if (std::abs(residuals[point]) > tukey_constant * errors_rad[point]) continue;
    const double weight = 1.0 / (errors_rad[point] * errors_rad[point]);
    ring.weight += weight;
    ring.residual += weight * residuals[point];
  }
  std::vector<double> deviations;
  const auto deviation = [](const RingShift& ring, double excess_px) {
    return std::abs(ring.mean_rad()) / std::hypot(1.0 / std::sqrt(ring.weight), excess_px * ring.pixel_rad());
  };
  const auto spread = [&](double excess_px) {
    deviations.clear();
    for (const RingShift& ring : rings) {
      if (ring.weight > 0.0) deviations.push_back(deviation(ring, excess_px));
    }
    // The fit takes up some three of the rings' shifts: distance, and what tilt and centre can do for them.
    const double count = static_cast<double>(deviations.size());
    return median_of(deviations) / gaussian_mad * std::sqrt(count / (count - 3.0));
  };
  const auto speaking =
      std::count_if(rings.begin(), rings.end(), [](const RingShift& ring) { return ring.weight > 0.0; });
  constexpr std::ptrdiff_t fewest_rings = 5;  // a fit of five numbers leaves fewer no spread
  double excess_px = 0.0;
  if (speaking >= fewest_rings) {
    // The median of n deviations of a Gaussian is uncertain by 1.17 / sqrt(2 n): less than two of these is no excess.
    const double chance = 1.0 + 2.0 * 1.17 / std::sqrt(2.0 * static_cast<double>(speaking));
    if (spread(0.0) > chance) excess_px = excess_of(spread);
  }
  for (RingShift& ring : rings) {
    if (ring.points == 0) continue;
    ring.error_rad = excess_px * ring.pixel_rad();
    if (ring.weight <= 0.0) {
      ring.say = 0.0;
    } else if (speaking >= fewest_rings) {
      const double t = deviation(ring, excess_px) / tukey_constant;
      ring.say = t < 1.0 ? (1.0 - t * t) * (1.0 - t * t) : 0.0;
    }
  }
}

using Parameters = std::array<double, parameter_count>;

Parameters parameters_of(const integrator::Geometry& geometry) {
  Parameters values{};
  for (std::size_t index = 0; index < parameter_count; ++index)
    values[index] = value_of(geometry, static_cast<Parameter>(index));
  return values;
}

void set_parameters(integrator::Geometry& geometry, const Parameters& values) {
  for (std::size_t index = 0; index < parameter_count; ++index)
    set_value(geometry, static_cast<Parameter>(index), values[index]);
}

}  // namespace

double value_of(const integrator::Geometry& geometry, Parameter parameter) {
  switch (parameter) {
    case Parameter::distance: return geometry.distance_m;
    case Parameter::poni1: return geometry.poni1_m;
    case Parameter::poni2: return geometry.poni2_m;
    case Parameter::rot1: return geometry.rot1_rad;
    case Parameter::rot2: return geometry.rot2_rad;
    case Parameter::rot3: return geometry.rot3_rad;
    case Parameter::wavelength: return geometry.wavelength_m.value_or(0.0);
  }
  throw InternalError("a geometry has no such parameter");
}

void set_value(integrator::Geometry& geometry, Parameter parameter, double value) {
  switch (parameter) {
    case Parameter::distance: geometry.distance_m = value; return;
    case Parameter::poni1: geometry.poni1_m = value; return;
    case Parameter::poni2: geometry.poni2_m = value; return;
    case Parameter::rot1: geometry.rot1_rad = value; return;
    case Parameter::rot2: geometry.rot2_rad = value; return;
    case Parameter::rot3: geometry.rot3_rad = value; return;
    case Parameter::wavelength: geometry.wavelength_m = value; return;
  }
  throw InternalError("a geometry has no such parameter");
}

const char* name_of(Parameter parameter) {
  constexpr std::array<const char*, parameter_count> names = {"distance", "poni1", "poni2",     "rot1",
                                                              "rot2",     "rot3",  "wavelength"};
  return names.at(static_cast<std::size_t>(parameter));
}

double model_two_theta_rad(const integrator::Geometry& geometry, const std::array<double, 3>& place_m,
                           double distance_offset_m, std::span<const double> parallax_m) {
  const Parameters values = parameters_of(geometry);
  return two_theta_of(values.data(), place_m, distance_offset_m, ParallaxStretch{parallax_m});
}

void apply_ties(const std::array<Freedom, parameter_count>& freedom, integrator::Geometry& geometry) {
  Parameters values = parameters_of(geometry);
  tie_together(freedom, values.data());
  set_parameters(geometry, values);
}

integrator::Geometry moved_back(integrator::Geometry geometry, double offset_m) {
  if (offset_m == 0.0) return geometry;
  Pose pose = pose_of(geometry);
  pose.sample -= offset_m * pose.beam;
  set_pose(pose, geometry);
  return geometry;
}

Refinement refine(const integrator::Geometry& geometry, std::span<ControlPoint> points,
                  const RefinementSettings& settings) {
  Refinement result;
  result.geometry = geometry;
  Parameters values = parameters_of(geometry);
  std::vector<int> constant;
  std::vector<std::size_t> free;
  for (std::size_t index = 0; index < parameter_count; ++index) {
    const Freedom& freedom = settings.freedom[index];
    // No 2theta depends on rot3, so it stays where it is.
    if (freedom.kind != Freedom::Kind::free || static_cast<Parameter>(index) == Parameter::rot3) {
      if (freedom.kind == Freedom::Kind::fixed && freedom.value) values[index] = *freedom.value;
      constant.push_back(static_cast<int>(index));
    } else {
      if (freedom.lower) values[index] = std::max(values[index], *freedom.lower);
      if (freedom.upper) values[index] = std::min(values[index], *freedom.upper);
      free.push_back(index);
      result.fitted[index] = true;
    }
  }
  tie_together(settings.freedom, values.data());
  set_parameters(result.geometry, values);
  if (free.empty() || points.size() <= free.size()) return result;

  const DetectorPlaces places(geometry.detector);
  const double pixel_m = std::sqrt(geometry.detector.pixel1_m * geometry.detector.pixel2_m);
  std::vector<std::array<double, 3>> places_m(points.size());
  std::vector<double> offsets_m(points.size(), 0.0);
  for (std::size_t point = 0; point < points.size(); ++point) {
    const Eigen::Vector3d place = places.at(points[point].row, points[point].column);
    places_m[point] = {place[0], place[1], place[2]};
    if (!settings.distance_offsets_m.empty()) offsets_m[point] = settings.distance_offsets_m[points[point].image];
  }

  // Rounds: residuals -> what errors the points have besides counting -> a fit with these.
  std::vector<double> errors_rad(points.size());
  std::vector<double> pixel_rad(points.size());
  std::vector<double> residuals(points.size());
  // Rings of each image, numbered as they come.
  std::vector<std::size_t> ring_of(points.size());
  std::vector<RingShift> rings;
  {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::size_t> numbers;
    for (std::size_t point = 0; point < points.size(); ++point) {
      const auto found = numbers.try_emplace({points[point].image, points[point].ring}, numbers.size());
      ring_of[point] = found.first->second;
    }
    rings.resize(numbers.size());
  }
  std::vector<double> middles(rings.size(), 0.0);  // of the rings' residuals
  std::vector<double> scratch;
  const int first_round = settings.near_start ? 2 : 0;
  constexpr int rounds = 6;
  double last_cost = 0.0, last_excess_px = 0.0;
  for (int round = first_round; round < rounds; ++round) {
    const std::vector<double> parallax = integrator::parallax_table_m(result.geometry);
    {
      const Pose pose = pose_of(result.geometry);
      for (std::size_t point = 0; point < points.size(); ++point) {
        const Eigen::Vector3d place(places_m[point][0], places_m[point][1], places_m[point][2]);
        pixel_rad[point] =
            pixel_m *
            angle_at({pose.sample - offsets_m[point] * pose.beam, pose.beam}, place).gradient.head<2>().norm();
        const double ring =
            2.0 * std::asin(std::min(1.0, values[6] / (2.0 * settings.d_spacings_m[points[point].ring])));
        residuals[point] = model_two_theta_rad(result.geometry, places_m[point], offsets_m[point], parallax) - ring;
      }
    }
    // The excess that makes the median deviation of the whole what it should be; none when counting explains it all.
    // What is common to a ring is no scatter of points, once the geometry is near.
    if (round >= 2) {
      std::vector<std::vector<double>> of_rings(rings.size());
      for (std::size_t point = 0; point < points.size(); ++point) of_rings[ring_of[point]].push_back(residuals[point]);
      for (std::size_t ring = 0; ring < rings.size(); ++ring) middles[ring] = median_of(of_rings[ring]);
    }
    const auto spread = [&](double excess_px) {
      scratch.resize(points.size());
      for (std::size_t point = 0; point < points.size(); ++point) {
        scratch[point] = std::abs(residuals[point] - middles[ring_of[point]]) /
                         std::hypot(points[point].sigma_rad, excess_px * pixel_rad[point]);
      }
      return median_of(scratch) / gaussian_mad;
    };
    result.excess_px = spread(0.0) > 1.0 ? excess_of(spread) : 0.0;
    for (std::size_t point = 0; point < points.size(); ++point)
      errors_rad[point] = std::hypot(points[point].sigma_rad, result.excess_px * pixel_rad[point]);
    if (round >= 1) weigh_rings(points, residuals, errors_rad, pixel_rad, ring_of, rings);

    std::unique_ptr<ceres::LossFunction> loss;
    std::map<double, std::unique_ptr<ceres::LossFunction>> scaled_losses;
    ceres::Problem::Options options;
    options.loss_function_ownership = ceres::DO_NOT_TAKE_OWNERSHIP;
    ceres::Problem problem(options);
    // The first rounds must draw a start that is off by many errors in; only then are outliers outliers.
    if (round < 2)
      loss = std::make_unique<ceres::CauchyLoss>(cauchy_constant);
    else
      loss = std::make_unique<ceres::TukeyLoss>(tukey_constant);
    bool shifted = false;
    for (std::size_t point = 0; point < points.size(); ++point) {
      RingShift& ring = rings[ring_of[point]];
      if (ring.say <= 0.0) continue;
      auto& scaled = scaled_losses[ring.say];
      if (!scaled) scaled = std::make_unique<ceres::ScaledLoss>(loss.get(), ring.say, ceres::DO_NOT_TAKE_OWNERSHIP);
      problem.AddResidualBlock(new ceres::AutoDiffCostFunction<PointCost, 1, parameter_count, 1>(new PointCost{
                                   places_m[point], offsets_m[point], settings.d_spacings_m[points[point].ring],
                                   1.0 / errors_rad[point], parallax, &settings.freedom}),
                               scaled.get(), values.data(), &ring.shift_rad);
    }
    for (RingShift& ring : rings) {
      if (!problem.HasParameterBlock(&ring.shift_rad)) continue;
      if (ring.error_rad > 0.0) {
        problem.AddResidualBlock(new ceres::AutoDiffCostFunction<ShiftCost, 1, 1>(new ShiftCost{1.0 / ring.error_rad}),
                                 nullptr, &ring.shift_rad);
        shifted = true;
      } else {
        problem.SetParameterBlockConstant(&ring.shift_rad);
      }
    }
    if (!problem.HasParameterBlock(values.data())) return result;
    if (!constant.empty()) problem.SetManifold(values.data(), new ceres::SubsetManifold(parameter_count, constant));
    for (const std::size_t index : free) {
      const Freedom& freedom = settings.freedom[index];
      if (freedom.lower) problem.SetParameterLowerBound(values.data(), static_cast<int>(index), *freedom.lower);
      if (freedom.upper) problem.SetParameterUpperBound(values.data(), static_cast<int>(index), *freedom.upper);
    }
    ceres::Solver::Options solver;
    // Each point knows one ring's shift: these are eliminated first.
    solver.linear_solver_type = shifted ? ceres::DENSE_SCHUR : ceres::DENSE_QR;
    solver.max_num_iterations = 60;
    solver.function_tolerance = 1e-9;
    solver.parameter_tolerance = 1e-12;
    solver.num_threads = 1;  // a sum in one order: the same bits whatever the machine
    solver.logging_type = ceres::SILENT;
    const Parameters before = values;
    ceres::Solver::Summary summary;
    ceres::Solve(solver, &problem, &summary);
    if (!summary.IsSolutionUsable()) {
      set_parameters(result.geometry, before);
      return result;
    }
    tie_together(settings.freedom, values.data());
    set_parameters(result.geometry, values);
    result.converged = summary.termination_type == ceres::CONVERGENCE;
    // Another round would find the same errors and the same geometry.
    constexpr double settled = 1e-3;
    const bool same = std::abs(summary.final_cost - last_cost) <= settled * summary.final_cost &&
                      std::abs(result.excess_px - last_excess_px) <= settled * result.excess_px;
    last_cost = summary.final_cost;
    last_excess_px = result.excess_px;
    if (round >= first_round + 2 && same && result.converged) break;
  }

  // Residuals, weights, and the covariance of an M-estimate (P. Huber, Robust Statistics, 1981, section 7.6):
  // [sum psi^2 / (n - p)] / [mean psi']^2 (J^T J)^-1 in units of the points' errors.
  const std::vector<double> parallax = integrator::parallax_table_m(result.geometry);
  const std::size_t unknowns = free.size();
  Eigen::MatrixXd normal =
      Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(unknowns), static_cast<Eigen::Index>(unknowns));
  double psi_squared = 0.0, psi_slope = 0.0, weights = 0.0, weighted_squares = 0.0, chi_squared = 0.0, count = 0.0;
  double kept = 0.0;
  struct Coupling {
    double weight = 0.0;
    Eigen::VectorXd row;
  };
  std::vector<Coupling> couplings(rings.size());
  for (std::size_t point = 0; point < points.size(); ++point) {
    PointCost cost{places_m[point],         offsets_m[point], settings.d_spacings_m[points[point].ring],
                   1.0 / errors_rad[point], parallax,         &settings.freedom};
    using Jet = ceres::Jet<double, static_cast<int>(parameter_count)>;
    std::array<Jet, parameter_count> jets;
    for (std::size_t index = 0; index < parameter_count; ++index)
      jets[index] = Jet(values[index], static_cast<int>(index));
    const RingShift& ring = rings[ring_of[point]];
    const Jet unshifted(0.0);
    Jet residual;
    if (!cost(jets.data(), &unshifted, &residual)) continue;
    points[point].residual_rad = residual.a * errors_rad[point];
    residual.a -= ring.shift_rad / errors_rad[point];
    Eigen::VectorXd row(static_cast<Eigen::Index>(unknowns));
    for (std::size_t index = 0; index < unknowns; ++index)
      row[static_cast<Eigen::Index>(index)] = residual.v[static_cast<Eigen::Index>(free[index])];
    const double ring_weight = ring.say;
    normal.noalias() += ring_weight * row * row.transpose();
    if (ring.error_rad > 0.0) {
      Coupling& coupling = couplings[ring_of[point]];
      if (coupling.row.size() == 0) coupling.row = Eigen::VectorXd::Zero(static_cast<Eigen::Index>(unknowns));
      coupling.row += ring_weight / errors_rad[point] * row;
      coupling.weight += ring_weight / (errors_rad[point] * errors_rad[point]);
    }
    const double t = residual.a / tukey_constant;
    const double inside = std::max(0.0, 1.0 - t * t);
    const double weight = inside * inside;
    psi_squared += ring_weight * weight * weight * residual.a * residual.a;
    psi_slope += inside > 0.0 ? ring_weight * inside * (1.0 - 5.0 * t * t) : 0.0;
    count += ring_weight;
    points[point].weight = ring_weight * weight;
    weights += ring_weight * weight;
    weighted_squares += ring_weight * weight * points[point].residual_rad * points[point].residual_rad;
    const double counting = points[point].residual_rad / points[point].sigma_rad;
    if (ring_weight > 0.0 && weight > 0.0) {
      chi_squared += counting * counting;
      kept += 1.0;
    }
  }
  // What the points of a ring tell together is no better than the ring's place.
  for (std::size_t ring = 0; ring < rings.size(); ++ring) {
    const Coupling& coupling = couplings[ring];
    if (coupling.row.size() == 0) continue;
    const double own = 1.0 / (rings[ring].error_rad * rings[ring].error_rad);
    normal.noalias() -= coupling.row * coupling.row.transpose() / (coupling.weight + own);
  }
  const double spare = std::max(1.0, count - static_cast<double>(unknowns));
  result.rms_residual_rad = weights > 0.0 ? std::sqrt(weighted_squares / weights) : 0.0;
  result.reduced_chi_squared =
      kept > static_cast<double>(unknowns) ? chi_squared / (kept - static_cast<double>(unknowns)) : 0.0;
  const double inflation = psi_slope > 0.0 ? psi_squared / spare / ((psi_slope / count) * (psi_slope / count)) : 1.0;

  // In units of its diagonal the matrix shows what is not determined: directions along which the points do not move.
  const Eigen::VectorXd root = normal.diagonal().cwiseSqrt().cwiseMax(1e-300);
  const Eigen::MatrixXd scaled = root.cwiseInverse().asDiagonal() * normal * root.cwiseInverse().asDiagonal();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(scaled);
  constexpr double singular = 1e-13;  // of float64 sums over thousands of points
  Eigen::MatrixXd inverse = Eigen::MatrixXd::Zero(normal.rows(), normal.cols());
  std::vector<char> lost(unknowns, 0);
  for (Eigen::Index mode = 0; mode < eigen.eigenvalues().size(); ++mode) {
    const Eigen::VectorXd vector = eigen.eigenvectors().col(mode);
    if (eigen.eigenvalues()[mode] > singular) {
      inverse += vector * vector.transpose() / eigen.eigenvalues()[mode];
    } else {
      for (Eigen::Index index = 0; index < vector.size(); ++index) {
        if (std::abs(vector[index]) > 0.05) lost[static_cast<std::size_t>(index)] = 1;
      }
    }
  }
  inverse = inflation * (root.cwiseInverse().asDiagonal() * inverse * root.cwiseInverse().asDiagonal()).eval();
  for (std::size_t one = 0; one < unknowns; ++one) {
    for (std::size_t other = 0; other < unknowns; ++other) {
      result.covariance[free[one]][free[other]] =
          inverse(static_cast<Eigen::Index>(one), static_cast<Eigen::Index>(other));
    }
    const double error = std::sqrt(std::max(0.0, result.covariance[free[one]][free[one]]));
    result.standard_error[free[one]] = error;
    // Beyond these a value is of no use to anybody: a twentieth of the distance or wavelength, three degrees, as much
    // as three degrees move the point of normal incidence.
    constexpr double useless_ratio = 0.05;
    constexpr double useless_rad = 0.05;
    double most = useless_rad;
    if (static_cast<Parameter>(free[one]) == Parameter::distance) most = useless_ratio * std::abs(values[0]);
    if (static_cast<Parameter>(free[one]) == Parameter::poni1 ||
        static_cast<Parameter>(free[one]) == Parameter::poni2) {
      most = useless_rad * std::abs(values[0]);
    }
    if (static_cast<Parameter>(free[one]) == Parameter::wavelength) most = useless_ratio * values[6];
    result.determined[free[one]] = lost[one] == 0 && error < most;
  }
  for (std::size_t index = 0; index < parameter_count; ++index) {
    const Freedom& freedom = settings.freedom[index];
    if (freedom.kind != Freedom::Kind::tied) continue;
    const std::size_t to = static_cast<std::size_t>(freedom.tie.to);
    const double factor = freedom.tie.factor;
    for (std::size_t other = 0; other < parameter_count; ++other)
      result.covariance[index][other] = result.covariance[other][index] = factor * result.covariance[to][other];
    result.covariance[index][index] = factor * factor * result.covariance[to][to];
    result.standard_error[index] = std::abs(factor) * result.standard_error[to];
    result.determined[index] = result.determined[to];
  }
  return result;
}

}  // namespace annulus::calibration
