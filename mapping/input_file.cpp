#include "mapping/input_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <system_error>

#include "base/errors.hpp"
#include "mapping/frame_source.hpp"

namespace annulus::mapping {

namespace {

[[noreturn]] void refuse(const std::filesystem::path& file, int error) {
  throw InputError(fmt::format("{}: cannot be read: {}", file.string(), std::generic_category().message(error)));
}

}  // namespace

InputFile open_input(const std::filesystem::path& file) {
  InputFile input;
  // Without O_NONBLOCK opening a named pipe would wait for ever for a writer.
  input.descriptor.reset(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!input.descriptor) refuse(file, errno);
  struct stat status {};
  if (::fstat(input.descriptor.get(), &status) != 0) refuse(file, errno);
  if (S_ISDIR(status.st_mode)) throw InputError(fmt::format("{}: is a folder, expected a file", file.string()));
  if (!S_ISREG(status.st_mode)) throw InputError(fmt::format("{}: is no regular file", file.string()));
  if (status.st_size == 0) throw InputError(fmt::format("{}: is empty (0 bytes)", file.string()));
  input.bytes = static_cast<std::uint64_t>(status.st_size);
  return input;
}

FileFormat format_of(const InputFile& file) {
  using namespace std::string_view_literals;
  static constexpr std::string_view hdf5_signature = "\x89HDF\r\n\x1a\n"sv;
  std::array<std::byte, 8> head{};
  const auto read_head = [&](std::uint64_t offset) {
    head.fill(std::byte{0});
    if (offset >= file.bytes) return false;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), file.bytes - offset));
    return read_exactly(file.descriptor.get(), offset, std::span(head).first(count));
  };
  const auto starts_with = [&](std::string_view magic) {
    return std::string_view(reinterpret_cast<const char*>(head.data()), head.size()).starts_with(magic);
  };

  if (!read_head(0)) return FileFormat::unknown;
  // TIFF and BigTIFF, either byte order.
  if (starts_with("II*\0"sv) || starts_with("MM\0*"sv) || starts_with("II+\0"sv) || starts_with("MM\0+"sv)) {
    return FileFormat::tiff;
  }
  if (starts_with("\x93NUMPY"sv)) return FileFormat::npy;
  if (starts_with("{\n"sv) || starts_with("{\r\n"sv)) return FileFormat::edf;
  // The HDF5 signature is at 0, or behind a user block of 512 bytes times a power of two (format specification, II.A).
  for (std::uint64_t offset = 0; offset < file.bytes; offset = offset == 0 ? 512 : 2 * offset) {
    if (read_head(offset) && starts_with(hdf5_signature)) return FileFormat::hdf5;
  }
  return FileFormat::unknown;
}

std::optional<FileState> file_state(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  if (error) return std::nullopt;
  const std::filesystem::file_time_type changed = std::filesystem::last_write_time(file, error);
  if (error) return std::nullopt;
  return FileState{bytes, std::chrono::duration_cast<std::chrono::nanoseconds>(changed.time_since_epoch()).count()};
}

bool read_exactly(int descriptor, std::uint64_t offset, std::span<std::byte> out) noexcept {
  while (!out.empty()) {
    const ssize_t count = ::pread(descriptor, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    offset += static_cast<std::uint64_t>(count);
    out = out.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace annulus::mapping
