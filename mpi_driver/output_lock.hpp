// One job at a time on an output: a small file beside it says who works on it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace annulus::driver {

/// `OUT.h5.lock` beside `OUT.h5`, made by rank 0 before the output is touched and removed when the run ends. It names
/// host, process and batch job. One that a killed job left behind does not stand in the way: its process is gone on
/// this host, or it was an earlier start of the same batch job. A job on another host cannot be looked at; its file
/// holds until somebody removes it.
class OutputLock {
 public:
  /// Takes the lock. Throws InputError naming the holder when another job has it; IoError when the disk fails.
  explicit OutputLock(const std::filesystem::path& output);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

  /// Who holds the lock of `output`, as a message for people; absent when nobody does.
  [[nodiscard]] static std::optional<std::string> holder(const std::filesystem::path& output);

 private:
  std::filesystem::path file_;
};

}  // namespace annulus::driver
