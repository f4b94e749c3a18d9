// Numbers in the headers of chunks: big-endian, at any address.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace annulus::kernels {

/// The number that the first bytes of `bytes` are, of which there are at least sizeof(Integer).
template <typename Integer>
[[nodiscard]] Integer read_big_endian(std::span<const std::byte> bytes) {
  Integer value = 0;
  for (std::size_t index = 0; index < sizeof(Integer); ++index) {
    value = static_cast<Integer>((value << 8) | std::to_integer<Integer>(bytes[index]));
  }
  return value;
}

template <typename Integer>
void append_big_endian(Integer value, std::vector<std::byte>& bytes) {
  for (std::size_t index = sizeof(Integer); index-- > 0;) bytes.push_back(static_cast<std::byte>(value >> (8 * index)));
}

}  // namespace annulus::kernels
