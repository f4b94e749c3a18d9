#include "calibration/control_point_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "calibration/calibrant_table.hpp"
#include "integrator/entries.hpp"

namespace annulus::calibration {
namespace {

using integrator::detail::exact;
using integrator::detail::number_of;
using integrator::detail::shown;
using integrator::detail::trimmed;

constexpr std::string_view expected = "control points (.npt)";

/// Whether pyFAI finds the same rings under the calibrant's name.
bool known_to_pyfai(const Calibrant& calibrant) {
  const auto entry = std::find_if(compounds().begin(), compounds().end(),
                                  [&](const CompoundEntry& known) { return known.name == calibrant.name; });
  if (entry == compounds().end() || entry->repeated_in_pyfai) return false;
  const Calibrant own = make_calibrant(calibrant.name);
  return std::equal(own.d_spacings_m.begin(), own.d_spacings_m.end(), calibrant.d_spacings_m.begin(),
                    calibrant.d_spacings_m.end(),
                    [](double left, double right) { return std::abs(left / right - 1.0) < 1e-6; });
}

/// The number behind `key` ("x=") in "x=12.5 y=3.25".
std::optional<double> coordinate_of(std::string_view text, std::string_view key) {
  const std::size_t place = text.find(key);
  if (place == std::string_view::npos) return std::nullopt;
  text.remove_prefix(place + key.size());
  return number_of(text.substr(0, text.find_first_of(" \t")));
}

}  // namespace

std::string control_point_text(const Calibrant& calibrant, double wavelength_m, std::span<const ControlPoint> points,
                               std::uint32_t image) {
  // A format without weights: what the robust loss left less than half of its weight is left out, and of a ring no more
  // points are told than a ring has a say, since its own place is not known better than that.
  constexpr double least_weight = 0.5;
  constexpr std::size_t most_points = 100;
  std::map<std::uint32_t, std::vector<ControlPoint>> by_ring;
  for (const ControlPoint& point : points) {
    if (point.image == image && point.weight >= least_weight) by_ring[point.ring].push_back(point);
  }
  std::vector<ControlPoint> chosen;
  for (const auto& [ring, all] : by_ring) {
    const std::size_t count = std::min(most_points, all.size());
    for (std::size_t index = 0; index < count; ++index) chosen.push_back(all[index * all.size() / count]);
  }

  std::string text = "# control points on Debye-Scherrer rings: angles in rad, wavelength in m, positions in pixels\n";
  if (known_to_pyfai(calibrant)) {
    text += fmt::format("calibrant: {} Calibrant with {} reflections at wavelength {}\n", calibrant.name,
                        calibrant.d_spacings_m.size(), exact(wavelength_m));
  }
  text += fmt::format("wavelength: {}\ndspacing:", exact(wavelength_m));
  // In Angstrom, shortest decimals that keep 12 digits: what 1e-10 m made of 3.12 is not to be seen.
  for (const double d_m : calibrant.d_spacings_m) text += fmt::format(" {:.12g}", d_m * 1e10);
  text += '\n';
  const std::vector<double> angles = calibrant.two_theta_rad(wavelength_m);
  std::size_t group = 0;
  for (std::size_t index = 0; index < chosen.size(); ++index) {
    const ControlPoint& point = chosen[index];
    if (index == 0 || point.ring != chosen[index - 1].ring) {
      text += fmt::format("\nNew group of points: {}\n", group++);
      if (point.ring < angles.size()) text += fmt::format("2theta: {}\n", exact(angles[point.ring]));
      text += fmt::format("ring: {}\n", point.ring);
    }
    text += fmt::format("point: x={} y={}\n", exact(point.column - 0.5), exact(point.row - 0.5));
  }
  return text;
}

void write_control_points(const std::filesystem::path& file, const Calibrant& calibrant, double wavelength_m,
                          std::span<const ControlPoint> points, std::uint32_t image) {
  integrator::detail::write_text_file(control_point_text(calibrant, wavelength_m, points, image), file);
}

ControlPointSet parse_control_points(std::string_view text, std::string_view source) {
  text = integrator::detail::plain_text(text, source, expected);
  ControlPointSet set;
  Problems problems;
  std::uint32_t ring = 0;
  bool ring_known = false;
  // A group's ring may stand behind its points.
  std::vector<ControlPoint> group;
  const auto finish_group = [&] {
    for (ControlPoint& point : group) {
      if (!ring_known) continue;
      point.ring = ring;
      set.points.push_back(point);
    }
    group.clear();
    ring_known = false;
  };
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    const std::size_t colon = line.find(':');
    if (line.starts_with('#') || colon == std::string_view::npos) continue;
    const std::string key = integrator::detail::lower(trimmed(line.substr(0, colon)));
    const std::string_view value = trimmed(line.substr(colon + 1));
    const auto refuse = [&](std::string_view what) {
      problems.add(fmt::format("{}, line {}: found {}, expected {}", source, number, shown(line), what));
    };
    if (key == "calibrant") {
      set.calibrant_name = value.substr(0, value.find(' '));
    } else if (key == "wavelength") {
      set.wavelength_m = number_of(value);
      if (!set.wavelength_m && value != "None") refuse("a wavelength in m");
    } else if (key == "dspacing") {
      for (std::string_view rest = value; !rest.empty();) {
        const std::size_t blank = std::min(rest.find(' '), rest.size());
        if (const std::optional<double> d_angstrom = number_of(rest.substr(0, blank))) {
          set.d_spacings_m.push_back(*d_angstrom * 1e-10);
        } else {
          refuse("spacings in Angstrom");
          break;
        }
        rest = trimmed(rest.substr(blank));
      }
    } else if (key.starts_with("new")) {
      finish_group();
    } else if (key == "ring") {
      const std::optional<double> index = number_of(value);
      if (index && *index >= 0.0 && *index < 1e6 && *index == std::floor(*index)) {
        ring = static_cast<std::uint32_t>(*index);
        ring_known = true;
      } else if (integrator::detail::lower(value) != "none") {
        refuse("the number of a ring, from 0");
      }
    } else if (key == "point") {
      const std::optional<double> x = coordinate_of(value, "x=");
      const std::optional<double> y = coordinate_of(value, "y=");
      if (x && y) {
        ControlPoint point;
        point.row = *y + 0.5;
        point.column = *x + 0.5;
        group.push_back(point);
      } else {
        refuse("x=COLUMN y=ROW");
      }
    }
  }
  finish_group();
  problems.throw_if_any();
  if (set.points.empty()) throw InputError(fmt::format("{}: no point in it: expected {}", source, expected));
  return set;
}

ControlPointSet read_control_points(const std::filesystem::path& file) {
  return parse_control_points(integrator::detail::read_text_file(file, expected), file.string());
}

}  // namespace annulus::calibration
