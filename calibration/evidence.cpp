#include "calibration/evidence.hpp"

#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <utility>

#include "calibration/pose.hpp"

namespace annulus::calibration {
namespace {

/// Derivatives of a point's residual by the fitted parameters, by central differences.
class Sensitivities {
 public:
  Sensitivities(const Refinement& refinement, const RefinementSettings& settings)
      : refinement_(refinement),
        settings_(settings),
        places_(refinement.geometry.detector),
        parallax_(integrator::parallax_table_m(refinement.geometry)) {
    for (std::size_t index = 0; index < parameter_count; ++index) {
      if (refinement.fitted[index]) free_.push_back(static_cast<Parameter>(index));
    }
  }
  [[nodiscard]] Eigen::Index size() const { return static_cast<Eigen::Index>(free_.size()); }

  [[nodiscard]] Eigen::VectorXd at(const ControlPoint& point) const {
    const Eigen::Vector3d place = places_.at(point.row, point.column);
    const double offset = settings_.distance_offsets_m.empty() ? 0.0 : settings_.distance_offsets_m[point.image];
    Eigen::VectorXd row(size());
    for (Eigen::Index index = 0; index < size(); ++index) {
      const Parameter parameter = free_[static_cast<std::size_t>(index)];
      const double value = value_of(refinement_.geometry, parameter);
      const bool relative = parameter == Parameter::distance || parameter == Parameter::wavelength;
      const bool length = parameter == Parameter::poni1 || parameter == Parameter::poni2;
      const double step = relative ? 1e-6 * value : (length ? 1e-6 * std::abs(refinement_.geometry.distance_m) : 1e-6);
      double ends[2];
      for (int side = 0; side < 2; ++side) {
        integrator::Geometry geometry = refinement_.geometry;
        set_value(geometry, parameter, value + (side == 0 ? -step : step));
        apply_ties(settings_.freedom, geometry);
        const double ring =
            2.0 * std::asin(std::min(1.0, *geometry.wavelength_m / (2.0 * settings_.d_spacings_m[point.ring])));
        ends[side] = model_two_theta_rad(geometry, {place[0], place[1], place[2]}, offset, parallax_) - ring;
      }
      row[index] = (ends[1] - ends[0]) / (2.0 * step);
    }
    return row;
  }

 private:
  const Refinement& refinement_;
  const RefinementSettings& settings_;
  DetectorPlaces places_;
  std::vector<double> parallax_;
  std::vector<Parameter> free_;
};

/// Rings, with what each would be if the others alone had been fitted: the fit is linear so near to its end.
void describe_rings(const EvidenceInput& input, CalibrationResult& result) {
  const Sensitivities sensitivities(*input.refinement, input.settings);
  const Eigen::Index unknowns = sensitivities.size();
  struct Sums {
    std::size_t points = 0, kept = 0;
    double weight = 0.0, residual = 0.0, squares = 0.0, plain = 0.0;
    Eigen::MatrixXd normal;
    Eigen::VectorXd gradient, mean_row;
  };
  const std::size_t rings = input.rings_rad.size();
  std::vector<Sums> sums(rings * input.images.size());
  Eigen::MatrixXd normal = Eigen::MatrixXd::Zero(unknowns, unknowns);
  const double pixel_excess_rad = input.refinement->excess_px *
                                  std::sqrt(result.geometry.detector.pixel1_m * result.geometry.detector.pixel2_m) /
                                  std::abs(result.geometry.distance_m);
  for (const ControlPoint& point : input.points) {
    Sums& ring = sums[point.image * rings + point.ring];
    ++ring.points;
    if (point.weight <= 0.0) continue;
    ++ring.kept;
    const double error = std::hypot(point.sigma_rad, pixel_excess_rad);
    const double weight = point.weight / (error * error);
    const Eigen::VectorXd row = sensitivities.at(point);
    if (ring.normal.size() == 0) {
      ring.normal = Eigen::MatrixXd::Zero(unknowns, unknowns);
      ring.gradient = ring.mean_row = Eigen::VectorXd::Zero(unknowns);
    }
    ring.normal += weight * row * row.transpose();
    ring.gradient += weight * point.residual_rad * row;
    ring.mean_row += weight * row;
    ring.weight += weight;
    ring.residual += weight * point.residual_rad;
    ring.squares += weight * point.residual_rad * point.residual_rad;
  }
  for (const Sums& ring : sums) {
    if (ring.normal.size() != 0) normal += ring.normal;
  }
  for (std::uint32_t image = 0; image < input.images.size(); ++image) {
    for (std::uint32_t ring = 0; ring < rings; ++ring) {
      const Sums& of_ring = sums[image * rings + ring];
      if (of_ring.points == 0) continue;
      RingEvidence evidence;
      evidence.image = image;
      evidence.ring = ring;
      evidence.points = of_ring.points;
      evidence.two_theta_rad = input.rings_rad[ring];
      const std::uint32_t tried = input.images[image].tried[ring];
      evidence.azimuth_coverage = tried > 0 ? static_cast<double>(of_ring.points) / tried : 0.0;
      evidence.predicted_residual_rad = std::numeric_limits<double>::quiet_NaN();
      if (of_ring.weight > 0.0) {
        evidence.mean_residual_rad = of_ring.residual / of_ring.weight;
        evidence.rms_residual_rad = std::sqrt(of_ring.squares / of_ring.weight);
        evidence.mean_error_rad = 1.0 / std::sqrt(of_ring.weight);
        evidence.strain_ppm = -evidence.mean_residual_rad / (2.0 * std::tan(0.5 * evidence.two_theta_rad)) * 1e6;
        // Without this ring's equations the minimum moves by (N - N_k)^-1 g_k.
        const Eigen::MatrixXd without = normal - of_ring.normal;
        const Eigen::LDLT<Eigen::MatrixXd> factors(without);
        if (unknowns > 0 && factors.info() == Eigen::Success && factors.isPositive()) {
          const Eigen::VectorXd step = factors.solve(of_ring.gradient);
          const double predicted = evidence.mean_residual_rad + of_ring.mean_row.dot(step) / of_ring.weight;
          if (std::isfinite(predicted)) {
            evidence.held_out = true;
            evidence.predicted_residual_rad = predicted;
          }
        }
      }
      result.rings.push_back(evidence);
    }
  }
}

/// Amplitudes of the first four harmonics of the residual against azimuth.
void describe_azimuth(const EvidenceInput& input, CalibrationResult& result) {
  constexpr Eigen::Index terms = 9;
  Eigen::Matrix<double, terms, terms> normal = Eigen::Matrix<double, terms, terms>::Zero();
  Eigen::Matrix<double, terms, 1> right = Eigen::Matrix<double, terms, 1>::Zero();
  const std::vector<double> parallax = integrator::parallax_table_m(result.geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(result.geometry, parallax);
  for (const ControlPoint& point : input.points) {
    if (point.weight <= 0.0) continue;
    const double chi = integrator::chi_rad(pixels, point.row, point.column);
    Eigen::Matrix<double, terms, 1> row;
    row[0] = 1.0;
    for (int harmonic = 1; harmonic <= 4; ++harmonic) {
      row[2 * harmonic - 1] = std::cos(harmonic * chi);
      row[2 * harmonic] = std::sin(harmonic * chi);
    }
    const double weight = point.weight / (point.sigma_rad * point.sigma_rad);
    normal += weight * row * row.transpose();
    right += weight * point.residual_rad * row;
  }
  // Arcs leave harmonics undetermined: a little damping makes those zero.
  normal.diagonal() *= 1.0 + 1e-6;
  const Eigen::Matrix<double, terms, 1> amplitudes = normal.ldlt().solve(right);
  for (int harmonic = 1; harmonic <= 4; ++harmonic) {
    const double amplitude = std::hypot(amplitudes[2 * harmonic - 1], amplitudes[2 * harmonic]);
    result.harmonics_rad[static_cast<std::size_t>(harmonic - 1)] = std::isfinite(amplitude) ? amplitude : 0.0;
  }
}

/// Of the points' scatter about their rings' means, the share that waves with one and two turns an azimuth make up,
/// ring by ring: near 0 for noise, near 1 where the whole geometry is held off.
double azimuthal_share(const EvidenceInput& input, const integrator::Geometry& geometry) {
  const std::vector<double> parallax = integrator::parallax_table_m(geometry);
  const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<const ControlPoint*>> rings;
  for (const ControlPoint& point : input.points) rings[{point.image, point.ring}].push_back(&point);
  double all = 0.0, explained = 0.0;
  constexpr std::size_t fewest = 20;
  for (const auto& [key, points] : rings) {
    if (points.size() < fewest) continue;
    Eigen::MatrixXd waves(static_cast<Eigen::Index>(points.size()), 5);
    Eigen::VectorXd residuals(static_cast<Eigen::Index>(points.size()));
    for (std::size_t index = 0; index < points.size(); ++index) {
      const double chi = integrator::chi_rad(pixels, points[index]->row, points[index]->column);
      const double weight = 1.0 / points[index]->sigma_rad;
      waves.row(static_cast<Eigen::Index>(index)) << weight, weight * std::cos(chi), weight * std::sin(chi),
          weight * std::cos(2.0 * chi), weight * std::sin(2.0 * chi);
      residuals[static_cast<Eigen::Index>(index)] = weight * points[index]->residual_rad;
    }
    const auto left_by = [&](Eigen::Index terms) {
      const Eigen::MatrixXd some = waves.leftCols(terms);
      return (residuals - some * some.colPivHouseholderQr().solve(residuals)).squaredNorm();
    };
    const double about_mean = left_by(1);
    all += about_mean;
    explained += about_mean - left_by(5);
  }
  return all > 0.0 ? explained / all : 0.0;
}

}  // namespace

bool fits_well(const CalibrationResult& result) {
  return result.verdict != Verdict::failed && result.ring_evidence > limits::convincing_evidence &&
         static_cast<double>(result.rings_seen) > limits::doubtful_seen * static_cast<double>(result.rings_listed);
}

void judge(const EvidenceInput& input, CalibrationResult& result) {
  const Refinement& refinement = *input.refinement;
  result.rings.clear();
  result.reasons.clear();
  result.warnings.clear();
  result.verdict = Verdict::good;
  const auto fail = [&](std::string reason) {
    result.verdict = Verdict::failed;
    result.reasons.push_back(std::move(reason));
  };
  const auto doubt = [&](std::string reason) {
    if (result.verdict == Verdict::good) result.verdict = Verdict::doubtful;
    result.reasons.push_back(std::move(reason));
  };

  if (input.points.size() < limits::fewest_points) {
    fail(fmt::format("no rings of the calibrant were found: {} points lie on any, {} are needed", input.points.size(),
                     limits::fewest_points));
    return;
  }
  if (!refinement.converged) {
    fail("the refinement found no geometry that fits the points");
    return;
  }
  describe_rings(input, result);
  describe_azimuth(input, result);
  result.explained_share = input.crests.explained;
  const RingTally& first = input.tallies.front();
  result.rings_listed = first.listed;
  result.rings_seen = first.seen;
  result.rings_chance = first.chance;
  result.ring_evidence = first.evidence;
  result.excess_px = refinement.excess_px;

  const double seen_share =
      first.listed > 0 ? static_cast<double>(first.seen) / static_cast<double>(first.listed) : 0.0;
  const std::string tally = fmt::format(
      "{} of the {} rings that should be on the detector are seen, {:.0f} would be "
      "by chance",
      first.seen, first.listed, first.chance * static_cast<double>(first.listed));
  if (first.evidence < limits::failed_evidence) {
    fail(tally + ": another compound, or no powder?");
  } else if (first.evidence < limits::doubtful_evidence || seen_share < limits::doubtful_seen) {
    doubt(tally);
  }

  // Of several images each must show the rings where its distance puts them.
  for (std::size_t image = 1; image < input.tallies.size(); ++image) {
    const RingTally& other = input.tallies[image];
    if (other.evidence < limits::doubtful_evidence) {
      doubt(fmt::format("image {} shows {} of the {} rings where its distance offset puts them: is the offset right?",
                        image, other.seen, other.listed));
    }
  }

  // Rings that are there, all along.
  std::size_t whole_rings = 0;
  std::vector<std::uint32_t> seen_rings;
  for (const RingEvidence& ring : result.rings) {
    if (ring.azimuth_coverage < limits::ring_coverage) continue;
    if (std::find(seen_rings.begin(), seen_rings.end(), ring.ring) == seen_rings.end()) seen_rings.push_back(ring.ring);
  }
  whole_rings = seen_rings.size();
  if (whole_rings < limits::fewest_rings) {
    fail(fmt::format("{} rings are seen over more than {:.0f} % of their length, {} are needed", whole_rings,
                     100.0 * limits::ring_coverage, limits::fewest_rings));
  }

  // Lines narrower than a pixel are as wide as that to a place.
  double line_sigma_px = 1.0;
  for (const ExtractedRings& image : input.images) line_sigma_px = std::max(line_sigma_px, image.line_sigma_px);
  const double pixel_rad = std::sqrt(result.geometry.detector.pixel1_m * result.geometry.detector.pixel2_m) /
                           std::abs(result.geometry.distance_m);
  // Of the points about the rings, and of the rings about their places, counting taken off.
  double squares = 0.0, weights = 0.0;
  for (const ControlPoint& point : input.points) {
    squares += point.weight * (point.residual_rad * point.residual_rad - point.sigma_rad * point.sigma_rad);
    weights += point.weight;
  }
  const double beyond_rad = weights > 0.0 ? std::sqrt(std::max(0.0, squares / weights)) : 0.0;
  const double scatter_px = std::max(refinement.excess_px, beyond_rad / pixel_rad);
  const double scatter = scatter_px / line_sigma_px;
  if (scatter > limits::failed_excess) {
    fail(
        fmt::format("the points are off their rings by {:.2f} pixels, {:.0f} % of the lines' width: these are not "
                    "their rings",
                    scatter_px, 100.0 * scatter));
  } else if (scatter > limits::doubtful_excess) {
    doubt(fmt::format("the points are off their rings by {:.2f} pixels, {:.0f} % of the lines' width", scatter_px,
                      100.0 * scatter));
  }

  // Neighbours that overlap and other phases' lines move points by parts of a width; what is on no ring is further off.
  for (std::uint32_t image = 0; image < input.images.size(); ++image) {
    double kept = 0.0, all = 0.0;
    for (const ControlPoint& point : input.points) {
      if (point.image != image) continue;
      const double reach_rad = std::max(limits::kept_reach * line_sigma_px * pixel_rad, 5.0 * point.sigma_rad);
      kept += std::abs(point.residual_rad) < reach_rad ? 1.0 : 0.0;
      all += 1.0;
    }
    if (all == 0.0) continue;
    const std::string off = fmt::format("{:.0f} % of the points{} lie on no ring", 100.0 * (1.0 - kept / all),
                                        input.images.size() > 1 ? fmt::format(" of image {}", image) : std::string());
    if (kept / all < limits::failed_kept) {
      fail(off);
    } else if (kept / all < limits::doubtful_kept) {
      doubt(off);
    }
  }

  double say = 0.0;
  for (const ControlPoint& point : input.points) say += point.weight;
  if (say < limits::failed_say * static_cast<double>(input.points.size())) {
    fail("the rings contradict each other: no geometry fits most of them");
  }
  if (refinement.excess_px > limits::azimuthal_excess_px) {
    const double share = azimuthal_share(input, result.geometry);
    if (share > limits::azimuthal_share) {
      doubt(
          fmt::format("the points are off their rings by {:.2f} pixels, and that varies once or twice a turn of "
                      "azimuth: is a parameter held at a wrong value?",
                      refinement.excess_px));
    }
  }

  // A second phase may make most of the crests: rings that are all there stand against it.
  if (input.crests.explained < limits::failed_explained && first.evidence < limits::convincing_evidence) {
    fail(fmt::format("{:.0f} % of the crests in the image belong to none of the calibrant's rings: another compound?",
                     100.0 * (1.0 - input.crests.explained)));
  } else if (input.crests.explained < limits::doubtful_explained) {
    doubt(fmt::format("{:.0f} % of the crests in the image belong to none of the calibrant's rings: a second phase?",
                      100.0 * (1.0 - input.crests.explained)));
  } else if (input.crests.explained < limits::noted_explained) {
    result.warnings.push_back(
        fmt::format("{:.0f} % of the crests in the image belong to none of the calibrant's rings: a "
                    "second phase, or few grains",
                    100.0 * (1.0 - input.crests.explained)));
  }

  for (std::size_t index = 0; index < parameter_count; ++index) {
    if (result.verdict != Verdict::failed && refinement.fitted[index] && !refinement.determined[index]) {
      result.warnings.push_back(fmt::format("the rings do not determine {}: its standard error is {:.2g} {}",
                                            name_of(static_cast<Parameter>(index)), refinement.standard_error[index],
                                            index >= 3 && index <= 5 ? "rad" : "m"));
    }
  }

  // The wavelength (or scale of the spacings) that the rings would choose themselves.
  const std::size_t wavelength = static_cast<std::size_t>(Parameter::wavelength);
  if (!refinement.fitted[wavelength]) {
    RefinementSettings settings = input.settings;
    settings.freedom[wavelength] = Freedom{};
    std::vector<ControlPoint> points(input.points.begin(), input.points.end());
    const Refinement freed = refine(refinement.geometry, points, settings);
    const double given = *refinement.geometry.wavelength_m;
    if (freed.converged && freed.standard_error[wavelength] > 0.0) {
      result.wavelength_ratio = *freed.geometry.wavelength_m / given;
      result.wavelength_ratio_error = freed.standard_error[wavelength] / given;
      const double deviation = std::abs(result.wavelength_ratio - 1.0);
      if (result.wavelength_ratio_error > limits::wavelength_deviation) {
        result.warnings.push_back(fmt::format(
            "the rings test the wavelength to {:.1f} % only: where it or the spacings are wrong by that, so "
            "is the distance",
            100.0 * result.wavelength_ratio_error));
      }
      if (deviation > limits::wavelength_deviation &&
          deviation > limits::wavelength_sigmas * result.wavelength_ratio_error) {
        doubt(fmt::format(
            "the rings fit a wavelength (or spacings) {:+.2f} % from the one given, with a standard error of {:.2f} %",
            100.0 * (result.wavelength_ratio - 1.0), 100.0 * result.wavelength_ratio_error));
      }
    }
  }
}

}  // namespace annulus::calibration
