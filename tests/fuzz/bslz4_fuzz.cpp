// libFuzzer target for the decoder of bitshuffle chunks: clang++ -fsanitize=fuzzer,address,undefined. The first byte of
// an input selects element size and compression, the rest is the chunk.
#include "tests/fuzz/bslz4_fuzz.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static annulus::fuzz::BitshuffleChecker checker;
  const std::size_t element_size = std::size_t{1} << (data[0] % 4);
  using annulus::kernels::Compression;
  constexpr Compression compressions[] = {Compression::lz4, Compression::zstd, Compression::none};
  const auto outcome = checker.check(std::as_bytes(std::span(data, size)).subspan(1), element_size,
                                     {compressions[data[0] / 4 % 3], annulus::kernels::Shuffle::bits});
  if (outcome.broken != nullptr) {
    std::fprintf(stderr, "bitshuffle: broken promise: %s (first byte %d)\n", outcome.broken, data[0]);
    std::abort();
  }
  return 0;
}
