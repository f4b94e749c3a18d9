#include "mpi_driver/map_options.hpp"

#include <cmath>
#include <limits>
#include <sstream>

#include <fmt/format.h>

#include "base/errors.hpp"
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
  add("offset,O", po::value<std::int64_t>()->default_value(0), "frames before the first point of the grid");
  add("zigzag", "odd lines run backwards");
  add("data", text()->default_value(""), "path of the frames in HDF5 inputs (default: found by itself)");
  add("monitor", text()->default_value(""), "path of the monitor, one number a frame, in the HDF5 inputs");
  add("slow-motor", text()->default_value(""), "path of the slow motor's positions, one a frame");
  add("fast-motor", text()->default_value(""), "path of the fast motor's positions, one a frame");
  add("keep-going", "damaged or missing TIFF files become frames with a status instead of an error");

  po::options_description integration("Integration");
  add = integration.add_options();
  add("poni,p", text(), "geometry (PONI file)");
  add("npt,c", text()->default_value("1000"), "number of radial bins");
  add("unit", text()->default_value("2th_deg"), "radial unit: 2th_deg, 2th_rad, q_nm^-1, q_A^-1, r_mm, r_m");
  add("radial-range", text(), "LO HI in the radial unit (default: the whole detector)");
  add("split", text()->default_value("bbox"), "pixel splitting: no, bbox");
  add("error-model", text()->default_value("no"), "error model: no, poisson");
  add("polarization", po::value<double>(), "degree of linear polarisation, -1 to 1 (default: no correction)");
  add("no-solid-angle", "do not correct for the solid angle");
  add("mask,m", text()->default_value(""), "mask image, nonzero = unused; replaces the detector's own mask");
  add("dark,d", po::value<std::vector<std::string>>()->composing()->default_value({}, ""),
      "dark image; given several times: their mean");
  add("flat,f", po::value<std::vector<std::string>>()->composing()->default_value({}, ""),
      "flat-field image; given several times: their mean");
  add("dummy", po::value<double>(), "value of pixels to leave out");
  add("delta-dummy", po::value<double>(), "leave out values this close to --dummy");

  po::options_description compute("Computation");
  add = compute.add_options();
  add("backend", text()->default_value("auto"), "auto, reference, openmp, opencl");
  add("device", text(), "OpenCL device: PLATFORM:DEVICE or part of its name (default: by rank)");
  add("batch", text()->default_value("32"), "frames that go through the matrix together");
  add("threads", text(), "threads of each rank (default: OMP_NUM_THREADS, or all cores)");

  po::options_description output("Output");
  add = output.add_options();
  add("output,o", text(), "HDF5 file to write");
  add("overwrite", "replace an output that exists");
  add("resume", "go on with an output that an earlier run left unfinished");
  add("dry-run", "tell what would be done, write nothing");
  add("help,h", "show this help");

  po::options_description all;
  all.add(scan).add(integration).add(compute).add(output);
  return all;
}

kernels::Splitting parse_splitting(const std::string& name) {
  if (name == "no") return kernels::Splitting::no;
  if (name == "bbox") return kernels::Splitting::bbox;
  throw InputError(fmt::format("--split: found \"{}\", expected no or bbox", name));
}

kernels::ErrorModel parse_error_model(const std::string& name) {
  if (name == "no") return kernels::ErrorModel::no;
  if (name == "poisson") return kernels::ErrorModel::poisson;
  throw InputError(fmt::format("--error-model: found \"{}\", expected no or poisson", name));
}

std::optional<kernels::Backend> parse_backend(const std::string& name) {
  for (const auto backend : {kernels::Backend::reference, kernels::Backend::openmp, kernels::Backend::opencl}) {
    if (name == kernels::name_of(backend)) return backend;
  }
  if (name == "auto") return std::nullopt;
  throw InputError(fmt::format("--backend: found \"{}\", expected auto, reference, openmp or opencl", name));
}

}  // namespace

MapOptions parse_map_options(mapping::ScanKind kind, const std::vector<std::string>& arguments,
                             std::optional<std::string>& help, Problems& problems) {
  const po::options_description visible = option_table(kind);
  po::options_description all;
  all.add(visible).add_options()("frames", po::value<std::vector<std::string>>()->composing());
  const po::variables_map given = parse_arguments(arguments, all, "frames", {"--radial-range"});
  if (given.count("help") > 0) {
    const char* command = kind == mapping::ScanKind::tomo ? "tomo" : "map";
    std::ostringstream text;
    text << "usage: annulus " << command << " -p GEO.poni -r SLOW -t FAST -o OUT.h5 [options] FRAMES...\n" << visible;
    help = text.str();
    return {};
  }

  MapOptions options;
  options.kind = kind;
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto required = [&](const char* name, const char* what) {
    if (!has(name)) {
      problems.add(fmt::format("--{} is missing: {}", name, what));
    } else if (text(name).empty()) {
      problems.add(fmt::format("--{} is empty, expected {}", name, what));
    }
    return has(name) && !text(name).empty();
  };

  if (has("frames")) {
    for (const std::string& file : given["frames"].as<std::vector<std::string>>()) options.frames.emplace_back(file);
  } else {
    problems.add("no frames given: name TIFF or HDF5 files");
  }
  if (required("output", "the HDF5 file to write")) options.output = text("output");
  if (required("poni", "the geometry, a PONI file")) options.poni = text("poni");
  constexpr std::uint64_t most_points = std::uint64_t{1} << 31U;  // map_ptr holds int32
  if (required("slow", "the number of points along the slow axis")) {
    problems.collect([&] { options.slow = parse_count(text("slow"), "--slow", 1, most_points); });
  }
  if (required("fast", "the number of points along the fast axis")) {
    problems.collect([&] { options.fast = parse_count(text("fast"), "--fast", 1, most_points); });
  }
  if (options.slow > 0 && options.fast > most_points / options.slow) {
    problems.add(
        fmt::format("--slow {} times --fast {}: expected at most {} points", options.slow, options.fast, most_points));
  }
  options.offset = given["offset"].as<std::int64_t>();
  if (std::abs(options.offset) > std::int64_t{1} << 31U) {
    problems.add(fmt::format("--offset: found {}, expected less than 2^31 frames", options.offset));
  }
  options.zigzag = has("zigzag");
  options.data = text("data");
  options.monitor = text("monitor");
  options.slow_motor = text("slow-motor");
  options.fast_motor = text("fast-motor");
  if (has("keep-going")) options.damaged_files = mapping::DamagedFiles::become_status;

  integrator::IntegrationSettings& integration = options.integration;
  problems.collect(
      [&] { integration.bins = static_cast<std::uint32_t>(parse_count(text("npt"), "--npt", 1, 10'000'000)); });
  problems.collect([&] { integration.unit = integrator::radial_unit(text("unit")).name; });
  if (has("radial-range")) {
    problems.collect([&] { integration.radial_range = parse_pair(text("radial-range"), "--radial-range"); });
  }
  problems.collect([&] { integration.splitting = parse_splitting(text("split")); });
  problems.collect([&] { integration.error_model = parse_error_model(text("error-model")); });
  if (has("polarization")) {
    const double factor = given["polarization"].as<double>();
    if (!(factor >= -1.0 && factor <= 1.0)) {
      problems.add(fmt::format("--polarization: found {}, expected a number from -1 to 1", factor));
    }
    integration.corrections.polarisation_factor = factor;
  }
  integration.corrections.solid_angle = !has("no-solid-angle");
  options.mask = text("mask");
  options.dark = given["dark"].as<std::vector<std::string>>();
  options.flat = given["flat"].as<std::vector<std::string>>();
  if (has("dummy")) integration.dummy = given["dummy"].as<double>();
  if (has("delta-dummy")) {
    integration.delta_dummy = given["delta-dummy"].as<double>();
    if (!has("dummy")) problems.add("--delta-dummy is given without --dummy");
    if (!(integration.delta_dummy >= 0.0)) {
      problems.add(fmt::format("--delta-dummy: found {}, expected 0 or more", integration.delta_dummy));
    }
  }

  problems.collect([&] { options.compute.backend = parse_backend(text("backend")); });
  if (has("device")) {
    options.compute.device = text("device");
    if (text("backend") != "auto" && text("backend") != "opencl") {
      problems.add(fmt::format("--device is for OpenCL, but --backend is {}", text("backend")));
    }
    if (!options.compute.backend) options.compute.backend = kernels::Backend::opencl;
  }
  problems.collect(
      [&] { options.compute.batch = static_cast<std::uint32_t>(parse_count(text("batch"), "--batch", 1, 4096)); });
  if (has("threads")) {
    problems.collect(
        [&] { options.compute.threads = static_cast<int>(parse_count(text("threads"), "--threads", 1, 4096)); });
  }

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
