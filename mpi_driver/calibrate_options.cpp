#include "mpi_driver/calibrate_options.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "calibration/refinement.hpp"
#include "integrator/units.hpp"
#include "mpi_driver/option_parsing.hpp"

namespace annulus::driver {
namespace po = boost::program_options;
namespace {

using calibration::Freedom;
using calibration::Parameter;

/// The options of the shared group, as calibration_options_given() tells them.
constexpr std::array group_names{"calibrant",  "cell",        "d-spacings", "wavelength", "energy",   "detector",
                                 "pixel-size", "orientation", "sensor",     "parallax",   "distance", "beam-center",
                                 "fix",        "free",        "bounds",     "tie",        "max-rings"};

Parameter parameter_named(std::string_view name, std::string_view option) {
  std::string names;
  for (std::size_t index = 0; index < calibration::parameter_count; ++index) {
    const auto parameter = static_cast<Parameter>(index);
    if (calibration::name_of(parameter) == name) return parameter;
    names += (names.empty() ? "" : ", ") + std::string(calibration::name_of(parameter));
  }
  throw InputError(fmt::format("{}: found \"{}\", expected one of {}", option, name, names));
}

/// The parts of a text between `separator`s.
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

double finite_number(const std::string& text, std::string_view option) {
  const double number = parse_number(text, option);
  if (!std::isfinite(number)) throw InputError(fmt::format("{}: found {}, expected a finite number", option, text));
  return number;
}

/// "rot1" or "rot1=0.01".
std::pair<Parameter, std::optional<double>> parameter_and_value(const std::string& text, std::string_view option) {
  const std::size_t equal = text.find('=');
  const Parameter parameter = parameter_named(text.substr(0, equal), option);
  if (equal == std::string::npos) return {parameter, std::nullopt};
  return {parameter, finite_number(text.substr(equal + 1), option)};
}

/// "rot2=rot1", "poni1=-0.5*distance+0.01".
std::pair<Parameter, calibration::Tie> parameter_and_tie(const std::string& text) {
  const std::size_t equal = text.find('=');
  if (equal == std::string::npos) {
    throw InputError(fmt::format("--tie: found \"{}\", expected PARAMETER=[FACTOR*]PARAMETER[+OFFSET]", text));
  }
  const Parameter parameter = parameter_named(text.substr(0, equal), "--tie");
  std::string rest = text.substr(equal + 1);
  calibration::Tie tie;
  if (const std::size_t times = rest.find('*'); times != std::string::npos) {
    tie.factor = finite_number(rest.substr(0, times), "--tie " + text);
    rest.erase(0, times + 1);
  }
  if (const std::size_t sign = rest.find_first_of("+-"); sign != std::string::npos) {
    tie.offset = finite_number(rest.substr(rest[sign] == '+' ? sign + 1 : sign), "--tie " + text);
    rest.erase(sign);
  }
  tie.to = parameter_named(rest, "--tie");
  if (tie.to == parameter) throw InputError(fmt::format("--tie: {} is tied to itself", text.substr(0, equal)));
  if (parameter == Parameter::rot3 || tie.to == Parameter::rot3) {
    throw InputError("--tie: no ring depends on rot3, so it cannot be refined");
  }
  return {parameter, tie};
}

void parse_freedom(const po::variables_map& given, CalibrationOptions& options, Problems& problems) {
  const auto each = [&](const char* name, auto&& take) {
    if (given.count(name) == 0) return;
    for (const std::string& list : given[name].as<std::vector<std::string>>()) {
      // Bounds hold a comma of their own.
      const std::vector<std::string> texts =
          std::string_view(name) == "bounds" ? std::vector<std::string>{list} : split(list, ',');
      for (const std::string& text : texts) problems.collect([&] { take(text); });
    }
  };
  const auto freedom_of = [&](Parameter parameter) -> Freedom& {
    return options.freedom[static_cast<std::size_t>(parameter)];
  };
  std::array<bool, calibration::parameter_count> fixed{};
  each("fix", [&](const std::string& text) {
    const auto [parameter, value] = parameter_and_value(text, "--fix");
    const bool must_be_positive = parameter == Parameter::distance || parameter == Parameter::wavelength;
    if (value && must_be_positive && !(*value > 0.0)) {
      throw InputError(fmt::format("--fix {}: expected a value above 0", text));
    }
    freedom_of(parameter) = {Freedom::Kind::fixed, value, std::nullopt, std::nullopt, {}};
    fixed[static_cast<std::size_t>(parameter)] = true;
  });
  const auto refuse_fixed = [&](Parameter parameter, const char* option) {
    if (fixed[static_cast<std::size_t>(parameter)]) {
      throw InputError(
          fmt::format("{} and --fix contradict each other for {}", option, calibration::name_of(parameter)));
    }
  };
  each("free", [&](const std::string& text) {
    const Parameter parameter = parameter_named(text, "--free");
    refuse_fixed(parameter, "--free");
    freedom_of(parameter) = Freedom();
  });
  each("bounds", [&](const std::string& text) {
    const std::size_t equal = text.find('=');
    if (equal == std::string::npos) {
      throw InputError(fmt::format("--bounds: found \"{}\", expected PARAMETER=LOWER,UPPER", text));
    }
    const Parameter parameter = parameter_named(text.substr(0, equal), "--bounds");
    refuse_fixed(parameter, "--bounds");
    const auto [lower, upper] = parse_pair(text.substr(equal + 1), "--bounds " + text.substr(0, equal));
    Freedom& freedom = freedom_of(parameter);
    freedom.kind = Freedom::Kind::free;
    freedom.lower = lower;
    freedom.upper = upper;
  });
  each("tie", [&](const std::string& text) {
    const auto [parameter, tie] = parameter_and_tie(text);
    refuse_fixed(parameter, "--tie");
    if (freedom_of(parameter).lower) {
      throw InputError(fmt::format("--tie and --bounds contradict each other for {}", calibration::name_of(parameter)));
    }
    freedom_of(parameter) = {Freedom::Kind::tied, std::nullopt, std::nullopt, std::nullopt, tie};
  });
  for (std::size_t index = 0; index < calibration::parameter_count; ++index) {
    const Freedom& freedom = options.freedom[index];
    if (freedom.kind == Freedom::Kind::tied && freedom_of(freedom.tie.to).kind != Freedom::Kind::free) {
      problems.add(fmt::format("--tie: {} is tied to {}, which is not refined itself",
                               calibration::name_of(static_cast<Parameter>(index)),
                               calibration::name_of(freedom.tie.to)));
    }
  }
}

po::options_description option_table() {
  const auto text = [] { return po::value<std::string>(); };
  const auto list = [] { return po::value<std::vector<std::string>>()->composing(); };
  po::options_description images("Images");
  auto add = images.add_options();
  add("distance-offset", list(),
      "one for each image: how far (m, along the beam) the detector stood behind its place for the first one; without "
      "it the images are one exposure");
  add("mask,m", list(), "mask image, not 0 = not used; besides the detector's own");
  add("dark,d", list(), "dark image, for the exposure of a frame; several are averaged");
  add("poni,p", text(), "a guess of the geometry (PONI, Fit2D or ImageD11 file)");
  po::options_description output("Output");
  add = output.add_options();
  add("output,o", text(), "PONI file to write");
  add("points", text(), "control points to write, in pyFAI's .npt format");
  add("report", text(), "page to write: image, rings, residuals and verdict in one HTML file");
  add("overwrite", "replace outputs that exist");
  add("threads", text(), "threads (default: OMP_NUM_THREADS, or all cores)");
  add("help,h", "show this help");
  po::options_description all;
  all.add(images).add(calibration_option_group()).add(output);
  return all;
}

}  // namespace

po::options_description calibration_option_group() {
  const auto text = [] { return po::value<std::string>(); };
  const auto number = [] { return po::value<double>(); };
  const auto list = [] { return po::value<std::vector<std::string>>()->composing(); };
  po::options_description group("Calibration");
  auto add = group.add_options();
  add("calibrant", text(), "reference compound: a name (\"list\" shows them) or a .D file");
  add("cell", text(), "or its cell: edges (and angles) in Angstrom and degrees, then the symmetry: \"5.4116 Fm-3m\"");
  add("d-spacings", text(), "or its lattice spacings in Angstrom: D,D,...");
  add("wavelength", number(), "of the beam, m");
  add("energy", number(), "or its photon energy, keV");
  add("detector", text(), "name of the detector, or its NeXus file");
  add("pixel-size", text(), "HEIGHT WIDTH of a pixel in m, of a detector without a name");
  add("orientation", text(), "of the detector: 1 to 4 (default: 3, or that of the guess)");
  add("sensor", text(), "MATERIAL,THICKNESS_M of the detector, for --parallax: Si,0.00045");
  add("parallax", "correct for the thickness of the sensor");
  add("distance", number(), "a guess of the distance, m");
  add("beam-center", text(), "X Y: a guess of where the beam hits, in pixels from the image's first corner");
  add("fix", list(), "PARAMETER or PARAMETER=VALUE not to be refined (default: rot3, wavelength); m and rad");
  add("free", list(), "PARAMETER to be refined: distance, poni1, poni2, rot1, rot2, rot3, wavelength");
  add("bounds", list(), "PARAMETER=LOWER,UPPER: to be refined within these");
  add("tie", list(), "PARAMETER=[FACTOR*]PARAMETER[+OFFSET]: to follow another that is refined");
  add("max-rings", text(), "use at most so many rings, from the innermost (default: all that are seen)");
  return group;
}

const std::vector<std::string>& calibration_pairs() {
  static const std::vector<std::string> pairs{"--pixel-size", "--beam-center"};
  return pairs;
}

std::vector<std::string> calibration_options_given(const po::variables_map& given) {
  std::vector<std::string> names;
  for (const char* name : group_names) {
    if (given.count(name) > 0) names.push_back(fmt::format("--{}", name));
  }
  return names;
}

void parse_calibration_options(const po::variables_map& given, CalibrationOptions& options, Problems& problems) {
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  const auto positive = [&](const char* name, double lowest, double highest, const char* unit) {
    const double value = given[name].as<double>();
    if (!(value >= lowest && value <= highest)) {
      throw InputError(fmt::format("--{}: found {}, expected {} to {} {}", name, value, lowest, highest, unit));
    }
    return value;
  };
  if (has("calibrant")) options.calibrant = text("calibrant");
  if (has("cell")) options.cell = text("cell");
  if (has("d-spacings")) {
    problems.collect([&] {
      for (const std::string& part : split(text("d-spacings"), ',')) {
        options.d_spacings_angstrom.push_back(finite_number(part, "--d-spacings"));
      }
    });
  }
  options.list_calibrants = options.calibrant == "list";
  const int ways =
      static_cast<int>(has("calibrant")) + static_cast<int>(has("cell")) + static_cast<int>(has("d-spacings"));
  if (ways == 0) problems.add("--calibrant is missing: the reference compound (or --cell, or --d-spacings)");
  if (ways > 1) problems.add("--calibrant, --cell and --d-spacings exclude each other");
  if (has("wavelength") && has("energy")) problems.add("--wavelength and --energy exclude each other");
  options.wavelength_given = has("wavelength") || has("energy");
  // 1000 keV and 0.1 keV.
  if (has("wavelength")) problems.collect([&] { options.wavelength_m = positive("wavelength", 1e-12, 1.3e-8, "m"); });
  if (has("energy")) {
    problems.collect(
        [&] { options.wavelength_m = integrator::wavelength_m_of_energy_kev(positive("energy", 0.1, 1000.0, "keV")); });
  }
  if (has("detector")) options.detector = text("detector");
  if (has("pixel-size")) {
    problems.collect([&] {
      const auto [height, width] = parse_any_pair(text("pixel-size"), "--pixel-size");
      if (!(height > 0.0 && width > 0.0 && height < 0.1 && width < 0.1)) {
        throw InputError(fmt::format("--pixel-size: found {} and {}, expected sizes in m", height, width));
      }
      options.pixel_m = {height, width};
    });
  }
  if (has("orientation")) {
    problems.collect([&] {
      options.orientation = static_cast<std::uint32_t>(parse_count(text("orientation"), "--orientation", 1, 4));
    });
  }
  if (has("sensor")) {
    problems.collect([&] {
      const std::vector<std::string> parts = split(text("sensor"), ',');
      const double thickness_m = parts.size() == 2 ? finite_number(parts[1], "--sensor") : 0.0;
      if (parts[0].empty() || !(thickness_m > 0.0 && thickness_m < 0.1)) {
        throw InputError(
            fmt::format("--sensor: found \"{}\", expected MATERIAL,THICKNESS_M as Si,0.00045", text("sensor")));
      }
      options.sensor = integrator::Sensor{parts[0], thickness_m};
    });
  }
  options.parallax = has("parallax");
  if (has("distance")) problems.collect([&] { options.distance_m = positive("distance", 1e-4, 1000.0, "m"); });
  if (has("beam-center")) {
    problems.collect([&] {
      const auto center = parse_any_pair(text("beam-center"), "--beam-center");
      if (!std::isfinite(center.first) || !std::isfinite(center.second)) {
        throw InputError(fmt::format("--beam-center: found {}, expected two finite numbers", text("beam-center")));
      }
      options.beam_center = center;
    });
  }
  parse_freedom(given, options, problems);
  if (has("max-rings")) {
    problems.collect([&] {
      options.max_rings = static_cast<std::uint32_t>(parse_count(text("max-rings"), "--max-rings", 1, 100000));
    });
  }
}

CalibrateOptions parse_calibrate_options(const std::vector<std::string>& arguments, std::optional<std::string>& help,
                                         Problems& problems) {
  const po::options_description visible = option_table();
  po::options_description all;
  all.add(visible).add_options()("images", po::value<std::vector<std::string>>()->composing());
  const po::variables_map given = parse_arguments(arguments, all, "images", calibration_pairs());
  if (given.count("help") > 0) {
    std::ostringstream text;
    text << "usage: annulus calibrate --calibrant NAME --energy KEV --detector NAME -o GEO.poni [options] IMAGE...\n"
         << "IMAGE is a file (TIFF, HDF5, EDF, numpy) or FILE::DATASET, whose frames are summed.\n"
         << visible
         << "Exit status: 0 the calibration is good, 3 doubtful (the PONI file is written, and says so), 1 failed\n"
            "(nothing but the report is written), 2 the options or files cannot be used.\n";
    help = text.str();
    return {};
  }
  CalibrateOptions options;
  CalibrationOptions& calibration = options.calibration;
  const auto has = [&](const char* name) { return given.count(name) > 0; };
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  const auto list = [&](const char* name) {
    return has(name) ? given[name].as<std::vector<std::string>>() : std::vector<std::string>();
  };
  parse_calibration_options(given, calibration, problems);
  if (calibration.list_calibrants) return options;
  calibration.images = list("images");
  calibration.masks = list("mask");
  calibration.dark = list("dark");
  if (has("poni")) calibration.poni = text("poni");
  if (has("threads")) {
    problems.collect(
        [&] { calibration.threads = static_cast<int>(parse_count(text("threads"), "--threads", 1, 4096)); });
  }
  for (const std::string& offsets : list("distance-offset")) {
    problems.collect([&] {
      for (const std::string& part : split(offsets, ',')) {
        calibration.distance_offsets_m.push_back(finite_number(part, "--distance-offset"));
      }
    });
  }
  if (calibration.images.empty()) problems.add("no image given: name a TIFF, HDF5, EDF or numpy file");
  const std::vector<double>& offsets = calibration.distance_offsets_m;
  if (!offsets.empty() && offsets.size() != calibration.images.size()) {
    problems.add(fmt::format("--distance-offset: found {} for {} images, expected one each", offsets.size(),
                             calibration.images.size()));
  } else if (!offsets.empty() && offsets.front() != 0.0) {
    problems.add(fmt::format("--distance-offset: found {} for the first image, expected 0: offsets count from it",
                             offsets.front()));
  }
  if (has("output")) options.output = text("output");
  if (options.output.empty()) problems.add("--output is missing: the PONI file to write");
  if (has("points")) options.points = text("points");
  if (has("report")) options.report = text("report");
  const auto same = [](const std::filesystem::path& one, const std::filesystem::path& other) {
    return !one.empty() && one.lexically_normal() == other.lexically_normal();
  };
  if (same(options.output, options.points) || same(options.output, options.report) ||
      same(options.points, options.report)) {
    problems.add("--output, --points and --report: found the same file twice, expected one for each");
  }
  options.overwrite = has("overwrite");
  return options;
}

}  // namespace annulus::driver
