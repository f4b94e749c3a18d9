#include "kernels/openmp/tile_product.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/every_cpu.hpp"
#include "kernels/openmp/bad_intervals.hpp"

// Vectors pass between inlined functions alone: no ABI is at stake.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace annulus::kernels::openmp {
namespace {

template <typename Pixel>
ANNULUS_FOR_EVERY_CPU bool any_bad(const Pixel* values, const std::uint8_t* used, std::size_t pixels,
                                   const BadIntervals<Pixel>& intervals) {
  const BadIntervals<Pixel> rules = intervals;
  std::uint8_t any = 0;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    any |= static_cast<std::uint8_t>(static_cast<std::uint8_t>(rules.contain(values[pixel])) & used[pixel]);
  }
  return any != 0;
}

/// Transposes N pixels of N frames, N = the elements of a 16-byte vector: out[pixel * lanes + frame].
template <typename Pixel>
inline void transpose_square(const std::byte* const* frames, std::size_t pixel, Pixel* out, std::size_t lanes) {
  constexpr std::size_t n = 16 / sizeof(Pixel);
  typedef Pixel Vector __attribute__((vector_size(16)));
  Vector rows[n];
  for (std::size_t frame = 0; frame < n; ++frame) {
    std::memcpy(&rows[frame], frames[frame] + pixel * sizeof(Pixel), 16);
  }
  // Each step interleaves row f with row f + n/2: after log2(n) steps row p holds pixel p of all frames.
  for (std::size_t step = 1; step < n; step *= 2) {
    Vector next[n];
    for (std::size_t half = 0; half < n / 2; ++half) {
      const Vector a = rows[half];
      const Vector b = rows[half + n / 2];
      if constexpr (n == 2) {
        next[2 * half] = __builtin_shufflevector(a, b, 0, 2);
        next[2 * half + 1] = __builtin_shufflevector(a, b, 1, 3);
      } else if constexpr (n == 4) {
        next[2 * half] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        next[2 * half + 1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      } else if constexpr (n == 8) {
        next[2 * half] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        next[2 * half + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
      } else {
        next[2 * half] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        next[2 * half + 1] =
            __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      }
    }
    std::copy_n(next, n, rows);
  }
  for (std::size_t row = 0; row < n; ++row) std::memcpy(out + (pixel + row) * lanes, &rows[row], 16);
}

/// Brings a tile of the group's frames side by side; lanes without a frame are zero.
template <typename Pixel>
void interleave(std::span<const std::byte* const> frames, std::size_t lanes, std::size_t pixels, Pixel* out) {
  constexpr std::size_t n = 16 / sizeof(Pixel);
  if (frames.size() < lanes) std::fill_n(out, pixels * lanes, Pixel{0});
  std::size_t frame = 0;
  for (; frame + n <= frames.size(); frame += n) {
    std::size_t pixel = 0;
    for (; pixel + n <= pixels; pixel += n) transpose_square(frames.data() + frame, pixel, out + frame, lanes);
    for (; pixel < pixels; ++pixel) {
      for (std::size_t lane = frame; lane < frame + n; ++lane) {
        std::memcpy(out + pixel * lanes + lane, frames[lane] + pixel * sizeof(Pixel), sizeof(Pixel));
      }
    }
  }
  for (; frame < frames.size(); ++frame) {
    const auto* values = reinterpret_cast<const Pixel*>(frames[frame]);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) out[pixel * lanes + frame] = values[pixel];
  }
}

/// `width` lanes as one vector. Explicit, because the compiler unrolls the loop over lanes into scalar code otherwise.
template <typename Element, std::size_t width>
struct VectorOf {
  typedef Element Type __attribute__((vector_size(sizeof(Element) * width)));
};

template <typename Pixel, std::size_t width>
inline __attribute__((always_inline)) typename VectorOf<double, width>::Type load_as_double(const Pixel* values) {
  typename VectorOf<Pixel, width>::Type raw;
  std::memcpy(&raw, values, sizeof raw);
  if constexpr (sizeof(Pixel) < 4) {  // by way of int32: the conversion that instruction sets have
    return __builtin_convertvector(__builtin_convertvector(raw, typename VectorOf<std::int32_t, width>::Type),
                                   typename VectorOf<double, width>::Type);
  } else {
    return __builtin_convertvector(raw, typename VectorOf<double, width>::Type);
  }
}

template <typename Pixel, std::size_t lanes, Moments moments>
ANNULUS_FOR_EVERY_CPU void multiply(const TiledMatrix::Tile& tile, const Pixel* values,
                                    const TileCorrections& corrections, const GroupSums& sums) {
  constexpr std::size_t width = std::min<std::size_t>(lanes, 8);
  constexpr std::size_t vectors = lanes / width;
  using Vector = typename VectorOf<double, width>::Type;
  std::uint32_t entry = 0;
  for (const TileRow& row : tile.rows) {
    Vector signal[vectors] = {};
    Vector variance[vectors] = {};
    Vector cross[vectors] = {};
    for (; entry < row.end; ++entry) {
      const std::size_t place = tile.pixels[entry];
      const Pixel* pixel = values + place * lanes;
      const double weight = tile.weights[entry];
      const double square = weight * weight;
      double dark = 0.0;
      double square_normalisation = 0.0;
      if constexpr (moments == Moments::scatter) {
        if (corrections.dark != nullptr) dark = corrections.dark[place];
        square_normalisation = square * corrections.normalisation[place];
      }
#pragma GCC unroll 2
      for (std::size_t vector = 0; vector < vectors; ++vector) {
        const Vector value = load_as_double<Pixel, width>(pixel + vector * width);
        signal[vector] += weight * value;
        if constexpr (moments == Moments::poisson) variance[vector] += square * (value > 1.0 ? value : Vector{} + 1.0);
        if constexpr (moments == Moments::scatter) {
          const Vector net = value - dark;
          variance[vector] += square * (net * net);
          cross[vector] += square_normalisation * net;
        }
      }
    }
    const auto add = [&](double* all, const Vector* partial) {
      for (std::size_t vector = 0; vector < vectors; ++vector) {
        Vector sum;
        double* place = all + std::size_t{row.bin} * lanes + vector * width;
        std::memcpy(&sum, place, sizeof sum);
        sum += partial[vector];
        std::memcpy(place, &sum, sizeof sum);
      }
    };
    add(sums.signal, signal);
    if constexpr (moments != Moments::signal) add(sums.variance, variance);
    if constexpr (moments == Moments::scatter) add(sums.cross, cross);
  }
}

/// Marks the bad pixels of a lane in `bad_lanes` and sets them to zero.
template <typename Pixel>
void mark_bad(const Pixel* frame, const std::uint8_t* used, std::size_t pixels, const BadIntervals<Pixel>& intervals,
              std::size_t lane, std::size_t lanes, Pixel* values, std::uint16_t* bad_lanes) {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    if (used[pixel] == 0 || !intervals.contain(frame[pixel])) continue;
    bad_lanes[pixel] = static_cast<std::uint16_t>(bad_lanes[pixel] | (1U << lane));
    values[pixel * lanes + lane] = Pixel{0};
  }
}

/// Takes the weights of marked pixels, whose value was set to zero, out of the sums.
void remove_bad(const TiledMatrix::Tile& tile, Moments moments, const std::uint16_t* bad_lanes, std::size_t lanes,
                const TileCorrections& corrections, const GroupSums& sums) {
  std::uint32_t entry = 0;
  for (const TileRow& row : tile.rows) {
    for (; entry < row.end; ++entry) {
      const std::size_t pixel = tile.pixels[entry];
      const double weight = tile.weights[entry];
      if (bad_lanes[pixel] == 0) continue;
      const double square = weight * weight;
      const double share = weight * corrections.normalisation[pixel];
      const double dark = corrections.dark != nullptr ? corrections.dark[pixel] : 0.0;
      for (std::uint32_t bad = bad_lanes[pixel]; bad != 0; bad &= bad - 1) {
        const std::size_t place = std::size_t{row.bin} * lanes + static_cast<std::size_t>(std::countr_zero(bad));
        sums.removed_entries[place] += weight != 0.0 ? 1 : 0;
        sums.removed_normalisation[place] += share;
        if (sums.removed_dark != nullptr) sums.removed_dark[place] += weight * dark;
        if (sums.removed_square != nullptr) sums.removed_square[place] += share * share;
        if (sums.removed_variance != nullptr) sums.removed_variance[place] += square * corrections.variance[pixel];
        // The value was set to zero: take back what multiply() made of it.
        if (moments == Moments::poisson) sums.variance[place] -= square;
        if (moments == Moments::scatter) {
          sums.variance[place] -= square * (dark * dark);
          sums.cross[place] += weight * share * dark;
        }
      }
    }
  }
}

template <typename Pixel, std::size_t lanes>
void multiply_typed(Moments moments, const TiledMatrix::Tile& tile, std::span<const std::byte* const> frames,
                    std::size_t pixels, const std::uint8_t* used, const BadPixelRules& rules,
                    const TileCorrections& corrections, TileScratch& scratch, const GroupSums& sums) {
  auto* values = reinterpret_cast<Pixel*>(scratch.values);
  const BadIntervals<Pixel> intervals(rules);
  interleave<Pixel>(frames, lanes, pixels, values);
  bool bad = false;
  for (std::size_t lane = 0; lane < frames.size(); ++lane) {
    const auto* frame = reinterpret_cast<const Pixel*>(frames[lane]);
    if (!any_bad<Pixel>(frame, used, pixels, intervals)) continue;
    if (!bad) std::fill_n(scratch.bad_lanes, pixels, std::uint16_t{0});
    bad = true;
    mark_bad<Pixel>(frame, used, pixels, intervals, lane, lanes, values, scratch.bad_lanes);
  }
  switch (moments) {
    case Moments::signal: multiply<Pixel, lanes, Moments::signal>(tile, values, corrections, sums); break;
    case Moments::poisson: multiply<Pixel, lanes, Moments::poisson>(tile, values, corrections, sums); break;
    case Moments::scatter: multiply<Pixel, lanes, Moments::scatter>(tile, values, corrections, sums); break;
  }
  if (bad) remove_bad(tile, moments, scratch.bad_lanes, lanes, corrections, sums);
}

}  // namespace

void multiply_tile(PixelType type, Moments moments, const TiledMatrix::Tile& tile,
                   std::span<const std::byte* const> frames, std::size_t lanes, std::size_t pixels,
                   const std::uint8_t* used, const BadPixelRules& rules, const TileCorrections& corrections,
                   TileScratch& scratch, const GroupSums& sums) {
  visit_pixel_type(type, [&]<typename Pixel>() {
    switch (lanes) {
      case 1: return multiply_typed<Pixel, 1>(moments, tile, frames, pixels, used, rules, corrections, scratch, sums);
      case 4: return multiply_typed<Pixel, 4>(moments, tile, frames, pixels, used, rules, corrections, scratch, sums);
      case 8: return multiply_typed<Pixel, 8>(moments, tile, frames, pixels, used, rules, corrections, scratch, sums);
      default: return multiply_typed<Pixel, 16>(moments, tile, frames, pixels, used, rules, corrections, scratch, sums);
    }
  });
}

}  // namespace annulus::kernels::openmp
