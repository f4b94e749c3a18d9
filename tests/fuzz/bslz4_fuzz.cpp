// libFuzzer target for the bslz4 decoder: clang++ -fsanitize=fuzzer,address,undefined. The first byte of an input
// selects the element size, the rest is the chunk.
#include "tests/fuzz/bslz4_fuzz.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static annulus::fuzz::Bslz4Checker checker;
  const std::size_t element_size = std::size_t{1} << (data[0] % 4);
  const auto outcome = checker.check(std::as_bytes(std::span(data, size)).subspan(1), element_size);
  if (outcome.broken != nullptr) {
    std::fprintf(stderr, "bslz4: broken promise: %s (element size %zu)\n", outcome.broken, element_size);
    std::abort();
  }
  return 0;
}
