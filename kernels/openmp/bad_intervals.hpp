// The rules for bad pixels as closed intervals of one pixel type, for loops that become vector code.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/bad_pixels.hpp"

namespace annulus::kernels::openmp {

/// The rules for one pixel type as closed intervals of bad values; an empty interval has first > last.
template <typename Pixel>
struct BadIntervals {
  Pixel first_a = 1, last_a = 0;
  Pixel first_b = 1, last_b = 0;

  explicit BadIntervals(const BadPixelRules& rules) {
    using Limits = std::numeric_limits<Pixel>;
    if constexpr (std::is_unsigned_v<Pixel>) {
      if (rules.type_maximum) first_a = last_a = Limits::max();
    } else {
      if (rules.negative) {
        first_a = Limits::lowest();
        last_a = std::is_floating_point_v<Pixel> ? -Limits::denorm_min() : static_cast<Pixel>(-1);
      }
    }
    if (rules.dummy_on) {
      const double low = rules.dummy - rules.delta_dummy;
      const double high = rules.dummy + rules.delta_dummy;
      if constexpr (std::is_floating_point_v<Pixel>) {
        // The smallest interval of Pixel whose ends, as float64, lie within [low, high].
        first_b = static_cast<Pixel>(low);
        if (static_cast<double>(first_b) < low) first_b = std::nextafter(first_b, Limits::infinity());
        last_b = static_cast<Pixel>(high);
        if (static_cast<double>(last_b) > high) last_b = std::nextafter(last_b, -Limits::infinity());
      } else {
        const double first = std::max(std::ceil(low), static_cast<double>(Limits::lowest()));
        const double last = std::min(std::floor(high), static_cast<double>(Limits::max()));
        if (first <= last) {
          first_b = static_cast<Pixel>(first);
          last_b = static_cast<Pixel>(last);
        }
      }
    }
  }

  [[nodiscard]] bool contain(Pixel value) const {
    // Bitwise operators: no branch, so that the loop over a tile becomes vector code.
    bool bad = ((value >= first_a) & (value <= last_a)) | ((value >= first_b) & (value <= last_b));
    if constexpr (std::is_floating_point_v<Pixel>) bad |= !(std::abs(value) <= std::numeric_limits<Pixel>::max());
    return bad;
  }
};

}  // namespace annulus::kernels::openmp
