#include "kernels/decompress.hpp"

#include <libdeflate.h>
#include <lz4.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <memory>
#include <new>

#include "kernels/big_endian.hpp"

namespace annulus::kernels {
namespace {

/// A library's context, made when a thread first needs it and released with the thread.
template <auto create, auto release>
auto* context_of_thread() {
  struct Release {
    void operator()(decltype(create()) context) const { release(context); }
  };
  thread_local std::unique_ptr<std::remove_pointer_t<decltype(create())>, Release> context;
  if (!context) context.reset(create());
  if (!context) throw std::bad_alloc();
  return context.get();
}

DecodeStatus copy(std::span<const std::byte> in, std::span<std::byte> out) {
  if (in.size() != out.size()) return DecodeStatus::wrong_size;
  std::ranges::copy(in, out.begin());
  return DecodeStatus::ok;
}

DecodeStatus decompress_zstd(std::span<const std::byte> in, std::span<std::byte> out) {
  ZSTD_DCtx* const context = context_of_thread<ZSTD_createDCtx, ZSTD_freeDCtx>();
  const std::size_t bytes = ZSTD_decompressDCtx(context, out.data(), out.size(), in.data(), in.size());
  switch (ZSTD_getErrorCode(bytes)) {
    case ZSTD_error_no_error: return bytes == out.size() ? DecodeStatus::ok : DecodeStatus::wrong_size;
    case ZSTD_error_srcSize_wrong: return DecodeStatus::truncated;
    case ZSTD_error_dstSize_tooSmall: return DecodeStatus::wrong_size;
    default: return DecodeStatus::corrupt;
  }
}

DecodeStatus decompress_deflate(std::span<const std::byte> in, std::span<std::byte> out) {
  libdeflate_decompressor* const context =
      context_of_thread<libdeflate_alloc_decompressor, libdeflate_free_decompressor>();
  // Without a place for the size that was found, any other than that of `out` is a failure.
  const libdeflate_result result =
      libdeflate_zlib_decompress(context, in.data(), in.size(), out.data(), out.size(), nullptr);
  return result == LIBDEFLATE_SUCCESS ? DecodeStatus::ok : DecodeStatus::corrupt;
}

DecodeStatus decompress_lz4(std::span<const std::byte> in, std::span<std::byte> out) {
  constexpr std::size_t header_bytes = 12;
  constexpr std::size_t length_bytes = 4;
  if (in.size() < header_bytes) return DecodeStatus::truncated;
  if (read_big_endian<std::uint64_t>(in) != out.size()) return DecodeStatus::wrong_size;
  const std::size_t block_bytes =
      std::min<std::size_t>(read_big_endian<std::uint32_t>(in.subspan(sizeof(std::uint64_t))), out.size());
  in = in.subspan(header_bytes);
  if (!out.empty() && (block_bytes == 0 || block_bytes > LZ4_MAX_INPUT_SIZE)) return DecodeStatus::corrupt;
  while (!out.empty()) {
    const std::span<std::byte> block = out.first(std::min(block_bytes, out.size()));
    out = out.subspan(block.size());
    if (in.size() < length_bytes) return DecodeStatus::truncated;
    const std::size_t length = read_big_endian<std::uint32_t>(in);
    in = in.subspan(length_bytes);
    const int bytes = static_cast<int>(block.size());
    if (length == 0 || length > static_cast<std::size_t>(LZ4_compressBound(bytes))) return DecodeStatus::corrupt;
    if (length > in.size()) return DecodeStatus::truncated;
    const std::span<const std::byte> stored = in.first(length);
    in = in.subspan(length);
    if (length == block.size()) {
      std::ranges::copy(stored, block.begin());
      continue;
    }
    const int decoded = LZ4_decompress_safe(reinterpret_cast<const char*>(stored.data()),
                                            reinterpret_cast<char*>(block.data()), static_cast<int>(length), bytes);
    if (decoded != bytes) return DecodeStatus::corrupt;
  }
  return DecodeStatus::ok;
}

}  // namespace

DecodeStatus decompress(Compression compression, std::span<const std::byte> in, std::span<std::byte> out) {
  switch (compression) {
    case Compression::none: return copy(in, out);
    case Compression::lz4: return decompress_lz4(in, out);
    case Compression::zstd: return decompress_zstd(in, out);
    case Compression::deflate: return decompress_deflate(in, out);
  }
  return DecodeStatus::corrupt;
}

}  // namespace annulus::kernels
