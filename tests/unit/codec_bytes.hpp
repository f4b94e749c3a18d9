// Bytes that the tests of the codecs encode and decode.
#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <string_view>

#include "tests/fuzz/bslz4_fuzz.hpp"

namespace annulus::test {
using fuzz::Bytes;

[[nodiscard]] inline Bytes random_bytes(std::size_t count, std::mt19937_64& random) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// Little-endian elements with small values, as in a frame: they compress.
[[nodiscard]] inline Bytes small_counts(std::size_t elements, std::size_t element_size, std::mt19937_64& random) {
  Bytes bytes(elements * element_size);
  std::poisson_distribution<int> counts(3.0);
  for (std::size_t element = 0; element < elements; ++element) {
    bytes[element * element_size] = static_cast<std::byte>(counts(random));
  }
  return bytes;
}

[[nodiscard]] inline Bytes from_hex(std::string_view hex) {
  Bytes bytes;
  for (std::size_t digit = 0; digit + 1 < hex.size(); digit += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(digit, 2)), nullptr, 16)));
  }
  return bytes;
}

}  // namespace annulus::test
