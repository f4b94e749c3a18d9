#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/integration.hpp"
#include "mapping/image_frames.hpp"
#include "mapping/pattern_file.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/experiment.hpp"
#include "mpi_driver/integrate_options.hpp"
#include "mpi_driver/make_integrator.hpp"
#include "mpi_driver/plan.hpp"
#include "mpi_driver/progress.hpp"
#include "mpi_driver/version.hpp"

namespace annulus::driver {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

// ---------------------------------------------------------------------------------------------------- names

/// The name of an image's file without its extension, with the dataset where one is given.
std::string stem_of(const std::string& url) {
  const auto [file, dataset] = mapping::split_url(url);
  std::string stem = file.stem().string();
  for (const fs::path& part : fs::path(dataset).relative_path()) stem += "_" + part.string();
  return stem;
}

/// Where the pattern of one frame goes in a folder; the frame's number is told only where there are several.
fs::path file_in_folder(const IntegrateOptions& options, const std::string& url, std::uint64_t frame,
                        std::uint64_t frames) {
  const char* extension = options.integration.settings.azimuthal_bins > 0 ? ".h5" : ".xy";
  const std::string number = frames > 1 ? fmt::format("_{:04}", frame) : "";
  return options.output / (stem_of(url) + number + extension);
}

// ---------------------------------------------------------------------------------------------------- preparation

/// The shape of the images: that of the first one that can be read. The others are looked at when their turn comes, so
/// that a bad one costs no other its pattern.
PlanFrames look_at_images(const IntegrateOptions& options, Problems& problems) {
  PlanFrames result;
  Problems bad;
  for (const std::string& url : options.images) {
    bad.collect([&] {
      const mapping::ImageFrames frames(url);
      result.rows = frames.rows();
      result.columns = frames.columns();
      result.source = url;
      result.inputs = {frames.input()};
      if (options.kind == PatternOutput::text_file && frames.frames() > 1) {
        problems.add(fmt::format("{}: holds {} frames, but text holds one pattern: name a folder or an .h5 file", url,
                                 frames.frames()));
      }
    });
    if (result.rows != 0) return result;
  }
  for (const std::string& message : bad.messages()) problems.add(message);
  return result;
}

void check_folder(const fs::path& folder, const IntegrateOptions& options, Problems& problems) {
  std::error_code ignored;
  if (fs::exists(folder, ignored) && !fs::is_directory(folder, ignored)) {
    problems.add(fmt::format("--output {}: is no folder", folder.string()));
  }
  std::map<fs::path, std::string> image_of;
  for (const std::string& url : options.images) {
    const fs::path file = file_in_folder(options, url, 0, 1);
    const auto [other, is_new] = image_of.emplace(file, url);
    if (!is_new) {
      problems.add(fmt::format("--output {}: {} and {} would both become {}", folder.string(), other->second, url,
                               file.string()));
    } else if (!options.overwrite && fs::exists(file, ignored)) {
      problems.add(fmt::format("--output {}: found {}, expected no such file (--overwrite replaces it)",
                               folder.string(), file.filename().string()));
    }
  }
}

void check_file(const IntegrateOptions& options, Problems& problems) {
  const std::string name = options.output.string();
  std::error_code ignored;
  const fs::path folder = options.output.has_parent_path() ? options.output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, ignored)) {
    problems.add(fmt::format("--output {}: the folder {} does not exist", name, folder.string()));
  }
  if (!fs::exists(options.output, ignored)) return;
  if (!options.overwrite) {
    problems.add(fmt::format("--output {}: found a file, expected none (--overwrite replaces it)", name));
  }
  std::vector<fs::path> sources = plan_sources(options.integration);
  for (const std::string& url : options.images) sources.push_back(mapping::split_url(url).file);
  for (const fs::path& source : sources) {
    if (fs::equivalent(source, options.output, ignored)) {
      problems.add(fmt::format("--output {}: is one of the inputs", name));
      break;
    }
  }
}

/// Reads and checks everything but the images behind the first good one, and makes the folder for the patterns. Throws
/// InputError with every problem found, those of the options first.
Experiment prepare_images(const IntegrateOptions& options, Problems problems) {
  Experiment experiment;
  experiment.plan = make_plan(options.integration, look_at_images(options, problems), problems);
  experiment.compute = options.compute;
  if (!options.output.empty()) {
    if (options.kind == PatternOutput::folder) {
      check_folder(options.output, options, problems);
    } else {
      check_file(options, problems);
    }
  }
  problems.throw_if_any();
  if (options.kind == PatternOutput::folder) {
    std::error_code error;
    fs::create_directories(options.output, error);
    if (error) {
      throw InputError(
          fmt::format("--output {}: cannot make this folder: {}", options.output.string(), error.message()));
    }
  }
  return experiment;
}

/// The files of a kind of image, or that the detector itself brings it.
std::vector<std::string> origin_of(const std::vector<std::string>& files, bool applied) {
  return files.empty() && applied ? std::vector<std::string>{"from detector"} : files;
}

std::string mask_origin(const IntegrationOptions& options, const integrator::IntegrationPlan& plan) {
  const bool masked = std::any_of(plan.mask.begin(), plan.mask.end(), [](std::uint8_t value) { return value != 0; });
  std::vector<std::string> origins = origin_of(options.masks, masked && options.detector_mask);
  if (options.pixel_mask) origins.emplace_back("pixel_mask");
  return fmt::format("{}", fmt::join(origins, ", "));
}

/// The command without the images: they may be thousands, and every pattern file tells its own.
std::string command_line_of(const std::vector<std::string>& arguments, const std::vector<std::string>& images) {
  const std::set<std::string> left_out(images.begin(), images.end());
  std::string line = "annulus integrate";
  for (const std::string& argument : arguments) {
    if (left_out.count(argument) == 0) line += " " + argument;
  }
  return line;
}

mapping::PatternDescription describe_patterns(const IntegrateOptions& options, const integrator::IntegrationPlan& plan,
                                              const integrator::Integrator& integrator,
                                              const std::vector<std::string>& arguments) {
  const integrator::IntegrationSettings& settings = plan.settings;
  const integrator::RadialUnit& unit = integrator::radial_unit(settings.unit);
  const kernels::Engine& engine = integrator.engine();
  mapping::PatternDescription description;
  description.unit = unit.name;
  description.radial_name = unit.axis_name;
  description.radial_unit = unit.symbol;
  description.radial_label = unit.label;
  description.radial = integrator.radial();
  description.azimuthal = integrator.azimuthal();
  if (settings.azimuthal_unit != "chi_deg") {  // whose names NXazint2d has
    const integrator::RadialUnit& azimuthal_unit = integrator::radial_unit(settings.azimuthal_unit);
    description.azimuthal_unit = azimuthal_unit.symbol;
    description.azimuthal_label = azimuthal_unit.label;
  }
  description.poni_text = integrator::poni_text(plan.geometry);
  description.poni_json = integrator::poni_json(plan.geometry);
  description.wavelength_m = plan.geometry.wavelength_m;
  if (plan.geometry.wavelength_m) {
    description.energy_kev = integrator::hc_kev_angstrom / (*plan.geometry.wavelength_m * 1e10);
  }
  description.mask = mask_origin(options.integration, plan);
  description.dark = origin_of(options.integration.dark, !plan.dark.empty());
  description.flat = origin_of(options.integration.flat, !plan.flat.empty());
  description.solid_angle = settings.corrections.solid_angle;
  description.polarisation_factor = settings.corrections.polarisation_factor;
  description.splitting = name_of(settings.splitting);
  description.error_model = name_of(settings.error_model);
  description.engine = fmt::format("{} ({})", name_of(engine.backend()), engine.device_name());
  description.configuration_json = worker_configuration(options.integration, plan, "");
  description.command_line = command_line_of(arguments, options.images);
  description.version = version;
  return description;
}

// ---------------------------------------------------------------------------------------------------- images

/// What became of one image.
struct ImageResult {
  std::uint64_t image = 0;  ///< its place among the options' images
  std::vector<mapping::Pattern> patterns;
  std::uint64_t written = 0;  ///< patterns that are in files of their own already
  std::vector<std::string> problems;
};

/// Integrates images one after the other, and writes those patterns that get a file of their own.
class ImageIntegration {
 public:
  ImageIntegration(const IntegrateOptions& options, const integrator::IntegrationPlan& plan,
                   integrator::Integrator& integrator, const mapping::PatternDescription& description)
      : options_(options), plan_(plan), integrator_(integrator), description_(description) {}

  /// Throws IoError when a pattern cannot be written and DeviceError; what is wrong with the image itself is told in
  /// the result.
  ImageResult run(std::uint64_t image) {
    ImageResult result;
    result.image = image;
    const std::string& url = options_.images[image];
    Problems problems;
    problems.collect([&] {
      mapping::ImageFrames frames(url);
      check_shape(frames, url);
      for (std::uint64_t first = 0; first < frames.frames();) {
        first += frames.read(first, options_.compute.batch.value_or(usual_batch), decoded_);
        result.problems.insert(result.problems.end(), decoded_.problems.begin(), decoded_.problems.end());
        integrate(url, frames.frames(), result.patterns);
        if (options_.kind != PatternOutput::hdf5_file) write(url, frames.frames(), result);
      }
    });
    result.problems.insert(result.problems.end(), problems.messages().begin(), problems.messages().end());
    return result;
  }

 private:
  void check_shape(const mapping::ImageFrames& frames, const std::string& url) const {
    const integrator::Detector& detector = plan_.geometry.detector;
    if (frames.rows() == detector.rows && frames.columns() == detector.columns) return;
    throw InputError(fmt::format("{}: found {} x {} pixels, expected {} x {} as the first image has", url,
                                 frames.rows(), frames.columns(), detector.rows, detector.columns));
  }

  /// Appends the patterns of the frames at hand.
  void integrate(const std::string& url, std::uint64_t of_frames, std::vector<mapping::Pattern>& patterns) {
    const std::size_t frames = decoded_.numbers.size();
    if (frames == 0) return;
    const std::size_t rows = integrator_.rows();
    intensity_.resize(frames * rows);
    sem_.resize(integrator_.has_errors() ? frames * rows : 0);
    std_.resize(options_.integration.std ? frames * rows : 0);
    const std::vector<double> monitor(frames, 1.0);
    const std::size_t pixels = plan_.geometry.detector.rows * std::size_t{plan_.geometry.detector.columns};
    integrator_.integrate({decoded_.pixels.data(), decoded_.type, frames, pixels}, monitor, {intensity_, sem_, std_});
    const auto part = [&](const std::vector<float>& values, std::size_t frame) {
      if (values.empty()) return std::vector<float>();
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(frame * rows);
      return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(rows));
    };
    for (std::size_t frame = 0; frame < frames; ++frame) {
      mapping::Pattern pattern;
      pattern.source = of_frames > 1 ? fmt::format("{}, frame {}", url, decoded_.numbers[frame]) : url;
      pattern.normalisation_factor = plan_.settings.normalisation_factor;
      pattern.intensity = part(intensity_, frame);
      pattern.sem = part(sem_, frame);
      pattern.std = part(std_, frame);
      patterns.push_back(std::move(pattern));
    }
  }

  /// Writes the patterns of the frames at hand into files of their own.
  void write(const std::string& url, std::uint64_t of_frames, ImageResult& result) const {
    for (std::size_t frame = 0; frame < result.patterns.size(); ++frame) {
      const fs::path file = options_.kind == PatternOutput::text_file
                                ? options_.output
                                : file_in_folder(options_, url, decoded_.numbers[frame], of_frames);
      if (description_.azimuthal.empty()) {
        mapping::write_xy(file, description_, result.patterns[frame], options_.overwrite);
      } else {
        mapping::write_nxazint(file, description_, std::span(&result.patterns[frame], 1), options_.overwrite);
      }
      ++result.written;
    }
    result.patterns.clear();
  }

  const IntegrateOptions& options_;
  const integrator::IntegrationPlan& plan_;
  integrator::Integrator& integrator_;
  const mapping::PatternDescription& description_;
  mapping::DecodedFrames decoded_;
  std::vector<float> intensity_;
  std::vector<float> sem_;
  std::vector<float> std_;
};

// ---------------------------------------------------------------------------------------------------- all ranks

Json binary(const std::vector<float>& values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(float));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return Json::binary(std::move(bytes));
}

std::vector<float> floats_of(const Json& json) {
  const auto& bytes = json.get_binary();
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<std::byte> serialise(const std::vector<ImageResult>& results) {
  Json json = Json::array();
  for (const ImageResult& result : results) {
    Json patterns = Json::array();
    for (const mapping::Pattern& pattern : result.patterns) {
      patterns.push_back({{"source", pattern.source},
                          {"normalisation_factor", pattern.normalisation_factor},
                          {"intensity", binary(pattern.intensity)},
                          {"sem", binary(pattern.sem)},
                          {"std", binary(pattern.std)}});
    }
    json.push_back({{"image", result.image},
                    {"written", result.written},
                    {"problems", result.problems},
                    {"patterns", std::move(patterns)}});
  }
  const std::vector<std::uint8_t> cbor = Json::to_cbor(json);
  const auto bytes = std::as_bytes(std::span(cbor));
  return {bytes.begin(), bytes.end()};
}

std::vector<ImageResult> deserialise_results(const std::vector<std::byte>& bytes) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(bytes.data());
  std::vector<ImageResult> results;
  for (const Json& json : Json::from_cbor(begin, begin + bytes.size())) {
    ImageResult result;
    result.image = json.at("image");
    result.written = json.at("written");
    result.problems = json.at("problems").get<std::vector<std::string>>();
    for (const Json& entry : json.at("patterns")) {
      mapping::Pattern pattern;
      pattern.source = entry.at("source");
      pattern.normalisation_factor = entry.at("normalisation_factor");
      pattern.intensity = floats_of(entry.at("intensity"));
      pattern.sem = floats_of(entry.at("sem"));
      pattern.std = floats_of(entry.at("std"));
      result.patterns.push_back(std::move(pattern));
    }
    results.push_back(std::move(result));
  }
  return results;
}

/// All ranks' results on rank 0, in the order of the images. Collective.
std::vector<ImageResult> gather_results(const std::vector<ImageResult>& mine, MPI_Comm comm) {
  std::vector<ImageResult> all;
  for (const std::vector<std::byte>& bytes : gather(comm, serialise(mine))) {
    std::vector<ImageResult> results = deserialise_results(bytes);
    std::move(results.begin(), results.end(), std::back_inserter(all));
  }
  std::sort(all.begin(), all.end(), [](const auto& left, const auto& right) { return left.image < right.image; });
  return all;
}

/// Integrates images that no other rank has taken until none is left. Collective.
std::vector<ImageResult> share_images(const IntegrateOptions& options, ImageIntegration& integration, MPI_Comm comm) {
  std::vector<ImageResult> results;
  SharedCounter counter(comm);
  Progress progress(options.images.size(), rank_of(comm) == 0);
  together(comm, [&] {
    for (std::uint64_t image = counter.take(); image < options.images.size(); image = counter.take()) {
      progress.update(image);
      results.push_back(integration.run(image));
    }
  });
  progress.finish();
  return results;
}

/// Rank 0: writes the file of all patterns and tells what was wrong; the number of patterns in files.
std::uint64_t finish(const IntegrateOptions& options, const mapping::PatternDescription& description,
                     std::vector<ImageResult> results) {
  std::vector<mapping::Pattern> patterns;
  std::uint64_t written = 0;
  for (ImageResult& result : results) {
    for (const std::string& problem : result.problems) std::cerr << "annulus: " << problem << std::endl;
    std::move(result.patterns.begin(), result.patterns.end(), std::back_inserter(patterns));
    written += result.written;
  }
  if (!patterns.empty()) mapping::write_nxazint(options.output, description, patterns, options.overwrite);
  return written + patterns.size();
}

}  // namespace

ExitCode command_integrate(const std::vector<std::string>& arguments, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  const auto start = std::chrono::steady_clock::now();
  std::optional<std::string> help;
  IntegrateOptions options;
  Problems problems;
  together(comm, [&] { options = parse_integrate_options(arguments, help, problems); });
  if (help) {
    if (root) std::cout << *help;
    return ExitCode::ok;
  }
  std::vector<std::byte> bytes;
  together(comm, [&] {
    if (root) bytes = serialise(prepare_images(options, problems));
  });
  if (root) {
    for (const std::string& warning : options.warnings) std::cerr << "annulus: " << warning << std::endl;
  }
  broadcast(comm, bytes);
  const Experiment experiment = deserialise_experiment(bytes);
  bytes = {};

  integrator::Integrator integrator = make_integrator(experiment.plan, experiment.compute, comm);
  const mapping::PatternDescription description = describe_patterns(options, experiment.plan, integrator, arguments);
  ImageIntegration integration(options, experiment.plan, integrator, description);
  std::vector<ImageResult> results = gather_results(share_images(options, integration, comm), comm);

  std::uint64_t counts[2] = {0, 0};  // patterns in files, problems
  for (const ImageResult& result : results) counts[1] += result.problems.size();
  together(comm, [&] {
    if (root) counts[0] = finish(options, description, std::move(results));
  });
  MPI_Bcast(counts, 2, MPI_UINT64_T, 0, comm);
  const auto [written, bad] = counts;
  if (root) {
    const double elapsed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cout << fmt::format("{}: {} pattern{} of {} image{} on {}, {:.1f} s\n", options.output.string(), written,
                             written == 1 ? "" : "s", options.images.size(), options.images.size() == 1 ? "" : "s",
                             description.engine, elapsed_s);
  }
  if (written == 0) return ExitCode::failed;
  return bad > 0 ? ExitCode::finished_with_bad_frames : ExitCode::ok;
}

}  // namespace annulus::driver
