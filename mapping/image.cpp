#include "mapping/frame_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/errors.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_frames.hpp"
#include "mapping/hdf5_input.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping {

namespace {

namespace fs = std::filesystem;

/// Adds `values` of type T, one after the other, to `sums`.
template <typename T>
void add_values(std::span<const std::byte> values, std::endian order, std::span<double> sums) {
  const bool swap = order != std::endian::native;
  for (std::size_t pixel = 0; pixel < sums.size(); ++pixel) {
    std::array<std::byte, sizeof(T)> raw;
    std::memcpy(raw.data(), values.data() + pixel * sizeof(T), sizeof(T));
    if (swap) std::reverse(raw.begin(), raw.end());
    sums[pixel] += static_cast<double>(std::bit_cast<T>(raw));
  }
}

/// How an element of a plain file becomes a number.
struct Element {
  kernels::PixelType type = kernels::PixelType::f64;  ///< f64 for those that no frame has
  std::size_t bytes = 0;
  void (*add)(std::span<const std::byte>, std::endian, std::span<double>) = nullptr;
};

template <typename T>
[[nodiscard]] constexpr Element element() {
  using kernels::PixelType;
  PixelType type = PixelType::f64;
  for (const PixelType known :
       {PixelType::u8, PixelType::u16, PixelType::u32, PixelType::i8, PixelType::i16, PixelType::i32, PixelType::f32}) {
    kernels::visit_pixel_type(known, [&]<typename Pixel>() {
      if (std::is_same_v<T, Pixel>) type = known;
    });
  }
  return {type, sizeof(T), add_values<T>};
}

[[noreturn]] void not_an_image(const std::string& name, std::size_t dimensions) {
  throw InputError(
      fmt::format("{}: has {} dimensions, expected an image (2) or a stack of images (3)", name, dimensions));
}

/// Averages `frames` images of plain numbers that start at `offset` of the file.
[[nodiscard]] Image average(const std::string& name, const InputFile& input, std::uint64_t offset, Element element,
                            std::endian order, std::uint64_t frames, std::uint64_t rows, std::uint64_t columns) {
  constexpr std::uint64_t max_pixels = std::numeric_limits<std::uint32_t>::max();
  if (frames == 0 || rows == 0 || columns == 0 || rows > max_pixels || columns > max_pixels / rows) {
    throw InputError(fmt::format("{}: {} images of {} x {} pixels are not possible", name, frames, rows, columns));
  }
  const std::uint64_t image_bytes = rows * columns * element.bytes;
  const std::uint64_t there = input.bytes - std::min(offset, input.bytes);
  if (there / image_bytes < frames) {
    throw InputError(fmt::format("{}: truncated: holds {} bytes of data, expected {} x {} x {} x {} bytes", name, there,
                                 frames, rows, columns, element.bytes));
  }
  Image image;
  image.rows = static_cast<std::uint32_t>(rows);
  image.columns = static_cast<std::uint32_t>(columns);
  image.values.assign(rows * columns, 0.0);
  image.frames = frames;
  if (frames == 1) image.type = element.type;
  std::vector<std::byte> bytes(image_bytes);
  for (std::uint64_t frame = 0; frame < frames; ++frame) {
    if (!read_exactly(input.descriptor.get(), offset + frame * image_bytes, bytes)) {
      throw InputError(name + ": cannot be read");
    }
    element.add(bytes, order, image.values);
  }
  for (double& value : image.values) value /= static_cast<double>(frames);
  return image;
}

[[nodiscard]] std::string read_text(const std::string& name, const InputFile& input, std::uint64_t offset,
                                    std::uint64_t bytes) {
  std::string text(bytes, '\0');
  if (offset > input.bytes || bytes > input.bytes - offset ||
      !read_exactly(input.descriptor.get(), offset, std::as_writable_bytes(std::span(text)))) {
    throw InputError(name + ": truncated inside its header");
  }
  return text;
}

[[nodiscard]] std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

[[nodiscard]] std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// ---------------------------------------------------------------------------------------------------- numpy

/// What follows `key` in the header's dictionary, up to the end of its value.
[[nodiscard]] std::string_view npy_value(const std::string& name, std::string_view header, std::string_view key,
                                         std::string_view end) {
  std::size_t start = header.find(key);
  if (start == std::string_view::npos) throw InputError(fmt::format("{}: no {} in its numpy header", name, key));
  start = header.find(':', start + key.size());
  const std::size_t stop = start == std::string_view::npos ? start : header.find(end, start);
  if (stop == std::string_view::npos) throw InputError(name + ": damaged numpy header");
  return trimmed(header.substr(start + 1, stop - start - 1));
}

[[nodiscard]] Element npy_element(const std::string& name, std::string_view type) {
  static const std::map<std::string_view, Element> elements = {
      {"b1", element<std::uint8_t>()},  {"u1", element<std::uint8_t>()},  {"u2", element<std::uint16_t>()},
      {"u4", element<std::uint32_t>()}, {"u8", element<std::uint64_t>()}, {"i1", element<std::int8_t>()},
      {"i2", element<std::int16_t>()},  {"i4", element<std::int32_t>()},  {"i8", element<std::int64_t>()},
      {"f4", element<float>()},         {"f8", element<double>()}};
  const auto found = type.empty() ? elements.end() : elements.find(type.substr(1));
  if (found == elements.end() || (type[0] == '>' && found->second.bytes > 1)) {
    throw InputError(
        fmt::format("{}: numpy type '{}' is not supported, expected little-endian bool, int, uint, float32 "
                    "or float64",
                    name, type));
  }
  return found->second;
}

/// The .npy format, versions 1 to 3 (numpy.lib.format).
[[nodiscard]] Image read_npy(const std::string& name, const InputFile& input) {
  const std::string head = read_text(name, input, 0, 12);
  const auto byte = [&](std::size_t index) {
    return static_cast<std::uint64_t>(static_cast<unsigned char>(head[index]));
  };
  const bool version1 = byte(6) == 1;
  const std::uint64_t start = version1 ? 10 : 12;
  std::uint64_t length = byte(8) | byte(9) << 8;
  if (!version1) length |= byte(10) << 16 | byte(11) << 24;
  const std::string header = read_text(name, input, start, length);

  std::string_view type = npy_value(name, header, "'descr'", ",");
  if (type.size() >= 2 && type.front() == '\'' && type.back() == '\'') type = type.substr(1, type.size() - 2);
  const Element pixel = npy_element(name, type);
  if (npy_value(name, header, "'fortran_order'", ",") != "False") {
    throw InputError(name + ": is in Fortran order, expected C order");
  }
  std::string_view shape = npy_value(name, header, "'shape'", ")");
  if (shape.starts_with('(')) shape.remove_prefix(1);
  std::vector<std::uint64_t> size;
  while (!shape.empty()) {
    const std::size_t comma = std::min(shape.find(','), shape.size());
    const std::string_view part = trimmed(shape.substr(0, comma));
    shape.remove_prefix(std::min(comma + 1, shape.size()));
    if (part.empty()) continue;
    const auto number = whole_number(part);
    if (!number) throw InputError(name + ": damaged shape in its numpy header");
    size.push_back(*number);
  }
  if (size.size() != 2 && size.size() != 3) not_an_image(name, size.size());
  return average(name, input, start + length, pixel, std::endian::little, size.size() == 3 ? size[0] : 1,
                 size[size.size() - 2], size[size.size() - 1]);
}

// ---------------------------------------------------------------------------------------------------- EDF

constexpr std::uint64_t max_edf_header = 1 << 20;  // Real ones are 0.5 to 32 KiB.

/// ESRF data format: "{ key = value ; ... }" in text, then one image of plain numbers.
[[nodiscard]] Image read_edf(const std::string& name, const InputFile& input) {
  const std::string head = read_text(name, input, 0, std::min(input.bytes, max_edf_header));
  const std::size_t close = head.find('}');
  if (close == std::string::npos) throw InputError(name + ": EDF header without an end");
  std::map<std::string, std::string, std::less<>> values;
  std::string_view left = std::string_view(head).substr(1, close - 1);
  while (!left.empty()) {
    const std::size_t end = std::min(left.find(';'), left.size());
    const std::string_view entry = left.substr(0, end);
    left.remove_prefix(std::min(end + 1, left.size()));
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    std::string key(trimmed(entry.substr(0, equals)));
    std::transform(key.begin(), key.end(), key.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
    values.insert_or_assign(std::move(key), std::string(trimmed(entry.substr(equals + 1))));
  }
  const auto value = [&](std::string_view key) -> std::string {
    const auto found = values.find(key);
    return found == values.end() ? std::string() : found->second;
  };
  const auto size = [&](std::string_view key) {
    const auto number = whole_number(value(key));
    if (!number)
      throw InputError(fmt::format("{}: '{}' for {} in its EDF header, expected a number", name, value(key), key));
    return *number;
  };

  static const std::map<std::string_view, Element> types = {{"UnsignedByte", element<std::uint8_t>()},
                                                            {"SignedByte", element<std::int8_t>()},
                                                            {"UnsignedShort", element<std::uint16_t>()},
                                                            {"SignedShort", element<std::int16_t>()},
                                                            {"UnsignedInteger", element<std::uint32_t>()},
                                                            {"SignedInteger", element<std::int32_t>()},
                                                            {"UnsignedLong", element<std::uint32_t>()},
                                                            {"SignedLong", element<std::int32_t>()},
                                                            {"Unsigned64", element<std::uint64_t>()},
                                                            {"Signed64", element<std::int64_t>()},
                                                            {"FloatValue", element<float>()},
                                                            {"Float", element<float>()},
                                                            {"FloatIEEE32", element<float>()},
                                                            {"DoubleValue", element<double>()},
                                                            {"Double", element<double>()},
                                                            {"FloatIEEE64", element<double>()}};
  const auto type = types.find(value("datatype"));
  if (type == types.end()) {
    throw InputError(fmt::format("{}: EDF data type '{}' is not known", name, value("datatype")));
  }
  if (const std::string compression = value("compression");
      !compression.empty() && compression != "None" && compression != "NONE" && compression != "NoCompression") {
    throw InputError(fmt::format("{}: EDF compression '{}' is not supported", name, compression));
  }
  const std::endian order = value("byteorder") == "HighByteFirst" ? std::endian::big : std::endian::little;
  std::uint64_t frames = 1;
  if (!value("dim_3").empty()) frames = size("dim_3");
  const std::uint64_t columns = size("dim_1");
  const std::uint64_t rows = size("dim_2");

  // The data begin on the line behind the brace.
  std::uint64_t offset = close + 1;
  if (offset < head.size() && head[offset] == '\r') ++offset;
  if (offset < head.size() && head[offset] == '\n') ++offset;
  Image image = average(name, input, offset, type->second, order, frames, rows, columns);
  const std::uint64_t end = offset + frames * rows * columns * type->second.bytes;
  if (end + 2 <= input.bytes && read_text(name, input, end, 1) == "{") {
    throw InputError(name + ": holds several EDF images, expected one");
  }
  return image;
}

// ---------------------------------------------------------------------------------------------------- HDF5, TIFF

/// Masks are often of types that no frame has (bool, int64): read as numbers straight away.
[[nodiscard]] std::optional<Image> read_odd_types(const fs::path& file, const std::string& dataset) {
  const hdf5::File opened = hdf5::open_for_reading(file);
  const hdf5::FrameDatasets found = hdf5::locate_frames(opened.get(), file, dataset);
  if (found.paths.size() != 1) return std::nullopt;
  const std::string name = hdf5::shown(file, found.paths.front());
  const hdf5::Dataset data = hdf5::open_dataset(opened.get(), file, found.paths.front());
  const auto type = hdf5::own<hdf5::Datatype>(H5Dget_type(data.get()), "get the type of " + name);
  const H5T_class_t kind = H5Tget_class(type.get());
  const bool odd = kind == H5T_ENUM || (kind == H5T_INTEGER && H5Tget_size(type.get()) > 4);
  if (!odd) return std::nullopt;
  if (!hdf5::is_complete(file, found.paths.front())) throw InputError(name + ": a source of it cannot be read");

  const std::vector<hsize_t> size = hdf5::extent(data.get());
  if (size.size() != 2 && size.size() != 3) not_an_image(name, size.size());
  const hsize_t rows = size[size.size() - 2];
  const hsize_t columns = size[size.size() - 1];
  const hsize_t frames = size.size() == 3 ? size[0] : 1;
  constexpr hsize_t max_pixels = std::numeric_limits<std::uint32_t>::max();
  if (frames == 0 || rows == 0 || columns == 0 || rows > max_pixels || columns > max_pixels / rows) {
    throw InputError(fmt::format("{}: {} images of {} x {} pixels are not possible", name, frames, rows, columns));
  }
  Image image;
  image.rows = static_cast<std::uint32_t>(rows);
  image.columns = static_cast<std::uint32_t>(columns);
  image.values.assign(rows * columns, 0.0);
  image.frames = frames;
  std::vector<double> values(rows * columns);
  const auto space = hdf5::own<hdf5::Dataspace>(H5Dget_space(data.get()), "get the extent of " + name);
  const std::array<hsize_t, 3> count{1, rows, columns};
  const auto memory = hdf5::own<hdf5::Dataspace>(H5Screate_simple(2, count.data() + 1, nullptr), "make a dataspace");
  for (hsize_t frame = 0; frame < frames; ++frame) {
    const std::array<hsize_t, 3> start{frame, 0, 0};
    if (size.size() == 3) {
      hdf5::check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
                  "select an image");
    }
    if (H5Dread(data.get(), H5T_NATIVE_DOUBLE, memory.get(), space.get(), H5P_DEFAULT, values.data()) < 0) {
      throw InputError(fmt::format("{}: cannot be read: {}", name, hdf5::last_error()));
    }
    for (std::size_t pixel = 0; pixel < values.size(); ++pixel) image.values[pixel] += values[pixel];
  }
  for (double& value : image.values) value /= static_cast<double>(frames);
  return image;
}

/// The average of all frames of a TIFF or HDF5 file.
[[nodiscard]] Image average_frames(const std::string& url, const fs::path& file, const std::string& dataset) {
  Problems problems;
  FrameReader reader(open_frames(std::span(&file, 1), dataset, DamagedFiles::refuse, problems));
  problems.throw_if_any();
  const std::uint64_t frames = reader.list().frames();
  if (frames == 0) throw InputError(url + ": holds no image");
  Image image;
  image.rows = reader.list().rows;
  image.columns = reader.list().columns;
  image.values.assign(reader.list().pixels(), 0.0);
  image.frames = frames;
  if (frames == 1) image.type = reader.type_of(0);
  std::vector<EncodedFrame> encoded(1);
  std::vector<std::byte> memory;
  std::vector<std::byte> pixels;
  for (std::uint64_t frame = 0; frame < frames; ++frame) {
    reader.fetch(frame, encoded, memory);
    pixels.resize(reader.list().pixels() * kernels::size_of(reader.type_of(frame)));
    if (const FrameStatus status = decode(encoded[0], pixels); status != FrameStatus::ok) {
      throw InputError(fmt::format("{}: image {} of {} is {}", url, frame, frames, name_of(status)));
    }
    kernels::visit_pixel_type(reader.type_of(frame),
                              [&]<typename Pixel>() { add_values<Pixel>(pixels, std::endian::native, image.values); });
  }
  for (double& value : image.values) value /= static_cast<double>(frames);
  return image;
}

[[nodiscard]] Series read_numbers(const fs::path& file, const std::string& dataset) {
  const hdf5::File opened = hdf5::open_for_reading(file);
  const std::string name = hdf5::shown(file, dataset);
  const hdf5::Dataset data = hdf5::open_dataset(opened.get(), file, dataset);
  const auto type = hdf5::own<hdf5::Datatype>(H5Dget_type(data.get()), "get the type of " + name);
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind != H5T_INTEGER && kind != H5T_FLOAT) {
    throw InputError(fmt::format("{}: is of type {}, expected numbers", name, hdf5::type_name(type.get())));
  }
  const std::vector<hsize_t> size = hdf5::extent(data.get());
  if (size.size() != 1) {
    throw InputError(fmt::format("{}: has {} dimensions, expected 1 (a value a frame or point)", name, size.size()));
  }
  // HDF5 would fill in for virtual sources that are not there.
  if (!hdf5::is_complete(hdf5::file_of(data.get()), hdf5::path_of(data.get()))) {
    throw InputError(name + ": is a virtual dataset, and a source of it cannot be read");
  }
  Series series;
  series.values.resize(size[0]);
  if (H5Dread(data.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, series.values.data()) < 0) {
    throw InputError(fmt::format("{}: cannot be read: {}", name, hdf5::last_error()));
  }
  series.units = hdf5::text_attribute(data.get(), "units");
  return series;
}

}  // namespace

std::string_view name_of(FrameStatus status) {
  switch (status) {
    case FrameStatus::not_processed: return "not processed";
    case FrameStatus::ok: return "ok";
    case FrameStatus::missing: return "missing";
    case FrameStatus::unreadable: return "unreadable or corrupt";
    case FrameStatus::wrong_shape: return "of wrong shape or type";
    case FrameStatus::monitor_invalid: return "without a valid monitor";
  }
  return "?";
}

ImageUrl split_url(const std::string& url) {
  std::error_code ignored;
  const std::size_t separator = url.rfind("::");
  if (separator == std::string::npos || fs::exists(url, ignored)) return {url, ""};
  return {url.substr(0, separator), url.substr(separator + 2)};
}

Image read_image(const std::string& url) {
  const auto [file, dataset] = split_url(url);
  const InputFile input = open_input(file);
  const FileFormat format = format_of(input);
  if (!dataset.empty() && format != FileFormat::hdf5) {
    throw InputError(fmt::format("{}: a dataset is given ({}), but {} is no HDF5 file", url, dataset, file.string()));
  }
  switch (format) {
    case FileFormat::npy: return read_npy(file.string(), input);
    case FileFormat::edf: return read_edf(file.string(), input);
    case FileFormat::tiff: return average_frames(url, file, dataset);
    case FileFormat::hdf5:
      if (auto image = hdf5::as_input(file, [&] { return read_odd_types(file, dataset); })) return *std::move(image);
      return average_frames(url, file, dataset);
    case FileFormat::unknown: break;
  }
  throw InputError(url + ": is no image that annulus reads (TIFF, HDF5, numpy .npy, EDF)");
}

Series read_series(const fs::path& file, const std::string& dataset) {
  return hdf5::as_input(file, [&] { return read_numbers(file, dataset); });
}

}  // namespace annulus::mapping
