#include "integrator/geometry_files.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "integrator/entries.hpp"
#include "integrator/units.hpp"

namespace annulus::integrator {
namespace {

using namespace detail;

constexpr std::string_view expected_text = "Fit2D's parameters (lines 'key: value')";

/// The line that pyFAI prints for a geometry; its numbers follow these labels.
Entries entries_of_printed_line(std::string_view line) {
  constexpr auto labels = std::to_array<std::pair<std::string_view, std::string_view>>({
      {"directbeamdist=", "directdist"},
      {"x=", "centerx"},
      {"y=", "centery"},
      {"tilt=", "tilt"},
      {"tiltplanrotation=", "tiltplanrotation"},
      {"\xce\xbb=", "wavelength"},  // lambda
  });
  const std::string text = lower(line);
  Entries entries;
  for (const auto& [label, key] : labels) {
    const std::size_t found = text.find(label);
    if (found == std::string::npos) continue;
    const std::string_view rest = trimmed(std::string_view(text).substr(found + label.size()));
    entries.emplace(key, rest.substr(0, rest.find_first_not_of("+-.0123456789e")));
  }
  return entries;
}

Entries entries_of(std::string_view text, std::string_view source) {
  if (trimmed(text).starts_with('{')) return entries_of_json(text, source, expected_text);
  Entries entries = entries_of_lines(text, ":=");
  const std::size_t printed = lower(text).find("directbeamdist=");
  if (printed != std::string::npos) {
    entries.merge(entries_of_printed_line(text.substr(printed, text.find_first_of("\r\n", printed) - printed)));
  }
  return entries;
}

/// Detector_config, with the pixel sizes and the spline that Fit2D has beside it where it lacks them.
std::string detector_config(const Entries& entries, const NumberReader& numbers, std::string_view source) {
  auto config = nlohmann::ordered_json::object();
  if (const auto text = value_of(entries, "detector_config")) {
    config = nlohmann::ordered_json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      throw InputError(fmt::format("{}: detector_config: found {}, expected a JSON object", source, shown(*text)));
    }
  }
  const auto add = [&](const char* key, std::optional<double> micrometre) {
    if (micrometre && !config.contains(key)) config[key] = *micrometre / 1e6;
  };
  add("pixel1", numbers.read("pixely", "pixelY", "micrometre", Sign::positive));
  add("pixel2", numbers.read("pixelx", "pixelX", "micrometre", Sign::positive));
  if (const auto spline = value_of(entries, "splinefile")) config["splineFile"] = *spline;
  return config.dump();
}

}  // namespace

Geometry parse_fit2d(std::string_view text, std::string_view source, const GeometryFileOptions& options) {
  text = plain_text(text, source, expected_text);
  const Entries entries = entries_of(text, source);
  Problems problems;
  const NumberReader numbers(entries, source, problems);
  const double direct_m = numbers.require("directdist", "directDist", "mm", Sign::positive).value_or(1.0) / 1e3;
  const double centre_x = numbers.require("centerx", "centerX", "pixel").value_or(0.0);
  const double centre_y = numbers.require("centery", "centerY", "pixel").value_or(0.0);
  const double tilt_deg = numbers.read("tilt", "tilt", "degree").value_or(0.0);
  const double direction_rad = radians_of(numbers.read("tiltplanrotation", "tiltPlanRotation", "degree").value_or(0.0));
  if (!(std::abs(tilt_deg) < 90.0)) {
    problems.add(fmt::format("{}: tilt: found {} degree, expected -90 to 90", source, tilt_deg));
  }

  Geometry geometry;
  if (const auto angstrom = numbers.read("wavelength", "wavelength", "Angstrom", Sign::positive)) {
    geometry.wavelength_m = *angstrom / 1e10;
  }
  try {
    geometry.detector = make_detector(value_of(entries, "detector").value_or("Detector"),
                                      detector_config(entries, numbers, source), options.detector_files);
    if (!problems.any() && !(geometry.detector.pixel1_m > 0.0 && geometry.detector.pixel2_m > 0.0)) {
      problems.add(fmt::format("{}: found no pixel size, expected pixelX and pixelY, or the detector's name", source));
    }
  } catch (const InputError& error) {
    problems.add(fmt::format("{}: {}", source, error.what()));
  }
  problems.throw_if_any();

  const double sin_tilt = std::sin(radians_of(tilt_deg));
  const double cos_tilt = std::cos(radians_of(tilt_deg));
  const double sin_direction = std::sin(direction_rad);
  const double cos_direction = std::cos(direction_rad);
  geometry.distance_m = direct_m * cos_tilt;
  geometry.poni1_m = centre_y * geometry.detector.pixel1_m - direct_m * sin_tilt * sin_direction;
  geometry.poni2_m = centre_x * geometry.detector.pixel2_m - direct_m * sin_tilt * cos_direction;
  geometry.rot1_rad = std::atan2(-sin_tilt * cos_direction, cos_tilt);
  geometry.rot2_rad = std::asin(sin_tilt * sin_direction);
  geometry.rot3_rad = std::asin((cos_tilt - 1.0) * cos_direction * sin_direction / std::cos(geometry.rot2_rad));
  return geometry;
}

std::string fit2d_text(const Geometry& geometry) {
  if (geometry.parallax == Parallax::on) {
    throw InputError("the geometry corrects parallax, which Fit2D's parameters cannot hold: write a PONI file");
  }
  const double sin1 = std::sin(geometry.rot1_rad);
  const double cos1 = std::cos(geometry.rot1_rad);
  const double sin2 = std::sin(geometry.rot2_rad);
  const double cos2 = std::cos(geometry.rot2_rad);
  const double cos_tilt = cos1 * cos2;
  // 1e-12: beyond that the beam meets the detector, if at all, at distances where no digit is left.
  if (!(cos_tilt > 1e-12)) {
    throw InputError(
        fmt::format("the detector is turned by {} degrees against the beam, which Fit2D's parameters "
                    "cannot hold: write a PONI file",
                    degrees_of(std::acos(cos_tilt))));
  }
  // (cos, sin) of the tilt's direction, times the tilt's sine.
  const double towards_x = -cos2 * sin1;
  const double towards_y = sin2;
  const double direct_m = geometry.distance_m / cos_tilt;
  const double tilt_rad = std::atan2(std::hypot(towards_x, towards_y), cos_tilt);
  const double direction_rad = tilt_rad == 0.0 ? 0.0 : std::atan2(towards_y, towards_x);
  const Detector& detector = geometry.detector;

  std::string text = "# Geometry in Fit2D's parameters (mm, pixel, degree, micrometre, Angstrom), written by annulus\n";
  text += fmt::format("directDist: {}\n", exact(1e3 * direct_m));
  text += fmt::format("centerX: {}\n", exact((geometry.poni2_m + direct_m * towards_x) / detector.pixel2_m));
  text += fmt::format("centerY: {}\n", exact((geometry.poni1_m + direct_m * towards_y) / detector.pixel1_m));
  text += fmt::format("tilt: {}\n", exact(degrees_of(tilt_rad)));
  text += fmt::format("tiltPlanRotation: {}\n", exact(degrees_of(direction_rad)));
  text += fmt::format("pixelX: {}\n", exact(1e6 * detector.pixel2_m));
  text += fmt::format("pixelY: {}\n", exact(1e6 * detector.pixel1_m));
  if (geometry.wavelength_m) text += fmt::format("wavelength: {}\n", exact(1e10 * *geometry.wavelength_m));
  text += fmt::format("detector: {}\n", detector.name);
  text += fmt::format("detector_config: {}\n", config_json_of(detector));
  return text;
}

void write_fit2d(const Geometry& geometry, const std::filesystem::path& file) {
  write_text_file(fit2d_text(geometry), file);
}

}  // namespace annulus::integrator
