// The clock by which stages are timed.
#pragma once

#include <chrono>

namespace annulus::driver {

/// Seconds on a clock that never jumps; only differences mean something.
[[nodiscard]] inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace annulus::driver
