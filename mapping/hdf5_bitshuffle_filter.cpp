#include "mapping/hdf5_bitshuffle_filter.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "base/errors.hpp"
#include "kernels/big_endian.hpp"
#include "kernels/bitshuffle_chunk.hpp"
#include "kernels/bslz4.hpp"
#include "mapping/hdf5.hpp"

namespace annulus::mapping::hdf5 {

namespace {

// Places of the parameters.
constexpr std::size_t element_size_at = 2;
constexpr std::size_t block_size_at = 3;
constexpr std::size_t compression_at = 4;

std::size_t expected_bytes = 0;  // Of a decoded chunk, 0 = any; HDF5 is called by one thread at a time.

/// Puts a reason on HDF5's error stack.
void tell(const char* reason) {
  H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_PLINE, H5E_CANTFILTER, "%s", reason);
}

/// Before a dataset is created: puts version and element size before the caller's parameters.
herr_t set_local(hid_t creation, hid_t type, hid_t) {
  std::array<unsigned, 8> given{};
  std::size_t count = given.size();
  unsigned flags = 0;
  if (H5Pget_filter_by_id2(creation, bitshuffle_filter, &flags, &count, given.data(), 0, nullptr, nullptr) < 0)
    return -1;
  const std::size_t element_size = H5Tget_size(type);
  if (element_size != 1 && element_size != 2 && element_size != 4 && element_size != 8) {
    tell("bitshuffle: elements of 1, 2, 4 or 8 bytes are supported");
    return -1;
  }
  const unsigned block_size = count > 0 ? given[0] : 0;
  const unsigned compression = count > 1 ? given[1] : bitshuffle_none;
  if (block_size != 0 || compression != bitshuffle_lz4) {
    tell("bitshuffle: writing is supported with LZ4 and the default block size alone");
    return -1;
  }
  // 0.3 is the version of bitshuffle whose layout this is; no reader looks at it.
  const std::array<unsigned, 5> parameters{0, 3, static_cast<unsigned>(element_size), block_size, compression};
  return H5Pmodify_filter(creation, bitshuffle_filter, flags, parameters.size(), parameters.data());
}

/// Hands `bytes` of memory over to HDF5 in exchange for its buffer.
[[nodiscard]] std::span<std::byte> exchange(void* fresh, std::size_t bytes, std::size_t* buffer_bytes, void** buffer) {
  std::free(*buffer);
  *buffer = fresh;
  *buffer_bytes = bytes;
  return {static_cast<std::byte*>(fresh), bytes};
}

/// The most that one byte of a chunk can stand for: LZ4's lengths grow by 255 a byte; a block of Zstandard, four bytes
/// at least, holds 128 KiB at most. A head that promises more is corrupt, and must not cost memory.
[[nodiscard]] std::size_t largest_ratio(kernels::Compression compression) {
  return compression == kernels::Compression::lz4 ? 255 : (std::size_t{128} << 10) / 4;
}

std::size_t decode(std::span<const unsigned> parameters, std::span<const std::byte> chunk, std::size_t* buffer_bytes,
                   void** buffer) {
  const std::optional<kernels::Encoding> encoding = bitshuffle_encoding(parameters);
  if (!encoding) {
    tell("bitshuffle: this compression is not supported, only LZ4, Zstandard and none");
    return 0;
  }
  std::uint64_t bytes = chunk.size();
  if (encoding->compression != kernels::Compression::none) {
    if (chunk.size() < kernels::bitshuffle_header_bytes) {
      tell("bitshuffle: chunk shorter than its head");
      return 0;
    }
    bytes = kernels::read_big_endian<std::uint64_t>(chunk);
    if (bytes / largest_ratio(encoding->compression) > chunk.size()) {
      tell("bitshuffle: corrupt chunk");
      return 0;
    }
  }
  const std::size_t element_size = bitshuffle_element_size(parameters);
  if ((expected_bytes != 0 && bytes != expected_bytes) || bytes % element_size != 0) {
    tell("bitshuffle: chunk of another decoded size");
    return 0;
  }
  void* fresh = std::malloc(std::max<std::size_t>(bytes, 1));  // HDF5 releases it with free().
  if (fresh == nullptr) throw std::bad_alloc();
  const std::span<std::byte> out(static_cast<std::byte*>(fresh), bytes);
  if (kernels::decode({chunk, *encoding}, element_size, out) != kernels::DecodeStatus::ok) {
    std::free(fresh);
    tell("bitshuffle: corrupt chunk");
    return 0;
  }
  return exchange(fresh, bytes, buffer_bytes, buffer).size();
}

std::size_t encode(std::span<const unsigned> parameters, std::span<const std::byte> chunk, std::size_t* buffer_bytes,
                   void** buffer) {
  if (parameters.size() <= compression_at || parameters[compression_at] != bitshuffle_lz4 ||
      parameters[block_size_at] != 0) {
    tell("bitshuffle: writing is supported with LZ4 and the default block size alone");
    return 0;
  }
  const std::vector<std::byte> encoded = kernels::encode_bslz4(chunk, parameters[element_size_at]);
  void* fresh = std::malloc(encoded.size());
  if (fresh == nullptr) throw std::bad_alloc();
  std::memcpy(fresh, encoded.data(), encoded.size());
  return exchange(fresh, encoded.size(), buffer_bytes, buffer).size();
}

/// The filter as HDF5 calls it: replaces the buffer and returns the bytes in it, or 0 for a failure.
std::size_t apply(unsigned flags, std::size_t count, const unsigned* values, std::size_t bytes,
                  std::size_t* buffer_bytes, void** buffer) {
  try {
    const std::span parameters(values, count);
    if (count <= element_size_at) {
      tell("bitshuffle: filter parameters are missing");
      return 0;
    }
    const std::size_t element_size = parameters[element_size_at];
    if (element_size != 1 && element_size != 2 && element_size != 4 && element_size != 8) {
      tell("bitshuffle: elements of 1, 2, 4 or 8 bytes are supported");
      return 0;
    }
    const std::span<const std::byte> chunk(static_cast<const std::byte*>(*buffer), bytes);
    return (flags & H5Z_FLAG_REVERSE) != 0 ? decode(parameters, chunk, buffer_bytes, buffer)
                                           : encode(parameters, chunk, buffer_bytes, buffer);
  } catch (const std::exception& error) {  // Nothing may pass through HDF5.
    tell(error.what());
    return 0;
  }
}

}  // namespace

std::size_t bitshuffle_element_size(std::span<const unsigned> parameters) {
  return parameters.size() > element_size_at ? parameters[element_size_at] : 0;
}

std::optional<kernels::Encoding> bitshuffle_encoding(std::span<const unsigned> parameters) {
  const std::uint64_t block_elements = parameters.size() > block_size_at ? parameters[block_size_at] : 0;
  // bitshuffle without compression has no such parameter.
  switch (parameters.size() > compression_at ? parameters[compression_at] : bitshuffle_none) {
    case bitshuffle_none:
      return kernels::Encoding{kernels::Compression::none, kernels::Shuffle::bits,
                               block_elements * bitshuffle_element_size(parameters)};
    case bitshuffle_lz4: return kernels::Encoding::bslz4;
    case bitshuffle_zstd: return kernels::Encoding::bszstd;
    default: return std::nullopt;
  }
}

void register_bitshuffle_filter() {
  H5Z_class2_t filter{};
  filter.version = H5Z_CLASS_T_VERS;
  filter.id = bitshuffle_filter;
  filter.encoder_present = 1;
  filter.decoder_present = 1;
  filter.name = "bitshuffle; see https://github.com/kiyo-masui/bitshuffle";
  filter.set_local = set_local;
  filter.filter = apply;
  check(H5Zregister(&filter), "register filter 32008 (bitshuffle) with HDF5");
}

ExpectChunkBytes::ExpectChunkBytes(std::size_t bytes) { expected_bytes = bytes; }
ExpectChunkBytes::~ExpectChunkBytes() { expected_bytes = 0; }

}  // namespace annulus::mapping::hdf5
