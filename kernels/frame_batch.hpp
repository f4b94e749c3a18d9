// A batch of decoded frames as the engines take it.
#pragma once

#include <cstddef>

#include "kernels/pixel_type.hpp"

namespace annulus::kernels {

/// A view of `frames` decoded frames of `pixels` pixels each, one behind the other without gaps: [frames, pixels].
struct FrameBatch {
  const std::byte* data = nullptr;
  PixelType type = PixelType::u16;
  std::size_t frames = 0;
  std::size_t pixels = 0;

  [[nodiscard]] std::size_t frame_bytes() const { return pixels * size_of(type); }
  template <typename Pixel>
  [[nodiscard]] const Pixel* frame(std::size_t index) const {
    return reinterpret_cast<const Pixel*>(data + index * frame_bytes());
  }
};

}  // namespace annulus::kernels
