#include "mapping/matrix_cache.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/errors.hpp"
#include "mapping/input_file.hpp"
#include "mapping/output_file.hpp"

namespace annulus::mapping {
namespace fs = std::filesystem;
namespace {

/// A file: Header, key, offsets, pixels, weights, without gaps, in the byte order of the machine that wrote it.
constexpr std::array<char, 8> magic = {'A', 'N', 'N', 'U', 'L', 'U', 'S', 'M'};
constexpr std::uint32_t byte_order_mark = 0x01020304;
constexpr std::uint32_t format_version = 1;

struct AxisRecord {
  double minimum;
  double maximum;
  double greatest_value;
  std::uint64_t bins;
};

struct Header {
  std::array<char, 8> magic;
  std::uint32_t byte_order;
  std::uint32_t version;
  std::uint64_t key_bytes;
  std::uint64_t rows;
  std::uint64_t columns;
  std::uint64_t entries;
  AxisRecord radial;
  AxisRecord azimuthal;
  Digest payload;  ///< of the digests of the arrays' blocks
  Digest own;      ///< of this header, with zeros here, and the key
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) == 144 && sizeof(Digest) == 16);

/// What a thread reads and checks at a time: fits in its cache.
constexpr std::size_t block_bytes = std::size_t{1} << 20;

template <typename Element>
std::size_t blocks_of(std::span<const Element> elements) {
  return (elements.size_bytes() + block_bytes - 1) / block_bytes;
}

template <typename Element>
std::span<Element> block_of(std::span<Element> elements, std::size_t block) {
  constexpr std::size_t block_elements = block_bytes / sizeof(std::remove_const_t<Element>);
  const std::size_t first = block * block_elements;
  return elements.subspan(first, std::min(block_elements, elements.size() - first));
}

/// Appends the digests of an array's blocks.
template <typename Element>
void add_digests(std::span<const Element> elements, int threads, std::vector<Digest>& digests) {
  const std::size_t before = digests.size();
  const std::size_t blocks = blocks_of(elements);
  digests.resize(before + blocks);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::size_t block = 0; block < blocks; ++block) {
    digests[before + block] = digest_of(std::as_bytes(block_of(elements, block)));
  }
}

/// Reads an array and appends its blocks' digests; false when the file ends before, or `valid` refuses a block.
template <typename Element, typename Valid>
bool read_array(int descriptor, std::uint64_t offset, std::span<Element> elements, int threads, Valid&& valid,
                std::vector<Digest>& digests) {
  const std::size_t before = digests.size();
  const std::size_t blocks = blocks_of(std::span<const Element>(elements));
  digests.resize(before + blocks);
  bool good = true;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(&& : good)
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::span<Element> part = block_of(elements, block);
    const std::span<std::byte> bytes = std::as_writable_bytes(part);
    const bool read = read_exactly(descriptor, offset + block * block_bytes, bytes);
    good = good && read && valid(std::span<const Element>(part));
    if (read) digests[before + block] = digest_of(bytes);
  }
  return good;
}

Digest combined(const std::vector<Digest>& digests) { return digest_of(std::as_bytes(std::span(digests))); }

Digest digest_of_header(Header header, const std::string& key) {
  header.own = {};
  const std::vector<Digest> parts = {digest_of(std::as_bytes(std::span(&header, 1))),
                                     digest_of(std::as_bytes(std::span(key)))};
  return combined(parts);
}

AxisRecord record_of(const kernels::BinAxis& axis) {
  return {axis.minimum, axis.maximum, axis.greatest_value, axis.bins};
}

kernels::BinAxis axis_of(const AxisRecord& record) {
  return {record.minimum, record.maximum, record.greatest_value, static_cast<std::uint32_t>(record.bins)};
}

/// Bytes of the three arrays.
std::uint64_t payload_bytes(std::uint64_t rows, std::uint64_t entries) {
  return (rows + 1) * sizeof(std::uint64_t) + entries * (sizeof(std::uint32_t) + sizeof(float));
}

/// Whether the sizes in a header can be those of this file, so that nothing larger is ever allocated.
bool sizes_fit(const Header& header, std::uint64_t file_bytes) {
  constexpr std::uint64_t most = std::uint64_t{1} << 32U;  // rows and columns are uint32
  if (header.rows >= most || header.columns >= most) return false;
  if (header.key_bytes > file_bytes || header.entries > file_bytes) return false;
  return file_bytes == sizeof(Header) + header.key_bytes + payload_bytes(header.rows, header.entries);
}

/// Throws InputError or IoError that says why the file does not hold the matrix of `key`.
integrator::StoredMatrix read_matrix(const fs::path& file, const std::string& key, int threads) {
  const auto expect = [&](bool good, const char* found) {
    if (!good) throw IoError(fmt::format("{}: {}", file.string(), found));
  };
  const InputFile input = open_input(file);
  const int descriptor = input.descriptor.get();
  Header header;
  const bool whole = read_exactly(descriptor, 0, std::as_writable_bytes(std::span(&header, 1)));
  expect(whole && header.magic == magic, "is no matrix of annulus");
  expect(header.byte_order == byte_order_mark, "comes from a machine of another byte order");
  expect(header.version == format_version, "has the layout of another version of annulus");
  expect(sizes_fit(header, input.bytes), "is damaged: its size is not what its header says");
  std::string stored_key(header.key_bytes, '\0');
  std::uint64_t offset = sizeof(Header);
  expect(read_exactly(descriptor, offset, std::as_writable_bytes(std::span(stored_key))), "cannot be read");
  expect(digest_of_header(header, stored_key) == header.own, "is damaged: the header's checksum is wrong");
  expect(stored_key == key, "holds another matrix");
  offset += header.key_bytes;

  integrator::StoredMatrix stored;
  stored.axes = {axis_of(header.radial), axis_of(header.azimuthal)};
  kernels::CsrMatrix& matrix = stored.matrix;
  matrix.rows = static_cast<std::uint32_t>(header.rows);
  matrix.columns = static_cast<std::uint32_t>(header.columns);
  matrix.offsets.resize(header.rows + 1);
  matrix.pixels.resize(header.entries);
  matrix.weights.resize(header.entries);

  std::vector<Digest> digests;
  const auto any = [](std::span<const std::uint64_t>) { return true; };
  bool good = read_array(descriptor, offset, std::span(matrix.offsets), threads, any, digests);
  offset += header.rows * sizeof(std::uint64_t) + sizeof(std::uint64_t);
  const auto are_columns = [&](std::span<const std::uint32_t> pixels) {
    std::uint32_t largest = 0;
    for (const std::uint32_t pixel : pixels) largest = std::max(largest, pixel);
    return pixels.empty() || largest < matrix.columns;
  };
  good = read_array(descriptor, offset, std::span(matrix.pixels), threads, are_columns, digests) && good;
  offset += header.entries * sizeof(std::uint32_t);
  const auto are_finite = [](std::span<const float> weights) {
    std::uint32_t largest = 0;  // of the magnitudes' bits: a comparison that is made for many weights at once
    for (const float weight : weights) largest = std::max(largest, std::bit_cast<std::uint32_t>(weight) << 1U);
    return largest < std::bit_cast<std::uint32_t>(std::numeric_limits<float>::infinity()) << 1U;
  };
  good = read_array(descriptor, offset, std::span(matrix.weights), threads, are_finite, digests) && good;
  expect(good && combined(digests) == header.payload, "is damaged: the matrix's checksum is wrong");
  expect(stored.axes.rows() == matrix.rows && matrix.offsets.front() == 0 &&
             matrix.offsets.back() == matrix.entries() && std::ranges::is_sorted(matrix.offsets),
         "is damaged: its rows are not those of a matrix");
  return stored;
}

/// Throws InputError or IoError.
void write_matrix(const fs::path& file, const std::string& key, const integrator::StoredMatrix& stored, int threads) {
  const kernels::CsrMatrix& matrix = stored.matrix;
  const std::span offsets(matrix.offsets);
  const std::span pixels(matrix.pixels);
  const std::span weights(matrix.weights);
  std::vector<Digest> digests;
  add_digests(offsets, threads, digests);
  add_digests(pixels, threads, digests);
  add_digests(weights, threads, digests);

  Header header{};
  header.magic = magic;
  header.byte_order = byte_order_mark;
  header.version = format_version;
  header.key_bytes = key.size();
  header.rows = matrix.rows;
  header.columns = matrix.columns;
  header.entries = matrix.entries();
  header.radial = record_of(stored.axes.radial);
  header.azimuthal = record_of(stored.axes.azimuthal);
  header.payload = combined(digests);
  header.own = digest_of_header(header, key);

  TemporaryFile temporary(file);
  temporary.check_space(sizeof(Header) + key.size() + payload_bytes(matrix.rows, matrix.entries()));
  std::uint64_t offset = 0;
  const auto append = [&](std::span<const std::byte> bytes) {
    temporary.write(offset, bytes);
    offset += bytes.size();
  };
  append(std::as_bytes(std::span(&header, 1)));
  append(std::as_bytes(std::span(key)));
  append(std::as_bytes(offsets));
  append(std::as_bytes(pixels));
  append(std::as_bytes(weights));
  temporary.publish(true);
}

}  // namespace

MatrixCache::MatrixCache(fs::path folder, Access access, int threads)
    : folder_(std::move(folder)), access_(access), threads_(threads) {}

fs::path MatrixCache::file_of(const std::string& key) const {
  const Digest digest = digest_of(std::as_bytes(std::span(key)));
  return folder_ / fmt::format("{:016x}{:016x}.matrix", digest.first, digest.second);
}

std::optional<integrator::StoredMatrix> MatrixCache::load(const std::string& key) {
  const fs::path file = file_of(key);
  std::error_code error;
  if (fs::status(file, error).type() == fs::file_type::not_found) return std::nullopt;
  try {
    return read_matrix(file, key, threads_);
  } catch (const Error& failure) {
    warnings_.push_back(fmt::format("{}; the matrix is built anew", failure.what()));
    return std::nullopt;
  }
}

void MatrixCache::save(const std::string& key, const integrator::StoredMatrix& stored) {
  if (!saves()) return;
  try {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) throw IoError(fmt::format("cannot make the folder '{}': {}", folder_.string(), error.message()));
    write_matrix(file_of(key), key, stored, threads_);
  } catch (const Error& failure) {
    warnings_.push_back(fmt::format("{}; the matrix is not kept", failure.what()));
  }
}

}  // namespace annulus::mapping
