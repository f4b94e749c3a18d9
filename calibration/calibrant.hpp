// Calibrants: the lattice spacings of reference compounds, by name, from a .D file, from a cell or as a list.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace annulus::calibration {

/// A reference compound.
struct Calibrant {
  std::string name;
  std::vector<double> d_spacings_m;      ///< falling, one a ring; ring 0 is the innermost
  std::vector<std::string> reflections;  ///< what makes each ring, "(1 1 1) x8"; empty when not known
  std::string reference;                 ///< where the spacings come from; "" = not told

  /// 2theta of each ring in rad at this wavelength; ends before the first ring that Bragg's law forbids.
  [[nodiscard]] std::vector<double> two_theta_rad(double wavelength_m) const;
};

}  // namespace annulus::calibration
