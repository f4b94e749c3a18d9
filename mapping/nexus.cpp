#include "mapping/nexus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace annulus::mapping::nexus {
namespace {

hdf5::Datatype text_type(std::size_t length) {
  auto type = hdf5::own<hdf5::Datatype>(H5Tcopy(H5T_C_S1), "make a string type");
  hdf5::check(H5Tset_size(type.get(), length), "make a string type");
  hdf5::check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "make a string type");
  // Only a string of fixed length has something to pad; h5py writes the others so.
  const H5T_str_t padding = length == H5T_VARIABLE ? H5T_STR_NULLTERM : H5T_STR_NULLPAD;
  hdf5::check(H5Tset_strpad(type.get(), padding), "make a string type");
  return type;
}

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> result;
  result.reserve(texts.size());
  for (const std::string& text : texts) result.push_back(text.c_str());
  return result;
}

void write_attribute(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type,
                     const std::vector<hsize_t>& shape, const void* values) {
  const hdf5::Dataspace space = dataspace(shape);
  const auto attribute =
      hdf5::own<hdf5::Attribute>(H5Acreate2(object, name.c_str(), file_type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                                 "create attribute '" + name + "'");
  hdf5::check(H5Awrite(attribute.get(), memory_type, values), "write attribute '" + name + "'");
}

hdf5::Dataset write_dataset(hid_t parent, const std::string& name, hid_t type, const std::vector<hsize_t>& shape,
                            const void* values) {
  const hdf5::Dataspace space = dataspace(shape);
  const hdf5::PropertyList properties = dataset_properties();
  auto dataset = hdf5::own<hdf5::Dataset>(
      H5Dcreate2(parent, name.c_str(), type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
      "create dataset '" + name + "'");
  if (H5Sget_simple_extent_npoints(space.get()) > 0) {
    hdf5::check(H5Dwrite(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "write dataset '" + name + "'");
  }
  return dataset;
}

}  // namespace

hdf5::PropertyList unlocked_access() {
  auto access = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_FILE_ACCESS), "make file access properties");
  hdf5::check(H5Pset_file_locking(access.get(), false, true), "switch off file locking");
  return access;
}

hdf5::PropertyList dataset_properties() {
  auto properties = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make dataset properties");
  hdf5::check(H5Pset_obj_track_times(properties.get(), false), "switch off time stamps");
  return properties;
}

hdf5::Dataspace dataspace(const std::vector<hsize_t>& shape, bool growing) {
  if (shape.empty()) return hdf5::own<hdf5::Dataspace>(H5Screate(H5S_SCALAR), "make a dataspace");
  std::vector<hsize_t> limits = shape;
  if (growing) limits[0] = H5S_UNLIMITED;
  return hdf5::own<hdf5::Dataspace>(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), limits.data()),
                                    "make a dataspace");
}

hdf5::Group make_group(hid_t parent, const std::string& name, const std::string& nx_class) {
  const auto properties = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_GROUP_CREATE), "make group properties");
  hdf5::check(H5Pset_obj_track_times(properties.get(), false), "switch off time stamps");
  auto group = hdf5::own<hdf5::Group>(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                      "create group '" + name + "'");
  set_attribute(group.get(), "NX_class", nx_class);
  return group;
}

void set_root_attributes(hid_t file, const std::filesystem::path& target, const std::string& time,
                         const std::string& creator, const std::string& default_entry) {
  unsigned major = 0, minor = 0, release = 0;
  hdf5::check(H5get_libversion(&major, &minor, &release), "read the version of HDF5");
  set_attribute(file, "NX_class", "NXroot");
  set_attribute(file, "file_name", std::filesystem::absolute(target).lexically_normal().string());
  set_attribute(file, "file_time", time);
  set_attribute(file, "HDF5_Version", fmt::format("{}.{}.{}", major, minor, release));
  set_attribute(file, "creator", creator);
  set_attribute(file, "default", default_entry);
}

void link_soft(hid_t parent, const std::string& target, const std::string& name) {
  hdf5::check(H5Lcreate_soft(target.c_str(), parent, name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
              "link '" + name + "' to '" + target + "'");
}

void set_attribute(hid_t object, const std::string& name, const std::string& text) {
  const hdf5::Datatype type = text_type(H5T_VARIABLE);
  const char* pointer = text.c_str();
  write_attribute(object, name, type.get(), type.get(), {}, &pointer);
}

void set_attribute(hid_t object, const std::string& name, const std::vector<std::string>& texts) {
  const hdf5::Datatype type = text_type(H5T_VARIABLE);
  const std::vector<const char*> values = pointers(texts);
  write_attribute(object, name, type.get(), type.get(), {values.size()}, values.data());
}

void set_attribute(hid_t object, const std::string& name, std::int64_t number) {
  write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, {}, &number);
}

void set_attribute(hid_t object, const std::string& name, std::span<const double> numbers) {
  write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {numbers.size()}, numbers.data());
}

hdf5::Dataset write_text(hid_t parent, const std::string& name, const std::string& text) {
  const char* pointer = text.c_str();
  return write_dataset(parent, name, text_type(H5T_VARIABLE).get(), {}, &pointer);
}

hdf5::Dataset write_texts(hid_t parent, const std::string& name, const std::vector<std::string>& texts) {
  const std::vector<const char*> values = pointers(texts);
  return write_dataset(parent, name, text_type(H5T_VARIABLE).get(), {values.size()}, values.data());
}

hdf5::Dataset write_flag(hid_t parent, const std::string& name, bool value) {
  // h5py's bool: an enumeration of one byte.
  const auto type = hdf5::own<hdf5::Datatype>(H5Tenum_create(H5T_STD_I8LE), "make a type of flags");
  for (const std::int8_t flag : {std::int8_t{0}, std::int8_t{1}}) {
    hdf5::check(H5Tenum_insert(type.get(), flag != 0 ? "TRUE" : "FALSE", &flag), "make a type of flags");
  }
  const auto byte = static_cast<std::int8_t>(value);
  return write_dataset(parent, name, type.get(), {}, &byte);
}

hdf5::Dataset make_fixed_text(hid_t parent, const std::string& name, const std::string& text, std::size_t length) {
  std::string padded = text;
  padded.resize(length, '\0');
  return write_dataset(parent, name, text_type(length).get(), {}, padded.data());
}

void set_fixed_text(hid_t dataset, const std::string& text) {
  const auto type = hdf5::own<hdf5::Datatype>(H5Dget_type(dataset), "read the type of a string");
  std::string padded = text;
  padded.resize(H5Tget_size(type.get()), '\0');
  hdf5::check(H5Dwrite(dataset, type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, padded.data()), "write a string");
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  ::localtime_r(&now, &local);
  char text[time_length];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
  std::string result(text, length);
  result.insert(result.size() - 2, ":");  // strftime has +0100 where the extended form has +01:00
  return result;
}

std::string read_text(hid_t parent, const std::string& name) {
  const auto dataset = hdf5::own<hdf5::Dataset>(H5Dopen2(parent, name.c_str(), H5P_DEFAULT), "open '" + name + "'");
  const auto type = hdf5::own<hdf5::Datatype>(H5Dget_type(dataset.get()), "read the type of '" + name + "'");
  const auto space = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset.get()), "read the shape of '" + name + "'");
  if (H5Tget_class(type.get()) != H5T_STRING || H5Sget_simple_extent_npoints(space.get()) != 1) {
    throw IoError("cannot read '" + name + "': found no single string");
  }
  if (H5Tis_variable_str(type.get()) > 0) {
    char* text = nullptr;
    hdf5::check(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text), "read '" + name + "'");
    std::string result = text != nullptr ? text : "";
    H5free_memory(text);
    return result;
  }
  std::string result(H5Tget_size(type.get()), '\0');
  hdf5::check(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, result.data()), "read '" + name + "'");
  result.erase(std::find(result.begin(), result.end(), '\0'), result.end());
  return result;
}

}  // namespace annulus::mapping::nexus
