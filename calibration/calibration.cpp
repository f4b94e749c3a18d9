#include "calibration/calibration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/errors.hpp"
#include "calibration/control_points.hpp"
#include "calibration/evidence.hpp"
#include "calibration/hypothesis_search.hpp"
#include "calibration/pose.hpp"
#include "calibration/refinement.hpp"
#include "calibration/ring_detection.hpp"

namespace annulus::calibration {
namespace {

/// A geometry and all that was found with it.
struct Fit {
  std::vector<double> rings_rad;  ///< 2theta of the rings that were looked for
  Refinement refinement;
  std::vector<ExtractedRings> rings;
  std::vector<ControlPoint> points;
};

/// Variance over mean of the counts, from the differences of neighbours: 1 for counted photons, less for averages and
/// for what was divided by a monitor, more for counts with a gain. The median keeps to the background.
double gain_of(const CalibrationImage& image, std::uint32_t rows, std::uint32_t columns) {
  std::vector<float> ratios;
  ratios.reserve(image.counts.size());
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t pixel = row * columns; pixel + 1 < (row + 1) * columns; ++pixel) {
      if (image.mask[pixel] != 0 || image.mask[pixel + 1] != 0) continue;
      const float sum = image.counts[pixel] + image.counts[pixel + 1];
      const float difference = image.counts[pixel] - image.counts[pixel + 1];
      if (std::isfinite(sum) && sum > 0.0F) ratios.push_back(difference * difference / sum);
    }
  }
  constexpr std::size_t fewest = 1000;
  if (ratios.size() < fewest) return 1.0;
  std::nth_element(ratios.begin(), ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2), ratios.end());
  constexpr double median_of_squares = 0.4549;  // of a Gaussian with variance 1
  return static_cast<double>(ratios[ratios.size() / 2]) / median_of_squares;
}

/// Images in units of counted photons. Faint ones of few counts look like gains of two; what is beyond five is none.
std::vector<CalibrationImage> counted(std::span<const CalibrationImage> images, std::uint32_t rows,
                                      std::uint32_t columns, std::vector<std::vector<float>>& store) {
  std::vector<CalibrationImage> result(images.begin(), images.end());
  for (CalibrationImage& image : result) {
    constexpr double much = 5.0;
    const double gain = gain_of(image, rows, columns);
    if (!(gain > 0.0) || (gain < much && gain > 1.0 / much)) continue;
    store.emplace_back(image.counts.size());
    std::transform(image.counts.begin(), image.counts.end(), store.back().begin(),
                   [gain](float value) { return static_cast<float>(value / gain); });
    image.counts = store.back();
  }
  return result;
}

class Calibration {
 public:
  Calibration(std::span<const CalibrationImage> images, const CalibrationSettings& settings)
      : images_(counted(images, settings.detector.rows, settings.detector.columns, scaled_)),
        settings_(settings),
        rings_(settings.calibrant.two_theta_rad(settings.wavelength_m)),
        places_(settings.detector),
        pixel_m_(std::sqrt(settings.detector.pixel1_m * settings.detector.pixel2_m)) {
    const std::uint32_t rows = settings.detector.rows;
    const std::uint32_t columns = settings.detector.columns;
    for (const CalibrationImage& image : images_) {
      masks_.push_back(with_defects_masked(image, rows, columns));
      offsets_.push_back(image.distance_offset_m);
    }
    for (std::size_t image = 0; image < images.size(); ++image)
      sights_.push_back(sight_of(image, detection_binning(rows, columns)));
  }

  [[nodiscard]] CalibrationResult run() {
    CalibrationResult best;
    best.reasons.emplace_back("no rings were found in the image");
    best.geometry = geometry_of(Pose{{0.0, 0.0, -1.0}, {0.0, 0.0, 1.0}});
    // Quick ways first: most images need no more. Grains are spots to fine eyes and rings to coarse ones.
    struct Stage {
      bool coarse;
      SearchEffort effort;
    };
    constexpr std::array<Stage, 3> stages{Stage{false, SearchEffort::quick}, Stage{true, SearchEffort::quick},
                                          Stage{false, SearchEffort::full}};
    const std::uint32_t coarse_binning = 2 * detection_binning(settings_.detector.rows, settings_.detector.columns);
    bool any = false;
    for (const Stage& stage : stages) {
      const bool last = &stage == &stages.back();
      const std::vector<Hypothesis> hypotheses =
          stage.coarse ? searched(sight_of(0, coarse_binning), stage.effort) : searched(sights_.front(), stage.effort);
      // Odds that no wrong geometry reaches; with less, a wider search comes first.
      if (hypotheses.empty() || (!last && hypotheses.front().tally.evidence < limits::convincing_evidence)) continue;
      // Three fits are what the time allows, and what is far behind the best is no rival.
      constexpr std::size_t most_fits = 3;
      constexpr double rival = 0.5;
      for (std::size_t index = 0; index < std::min(most_fits, hypotheses.size()); ++index) {
        if (hypotheses[index].tally.evidence < rival * hypotheses.front().tally.evidence) break;
        CalibrationResult result = result_of(hypotheses[index].pose);
        const bool better = !any || is_better(result, best);
        if (any && result.verdict == Verdict::good && best.verdict == Verdict::good) {
          doubt_rival(better ? best : result, better ? result : best);
        }
        if (better) best = std::move(result);
        any = true;
        constexpr double same_score = 0.97;
        const bool rivalled =
            index + 1 < hypotheses.size() &&
            hypotheses[index + 1].tally.evidence > hypotheses.front().tally.evidence - near_evidence &&
            hypotheses[index + 1].score > same_score * hypotheses.front().score;
        if (best.verdict == Verdict::good && !rivalled) break;
      }
      if (any && (best.verdict == Verdict::good || fits_well(best))) break;
    }
    compare_with_guesses(best);
    return best;
  }

 private:
  /// Odds so near to each other do not tell two geometries apart.
  static constexpr double near_evidence = 2.0;  // nats

  /// What a search sees of an image.
  struct Sight {
    RidgeMap ridges;
    std::vector<Eigen::Vector3f> places;
  };

  [[nodiscard]] Sight sight_of(std::size_t image, std::uint32_t binning) const {
    RidgeSettings settings;
    settings.binning = binning;
    Sight sight;
    sight.ridges = detect_ridges(images_[image].counts, masks_[image], settings_.detector.rows,
                                 settings_.detector.columns, settings);
    sight.places = places_of(sight.ridges, places_);
    return sight;
  }

  [[nodiscard]] SearchInput search_input(const Sight& sight) const {
    return {&sight.ridges, &places_, &sight.places, masks_.front(), settings_.detector.rows, settings_.detector.columns,
            pixel_m_,      rings_};
  }

  [[nodiscard]] std::vector<Hypothesis> searched(const Sight& sight, SearchEffort effort) const {
    std::vector<Pose> guesses;
    for (const integrator::Geometry& guess : settings_.guesses) guesses.push_back(pose_of(guess));
    constexpr std::size_t most_hypotheses = 6;
    return search_hypotheses(search_input(sight), guesses, effort, most_hypotheses);
  }

  [[nodiscard]] integrator::Geometry geometry_of(const Pose& pose) const {
    integrator::Geometry geometry;
    geometry.detector = settings_.detector;
    geometry.parallax = settings_.parallax;
    geometry.wavelength_m = settings_.wavelength_m;
    set_pose(pose, geometry);
    return geometry;
  }

  /// Points found with a geometry, and the geometry refined on them.
  static constexpr std::size_t some_points = 800;  ///< to find the geometry
  static constexpr std::size_t all_points = 4000;  ///< for the result

  [[nodiscard]] Fit fitted(const integrator::Geometry& start, double reach_px, std::size_t most_points,
                           double polarisation, std::span<const double> foreign_rad) const {
    Fit fit;
    fit.rings_rad = rings_of(start);
    for (std::size_t image = 0; image < images_.size(); ++image) {
      ExtractionSettings extraction;
      extraction.reach_px = reach_px;
      extraction.max_rings = settings_.max_rings;
      extraction.most_points = most_points / images_.size();
      extraction.polarisation = polarisation;
      extraction.in_parts = most_points < all_points;
      extraction.foreign_rad = foreign_rad;
      fit.rings.push_back(extract_rings(images_[image].counts, masks_[image], moved_back(start, offsets_[image]),
                                        fit.rings_rad, extraction));
      for (RingSector& sector : fit.rings.back().sectors) {
        sector.point.image = static_cast<std::uint32_t>(image);
        fit.points.push_back(sector.point);
      }
    }
    RefinementSettings settings = refinement_settings();
    settings.near_start = most_points == all_points;
    fit.refinement = refine(start, fit.points, settings);
    return fit;
  }

  [[nodiscard]] RefinementSettings refinement_settings() const {
    RefinementSettings settings;
    settings.freedom = settings_.freedom;
    settings.d_spacings_m = settings_.calibrant.d_spacings_m;
    settings.distance_offsets_m = offsets_;
    return settings;
  }

  /// 2theta of the rings at a geometry's wavelength.
  [[nodiscard]] std::vector<double> rings_of(const integrator::Geometry& geometry) const {
    return settings_.calibrant.two_theta_rad(*geometry.wavelength_m);
  }

  /// The geometry of a pose. A wavelength that is off by a share makes the distances of all images seem off by the same
  /// share, and so what lies between them: where it is free, the other images tell it.
  [[nodiscard]] integrator::Geometry start_of(const Pose& pose) const {
    integrator::Geometry start = geometry_of(pose);
    const Freedom& wavelength = settings_.freedom[static_cast<std::size_t>(Parameter::wavelength)];
    const Freedom& distance = settings_.freedom[static_cast<std::size_t>(Parameter::distance)];
    if (images_.size() < 2 || wavelength.kind != Freedom::Kind::free || distance.kind != Freedom::Kind::free)
      return start;
    constexpr int steps = 50;  // to ten per cent
    constexpr double step = 0.002;
    double best = -1.0, ratio = 1.0;
    for (int index = -steps; index <= steps; ++index) {
      const double trial = 1.0 + step * index;
      double evidence = 0.0;
      for (std::size_t image = 1; image < images_.size(); ++image)
        evidence += tally_of(image, moved_back(start, trial * offsets_[image])).evidence;
      // Of equal ones that nearest to the wavelength given.
      if (evidence > best || (evidence == best && std::abs(trial - 1.0) < std::abs(ratio - 1.0))) {
        best = evidence;
        ratio = trial;
      }
    }
    const Eigen::Vector3d hit = pose.sample - pose.sample[2] / pose.beam[2] * pose.beam;
    start = geometry_of({hit + (pose.sample - hit) / ratio, pose.beam});
    start.wavelength_m = ratio * settings_.wavelength_m;
    return start;
  }

  [[nodiscard]] CalibrationResult result_of(const Pose& pose) {
    // A hypothesis is right to the detection's pixels; then the points are looked for again where they now should be,
    // in windows that leave out what is not the ring.
    const double scale_px = sights_.front().ridges.scale_px;
    Fit fit = fitted(start_of(pose), 3.0 + 2.0 * scale_px, some_points, 0.0, {});
    std::vector<double> foreign_rad = tally_of(0, fit.refinement.geometry).foreign_sines;
    for (double& line : foreign_rad) line = 2.0 * std::asin(std::min(line, 1.0));
    const double reach_px = std::max(3.0, 4.0 * fit.rings.front().line_sigma_px);
    fit = fitted(fit.refinement.geometry, reach_px, some_points, 0.0, foreign_rad);
    fit = fitted(fit.refinement.geometry, reach_px, all_points, polarisation_of(fit.rings.front(), fit.rings_rad),
                 foreign_rad);
    const Refinement& refinement = fit.refinement;
    CalibrationResult result;
    result.geometry = refinement.geometry;
    result.standard_error = refinement.standard_error;
    result.fitted = refinement.fitted;
    result.determined = refinement.determined;
    for (std::size_t one = 0; one < parameter_count; ++one) {
      for (std::size_t other = 0; other < parameter_count; ++other) {
        const double errors = refinement.standard_error[one] * refinement.standard_error[other];
        result.correlation[one][other] =
            errors > 0.0 ? refinement.covariance[one][other] / errors : (one == other ? 1.0 : 0.0);
      }
    }
    result.rms_residual_rad = refinement.rms_residual_rad;
    result.reduced_chi_squared = refinement.reduced_chi_squared;
    result.points = fit.points;
    const Pose found = pose_of(result.geometry);
    result.tilt_rad = std::acos(std::clamp(found.beam[2], -1.0, 1.0));
    const auto [row, column] = pixel_of(found.sample - found.sample[2] / found.beam[2] * found.beam);
    result.beam_row = row;
    result.beam_column = column;

    EvidenceInput evidence;
    evidence.images = fit.rings;
    evidence.points = fit.points;
    evidence.refinement = &refinement;
    evidence.rings_rad = fit.rings_rad;
    evidence.settings = refinement_settings();
    std::vector<char> seen(fit.rings_rad.size(), 0);
    for (std::size_t ring = 0; ring < seen.size(); ++ring) {
      const RingProfile& profile = fit.rings.front().profiles[ring];
      seen[ring] = profile.seen || !profile.told ? 1 : 0;
    }
    // Crests are good to a part of the detection's pixel.
    SearchInput looked_at = search_input(sights_.front());
    looked_at.rings_rad = fit.rings_rad;
    evidence.crests = explained_crests(looked_at, result.geometry, seen, std::max(2.0, 1.5 * scale_px));
    for (std::size_t image = 0; image < images_.size(); ++image)
      evidence.tallies.push_back(tally_of(image, moved_back(result.geometry, offsets_[image])));
    judge(evidence, result);
    return result;
  }

  /// Of the rings in an image, by a geometry of its own with all that the integrator knows.
  [[nodiscard]] RingTally tally_of(std::size_t image, const integrator::Geometry& geometry) const {
    const RidgeMap& ridges = sights_[image].ridges;
    const std::vector<double> parallax = integrator::parallax_table_m(geometry);
    const kernels::PixelGeometry pixels = integrator::pixel_geometry(geometry, parallax);
    std::vector<float> sines(ridges.roots.size());
#pragma omp parallel for
    for (std::size_t row = 0; row < ridges.rows; ++row) {
      for (std::size_t column = 0; column < ridges.columns; ++column) {
        const double two_theta = integrator::two_theta_rad(pixels, (static_cast<double>(row) + 0.5) * ridges.scale_px,
                                                           (static_cast<double>(column) + 0.5) * ridges.scale_px);
        sines[row * ridges.columns + column] = static_cast<float>(std::sin(0.5 * two_theta));
      }
    }
    std::vector<double> ring_sines;
    for (const double ring_rad : rings_of(geometry)) ring_sines.push_back(std::sin(0.5 * ring_rad));
    return tally_rings(ridges, sines, ring_sines);
  }

  /// Says where what was told of the geometry and what the image shows differ.
  void compare_with_guesses(CalibrationResult& result) const {
    if (result.verdict == Verdict::failed) return;
    // A hundredth of the distance, five pixels or half a degree are more than a geometry drifts between two
    // experiments.
    constexpr double much_distance = 0.01;
    constexpr double much_px = 5.0;
    constexpr double much_rad = 0.01;
    const Pose found = pose_of(result.geometry);
    for (const integrator::Geometry& guess : settings_.guesses) {
      const Pose told = pose_of(guess);
      const double distance = guess.distance_m / result.geometry.distance_m - 1.0;
      if (std::abs(distance) > much_distance) {
        result.warnings.push_back(
            fmt::format("the distance found, {:.5f} m, is not the one given, {:.5f} m ({:+.1f} %)",
                        result.geometry.distance_m, guess.distance_m, 100.0 * distance));
      }
      const auto [row, column] = pixel_of(told.sample - told.sample[2] / told.beam[2] * told.beam);
      if (std::hypot(row - result.beam_row, column - result.beam_column) > much_px) {
        result.warnings.push_back(
            fmt::format("the beam was found at row {:.1f}, column {:.1f}; row {:.1f}, column {:.1f} were given",
                        result.beam_row, result.beam_column, row, column));
      }
      if (std::acos(std::clamp(found.beam.dot(told.beam), -1.0, 1.0)) > much_rad) {
        result.warnings.push_back(
            fmt::format("the detector's tilt found, {:.2f} degrees, is not as given, {:.2f} degrees",
                        result.tilt_rad * 180.0 / std::numbers::pi,
                        std::acos(std::clamp(told.beam[2], -1.0, 1.0)) * 180.0 / std::numbers::pi));
      }
    }
  }

  /// Pixel coordinates of a place on the regular grid of the detector's pixels.
  [[nodiscard]] std::array<double, 2> pixel_of(const Eigen::Vector3d& place) const {
    const integrator::Detector& detector = settings_.detector;
    using integrator::Orientation;
    const bool flip1 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::top_right;
    const bool flip2 =
        detector.orientation == Orientation::top_left || detector.orientation == Orientation::bottom_left;
    const double row = place[0] / detector.pixel1_m;
    const double column = place[1] / detector.pixel2_m;
    return {flip1 ? detector.rows - row : row, flip2 ? detector.columns - column : column};
  }

  /// How far the points are off their rings, whatever weight the fit left them: the median.
  static double misfit_rad(const CalibrationResult& result) {
    std::vector<double> off;
    for (const ControlPoint& point : result.points) off.push_back(std::abs(point.residual_rad));
    if (off.empty()) return std::numeric_limits<double>::infinity();
    std::nth_element(off.begin(), off.begin() + static_cast<std::ptrdiff_t>(off.size() / 2), off.end());
    return off[off.size() / 2];
  }

  /// Two geometries that both are good are one too many, unless one fits clearly better or they are the same.
  static void doubt_rival(const CalibrationResult& rival, CalibrationResult& best) {
    constexpr double clearly = 1.2;
    constexpr double same_cosine = 0.999;
    if (misfit_rad(rival) > clearly * misfit_rad(best) ||
        pose_of(rival.geometry).beam.dot(pose_of(best.geometry).beam) > same_cosine)
      return;
    best.verdict = Verdict::doubtful;
    best.reasons.push_back(
        fmt::format("another geometry fits as well: distance {:.6f} m, rot1 {:.5f} rad, rot2 {:.5f} rad; give a guess "
                    "of what is right",
                    rival.geometry.distance_m, rival.geometry.rot1_rad, rival.geometry.rot2_rad));
  }

  /// Whether a result is to be kept rather than another: the better verdict, then that for which the rings speak more,
  /// and where they do not tell (a lattice seen from its other side, say), that which fits the points better.
  [[nodiscard]] static bool is_better(const CalibrationResult& one, const CalibrationResult& other) {
    if (one.verdict != other.verdict) return one.verdict < other.verdict;
    if (std::abs(one.ring_evidence - other.ring_evidence) > near_evidence)
      return one.ring_evidence > other.ring_evidence;
    return misfit_rad(one) < misfit_rad(other);
  }

  std::vector<std::vector<float>> scaled_;  ///< of the images that do not count photons
  std::vector<CalibrationImage> images_;
  const CalibrationSettings& settings_;
  std::vector<double> rings_;
  DetectorPlaces places_;
  double pixel_m_;
  std::vector<std::vector<std::uint8_t>> masks_;
  std::vector<double> offsets_;
  std::vector<Sight> sights_;  ///< [images]
};

}  // namespace

std::array<Freedom, parameter_count> make_freedom() {
  std::array<Freedom, parameter_count> freedom;
  freedom[static_cast<std::size_t>(Parameter::rot3)].kind = Freedom::Kind::fixed;
  freedom[static_cast<std::size_t>(Parameter::wavelength)].kind = Freedom::Kind::fixed;
  return freedom;
}

CalibrationResult calibrate(std::span<const CalibrationImage> images, const CalibrationSettings& settings) {
  const integrator::Detector& detector = settings.detector;
  if (images.empty()) throw InputError("calibration: there is no image");
  if (!detector.has_shape() || !(detector.pixel1_m > 0.0) || !(detector.pixel2_m > 0.0)) {
    throw InputError("calibration: detector " + detector.name + " has no shape or no pixel size");
  }
  const std::size_t pixels = static_cast<std::size_t>(detector.rows) * detector.columns;
  for (std::size_t image = 0; image < images.size(); ++image) {
    if (images[image].counts.size() != pixels || images[image].mask.size() != pixels) {
      throw InputError(fmt::format(
          "calibration: image {} has {} pixels and a mask of {}, expected {} x {} of detector {}", image,
          images[image].counts.size(), images[image].mask.size(), detector.rows, detector.columns, detector.name));
    }
  }
  if (!(settings.wavelength_m > 0.0)) throw InputError("calibration: the wavelength must be above 0");
  if (settings.calibrant.two_theta_rad(settings.wavelength_m).empty()) {
    throw InputError(fmt::format("calibration: calibrant {} has no ring at a wavelength of {} m",
                                 settings.calibrant.name, settings.wavelength_m));
  }
  bool any_free = false;
  for (std::size_t index = 0; index < parameter_count; ++index) {
    const Freedom& freedom = settings.freedom[index];
    any_free = any_free || (freedom.kind == Freedom::Kind::free && static_cast<Parameter>(index) != Parameter::rot3);
    if (freedom.kind == Freedom::Kind::tied &&
        settings.freedom[static_cast<std::size_t>(freedom.tie.to)].kind != Freedom::Kind::free) {
      throw InputError(fmt::format("calibration: {} is tied to {}, which is not refined",
                                   name_of(static_cast<Parameter>(index)), name_of(freedom.tie.to)));
    }
    if (freedom.lower && freedom.upper && *freedom.lower > *freedom.upper) {
      throw InputError(
          fmt::format("calibration: the bounds of {} are the wrong way round", name_of(static_cast<Parameter>(index))));
    }
  }
  if (!any_free) throw InputError("calibration: every parameter is fixed, nothing is left to find");
  return Calibration(images, settings).run();
}

}  // namespace annulus::calibration
