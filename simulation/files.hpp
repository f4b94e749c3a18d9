// Small helpers to write HDF5 trees and TIFF images: the simulation's files and nothing else.
//
// HDF5 through the serial driver, one thread at a time. All throw IoError naming what could not be written.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mapping/hdf5.hpp"

namespace annulus::simulation {

/// HDF5's native type of a C++ number.
template <typename T>
[[nodiscard]] hid_t native_type() {
  if constexpr (std::is_same_v<T, double>) return H5T_NATIVE_DOUBLE;
  if constexpr (std::is_same_v<T, float>) return H5T_NATIVE_FLOAT;
  if constexpr (std::is_same_v<T, std::uint8_t>) return H5T_NATIVE_UINT8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return H5T_NATIVE_UINT16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return H5T_NATIVE_UINT32;
  if constexpr (std::is_same_v<T, std::int32_t>) return H5T_NATIVE_INT32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return H5T_NATIVE_UINT64;
  return H5I_INVALID_HID;
}

/// Creates the file, replacing one that exists.
[[nodiscard]] mapping::hdf5::File create_file(const std::filesystem::path& file);

/// Flushes and closes: errors that a destructor would swallow are thrown here.
void close_file(mapping::hdf5::File file, const std::filesystem::path& path);

/// Creation properties of a dataset that does not keep the time: the same content makes the same bytes.
[[nodiscard]] mapping::hdf5::PropertyList dataset_properties();

/// A new group with its NX_class attribute ("" = none).
[[nodiscard]] mapping::hdf5::Group create_group(hid_t parent, const std::string& name, const std::string& nx_class);

/// A text attribute of a group, dataset or file.
void write_attribute(hid_t object, const std::string& name, const std::string& text);

/// A number as an attribute.
void write_attribute(hid_t object, const std::string& name, std::uint64_t value);

/// A dataset with one text, or a list of texts, UTF-8 of variable length.
void write_text(hid_t parent, const std::string& name, const std::string& text);
void write_texts(hid_t parent, const std::string& name, const std::vector<std::string>& texts);

/// A dataset of `shape` ({} = one value) with a units attribute unless "".
void write_values(hid_t parent, const std::string& name, hid_t type, const void* values,
                  const std::vector<hsize_t>& shape, const std::string& units);

template <typename T>
void write_array(hid_t parent, const std::string& name, std::span<const T> values, const std::vector<hsize_t>& shape,
                 const std::string& units = "") {
  std::size_t size = 1;
  for (const hsize_t extent : shape) size *= extent;
  ANNULUS_EXPECT(size == values.size());
  write_values(parent, name, native_type<T>(), values.data(), shape, units);
}

template <typename T>
void write_scalar(hid_t parent, const std::string& name, T value, const std::string& units = "") {
  write_values(parent, name, native_type<T>(), &value, {}, units);
}

/// A TIFF image of one sample a pixel, uncompressed, replacing a file that exists. `values` is [rows, columns].
void write_tiff(const std::filesystem::path& file, std::uint32_t rows, std::uint32_t columns,
                std::span<const std::uint8_t> values);
void write_tiff(const std::filesystem::path& file, std::uint32_t rows, std::uint32_t columns,
                std::span<const std::int32_t> values);

}  // namespace annulus::simulation
