// What the decoder of bitshuffle chunks promises for any bytes, as one function that both the fuzzer and the unit tests
// call.
//
// The oracle reads the format bit by bit, straight from its definition, and shares nothing with the decoder but liblz4
// and libzstd.
// Chunk and frame end at a page that cannot be touched, so that one byte too far stops the program even where no
// sanitizer watches.
#pragma once

#include <lz4.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "kernels/bslz4.hpp"

namespace annulus::fuzz {

using Bytes = std::vector<std::byte>;

/// Memory that ends at a forbidden page, with a margin of known bytes before it.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t capacity) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    usable_ = (capacity + margin + page - 1) / page * page;
    mapped_ = usable_ + page;
    void* const address = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc();
    start_ = static_cast<std::byte*>(address);
    if (::mprotect(start_ + usable_, page, PROT_NONE) != 0) throw std::bad_alloc();
  }
  ~GuardedBuffer() { ::munmap(start_, mapped_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  /// The last `size` bytes before the forbidden page; renews the margin before them.
  std::span<std::byte> take(std::size_t size) {
    std::byte* const begin = start_ + usable_ - size;
    std::fill_n(begin - margin, margin, margin_byte);
    return {begin, size};
  }

  [[nodiscard]] static bool margin_intact(std::span<const std::byte> taken) {
    return std::all_of(taken.data() - margin, taken.data(), [](std::byte byte) { return byte == margin_byte; });
  }

 private:
  static constexpr std::size_t margin = 64;  ///< one vector register of the widest path
  static constexpr std::byte margin_byte{0xA5};
  std::byte* start_ = nullptr;
  std::size_t usable_ = 0;
  std::size_t mapped_ = 0;
};

inline std::uint64_t big_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | std::to_integer<std::uint64_t>(byte);
  return value;
}

inline void append_big_endian(std::uint64_t value, std::size_t width, Bytes& bytes) {
  while (width-- > 0) bytes.push_back(static_cast<std::byte>(value >> (8 * width)));
}

enum class Direction : std::uint8_t { to_planes, to_elements };

/// Bit transposition by its definition: plane 8 b + k, byte j, bit i <-> element 8 j + i, byte b, bit k.
inline Bytes transpose_by_definition(Direction direction, std::span<const std::byte> in, std::size_t element_size) {
  Bytes out(in.size());
  const std::size_t plane_bits = in.size() / element_size;
  const auto move_bit = [&](std::size_t from, std::size_t to) {
    const bool set = (in[from / 8] >> (from % 8) & std::byte{1}) != std::byte{0};
    if (set) out[to / 8] |= std::byte{1} << (to % 8);
  };
  for (std::size_t element = 0; element < plane_bits; ++element) {
    for (std::size_t bit = 0; bit < 8 * element_size; ++bit) {
      const std::size_t in_elements = element * 8 * element_size + bit;
      const std::size_t in_planes = bit * plane_bits + element;
      if (direction == Direction::to_planes) {
        move_bit(in_elements, in_planes);
      } else {
        move_bit(in_planes, in_elements);
      }
    }
  }
  return out;
}

/// What liblz4 or libzstd makes of a block.
inline Bytes compress(kernels::Compression compression, const Bytes& block) {
  if (compression == kernels::Compression::none) return block;
  Bytes packed(std::max(ZSTD_compressBound(block.size()),
                        static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(block.size())))));
  const std::size_t length =
      compression == kernels::Compression::zstd
          ? ZSTD_compress(packed.data(), packed.size(), block.data(), block.size(), 3)
          : static_cast<std::size_t>(LZ4_compress_default(
                reinterpret_cast<const char*>(block.data()), reinterpret_cast<char*>(packed.data()),
                static_cast<int>(block.size()), static_cast<int>(packed.size())));
  packed.resize(length);
  return packed;
}

/// A chunk with blocks of any size; `block_bytes` is a multiple of 8 elements, or 0 for a header that says "default".
/// `encoding` is one of bit planes.
inline Bytes encode_by_definition(std::span<const std::byte> frame, std::size_t element_size, std::size_t block_bytes,
                                  const kernels::Encoding& encoding = kernels::Encoding::bslz4) {
  const bool plain = encoding.compression == kernels::Compression::none;
  Bytes chunk;
  if (!plain) {
    append_big_endian(frame.size(), 8, chunk);
    append_big_endian(block_bytes, 4, chunk);
  }
  if (block_bytes == 0) block_bytes = 8192;
  const std::size_t shuffled = frame.size() - frame.size() % (8 * element_size);
  for (std::size_t position = 0; position < shuffled; position += block_bytes) {
    const std::size_t bytes = std::min(block_bytes, shuffled - position);
    const Bytes planes = transpose_by_definition(Direction::to_planes, frame.subspan(position, bytes), element_size);
    const Bytes packed = compress(encoding.compression, planes);
    if (!plain) append_big_endian(packed.size(), 4, chunk);
    chunk.insert(chunk.end(), packed.begin(), packed.end());
  }
  chunk.insert(chunk.end(), frame.begin() + static_cast<std::ptrdiff_t>(shuffled), frame.end());
  return chunk;
}

/// Whether a block that liblz4 decodes has a match of offset 0.
inline bool has_zero_offset(std::span<const std::byte> block) {
  std::size_t next = 0;
  const auto read_length = [&](std::size_t nibble) {
    std::size_t length = nibble;
    for (std::size_t byte = 255; nibble == 15 && byte == 255;) {
      byte = std::to_integer<std::size_t>(block[next++]);
      length += byte;
    }
    return length;
  };
  while (next < block.size()) {
    const auto token = std::to_integer<std::size_t>(block[next++]);
    const std::size_t literals = read_length(token >> 4);
    next += literals;
    if (next >= block.size()) break;
    if (block[next] == std::byte{0} && block[next + 1] == std::byte{0}) return true;
    next += 2;
    read_length(token & 15);
  }
  return false;
}

/// The frame that a chunk holds, or nothing when it holds none of `frame_bytes` bytes.
inline std::optional<Bytes> decode_by_definition(std::span<const std::byte> chunk, std::size_t element_size,
                                                 std::size_t frame_bytes,
                                                 const kernels::Encoding& encoding = kernels::Encoding::bslz4) {
  using kernels::Compression;
  std::size_t next = 0;
  const auto take = [&](std::uint64_t count) -> std::optional<std::span<const std::byte>> {
    if (count > chunk.size() - next) return std::nullopt;
    const auto taken = chunk.subspan(next, count);
    next += count;
    return taken;
  };
  std::uint64_t block_bytes = encoding.block_bytes;
  if (encoding.compression == Compression::none) {
    if (chunk.size() != frame_bytes) return std::nullopt;
  } else {
    const auto header = take(12);
    if (!header || big_endian(header->first(8)) != frame_bytes) return std::nullopt;
    block_bytes = big_endian(header->last(4));
  }
  if (block_bytes == 0) block_bytes = 8192;
  if (block_bytes % (8 * element_size) != 0) return std::nullopt;
  Bytes frame;
  const std::size_t raw = frame_bytes % (8 * element_size);
  while (frame.size() < frame_bytes - raw) {
    Bytes planes(std::min<std::uint64_t>(block_bytes, frame_bytes - raw - frame.size()));
    std::uint64_t length = planes.size();
    if (encoding.compression != Compression::none) {
      const auto stored = take(4);
      if (!stored) return std::nullopt;
      length = big_endian(*stored);
    }
    const auto packed = take(length);
    // The format says nothing of it, but no encoder makes so much of a block: our decoder takes it for damage.
    if (!packed || (encoding.compression == Compression::zstd && length > ZSTD_compressBound(planes.size()))) {
      return std::nullopt;
    }
    switch (encoding.compression) {
      case Compression::none: std::copy(packed->begin(), packed->end(), planes.begin()); break;
      case Compression::zstd:
        if (length == 0 ||
            ZSTD_decompress(planes.data(), planes.size(), packed->data(), packed->size()) != planes.size()) {
          return std::nullopt;
        }
        break;
      default: {
        const int decoded =
            LZ4_decompress_safe(reinterpret_cast<const char*>(packed->data()), reinterpret_cast<char*>(planes.data()),
                                static_cast<int>(packed->size()), static_cast<int>(planes.size()));
        if (decoded != static_cast<int>(planes.size())) return std::nullopt;
        // liblz4 lets an offset of 0 pass, which the format forbids: nobody knows what such bytes meant.
        if (has_zero_offset(*packed)) return std::nullopt;
      }
    }
    const Bytes elements = transpose_by_definition(Direction::to_elements, planes, element_size);
    frame.insert(frame.end(), elements.begin(), elements.end());
  }
  const auto rest = take(raw);
  if (!rest) return std::nullopt;
  frame.insert(frame.end(), rest->begin(), rest->end());
  return frame;
}

/// Frames that the fuzzer decodes are no larger than this: a hostile header must not make the oracle slow.
constexpr std::size_t maximum_frame_bytes = 64 * 1024;

/// Holds the memory that is used again for each input.
class BitshuffleChecker {
 public:
  struct Outcome {
    kernels::DecodeStatus status;
    const char* broken;  ///< the promise that was not kept, nullptr when all were
  };

  /// Decodes `chunk` as a frame of the size that its header claims (of 64 elements when that is no possible size).
  /// Without a header the frame has the size of the chunk, less what is no whole element.
  Outcome check(std::span<const std::byte> chunk, std::size_t element_size,
                const kernels::Encoding& encoding = kernels::Encoding::bslz4) {
    using kernels::DecodeStatus;
    if (chunk.size() > maximum_chunk_bytes) chunk = chunk.first(maximum_chunk_bytes);
    std::size_t frame_bytes = 64 * element_size;
    if (encoding.compression == kernels::Compression::none) {
      chunk = chunk.first(std::min(chunk.size(), maximum_frame_bytes));
      frame_bytes = chunk.size() / element_size * element_size;
    } else if (chunk.size() >= 8) {
      const std::uint64_t claimed = big_endian(chunk.first(8));
      if (claimed <= maximum_frame_bytes && claimed % element_size == 0) frame_bytes = claimed;
    }
    const auto guarded_chunk = chunk_.take(chunk.size());
    std::copy(chunk.begin(), chunk.end(), guarded_chunk.begin());
    const auto frame = frame_.take(frame_bytes);

    const DecodeStatus status = kernels::decode({guarded_chunk, encoding}, element_size, frame);
    if (!GuardedBuffer::margin_intact(frame)) return {status, "no byte outside the frame is written"};
    if (!std::equal(chunk.begin(), chunk.end(), guarded_chunk.begin())) return {status, "the chunk is not changed"};
    const auto expected = decode_by_definition(chunk, element_size, frame_bytes, encoding);
    if (expected.has_value() != (status == DecodeStatus::ok)) return {status, "ok is said of valid chunks alone"};
    if (!expected) return {status, nullptr};
    if (!std::equal(frame.begin(), frame.end(), expected->begin(), expected->end())) {
      return {status, "a valid chunk gives its frame"};
    }
    const Bytes again = kernels::encode_bslz4(frame, element_size);
    Bytes decoded(frame_bytes);
    if (kernels::decode_bslz4(again, element_size, decoded) != DecodeStatus::ok || decoded != *expected) {
      return {status, "a frame survives encoding and decoding"};
    }
    return {status, nullptr};
  }

 private:
  static constexpr std::size_t maximum_chunk_bytes = 2 * maximum_frame_bytes;
  GuardedBuffer chunk_{maximum_chunk_bytes};
  GuardedBuffer frame_{maximum_frame_bytes};
};

}  // namespace annulus::fuzz
