#include "mpi_driver/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <string>

#include <fmt/format.h>

namespace annulus::driver {

Progress::Progress(std::uint64_t total, bool shown) : total_(total), shown_(shown), terminal_(::isatty(2) != 0) {}

void Progress::update(std::uint64_t done) {
  const auto now = Clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000);
  if (!shown_ || now - last_ < pause) return;
  last_ = now;
  print(done);
}

void Progress::finish() {
  if (!shown_) return;
  if (total_ == 0) {
    std::cerr << "annulus: nothing is left to do" << std::endl;
    return;
  }
  print(total_);
  if (terminal_) std::cerr << '\n';
}

void Progress::print(std::uint64_t done) {
  const double elapsed_s = std::chrono::duration<double>(Clock::now() - start_).count();
  const double share = total_ > 0 ? static_cast<double>(std::min(done, total_)) / static_cast<double>(total_) : 1.0;
  const double rate = elapsed_s > 0 ? static_cast<double>(done) / elapsed_s : 0.0;
  const std::string left =
      done < total_ && rate > 0 ? fmt::format(", {:.0f} s left", static_cast<double>(total_ - done) / rate) : "";
  const std::string text = fmt::format("{} of {} frames ({:.0f} %), {:.0f} frames/s{}", std::min(done, total_), total_,
                                       share * 100.0, rate, left);
  if (terminal_) {
    constexpr int width = 30;
    const auto filled = static_cast<std::size_t>(share * width);
    std::cerr << "\r[" << std::string(filled, '#') << std::string(width - filled, ' ') << "] " << text << "\033[K"
              << std::flush;
  } else {
    std::cerr << "annulus: " << text << std::endl;
  }
}

}  // namespace annulus::driver
