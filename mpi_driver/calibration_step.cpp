#include "mpi_driver/calibration_step.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <omp.h>

#include "base/errors.hpp"
#include "calibration/refinement.hpp"
#include "calibration/report.hpp"
#include "integrator/entries.hpp"
#include "integrator/geometry_files.hpp"
#include "integrator/units.hpp"
#include "kernels/bad_pixels.hpp"
#include "kernels/pixel_type.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/image_frames.hpp"
#include "mapping/nexus_detector.hpp"
#include "mpi_driver/version.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using calibration::Parameter;
using integrator::Geometry;

/// Frames of one or several files, added up.
struct Sum {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::vector<double> counts;     ///< [pixels]
  std::vector<std::uint8_t> bad;  ///< [pixels] 1 = bad in a frame
  std::uint64_t frames = 0;
};

/// Adds all frames of a file. What is wrong with it goes to `problems`.
void add_frames(const std::string& url, const kernels::BadPixelRules& rules, Sum& sum, Problems& problems) {
  problems.collect([&] {
    mapping::ImageFrames file(url);
    if (sum.counts.empty()) {
      sum.rows = file.rows();
      sum.columns = file.columns();
      sum.counts.assign(std::size_t{sum.rows} * sum.columns, 0.0);
      sum.bad.assign(sum.counts.size(), 0);
    }
    if (file.rows() != sum.rows || file.columns() != sum.columns) {
      throw InputError(fmt::format("{}: found {} x {} pixels, expected {} x {} as the first image has", url,
                                   file.rows(), file.columns(), sum.rows, sum.columns));
    }
    constexpr std::uint64_t at_once = 8;
    mapping::DecodedFrames decoded;
    for (std::uint64_t first = 0; first < file.frames();) {
      first += file.read(first, at_once, decoded);
      for (const std::string& problem : decoded.problems) problems.add(problem);
      kernels::visit_pixel_type(decoded.type, [&]<typename Pixel>() {
        for (std::size_t frame = 0; frame < decoded.numbers.size(); ++frame) {
          const std::byte* bytes = decoded.pixels.data() + frame * sum.counts.size() * sizeof(Pixel);
          for (std::size_t pixel = 0; pixel < sum.counts.size(); ++pixel) {
            Pixel value{};
            std::memcpy(&value, bytes + pixel * sizeof(Pixel), sizeof(Pixel));
            if (kernels::is_bad(value, rules)) {
              sum.bad[pixel] = 1;
            } else {
              sum.counts[pixel] += static_cast<double>(value);
            }
          }
        }
      });
      sum.frames += decoded.numbers.size();
    }
  });
}

/// The detector that is meant: by name, or that of the guess, or a plain one of the pixel size given; in the shape of
/// the images.
integrator::Detector detector_of(const CalibrationOptions& options, const std::optional<Geometry>& guess,
                                 std::uint32_t rows, std::uint32_t columns) {
  integrator::Detector detector;
  if (!options.detector.empty() && options.pixel_m) {
    throw InputError("--detector and --pixel-size exclude each other: a detector has its pixels");
  }
  if (!options.detector.empty()) {
    detector = integrator::make_detector(options.detector, "", mapping::detector_files());
  } else if (options.pixel_m) {
    detector = integrator::make_detector(
        "Detector", fmt::format(R"({{"pixel1": {}, "pixel2": {}}})", options.pixel_m->first, options.pixel_m->second));
  } else if (guess) {
    detector = guess->detector;
  } else {
    throw InputError("--detector is missing: its name, or --pixel-size, or a geometry with --poni");
  }
  if (options.orientation) {
    detector = integrator::oriented_to(detector, static_cast<integrator::Orientation>(*options.orientation));
  }
  if (rows == 0) return detector;  // what is wrong with the images is told already
  std::optional<integrator::Detector> fitting = integrator::binned_to(detector, rows, columns);
  if (!fitting) {
    throw InputError(fmt::format("{}: found {} x {} pixels, expected {} x {} as the detector {} has",
                                 options.images.front(), rows, columns, detector.rows, detector.columns,
                                 detector.name));
  }
  if (options.sensor) fitting->sensor = options.sensor;
  return *std::move(fitting);
}

/// The sensor that parallax needs: given, of the geometry, or the only one that the detector comes with.
void settle_sensor(const CalibrationOptions& options, integrator::Detector& detector) {
  if (!options.parallax || detector.sensor) return;
  const std::vector<integrator::Sensor> known = integrator::known_sensors(detector);
  if (known.size() == 1) {
    detector.sensor = known.front();
    return;
  }
  std::string list;
  for (const integrator::Sensor& sensor : known) {
    list += fmt::format("{}{},{:g}", list.empty() ? "; it comes with " : " or ", sensor.material, sensor.thickness_m);
  }
  throw InputError(fmt::format("--parallax needs --sensor: that of {} is not told{}", detector.name, list));
}

calibration::Calibrant calibrant_of(const CalibrationOptions& options) {
  if (!options.cell.empty()) {
    const calibration::CellDescription description = calibration::parse_cell(options.cell);
    // As far as this wavelength reaches; more than 500 rings are never told apart.
    const double d_min_angstrom = 0.5e10 * options.wavelength_m.value_or(1e-10);
    constexpr std::size_t most_rings = 500;
    const calibration::UnitCell& cell = description.cell;
    // Down to a spacing d a cell of volume V has 4/3 pi V / d^3 reflections; a ring takes up to 48 of them, and a
    // centring half. So few cells have fewer rings than are kept.
    const double volume = cell.a_angstrom * cell.b_angstrom * cell.c_angstrom;
    const double reachable = std::cbrt(4.19 * volume / (96.0 * most_rings));
    return calibration::calibrant_of_cell(options.cell, cell, description.symmetry,
                                          std::max(d_min_angstrom, std::min(reachable, 1e3)), most_rings);
  }
  if (!options.d_spacings_angstrom.empty()) {
    return calibration::calibrant_of_spacings("--d-spacings", options.d_spacings_angstrom);
  }
  std::error_code ignored;
  const bool is_file = options.calibrant.ends_with(".D") || options.calibrant.ends_with(".d") ||
                       fs::is_regular_file(options.calibrant, ignored);
  return is_file ? calibration::read_calibrant(options.calibrant) : calibration::make_calibrant(options.calibrant);
}

/// A detector across the beam, which hits it at pixel coordinates (row, column).
Geometry upright(const integrator::Detector& detector, double distance_m, double row, double column) {
  using integrator::Orientation;
  const bool flip1 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::top_right;
  const bool flip2 = detector.orientation == Orientation::top_left || detector.orientation == Orientation::bottom_left;
  Geometry geometry;
  geometry.detector = detector;
  geometry.distance_m = distance_m;
  geometry.poni1_m = (flip1 ? detector.rows - row : row) * detector.pixel1_m;
  geometry.poni2_m = (flip2 ? detector.columns - column : column) * detector.pixel2_m;
  return geometry;
}

/// Guesses of what is known of the distance and of the beam's place; where one of them is not, the middle of the
/// detector, or distances at which one of the first rings fills it, stand in.
void append_guesses(std::optional<double> distance_m, std::optional<std::pair<double, double>> beam_center,
                    calibration::CalibrationSettings& settings) {
  if (!distance_m && !beam_center) return;
  const integrator::Detector& detector = settings.detector;
  const auto [column, row] = beam_center.value_or(std::pair{0.5 * detector.columns, 0.5 * detector.rows});
  std::vector<double> distances_m;
  if (distance_m) {
    distances_m.push_back(*distance_m);
  } else {
    const double half_m = 0.5 * std::min(detector.rows * detector.pixel1_m, detector.columns * detector.pixel2_m);
    const std::vector<double> angles = settings.calibrant.two_theta_rad(settings.wavelength_m);
    for (std::size_t ring = 0; ring < std::min<std::size_t>(angles.size(), 12); ++ring) {
      if (angles[ring] < 1.4) distances_m.push_back(half_m / std::tan(angles[ring]));
    }
  }
  for (const double distance : distances_m) {
    Geometry guess = upright(detector, distance, row, column);
    guess.wavelength_m = settings.wavelength_m;
    guess.parallax = settings.parallax;
    settings.guesses.push_back(std::move(guess));
  }
}

void subtract_dark(const std::vector<std::string>& urls, Sum& sum, Problems& problems) {
  for (const std::string& url : urls) {
    problems.collect([&] {
      const mapping::Image dark = mapping::read_image(url);
      if (dark.rows != sum.rows || dark.columns != sum.columns) {
        throw InputError(fmt::format("--dark {}: found {} x {} pixels, expected {} x {} as the images have", url,
                                     dark.rows, dark.columns, sum.rows, sum.columns));
      }
      const double share = static_cast<double>(sum.frames) / static_cast<double>(urls.size());
      for (std::size_t pixel = 0; pixel < sum.counts.size(); ++pixel) sum.counts[pixel] -= share * dark.values[pixel];
    });
  }
}

std::vector<std::uint8_t> mask_of(const CalibrationOptions& options, const integrator::Detector& detector,
                                  Problems& problems) {
  std::vector<std::uint8_t> mask = detector.mask();
  for (const std::string& url : options.masks) {
    problems.collect([&] {
      const mapping::Image image = mapping::read_image(url);
      if (image.rows != detector.rows || image.columns != detector.columns) {
        throw InputError(fmt::format("--mask {}: found {} x {} pixels, expected {} x {} as the detector {} has", url,
                                     image.rows, image.columns, detector.rows, detector.columns, detector.name));
      }
      for (std::size_t pixel = 0; pixel < mask.size(); ++pixel) {
        if (image.values[pixel] != 0.0) mask[pixel] = 1;
      }
    });
  }
  return mask;
}

kernels::BadPixelRules rules_of(const integrator::Detector& detector) {
  kernels::BadPixelRules rules;
  rules.negative = detector.photon_counting;
  if (detector.dummy) {
    rules.dummy_on = true;
    rules.dummy = *detector.dummy;
    rules.delta_dummy = detector.delta_dummy;
  }
  return rules;
}

bool is_length(Parameter parameter) {
  return parameter == Parameter::distance || parameter == Parameter::poni1 || parameter == Parameter::poni2;
}

calibration::ReportInput report_input(const CalibrationInput& input, const CalibrationOutcome& outcome) {
  return {input.image_name, input.settings.calibrant.name, input.settings.calibrant.reference, version,
          outcome.warnings};
}

/// Where the header of the image and the result part ways: further than such headers are good to.
void compare_with_metadata(const CalibrationInput& input, CalibrationOutcome& outcome) {
  const calibration::CalibrationResult& result = outcome.result;
  const mapping::ImageMetadata& told = input.metadata;
  if (result.verdict == calibration::Verdict::failed) return;
  const auto warn = [&](std::string_view what, const std::string& header, const std::string& found) {
    outcome.warnings.push_back(
        fmt::format("{}: its header tells a {} of {}, the rings {}", input.image_name, what, header, found));
  };
  const double distance_m = result.geometry.distance_m;
  if (told.distance_m && std::abs(*told.distance_m / distance_m - 1.0) > 0.005) {
    warn("distance", fmt::format("{:.6g} m", *told.distance_m), fmt::format("{:.6g} m", distance_m));
  }
  constexpr double near_pixels = 2.0;
  if (told.beam_row && told.beam_column &&
      std::hypot(*told.beam_row - result.beam_row, *told.beam_column - result.beam_column) > near_pixels) {
    warn("beam centre", fmt::format("({:.2f}, {:.2f}) pixels", *told.beam_column, *told.beam_row),
         fmt::format("({:.2f}, {:.2f})", result.beam_column, result.beam_row));
  }
  const double wavelength_m = result.geometry.wavelength_m.value_or(input.settings.wavelength_m);
  if (told.wavelength_m && std::abs(*told.wavelength_m / wavelength_m - 1.0) > 0.001) {
    outcome.warnings.push_back(fmt::format("{}: its header tells a wavelength of {:.6g} m, used is {:.6g} m",
                                           input.image_name, *told.wavelength_m, wavelength_m));
  }
}

/// The number of threads of parallel regions from here on, until it goes out of scope; 0 = as it is.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) {
    if (threads > 0) omp_set_num_threads(threads);
  }
  ~ThreadCount() { omp_set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

}  // namespace

CalibrationInput read_calibration_input(const CalibrationOptions& options, Problems& problems) {
  CalibrationInput input;
  if (options.images.empty()) return input;  // told already
  input.image_name = options.images.front();
  std::optional<Geometry> guess;
  if (!options.poni.empty()) {
    problems.collect([&] {
      integrator::GeometryFileOptions reading;
      reading.detector_files = mapping::detector_files();
      reading.detector_files.folder = options.poni.parent_path();
      guess = integrator::read_geometry(options.poni, reading);
    });
  }
  problems.collect([&] { input.metadata = mapping::read_image_metadata(options.images.front()); });

  calibration::CalibrationSettings& settings = input.settings;
  CalibrationOptions settled = options;
  if (!settled.wavelength_m && guess) settled.wavelength_m = guess->wavelength_m;
  if (!settled.wavelength_m) {
    if (!options.wavelength_given) problems.add("--wavelength is missing (or --energy)");
  } else {
    settings.wavelength_m = *settled.wavelength_m;
  }
  const std::size_t before = problems.messages().size();
  if (!options.calibrant.empty() || !options.cell.empty() || !options.d_spacings_angstrom.empty()) {
    problems.collect([&] { settings.calibrant = calibrant_of(settled); });
  }
  const bool calibrant_known = problems.messages().size() == before && !settings.calibrant.d_spacings_m.empty();

  // A first look at the shape: the rules of bad pixels are the detector's.
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  problems.collect([&] {
    const mapping::ImageFrames first(options.images.front());
    rows = first.rows();
    columns = first.columns();
  });
  bool detector_known = false;
  problems.collect([&] {
    settings.detector = detector_of(options, guess, rows, columns);
    settle_sensor(options, settings.detector);
    detector_known = settings.detector.has_shape();
  });
  if (rows == 0 || !detector_known) return input;

  settings.parallax = options.parallax || (guess && guess->parallax == integrator::Parallax::on)
                          ? integrator::Parallax::on
                          : integrator::Parallax::off;
  settings.freedom = options.freedom;
  settings.max_rings = options.max_rings;
  input.threads = options.threads;
  const std::vector<std::uint8_t> mask = mask_of(options, settings.detector, problems);
  const kernels::BadPixelRules rules = rules_of(settings.detector);
  const bool apart = !options.distance_offsets_m.empty();
  Sum sum;
  for (std::size_t image = 0; image < options.images.size(); ++image) {
    add_frames(options.images[image], rules, sum, problems);
    if (!apart && image + 1 < options.images.size()) continue;
    if (sum.counts.empty() || sum.frames == 0) break;  // told already
    subtract_dark(options.dark, sum, problems);
    input.counts.emplace_back(sum.counts.begin(), sum.counts.end());
    input.masks.push_back(mask);
    for (std::size_t pixel = 0; pixel < mask.size() && pixel < sum.bad.size(); ++pixel) {
      input.masks.back()[pixel] |= sum.bad[pixel];
    }
    input.distance_offsets_m.push_back(apart ? options.distance_offsets_m[image] : 0.0);
    if (std::find(input.masks.back().begin(), input.masks.back().end(), std::uint8_t{0}) == input.masks.back().end()) {
      problems.add(fmt::format("{}: no pixel is left: mask and bad pixels take all", options.images[image]));
    }
    if (apart) sum = {};
  }
  if (!calibrant_known || settings.wavelength_m <= 0.0) return input;

  if (guess) {
    guess->detector = settings.detector;
    guess->wavelength_m = settings.wavelength_m;
    guess->parallax = settings.parallax;
    settings.guesses.push_back(*guess);
  }
  append_guesses(options.distance_m, options.beam_center, settings);
  std::optional<std::pair<double, double>> told_center;
  if (input.metadata.beam_row && input.metadata.beam_column) {
    told_center = {*input.metadata.beam_column, *input.metadata.beam_row};
  }
  append_guesses(input.metadata.distance_m, told_center, settings);
  return input;
}

CalibrationOutcome run_calibration(const CalibrationInput& input) {
  std::vector<calibration::CalibrationImage> images;
  for (std::size_t image = 0; image < input.counts.size(); ++image) {
    images.push_back({input.counts[image], input.masks[image], input.distance_offsets_m[image]});
  }
  CalibrationOutcome outcome;
  const auto start = std::chrono::steady_clock::now();
  const ThreadCount threads(input.threads);
  outcome.result = calibration::calibrate(images, input.settings);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  outcome.warnings = outcome.result.warnings;
  compare_with_metadata(input, outcome);
  return outcome;
}

std::string calibration_table(const CalibrationInput& input, const CalibrationOutcome& outcome) {
  const calibration::CalibrationResult& result = outcome.result;
  std::string text;
  if (result.verdict != calibration::Verdict::failed) {
    text += fmt::format("{:<12}{:>20}{:>16}\n", "parameter", "value", "standard error");
    for (std::size_t index = 0; index < calibration::parameter_count; ++index) {
      const auto parameter = static_cast<Parameter>(index);
      const char* unit = is_length(parameter) || parameter == Parameter::wavelength ? "m" : "rad";
      const double number = calibration::value_of(result.geometry, parameter);
      // A wavelength is some 1e-11 m.
      const std::string value =
          parameter == Parameter::wavelength ? fmt::format("{:.8e}", number) : fmt::format("{:.9f}", number);
      std::string error = input.settings.freedom[index].kind == calibration::Freedom::Kind::tied ? "tied" : "fixed";
      if (result.fitted[index]) {
        error = result.determined[index] ? fmt::format("{:.2e}", result.standard_error[index]) : "not determined";
      }
      text += fmt::format("{:<12}{:>20}{:>16}  {}\n", calibration::name_of(parameter), value, error, unit);
    }
    text += fmt::format("direct beam at column {:.3f}, row {:.3f}; tilt {:.4f} degrees\n", result.beam_column,
                        result.beam_row, integrator::degrees_of(result.tilt_rad));
    text +=
        fmt::format("{} points, residual {:.4f} mrad (rms), reduced chi squared {:.2f}, {:.2f} s\n",
                    result.points.size(), 1e3 * result.rms_residual_rad, result.reduced_chi_squared, outcome.seconds);
    text += fmt::format("scatter beyond counting {:.3f} pixels; {:.0f} % of the crests in the image are on rings\n",
                        result.excess_px, 100.0 * result.explained_share);
    text += fmt::format("{} of {} rings on the detector are seen, {:.1f} would be by chance (evidence {:.1f} nats)\n",
                        result.rings_seen, result.rings_listed,
                        result.rings_chance * static_cast<double>(result.rings_listed), result.ring_evidence);
    if (result.wavelength_ratio > 0.0) {
      text += fmt::format("the rings by themselves would have {:.6f} +- {:.6f} of the wavelength\n",
                          result.wavelength_ratio, result.wavelength_ratio_error);
    }
    text += '\n';
    const bool several = input.counts.size() > 1;
    text += fmt::format("{}{:>5}{:>16}{:>11}{:>8}{:>10}{:>10}{:>10}{:>11}{:>12}\n", several ? "image " : "", "ring",
                        "reflection", "2theta", "points", "mean", "rms", "strain", "coverage", "predicted");
    text += fmt::format("{}{:>5}{:>16}{:>11}{:>8}{:>10}{:>10}{:>10}{:>11}{:>12}\n", several ? "      " : "", "", "",
                        "deg", "", "mrad", "mrad", "ppm", "percent", "mrad");
    const std::vector<std::string>& reflections = input.settings.calibrant.reflections;
    for (const calibration::RingEvidence& ring : result.rings) {
      text += fmt::format("{}{:>5}{:>16}{:>11.4f}{:>8}{:>10.4f}{:>10.4f}{:>10.1f}{:>11.0f}{:>12}\n",
                          several ? fmt::format("{:>6}", ring.image) : "", ring.ring,
                          ring.ring < reflections.size() ? reflections[ring.ring] : "",
                          integrator::degrees_of(ring.two_theta_rad), ring.points, 1e3 * ring.mean_residual_rad,
                          1e3 * ring.rms_residual_rad, ring.strain_ppm, 100.0 * ring.azimuth_coverage,
                          ring.held_out ? fmt::format("{:.4f}", 1e3 * ring.predicted_residual_rad) : "-");
    }
    text += '\n';
  }
  text += fmt::format("calibration {}\n", calibration::name_of(result.verdict));
  for (const std::string& reason : result.reasons) text += fmt::format("  {}\n", reason);
  return text;
}

std::string calibrated_poni_text(const CalibrationInput& input, const CalibrationOutcome& outcome) {
  const calibration::CalibrationResult& result = outcome.result;
  std::string text = fmt::format("# Calibrated by annulus {} from {} ({}): {}\n", version, input.image_name,
                                 input.settings.calibrant.name, calibration::name_of(result.verdict));
  const auto add_lines = [&](const char* what, const std::vector<std::string>& lines) {
    for (std::string line : lines) {
      std::replace(line.begin(), line.end(), '\n', ' ');
      text += fmt::format("# {}: {}\n", what, line);
    }
  };
  add_lines("Reason", result.reasons);
  add_lines("Warning", outcome.warnings);
  for (std::size_t index = 0; index < calibration::parameter_count; ++index) {
    if (!result.fitted[index]) continue;
    const auto parameter = static_cast<Parameter>(index);
    text += result.determined[index]
                ? fmt::format("# Standard error of {}: {:.3e}\n", calibration::name_of(parameter),
                              result.standard_error[index])
                : fmt::format("# Not determined by the rings: {}\n", calibration::name_of(parameter));
  }
  return text + integrator::poni_text(result.geometry);
}

std::vector<fs::path> calibration_sources(const CalibrationOptions& options) {
  std::vector<fs::path> files;
  for (const auto* urls : {&options.images, &options.masks, &options.dark}) {
    for (const std::string& url : *urls) files.push_back(mapping::split_url(url).file);
  }
  if (!options.poni.empty()) files.push_back(options.poni);
  if (!options.calibrant.empty()) files.emplace_back(options.calibrant);
  return files;
}

std::string calibration_report(const CalibrationInput& input, const CalibrationOutcome& outcome) {
  std::vector<calibration::CalibrationImage> images;
  for (std::size_t image = 0; image < input.counts.size(); ++image) {
    images.push_back({input.counts[image], input.masks[image], input.distance_offsets_m[image]});
  }
  return calibration::report_html(images, input.settings, outcome.result, report_input(input, outcome));
}

void calibrate_scan(MapOptions& options, Problems& problems) {
  if (!options.calibration || problems.any()) return;
  const CalibrationInput input = read_calibration_input(*options.calibration, problems);
  if (problems.any()) return;
  const CalibrationOutcome outcome = run_calibration(input);
  if (!options.calibration_report.empty()) {
    integrator::detail::write_text_file(calibration_report(input, outcome), options.calibration_report);
  }
  const calibration::CalibrationResult& result = outcome.result;
  const std::string verdict =
      fmt::format("--calibrate {}: the calibration is {}{}{}", input.image_name, calibration::name_of(result.verdict),
                  result.reasons.empty() ? "" : ": ", fmt::join(result.reasons, "; "));
  if (result.verdict == calibration::Verdict::failed) throw Error(verdict);
  if (result.verdict == calibration::Verdict::doubtful) {
    if (!options.accept_doubtful_calibration) {
      throw Error(verdict + " (--accept-doubtful-calibration goes on all the same)");
    }
    options.warnings.push_back(verdict);
  }
  options.warnings.insert(options.warnings.end(), outcome.warnings.begin(), outcome.warnings.end());
  options.integration.geometry_json = integrator::poni_json(result.geometry);
  options.integration.geometry_source = fmt::format("--calibrate {}", input.image_name);
  options.calibration_evidence = calibration::evidence_json(result, report_input(input, outcome));
}

}  // namespace annulus::driver
