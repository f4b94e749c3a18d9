// Calibrants: the lattice spacings of reference compounds, by name, from a .D file, from a cell or as a list.
#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
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

/// Edges in Angstrom and angles in degrees of a crystal's cell.
struct UnitCell {
  double a_angstrom = 0.0;
  double b_angstrom = 0.0;
  double c_angstrom = 0.0;
  double alpha_deg = 90.0;
  double beta_deg = 90.0;
  double gamma_deg = 90.0;
};

/// A compound known by name. Names as in pyFAI 2026.9.0, whose spacings these are to 1e-6; rings that its lists hold
/// twice are one ring here. Without regard to case where that is clear. Throws InputError naming what is known.
[[nodiscard]] Calibrant make_calibrant(std::string_view name);

/// The names that make_calibrant() knows, sorted.
[[nodiscard]] std::vector<std::string> calibrant_names();

/// A .D file as pyFAI has them, old or new: one spacing in Angstrom a line (or several), what follows '#' being "(h k
/// l)" and the multiplicity; header lines "# Calibrant: description (name)" and "# Ref: ...". Spacings may come in any
/// order; those within 1e-8 of each other make one ring. Throws one InputError naming `source` and the lines that hold
/// no spacing.
[[nodiscard]] Calibrant parse_calibrant(std::string_view text, std::string_view source);
[[nodiscard]] Calibrant read_calibrant(const std::filesystem::path& file);

/// Every reflection of the cell down to `d_min_angstrom`, at most `max_rings` of the largest, that `symmetry` does not
/// extinguish: a space-group symbol, a centring letter or "diamond", see space_group.hpp. Throws InputError for a cell
/// that is none, for a symmetry that is not understood, and when no ring is left.
[[nodiscard]] Calibrant calibrant_of_cell(std::string_view name, const UnitCell& cell, std::string_view symmetry,
                                          double d_min_angstrom,
                                          std::size_t max_rings = std::numeric_limits<std::size_t>::max());

/// "5.4116 Fm-3m": the edges that the symmetry leaves free, then the symmetry. One number is a cubic cell, two are a
/// and c (hexagonal with a symbol of a trigonal or hexagonal group, else tetragonal), three an orthorhombic cell, four
/// a, b, c and beta, six the whole cell; separated by blanks or commas. Throws InputError.
struct CellDescription {
  UnitCell cell;
  std::string symmetry;
};
[[nodiscard]] CellDescription parse_cell(std::string_view text);

/// A calibrant of nothing but its spacings, in any order. Throws InputError when one is not above 0 or there is none.
[[nodiscard]] Calibrant calibrant_of_spacings(std::string_view name, std::span<const double> d_spacings_angstrom);

}  // namespace annulus::calibration
