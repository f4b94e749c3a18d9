#include "mpi_driver/bench_options.hpp"

#include <algorithm>
#include <any>
#include <filesystem>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "mpi_driver/configuration.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace {

po::options_description option_table() {
  const BenchOptions defaults;
  const auto text = [] { return po::value<std::string>(); };
  po::options_description scan("Scan");
  auto add = scan.add_options();
  add("frames", text()->default_value(std::to_string(defaults.frames)),
      "frames to simulate, or to take of a given scan");
  add("data", text(), "path of the frames in HDF5 inputs (default: found by itself)");
  add("ratio", text()->default_value("typical"), "simulated frames: dense (about 3), typical (8), sparse (30)");
  add("detector", text()->default_value(defaults.detector), "simulated detector");
  add("dtype", text()->default_value("uint16"), "simulated pixel type: uint16, uint32");

  po::options_description bench("Bench");
  add = bench.add_options();
  add("repeats", text()->default_value(std::to_string(defaults.repeats)), "rounds; every stage is measured in each");
  add("alone", "measure every stage also by the first rank alone, with its share of the frames: how ranks scale");
  add("cold", "ask the system to forget the files before they are read (it may not: tmpfs cannot)");
  add("folder", text(), "for the simulated scan and the volumes, which stay there (default: a temporary one)");
  add("json", text(), "file that gets all figures, with machine and settings");
  add("help,h", "show this help");

  po::options_description all;
  all.add(scan).add(integration_option_group()).add(compute_option_group()).add(bench);
  return all;
}

RatioClass parse_ratio(const std::string& name) {
  if (name == "dense") return RatioClass::dense;
  if (name == "typical") return RatioClass::typical;
  if (name == "sparse") return RatioClass::sparse;
  throw InputError(fmt::format("--ratio: found \"{}\", expected dense, typical or sparse", name));
}

kernels::PixelType parse_type(const std::string& name) {
  if (name == "uint16") return kernels::PixelType::u16;
  if (name == "uint32") return kernels::PixelType::u32;
  throw InputError(fmt::format("--dtype: found \"{}\", expected uint16 or uint32", name));
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> names;
  std::istringstream text(list);
  for (std::string name; std::getline(text, name, ',');) names.push_back(name);
  return names;
}

}  // namespace

BenchOptions parse_bench_options(const std::vector<std::string>& arguments, std::optional<std::string>& help,
                                 Problems& problems) {
  const po::options_description visible = option_table();
  po::options_description all;
  all.add(visible).add_options()("scan", po::value<std::vector<std::string>>()->composing());
  po::variables_map given =
      parse_arguments(arguments, all, "scan", integration_pairs(), integration_optional_numbers());
  if (given.count("help") > 0) {
    std::ostringstream text;
    text << "usage: annulus bench [options]                        (a simulated scan)\n"
         << "       annulus bench -p GEO.poni [options] FRAMES...   (a given one)\n"
         << "--backend takes several, separated by commas.\n"
         << visible;
    help = text.str();
    return {};
  }

  BenchOptions options;
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  if (has("config")) problems.collect([&] { apply_configuration(text("config"), options.map); });
  if (has("scan")) {
    options.map.frames.clear();
    options.map.expected = {};
    for (const std::string& file : given["scan"].as<std::vector<std::string>>()) options.map.frames.emplace_back(file);
  }
  if (has("data")) options.map.data = text("data");
  apply_integration_options(given, options.map.integration, problems);
  settle_integration_options(options.map.integration, problems);
  const bool simulated = options.map.frames.empty();
  const IntegrationOptions& integration = options.map.integration;
  if (!simulated && integration.poni.empty() && integration.geometry_json.empty()) {
    problems.add("--poni is missing: the geometry of the given scan, a PONI file");
  }

  options.backends = split_list(text("backend"));
  if (options.backends.empty()) problems.add("--backend is empty, expected auto, reference, openmp or opencl");
  for (const std::string& name : options.backends) {
    // Each by itself, as every other command takes it; the first one's settings hold for all.
    given.at("backend").value() = boost::any(name);
    ComputeSettings compute = parse_compute_options(given, problems);
    if (name == options.backends.front()) options.map.compute = std::move(compute);
    if (problems.any()) break;
  }

  problems.collect([&] { options.frames = parse_count(text("frames"), "--frames", 1, 1'000'000); });
  problems.collect([&] { options.ratio = parse_ratio(text("ratio")); });
  problems.collect([&] { options.type = parse_type(text("dtype")); });
  problems.collect(
      [&] { options.repeats = static_cast<std::uint32_t>(parse_count(text("repeats"), "--repeats", 1, 1000)); });
  options.detector = text("detector");
  options.alone = has("alone");
  options.cold = has("cold");
  if (has("folder")) options.folder = text("folder");
  if (has("json")) {
    options.json = text("json");
    const std::filesystem::path folder = options.json.has_parent_path() ? options.json.parent_path() : ".";
    if (std::error_code ignored; !std::filesystem::is_directory(folder, ignored)) {
      problems.add(fmt::format("--json {}: there is no folder {}", options.json.string(), folder.string()));
    } else if (std::filesystem::is_directory(options.json, ignored)) {
      problems.add(fmt::format("--json {}: is a folder", options.json.string()));
    }
  }
  for (const char* name : {"ratio", "detector", "dtype"}) {
    if (!simulated && !given[name].defaulted()) {
      problems.add(fmt::format("--{} is for simulated scans, but frames are given", name));
    }
  }
  return options;
}

simulation::SimulationSettings simulated_scan(const BenchOptions& options, std::uint64_t fast) {
  simulation::SimulationSettings settings;
  settings.kind = mapping::ScanKind::map;
  settings.detector = options.detector;
  settings.type = options.type;
  settings.slow = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, options.frames / fast));
  settings.fast = static_cast<std::uint32_t>(std::min(fast, options.frames));
  settings.frames_per_file = static_cast<std::uint32_t>(fast);
  // Found by trial on an Eiger2 CdTe 4M: 2.8, 7.9 and 29 as uint16.
  switch (options.ratio) {
    case RatioClass::dense: settings.peak_counts = 500.0, settings.background_counts = 35.0; break;
    case RatioClass::typical: settings.peak_counts = 20.0, settings.background_counts = 0.5; break;
    case RatioClass::sparse: settings.peak_counts = 0.9, settings.background_counts = 0.004; break;
  }
  return settings;
}

}  // namespace annulus::driver
