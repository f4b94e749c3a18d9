// Powders: the d-spacings and intensities of a crystal's Debye-Scherrer lines, and the pattern they make.
//
// Nothing is a table of lines: d follows from the cell, absences and intensities from the atoms' positions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace annulus::simulation {

/// An atom of the unit cell at fractional coordinates, scattering as its electrons do.
struct Atom {
  double x = 0.0;
  double y = 0.0;
  double z = 0.0;
  double electrons = 0.0;
};

enum class CellKind : unsigned char { cubic, hexagonal };

/// A crystal by its unit cell.
struct Crystal {
  std::string name;
  CellKind kind = CellKind::cubic;
  double a_angstrom = 0.0;
  double c_angstrom = 0.0;  ///< = a for a cubic cell
  std::vector<Atom> atoms;  ///< all atoms of the cell
};

/// "LaB6", "CeO2", "Ni", "Si" or "alpha_Al2O3". Throws InputError naming those.
[[nodiscard]] Crystal make_crystal(std::string_view name);

/// A Debye-Scherrer line: all reflections of one d.
struct Line {
  double d_angstrom = 0.0;
  double intensity = 0.0;  ///< per unit length of the ring; the strongest line has 1
};

/// The lines with 2theta up to `two_theta_max_rad`, by falling d; those below 1e-4 of the strongest are left out, and
/// so are the extinct ones.
///
/// Intensity = sum over the reflections of |F|^2 / (sin^2 theta cos theta), with F = sum_atoms f exp(2 pi i h.x) and a
/// rough f = electrons exp(-0.4 s^2) / (1 + (s / 0.6)^2), s = 1 / (2 d) in 1/Angstrom: near enough to what is measured
/// to look like it, not a reference.
[[nodiscard]] std::vector<Line> powder_lines(const Crystal& crystal, double wavelength_angstrom,
                                             double two_theta_max_rad);

/// 2theta in degrees of lattice spacing d (Bragg); d must be at least half the wavelength.
[[nodiscard]] double two_theta_deg(double d_angstrom, double wavelength_angstrom);

/// FWHM^2 = u tan^2 theta + v tan theta + w (Caglioti, Paoletti and Ricci, doi:10.1016/0029-554X(58)90029-7), deg^2.
struct LineWidth {
  double u = 0.0;
  double v = 0.0;
  double w = 0.0;

  [[nodiscard]] double fwhm_deg(double two_theta_deg) const;
};

/// Equidistant 2theta: channel k is at k * step_deg.
struct TwoThetaGrid {
  double step_deg = 0.0;
  std::size_t channels = 0;
};

/// The pattern of the lines on the grid, [channels], scaled so that the highest channel has 1; all zero without lines.
/// Profile: pseudo-Voigt, a fifth Lorentzian; a line's intensity is its area.
[[nodiscard]] std::vector<double> powder_pattern(const std::vector<Line>& lines, double wavelength_angstrom,
                                                 const LineWidth& width, const TwoThetaGrid& grid);

}  // namespace annulus::simulation
