#include "calibration/calibrant.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>
#include <tuple>
#include <utility>

#include "base/errors.hpp"
#include "base/problems.hpp"
#include "calibration/calibrant_table.hpp"
#include "calibration/space_group.hpp"
#include "integrator/entries.hpp"
#include "integrator/units.hpp"

namespace annulus::calibration {
namespace {

using integrator::detail::shown;
using integrator::detail::trimmed;

constexpr double angstrom_m = 1e-10;

/// Spacings that agree to this make one ring: what rounding leaves of equal ones, and far below what any detector tells
/// apart.
constexpr double same_ring = 1e-8;

/// 1 / d^2 = h.G.h for a cell: the reciprocal metric G in 1/Angstrom^2, by its entries 11, 22, 33, 12, 13, 23.
class Metric {
 public:
  explicit Metric(const UnitCell& cell) {
    const auto cosine = [](double angle_deg) {
      // Exactly 0 at a right angle, so that equal spacings come out equal.
      return angle_deg == 90.0 ? 0.0 : std::cos(integrator::radians_of(angle_deg));
    };
    const double cos1 = cosine(cell.alpha_deg);
    const double cos2 = cosine(cell.beta_deg);
    const double cos3 = angle_is_120(cell) ? -0.5 : cosine(cell.gamma_deg);
    const double volume2 = 1.0 - cos1 * cos1 - cos2 * cos2 - cos3 * cos3 + 2.0 * cos1 * cos2 * cos3;
    valid_ = volume2 > 0.0;
    const double a = cell.a_angstrom;
    const double b = cell.b_angstrom;
    const double c = cell.c_angstrom;
    entries_ = {(1.0 - cos1 * cos1) / (a * a * volume2),  (1.0 - cos2 * cos2) / (b * b * volume2),
                (1.0 - cos3 * cos3) / (c * c * volume2),  (cos1 * cos2 - cos3) / (a * b * volume2),
                (cos1 * cos3 - cos2) / (a * c * volume2), (cos2 * cos3 - cos1) / (b * c * volume2)};
  }

  [[nodiscard]] bool valid() const { return valid_; }
  [[nodiscard]] double inverse_d2(int h, int k, int l) const {
    return entries_[0] * h * h + entries_[1] * k * k + entries_[2] * l * l +
           2.0 * (entries_[3] * h * k + entries_[4] * h * l + entries_[5] * k * l);
  }

 private:
  static bool angle_is_120(const UnitCell& cell) { return cell.gamma_deg == 120.0; }

  std::array<double, 6> entries_{};
  bool valid_ = false;
};

void check_cell(const UnitCell& cell, std::string_view name) {
  Problems problems;
  for (const auto& [edge, value] :
       {std::pair{"a", cell.a_angstrom}, std::pair{"b", cell.b_angstrom}, std::pair{"c", cell.c_angstrom}}) {
    if (!(value > 0.1 && value < 1e4)) {
      problems.add(fmt::format("{}: cell edge {}: found {}, expected 0.1 to 10000 Angstrom", name, edge, value));
    }
  }
  for (const auto& [angle, value] :
       {std::pair{"alpha", cell.alpha_deg}, std::pair{"beta", cell.beta_deg}, std::pair{"gamma", cell.gamma_deg}}) {
    if (!(value > 0.0 && value < 180.0)) {
      problems.add(fmt::format("{}: cell angle {}: found {}, expected between 0 and 180 degrees", name, angle, value));
    }
  }
  problems.throw_if_any();
  if (!Metric(cell).valid()) {
    throw InputError(fmt::format("{}: cell angles {}, {}, {} degrees make no cell", name, cell.alpha_deg, cell.beta_deg,
                                 cell.gamma_deg));
  }
}

/// Which of a ring's reflections names it: no minus sign if possible, then the largest indices first.
bool names_better(const std::array<int, 3>& left, const std::array<int, 3>& right) {
  const auto rank = [](const std::array<int, 3>& index) {
    const auto negative = std::count_if(index.begin(), index.end(), [](int value) { return value < 0; });
    return std::tuple(negative, -index[0], -index[1], -index[2]);
  };
  return rank(left) < rank(right);
}

struct Ring {
  double inverse_d2 = 0.0;
  std::array<int, 3> index{};
  std::uint32_t multiplicity = 0;
};

/// All rings down to d_min, innermost first.
std::vector<Ring> rings_of(const UnitCell& cell, const SpaceGroup& group, double d_min_angstrom) {
  const Metric metric(cell);
  // |h| <= a / d for every cell: h is the projection of the reflection's vector, 1 / d long, on edge a, times a.
  const std::array<int, 3> highest{static_cast<int>(cell.a_angstrom / d_min_angstrom),
                                   static_cast<int>(cell.b_angstrom / d_min_angstrom),
                                   static_cast<int>(cell.c_angstrom / d_min_angstrom)};
  constexpr double most = 1e8;  // some seconds
  if (8.0 * highest[0] * highest[1] * highest[2] > most) {
    throw InputError(fmt::format("a cell of {} x {} x {} Angstrom has too many reflections down to {} Angstrom",
                                 cell.a_angstrom, cell.b_angstrom, cell.c_angstrom, d_min_angstrom));
  }
  const double limit = 1.0 / (d_min_angstrom * d_min_angstrom);
  std::vector<Ring> reflections;
  // Half of the reflections: (-h -k -l) stands where (h k l) does.
  for (int h = 0; h <= highest[0]; ++h) {
    for (int k = h == 0 ? 0 : -highest[1]; k <= highest[1]; ++k) {
      for (int l = h == 0 && k == 0 ? 1 : -highest[2]; l <= highest[2]; ++l) {
        const double q2 = metric.inverse_d2(h, k, l);
        if (q2 > limit || !group.allows(h, k, l)) continue;
        reflections.push_back({q2, {h, k, l}, 2});
      }
    }
  }
  std::sort(reflections.begin(), reflections.end(), [](const Ring& left, const Ring& right) {
    return std::pair(left.inverse_d2, left.index) < std::pair(right.inverse_d2, right.index);
  });
  std::vector<Ring> rings;
  for (const Ring& reflection : reflections) {
    if (rings.empty() || reflection.inverse_d2 > rings.back().inverse_d2 * (1.0 + 2.0 * same_ring)) {
      rings.push_back(reflection);
      continue;
    }
    rings.back().multiplicity += reflection.multiplicity;
    if (names_better(reflection.index, rings.back().index)) rings.back().index = reflection.index;
  }
  return rings;
}

std::string text_of(const std::array<int, 3>& index) { return fmt::format("({} {} {})", index[0], index[1], index[2]); }

Calibrant calibrant_of_entry(const CompoundEntry& entry) {
  Calibrant calibrant;
  switch (entry.source) {
    case RingSource::symmetry:
      calibrant = calibrant_of_cell(entry.name, entry.cell, entry.symmetry, entry.d_min_angstrom);
      break;
    case RingSource::indices: {
      const Metric metric(entry.cell);
      for (const std::array<int, 3>& index : entry.indices) {
        calibrant.d_spacings_m.push_back(angstrom_m / std::sqrt(metric.inverse_d2(index[0], index[1], index[2])));
        calibrant.reflections.push_back(text_of(index));
      }
      break;
    }
    case RingSource::spacings: calibrant = calibrant_of_spacings(entry.name, entry.spacings_angstrom); break;
    case RingSource::lamellae:
      for (std::uint32_t order = 1; order <= entry.orders; ++order) {
        calibrant.d_spacings_m.push_back(entry.cell.c_angstrom / order * angstrom_m);
        calibrant.reflections.push_back(text_of({0, 0, static_cast<int>(order)}));
      }
      break;
  }
  calibrant.name = entry.name;
  calibrant.reference = entry.reference;
  return calibrant;
}

bool same_letters(std::string_view left, std::string_view right) {
  return integrator::detail::lower(left) == integrator::detail::lower(right);
}

/// Rings found in a list: sorted, those of one spacing joined.
void append_sorted(std::vector<std::pair<double, std::string>> lines, Calibrant& calibrant) {
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& left, const auto& right) { return left.first > right.first; });
  bool any_reflection = false;
  for (auto& [d_angstrom, reflection] : lines) {
    const double d_m = d_angstrom * angstrom_m;
    any_reflection = any_reflection || !reflection.empty();
    if (!calibrant.d_spacings_m.empty() && d_m > calibrant.d_spacings_m.back() * (1.0 - same_ring)) {
      std::string& known = calibrant.reflections.back();
      if (!reflection.empty()) known += (known.empty() ? "" : " ") + reflection;
      continue;
    }
    calibrant.d_spacings_m.push_back(d_m);
    calibrant.reflections.push_back(std::move(reflection));
  }
  if (!any_reflection) calibrant.reflections.clear();
}

/// "(h k l)" of what follows '#' in a line, with its multiplicity: "(1 1 1) x8"; "" when there is none.
std::string reflection_of(std::string_view comment) {
  const std::size_t begin = comment.find('(');
  const std::size_t end = comment.find(')');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return "";
  std::string indices;
  for (const char letter : comment.substr(begin + 1, end - begin - 1)) {
    const char part = letter == ',' ? ' ' : letter;
    if (part == ' ' && (indices.empty() || indices.back() == ' ')) continue;
    indices.push_back(part);
  }
  std::string text = fmt::format("({})", trimmed(indices));
  const std::string_view rest = trimmed(comment.substr(end + 1));
  std::size_t digits = 0;
  while (digits < rest.size() && std::isdigit(static_cast<unsigned char>(rest[digits])) != 0) ++digits;
  if (digits > 0) text += fmt::format(" x{}", rest.substr(0, digits));
  return text;
}

/// "Ceria (CeO2)" names CeO2: what stands in the outermost brackets, or all of it.
std::string name_in(std::string_view description) {
  const std::size_t begin = description.find('(');
  const std::size_t end = description.rfind(')');
  if (begin == std::string_view::npos || end == std::string_view::npos || end <= begin + 1) {
    return std::string(description);
  }
  return std::string(trimmed(description.substr(begin + 1, end - begin - 1)));
}

std::vector<std::string_view> words_of(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return words;
    const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
}

}  // namespace

std::vector<double> Calibrant::two_theta_rad(double wavelength_m) const {
  std::vector<double> angles;
  for (const double d_m : d_spacings_m) {
    const double sine = wavelength_m / (2.0 * d_m);
    if (sine > 1.0) break;
    angles.push_back(2.0 * std::asin(sine));
  }
  return angles;
}

Calibrant make_calibrant(std::string_view name) {
  for (const CompoundEntry& entry : compounds()) {
    if (entry.name == name) return calibrant_of_entry(entry);
  }
  for (const CompoundEntry& entry : compounds()) {
    if (same_letters(entry.name, name)) return calibrant_of_entry(entry);
  }
  throw InputError(fmt::format("calibrant {} is not known: expected a .D file or one of {}", shown(name),
                               fmt::join(calibrant_names(), ", ")));
}

std::vector<std::string> calibrant_names() {
  std::vector<std::string> names;
  for (const CompoundEntry& entry : compounds()) names.emplace_back(entry.name);
  return names;
}

Calibrant parse_calibrant(std::string_view text, std::string_view source) {
  constexpr std::string_view expected = "a calibrant's list of spacings (.D)";
  text = integrator::detail::plain_text(text, source, expected);
  Calibrant calibrant;
  calibrant.name = std::filesystem::path(source).stem().string();
  Problems problems;
  std::vector<std::pair<double, std::string>> lines;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    const std::size_t hash = std::min(line.find('#'), line.size());
    const std::string_view comment = hash < line.size() ? trimmed(line.substr(hash + 1)) : std::string_view();
    if (hash == 0) {
      if (!lines.empty()) continue;
      if (comment.starts_with("Calibrant:")) calibrant.name = name_in(trimmed(comment.substr(10)));
      if (comment.starts_with("Ref:")) calibrant.reference = trimmed(comment.substr(4));
      continue;
    }
    for (const std::string_view word : words_of(line.substr(0, hash), " \t,;")) {
      const std::optional<double> d_angstrom = integrator::detail::number_of(word);
      if (!d_angstrom || !(*d_angstrom > 0.0)) {
        problems.add(
            fmt::format("{}, line {}: found {}, expected a spacing in Angstrom, above 0", source, number, shown(word)));
        continue;
      }
      lines.emplace_back(*d_angstrom, reflection_of(comment));
    }
  }
  problems.throw_if_any();
  if (lines.empty()) throw InputError(fmt::format("{}: no spacing in it: expected {}", source, expected));
  append_sorted(std::move(lines), calibrant);
  return calibrant;
}

Calibrant read_calibrant(const std::filesystem::path& file) {
  return parse_calibrant(integrator::detail::read_text_file(file, "a calibrant's list of spacings (.D)"),
                         file.string());
}

Calibrant calibrant_of_cell(std::string_view name, const UnitCell& cell, std::string_view symmetry,
                            double d_min_angstrom, std::size_t max_rings) {
  check_cell(cell, name);
  if (!(d_min_angstrom > 0.0)) {
    throw InputError(fmt::format("{}: smallest spacing: found {}, expected above 0 Angstrom", name, d_min_angstrom));
  }
  const bool rhombohedral_axes = cell.gamma_deg != 120.0 && cell.alpha_deg == cell.gamma_deg;
  const std::vector<Ring> rings = rings_of(cell, SpaceGroup(symmetry, rhombohedral_axes), d_min_angstrom);
  if (rings.empty()) {
    throw InputError(
        fmt::format("{}: no reflection of the cell has a spacing of {} Angstrom or more", name, d_min_angstrom));
  }
  Calibrant calibrant;
  calibrant.name = name;
  for (const Ring& ring : rings) {
    if (calibrant.d_spacings_m.size() == max_rings) break;
    calibrant.d_spacings_m.push_back(angstrom_m / std::sqrt(ring.inverse_d2));
    calibrant.reflections.push_back(fmt::format("{} x{}", text_of(ring.index), ring.multiplicity));
  }
  return calibrant;
}

CellDescription parse_cell(std::string_view text) {
  const auto refuse = [&](std::string_view expected) {
    throw InputError(fmt::format("cell {}: expected {}", shown(text), expected));
  };
  constexpr std::string_view usage =
      "1, 2, 3, 4 (a b c beta) or 6 numbers in Angstrom and degrees, then a space group or centring: '5.4116 Fm-3m'";
  std::vector<double> numbers;
  std::string symmetry;
  for (const std::string_view word : words_of(text, " \t,;")) {
    // "2 2 2" of a symbol are numbers as well: what follows the first word that is none belongs to the symbol.
    const std::optional<double> number = symmetry.empty() ? integrator::detail::number_of(word) : std::nullopt;
    if (number) {
      numbers.push_back(*number);
    } else {
      symmetry += (symmetry.empty() ? "" : " ") + std::string(word);
    }
  }
  if (numbers.empty() || symmetry.empty()) refuse(usage);
  const SpaceGroup group(symmetry);
  UnitCell cell;
  switch (numbers.size()) {
    case 1: cell = {numbers[0], numbers[0], numbers[0]}; break;
    case 2: {
      const bool hexagonal = group.lattice() == SpaceGroup::Lattice::hexagonal || same_letters(symmetry, "R");
      cell = {numbers[0], numbers[0], numbers[1], 90.0, 90.0, hexagonal ? 120.0 : 90.0};
      break;
    }
    case 3: cell = {numbers[0], numbers[1], numbers[2]}; break;
    case 4: cell = {numbers[0], numbers[1], numbers[2], 90.0, numbers[3], 90.0}; break;
    case 6: cell = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]}; break;
    default: refuse(usage);
  }
  if (group.lattice() == SpaceGroup::Lattice::hexagonal && numbers.size() == 1) {
    refuse("a and c with a trigonal or hexagonal group");
  }
  if (group.lattice() == SpaceGroup::Lattice::tetragonal && numbers.size() == 1)
    refuse("a and c with a tetragonal group");
  if (group.lattice() == SpaceGroup::Lattice::cubic && numbers.size() != 1 && numbers.size() != 6) {
    refuse("one edge with a cubic group");
  }
  check_cell(cell, fmt::format("cell {}", shown(text)));
  return {cell, symmetry};
}

Calibrant calibrant_of_spacings(std::string_view name, std::span<const double> d_spacings_angstrom) {
  if (d_spacings_angstrom.empty()) throw InputError(fmt::format("{}: no spacing given", name));
  std::vector<std::pair<double, std::string>> lines;
  for (const double d_angstrom : d_spacings_angstrom) {
    if (!(d_angstrom > 0.0) || !std::isfinite(d_angstrom)) {
      throw InputError(fmt::format("{}: spacing: found {}, expected above 0 Angstrom", name, d_angstrom));
    }
    lines.emplace_back(d_angstrom, "");
  }
  Calibrant calibrant;
  calibrant.name = name;
  append_sorted(std::move(lines), calibrant);
  return calibrant;
}

}  // namespace annulus::calibration
