#include "simulation/powder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <numbers>

#include "base/errors.hpp"
#include "integrator/units.hpp"

namespace annulus::simulation {
namespace {

using integrator::degrees_of;
using integrator::radians_of;
using std::numbers::pi;

/// The atom at each of the four places of a face-centred cell.
void add_face_centred(std::vector<Atom>& atoms, Atom atom) {
  for (const auto& [x, y, z] : {std::array{0.0, 0.0, 0.0}, {0.0, 0.5, 0.5}, {0.5, 0.0, 0.5}, {0.5, 0.5, 0.0}}) {
    atoms.push_back({atom.x + x, atom.y + y, atom.z + z, atom.electrons});
  }
}

/// The atom at each of the three places of a rhombohedral cell on hexagonal axes (obverse setting).
void add_rhombohedral(std::vector<Atom>& atoms, Atom atom) {
  constexpr double third = 1.0 / 3.0;
  for (const auto& [x, y, z] :
       {std::array{0.0, 0.0, 0.0}, {2.0 * third, third, third}, {third, 2.0 * third, 2.0 * third}}) {
    atoms.push_back({atom.x + x, atom.y + y, atom.z + z, atom.electrons});
  }
}

/// Pm-3m; a as certified for NIST SRM 660c; position of boron as measured there.
Crystal lab6() {
  Crystal crystal{.name = "LaB6", .kind = CellKind::cubic, .a_angstrom = 4.156826, .c_angstrom = 4.156826, .atoms = {}};
  constexpr double boron = 0.1993;
  crystal.atoms.push_back({0.0, 0.0, 0.0, 57.0});
  for (const double x : {boron, 1.0 - boron}) {
    crystal.atoms.push_back({x, 0.5, 0.5, 5.0});
    crystal.atoms.push_back({0.5, x, 0.5, 5.0});
    crystal.atoms.push_back({0.5, 0.5, x, 5.0});
  }
  return crystal;
}

/// Fm-3m, fluorite; a of NIST SRM 674b.
Crystal ceo2() {
  Crystal crystal{.name = "CeO2", .kind = CellKind::cubic, .a_angstrom = 5.411651, .c_angstrom = 5.411651, .atoms = {}};
  add_face_centred(crystal.atoms, {0.0, 0.0, 0.0, 58.0});
  add_face_centred(crystal.atoms, {0.25, 0.25, 0.25, 8.0});
  add_face_centred(crystal.atoms, {0.75, 0.75, 0.75, 8.0});
  return crystal;
}

/// Fm-3m; a at 298 K.
Crystal nickel() {
  Crystal crystal{.name = "Ni", .kind = CellKind::cubic, .a_angstrom = 3.5238, .c_angstrom = 3.5238, .atoms = {}};
  add_face_centred(crystal.atoms, {0.0, 0.0, 0.0, 28.0});
  return crystal;
}

/// Fd-3m, diamond; a as certified for NIST SRM 640e.
Crystal silicon() {
  Crystal crystal{.name = "Si", .kind = CellKind::cubic, .a_angstrom = 5.431179, .c_angstrom = 5.431179, .atoms = {}};
  add_face_centred(crystal.atoms, {0.0, 0.0, 0.0, 14.0});
  add_face_centred(crystal.atoms, {0.25, 0.25, 0.25, 14.0});
  return crystal;
}

/// R-3c, corundum on hexagonal axes; cell as certified for NIST SRM 676a.
Crystal corundum() {
  Crystal crystal{
      .name = "alpha_Al2O3", .kind = CellKind::hexagonal, .a_angstrom = 4.759091, .c_angstrom = 12.991779, .atoms = {}};
  constexpr double aluminium = 0.35216;
  constexpr double oxygen = 0.30624;
  for (const double z : {aluminium, 0.5 - aluminium, 1.0 - aluminium, 0.5 + aluminium}) {
    add_rhombohedral(crystal.atoms, {0.0, 0.0, z, 13.0});
  }
  for (const auto& [sign, z] : {std::array{1.0, 0.25}, {-1.0, 0.75}}) {
    const double x = sign * oxygen;
    add_rhombohedral(crystal.atoms, {x, 0.0, z, 8.0});
    add_rhombohedral(crystal.atoms, {0.0, x, z, 8.0});
    add_rhombohedral(crystal.atoms, {-x, -x, z, 8.0});
  }
  return crystal;
}

/// 1 / d^2 in 1/Angstrom^2.
double inverse_d2(const Crystal& crystal, int h, int k, int l) {
  const double a2 = crystal.a_angstrom * crystal.a_angstrom;
  if (crystal.kind == CellKind::cubic) return (h * h + k * k + l * l) / a2;
  return 4.0 * (h * h + h * k + k * k) / (3.0 * a2) + l * l / (crystal.c_angstrom * crystal.c_angstrom);
}

/// |F|^2 with the form factor of the header, in electrons^2.
double structure_factor2(const Crystal& crystal, int h, int k, int l, double s2) {
  std::complex<double> sum = 0.0;
  for (const Atom& atom : crystal.atoms) {
    sum += std::polar(atom.electrons, 2.0 * pi * (h * atom.x + k * atom.y + l * atom.z));
  }
  const double form_factor = std::exp(-0.4 * s2) / (1.0 + s2 / (0.6 * 0.6));
  return std::norm(sum) * form_factor * form_factor;
}

}  // namespace

Crystal make_crystal(std::string_view name) {
  if (name == "LaB6") return lab6();
  if (name == "CeO2") return ceo2();
  if (name == "Ni") return nickel();
  if (name == "Si") return silicon();
  if (name == "alpha_Al2O3") return corundum();
  throw InputError(fmt::format("unknown crystal '{}': expected LaB6, CeO2, Ni, Si or alpha_Al2O3", name));
}

double two_theta_deg(double d_angstrom, double wavelength_angstrom) {
  return degrees_of(2.0 * std::asin(wavelength_angstrom / (2.0 * d_angstrom)));
}

std::vector<Line> powder_lines(const Crystal& crystal, double wavelength_angstrom, double two_theta_max_rad) {
  const double d_min_angstrom = wavelength_angstrom / (2.0 * std::sin(0.5 * std::min(two_theta_max_rad, pi)));
  const double inverse_d2_max = 1.0 / (d_min_angstrom * d_min_angstrom);
  // |h| <= a / d holds for both kinds of cell: in a hexagonal one, d of (h k 0) is largest, a / |h|, at k = -h / 2.
  const int h_max = static_cast<int>(crystal.a_angstrom / d_min_angstrom);
  const int l_max = static_cast<int>(crystal.c_angstrom / d_min_angstrom);

  struct Reflection {
    double inverse_d2;
    double intensity;
  };
  std::vector<Reflection> reflections;
  for (int h = -h_max; h <= h_max; ++h) {
    for (int k = -h_max; k <= h_max; ++k) {
      for (int l = -l_max; l <= l_max; ++l) {
        const double q2 = inverse_d2(crystal, h, k, l);
        if (q2 == 0.0 || q2 > inverse_d2_max) continue;
        const double s2 = 0.25 * q2;
        const double sine2 = s2 * wavelength_angstrom * wavelength_angstrom;
        if (sine2 >= 1.0) continue;
        const double lorentz = 1.0 / (sine2 * std::sqrt(1.0 - sine2));
        reflections.push_back({q2, structure_factor2(crystal, h, k, l, s2) * lorentz});
      }
    }
  }
  std::sort(reflections.begin(), reflections.end(),
            [](const Reflection& left, const Reflection& right) { return left.inverse_d2 < right.inverse_d2; });

  std::vector<Line> lines;
  double last_inverse_d2 = 0.0;
  double strongest = 0.0;
  for (const Reflection& reflection : reflections) {
    // Equivalent reflections differ by rounding alone; others so near would make one line just as well.
    if (lines.empty() || reflection.inverse_d2 > last_inverse_d2 * (1.0 + 1e-9)) {
      lines.push_back({1.0 / std::sqrt(reflection.inverse_d2), 0.0});
      last_inverse_d2 = reflection.inverse_d2;
    }
    lines.back().intensity += reflection.intensity;
    strongest = std::max(strongest, lines.back().intensity);
  }
  std::erase_if(lines, [strongest](const Line& line) { return line.intensity < 1e-4 * strongest; });
  for (Line& line : lines) line.intensity /= strongest;
  return lines;
}

double LineWidth::fwhm_deg(double two_theta_deg) const {
  const double tangent = std::tan(0.5 * radians_of(two_theta_deg));
  return std::sqrt(u * tangent * tangent + v * tangent + w);
}

std::vector<double> powder_pattern(const std::vector<Line>& lines, double wavelength_angstrom, const LineWidth& width,
                                   const TwoThetaGrid& grid) {
  constexpr double lorentzian = 0.2;
  std::vector<double> pattern(grid.channels, 0.0);
  for (const Line& line : lines) {
    const double centre_deg = two_theta_deg(line.d_angstrom, wavelength_angstrom);
    const double fwhm_deg = width.fwhm_deg(centre_deg);
    const double gauss_height =
        (1.0 - lorentzian) * line.intensity / fwhm_deg * 2.0 * std::sqrt(std::numbers::ln2 / pi);
    const double lorentz_height = lorentzian * line.intensity / fwhm_deg * 2.0 / pi;
    for (std::size_t channel = 0; channel < grid.channels; ++channel) {
      const double distance = 2.0 * (static_cast<double>(channel) * grid.step_deg - centre_deg) / fwhm_deg;
      const double square = distance * distance;
      pattern[channel] += lorentz_height / (1.0 + square);
      // Beyond 10 half widths the Gaussian is below 2^-100.
      if (square < 100.0) pattern[channel] += gauss_height * std::exp2(-square);
    }
  }
  const double highest = pattern.empty() ? 0.0 : *std::max_element(pattern.begin(), pattern.end());
  if (highest > 0.0) {
    for (double& value : pattern) value /= highest;
  }
  return pattern;
}

}  // namespace annulus::simulation
