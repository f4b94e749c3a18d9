// Units and constants: the one place where physical quantities change their unit.
#pragma once

#include <cstdint>
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

/// Whose axes a quantity is measured in; a SampleFrame follows from it and from how the sample lies.
enum class UnitFrame : std::uint8_t {
  laboratory,
  turned_image,    ///< the laboratory's, after the sample's orientation
  exit_direction,  ///< the sample's, as pyFAI has it for exit angles
  scattering,      ///< the sample's, as pyFAI has it for scattering vectors
};

/// A unit of the radial or azimuthal axis, under pyFAI's name.
struct RadialUnit {
  std::string_view name;       ///< "2th_deg"
  kernels::RadialSpace space;  ///< what is binned
  double scale;                ///< value in this unit = scale * internal value
  std::string_view axis_name;  ///< dataset name in the volume: "2th", "q", "r"
  std::string_view symbol;     ///< "deg", "rad", "nm^-1", "A^-1", "mm", "m"
  std::string_view label;      ///< long name for plots
  bool needs_wavelength;
  bool may_be_negative;  ///< else the bins start at 0 at the lowest
  UnitFrame frame = UnitFrame::laboratory;
};

/// How the sample lies in the beam, for the units of grazing incidence and fibres.
struct SamplePose {
  double incident_angle_rad = 0.0;  ///< of the beam to the surface: pitch, about the horizontal axis
  double tilt_angle_rad = 0.0;      ///< of the horizon: roll, about the beam
  int orientation = 1;              ///< 1 to 8, of the sample in the image, as EXIF numbers turned photographs

  bool operator==(const SamplePose&) const = default;
};

/// Any of pyFAI's units, radial and azimuthal: both axes take all of them. Throws InputError naming those there are.
[[nodiscard]] const RadialUnit& radial_unit(std::string_view name);
[[nodiscard]] const std::vector<RadialUnit>& radial_units();

/// The rotation into the axes that a unit is measured in: first the sample's orientation, then the incident angle, then
/// the tilt. pyFAI turns scattering vectors the opposite way to exit directions, and so does this.
[[nodiscard]] kernels::SampleFrame sample_frame(UnitFrame frame, const SamplePose& pose);

}  // namespace annulus::integrator
