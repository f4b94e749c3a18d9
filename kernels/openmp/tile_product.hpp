// One tile of the matrix times the same tile of up to 16 frames.
//
// The frames of a group lie side by side, one in each lane: tile[pixel][lane]. Every lane does the same operations in
// the same order, so a frame's sums do not depend on its lane or on the group's size. A weight (24 bits) times a count
// of up to 29 bits is exact in float64, hence fused and separate multiply-adds give the same sums on every instruction
// set; only wider values (uint32 above 2^29, float64) may differ in the last bit between machines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/bad_pixels.hpp"
#include "kernels/openmp/tiled_matrix.hpp"
#include "kernels/pixel_type.hpp"

namespace annulus::kernels::openmp {

inline constexpr std::size_t max_lanes = 16;

/// The smallest number of lanes (1, 4, 8, 16) that holds `frames` (at most 16) frames.
[[nodiscard]] constexpr std::size_t lanes_for(std::size_t frames) {
  return frames > 8 ? 16 : frames > 4 ? 8 : frames > 1 ? 4 : 1;
}

/// What is summed beside the signal.
enum class Moments : std::uint8_t {
  signal,   ///< nothing
  poisson,  ///< variance += c^2 max(x, 1)
  scatter,  ///< variance += c^2 (x - d)^2 and cross += c^2 (x - d) w, from which the scatter about any mean follows
};

/// The sums of a group of frames over a part of the detector, all [bins, lanes], accumulated; null = not wanted. What
/// is removed is that of pixels which are bad in one frame.
struct GroupSums {
  double* signal = nullptr;    ///< c x
  double* variance = nullptr;  ///< see Moments
  double* cross = nullptr;
  double* removed_normalisation = nullptr;  ///< c w
  double* removed_dark = nullptr;           ///< c d
  double* removed_square = nullptr;         ///< c^2 w^2
  double* removed_variance = nullptr;       ///< c^2 v of a given variance
  std::uint32_t* removed_entries = nullptr;
};

/// The tile's part of the corrections, each [tile's pixels] or null.
struct TileCorrections {
  const float* normalisation = nullptr;
  const float* dark = nullptr;
  const float* variance = nullptr;
};

/// Scratch of one thread for one tile.
struct TileScratch {
  alignas(64) std::byte values[tile_pixels * max_lanes * 8];  ///< [pixels, lanes] of the pixel type
  std::uint16_t bad_lanes[tile_pixels];                       ///< [pixels] bit l = bad in lane l
};

/// Adds the tile's product to `sums`.
/// @param frames  first pixel of the tile in each frame of the group, at most `lanes`; lanes without one count zero
/// @param used    [pixels] 1 where a pixel has a weight
/// @param pixels  pixels of this tile (the last one may be shorter)
void multiply_tile(PixelType type, Moments moments, const TiledMatrix::Tile& tile,
                   std::span<const std::byte* const> frames, std::size_t lanes, std::size_t pixels,
                   const std::uint8_t* used, const BadPixelRules& rules, const TileCorrections& corrections,
                   TileScratch& scratch, const GroupSums& sums);

}  // namespace annulus::kernels::openmp
