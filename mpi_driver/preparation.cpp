#include "mpi_driver/preparation.hpp"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mpi_driver/calibration_step.hpp"
#include "mpi_driver/memory_need.hpp"
#include "mpi_driver/output_lock.hpp"
#include "mpi_driver/plan.hpp"
#include "mpi_driver/version.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

/// The file that monitor and motors are read from: the first input in HDF5.
std::optional<fs::path> series_file(const mapping::FrameList& frames) {
  for (const auto& input : frames.inputs) {
    if (!input.dataset.empty()) return input.file;
  }
  return std::nullopt;
}

/// Full paths without links in their folders, each of which is resolved once: with 10^6 files in a folder of a parallel
/// file system the system's own resolution of each takes minutes.
class CanonicalPaths {
 public:
  fs::path operator()(const fs::path& file) {
    const fs::path folder = file.parent_path();
    const auto [place, fresh] = folders_.try_emplace(folder);
    if (fresh) {
      std::error_code error;
      place->second = fs::weakly_canonical(folder.empty() ? fs::path(".") : folder, error);
      if (error) place->second = folder;
    }
    return place->second / file.filename();
  }

 private:
  std::map<fs::path, fs::path> folders_;
};

/// What can be said of the input before any frame is read.
void check_input(const MapOptions& options, const mapping::FrameList& frames, Problems& problems,
                 std::vector<std::string>& warnings) {
  std::set<fs::path> seen;
  CanonicalPaths canonical;
  for (const fs::path& file : options.frames) {
    if (!seen.insert(canonical(file)).second) {
      warnings.push_back(fmt::format("{}: is given more than once, and so are its frames", file.string()));
    }
  }
  if (!options.data.empty() && !frames.inputs.empty() && !series_file(frames)) {
    problems.add(fmt::format("--data {}: the inputs are no HDF5 files", options.data));
  }
  if (options.expected.frames && frames.frames() > 0 && *options.expected.frames != frames.frames()) {
    warnings.push_back(fmt::format("the configuration tells of {} frames, and the input has {}",
                                   *options.expected.frames, frames.frames()));
  }
  if (options.expected.shape && frames.rows > 0 && *options.expected.shape != std::pair{frames.rows, frames.columns}) {
    warnings.push_back(fmt::format("the configuration tells of frames of {} x {} pixels, and the input has {} x {}",
                                   options.expected.shape->first, options.expected.shape->second, frames.rows,
                                   frames.columns));
  }
}

void check_grid(const MapOptions& options, std::uint64_t frames, Problems& problems) {
  const std::uint64_t points = options.slow * options.fast;
  if (frames == 0 || points == 0) return;  // told already
  const std::int64_t left = static_cast<std::int64_t>(frames) - options.offset;
  if (left <= 0) {
    problems.add(fmt::format("--offset {}: found {} frames, expected more than the offset", options.offset, frames));
  } else if (static_cast<std::uint64_t>(left) > points) {
    problems.add(fmt::format("the grid is too small: found {} frames{}, expected at most {} (--slow {} x --fast {})",
                             frames, options.offset != 0 ? fmt::format(" less an offset of {}", options.offset) : "",
                             points, options.slow, options.fast));
  }
}

/// One number a frame from the input; empty when the option is not given or a problem was found.
mapping::Series series_of(const std::string& dataset, const char* option, const mapping::FrameList& frames,
                          Problems& problems) {
  mapping::Series series;
  if (dataset.empty() || frames.inputs.empty()) return series;
  problems.collect([&] {
    const std::optional<fs::path> file = series_file(frames);
    if (!file) throw InputError(fmt::format("{} {}: the inputs are no HDF5 files", option, dataset));
    series = mapping::read_series(*file, dataset);
    if (series.values.size() < frames.frames()) {
      const std::size_t found = series.values.size();
      series = {};
      throw InputError(fmt::format("{} {} in {}: found {} values, expected one for each of the {} frames", option,
                                   dataset, file->string(), found, frames.frames()));
    }
  });
  return series;
}

std::vector<double> monitor_of(const mapping::Series& series, const mapping::Scan& scan, std::uint64_t frames) {
  std::vector<double> monitor(scan.points(), std::numeric_limits<double>::quiet_NaN());
  for (std::uint64_t line = 0; line < scan.slow; ++line) {
    for (std::uint64_t column = 0; column < scan.fast; ++column) {
      const std::int64_t frame = scan.frame_at(line, column);
      if (frame < 0 || static_cast<std::uint64_t>(frame) >= frames) continue;
      monitor[line * scan.fast + column] = series.values.empty() ? 1.0 : series.values[static_cast<std::size_t>(frame)];
    }
  }
  return monitor;
}

/// Positions along one axis: of each line (or column) the mean over its frames; without a motor's dataset equidistant
/// over `range`, or point numbers.
mapping::ScanAxis axis_of(const std::string& dataset, const mapping::Series& series, const MotorRange& range,
                          const mapping::Scan& scan, std::uint64_t frames, bool slow, const char* default_name) {
  mapping::ScanAxis axis;
  axis.name = range.name.empty() ? default_name : range.name;
  if (!dataset.empty()) axis.name = dataset.substr(dataset.find_last_of('/') + 1);
  axis.units = series.units;
  const std::uint64_t count = slow ? scan.slow : scan.fast;
  const std::uint64_t others = slow ? scan.fast : scan.slow;
  for (std::uint64_t index = 0; index < count; ++index) {
    double sum = 0.0;
    std::uint64_t terms = 0;
    for (std::uint64_t other = 0; other < others && !series.values.empty(); ++other) {
      const std::int64_t frame = slow ? scan.frame_at(index, other) : scan.frame_at(other, index);
      if (frame < 0 || static_cast<std::uint64_t>(frame) >= frames) continue;
      sum += series.values[static_cast<std::size_t>(frame)];
      ++terms;
    }
    if (series.values.empty()) {
      const auto [first, last] = range.range.value_or(std::pair{0.0, static_cast<double>(count - 1)});
      const double share = count > 1 ? static_cast<double>(index) / static_cast<double>(count - 1) : 0.0;
      axis.positions.push_back(first + (last - first) * share);
    } else {
      axis.positions.push_back(terms > 0 ? sum / static_cast<double>(terms) : std::numeric_limits<double>::quiet_NaN());
    }
  }
  return axis;
}

constexpr const char* input_files = "input files";
constexpr const char* input_state = "input state";

/// Size and time of change of the files that hold the frames, with the frames that come from each:
/// [[first frame, frames, bytes, nanoseconds], ...].
Json state_of(const mapping::FrameList& frames) {
  Json state = Json::array();
  std::uint64_t first = 0;
  for (const mapping::FrameRun& run : frames.runs) {
    // Runs that nobody looked at are lost ones: few.
    const std::optional<mapping::FileState> file = run.state ? run.state : mapping::file_state(run.file);
    state.push_back({first, run.frames, file ? Json(file->bytes) : Json(), file ? Json(file->changed_ns) : Json()});
    first += run.frames;
  }
  return state;
}

/// Everything that the numbers in the volume follow from, as JSON: what a resumed run must have in common.
std::string fingerprint_of(const MapOptions& options, const Experiment& experiment) {
  Json inputs = Json::array();
  for (const auto& input : experiment.frames.inputs) {
    inputs.push_back({input.file.filename().string(), input.dataset});
  }
  const mapping::Scan& scan = experiment.scan;
  Json json = Json::parse(plan_fingerprint(experiment.plan));
  json.update({{"kind", scan.kind == mapping::ScanKind::tomo ? "tomo" : "map"},
               {"standard deviation", experiment.std},
               {"monitor", options.monitor},
               {"grid", {scan.slow, scan.fast, scan.zigzag, scan.offset}},
               {input_files, inputs},
               {input_state, state_of(experiment.frames)}});
  return json.dump();
}

/// Names the first file that has changed since the run of `before` integrated a frame of it; "" when none has. A file
/// whose frames were all bad may have been mended.
std::string changed_input(const Json& before, const mapping::FrameList& frames, const mapping::Scan& scan,
                          const std::vector<std::uint8_t>& status) {
  std::vector<bool> done(frames.frames());
  for (std::uint64_t line = 0; line < scan.slow; ++line) {
    for (std::uint64_t column = 0; column < scan.fast; ++column) {
      const std::int64_t frame = scan.frame_at(line, column);
      if (frame < 0 || static_cast<std::uint64_t>(frame) >= done.size()) continue;
      const bool ok = status[line * scan.fast + column] == static_cast<std::uint8_t>(mapping::FrameStatus::ok);
      if (ok) done[static_cast<std::size_t>(frame)] = true;
    }
  }
  std::map<std::uint64_t, Json> then;
  for (const Json& run : before) then[run.at(0).get<std::uint64_t>()] = run;
  const Json now = state_of(frames);
  for (std::size_t index = 0; index < now.size(); ++index) {
    const auto first = now[index].at(0).get<std::uint64_t>();
    const auto count = now[index].at(1).get<std::uint64_t>();
    const auto old = then.find(first);
    if (old != then.end() && old->second == now[index]) continue;
    const auto begin = done.begin() + static_cast<std::ptrdiff_t>(first);
    if (std::find(begin, begin + static_cast<std::ptrdiff_t>(count), true) ==
        begin + static_cast<std::ptrdiff_t>(count)) {
      continue;
    }
    return frames.runs[index].file.string();
  }
  return "";
}

/// True when a run with `now` may go on with what a run with `before` left: all is the same, but further input files
/// may have come behind those of then.
bool may_resume(const Json& before, const Json& now, const std::string& key) {
  if (!before.contains(key)) return false;
  if (key == input_state) return true;  // told by changed_input()
  if (key != input_files) return before.at(key) == now.at(key);
  const Json& old_files = before.at(key);
  const Json& new_files = now.at(key);
  return old_files.is_array() && old_files.size() <= new_files.size() &&
         std::equal(old_files.begin(), old_files.end(), new_files.begin());
}

/// Names what differs between the run that is resumed and this one; "" when nothing does.
std::string difference(const std::string& before, const std::string& now) {
  const Json old_run = Json::parse(before, nullptr, false);
  const Json new_run = Json::parse(now);
  if (old_run.is_discarded() || !old_run.is_object()) return "it does not say with which settings";
  std::string names;
  for (const auto& [key, value] : new_run.items()) {
    if (may_resume(old_run, new_run, key)) continue;
    names += names.empty() ? "" : ", ";
    names += key;
    const std::string old_text = old_run.contains(key) ? old_run.at(key).dump() : "nothing";
    if (old_text.size() + value.dump().size() < 80) names += fmt::format(" (then {}, now {})", old_text, value.dump());
  }
  return names;
}

/// Whether the output, which exists, is a file that the run reads, under whatever name.
bool is_input(const MapOptions& options, const mapping::FrameList& frames) {
  std::error_code error;
  const auto same = [&](const fs::path& file) { return !file.empty() && fs::equivalent(file, options.output, error); };
  const auto bytes = fs::file_size(options.output, error);
  const auto may_be = [&](const mapping::FrameRun& run) { return !run.state || run.state->bytes == bytes; };
  std::vector<fs::path> sources = plan_sources(options.integration);
  if (options.calibration) {
    const std::vector<fs::path> more = calibration_sources(*options.calibration);
    sources.insert(sources.end(), more.begin(), more.end());
  }
  return std::any_of(frames.inputs.begin(), frames.inputs.end(), [&](const auto& input) { return same(input.file); }) ||
         std::any_of(frames.runs.begin(), frames.runs.end(),
                     [&](const mapping::FrameRun& run) { return may_be(run) && same(run.file); }) ||
         std::any_of(sources.begin(), sources.end(), same);
}

void check_output(const MapOptions& options, const mapping::FrameList& frames, Problems& problems) {
  if (options.output.empty()) return;
  std::error_code error;
  const bool exists = fs::exists(options.output, error);
  const std::string output = options.output.string();
  if (exists && !fs::is_regular_file(options.output, error)) {
    problems.add(fmt::format("--output {}: found {}, expected a file's name", output,
                             fs::is_directory(options.output, error) ? "a folder" : "something that is no file"));
  } else if (options.output_mode == OutputMode::create && exists) {
    problems.add(
        fmt::format("--output {}: found a file, expected none (--overwrite replaces it, --resume goes on)", output));
  } else if (options.output_mode == OutputMode::resume && !exists) {
    problems.add(fmt::format("--output {}: no such file, so there is nothing to resume", output));
  }
  const fs::path folder = options.output.has_parent_path() ? options.output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error)) {
    problems.add(fmt::format("--output {}: the folder {} does not exist", options.output.string(), folder.string()));
  } else if (::access(folder.c_str(), W_OK) != 0) {
    problems.add(
        fmt::format("--output {}: the folder {} cannot be written to", options.output.string(), folder.string()));
  }
  if (exists && is_input(options, frames)) {
    problems.add(fmt::format("--output {}: is one of the inputs", options.output.string()));
  }
  if (const std::optional<std::string> holder = OutputLock::holder(options.output)) problems.add(*holder);
}

/// Lines that are not complete, in blocks that give every rank several turns and a batch enough frames.
std::vector<LineBlock> blocks_of(const mapping::Scan& scan, const std::vector<std::uint8_t>& status,
                                 std::uint32_t batch, int ranks) {
  const std::uint64_t for_batch = (batch + scan.fast - 1) / scan.fast;
  const std::uint64_t for_balance = scan.slow / (4 * static_cast<std::uint64_t>(ranks));
  const std::uint64_t lines = std::max<std::uint64_t>(1, std::min(for_batch, for_balance));
  std::vector<LineBlock> blocks;
  for (std::uint64_t line = 0; line < scan.slow; ++line) {
    const auto begin = status.begin() + static_cast<std::ptrdiff_t>(status.empty() ? 0 : line * scan.fast);
    const bool done =
        !status.empty() && std::all_of(begin, begin + static_cast<std::ptrdiff_t>(scan.fast), [](std::uint8_t value) {
          return value == static_cast<std::uint8_t>(mapping::FrameStatus::ok);
        });
    if (done) continue;
    if (!blocks.empty() && blocks.back().first + blocks.back().lines == line && blocks.back().lines < lines) {
      ++blocks.back().lines;
    } else {
      blocks.push_back({line, 1});
    }
  }
  return blocks;
}

}  // namespace

Preparation prepare(const MapOptions& options, int ranks, int node_ranks, const std::string& command_line,
                    Problems problems, const mapping::SurveyCrew& crew) {
  Preparation preparation;
  Experiment& experiment = preparation.experiment;

  preparation.warnings = options.warnings;
  experiment.frames =
      mapping::open_frames(mapping::natural_order(options.frames), options.data, options.damaged_files, problems, crew);
  if (options.most_frames > 0) mapping::keep_first(experiment.frames, options.most_frames);
  const mapping::FrameList& list = experiment.frames;
  check_input(options, list, problems, preparation.warnings);
  experiment.plan = make_plan(
      options.integration,
      {list.rows, list.columns, list.inputs.empty() ? "input" : list.inputs.front().file.string(), list.inputs},
      problems);

  mapping::Scan& scan = experiment.scan;
  scan.kind = options.kind;
  scan.slow = options.slow;
  scan.fast = options.fast;
  scan.zigzag = options.zigzag;
  scan.offset = options.offset;
  const std::uint64_t frames = experiment.frames.frames();
  check_grid(options, frames, problems);
  const mapping::Series monitor = series_of(options.monitor, "--monitor", experiment.frames, problems);
  const mapping::Series slow = series_of(options.slow_motor, "--slow-motor", experiment.frames, problems);
  const mapping::Series fast = series_of(options.fast_motor, "--fast-motor", experiment.frames, problems);
  if (monitor.values.size() > frames && frames > 0) {
    preparation.warnings.push_back(fmt::format("--monitor {}: found {} values for {} frames; the first ones are used",
                                               options.monitor, monitor.values.size(), frames));
  }
  check_output(options, experiment.frames, problems);
  problems.throw_if_any();

  experiment.monitor = monitor_of(monitor, scan, frames);
  experiment.output = options.output;
  experiment.std = options.integration.std;
  experiment.compute = options.compute;
  const bool tomo = options.kind == mapping::ScanKind::tomo;
  scan.slow_axis =
      axis_of(options.slow_motor, slow, options.slow_range, scan, frames, true, tomo ? "rotation" : "slow");
  scan.fast_axis =
      axis_of(options.fast_motor, fast, options.fast_range, scan, frames, false, tomo ? "translation" : "fast");

  mapping::VolumeDescription& description = preparation.description;
  const integrator::RadialUnit& unit = integrator::radial_unit(options.integration.settings.unit);
  description.scan = scan;
  description.radial_name = unit.axis_name;
  description.radial_unit = unit.symbol;
  description.radial_label = unit.label;
  const integrator::RadialUnit& azimuthal_unit = integrator::radial_unit(options.integration.settings.azimuthal_unit);
  description.azimuthal_unit = azimuthal_unit.symbol;
  description.azimuthal_label = azimuthal_unit.label;
  description.errors = options.integration.settings.error_model != kernels::ErrorModel::no;
  description.std = experiment.std;
  description.monitor = experiment.monitor;
  description.inputs = experiment.frames.inputs;
  if (!options.integration.masks.empty()) description.mask_file = options.integration.masks.front();
  description.configuration_json = worker_configuration(options.integration, experiment.plan, options.monitor);
  description.calibration_json = options.calibration_evidence;
  description.command_line = command_line;
  description.version = version;
  description.fingerprint = fingerprint_of(options, experiment);

  std::vector<std::uint8_t> status;
  if (options.output_mode == OutputMode::resume) {
    mapping::VolumeState state = mapping::read_volume_state(options.output);
    const std::string other = difference(state.fingerprint, description.fingerprint);
    if (!other.empty()) {
      throw InputError(
          fmt::format("--resume {}: the file comes from another run; different: {}", options.output.string(), other));
    }
    const std::string changed =
        changed_input(Json::parse(state.fingerprint).at(input_state), experiment.frames, scan, state.status);
    if (!changed.empty()) {
      throw InputError(fmt::format(
          "--resume {}: {} has changed since its frames were integrated, by its size or time; a copy of what "
          "it was resumes with its time kept (cp -p, rsync -t), --overwrite integrates all anew",
          options.output.string(), changed));
    }
    status = std::move(state.status);
    preparation.points_done = static_cast<std::uint64_t>(
        std::count(status.begin(), status.end(), static_cast<std::uint8_t>(mapping::FrameStatus::ok)));
  }
  experiment.batch = experiment.compute.batch ? *experiment.compute.batch
                     : backend_for(experiment.compute) == kernels::Backend::opencl
                         ? opencl_batch(stored_frames(list, 8).mean)
                         : cpu_batch(threads_for(experiment.compute));
  experiment.blocks = blocks_of(scan, status, experiment.batch, ranks);
  const std::string warning = fit_batch(experiment, memory_available_bytes() / static_cast<std::uint64_t>(node_ranks));
  if (!warning.empty()) {
    preparation.warnings.push_back(warning);
    experiment.blocks = blocks_of(scan, status, experiment.batch, ranks);
  }
  return preparation;
}

std::string describe(const Preparation& preparation, int ranks) {
  const Experiment& experiment = preparation.experiment;
  const integrator::IntegrationSettings& settings = experiment.plan.settings;
  const mapping::Scan& scan = experiment.scan;
  const double megabyte = 1e6;
  std::size_t widest = 0;
  std::map<std::string, std::uint64_t> storages;
  for (const mapping::FrameRun& run : experiment.frames.runs) {
    widest = std::max(widest, kernels::size_of(run.type));
    std::string storage = "HDF5 (through the library)";
    switch (run.storage) {
      case mapping::Storage::tiff: storage = "TIFF"; break;
      case mapping::Storage::contiguous: storage = "HDF5, contiguous"; break;
      case mapping::Storage::chunk:
        storage = fmt::format("HDF5, one frame a chunk, {}", kernels::name_of(run.encoding));
        break;
      case mapping::Storage::hdf5: break;
    }
    storages[fmt::format("{} {}", kernels::name_of(run.type), storage)] += run.frames;
  }
  std::string storage_text;
  for (const auto& [name, frames] : storages) storage_text += fmt::format("; {} frames: {}", frames, name);

  const double rows = static_cast<double>(settings.bins) * std::max<std::uint32_t>(settings.azimuthal_bins, 1);
  const double kinds = 1.0 + (preparation.description.errors ? 1.0 : 0.0) + (experiment.std ? 1.0 : 0.0);
  const double volume = static_cast<double>(scan.points()) * rows * 4.0 * kinds;
  const StoredFrames stored = stored_frames(experiment.frames, usual_looks);
  std::string text;
  text += fmt::format("frames    {} in {} input{}, {:.2f} MB each{}\n", experiment.frames.frames(),
                      experiment.frames.inputs.size(), experiment.frames.inputs.size() == 1 ? "" : "s",
                      static_cast<double>(stored.mean) / megabyte, storage_text);
  text += fmt::format("grid      {} {} x {} {}{}, offset {}\n", scan.slow, scan.slow_axis.name, scan.fast,
                      scan.fast_axis.name, scan.zigzag ? ", zigzag" : "", scan.offset);
  text += describe_plan(experiment.plan);
  const std::uint64_t entries = matrix_entries(experiment.plan);
  const MemoryNeed need = memory_need(experiment, entries, stored.most);
  const auto megabytes = [&](std::uint64_t bytes) { return static_cast<double>(bytes) / megabyte; };
  text += fmt::format(
      "memory    at most {:.0f} MB a rank: program {:.0f}, images {:.0f}, lists of the scan {:.0f}, and the larger of "
      "building the matrix {:.0f} or then the matrix of {:.1f} million entries {:.0f}, batches of {} frames {:.0f} and "
      "results {:.0f}; {} rank{}\n",
      megabytes(need.total()), megabytes(need.process), megabytes(need.images), megabytes(need.scan),
      megabytes(need.building), static_cast<double>(entries) / 1e6, megabytes(need.matrix), experiment.batch,
      megabytes(need.batches), megabytes(need.results), ranks, ranks == 1 ? "" : "s");
  if (stored.looked_at > 0) {
    text += fmt::format("          with frames of up to {:.2f} MB in their files, a quarter above the largest of {}\n",
                        static_cast<double>(stored.most) / megabyte, stored.looked_at);
  }
  text += fmt::format("output    {}: {:.1f} MB\n", experiment.output.string(), volume / megabyte);
  if (preparation.points_done > 0) {
    text += fmt::format("resumed   {} of {} points are done\n", preparation.points_done, scan.points());
  }
  return text;
}

}  // namespace annulus::driver
