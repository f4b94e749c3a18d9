// The regression check: how long our kernels take in units of what stock liblz4 and the bit transposition take on the
// same chunks, in the same process. Seconds say nothing on a machine that others use; this ratio says it all, and
// changes little from one x86-64 to the next.
//
// Everything is measured in turns, many times, and the least of each counts: a disturbance lengthens some turns, but
// never shortens one. It must hit every turn of one contender and not all of the other to do harm. One thread.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "benchmarks/workload.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/bslz4.hpp"
#include "kernels/reference/stock_bslz4.hpp"

namespace annulus::benchmarks {
namespace {

using kernels::ErrorModel;
using kernels::Splitting;

constexpr std::size_t frames = 16;
constexpr int turns = 15;

struct Contender {
  std::string name;
  double limit;  ///< times the floor
  std::function<void()> work;
  std::vector<double> times = {};  ///< of the floor, turn by turn

  /// The median: a machine may run twice as fast for a while, but seldom changes within a turn.
  [[nodiscard]] double typical_times() const {
    std::vector<double> sorted = times;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
  }
};

/// The processor's time of this thread, not the clock's: a turn is longer than a busy machine leaves a process alone.
double thread_s() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double seconds_of(const std::function<void()>& work) {
  const double start = thread_s();
  work();
  return thread_s() - start;
}

/// Measures in turns and prints; false when a contender is beyond its limit.
bool hold(const std::string& kind, const std::function<void()>& floor, std::vector<Contender> contenders) {
  double best_floor_s = std::numeric_limits<double>::max();
  bool good = false;
  // A second chance costs seconds, a false alarm an hour.
  for (int chance = 0; chance < 3 && !good; ++chance) {
    for (int turn = 0; turn < turns; ++turn) {
      for (Contender& contender : contenders) {
        const double floor_s = seconds_of(floor);
        contender.times.push_back(seconds_of(contender.work) / floor_s);
        best_floor_s = std::min(best_floor_s, floor_s);
      }
    }
    good = std::all_of(contenders.begin(), contenders.end(),
                       [](const Contender& contender) { return contender.typical_times() <= contender.limit; });
  }
  fmt::print("{:<8} {:<34} {:.3f} ms a frame at best\n", kind, "floor: stock LZ4, unshuffle",
             best_floor_s / frames * 1e3);
  for (const Contender& contender : contenders) {
    const double times = contender.typical_times();
    fmt::print("{:<8} {:<34} {:.2f} times the floor, limit {:.2f}{}\n", kind, contender.name, times, contender.limit,
               times > contender.limit ? "  TOO SLOW" : "");
  }
  return good;
}

/// What a kind of frames may cost, in times of its floor. Measured values are in README.md; limits are a quarter
/// to a half above, for what differs between processors and for neighbours on the same caches.
struct Limits {
  Content content;
  const char* name;
  double decode;
  double product;
  double decode_and_product;
};

bool hold_all() {
  constexpr Limits kinds[] = {{Content::dense, "dense", 1.2, 2.4, 2.7},
                              {Content::typical, "typical", 1.2, 1.8, 2.3},
                              {Content::sparse, "sparse", 1.2, 2.4, 2.5}};
  bool good = true;
  for (const Limits& kind : kinds) {
    const Workload work(kind.content, frames);
    integrator::Integrator integrator = make_integrator(work, Splitting::bbox, ErrorModel::poisson, 1);
    Runner runner(work, integrator);
    std::vector<std::byte> out(work.frame_bytes());
    const auto floor = [&] {
      for (const std::vector<std::byte>& chunk : work.chunks) {
        static_cast<void>(
            kernels::reference::decode_stock_bslz4(kernels::best_path(), chunk, sizeof(std::uint16_t), out));
      }
    };
    const auto decode = [&] {
      for (const std::vector<std::byte>& chunk : work.chunks) {
        static_cast<void>(kernels::decode_bslz4(chunk, sizeof(std::uint16_t), out));
      }
    };
    good = hold(kind.name, floor,
                {{"decode", kind.decode, decode},
                 {"product", kind.product, [&] { runner.multiply(frames); }},
                 {"decode + product", kind.decode_and_product, [&] { runner.decode_and_multiply(frames); }}}) &&
           good;
  }
  return good;
}

}  // namespace
}  // namespace annulus::benchmarks

int main() {
  if (annulus::kernels::best_path() < annulus::kernels::SimdPath::avx2) {
    fmt::print("skipped: the limits are those of AVX2 and more, which this machine (or ANNULUS_SIMD) does not have\n");
    return 77;
  }
  if (annulus::benchmarks::hold_all()) return 0;
  fmt::print("a kernel has become slower than its limit; benchmarks/README.md says what to look at\n");
  return 1;
}
