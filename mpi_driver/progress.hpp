// Progress on standard error: a bar on a terminal, plain lines in a log file. Rank 0 alone shows it.
#pragma once

#include <chrono>
#include <cstdint>

namespace annulus::driver {

class Progress {
 public:
  /// @param total  frames to be done by all ranks together
  Progress(std::uint64_t total, bool shown);

  /// Tells how many frames have been handed out to ranks; prints at most a few times a second (terminal) or every ten
  /// seconds (log).
  void update(std::uint64_t done);
  /// Ends the bar or prints the last line.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void print(std::uint64_t done);

  std::uint64_t total_;
  bool shown_;
  bool terminal_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace annulus::driver
