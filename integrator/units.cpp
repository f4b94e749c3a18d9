#include "integrator/units.hpp"

#include <algorithm>

#include "base/errors.hpp"

namespace annulus::integrator {

const std::vector<RadialUnit>& radial_units() {
  using kernels::RadialSpace;
  // Names, scales and labels are pyFAI's (units.py): viewers look for them in the volume.
  static const std::vector<RadialUnit> units = {
      {"2th_deg", RadialSpace::two_theta, 180.0 / std::numbers::pi, "2th", "deg",
       R"(Scattering angle $2\theta$ ($^{o}$))"},
      {"2th_rad", RadialSpace::two_theta, 1.0, "2th", "rad", R"(Scattering angle $2\theta$ ($rad$))"},
      {"q_nm^-1", RadialSpace::q, 1.0, "q", "nm^-1", R"(Scattering vector $q$ ($nm^{-1}$))"},
      {"q_A^-1", RadialSpace::q, 0.1, "q", "A^-1", R"(Scattering vector $q$ ($\AA^{-1}$))"},
      {"r_mm", RadialSpace::r, 1000.0, "r", "mm", R"(Radius $r$ ($mm$))"},
      {"r_m", RadialSpace::r, 1.0, "r", "m", R"(Radius $r$ ($m$))"},
  };
  return units;
}

const RadialUnit& radial_unit(std::string_view name) {
  const std::vector<RadialUnit>& units = radial_units();
  const auto found = std::ranges::find(units, name, &RadialUnit::name);
  if (found != units.end()) return *found;
  std::string message = "unknown radial unit '" + std::string(name) + "'; expected one of";
  for (const RadialUnit& unit : units) {
    message += unit.name == units.front().name ? " " : ", ";
    message += unit.name;
  }
  throw InputError(message);
}

}  // namespace annulus::integrator
