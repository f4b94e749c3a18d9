#include "mapping/output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

namespace annulus::mapping {

namespace fs = std::filesystem;

namespace {

/// What is written to ask a file system for space that cannot allocate ahead.
constexpr std::size_t sample_bytes = std::size_t{4} << 20;

/// Brings a file's bytes, or a folder's names, to the disk: an error that was delayed shows here.
void sync_to_disk(const fs::path& path, int flags) {
  const FileDescriptor descriptor(::open(path.c_str(), flags | O_CLOEXEC));
  if (!descriptor) throw_errno("open '" + path.string() + "'", errno);
  // Some file systems cannot sync a folder (EINVAL): then the name is as safe as they make it.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) throw_errno("write '" + path.string() + "' to disk", errno);
}

}  // namespace

[[noreturn]] void throw_errno(const std::string& what, int error) {
  const std::string message = "cannot " + what + ": " + std::generic_category().message(error);
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
    case EEXIST: throw InputError(message);
    default: throw IoError(message);
  }
}

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

InputError exists_error(const fs::path& file) {
  return InputError("output file '" + file.string() + "' exists: give another name, or --overwrite");
}

void check_output(const fs::path& file, bool overwrite) {
  std::error_code ignored;
  const fs::file_status existing = fs::symlink_status(file, ignored);
  if (fs::is_directory(existing)) throw InputError("output file '" + file.string() + "' is a folder");
  if (!overwrite && fs::exists(existing)) throw exists_error(file);
}

TemporaryFile::TemporaryFile(fs::path target) : target_(std::move(target)) {
  // Not the process number: two nodes may share the folder, and the number. Short: the target's own name may be long.
  std::random_device random;
  const std::uint64_t number = std::uint64_t{random()} << 32 | random();
  path_ = folder_of(target_) / fmt::format(".annulus-{:016x}.part", number);
  const FileDescriptor descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!descriptor) throw_errno("create output file '" + target_.string() + "'", errno);
}

TemporaryFile::~TemporaryFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

void TemporaryFile::check_space(std::uint64_t bytes) const {
  const FileDescriptor descriptor = open_again();
  int error = 0;
  // Some file systems cannot allocate ahead (EOPNOTSUPP), and are asked by writing a little: HDF5 crashes at the end
  // of the process when it could not write its metadata, so at least that must fit.
  if (::fallocate(descriptor.get(), 0, 0, static_cast<off_t>(bytes)) != 0) error = errno;
  if (error == EOPNOTSUPP) {
    const std::vector<char> sample(std::min<std::uint64_t>(bytes, sample_bytes));
    const ssize_t written = ::pwrite(descriptor.get(), sample.data(), sample.size(), 0);
    error = written < 0 ? errno : written < static_cast<ssize_t>(sample.size()) ? ENOSPC : 0;
  }
  if (error != 0) {
    const double megabytes = static_cast<double>(bytes) * 1e-6;
    throw_errno(fmt::format("make output file '{}' of {:.0f} MB", target_.string(), megabytes), error);
  }
  empty();
}

void TemporaryFile::empty() const { static_cast<void>(::truncate(path_.c_str(), 0)); }

void TemporaryFile::write(std::uint64_t offset, std::span<const std::byte> bytes) const {
  write_all(open_again().get(), offset, bytes);
}

void TemporaryFile::fill(std::uint64_t offset, std::uint64_t bytes, std::span<const std::byte> pattern) const {
  const FileDescriptor descriptor = open_again();
  while (bytes > 0) {
    const std::span part = pattern.first(std::min<std::uint64_t>(bytes, pattern.size()));
    write_all(descriptor.get(), offset, part);
    offset += part.size();
    bytes -= part.size();
  }
}

void TemporaryFile::publish(bool overwrite) {
  sync_to_disk(path_, O_RDWR);
  if (overwrite || !link_to_target()) {
    if (::rename(path_.c_str(), target_.c_str()) != 0) {
      throw_errno("name output file '" + target_.string() + "'", errno);
    }
  } else {
    ::unlink(path_.c_str());
  }
  path_.clear();
  sync_to_disk(folder_of(target_), O_RDONLY | O_DIRECTORY);
}

FileDescriptor TemporaryFile::open_again() const {
  FileDescriptor descriptor(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!descriptor) throw_errno("open output file '" + target_.string() + "'", errno);
  return descriptor;
}

void TemporaryFile::write_all(int descriptor, std::uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno("write output file '" + target_.string() + "'", errno);
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

/// A hard link never replaces a file, on any file system that has them; false where there are none.
bool TemporaryFile::link_to_target() {
  if (::link(path_.c_str(), target_.c_str()) == 0) return true;
  if (errno == EEXIST) throw exists_error(target_);
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(target_, ignored))) throw exists_error(target_);
  return false;
}

}  // namespace annulus::mapping
