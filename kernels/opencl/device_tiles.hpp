// The integration matrix cut into tiles, and the layout of the frames that goes
// with it, as tile_product.cl wants them.
//
// A run is 16 consecutive pixels of a frame. The frames of a group lie side by
// side by runs: first the first run of each frame, then the second of each.
// Runs are sorted by the first row of the matrix that they give to: 64 runs
// that begin in the same rows make a tile. So a tile, wherever its pixels lie,
// gives to few rows, and the memory is read in pieces of 512 bytes, once. A
// tile's entries are sorted by row: the entries of one row are a segment, which
// is cut into pieces of equal length, 64 of them at most in a slice. Each piece
// is summed by one work-item for some of the frames, the pieces of a segment
// are added in order, and so are the segments of a row.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/matrix.hpp"

namespace annulus::kernels::opencl {

inline constexpr std::uint32_t run_pixels = 16;  ///< 32 bytes of 16-bit counts: a sector of a GPU's memory
inline constexpr std::uint32_t tile_runs = 64;   ///< a tile of 16 frames of 16-bit counts: 32 KiB of local memory
inline constexpr std::uint32_t slice_pieces = 64;
inline constexpr std::uint32_t step_entries = 4;         ///< of a piece, which a work-item reads at once
inline constexpr std::uint32_t frame_runs_multiple = 4;  ///< kernels see frames of so many runs, or a multiple

/// Where the kernels keep pixel `slot` of a tile; its own inverse. The banks of
/// local memory take turns with every pixel, and those of a vector of eight
/// begin one further than those of the vector before.
[[nodiscard]] constexpr std::uint32_t place_in_tile(std::uint32_t slot) { return slot ^ (slot / 8 & 3); }

/// See tile_product.cl, tile_sums, for what each array means.
struct TiledRows {
  /// The twin of uint4 in tile_product.cl.
  struct Slice {
    std::uint32_t tile = 0;
    std::uint32_t first_segment = 0;
    std::uint32_t segments = 0;
    std::uint32_t steps = 0;  ///< of a piece
  };
  /// The twin of uint2 there.
  struct Segment {
    std::uint32_t pieces = 0;  ///< the first of its slice | how many << 16
    std::uint32_t place = 0;   ///< its number by row
  };
  /// What a run of the frame is to the matrix; the twin of uint2, too.
  struct RunPlace {
    std::uint32_t tile = 0;
    std::uint32_t used = 0;  ///< its pixels that have an entry, one bit each, the lowest for the first
  };
  std::uint32_t tiles = 0;
  std::vector<Slice> slices;
  std::vector<std::uint64_t> slice_steps;   ///< [slices] first row of steps
  std::vector<std::uint32_t> slice_runs;    ///< [slices, tile_runs] number in the frame of each run of the tile
  std::vector<float> weights;               ///< [rows of steps, slice_pieces, step_entries]; 0 = padding
  std::vector<std::uint16_t> places;        ///< the same shape: place_in_tile() of the pixel
  std::vector<Segment> segments;            ///< by slice
  std::vector<std::uint32_t> row_segments;  ///< [rows + 1]
  std::vector<RunPlace> run_places;         ///< [runs of a frame, to the next multiple of frame_runs_multiple]
};

/// Cuts a matrix into tiles, in 0.05 us an entry. No slices where that is not
/// worth it: with very many rows (cakes) there would be more sums of segments
/// than counts.
[[nodiscard]] TiledRows cut_into_tiles(const CsrMatrix& matrix);

}  // namespace annulus::kernels::opencl
