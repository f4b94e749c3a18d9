#include "kernels/simd_path.hpp"

#include <cstdlib>
#include <string>
#include <vector>

#include "base/errors.hpp"

namespace annulus::kernels {
namespace {

std::vector<SimdPath> machine_paths() {
  std::vector<SimdPath> paths{SimdPath::plain};
#if defined(__x86_64__)
  __builtin_cpu_init();
  paths.push_back(SimdPath::sse2);
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return paths;
  paths.push_back(SimdPath::avx2);
  for (const bool there : {__builtin_cpu_supports("avx512f") != 0, __builtin_cpu_supports("avx512bw") != 0,
                           __builtin_cpu_supports("avx512dq") != 0, __builtin_cpu_supports("avx512vl") != 0}) {
    if (!there) return paths;
  }
  paths.push_back(SimdPath::avx512);
  if (__builtin_cpu_supports("gfni")) paths.push_back(SimdPath::gfni);
#endif
  return paths;
}

std::vector<SimdPath> find_paths() {
  std::vector<SimdPath> paths = machine_paths();
  const char* wanted = std::getenv("ANNULUS_SIMD");
  if (wanted == nullptr || *wanted == '\0') return paths;
  std::string found;
  for (std::size_t index = 0; index < paths.size(); ++index) {
    if (name_of(paths[index]) == wanted) {
      paths.resize(index + 1);
      return paths;
    }
    found += std::string(found.empty() ? "" : ", ") + std::string(name_of(paths[index]));
  }
  throw InputError("ANNULUS_SIMD=" + std::string(wanted) + ": this machine can run " + found);
}

}  // namespace

std::string_view name_of(SimdPath path) {
  switch (path) {
    case SimdPath::plain: return "plain";
    case SimdPath::sse2: return "sse2";
    case SimdPath::avx2: return "avx2";
    case SimdPath::avx512: return "avx512";
    case SimdPath::gfni: return "gfni";
  }
  return "?";
}

std::span<const SimdPath> available_paths() {
  static const std::vector<SimdPath> paths = find_paths();
  return paths;
}

}  // namespace annulus::kernels
