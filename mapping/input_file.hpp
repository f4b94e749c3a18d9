// Plain files of the input: opened once, recognised by their first bytes, read in pieces by position.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/unique_handle.hpp"

namespace annulus::mapping {

struct DescriptorTraits {
  using Type = int;
  static Type invalid() noexcept { return -1; }
  static void release(Type descriptor) noexcept { ::close(descriptor); }
};
using FileDescriptor = UniqueHandle<DescriptorTraits>;

enum class FileFormat : std::uint8_t { tiff, hdf5, npy, edf, unknown };

/// A regular file, open for reading and not empty.
struct InputFile {
  FileDescriptor descriptor;
  std::uint64_t bytes = 0;
};

/// Throws InputError naming the file when it is absent, no regular file, not readable or empty.
[[nodiscard]] InputFile open_input(const std::filesystem::path& file);

/// The format by magic bytes, never by the name's extension; HDF5 also behind a user block.
[[nodiscard]] FileFormat format_of(const InputFile& file);

/// Reads out.size() bytes at `offset`; false when the file ends before or reading fails. Any thread.
[[nodiscard]] bool read_exactly(int descriptor, std::uint64_t offset, std::span<std::byte> out) noexcept;

}  // namespace annulus::mapping
