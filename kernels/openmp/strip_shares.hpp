// Shares of strips of neighbouring pixels in vector code: those of nearly all pixels, bit by bit as find_footprint and
// for_each_share find them, and told which pixels are left to these.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/splitting.hpp"

namespace annulus::kernels::openmp {

/// Pixels of a strip at most: all about them stays in first-level cache.
inline constexpr std::size_t strip_pixels = 256;
/// Bins that a pixel of the usual kind reaches at most.
inline constexpr std::size_t strip_slots = 4;
/// In StripShares::count: ask find_footprint.
inline constexpr std::int32_t unusual = -1;

/// The shares of a strip's pixels.
struct StripShares {
  std::array<std::int32_t, strip_pixels> row;    ///< of the first share; the others are those of the rows after it
  std::array<std::int32_t, strip_pixels> count;  ///< of shares, none of them 0; or `unusual`
  std::array<std::array<float, strip_pixels>, strip_slots> weight;
};

/// One coordinate of the corners of a strip's pixels: corner c of pixel n is corners[c][n].
using StripCorners = std::array<const float*, 4>;

/// Where pixels begin and end along one coordinate, [count].
struct StripEnds {
  const double* low = nullptr;
  const double* high = nullptr;
};

/// Whether the functions below know the splitting at all.
[[nodiscard]] bool has_strip_shares(const shared::SharedBins& bins, std::uint32_t rows);

/// Splitting by area. `count` <= strip_pixels; `shares` are overwritten up to there.
void area_shares(const shared::SharedBins& bins, const StripCorners& radius, const StripCorners& azimuth,
                 std::size_t count, StripShares& shares);

/// Splitting by boxes. The ends of azimuths are null where no azimuth is asked for.
void box_shares(const shared::SharedBins& bins, const StripEnds& radial, const StripEnds& azimuthal, std::size_t count,
                StripShares& shares);

/// The ends [count] of the boxes about `centre` [count]: half_width() to either side; overwritten.
void box_ends(const double* centre, const StripCorners& corners, double period, std::size_t count, double* low,
              double* high);

/// The least and greatest of each pixel's corners, [count]; overwritten.
void corner_ends(const StripCorners& corners, std::size_t count, double* low, double* high);

/// Widens the extent of each column, least[n] and greatest[n], by a pixel's ends as CoordinateExtent::include does;
/// start from the greatest finite number and its negative.
/// @param mask  [count] PixelUse, or null: masked pixels are left out
void widen_extents(const StripEnds& ends, const std::uint8_t* mask, std::size_t count, double* least, double* greatest);

}  // namespace annulus::kernels::openmp
