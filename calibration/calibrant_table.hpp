// The table of compounds known by name: cells, symmetries, and lists where these do not tell the rings.
//
// Cells and spacings are those of the sources named with each; which rings a list goes down to, and which it leaves out
// because they are too weak to be seen, as in pyFAI 2026.9.0 (resources/calibration/*.D).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "calibration/calibrant.hpp"

namespace annulus::calibration {

/// How the rings of a compound are told.
enum class RingSource : std::uint8_t {
  symmetry,  ///< all that the symmetry leaves, down to d_min
  indices,   ///< those listed, spacings from the cell
  spacings,  ///< spacings listed
  lamellae,  ///< orders of one spacing, c
};

struct CompoundEntry {
  std::string_view name;
  RingSource source = RingSource::symmetry;
  UnitCell cell;
  std::string_view symmetry = "";
  double d_min_angstrom = 0.0;  ///< of `symmetry`
  std::uint32_t orders = 0;     ///< of `lamellae`
  std::span<const std::array<int, 3>> indices{};
  std::span<const double> spacings_angstrom{};
  std::string_view description = "";
  bool repeated_in_pyfai = false;  ///< pyFAI's list holds some spacings twice, and so numbers its rings otherwise
  std::string_view reference = "";
};

/// Sorted by name, without regard to case.
[[nodiscard]] std::span<const CompoundEntry> compounds();

}  // namespace annulus::calibration
