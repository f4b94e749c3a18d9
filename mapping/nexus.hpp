// NeXus on HDF5: groups with a class, strings, attributes and small arrays, as h5py writes them.
//
// Attributes and text are variable-length UTF-8: Python readers compare them with `==`, and h5py gives bytes, not str,
// for fixed-length ones. Nothing made here keeps time stamps, so the same input makes the same bytes.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "mapping/hdf5.hpp"

namespace annulus::mapping::nexus {

/// The types of a number in file and memory: the same on a little-endian machine, so that nothing is converted.
template <typename Number>
struct NumberType;
template <>
struct NumberType<float> {
  static hid_t in_file() { return H5T_IEEE_F32LE; }
  static hid_t in_memory() { return H5T_NATIVE_FLOAT; }
};
template <>
struct NumberType<double> {
  static hid_t in_file() { return H5T_IEEE_F64LE; }
  static hid_t in_memory() { return H5T_NATIVE_DOUBLE; }
};
template <>
struct NumberType<std::uint8_t> {
  static hid_t in_file() { return H5T_STD_U8LE; }
  static hid_t in_memory() { return H5T_NATIVE_UINT8; }
};
template <>
struct NumberType<std::int32_t> {
  static hid_t in_file() { return H5T_STD_I32LE; }
  static hid_t in_memory() { return H5T_NATIVE_INT32; }
};
template <>
struct NumberType<std::int64_t> {
  static hid_t in_file() { return H5T_STD_I64LE; }
  static hid_t in_memory() { return H5T_NATIVE_INT64; }
};

/// File access of one process. No locks: some parallel file systems refuse them, and a viewer that has the file open
/// must not keep a run from resuming or ending.
[[nodiscard]] hdf5::PropertyList unlocked_access();

/// A dataset creation list without time stamps.
[[nodiscard]] hdf5::PropertyList dataset_properties();

/// A simple dataspace; an empty shape is a scalar. With `growing`, the first dimension has no limit.
[[nodiscard]] hdf5::Dataspace dataspace(const std::vector<hsize_t>& shape, bool growing = false);

/// Makes group `name` with attribute NX_class. All functions here throw IoError when HDF5 fails.
hdf5::Group make_group(hid_t parent, const std::string& name, const std::string& nx_class);

/// The attributes that every file of ours has at its root; `default_entry` is the group that viewers open.
void set_root_attributes(hid_t file, const std::filesystem::path& target, const std::string& time,
                         const std::string& creator, const std::string& default_entry);

void link_soft(hid_t parent, const std::string& target, const std::string& name);

void set_attribute(hid_t object, const std::string& name, const std::string& text);
void set_attribute(hid_t object, const std::string& name, const std::vector<std::string>& texts);
void set_attribute(hid_t object, const std::string& name, std::int64_t number);
void set_attribute(hid_t object, const std::string& name, std::span<const double> numbers);

/// Writes a scalar string, or a list of strings.
hdf5::Dataset write_text(hid_t parent, const std::string& name, const std::string& text);
hdf5::Dataset write_texts(hid_t parent, const std::string& name, const std::vector<std::string>& texts);

/// Writes a scalar that Python readers get as a bool.
hdf5::Dataset write_flag(hid_t parent, const std::string& name, bool value);

/// Writes an array in C order; an empty shape is a scalar. `values` has as many elements as the shape.
template <typename Number>
hdf5::Dataset write_array(hid_t parent, const std::string& name, std::span<const Number> values,
                          const std::vector<hsize_t>& shape) {
  const hdf5::Dataspace space = dataspace(shape);
  const hdf5::PropertyList properties = dataset_properties();
  auto dataset = hdf5::own<hdf5::Dataset>(H5Dcreate2(parent, name.c_str(), NumberType<Number>::in_file(), space.get(),
                                                     H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                          "create dataset '" + name + "'");
  hdf5::check(H5Dwrite(dataset.get(), NumberType<Number>::in_memory(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
              "write dataset '" + name + "'");
  return dataset;
}

/// Writes an array that can grow along its first dimension, in chunks of the given shape: as many as `values` fill.
template <typename Number>
hdf5::Dataset write_growing(hid_t parent, const std::string& name, std::span<const Number> values,
                            const std::vector<hsize_t>& chunk) {
  std::vector<hsize_t> shape = chunk;
  shape[0] = values.size() / std::accumulate(chunk.begin() + 1, chunk.end(), hsize_t{1}, std::multiplies<>());
  const hdf5::Dataspace space = dataspace(shape, true);
  const hdf5::PropertyList properties = dataset_properties();
  hdf5::check(H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()),
              "lay out dataset '" + name + "'");
  auto dataset = hdf5::own<hdf5::Dataset>(H5Dcreate2(parent, name.c_str(), NumberType<Number>::in_file(), space.get(),
                                                     H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                          "create dataset '" + name + "'");
  hdf5::check(H5Dwrite(dataset.get(), NumberType<Number>::in_memory(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
              "write dataset '" + name + "'");
  return dataset;
}

/// Makes an array that has its place in the file, contiguous and for good, but no values yet: the caller writes every
/// byte of it. `fill` is what the file tells readers about values never written.
template <typename Number>
hdf5::Dataset make_unwritten(hid_t parent, const std::string& name, const std::vector<hsize_t>& shape, Number fill) {
  const hdf5::Dataspace space = dataspace(shape);
  const hdf5::PropertyList properties = dataset_properties();
  hdf5::check(H5Pset_layout(properties.get(), H5D_CONTIGUOUS), "lay out dataset '" + name + "'");
  hdf5::check(H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY), "lay out dataset '" + name + "'");
  hdf5::check(H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER), "lay out dataset '" + name + "'");
  hdf5::check(H5Pset_fill_value(properties.get(), NumberType<Number>::in_memory(), &fill),
              "set the fill value of dataset '" + name + "'");
  return hdf5::own<hdf5::Dataset>(H5Dcreate2(parent, name.c_str(), NumberType<Number>::in_file(), space.get(),
                                             H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                  "allocate dataset '" + name + "'");
}

/// Makes a string of fixed length `length` (bytes) that holds `text`; set_fixed_text() rewrites it in place.
hdf5::Dataset make_fixed_text(hid_t parent, const std::string& name, const std::string& text, std::size_t length);
void set_fixed_text(hid_t dataset, const std::string& text);

/// Local time in ISO 8601's extended form, "2026-01-31T23:59:59+01:00", and room for it with a longer year.
[[nodiscard]] std::string time_now();
inline constexpr std::size_t time_length = 32;

/// Reads a scalar string of either kind.
[[nodiscard]] std::string read_text(hid_t parent, const std::string& name);

}  // namespace annulus::mapping::nexus
