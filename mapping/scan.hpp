// The scan: which frame belongs to which point of the grid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace annulus::mapping {

enum class ScanKind : std::uint8_t { map, tomo };

/// One axis of the grid as the volume describes it.
struct ScanAxis {
  std::string name;               ///< motor: "slow", "rotation", ...
  std::string units;              ///< "" = unknown
  std::vector<double> positions;  ///< one a point
};

/// A raster of `slow` lines of `fast` points, taken line by line.
struct Scan {
  ScanKind kind = ScanKind::map;
  std::uint64_t slow = 0;
  std::uint64_t fast = 0;
  bool zigzag = false;      ///< Odd lines run backwards.
  std::int64_t offset = 0;  ///< Number of frames before the first point (negative: first points without a frame).
  ScanAxis slow_axis;
  ScanAxis fast_axis;

  [[nodiscard]] std::uint64_t points() const { return slow * fast; }

  /// The frame taken at grid point (line, column): may be negative or beyond the last frame (then it is missing).
  [[nodiscard]] std::int64_t frame_at(std::uint64_t line, std::uint64_t column) const {
    const std::uint64_t step = zigzag && line % 2 == 1 ? fast - 1 - column : column;
    return static_cast<std::int64_t>(line * fast + step) + offset;
  }
};

}  // namespace annulus::mapping
