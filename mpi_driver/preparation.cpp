#include "mpi_driver/preparation.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include <fmt/format.h>

#include "base/problems.hpp"
#include "mpi_driver/version.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string shape_text(std::uint64_t rows, std::uint64_t columns) { return fmt::format("{} x {}", rows, columns); }

/// FNV-1a, 64 bit: tells images apart in the fingerprint of a run.
template <typename Element>
std::string checksum(const std::vector<Element>& elements) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  const auto* bytes = reinterpret_cast<const unsigned char*>(elements.data());
  for (std::size_t place = 0; place < elements.size() * sizeof(Element); ++place) {
    hash = (hash ^ bytes[place]) * 0x100000001b3U;
  }
  return fmt::format("{:016x}", hash);
}

/// The mean of several images of the detector's shape, [pixels]; empty for none.
std::vector<float> mean_image(const std::vector<std::string>& urls, const char* option,
                              const integrator::Detector& detector, Problems& problems) {
  std::vector<double> sum;
  for (const std::string& url : urls) {
    problems.collect([&] {
      const mapping::Image image = mapping::read_image(url);
      if (image.rows != detector.rows || image.columns != detector.columns) {
        throw InputError(fmt::format("{} {}: found {} pixels, expected {} as the detector {} has", option, url,
                                     shape_text(image.rows, image.columns), shape_text(detector.rows, detector.columns),
                                     detector.name));
      }
      sum.resize(image.values.size());
      for (std::size_t pixel = 0; pixel < sum.size(); ++pixel) sum[pixel] += image.values[pixel];
    });
  }
  std::vector<float> mean(sum.size());
  for (std::size_t pixel = 0; pixel < sum.size(); ++pixel) {
    mean[pixel] = static_cast<float>(sum[pixel] / static_cast<double>(urls.size()));
  }
  return mean;
}

std::vector<std::uint8_t> mask_of(const MapOptions& options, const integrator::Detector& detector, Problems& problems) {
  if (options.mask.empty()) return detector.mask();
  std::vector<std::uint8_t> mask;
  problems.collect([&] {
    const mapping::Image image = mapping::read_image(options.mask);
    if (image.rows != detector.rows || image.columns != detector.columns) {
      throw InputError(fmt::format("--mask {}: found {} pixels, expected {} as the detector {} has", options.mask,
                                   shape_text(image.rows, image.columns), shape_text(detector.rows, detector.columns),
                                   detector.name));
    }
    mask.resize(image.values.size());
    std::transform(image.values.begin(), image.values.end(), mask.begin(),
                   [](double value) { return static_cast<std::uint8_t>(value != 0.0); });
    if (std::find(mask.begin(), mask.end(), std::uint8_t{0}) == mask.end()) {
      throw InputError(fmt::format("--mask {}: it masks every pixel", options.mask));
    }
  });
  return mask;
}

/// A plain detector takes the frames' shape; any other must have it.
void fit_detector(const MapOptions& options, const mapping::FrameList& frames, integrator::Detector& detector,
                  Problems& problems) {
  if (frames.rows == 0) return;
  if (!detector.has_shape()) {
    detector.rows = frames.rows;
    detector.columns = frames.columns;
  } else if (detector.rows != frames.rows || detector.columns != frames.columns) {
    problems.add(fmt::format("{}: found frames of {} pixels, expected {} as the detector {} in {} has",
                             frames.inputs.empty() ? "input" : frames.inputs.front().file.string(),
                             shape_text(frames.rows, frames.columns), shape_text(detector.rows, detector.columns),
                             detector.name, options.poni.string()));
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

/// The file that monitor and motors are read from: the first input in HDF5.
std::optional<fs::path> series_file(const mapping::FrameList& frames) {
  for (const auto& input : frames.inputs) {
    if (!input.dataset.empty()) return input.file;
  }
  return std::nullopt;
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

/// Positions along one axis: of each line (or column) the mean over its frames; point numbers without a motor.
mapping::ScanAxis axis_of(const std::string& dataset, const mapping::Series& series, const mapping::Scan& scan,
                          std::uint64_t frames, bool slow, const char* default_name) {
  mapping::ScanAxis axis;
  axis.name = dataset.empty() ? default_name : dataset.substr(dataset.find_last_of('/') + 1);
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
      axis.positions.push_back(static_cast<double>(index));
    } else {
      axis.positions.push_back(terms > 0 ? sum / static_cast<double>(terms) : std::numeric_limits<double>::quiet_NaN());
    }
  }
  return axis;
}

/// pyFAI's worker configuration, which viewers read the geometry from.
Json worker_configuration(const MapOptions& options, const Experiment& experiment) {
  const integrator::IntegrationSettings& settings = experiment.plan.settings;
  const auto first_or_null = [](const std::vector<std::string>& urls) {
    return urls.empty() ? Json(nullptr) : Json(urls);
  };
  return {{"application", "worker"},
          {"version", 5},
          {"poni", Json::parse(integrator::poni_json(experiment.plan.geometry))},
          {"nbpt_rad", settings.bins},
          {"nbpt_azim", nullptr},
          {"unit", settings.unit},
          {"chi_discontinuity_at_0", false},
          {"polarization_description",
           settings.corrections.polarisation_factor ? Json(*settings.corrections.polarisation_factor) : Json(nullptr)},
          {"normalization_factor", 1.0},
          {"val_dummy", settings.dummy ? Json(*settings.dummy) : Json(nullptr)},
          {"delta_dummy", settings.dummy ? Json(settings.delta_dummy) : Json(nullptr)},
          {"correct_solid_angle", settings.corrections.solid_angle},
          {"dark_current", first_or_null(options.dark)},
          {"flat_field", first_or_null(options.flat)},
          {"mask_file", options.mask.empty() ? Json(nullptr) : Json(options.mask)},
          {"error_model",
           settings.error_model == kernels::ErrorModel::no ? Json(nullptr) : Json(name_of(settings.error_model))},
          {"method", {settings.splitting == kernels::Splitting::no ? "no" : "bbox", "csr", "cython"}},
          {"opencl_device", nullptr},
          {"azimuth_range", nullptr},
          {"radial_range", settings.radial_range
                               ? Json::array({settings.radial_range->first, settings.radial_range->second})
                               : Json(nullptr)},
          {"integrator_class", "AzimuthalIntegrator"},
          {"integrator_method", "integrate1d_ng"},
          {"extra_options", nullptr},
          {"monitor_name", options.monitor.empty() ? Json(nullptr) : Json(options.monitor)},
          {"shape", {experiment.frames.rows, experiment.frames.columns}}};
}

constexpr const char* input_files = "input files";

/// Everything that the numbers in the volume follow from, as JSON: what a resumed run must have in common.
std::string fingerprint_of(const MapOptions& options, const Experiment& experiment) {
  const integrator::IntegrationSettings& settings = experiment.plan.settings;
  Json inputs = Json::array();
  for (const auto& input : experiment.frames.inputs) {
    inputs.push_back({input.file.filename().string(), input.dataset});
  }
  const mapping::Scan& scan = experiment.scan;
  const Json json = {
      {"kind", scan.kind == mapping::ScanKind::tomo ? "tomo" : "map"},
      {"geometry", Json::parse(integrator::poni_json(experiment.plan.geometry))},
      {"bins", settings.bins},
      {"unit", settings.unit},
      {"radial range", settings.radial_range ? Json(*settings.radial_range) : Json(nullptr)},
      {"splitting", settings.splitting == kernels::Splitting::no ? "no" : "bbox"},
      {"error model", name_of(settings.error_model)},
      {"solid angle", settings.corrections.solid_angle},
      {"polarisation",
       settings.corrections.polarisation_factor ? Json(*settings.corrections.polarisation_factor) : Json(nullptr)},
      {"dummy", settings.dummy ? Json({*settings.dummy, settings.delta_dummy}) : Json(nullptr)},
      {"mask", checksum(experiment.plan.mask)},
      {"dark", checksum(experiment.plan.dark)},
      {"flat", checksum(experiment.plan.flat)},
      {"monitor", options.monitor},
      {"grid", {scan.slow, scan.fast, scan.zigzag, scan.offset}},
      {input_files, inputs}};
  return json.dump();
}

/// True when a run with `now` may go on with what a run with `before` left: all is the same, but further input files
/// may have come behind those of then.
bool may_resume(const Json& before, const Json& now, const std::string& key) {
  if (!before.contains(key)) return false;
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
  std::set<fs::path> sources;
  const auto add_source = [&](const fs::path& file) {
    if (!file.empty()) sources.insert(fs::weakly_canonical(file, error));
  };
  for (const auto& input : frames.inputs) add_source(input.file);
  for (const auto& run : frames.runs) add_source(run.file);
  add_source(options.poni);
  std::vector<std::string> images = options.dark;
  images.insert(images.end(), options.flat.begin(), options.flat.end());
  images.push_back(options.mask);
  for (const std::string& url : images) add_source(url.substr(0, url.find("::")));  // FILE::DATASET
  if (exists && sources.contains(fs::weakly_canonical(options.output, error))) {
    problems.add(fmt::format("--output {}: is one of the inputs", options.output.string()));
  }
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

Preparation prepare(const MapOptions& options, int ranks, const std::string& command_line, Problems problems) {
  Preparation preparation;
  Experiment& experiment = preparation.experiment;

  bool geometry_known = false;
  problems.collect([&] {
    if (options.poni.empty()) return;  // told already
    experiment.plan.geometry = integrator::read_poni(options.poni);
    geometry_known = true;
  });
  experiment.plan.settings = options.integration;
  experiment.frames =
      mapping::open_frames(mapping::natural_order(options.frames), options.data, options.damaged_files, problems);
  if (geometry_known) {
    integrator::Detector& detector = experiment.plan.geometry.detector;
    fit_detector(options, experiment.frames, detector, problems);
    if (detector.has_shape()) {
      experiment.plan.mask = mask_of(options, detector, problems);
      experiment.plan.dark = mean_image(options.dark, "--dark", detector, problems);
      experiment.plan.flat = mean_image(options.flat, "--flat", detector, problems);
    }
    const integrator::RadialUnit& unit = integrator::radial_unit(options.integration.unit);
    if (unit.space == kernels::RadialSpace::q && !experiment.plan.geometry.wavelength_m) {
      problems.add(fmt::format("--unit {} needs a wavelength: {} has none", unit.name, options.poni.string()));
    }
  }

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
  check_output(options, experiment.frames, problems);
  problems.throw_if_any();

  experiment.monitor = monitor_of(monitor, scan, frames);
  experiment.output = options.output;
  experiment.compute = options.compute;
  const bool tomo = options.kind == mapping::ScanKind::tomo;
  scan.slow_axis = axis_of(options.slow_motor, slow, scan, frames, true, tomo ? "rotation" : "slow");
  scan.fast_axis = axis_of(options.fast_motor, fast, scan, frames, false, tomo ? "translation" : "fast");

  mapping::VolumeDescription& description = preparation.description;
  const integrator::RadialUnit& unit = integrator::radial_unit(options.integration.unit);
  description.scan = scan;
  description.radial_name = unit.axis_name;
  description.radial_unit = unit.symbol;
  description.radial_label = unit.label;
  description.errors = options.integration.error_model != kernels::ErrorModel::no;
  description.monitor = experiment.monitor;
  description.inputs = experiment.frames.inputs;
  description.configuration_json = worker_configuration(options, experiment).dump(2);
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
    status = std::move(state.status);
    preparation.points_done = static_cast<std::uint64_t>(
        std::count(status.begin(), status.end(), static_cast<std::uint8_t>(mapping::FrameStatus::ok)));
  }
  experiment.blocks = blocks_of(scan, status, options.compute.batch, ranks);
  return preparation;
}

std::string describe(const Preparation& preparation, int ranks) {
  const Experiment& experiment = preparation.experiment;
  const integrator::Geometry& geometry = experiment.plan.geometry;
  const integrator::IntegrationSettings& settings = experiment.plan.settings;
  const mapping::Scan& scan = experiment.scan;
  const double megabyte = 1e6;
  std::size_t widest = 0;
  std::map<std::string, std::uint64_t> storages;
  for (const mapping::FrameRun& run : experiment.frames.runs) {
    widest = std::max(widest, kernels::size_of(run.type));
    const char* storage = "HDF5 (through the library)";
    switch (run.storage) {
      case mapping::Storage::tiff: storage = "TIFF"; break;
      case mapping::Storage::contiguous: storage = "HDF5, contiguous"; break;
      case mapping::Storage::chunk_raw: storage = "HDF5, one uncompressed frame a chunk"; break;
      case mapping::Storage::chunk_bslz4: storage = "HDF5, one bslz4 frame a chunk"; break;
      case mapping::Storage::hdf5: break;
    }
    storages[fmt::format("{} {}", kernels::name_of(run.type), storage)] += run.frames;
  }
  std::string storage_text;
  for (const auto& [name, frames] : storages) storage_text += fmt::format("; {} frames: {}", frames, name);

  const double pixels = static_cast<double>(experiment.frames.pixels());
  const double volume =
      static_cast<double>(scan.points()) * settings.bins * 4.0 * (preparation.description.errors ? 2 : 1);
  // Two encoded and one decoded batch; the matrix with at most some three weights a pixel in two forms while it is
  // built.
  const double memory =
      experiment.compute.batch * pixels * static_cast<double>(widest) * 3.0 + pixels * (48.0 + 3 * 16.0);
  std::string text;
  text += fmt::format("frames    {} in {} input{}{}\n", experiment.frames.frames(), experiment.frames.inputs.size(),
                      experiment.frames.inputs.size() == 1 ? "" : "s", storage_text);
  text += fmt::format("grid      {} {} x {} {}{}, offset {}\n", scan.slow, scan.slow_axis.name, scan.fast,
                      scan.fast_axis.name, scan.zigzag ? ", zigzag" : "", scan.offset);
  text += fmt::format(
      "geometry  {} ({} x {}), distance {:.6g} m, PONI {:.6g} {:.6g} m, rotations {:.6g} {:.6g} {:.6g} rad{}\n",
      geometry.detector.name, geometry.detector.rows, geometry.detector.columns, geometry.distance_m, geometry.poni1_m,
      geometry.poni2_m, geometry.rot1_rad, geometry.rot2_rad, geometry.rot3_rad,
      geometry.wavelength_m ? fmt::format(", wavelength {:.6g} m", *geometry.wavelength_m) : "");
  const auto masked = std::count_if(experiment.plan.mask.begin(), experiment.plan.mask.end(),
                                    [](std::uint8_t value) { return value != 0; });
  text += fmt::format("pixels    {} masked of {}\n", masked, experiment.frames.pixels());
  text += fmt::format("bins      {} in {}, {} splitting, {} error model\n", settings.bins, settings.unit,
                      settings.splitting == kernels::Splitting::no ? "no" : "bbox", name_of(settings.error_model));
  text += fmt::format("memory    about {:.0f} MB a rank, {} rank{}, batches of {} frames\n", memory / megabyte, ranks,
                      ranks == 1 ? "" : "s", experiment.compute.batch);
  text += fmt::format("output    {}: {:.1f} MB\n", experiment.output.string(), volume / megabyte);
  if (preparation.points_done > 0) {
    text += fmt::format("resumed   {} of {} points are done\n", preparation.points_done, scan.points());
  }
  return text;
}

}  // namespace annulus::driver
