#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "calibration/calibrant_table.hpp"
#include "calibration/control_point_file.hpp"
#include "integrator/entries.hpp"
#include "mpi_driver/calibrate_options.hpp"
#include "mpi_driver/calibration_step.hpp"
#include "mpi_driver/commands.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using calibration::Verdict;

std::string calibrant_list() {
  std::string text;
  for (const calibration::CompoundEntry& compound : calibration::compounds()) {
    text += fmt::format("{:<26}{:<48}{}\n", compound.name, compound.description, compound.reference);
  }
  return text;
}

void check_outputs(const CalibrateOptions& options, Problems& problems) {
  const std::vector<fs::path> sources = calibration_sources(options.calibration);
  for (const auto& [option, file] : {std::pair{"--output", &options.output}, std::pair{"--points", &options.points},
                                     std::pair{"--report", &options.report}}) {
    if (file->empty()) continue;
    std::error_code ignored;
    const fs::path folder = file->has_parent_path() ? file->parent_path() : fs::path(".");
    if (!fs::is_directory(folder, ignored)) {
      problems.add(fmt::format("{} {}: the folder {} does not exist", option, file->string(), folder.string()));
    }
    if (!fs::exists(*file, ignored)) continue;
    if (std::any_of(sources.begin(), sources.end(),
                    [&](const fs::path& source) { return fs::equivalent(source, *file, ignored); })) {
      problems.add(fmt::format("{} {}: is one of the inputs", option, file->string()));
    } else if (!options.overwrite) {
      problems.add(fmt::format("{} {}: found a file, expected none (--overwrite replaces it)", option, file->string()));
    } else if (!fs::is_regular_file(*file, ignored)) {
      problems.add(fmt::format("{} {}: is no file", option, file->string()));
    }
  }
}

/// Rank 0's work: reads, calibrates, writes, tells.
ExitCode calibrate(const CalibrateOptions& options, Problems problems) {
  check_outputs(options, problems);
  const CalibrationInput input = read_calibration_input(options.calibration, problems);
  problems.throw_if_any();
  const CalibrationOutcome outcome = run_calibration(input);
  const calibration::CalibrationResult& result = outcome.result;

  for (const std::string& warning : outcome.warnings) std::cerr << "annulus: warning: " << warning << std::endl;
  std::cout << calibration_table(input, outcome) << std::flush;
  if (!options.report.empty()) {
    integrator::detail::write_text_file(calibration_report(input, outcome), options.report);
  }
  if (result.verdict == Verdict::failed) return ExitCode::failed;
  integrator::detail::write_text_file(calibrated_poni_text(input, outcome), options.output);
  if (!options.points.empty()) {
    const double wavelength_m = result.geometry.wavelength_m.value_or(input.settings.wavelength_m);
    calibration::write_control_points(options.points, input.settings.calibrant, wavelength_m, result.points);
  }
  return result.verdict == Verdict::good ? ExitCode::ok : ExitCode::finished_with_bad_frames;
}

}  // namespace

ExitCode command_calibrate(const std::vector<std::string>& arguments, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  std::optional<std::string> help;
  CalibrateOptions options;
  Problems problems;
  together(comm, [&] { options = parse_calibrate_options(arguments, help, problems); });
  if (help || options.calibration.list_calibrants) {
    if (root) std::cout << (help ? *help : calibrant_list());
    return ExitCode::ok;
  }
  int code = 0;
  together(comm, [&] {
    if (root) code = static_cast<int>(calibrate(options, problems));
  });
  MPI_Bcast(&code, 1, MPI_INT, 0, comm);
  return static_cast<ExitCode>(code);
}

}  // namespace annulus::driver
