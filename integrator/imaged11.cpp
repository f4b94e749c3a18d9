#include "integrator/geometry_files.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "integrator/entries.hpp"

namespace annulus::integrator {
namespace {

using namespace detail;

/// The length in m of the unit under `key`, or `usual_m` where there is none.
double unit_of(const Entries& entries, std::string_view key, double usual_m, std::string_view source,
               Problems& problems) {
  constexpr auto units = std::to_array<std::pair<std::string_view, double>>({{"m", 1.0},
                                                                             {"cm", 1e-2},
                                                                             {"mm", 1e-3},
                                                                             {"um", 1e-6},
                                                                             {"\xc2\xb5m", 1e-6},  // micro sign
                                                                             {"\xce\xbcm", 1e-6},  // Greek mu
                                                                             {"micron", 1e-6},
                                                                             {"nm", 1e-9},
                                                                             {"a", 1e-10},
                                                                             {"\xc3\x85", 1e-10},  // A with ring
                                                                             {"angstrom", 1e-10}});
  const auto text = value_of(entries, key);
  if (!text) return usual_m;
  const auto found = std::ranges::find(units, lower(*text), [](const auto& unit) { return unit.first; });
  if (found != units.end()) return found->second;
  problems.add(fmt::format("{}: {}: found {}, expected m, cm, mm, um, nm or A", source, key, shown(*text)));
  return usual_m;
}

/// pyFAI's orientation for the flip matrix: that of orientation 3 has o22 = -1, since ImageD11's horizontal axis points
/// away from the ring's centre.
Orientation orientation_of(const NumberReader& numbers, std::string_view source, Problems& problems) {
  const double o11 = numbers.read("o11", "o11", "1 or -1").value_or(1.0);
  const double o12 = numbers.read("o12", "o12", "0").value_or(0.0);
  const double o21 = numbers.read("o21", "o21", "0").value_or(0.0);
  const double o22 = numbers.read("o22", "o22", "1 or -1").value_or(-1.0);
  if (o12 != 0.0 || o21 != 0.0 || std::abs(o11) != 1.0 || std::abs(o22) != 1.0) {
    problems.add(
        fmt::format("{}: o11, o12, o21, o22: found {}, {}, {}, {}, expected 1 or -1, 0, 0, 1 or -1: an image "
                    "with rows and columns swapped is not supported",
                    source, o11, o12, o21, o22));
  }
  if (o11 > 0.0) return o22 < 0.0 ? Orientation::bottom_right : Orientation::bottom_left;
  return o22 < 0.0 ? Orientation::top_right : Orientation::top_left;
}

}  // namespace

Geometry parse_imaged11(std::string_view text, std::string_view source, const GeometryFileOptions& options) {
  text = plain_text(text, source, "ImageD11's parameters (lines 'key value')");
  Entries entries = entries_of_lines(text, " \t=");
  // Old files have y-center.
  for (const char* key : {"y-center", "z-center", "y-size", "z-size", "tilt-x", "tilt-y", "tilt-z"}) {
    const auto found = entries.find(key);
    if (found == entries.end()) continue;
    std::string usual = key;
    std::ranges::replace(usual, '-', '_');
    entries.emplace(std::move(usual), found->second);
  }
  Problems problems;
  const NumberReader numbers(entries, source, problems);
  const double length_m = unit_of(entries, "distance_unit", 1e-6, source, problems);
  const double wavelength_unit_m =
      unit_of(entries, "wavelength_unit", options.imaged11_wavelength_unit_m, source, problems);
  // As quotients where that is exact: 75 um are 75 / 1e6 m.
  const auto in_m = [](double value, double unit_m) { return value / std::round(1.0 / unit_m); };
  const double direct_m =
      in_m(numbers.require("distance", "distance", "micrometre", Sign::positive).value_or(1.0), length_m);
  const double pixel1_m =
      in_m(numbers.require("z_size", "z_size", "micrometre", Sign::positive).value_or(1.0), length_m);
  const double pixel2_m =
      in_m(numbers.require("y_size", "y_size", "micrometre", Sign::positive).value_or(1.0), length_m);
  double centre1 = numbers.require("z_center", "z_center", "pixel").value_or(0.0);
  double centre2 = numbers.require("y_center", "y_center", "pixel").value_or(0.0);

  Geometry geometry;
  geometry.rot1_rad = -numbers.read("tilt_z", "tilt_z", "rad").value_or(0.0);
  geometry.rot2_rad = numbers.read("tilt_y", "tilt_y", "rad").value_or(0.0);
  geometry.rot3_rad = numbers.read("tilt_x", "tilt_x", "rad").value_or(0.0);
  if (const auto wavelength = numbers.read("wavelength", "wavelength", "Angstrom", Sign::positive)) {
    geometry.wavelength_m = in_m(*wavelength, wavelength_unit_m);
    // pyFAI writes nm, ImageD11 Angstrom, and the file does not say which.
    if (*geometry.wavelength_m < 4e-12) {
      problems.add(
          fmt::format("{}: wavelength: found {} in units of {} m, expected more than 4e-12 m (310 keV); a line "
                      "'wavelength_unit nm' says that it is in nm, as pyFAI writes it",
                      source, *wavelength, wavelength_unit_m));
    }
  }
  const Orientation orientation = orientation_of(numbers, source, problems);

  // The axes that the orientation reverses are counted from their other end.
  const bool flip1 = orientation == Orientation::top_left || orientation == Orientation::top_right;
  const bool flip2 = orientation == Orientation::top_left || orientation == Orientation::bottom_left;
  const bool has_shape = options.image_rows != 0 && options.image_columns != 0;
  if ((flip1 || flip2) && !has_shape) {
    problems.add(fmt::format("{}: o11, o22: found a reversed axis, which needs the shape of the images", source));
  }
  if (flip1) centre1 = options.image_rows - 1.0 - centre1;
  if (flip2) centre2 = options.image_columns - 1.0 - centre2;

  nlohmann::ordered_json config = {
      {"pixel1", pixel1_m}, {"pixel2", pixel2_m}, {"orientation", static_cast<int>(orientation)}};
  if (has_shape) config["max_shape"] = {options.image_rows, options.image_columns};
  if (const auto spline = value_of(entries, "spline")) config["splineFile"] = *spline;
  problems.collect([&] { geometry.detector = make_detector("Detector", config.dump(), options.detector_files); });
  problems.throw_if_any();

  geometry.distance_m = direct_m * std::cos(geometry.rot2_rad) * std::cos(geometry.rot1_rad);
  if (!(geometry.distance_m > 0.0)) {
    throw InputError(fmt::format("{}: tilt_y, tilt_z: found {}, {} rad, expected tilts below 90 degrees", source,
                                 geometry.rot2_rad, -geometry.rot1_rad));
  }
  // ImageD11 counts from the centre of the first pixel, PONI files from its corner.
  geometry.poni1_m = pixel1_m * (centre1 + 0.5) - direct_m * std::sin(geometry.rot2_rad);
  geometry.poni2_m = pixel2_m * (centre2 + 0.5) + direct_m * std::cos(geometry.rot2_rad) * std::sin(geometry.rot1_rad);
  return geometry;
}

}  // namespace annulus::integrator
