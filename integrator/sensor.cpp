#include "integrator/sensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <numbers>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/sensor_tables.hpp"
#include "kernels/pixel_geometry.hpp"

namespace annulus::integrator {
namespace {

const detail::Material& material_named(std::string_view name) {
  const auto lower = [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  };
  const auto is_named = [&](const detail::Material& material) {
    return std::ranges::equal(material.name, name, {}, lower, lower);
  };
  const auto found = std::ranges::find_if(detail::materials, is_named);
  if (found != detail::materials.end()) return *found;
  std::string message = fmt::format("unknown sensor material '{}'; expected one of", name);
  for (const detail::Material& material : detail::materials) {
    message += &material == &detail::materials.front() ? " " : ", ";
    message += material.name;
  }
  throw InputError(message);
}

/// Where photons that enter at `angle_rad` are absorbed, in the mean, off their point of entry and in the sensor's
/// plane.
double displacement_m(double attenuation, double thickness_m, double angle_rad) {
  const double thick_m = std::sin(angle_rad) / attenuation;
  if (thickness_m == 0.0) return thick_m;
  const double optical_length = attenuation * thickness_m / std::cos(angle_rad);
  return thick_m * (1.0 - optical_length / std::expm1(optical_length));
}

}  // namespace

std::vector<std::string> sensor_materials() {
  std::vector<std::string> names;
  for (const detail::Material& material : detail::materials) names.emplace_back(material.name);
  return names;
}

double attenuation_per_m(std::string_view material_name, double energy_kev) {
  const detail::Material& material = material_named(material_name);
  const auto table = material.attenuation;
  const double lowest_kev = table.front().energy_kev;
  const double highest_kev = table.back().energy_kev;
  if (!(energy_kev >= lowest_kev && energy_kev < highest_kev)) {
    throw InputError(fmt::format("sensor {}: found an energy of {} keV, expected {} to {} keV", material.name,
                                 energy_kev, lowest_kev, highest_kev));
  }
  const auto above = std::ranges::upper_bound(table, energy_kev, {}, &detail::Attenuation::energy_kev);
  const auto below = std::prev(above);
  const double slope =
      (above->mass_attenuation_cm2_per_g - below->mass_attenuation_cm2_per_g) / (above->energy_kev - below->energy_kev);
  const double mass_attenuation = below->mass_attenuation_cm2_per_g + slope * (energy_kev - below->energy_kev);
  constexpr double per_m_of_per_cm = 100.0;
  return mass_attenuation * material.density_g_per_cm3 * per_m_of_per_cm;
}

double sensor_transmission(const Sensor& sensor, double energy_kev) {
  const double attenuation = attenuation_per_m(sensor.material, energy_kev);
  return sensor.thickness_m == 0.0 ? 0.0 : std::exp(-attenuation * sensor.thickness_m);
}

std::vector<double> parallax_correction_m(const Sensor& sensor, double energy_kev, double distance_m) {
  ANNULUS_EXPECT(distance_m > 0.0 && sensor.thickness_m >= 0.0);
  const double attenuation = attenuation_per_m(sensor.material, energy_kev);
  constexpr std::size_t last = kernels::parallax_nodes - 1;
  // At the last node, grazing incidence, the radius is infinite: it is left out here and has its limit below.
  std::vector<double> entered_m(last);  // distance from the point of normal incidence
  std::vector<double> seen_m(last);
  for (std::size_t node = 0; node < last; ++node) {
    const double angle_rad = static_cast<double>(node) * (std::numbers::pi / 2.0) / static_cast<double>(last);
    entered_m[node] = distance_m * std::tan(angle_rad);
    seen_m[node] = entered_m[node] + displacement_m(attenuation, sensor.thickness_m, angle_rad);
  }
  std::vector<double> correction_m(kernels::parallax_nodes, 0.0);
  // The inverse of entered -> seen at the nodes' own radii, linear between the nodes.
  std::size_t below = 0;
  for (std::size_t node = 1; node < last; ++node) {
    const double radius_m = entered_m[node];
    while (seen_m[below + 1] <= radius_m) ++below;  // ends: seen_m[node] > radius_m
    const double slope = (entered_m[below + 1] - entered_m[below]) / (seen_m[below + 1] - seen_m[below]);
    correction_m[node] = entered_m[below] + slope * (radius_m - seen_m[below]) - radius_m;
  }
  correction_m[last] = -1.0 / attenuation;
  return correction_m;
}

}  // namespace annulus::integrator
