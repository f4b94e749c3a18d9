#include "mpi_driver/map_options.hpp"

#include <cmath>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mpi_driver/configuration.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace {

po::options_description option_table(mapping::ScanKind kind) {
  const bool tomo = kind == mapping::ScanKind::tomo;
  const auto text = [] { return po::value<std::string>(); };
  po::options_description scan("Scan");
  auto add = scan.add_options();
  add("slow,r", text(), tomo ? "number of rotations" : "number of lines (slow motor)");
  add("fast,t", text(), tomo ? "number of translations" : "number of points in a line (fast motor)");
  add("offset,O", po::value<std::int64_t>(), "frames before the first point of the grid");
  add("zigzag", "odd lines run backwards");
  add("data", text(), "path of the frames in HDF5 inputs (default: found by itself)");
  add("monitor", text(), "path of the monitor, one number a frame, in the HDF5 inputs");
  add("slow-motor", text(), "path of the slow motor's positions, one a frame");
  add("fast-motor", text(), "path of the fast motor's positions, one a frame");
  add("keep-going", "damaged or missing TIFF files become frames with a status instead of an error");

  po::options_description calibration = calibration_option_group();
  add = calibration.add_options();
  add("calibrate", po::value<std::vector<std::string>>()->composing(),
      "image of a reference compound to find the geometry from; --poni is a guess then");
  add("calibration-report", text(), "page to write of the calibration (HTML)");
  add("accept-doubtful-calibration", "go on with a calibration that is doubtful, instead of stopping before any work");

  po::options_description output("Output");
  add = output.add_options();
  add("output,o", text(), "HDF5 file to write");
  add("overwrite", "replace an output that exists");
  add("resume", "go on with an output that an earlier run left unfinished");
  add("dry-run", "tell what would be done, write nothing");
  add("help,h", "show this help");

  po::options_description all;
  all.add(scan).add(integration_option_group()).add(calibration).add(compute_option_group()).add(output);
  return all;
}

/// Puts an option's text in the place of `value` when it is given.
void take_text(const po::variables_map& given, const char* name, std::string& value) {
  if (given.count(name) > 0) value = given[name].as<std::string>();
}

/// --calibrate and what belongs to it. Masks of the scan hide the same pixels of the calibrant's image, and --poni is a
/// guess.
void take_calibration(const po::variables_map& given, MapOptions& options, Problems& problems) {
  options.accept_doubtful_calibration = given.count("accept-doubtful-calibration") > 0;
  if (given.count("calibration-report") > 0) {
    options.calibration_report = given["calibration-report"].as<std::string>();
  }
  if (given.count("calibrate") == 0) {
    std::vector<std::string> names = calibration_options_given(given);
    if (options.accept_doubtful_calibration) names.emplace_back("--accept-doubtful-calibration");
    if (!options.calibration_report.empty()) names.emplace_back("--calibration-report");
    if (!names.empty()) {
      problems.add(fmt::format("{}: expected --calibrate IMAGE with it", fmt::join(names, ", ")));
    }
    return;
  }
  CalibrationOptions calibration;
  parse_calibration_options(given, calibration, problems);
  if (calibration.list_calibrants) problems.add("--calibrant list: annulus calibrate --calibrant list tells the names");
  calibration.images = given["calibrate"].as<std::vector<std::string>>();
  calibration.masks = options.integration.masks;
  calibration.poni = std::exchange(options.integration.poni, {});
  options.integration.geometry_json.clear();
  options.calibration = std::move(calibration);
}

}  // namespace

MapOptions parse_map_options(mapping::ScanKind kind, const std::vector<std::string>& arguments,
                             std::optional<std::string>& help, Problems& problems) {
  const po::options_description visible = option_table(kind);
  po::options_description all;
  all.add(visible).add_options()("frames", po::value<std::vector<std::string>>()->composing());
  std::vector<std::string> pairs = integration_pairs();
  pairs.insert(pairs.end(), calibration_pairs().begin(), calibration_pairs().end());
  const po::variables_map given = parse_arguments(arguments, all, "frames", pairs, integration_optional_numbers());
  if (given.count("help") > 0) {
    const char* command = kind == mapping::ScanKind::tomo ? "tomo" : "map";
    std::ostringstream text;
    text << "usage: annulus " << command << " -p GEO.poni -r SLOW -t FAST -o OUT.h5 [options] FRAMES...\n"
         << "       annulus " << command << " --config DIFFMAP.json [options] [FRAMES...]\n"
         << visible;
    help = text.str();
    return {};
  }

  MapOptions options;
  options.kind = kind;
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  if (has("config")) problems.collect([&] { apply_configuration(text("config"), options); });
  const bool config_failed = problems.any();  // then what it would have given is not missing

  // What the command line gives wins.
  if (has("frames")) {
    options.frames.clear();
    options.expected = {};
    for (const std::string& file : given["frames"].as<std::vector<std::string>>()) options.frames.emplace_back(file);
  }
  if (has("output")) options.output = text("output");
  constexpr std::uint64_t most_points = std::uint64_t{1} << 31U;  // map_ptr holds int32
  const auto take_points = [&](const char* name, const std::string& option, std::uint64_t& points) {
    if (!has(name)) return points > 0;
    problems.collect([&] { points = parse_count(text(name), option, 1, most_points); });
    return true;
  };
  const bool slow_known = take_points("slow", "--slow", options.slow);
  const bool fast_known = take_points("fast", "--fast", options.fast);
  if (has("offset")) options.offset = given["offset"].as<std::int64_t>();
  if (has("zigzag")) options.zigzag = true;
  take_text(given, "data", options.data);
  take_text(given, "monitor", options.monitor);
  take_text(given, "slow-motor", options.slow_motor);
  take_text(given, "fast-motor", options.fast_motor);
  if (has("keep-going")) options.damaged_files = mapping::DamagedFiles::become_status;
  apply_integration_options(given, options.integration, problems);
  settle_integration_options(options.integration, problems);

  take_calibration(given, options, problems);

  if (options.frames.empty() && !config_failed) problems.add("no frames given: name TIFF or HDF5 files");
  if (options.output.empty() && (!config_failed || has("output"))) {
    problems.add(fmt::format("--output is {}, expected the HDF5 file to write", has("output") ? "empty" : "missing"));
  }
  const IntegrationOptions& integration = options.integration;
  if (integration.poni.empty() && integration.geometry_json.empty() && !has("poni") && !config_failed &&
      !options.calibration) {
    problems.add("--poni is missing: the geometry, a PONI file (or --calibrate)");
  }
  if (!slow_known && !config_failed) problems.add("--slow is missing: the number of points along the slow axis");
  if (!fast_known && !config_failed) problems.add("--fast is missing: the number of points along the fast axis");
  if (options.slow > 0 && options.fast > most_points / options.slow) {
    problems.add(
        fmt::format("--slow {} times --fast {}: expected at most {} points", options.slow, options.fast, most_points));
  }
  if (std::abs(options.offset) > std::int64_t{1} << 31U) {
    problems.add(fmt::format("--offset: found {}, expected less than 2^31 frames", options.offset));
  }

  options.compute = parse_compute_options(given, problems);
  if (options.calibration) options.calibration->threads = options.compute.threads;

  if (has("overwrite") && has("resume")) {
    problems.add("--overwrite and --resume contradict each other: one starts anew, the other goes on");
  }
  options.output_mode = has("resume")      ? OutputMode::resume
                        : has("overwrite") ? OutputMode::overwrite
                                           : OutputMode::create;
  options.dry_run = has("dry-run");
  return options;
}

}  // namespace annulus::driver
