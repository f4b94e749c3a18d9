#include "mapping/hdf5_pipeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "mapping/hdf5_bitshuffle_filter.hpp"

namespace annulus::mapping::hdf5 {

namespace {

using kernels::Compression;
using kernels::Encoding;
using kernels::Shuffle;

// Registered with The HDF Group; their layouts: kernels/decompress.hpp.
constexpr H5Z_filter_t lz4_filter = 32004;
constexpr H5Z_filter_t zstd_filter = 32015;

/// The encoding with one more filter applied to it; nothing where we do not know the two together.
[[nodiscard]] std::optional<Encoding> with(Encoding encoding, const ChunkFilter& filter, std::size_t element_size) {
  if (encoding.compression != Compression::none || encoding.shuffle == Shuffle::bits) return std::nullopt;
  switch (filter.id) {
    case bitshuffle_filter:
      if (encoding.shuffle != Shuffle::none || bitshuffle_element_size(filter.parameters) != element_size) {
        return std::nullopt;
      }
      return bitshuffle_encoding(filter.parameters);
    case H5Z_FILTER_SHUFFLE:
      if (encoding.shuffle != Shuffle::none || filter.parameters != std::vector<unsigned>{unsigned(element_size)}) {
        return std::nullopt;
      }
      encoding.shuffle = Shuffle::bytes;
      return encoding;
    case H5Z_FILTER_DEFLATE: encoding.compression = Compression::deflate; return encoding;
    case lz4_filter: encoding.compression = Compression::lz4; return encoding;
    case zstd_filter: encoding.compression = Compression::zstd; return encoding;
    default: return std::nullopt;
  }
}

}  // namespace

std::vector<ChunkFilter> filters_of(hid_t creation) {
  std::vector<ChunkFilter> filters;
  const int count = H5Pget_nfilters(creation);
  for (int number = 0; number < count; ++number) {
    std::array<unsigned, 16> values{};
    std::size_t value_count = values.size();
    std::array<char, 64> name{};
    unsigned flags = 0;
    unsigned config = 0;
    ChunkFilter& filter = filters.emplace_back();
    filter.id = H5Pget_filter2(creation, static_cast<unsigned>(number), &flags, &value_count, values.data(),
                               name.size() - 1, name.data(), &config);
    filter.parameters.assign(values.begin(), values.begin() + std::min(value_count, values.size()));
    filter.name = name.data();
  }
  H5Eclear2(H5E_DEFAULT);
  return filters;
}

std::optional<Encoding> encoding_of(std::span<const ChunkFilter> filters, std::size_t element_size,
                                    std::uint32_t left_out) {
  std::optional<Encoding> encoding{Encoding::raw};
  for (const ChunkFilter& filter : filters) {
    const bool applied = (left_out & 1U) == 0;
    left_out >>= 1;
    if (applied && encoding) encoding = with(*encoding, filter, element_size);
  }
  return encoding;
}

std::string missing_filter(std::span<const ChunkFilter> filters) {
  for (const ChunkFilter& filter : filters) {
    if (filter.id == bitshuffle_filter && bitshuffle_encoding(filter.parameters)) {
      register_bitshuffle_filter();
    } else if (H5Zfilter_avail(filter.id) <= 0) {
      H5Eclear2(H5E_DEFAULT);
      return fmt::format("{} ({})", filter.id, filter.name.empty() ? "no name" : filter.name);
    }
  }
  return "";
}

}  // namespace annulus::mapping::hdf5
