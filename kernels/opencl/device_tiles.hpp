// The integration matrix cut into tiles, as tile_product.cl wants it.
//
// Frames are read in runs of 16 consecutive pixels, and runs are sorted by the first row that they give to: 64 runs
// that begin in the same rows make a tile. So a tile, wherever its pixels lie, gives to few rows, and the memory is
// read in whole sectors, once. A tile's entries are sorted by row: the entries of one row are a segment, which is cut
// into pieces of equal length, 64 of them at most in a slice. Each piece is summed by one work-item for 4 frames, the
// pieces of a segment are added in order, and so are the segments of a row.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/matrix.hpp"

namespace annulus::kernels::opencl {

inline constexpr std::uint32_t run_pixels = 16;  ///< 32 bytes of 16-bit counts: a sector of a GPU's memory
inline constexpr std::uint32_t tile_runs = 64;   ///< a tile of 16 frames of 16-bit counts: 32 KiB of local memory
inline constexpr std::uint32_t slice_pieces = 64;

/// See tile_product.cl, tile_sums, for what each array means.
struct TiledRows {
  /// The twin of uint4 in tile_product.cl.
  struct Slice {
    std::uint32_t tile = 0;
    std::uint32_t first_segment = 0;
    std::uint32_t segments = 0;
    std::uint32_t length = 0;  ///< entries of a piece
  };
  std::vector<Slice> slices;
  std::vector<std::uint64_t> slice_entries;   ///< [slices]
  std::vector<std::uint32_t> runs;            ///< [tiles, tile_runs] first pixels
  std::vector<float> weights;                 ///< [rows of entries, slice_pieces]; 0 = padding
  std::vector<std::uint16_t> slots;           ///< [rows of entries, slice_pieces]
  std::vector<std::uint32_t> segment_pieces;  ///< [segments] by slice: first piece | pieces << 16
  std::vector<std::uint32_t> segment_places;  ///< [segments] by slice: its number by row
  std::vector<std::uint32_t> row_segments;    ///< [rows + 1]
};

/// Cuts a matrix into tiles, in 0.05 us an entry. No slices where that is not worth it: with very many rows (cakes)
/// there would be more sums of segments than counts.
[[nodiscard]] TiledRows cut_into_tiles(const CsrMatrix& matrix);

}  // namespace annulus::kernels::opencl
