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

/// The residual of one point in units of its error.
struct PointCost {
  std::array<double, 3> place_m;
  double distance_offset_m;
  double d_spacing_m;
  double inverse_error;
  std::span<const double> parallax_m;

  template <typename Number>
  bool operator()(const Number* parameters, Number* residual) const {
    using std::asin;
    const Number sine = parameters[6] / (2.0 * d_spacing_m);
    if (!(sine < 1.0)) return false;
    residual[0] =
        (two_theta_of(parameters, place_m, distance_offset_m, ParallaxStretch{parallax_m}) - 2.0 * asin(sine)) *
        inverse_error;
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

/// Weights of whole rings. A second phase's line beside a ring, or a wrong spacing, moves all the points of a ring
/// alike, each by less than its own error: only their mean shows it. The means are weighed by Tukey's biweight in units
/// of their spread over the rings, which is no less than their standard errors.
void weigh_rings(std::span<const ControlPoint> points, std::span<const double> residuals,
                 std::span<const double> errors_rad, std::span<const double> pixel_rad,
                 const RefinementSettings& settings, std::vector<double>& weights) {
  struct Mean {
    double weight = 0.0, residual = 0.0, pixel = 0.0;
    std::size_t points = 0;
  };
  const std::size_t rings = settings.d_spacings_m.size();
  std::map<std::size_t, Mean> means;
  for (std::size_t point = 0; point < points.size(); ++point) {
    // What is far out must not speak for its ring.
    if (std::abs(residuals[point]) > tukey_constant * errors_rad[point]) continue;
    Mean& mean = means[points[point].image * rings + points[point].ring];
    const double weight = 1.0 / (errors_rad[point] * errors_rad[point]);
    mean.weight += weight;
    mean.residual += weight * residuals[point];
    mean.pixel += pixel_rad[point];
    ++mean.points;
  }
  std::fill(weights.begin(), weights.end(), 1.0);
  constexpr std::size_t fewest_rings = 5;  // a fit of five numbers leaves fewer no spread
  if (means.size() < fewest_rings) return;
  std::vector<double> deviations;
  // Means of thousands of points are so exact that the model itself is not: below this many pixels nothing is weighed.
  constexpr double least_px = 0.01;
  const auto deviation = [](const Mean& mean, double excess_px) {
    const double pixel = mean.pixel / static_cast<double>(mean.points);
    return std::abs(mean.residual / mean.weight) / std::sqrt(1.0 / mean.weight + excess_px * excess_px * pixel * pixel);
  };
  double excess_px = least_px;
  for (; excess_px < 10.0; excess_px *= 1.2) {
    deviations.clear();
    for (const auto& [key, mean] : means) deviations.push_back(deviation(mean, excess_px));
    if (median_of(deviations) / gaussian_mad <= 1.0) break;
  }
  for (std::size_t point = 0; point < points.size(); ++point) {
    const auto mean = means.find(points[point].image * rings + points[point].ring);
    if (mean == means.end()) {
      weights[point] = 0.0;
      continue;
    }
    const double t = deviation(mean->second, excess_px) / tukey_constant;
    weights[point] = t < 1.0 ? (1.0 - t * t) * (1.0 - t * t) : 0.0;
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
    if (freedom.kind == Freedom::Kind::fixed || static_cast<Parameter>(index) == Parameter::rot3) {
      if (freedom.value) values[index] = *freedom.value;
      constant.push_back(static_cast<int>(index));
    } else {
      if (freedom.lower) values[index] = std::max(values[index], *freedom.lower);
      if (freedom.upper) values[index] = std::min(values[index], *freedom.upper);
      free.push_back(index);
      result.fitted[index] = true;
    }
  }
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
  std::vector<double> ring_weights(points.size(), 1.0);
  std::vector<double> scratch;
  constexpr int rounds = 6;
  double scale = 1.0;
  for (int round = 0; round < rounds; ++round) {
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
    const auto spread = [&](double excess_px) {
      scratch.resize(points.size());
      for (std::size_t point = 0; point < points.size(); ++point) {
        scratch[point] = std::abs(residuals[point]) / std::hypot(points[point].sigma_rad, excess_px * pixel_rad[point]);
      }
      return median_of(scratch) / gaussian_mad;
    };
    result.excess_px = 0.0;
    scale = spread(0.0);
    if (scale > 1.0) {
      double low = 0.0, high = 1e-3;
      while (spread(high) > 1.0 && high < 1e3) high *= 2.0;
      for (int step = 0; step < 30; ++step) {
        const double middle = 0.5 * (low + high);
        (spread(middle) > 1.0 ? low : high) = middle;
      }
      result.excess_px = high;
      scale = 1.0;
    }
    // Averaged or scaled counts have smaller errors than their roots; a scale near zero would be noise-free data.
    scale = std::max(scale, 1e-3);
    result.noise_scale = scale;
    for (std::size_t point = 0; point < points.size(); ++point) {
      errors_rad[point] = scale * std::hypot(points[point].sigma_rad, result.excess_px * pixel_rad[point]);
    }
    if (round >= 1) weigh_rings(points, residuals, errors_rad, pixel_rad, settings, ring_weights);

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
    for (std::size_t point = 0; point < points.size(); ++point) {
      const double ring_weight = ring_weights[point];
      if (ring_weight <= 0.0) continue;
      auto& scaled = scaled_losses[ring_weight];
      if (!scaled) scaled = std::make_unique<ceres::ScaledLoss>(loss.get(), ring_weight, ceres::DO_NOT_TAKE_OWNERSHIP);
      problem.AddResidualBlock(new ceres::AutoDiffCostFunction<PointCost, 1, parameter_count>(new PointCost{
                                   places_m[point], offsets_m[point], settings.d_spacings_m[points[point].ring],
                                   1.0 / errors_rad[point], parallax}),
                               scaled.get(), values.data());
    }
    if (!problem.HasParameterBlock(values.data())) return result;
    if (!constant.empty()) problem.SetManifold(values.data(), new ceres::SubsetManifold(parameter_count, constant));
    for (const std::size_t index : free) {
      const Freedom& freedom = settings.freedom[index];
      if (freedom.lower) problem.SetParameterLowerBound(values.data(), static_cast<int>(index), *freedom.lower);
      if (freedom.upper) problem.SetParameterUpperBound(values.data(), static_cast<int>(index), *freedom.upper);
    }
    ceres::Solver::Options solver;
    solver.linear_solver_type = ceres::DENSE_QR;
    solver.max_num_iterations = 30;
    solver.function_tolerance = 1e-10;
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
    set_parameters(result.geometry, values);
    result.converged = summary.termination_type == ceres::CONVERGENCE || round + 1 < rounds;
  }

  // Residuals, weights, and the covariance of an M-estimate (P. Huber, Robust Statistics, 1981, section 7.6):
  // [sum psi^2 / (n - p)] / [mean psi']^2 (J^T J)^-1 in units of the points' errors.
  const std::vector<double> parallax = integrator::parallax_table_m(result.geometry);
  const std::size_t unknowns = free.size();
  Eigen::MatrixXd normal =
      Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(unknowns), static_cast<Eigen::Index>(unknowns));
  double psi_squared = 0.0, psi_slope = 0.0, weights = 0.0, weighted_squares = 0.0, chi_squared = 0.0, count = 0.0;
  double kept = 0.0;
  for (std::size_t point = 0; point < points.size(); ++point) {
    PointCost cost{places_m[point], offsets_m[point], settings.d_spacings_m[points[point].ring],
                   1.0 / errors_rad[point], parallax};
    using Jet = ceres::Jet<double, static_cast<int>(parameter_count)>;
    std::array<Jet, parameter_count> jets;
    for (std::size_t index = 0; index < parameter_count; ++index)
      jets[index] = Jet(values[index], static_cast<int>(index));
    Jet residual;
    if (!cost(jets.data(), &residual)) continue;
    Eigen::VectorXd row(static_cast<Eigen::Index>(unknowns));
    for (std::size_t index = 0; index < unknowns; ++index)
      row[static_cast<Eigen::Index>(index)] = residual.v[static_cast<Eigen::Index>(free[index])];
    const double ring_weight = ring_weights[point];
    normal.noalias() += ring_weight * row * row.transpose();
    const double t = residual.a / tukey_constant;
    const double inside = std::max(0.0, 1.0 - t * t);
    const double weight = inside * inside;
    psi_squared += ring_weight * weight * weight * residual.a * residual.a;
    psi_slope += inside > 0.0 ? ring_weight * inside * (1.0 - 5.0 * t * t) : 0.0;
    count += ring_weight;
    points[point].residual_rad = residual.a * errors_rad[point];
    points[point].weight = ring_weight * weight;
    weights += ring_weight * weight;
    weighted_squares += ring_weight * weight * points[point].residual_rad * points[point].residual_rad;
    const double counting = points[point].residual_rad / points[point].sigma_rad;
    if (ring_weight > 0.0 && weight > 0.0) {
      chi_squared += counting * counting;
      kept += 1.0;
    }
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
  return result;
}

}  // namespace annulus::calibration
