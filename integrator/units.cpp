#include "integrator/units.hpp"

#include <algorithm>

#include "base/errors.hpp"

namespace annulus::integrator {

const std::vector<RadialUnit>& radial_units() {
  using enum kernels::RadialSpace;
  constexpr double degree = 180.0 / std::numbers::pi;
  // Names, scales and labels are pyFAI's (units.py): viewers look for them in the volume.
  static const std::vector<RadialUnit> units = {
      {"2th_deg", two_theta, degree, "2th", "deg", R"(Scattering angle $2\theta$ ($^{o}$))", false, false},
      {"2th_rad", two_theta, 1.0, "2th", "rad", R"(Scattering angle $2\theta$ ($rad$))", false, false},
      {"q_nm^-1", q, 1.0, "q", "nm^-1", R"(Scattering vector $q$ ($nm^{-1}$))", true, false},
      {"q_A^-1", q, 0.1, "q", "A^-1", R"(Scattering vector $q$ ($\AA^{-1}$))", true, false},
      {"r_mm", r, 1000.0, "r", "mm", R"(Radius $r$ ($mm$))", false, false},
      {"r_m", r, 1.0, "r", "m", R"(Radius $r$ ($m$))", false, false},
      {"d_m", d, 1.0, "d", "m", R"(d-spacing $d$ ($m$))", true, false},
      {"d_nm", d, 1e9, "d", "nm", R"(d-spacing $d$ ($nm$))", true, false},
      {"d_A", d, 1e10, "d", "A", R"(d-spacing $d$ ($\AA$))", true, false},
      {"d*2_A^-2", d_star_squared, 0.01, "d*2", "A^-2", R"(Recip. spacing sq. $d^{*2}$ ($\AA^{-2}$))", true, false},
      {"d*2_nm^-2", d_star_squared, 1.0, "d*2", "nm^-2", R"(Recip. spacing sq. $d^{*2}$ ($nm^{-2}$))", true, false},
      {"log10(q.m)_None", log10_q_m, 1.0, "log10(q.m)", "", R"(log10($q$.m))", true, true},
      {"log(q.nm)_None", log_q_nm, 1.0, "log(q.nm)", "", R"(log($q$.nm))", true, true},
      {"log(1+q.nm)_None", log1p_q_nm, 1.0, "log(1+q.nm)", "", R"(log(1+$q$.nm))", true, false},
      {"log(1+q.A)_None", log1p_q_a, 1.0, "log(1+q.A)", "", R"(log(1+$q$.$\AA$))", true, false},
      {"arcsinh(q.nm)_None", arcsinh_q_nm, 1.0, "arcsinh(q.nm)", "", R"(arcsinh($q$.nm))", true, false},
      {"arcsinh(q.A)_None", arcsinh_q_a, 1.0, "arcsinh(q.A)", "", R"(arcsinh($q$.$\AA$))", true, false},
      {"qx_nm^-1", qx, 1.0, "qx", "nm^-1", R"(Rectilinear scattering vector $q_x$ ($nm^{-1}$))", true, true},
      {"qy_nm^-1", qy, 1.0, "qy", "nm^-1", R"(Rectilinear scattering vector $q_y$ ($nm^{-1}$))", true, true},
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
