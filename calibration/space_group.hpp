// Systematic absences: which reflections a space group leaves, read off its Hermann-Mauguin symbol.
//
// The symbol names centring, glide planes and screw axes with their directions, and each extinguishes reflections of
// its own: a plane or axis with translation t those in its plane or on its axis whose h.t is no whole number
// (International Tables for Crystallography A, section 1.6.3). So there is no table of conditions. Absences that come
// from atoms on special positions are no matter of the group, and so not told here; diamond's are, by name.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace annulus::calibration {

class SpaceGroup {
 public:
  enum class Lattice : unsigned char { any, monoclinic, orthorhombic, tetragonal, hexagonal, cubic };

  /// A symbol, short or full, with or without blanks and underscores ("Fm-3m", "F m -3 m", "P 1 21/c 1", "P2_1/c"), in
  /// a standard setting or, when written with blanks, in any ("P 1 21/a 1"); a centring letter P, A, B, C, I, F, R
  /// alone; or "diamond", face-centred with a second atom at (1/4, 1/4, 1/4). R is taken in the obverse setting on
  /// hexagonal axes unless `rhombohedral_axes`. Throws InputError when it is not understood.
  explicit SpaceGroup(std::string_view symbol, bool rhombohedral_axes = false);

  /// Whether reflection (h k l) may be seen.
  [[nodiscard]] bool allows(int h, int k, int l) const;

  /// The kind of cell that goes with the symbol; `any` for a centring alone.
  [[nodiscard]] Lattice lattice() const { return lattice_; }

 private:
  /// Reflections whose indices fulfil `zone` are extinct unless h . translation is a whole number.
  struct Condition {
    std::vector<std::array<int, 3>> zone;    ///< h . each is 0; empty = all reflections
    std::array<int, 3> translation_24ths{};  ///< of the cell's edges
  };

  void add_centring(char letter, bool rhombohedral_axes);
  void add_element(std::string_view element, std::size_t position, bool rhombohedral_axes);
  void add_plane(char glide, std::array<int, 3> normal);
  void add_screw(int fold, int step, std::array<int, 3> axis);

  std::vector<Condition> conditions_;
  Lattice lattice_ = Lattice::any;
  bool diamond_ = false;
};

}  // namespace annulus::calibration
