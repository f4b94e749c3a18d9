// Which vector instructions the hot loops use: chosen at run time, so that one binary runs on any x86-64.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace annulus::kernels {

enum class SimdPath : std::uint8_t {
  plain,   ///< no vector instructions of its own, any machine
  sse2,    ///< any x86-64
  avx2,    ///< with FMA
  avx512,  ///< F, BW, DQ and VL
  gfni,    ///< avx512 and the Galois field instructions; differs from avx512 in bit_unshuffle alone
};

[[nodiscard]] std::string_view name_of(SimdPath path);

/// The paths that this machine can run, the fastest one last; `plain` is always there. The environment variable
/// ANNULUS_SIMD names the fastest one that may be used, for tests and comparisons; every path gives the same bits.
/// Throws InputError for a name that is none, or of a path that this machine cannot run.
[[nodiscard]] std::span<const SimdPath> available_paths();

/// The last of available_paths().
[[nodiscard]] inline SimdPath best_path() { return available_paths().back(); }

}  // namespace annulus::kernels
