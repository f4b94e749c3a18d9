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

/// The sums of a group of frames over a part of the detector, all [bins, lanes], accumulated.
struct GroupSums {
  double* signal = nullptr;
  double* variance = nullptr;               ///< null without an error model
  double* removed_normalisation = nullptr;  ///< of pixels that are bad in one frame
  double* removed_dark = nullptr;
  std::uint32_t* removed_entries = nullptr;
};

/// What a tile's bad pixels are taken out with.
struct TileCorrections {
  const float* normalisation;  ///< [tile's pixels]
  const float* dark;           ///< [tile's pixels] or null
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
void multiply_tile(PixelType type, const TiledMatrix::Tile& tile, std::span<const std::byte* const> frames,
                   std::size_t lanes, std::size_t pixels, const std::uint8_t* used, const BadPixelRules& rules,
                   const TileCorrections& corrections, TileScratch& scratch, const GroupSums& sums);

}  // namespace annulus::kernels::openmp
