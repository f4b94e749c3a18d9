// Numbers and texts as a row of bytes, for messages between processes of one job: the same machine type, no versions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/errors.hpp"
#include "mapping/frame_source.hpp"

namespace annulus::mapping {

class ByteWriter {
 public:
  template <typename Number>
  void number(Number value) {
    static_assert(std::is_trivially_copyable_v<Number>);
    const auto* raw = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), raw, raw + sizeof value);
  }
  void text(std::string_view value) {
    number<std::uint64_t>(value.size());
    const auto* raw = reinterpret_cast<const std::byte*>(value.data());
    bytes_.insert(bytes_.end(), raw, raw + value.size());
  }
  [[nodiscard]] std::vector<std::byte> bytes() && { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

/// Takes in the same order what a ByteWriter put; what is not there is an InternalError.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : left_(bytes) {}
  template <typename Number>
  [[nodiscard]] Number number() {
    static_assert(std::is_trivially_copyable_v<Number>);
    ANNULUS_EXPECT(left_.size() >= sizeof(Number));
    Number value;
    std::memcpy(&value, left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return value;
  }
  [[nodiscard]] std::string text() {
    const auto size = number<std::uint64_t>();
    ANNULUS_EXPECT(left_.size() >= size);
    std::string value(reinterpret_cast<const char*>(left_.data()), size);
    left_ = left_.subspan(size);
    return value;
  }
  [[nodiscard]] bool at_end() const { return left_.empty(); }

 private:
  std::span<const std::byte> left_;
};

inline void write(ByteWriter& writer, const FrameRun& run) {
  writer.text(run.file.native());
  writer.text(run.dataset);
  writer.number(run.storage);
  writer.number(run.first);
  writer.number(run.frames);
  writer.number(run.type);
  writer.number(run.state.has_value());
  writer.number(run.state.value_or(FileState()));
  writer.number(run.encoding.compression);
  writer.number(run.encoding.shuffle);
  writer.number(run.encoding.block_bytes);
}

[[nodiscard]] inline FrameRun read_run(ByteReader& reader) {
  FrameRun run;
  run.file = reader.text();
  run.dataset = reader.text();
  run.storage = reader.number<Storage>();
  run.first = reader.number<std::uint64_t>();
  run.frames = reader.number<std::uint64_t>();
  run.type = reader.number<kernels::PixelType>();
  const bool known = reader.number<bool>();
  const auto state = reader.number<FileState>();
  if (known) run.state = state;
  run.encoding.compression = reader.number<kernels::Compression>();
  run.encoding.shuffle = reader.number<kernels::Shuffle>();
  run.encoding.block_bytes = reader.number<std::uint64_t>();
  return run;
}

}  // namespace annulus::mapping
