#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>
#include <sstream>

#include <fmt/format.h>

#include "base/problems.hpp"
#include "mpi_driver/commands.hpp"
#include "mpi_driver/option_parsing.hpp"
#include "mpi_driver/write_simulation.hpp"
#include "simulation/simulation.hpp"

namespace annulus::driver {
namespace {
namespace po = boost::program_options;
namespace fs = std::filesystem;

struct SimulateOptions {
  simulation::SimulationSettings settings;
  fs::path folder;
  bool overwrite = false;
};

po::options_description option_table() {
  const simulation::SimulationSettings defaults;
  const auto text = [] { return po::value<std::string>(); };
  const auto number = [](double value) { return po::value<double>()->default_value(value); };
  const auto frames = [] { return po::value<std::vector<std::uint64_t>>()->composing(); };
  po::options_description options("Options");
  auto add = options.add_options();
  add("output,o", text(), "folder to write into (made when it is not there)");
  add("overwrite", "replace a simulation that the folder holds");
  add("map", "a raster map instead of a tomography");
  add("slow,r", text()->default_value(std::to_string(defaults.slow)), "rotations, or lines of the map");
  add("fast,t", text()->default_value(std::to_string(defaults.fast)), "translations, or points of a line");
  add("rotation-range", number(defaults.rotation_range_deg), "degrees of the tomography: 180 or 360");
  add("zigzag", "odd lines run backwards");
  add("detector", text()->default_value(defaults.detector), "name of the detector");
  add("dtype", text()->default_value("uint16"), "pixel type: uint16, uint32");
  add("distance", number(defaults.distance_m), "sample to detector, m");
  add("rot1", number(defaults.rot1_rad), "tilt about the vertical axis, rad");
  add("rot2", number(defaults.rot2_rad), "tilt about the horizontal axis, rad");
  add("energy", number(defaults.energy_kev), "photon energy, keV");
  add("polarization", po::value<double>(), "degree of linear polarisation of the beam (default: none in the images)");
  add("peak-counts", number(defaults.peak_counts), "counts per pixel at the top of the strongest ring");
  add("background-counts", number(defaults.background_counts), "counts per pixel of the background near the beam");
  add("monitor-fluctuation", number(defaults.monitor_fluctuation), "relative standard deviation of the flux");
  add("hot-pixels", number(defaults.hot_pixels), "share of saturated pixels");
  add("dead-pixels", number(defaults.dead_pixels), "share of dead pixels (in the mask that is written)");
  add("frames-per-file", text()->default_value(std::to_string(defaults.frames_per_file)), "frames of a data file");
  add("seed", text()->default_value(std::to_string(defaults.seed)), "all numbers follow from it");
  add("corrupt-frame", frames(), "frame whose chunk shall be corrupt; may be given several times");
  add("missing-frame", frames(), "frame that shall never have been written");
  add("dead-monitor-frame", frames(), "frame whose monitor shall be 0");
  add("help,h", "show this help");
  return options;
}

SimulateOptions parse(const po::variables_map& given) {
  SimulateOptions options;
  simulation::SimulationSettings& settings = options.settings;
  Problems problems;
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  const auto number = [&](const char* name) { return given[name].as<double>(); };
  const auto count = [&](const char* name, std::uint64_t lowest, std::uint64_t highest) {
    std::uint64_t value = 0;
    problems.collect([&] { value = parse_count(text(name), fmt::format("--{}", name), lowest, highest); });
    return value;
  };
  const auto frames = [&](const char* name) {
    return given.count(name) > 0 ? given[name].as<std::vector<std::uint64_t>>() : std::vector<std::uint64_t>{};
  };

  if (given.count("output") == 0 || text("output").empty()) {
    problems.add("--output is missing: the folder to write into");
  } else {
    options.folder = text("output");
  }
  options.overwrite = given.count("overwrite") > 0;
  if (given.count("map") > 0) settings.kind = mapping::ScanKind::map;
  constexpr std::uint64_t most = 1'000'000;
  settings.slow = static_cast<std::uint32_t>(count("slow", 1, most));
  settings.fast = static_cast<std::uint32_t>(count("fast", 1, most));
  settings.rotation_range_deg = number("rotation-range");
  settings.zigzag = given.count("zigzag") > 0;
  settings.detector = text("detector");
  const std::string type = text("dtype");
  if (type == "uint32") {
    settings.type = kernels::PixelType::u32;
  } else if (type != "uint16") {
    problems.add(fmt::format("--dtype: found \"{}\", expected uint16 or uint32", type));
  }
  settings.distance_m = number("distance");
  settings.rot1_rad = number("rot1");
  settings.rot2_rad = number("rot2");
  settings.energy_kev = number("energy");
  if (given.count("polarization") > 0) settings.polarisation_factor = number("polarization");
  settings.peak_counts = number("peak-counts");
  settings.background_counts = number("background-counts");
  settings.monitor_fluctuation = number("monitor-fluctuation");
  settings.hot_pixels = number("hot-pixels");
  settings.dead_pixels = number("dead-pixels");
  settings.frames_per_file = static_cast<std::uint32_t>(count("frames-per-file", 1, most));
  settings.seed = count("seed", 0, std::uint64_t{1} << 63U);
  settings.corrupt_frames = frames("corrupt-frame");
  settings.missing_frames = frames("missing-frame");
  settings.dead_monitor_frames = frames("dead-monitor-frame");
  problems.throw_if_any();
  return options;
}

void prepare_folder(const SimulateOptions& options) {
  std::error_code error;
  if (fs::exists(options.folder / "scan_master.h5", error) && !options.overwrite) {
    throw InputError(fmt::format("--output {}: found a simulation, expected none (--overwrite replaces it)",
                                 options.folder.string()));
  }
  fs::create_directories(options.folder, error);
  if (!fs::is_directory(options.folder)) {
    throw InputError(fmt::format("--output {}: cannot make this folder: {}", options.folder.string(),
                                 error ? error.message() : "a file of this name exists"));
  }
  for (const auto& entry : fs::directory_iterator(options.folder)) {
    const std::string name = entry.path().filename().string();
    if (options.overwrite && name.starts_with("data_") && name.ends_with(".h5")) fs::remove(entry.path());
  }
}

}  // namespace

ExitCode command_simulate(const std::vector<std::string>& arguments, MPI_Comm comm) {
  const bool root = rank_of(comm) == 0;
  const auto start = std::chrono::steady_clock::now();
  const po::options_description table = option_table();
  bool help = false;
  SimulateOptions options;
  together(comm, [&] {
    const po::variables_map given = parse_arguments(arguments, table, "", {});
    help = given.count("help") > 0;
    if (!help) options = parse(given);
  });
  if (help) {
    if (root) std::cout << "usage: annulus simulate -o DIR [options]\n" << table;
    return ExitCode::ok;
  }

  std::optional<simulation::Simulation> simulated;
  together(comm, [&] { simulated.emplace(options.settings); });
  together(comm, [&] {
    if (root) prepare_folder(options);
  });
  const std::uint64_t all_bytes = write_simulation(*simulated, options.settings.frames_per_file, options.folder, comm);
  if (root) {
    const double elapsed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cout << fmt::format("{}: {} frames in {} data files, {:.1f} MB, {:.1f} s\n",
                             (options.folder / "scan_master.h5").string(), simulated->frames(), simulated->data_files(),
                             static_cast<double>(all_bytes) / 1e6, elapsed_s);
  }
  return ExitCode::ok;
}

}  // namespace annulus::driver
