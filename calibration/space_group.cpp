#include "calibration/space_group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <utility>

#include "base/errors.hpp"

namespace annulus::calibration {
namespace {

using Direction = std::array<int, 3>;

/// The 230 groups in their standard settings, in the order of their numbers.
constexpr std::string_view standard_symbols =
    "P 1;P -1;P 1 2 1;P 1 21 1;C 1 2 1;P 1 m 1;P 1 c 1;C 1 m 1;C 1 c 1;P 1 2/m 1;P 1 21/m 1;C 1 2/m 1;P 1 2/c 1;"
    "P 1 21/c 1;C 1 2/c 1;P 2 2 2;P 2 2 21;P 21 21 2;P 21 21 21;C 2 2 21;C 2 2 2;F 2 2 2;I 2 2 2;I 21 21 21;"
    "P m m 2;P m c 21;P c c 2;P m a 2;P c a 21;P n c 2;P m n 21;P b a 2;P n a 21;P n n 2;C m m 2;C m c 21;"
    "C c c 2;A m m 2;A b m 2;A m a 2;A b a 2;F m m 2;F d d 2;I m m 2;I b a 2;I m a 2;P m m m;P n n n;P c c m;"
    "P b a n;P m m a;P n n a;P m n a;P c c a;P b a m;P c c n;P b c m;P n n m;P m m n;P b c n;P b c a;P n m a;"
    "C m c m;C m c a;C m m m;C c c m;C m m a;C c c a;F m m m;F d d d;I m m m;I b a m;I b c a;I m m a;P 4;P 41;"
    "P 42;P 43;I 4;I 41;P -4;I -4;P 4/m;P 42/m;P 4/n;P 42/n;I 4/m;I 41/a;P 4 2 2;P 4 21 2;P 41 2 2;P 41 21 2;"
    "P 42 2 2;P 42 21 2;P 43 2 2;P 43 21 2;I 4 2 2;I 41 2 2;P 4 m m;P 4 b m;P 42 c m;P 42 n m;P 4 c c;P 4 n c;"
    "P 42 m c;P 42 b c;I 4 m m;I 4 c m;I 41 m d;I 41 c d;P -4 2 m;P -4 2 c;P -4 21 m;P -4 21 c;P -4 m 2;P -4 c 2;"
    "P -4 b 2;P -4 n 2;I -4 m 2;I -4 c 2;I -4 2 m;I -4 2 d;P 4/m m m;P 4/m c c;P 4/n b m;P 4/n n c;P 4/m b m;"
    "P 4/m n c;P 4/n m m;P 4/n c c;P 42/m m c;P 42/m c m;P 42/n b c;P 42/n n m;P 42/m b c;P 42/m n m;P 42/n m c;"
    "P 42/n c m;I 4/m m m;I 4/m c m;I 41/a m d;I 41/a c d;P 3;P 31;P 32;R 3;P -3;R -3;P 3 1 2;P 3 2 1;P 31 1 2;"
    "P 31 2 1;P 32 1 2;P 32 2 1;R 3 2;P 3 m 1;P 3 1 m;P 3 c 1;P 3 1 c;R 3 m;R 3 c;P -3 1 m;P -3 1 c;P -3 m 1;"
    "P -3 c 1;R -3 m;R -3 c;P 6;P 61;P 65;P 62;P 64;P 63;P -6;P 6/m;P 63/m;P 6 2 2;P 61 2 2;P 65 2 2;P 62 2 2;"
    "P 64 2 2;P 63 2 2;P 6 m m;P 6 c c;P 63 c m;P 63 m c;P -6 m 2;P -6 c 2;P -6 2 m;P -6 2 c;P 6/m m m;P 6/m c c;"
    "P 63/m c m;P 63/m m c;P 2 3;F 2 3;I 2 3;P 21 3;I 21 3;P m -3;P n -3;F m -3;F d -3;I m -3;P a -3;I a -3;"
    "P 4 3 2;P 42 3 2;F 4 3 2;F 41 3 2;I 4 3 2;P 43 3 2;P 41 3 2;I 41 3 2;P -4 3 m;F -4 3 m;I -4 3 m;P -4 3 n;"
    "F -4 3 c;I -4 3 d;P m -3 m;P n -3 n;P m -3 n;P n -3 m;F m -3 m;F m -3 c;F d -3 m;F d -3 c;I m -3 m;I a -3 d";

/// Symbols of the groups 3 to 15 are monoclinic; from 195 on they are cubic.
constexpr std::size_t first_monoclinic = 3;
constexpr std::size_t last_monoclinic = 15;
constexpr std::size_t first_cubic = 195;

/// What is compared of a symbol: no blanks or underscores, lower case.
std::string compact(std::string_view symbol) {
  std::string key;
  for (const char letter : symbol) {
    if (letter == ' ' || letter == '_') continue;
    key.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(letter))));
  }
  return key;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char letter : text) {
    if (letter == ' ') {
      if (!word.empty()) words.push_back(std::exchange(word, {}));
    } else if (letter != '_') {
      word.push_back(letter);
    }
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

/// The standard symbol, with blanks, that is meant by a compact one.
std::optional<std::string> standard_symbol(std::string_view key) {
  std::size_t number = 1;
  for (std::size_t begin = 0; begin < standard_symbols.size(); ++number) {
    const std::size_t end = std::min(standard_symbols.find(';', begin), standard_symbols.size());
    const std::string_view symbol = standard_symbols.substr(begin, end - begin);
    begin = end + 1;
    if (compact(symbol) == key) return std::string(symbol);
    std::string other;
    if (number >= first_monoclinic && number <= last_monoclinic) {
      // "P21/c" for "P 1 21/c 1".
      const std::vector<std::string> words = split(symbol);
      other = compact(words[0] + words[2]);
    } else if (number >= first_cubic) {
      // "Fm3m", as it was written before 1983.
      other = compact(symbol);
      std::erase(other, '-');
      // -4 3 m stays what it is: its bar is not optional.
      if (symbol.find("-4") != std::string_view::npos) other.clear();
    }
    if (!other.empty() && other == key) return std::string(symbol);
  }
  return std::nullopt;
}

/// "Pbnm" or "P21/a" as words: a screw axis in it can only be 21.
std::vector<std::string> words_of_compact(std::string_view key) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < key.size();) {
    std::string word(1, key[at++]);
    if (words.empty()) {
      words.push_back(word);
      continue;
    }
    if (word == "-" && at < key.size()) word.push_back(key[at++]);
    if (word == "2" && at < key.size() && key[at] == '1') word.push_back(key[at++]);
    if (at + 1 < key.size() && key[at] == '/') {
      word.append(key.substr(at, 2));
      at += 2;
    }
    words.push_back(word);
  }
  return words;
}

bool is_rotation(std::string_view element) {
  return !element.empty() && (element[0] == '-' || std::isdigit(static_cast<unsigned char>(element[0])) != 0);
}

/// "m", "21", "-3", "42/n": a glide plane, or an axis with or without a plane across it.
bool is_element(std::string_view element) {
  constexpr std::string_view planes = "abcdemn";
  if (element.size() == 1 && planes.find(element[0]) != std::string_view::npos) return true;
  if (element.starts_with('-')) element.remove_prefix(1);
  if (element.empty() || element[0] < '1' || element[0] > '6') return false;
  element.remove_prefix(1);
  if (!element.empty() && element[0] >= '1' && element[0] <= '5') element.remove_prefix(1);
  if (element.empty()) return true;
  return element.size() == 2 && element[0] == '/' && planes.find(element[1]) != std::string_view::npos;
}

std::string lower(std::string text) {
  for (char& letter : text) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return text;
}

}  // namespace

SpaceGroup::SpaceGroup(std::string_view symbol, bool rhombohedral_axes) {
  const auto refuse = [&] {
    throw InputError(fmt::format(
        "symmetry '{}' is not understood: expected a space-group symbol (Fm-3m, P 21/c, R-3c), a centring (P, A, B, C, "
        "I, F, R) or diamond",
        symbol));
  };
  const std::string key = compact(symbol);
  if (key.empty()) refuse();
  if (key == "diamond") {
    add_centring('f', false);
    diamond_ = true;
    lattice_ = Lattice::cubic;
    return;
  }
  if (key.size() == 1) {
    if (std::string_view("pabcifr").find(key[0]) == std::string_view::npos) refuse();
    add_centring(key[0], rhombohedral_axes);
    return;
  }

  const std::optional<std::string> standard = standard_symbol(key);
  std::vector<std::string> words = split(standard ? *standard : std::string(symbol));
  if (words.size() == 1) words = words_of_compact(key);
  for (std::string& word : words) word = lower(word);
  if (words[0].size() != 1 || std::string_view("pabcifr").find(words[0][0]) == std::string_view::npos) refuse();
  if (words.size() < 2 || words.size() > 4) refuse();
  if (!std::all_of(words.begin() + 1, words.end(), [](const std::string& word) { return is_element(word); })) refuse();

  const char first = words[1][0] == '-' ? words[1][1] : words[1][0];
  if (words.size() >= 3 && (words[2] == "3" || words[2] == "-3")) {
    lattice_ = Lattice::cubic;
  } else if (first == '4') {
    lattice_ = Lattice::tetragonal;
  } else if (first == '3' || first == '6') {
    lattice_ = Lattice::hexagonal;
  } else if (words.size() == 4 && std::count(words.begin() + 1, words.end(), "1") != 2) {
    lattice_ = Lattice::orthorhombic;
  } else if (words.size() == 4) {
    lattice_ = Lattice::monoclinic;
  } else if (words.size() == 2 && words[1] != "1" && words[1] != "-1") {
    lattice_ = Lattice::monoclinic;
    words = {words[0], "1", words[1], "1"};
  } else if (words.size() != 2) {
    refuse();
  }
  add_centring(words[0][0], rhombohedral_axes);
  for (std::size_t position = 1; position < words.size(); ++position) {
    add_element(words[position], position, rhombohedral_axes);
  }
}

bool SpaceGroup::allows(int h, int k, int l) const {
  for (const Condition& condition : conditions_) {
    const auto product = [&](const Direction& other) { return h * other[0] + k * other[1] + l * other[2]; };
    const bool in_zone = std::all_of(condition.zone.begin(), condition.zone.end(),
                                     [&](const Direction& direction) { return product(direction) == 0; });
    if (in_zone && product(condition.translation_24ths) % 24 != 0) return false;
  }
  return !diamond_ || h % 2 != 0 || (h + k + l) % 4 == 0;
}

void SpaceGroup::add_centring(char letter, bool rhombohedral_axes) {
  const auto add = [&](Direction translation) { conditions_.push_back({{}, translation}); };
  if (letter == 'a' || letter == 'f') add({0, 12, 12});
  if (letter == 'b' || letter == 'f') add({12, 0, 12});
  if (letter == 'c' || letter == 'f') add({12, 12, 0});
  if (letter == 'i') add({12, 12, 12});
  if (letter == 'r' && !rhombohedral_axes) add({16, 8, 8});
}

void SpaceGroup::add_element(std::string_view element, std::size_t position, bool rhombohedral_axes) {
  // The directions that a position of the symbol speaks of.
  std::vector<Direction> directions;
  switch (lattice_) {
    case Lattice::monoclinic:
    case Lattice::orthorhombic: directions = {Direction{position == 1, position == 2, position == 3}}; break;
    case Lattice::tetragonal:
      if (position == 1) directions = {{0, 0, 1}};
      if (position == 2) directions = {{1, 0, 0}, {0, 1, 0}};
      if (position == 3) directions = {{1, -1, 0}, {1, 1, 0}};
      break;
    case Lattice::hexagonal:
      if (rhombohedral_axes) {
        if (position == 1) directions = {{1, 1, 1}};
        if (position == 2) directions = {{1, -1, 0}, {0, 1, -1}, {-1, 0, 1}};
      } else {
        if (position == 1) directions = {{0, 0, 1}};
        if (position == 2) directions = {{1, 0, 0}, {0, 1, 0}, {1, 1, 0}};
        if (position == 3) directions = {{1, -1, 0}, {1, 2, 0}, {2, 1, 0}};
      }
      break;
    case Lattice::cubic:
      // From the third axis on, so that the letter of a glide keeps its meaning: a is perpendicular to c in "P a -3".
      if (position == 1) directions = {{0, 0, 1}, {1, 0, 0}, {0, 1, 0}};
      if (position == 3) directions = {{1, -1, 0}, {1, 1, 0}, {0, 1, -1}, {0, 1, 1}, {-1, 0, 1}, {1, 0, 1}};
      break;
    case Lattice::any: break;
  }

  const std::size_t slash = element.find('/');
  const std::string_view axis = is_rotation(element) ? element.substr(0, slash) : std::string_view();
  const std::string_view plane =
      axis.empty() ? element : (slash == std::string_view::npos ? std::string_view() : element.substr(slash + 1));
  for (std::size_t index = 0; index < directions.size(); ++index) {
    if (axis.size() == 2 && axis[0] != '-') add_screw(axis[0] - '0', axis[1] - '0', directions[index]);
    if (plane.size() != 1) continue;
    char glide = plane[0];
    if (lattice_ == Lattice::cubic && position == 1 && glide >= 'a' && glide <= 'c') {
      // a, then b, then c, as the normal goes from c to a to b.
      glide = static_cast<char>('a' + (glide - 'a' + static_cast<int>(index)) % 3);
    }
    if (lattice_ == Lattice::tetragonal && position == 2 && index == 1) {
      // What is along b in a plane perpendicular to a is along a in the one perpendicular to b.
      if (glide == 'a' || glide == 'b') glide = glide == 'a' ? 'b' : 'a';
    }
    if (rhombohedral_axes && glide == 'c') glide = 'n';
    add_plane(glide, directions[index]);
  }
}

void SpaceGroup::add_plane(char glide, std::array<int, 3> normal) {
  const auto add = [&](Direction translation) { conditions_.push_back({{normal}, translation}); };
  const int zeros = static_cast<int>(std::count(normal.begin(), normal.end(), 0));
  const bool diagonal = zeros == 1 && lattice_ != Lattice::hexagonal;
  const bool along_axis = zeros == 2;
  switch (glide) {
    case 'a': add({12, 0, 0}); break;
    case 'b': add({0, 12, 0}); break;
    case 'c':
      if (diagonal && lattice_ == Lattice::cubic) {
        // Along the one axis that lies in the plane.
        add({normal[0] == 0 ? 12 : 0, normal[1] == 0 ? 12 : 0, normal[2] == 0 ? 12 : 0});
      } else {
        add({0, 0, 12});
      }
      break;
    case 'e':
      for (std::size_t axis = 0; axis < 3; ++axis) {
        Direction translation{};
        translation[axis] = 12;
        if (normal[axis] == 0) add(translation);
      }
      break;
    case 'n':
    case 'd': {
      const int part = glide == 'n' ? 12 : 6;
      if (along_axis) {
        add({normal[0] == 0 ? part : 0, normal[1] == 0 ? part : 0, normal[2] == 0 ? part : 0});
      } else {
        // In the plane: the normal (1, -1, 0) goes with (1, 1, 1), and (1, 1, 0) with (1, -1, 1).
        Direction translation{part, part, part};
        for (std::size_t axis = 0, seen = 0; axis < 3; ++axis) {
          if (normal[axis] == 0) continue;
          const bool same_sign = normal[0] + normal[1] + normal[2] == 2 || normal[0] + normal[1] + normal[2] == -2;
          if (++seen == 2 && same_sign) translation[axis] = -part;
        }
        add(translation);
      }
      break;
    }
    default: break;  // m extinguishes nothing
  }
}

void SpaceGroup::add_screw(int fold, int step, std::array<int, 3> axis) {
  if (fold < 2 || fold > 6 || fold == 5) return;
  if (std::count(axis.begin(), axis.end(), 0) == 1) {
    // Along the diagonals of a base, of which symbols tell in C- and F-centred tetragonal settings alone: there the
    // shortest translation is half a diagonal. In other cells two-fold screws beside the edges are not written.
    if (lattice_ == Lattice::tetragonal && fold == 2 && step == 1) {
      conditions_.push_back({{{axis[1], -axis[0], 0}, {0, 0, 1}}, {6 * axis[0], 6 * axis[1], 0}});
    }
    return;
  }
  Condition condition;
  for (std::size_t edge = 0; edge < 3; ++edge) {
    if (axis[edge] != 0) {
      condition.translation_24ths[edge] = 24 * step / fold;
    } else {
      Direction other{};
      other[edge] = 1;
      condition.zone.push_back(other);
    }
  }
  conditions_.push_back(condition);
}

}  // namespace annulus::calibration
