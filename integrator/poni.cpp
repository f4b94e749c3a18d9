#include "integrator/geometry.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "integrator/entries.hpp"

namespace annulus::integrator {
namespace {

using namespace detail;

using Json = nlohmann::ordered_json;

/// 1, 2, 2.1 or 3. As pyFAI does, what only a later version can hold makes a text one of that version.
double version_of(const Entries& entries, std::string_view source) {
  double version = 1.0;
  if (const auto text = value_of(entries, "poni_version")) {
    const auto number = number_of(*text);
    if (!number || (*number != 1.0 && *number != 2.0 && *number != 2.1 && *number != 3.0)) {
      throw InputError(fmt::format("{}: poni_version: found {}, expected 1, 2, 2.1 or 3", source, shown(*text)));
    }
    version = *number;
  }
  return value_of(entries, "detector_config") ? std::max(version, 2.0) : version;
}

/// Version 1: the detector's name is optional, and pixel sizes stand beside it.
Detector detector_of_version_1(const Entries& entries, NumberReader& numbers, const DetectorFiles& files) {
  const auto pixel1_m = numbers.read("pixelsize1", "PixelSize1", "m", Sign::positive);
  const auto pixel2_m = numbers.read("pixelsize2", "PixelSize2", "m", Sign::positive);
  Json config = Json::object();
  if (pixel1_m) config["pixel1"] = *pixel1_m;
  if (pixel2_m) config["pixel2"] = *pixel2_m;
  if (const auto spline = value_of(entries, "splinefile")) config["splineFile"] = *spline;
  return make_detector(value_of(entries, "detector").value_or("Detector"), config.dump(), files);
}

Parallax parallax_of(const Entries& entries, std::string_view source, Problems& problems) {
  const auto text = value_of(entries, "parallax");
  if (!text || lower(*text) == "false") return Parallax::off;
  if (lower(*text) == "true") return Parallax::on;
  problems.add(fmt::format("{}: Parallax: found {}, expected True or False", source, shown(*text)));
  return Parallax::off;
}

/// Detector_config with the orientation, which versions 2.1 and 3 always have, also when it is the usual one.
std::string oriented_config_json(const Detector& detector) {
  std::string config = config_json_of(detector);
  if (detector.orientation != Orientation::bottom_right) return config;
  ANNULUS_EXPECT(config.ends_with('}'));
  config.pop_back();
  return config + (config == "{" ? "" : ", ") + "\"orientation\": 3}";
}

}  // namespace

Geometry parse_poni(std::string_view text, std::string_view source, const DetectorFiles& files) {
  text = plain_text(text, source, "a PONI file (lines 'Key: value')");
  const Entries entries =
      trimmed(text).starts_with('{') ? entries_of_json(text, source, "a PONI file") : entries_of_lines(text, ":");
  const auto is_known = [&](std::string_view key) { return entries.contains(key); };
  if (std::ranges::none_of(std::array{"distance", "dist", "poni1", "poni2", "detector", "poni_version"}, is_known)) {
    throw InputError(
        fmt::format("{}: found none of the keys of a PONI file (Distance, Poni1, Poni2, Detector, ...)", source));
  }

  const double version = version_of(entries, source);
  Problems problems;
  NumberReader numbers(entries, source, problems);
  Geometry geometry;
  const std::string_view distance_key = value_of(entries, "distance") ? "distance" : "dist";
  geometry.distance_m = numbers.require(distance_key, "Distance", "m", Sign::positive).value_or(1.0);
  geometry.poni1_m = numbers.read("poni1", "Poni1", "m").value_or(0.0);
  geometry.poni2_m = numbers.read("poni2", "Poni2", "m").value_or(0.0);
  geometry.rot1_rad = numbers.read("rot1", "Rot1", "rad").value_or(0.0);
  geometry.rot2_rad = numbers.read("rot2", "Rot2", "rad").value_or(0.0);
  geometry.rot3_rad = numbers.read("rot3", "Rot3", "rad").value_or(0.0);
  geometry.wavelength_m = numbers.read("wavelength", "Wavelength", "m", Sign::positive);
  geometry.parallax = parallax_of(entries, source, problems);

  try {
    geometry.detector = version < 2.0 ? detector_of_version_1(entries, numbers, files)
                                      : make_detector(value_of(entries, "detector").value_or("Detector"),
                                                      value_of(entries, "detector_config").value_or(""), files);
    if (!problems.any() && !(geometry.detector.pixel1_m > 0.0 && geometry.detector.pixel2_m > 0.0)) {
      problems.add(fmt::format("{}: found no pixel size, expected {}", source,
                               version < 2.0 ? "PixelSize1 and PixelSize2, or the Detector's name"
                                             : "pixel1 and pixel2 in Detector_config, or the Detector's name"));
    }
  } catch (const InputError& error) {
    problems.add(fmt::format("{}: {}", source, error.what()));
  }
  problems.throw_if_any();
  return geometry;
}

Geometry read_poni(const std::filesystem::path& file, const DetectorFiles& files) {
  return parse_poni(read_text_file(file, "a PONI file"), file.string(), files.beside(file));
}

std::string poni_text(const Geometry& geometry) {
  const bool oriented = geometry.detector.orientation != Orientation::bottom_right;
  const bool with_parallax = geometry.parallax == Parallax::on;
  std::string text = "# Geometry, written by annulus\n";
  text += fmt::format("poni_version: {}\n", with_parallax ? "3" : oriented ? "2.1" : "2");
  text += fmt::format("Detector: {}\n", geometry.detector.name);
  text += fmt::format("Detector_config: {}\n",
                      with_parallax ? oriented_config_json(geometry.detector) : config_json_of(geometry.detector));
  text += fmt::format("Distance: {}\n", exact(geometry.distance_m));
  text += fmt::format("Poni1: {}\n", exact(geometry.poni1_m));
  text += fmt::format("Poni2: {}\n", exact(geometry.poni2_m));
  text += fmt::format("Rot1: {}\n", exact(geometry.rot1_rad));
  text += fmt::format("Rot2: {}\n", exact(geometry.rot2_rad));
  text += fmt::format("Rot3: {}\n", exact(geometry.rot3_rad));
  if (geometry.wavelength_m) text += fmt::format("Wavelength: {}\n", exact(*geometry.wavelength_m));
  if (with_parallax) text += "Parallax: True\n";
  return text;
}

void write_poni(const Geometry& geometry, const std::filesystem::path& file) {
  write_text_file(poni_text(geometry), file);
}

std::string poni_json(const Geometry& geometry) {
  Json json = {{"poni_version", 2.1},
               {"dist", geometry.distance_m},
               {"poni1", geometry.poni1_m},
               {"poni2", geometry.poni2_m},
               {"rot1", geometry.rot1_rad},
               {"rot2", geometry.rot2_rad},
               {"rot3", geometry.rot3_rad},
               {"detector", geometry.detector.name},
               {"detector_config", Json::parse(oriented_config_json(geometry.detector))}};
  if (geometry.wavelength_m) json["wavelength"] = *geometry.wavelength_m;
  if (geometry.parallax == Parallax::on) {
    json["poni_version"] = 3;
    json["parallax"] = true;
  }
  return json.dump();
}

}  // namespace annulus::integrator
