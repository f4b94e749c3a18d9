// Surveys the calibration: simulated images of every kind of difficulty, truth known, through calibrate().
//
// usage: annulus_calibration_survey [--cases N] [--size small|full] [--kind KIND]... [--first N] [--threads N]
//                                   [--json FILE] [--report FOLDER] [--check]
// Writes a line a case and a table by kind to standard output, and all numbers to FILE. --report writes the page of
// every case that is not as expected. --check exits with 1 unless 98 % of the solvable cases are found, every case that
// must be refused is, and no wrong geometry is called good.

#include <Eigen/Dense>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <omp.h>

#include "calibration/calibration.hpp"
#include "calibration/report.hpp"
#include "integrator/geometry.hpp"
#include "simulation/calibration_cases.hpp"

namespace annulus {
namespace {

using calibration::CalibrationResult;
using calibration::Verdict;
using integrator::Geometry;
using simulation::CalibrationCase;
using simulation::CaseKind;
using simulation::Expectation;
using Json = nlohmann::ordered_json;

struct Options {
  std::uint32_t cases = 32;
  std::uint32_t first = 0;
  simulation::CaseSize size = simulation::CaseSize::small;
  std::vector<CaseKind> kinds;
  std::string json;
  std::string report;
  bool check = false;
};

/// What became of a case.
struct Outcome {
  CaseKind kind = CaseKind::plain;
  std::uint32_t number = 0;
  Verdict verdict = Verdict::failed;
  bool right = false;             ///< 2theta over the detector is within a quarter of a pixel of the truth
  double deviation_pixels = 0.0;  ///< rms of that
  double centre_error_pixels = 0.0;
  double distance_error_ppm = 0.0;
  double chi_squared = 0.0;  ///< of the parameters' errors, by the covariance given, for one degree of freedom
  std::size_t points = 0;
  double reduced_chi_squared = 0.0;  ///< of the fit
  std::size_t rings_listed = 0, rings_seen = 0;
  double ring_evidence = 0.0, explained_share = 0.0, excess_px = 0.0;
  double seconds = 0.0;
  double megapixels = 0.0;
  std::string reason;
};

/// Rms difference of 2theta on a grid over the detector, in pixels of the truth.
double deviation_pixels(const Geometry& found, const Geometry& truth) {
  const std::vector<double> parallax1 = integrator::parallax_table_m(found);
  const std::vector<double> parallax2 = integrator::parallax_table_m(truth);
  const kernels::PixelGeometry ours = integrator::pixel_geometry(found, parallax1);
  const kernels::PixelGeometry theirs = integrator::pixel_geometry(truth, parallax2);
  double sum = 0.0;
  constexpr int steps = 16;
  for (int down = 0; down <= steps; ++down) {
    for (int right = 0; right <= steps; ++right) {
      const double row = theirs.rows * static_cast<double>(down) / steps;
      const double column = theirs.columns * static_cast<double>(right) / steps;
      const auto place = integrator::position_m(theirs, row, column);
      const double pixel_rad = theirs.pixel1_m / std::hypot(place[0], place[1], place[2]);
      const double error_rad =
          integrator::two_theta_rad(ours, row, column) - integrator::two_theta_rad(theirs, row, column);
      sum += error_rad * error_rad / (pixel_rad * pixel_rad);
    }
  }
  return std::sqrt(sum / ((steps + 1) * (steps + 1)));
}

/// Where the direct beam meets the detector's plane, in pixels from its first edges, along axes 1 and 2.
std::pair<double, double> beam_pixels(const Geometry& geometry) {
  const auto matrix = integrator::rotation_matrix(geometry);
  return {(geometry.distance_m * matrix[6] / matrix[8] + geometry.poni1_m) / geometry.detector.pixel1_m,
          (geometry.distance_m * matrix[7] / matrix[8] + geometry.poni2_m) / geometry.detector.pixel2_m};
}

/// The errors of the fitted parameters by the covariance that the result tells: 1 on average when that is right.
double parameter_chi_squared(const CalibrationResult& result, const Geometry& truth) {
  const auto values = [](const Geometry& geometry) {
    return std::array{geometry.distance_m,
                      geometry.poni1_m,
                      geometry.poni2_m,
                      geometry.rot1_rad,
                      geometry.rot2_rad,
                      geometry.rot3_rad,
                      geometry.wavelength_m.value_or(0.0)};
  };
  const auto found = values(result.geometry);
  const auto expected = values(truth);
  std::vector<std::size_t> used;
  for (std::size_t index = 0; index < calibration::parameter_count; ++index) {
    if (result.fitted[index] && result.determined[index] && result.standard_error[index] > 0.0) used.push_back(index);
  }
  if (used.empty()) return 0.0;
  const auto size = static_cast<Eigen::Index>(used.size());
  Eigen::MatrixXd correlation(size, size);
  Eigen::VectorXd error(size);
  for (Eigen::Index row = 0; row < size; ++row) {
    const std::size_t parameter = used[static_cast<std::size_t>(row)];
    error[row] = (found[parameter] - expected[parameter]) / result.standard_error[parameter];
    for (Eigen::Index column = 0; column < size; ++column) {
      correlation(row, column) = result.correlation[parameter][used[static_cast<std::size_t>(column)]];
    }
    correlation(row, row) = 1.0;
  }
  return error.dot(correlation.ldlt().solve(error)) / static_cast<double>(size);
}

Outcome run(const CalibrationCase& sample, std::uint32_t number, const Options& options) {
  const simulation::CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  calibration::CalibrationSettings settings;
  settings.detector = sample.detector;
  settings.calibrant = sample.calibrant;
  settings.wavelength_m = sample.wavelength_m;
  settings.parallax = sample.image.geometry.parallax;
  settings.freedom = calibration::make_freedom();
  const std::vector<calibration::CalibrationImage> images{{picture.counts, picture.mask, 0.0}};

  Outcome outcome;
  outcome.kind = sample.kind;
  outcome.number = number;
  const auto start = std::chrono::steady_clock::now();
  const CalibrationResult result = calibration::calibrate(images, settings);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  outcome.megapixels = 1e-6 * static_cast<double>(picture.counts.size());
  outcome.verdict = result.verdict;
  outcome.points = result.points.size();
  outcome.reduced_chi_squared = result.reduced_chi_squared;
  outcome.rings_listed = result.rings_listed;
  outcome.rings_seen = result.rings_seen;
  outcome.ring_evidence = result.ring_evidence;
  outcome.explained_share = result.explained_share;
  outcome.excess_px = result.excess_px;
  if (!result.reasons.empty()) outcome.reason = result.reasons.front();
  const Geometry& truth = sample.image.geometry;
  if (result.geometry.detector.has_shape()) {
    outcome.deviation_pixels = deviation_pixels(result.geometry, truth);
    outcome.right = outcome.deviation_pixels < 0.25;
    const auto [row, column] = beam_pixels(result.geometry);
    const auto [true_row, true_column] = beam_pixels(truth);
    outcome.centre_error_pixels = std::hypot(row - true_row, column - true_column);
    outcome.distance_error_ppm = 1e6 * std::abs(result.geometry.distance_m / truth.distance_m - 1.0);
    outcome.chi_squared = parameter_chi_squared(result, truth);
  }
  const bool expected = simulation::expectation_of(sample.kind) == Expectation::refused
                            ? outcome.verdict == Verdict::failed
                            : outcome.right || outcome.verdict == Verdict::failed;
  if (!options.report.empty() && (!expected || outcome.verdict == Verdict::failed)) {
    std::ofstream page(std::filesystem::path(options.report) /
                       fmt::format("{}_{}.html", simulation::name_of(sample.kind), number));
    page << calibration::report_html(images, settings, result,
                                     {fmt::format("{} {}", simulation::name_of(sample.kind), number),
                                      sample.calibrant.name, sample.calibrant.reference, "survey", result.warnings});
  }
  return outcome;
}

/// Found: the truth, and not disowned.
bool found(const Outcome& outcome) { return outcome.right && outcome.verdict != Verdict::failed; }

/// The one thing that must never be: a wrong geometry called good. Of an image that must be refused any is wrong.
bool wrongly_good(const Outcome& outcome) {
  const bool refuse = simulation::expectation_of(outcome.kind) == Expectation::refused;
  return outcome.verdict == Verdict::good && (refuse || !outcome.right);
}

double median(std::vector<double> values) {
  if (values.empty()) return std::nan("");
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double mean(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return values.empty() ? std::nan("") : sum / static_cast<double>(values.size());
}

/// A line of the table: a kind, or all.
struct Summary {
  std::size_t cases = 0;
  std::size_t found = 0;
  std::size_t verdicts[3] = {0, 0, 0};
  std::size_t wrongly_good = 0;
  double centre_pixels = 0.0;  ///< medians over the found
  double distance_ppm = 0.0;
  double chi_squared = 0.0;  ///< mean over the found
  double seconds = 0.0;      ///< median
  double most_seconds = 0.0;

  explicit Summary(const std::vector<Outcome>& outcomes) {
    std::vector<double> centres, distances, chis, times;
    for (const Outcome& outcome : outcomes) {
      ++cases;
      ++verdicts[static_cast<std::size_t>(outcome.verdict)];
      wrongly_good += annulus::wrongly_good(outcome) ? 1 : 0;
      times.push_back(outcome.seconds);
      most_seconds = std::max(most_seconds, outcome.seconds);
      if (!annulus::found(outcome)) continue;
      ++found;
      centres.push_back(outcome.centre_error_pixels);
      distances.push_back(outcome.distance_error_ppm);
      chis.push_back(outcome.chi_squared);
    }
    centre_pixels = median(centres);
    distance_ppm = median(distances);
    chi_squared = mean(chis);
    seconds = median(times);
  }

  [[nodiscard]] std::string line(std::string_view name) const {
    return fmt::format("{:<18}{:>6}{:>7}{:>6}{:>10}{:>8}{:>12}{:>14.4f}{:>14.1f}{:>10.2f}{:>9.2f}{:>9.2f}\n", name,
                       cases, found, verdicts[0], verdicts[1], verdicts[2], wrongly_good, centre_pixels, distance_ppm,
                       chi_squared, seconds, most_seconds);
  }
};

Json json_of(const Outcome& outcome) {
  return {{"kind", simulation::name_of(outcome.kind)},
          {"number", outcome.number},
          {"verdict", calibration::name_of(outcome.verdict)},
          {"right", outcome.right},
          {"deviation_pixels", outcome.deviation_pixels},
          {"centre_error_pixels", outcome.centre_error_pixels},
          {"distance_error_ppm", outcome.distance_error_ppm},
          {"parameter_chi_squared", outcome.chi_squared},
          {"points", outcome.points},
          {"reduced_chi_squared", outcome.reduced_chi_squared},
          {"rings_listed", outcome.rings_listed},
          {"rings_seen", outcome.rings_seen},
          {"ring_evidence", outcome.ring_evidence},
          {"explained_share", outcome.explained_share},
          {"excess_px", outcome.excess_px},
          {"seconds", outcome.seconds},
          {"megapixels", outcome.megapixels},
          {"reason", outcome.reason}};
}

Options parse(int count, char** texts) {
  Options options;
  const auto refuse = [](const std::string& message) {
    std::cerr << "annulus_calibration_survey: " << message << '\n';
    std::exit(2);
  };
  for (int place = 1; place < count; ++place) {
    const std::string option = texts[place];
    const auto value = [&]() -> std::string {
      if (place + 1 >= count) refuse(option + " needs a value");
      return texts[++place];
    };
    if (option == "--cases") {
      options.cases = static_cast<std::uint32_t>(std::stoul(value()));
    } else if (option == "--first") {
      options.first = static_cast<std::uint32_t>(std::stoul(value()));
    } else if (option == "--threads") {
      omp_set_num_threads(std::stoi(value()));
    } else if (option == "--size") {
      options.size = value() == "full" ? simulation::CaseSize::full : simulation::CaseSize::small;
    } else if (option == "--json") {
      options.json = value();
    } else if (option == "--report") {
      options.report = value();
    } else if (option == "--check") {
      options.check = true;
    } else if (option == "--kind") {
      const std::string name = value();
      const auto kinds = simulation::case_kinds();
      const auto kind =
          std::find_if(kinds.begin(), kinds.end(), [&](CaseKind known) { return simulation::name_of(known) == name; });
      if (kind == kinds.end()) refuse("no kind of case is called " + name);
      options.kinds.push_back(*kind);
    } else {
      refuse("unknown option " + option);
    }
  }
  if (options.kinds.empty()) options.kinds.assign(simulation::case_kinds().begin(), simulation::case_kinds().end());
  return options;
}

int survey(const Options& options) {
  std::vector<Outcome> all;
  Json cases = Json::array();
  for (const CaseKind kind : options.kinds) {
    for (std::uint32_t number = options.first; number < options.first + options.cases; ++number) {
      all.push_back(run(simulation::make_case(kind, number, options.size), number, options));
      const Outcome& outcome = all.back();
      cases.push_back(json_of(outcome));
      std::cout << fmt::format(
                       "{:<18}{:>4} {:<9}{:<6} centre {:>9.4f} px  distance {:>9.1f} ppm  off {:>8.4f} px  "
                       "chi2 {:>8.2f}  {:>6} points  {:>5.2f} s  {}\n",
                       simulation::name_of(kind), number, calibration::name_of(outcome.verdict),
                       outcome.right ? "right" : "wrong", outcome.centre_error_pixels, outcome.distance_error_ppm,
                       outcome.deviation_pixels, outcome.chi_squared, outcome.points, outcome.seconds, outcome.reason)
                << std::flush;
    }
  }
  std::cout << fmt::format("\n{:<18}{:>6}{:>7}{:>6}{:>10}{:>8}{:>12}{:>14}{:>14}{:>10}{:>9}{:>9}\n", "kind", "cases",
                           "found", "good", "doubtful", "failed", "wrong good", "centre (px)", "distance (ppm)", "chi2",
                           "time (s)", "most (s)");
  const auto select = [&](auto&& wanted) {
    std::vector<Outcome> chosen;
    std::copy_if(all.begin(), all.end(), std::back_inserter(chosen), wanted);
    return chosen;
  };
  for (const CaseKind kind : options.kinds) {
    std::cout << Summary(select([kind](const Outcome& outcome) {
                   return outcome.kind == kind;
                 })).line(simulation::name_of(kind));
  }
  const auto expects = [](Expectation expectation) {
    return [expectation](const Outcome& outcome) { return simulation::expectation_of(outcome.kind) == expectation; };
  };
  const Summary solvable(select(expects(Expectation::found)));
  std::cout << solvable.line("all to be found");
  if (!options.json.empty()) std::ofstream(options.json) << Json{{"cases", std::move(cases)}}.dump(1) << '\n';
  if (!options.check) return 0;

  int status = 0;
  const auto demand = [&](bool good, const std::string& what) {
    if (good) return;
    std::cout << "FAILED: " << what << '\n';
    status = 1;
  };
  demand(static_cast<double>(solvable.found) >= 0.98 * static_cast<double>(solvable.cases),
         fmt::format("{} of {} found, expected 98 %", solvable.found, solvable.cases));
  const Summary everything(all);
  demand(everything.wrongly_good == 0,
         fmt::format("{} cases whose wrong geometry is called good", everything.wrongly_good));
  const Summary refused(select(expects(Expectation::refused)));
  demand(refused.verdicts[static_cast<std::size_t>(Verdict::failed)] == refused.cases,
         fmt::format("{} of {} refused that must be", refused.verdicts[2], refused.cases));
  return status;
}

}  // namespace
}  // namespace annulus

int main(int count, char** texts) {
  try {
    return annulus::survey(annulus::parse(count, texts));
  } catch (const std::exception& error) {
    std::cerr << "annulus_calibration_survey: " << error.what() << '\n';
    return 2;
  }
}
