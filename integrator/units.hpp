// Units and constants: the one place where physical quantities change their unit.
#pragma once

#include <numbers>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/matrix.hpp"

namespace annulus::integrator {

/// h c / e in keV Angstrom: CODATA 2018, exact since the SI of 2019; hc[keV A] = h c / e * 1e7.
inline constexpr double hc_kev_angstrom = 12.398419843320026;

[[nodiscard]] constexpr double wavelength_m_of_energy_kev(double energy_kev) {
  return hc_kev_angstrom * 1e-10 / energy_kev;
}
[[nodiscard]] constexpr double degrees_of(double radians) { return radians * 180.0 / std::numbers::pi; }
[[nodiscard]] constexpr double radians_of(double degrees) { return degrees * std::numbers::pi / 180.0; }

/// A unit of the radial axis, under pyFAI's name.
struct RadialUnit {
  std::string_view name;       ///< "2th_deg"
  kernels::RadialSpace space;  ///< what is binned
  double scale;                ///< value in this unit = scale * internal value
  std::string_view axis_name;  ///< dataset name in the volume: "2th", "q", "r"
  std::string_view symbol;     ///< "deg", "rad", "nm^-1", "A^-1", "mm", "m"
  std::string_view label;      ///< long name for plots
  bool needs_wavelength;
  bool may_be_negative;  ///< else the bins start at 0 at the lowest
};

/// Throws InputError naming the units that there are.
[[nodiscard]] const RadialUnit& radial_unit(std::string_view name);
[[nodiscard]] const std::vector<RadialUnit>& radial_units();

}  // namespace annulus::integrator
