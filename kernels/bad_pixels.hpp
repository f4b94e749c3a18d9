// Which value makes a pixel bad in one frame only (static masks are the matrix's affair).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace annulus::kernels {

/// The rules of a scan; a value is bad when any rule that is on says so. A value that is not finite always is.
struct BadPixelRules {
  bool type_maximum = true;  ///< The largest value of an unsigned integer type (saturated or masked by the detector).
  bool negative = false;     ///< Negative counts of a signed type: photon-counting detectors mark masked pixels so.
  bool dummy_on = false;     ///< Values within delta_dummy of dummy.
  double dummy = 0.0;
  double delta_dummy = 0.0;
};

template <typename Pixel>
[[nodiscard]] inline bool is_bad(Pixel value, const BadPixelRules& rules) {
  if constexpr (std::is_floating_point_v<Pixel>) {
    if (!std::isfinite(value)) return true;
  }
  if constexpr (std::is_unsigned_v<Pixel>) {
    if (rules.type_maximum && value == std::numeric_limits<Pixel>::max()) return true;
  } else {
    if (rules.negative && value < Pixel{0}) return true;
  }
  return rules.dummy_on && std::abs(static_cast<double>(value) - rules.dummy) <= rules.delta_dummy;
}

}  // namespace annulus::kernels
