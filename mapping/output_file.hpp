// Files that appear complete or not at all: written beside their final name, brought to disk, then renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/errors.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping {

/// Throws InputError "cannot <what>: <reason>" for what the user can mend (no permission, no such folder, ...), else
/// IoError. `error` is an errno.
[[noreturn]] void throw_errno(const std::string& what, int error);

/// The folder that `file` lies in, "." for a bare name.
[[nodiscard]] std::filesystem::path folder_of(const std::filesystem::path& file);

/// The InputError of an output that exists.
[[nodiscard]] InputError exists_error(const std::filesystem::path& file);

/// Throws InputError when `file` is a folder, or exists and `overwrite` is off.
void check_output(const std::filesystem::path& file, bool overwrite);

/// A new file beside its final name: removed again unless publish() gives it that name.
class TemporaryFile {
 public:
  /// Throws InputError when the folder cannot be written to, else IoError.
  explicit TemporaryFile(std::filesystem::path target);
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Refuses at once what would run out of space, or of the quota, in the middle of writing. Leaves the file empty.
  void check_space(std::uint64_t bytes) const;

  /// Gives all space back, so that HDF5 can close a file on a disk that is full.
  void empty() const;

  /// Writes `bytes` at `offset`.
  void write(std::uint64_t offset, std::span<const std::byte> bytes) const;

  /// Writes `bytes` bytes of `pattern`, over and over, from `offset` on.
  void fill(std::uint64_t offset, std::uint64_t bytes, std::span<const std::byte> pattern) const;

  /// Gives the file its final name, complete and on disk. Without `overwrite` a file that has appeared there stays, and
  /// InputError is thrown.
  void publish(bool overwrite);

 private:
  [[nodiscard]] FileDescriptor open_again() const;
  void write_all(int descriptor, std::uint64_t offset, std::span<const std::byte> bytes) const;
  [[nodiscard]] bool link_to_target();

  std::filesystem::path target_;
  std::filesystem::path path_;
};

}  // namespace annulus::mapping
