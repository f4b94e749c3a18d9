// The pixel types that detectors write, and the one place where a run-time type becomes a C++ type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/errors.hpp"

namespace annulus::kernels {

enum class PixelType : std::uint8_t { u8, u16, u32, i8, i16, i32, f32, f64 };

[[nodiscard]] constexpr std::size_t size_of(PixelType type) {
  switch (type) {
    case PixelType::u8:
    case PixelType::i8: return 1;
    case PixelType::u16:
    case PixelType::i16: return 2;
    case PixelType::u32:
    case PixelType::i32:
    case PixelType::f32: return 4;
    case PixelType::f64: return 8;
  }
  return 0;
}

/// numpy's name: "uint16", "float32".
[[nodiscard]] constexpr std::string_view name_of(PixelType type) {
  switch (type) {
    case PixelType::u8: return "uint8";
    case PixelType::u16: return "uint16";
    case PixelType::u32: return "uint32";
    case PixelType::i8: return "int8";
    case PixelType::i16: return "int16";
    case PixelType::i32: return "int32";
    case PixelType::f32: return "float32";
    case PixelType::f64: return "float64";
  }
  return "?";
}

/// Calls `visitor.template operator()<T>()` with the C++ type of `type`: use a lambda `[&]<typename T>() {...}`.
template <typename Visitor>
decltype(auto) visit_pixel_type(PixelType type, Visitor&& visitor) {
  switch (type) {
    case PixelType::u8: return visitor.template operator()<std::uint8_t>();
    case PixelType::u16: return visitor.template operator()<std::uint16_t>();
    case PixelType::u32: return visitor.template operator()<std::uint32_t>();
    case PixelType::i8: return visitor.template operator()<std::int8_t>();
    case PixelType::i16: return visitor.template operator()<std::int16_t>();
    case PixelType::i32: return visitor.template operator()<std::int32_t>();
    case PixelType::f32: return visitor.template operator()<float>();
    case PixelType::f64: return visitor.template operator()<double>();
  }
  throw InternalError("pixel type out of range");
}

}  // namespace annulus::kernels
