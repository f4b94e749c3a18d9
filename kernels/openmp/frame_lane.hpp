// One frame on its way through the tiles: decoded piece by piece, no more than the caches hold.
//
// What comes out is counts for the product, of one byte each where that is enough, else uint16, and a list of single
// pixels that go by themselves: bad ones, counts beyond uint16, and all counts of a piece in which nearly every pixel
// is 0. Which pixels are single is decided by the frame alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/bad_pixels.hpp"
#include "kernels/bitshuffle_chunk.hpp"
#include "kernels/openmp/tiled_matrix.hpp"

namespace annulus::kernels::openmp {

/// A pixel of one frame that the product sees as 0.
struct SinglePixel {
  std::uint64_t pixel : 16;  ///< counted from the first of the paired matrix' tile
  std::uint64_t bad : 1;
  std::int64_t count : 47;  ///< when it is not bad
};
static_assert(sizeof(SinglePixel) == 8);

/// Pixels of a block with a count of 1, which the product sees as 0. Sparse frames consist of these: they stay the bits
/// that they are.
struct PixelsOfOne {
  explicit PixelsOfOne(std::size_t first_pixel) : first(first_pixel) {}

  std::size_t first;         ///< pixel of the first bit, counted from the first of the paired matrix' tile
  std::size_t count = 0;     ///< bits that are set
  std::uint64_t filled = 0;  ///< one bit for each of the `bits` that is not 0, the lowest for the first
  alignas(64) std::uint64_t bits[tile_pixels / 64 + 1];  ///< one bit a pixel; the last is never filled
};
static_assert(tile_pixels / 64 <= 64);

/// All pixels of one frame that the product sees as 0.
struct SinglePixels {
  std::vector<PixelsOfOne> ones;
  std::vector<SinglePixel> others;

  void clear() {
    ones.clear();
    others.clear();
  }
};

/// What the pieces of all lanes share: scratch of one thread.
struct LaneScratch {
  alignas(64) std::byte planes[tile_pixels * 4 + lz4_slack];  ///< of one block
  alignas(64) std::byte values[tile_pixels * 4];              ///< decoded pixels of one block, whatever their type
};

/// Pixels that the matrix uses, twice: [pixels] 1 = used, and as one bit a pixel, the lowest for the first.
struct UsedPixels {
  const std::uint8_t* bytes = nullptr;
  const std::uint8_t* bits = nullptr;
};

class FrameLane {
 public:
  /// Whether frames of this type can go through lanes: integers.
  [[nodiscard]] static bool can_read(PixelType type) { return type != PixelType::f32 && type != PixelType::f64; }

  /// Starts a frame of `pixels` pixels. A failed frame may still be read: it is all 0.
  [[nodiscard]] DecodeStatus open(const EncodedFrame& frame, PixelType type, std::size_t pixels, SimdPath path);

  /// Passes over the next tile_pixels pixels.
  void skip();

  /// Begins a tile of the paired matrix. Whether its blocks of few counts go pixel by pixel, so that the product may
  /// leave out the whole tile, is guessed from the tile before, of the same frame.
  /// @param first  there is none before
  void begin_tile(bool first);

  /// What a piece turned out to be: [pixels] counts of either kind, in `out` or elsewhere; all 0 without any.
  struct Piece {
    const std::uint8_t* bytes = nullptr;
    const std::uint16_t* words = nullptr;
    DecodeStatus status = DecodeStatus::ok;  ///< of the frame up to here
  };
  /// The next `pixels` pixels: tile_pixels, or fewer at the end of the frame.
  /// @param first    number of the first of them for `singles`, which is appended to
  /// @param out      [tile_pixels] may be overwritten
  [[nodiscard]] Piece read(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules, std::size_t first,
                           LaneScratch& scratch, std::uint16_t* out, SinglePixels& singles);

 private:
  template <typename Pixel>
  Piece read_typed(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules, std::size_t first,
                   LaneScratch& scratch, std::uint16_t* out, SinglePixels& singles);
  /// Decodes the next blocks, `pixels` pixels in all.
  template <typename Pixel>
  Piece decode(std::size_t pixels, const UsedPixels& used, const BadPixelRules& rules, std::size_t first,
               LaneScratch& scratch, std::uint16_t* out, SinglePixels& singles);

  /// Counts of a block of so many pixels that go by themselves.
  [[nodiscard]] std::size_t most_counts(std::size_t pixels) const;

  PixelType type_ = PixelType::u16;
  SimdPath path_ = SimdPath::plain;
  DecodeStatus status_ = DecodeStatus::ok;
  BlockReader blocks_;
  bool sparse_ = false;     ///< this tile, as far as can be told
  std::size_t counts_ = 0;  ///< pixels of this tile that are not 0; of a block beyond which it is dense, no more
  const std::byte* raw_ = nullptr;  ///< what is left of a frame that is not encoded
  /// A frame that is not in blocks that fill tiles, decoded as a whole; shared by copies, which go on from where the
  /// first one stood.
  std::shared_ptr<const std::byte[]> decoded_;
};

}  // namespace annulus::kernels::openmp
