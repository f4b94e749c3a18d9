#include "simulation/files.hpp"

#include <fmt/format.h>
#include <tiffio.h>

#include <utility>

#include "base/unique_handle.hpp"

namespace annulus::simulation {

namespace hdf5 = mapping::hdf5;

namespace {

struct TiffTraits {
  using Type = TIFF*;
  static Type invalid() noexcept { return nullptr; }
  static void release(Type tiff) noexcept { TIFFClose(tiff); }
};

hdf5::Datatype text_type() {
  auto type = hdf5::own<hdf5::Datatype>(H5Tcopy(H5T_C_S1), "copy the text type");
  hdf5::check(H5Tset_size(type.get(), H5T_VARIABLE), "set the text length");
  hdf5::check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "set the text encoding");
  return type;
}

hdf5::Dataspace dataspace(const std::vector<hsize_t>& shape) {
  const hid_t id =
      shape.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  return hdf5::own<hdf5::Dataspace>(id, "make a dataspace");
}

template <typename T>
void write_image(const std::filesystem::path& file, std::uint32_t rows, std::uint32_t columns,
                 std::span<const T> values) {
  ANNULUS_EXPECT(values.size() == static_cast<std::size_t>(rows) * columns);
  TIFFSetErrorHandler(nullptr);  // libtiff would print; the exception says what failed
  UniqueHandle<TiffTraits> tiff(TIFFOpen(file.c_str(), "w"));
  if (!tiff) throw IoError(fmt::format("cannot create '{}'", file.string()));
  TIFFSetField(tiff.get(), TIFFTAG_IMAGEWIDTH, columns);
  TIFFSetField(tiff.get(), TIFFTAG_IMAGELENGTH, rows);
  TIFFSetField(tiff.get(), TIFFTAG_BITSPERSAMPLE, static_cast<int>(8 * sizeof(T)));
  TIFFSetField(tiff.get(), TIFFTAG_SAMPLESPERPIXEL, 1);
  TIFFSetField(tiff.get(), TIFFTAG_SAMPLEFORMAT, std::is_signed_v<T> ? SAMPLEFORMAT_INT : SAMPLEFORMAT_UINT);
  TIFFSetField(tiff.get(), TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  TIFFSetField(tiff.get(), TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(tiff.get(), TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  TIFFSetField(tiff.get(), TIFFTAG_ROWSPERSTRIP, rows);
  // libtiff takes non-const bytes, although it only reads them in native byte order.
  std::vector<T> strip(values.begin(), values.end());
  const auto bytes = static_cast<tmsize_t>(strip.size() * sizeof(T));
  if (TIFFWriteEncodedStrip(tiff.get(), 0, strip.data(), bytes) != bytes || TIFFFlush(tiff.get()) != 1) {
    throw IoError(fmt::format("cannot write '{}'", file.string()));
  }
}

}  // namespace

hdf5::File create_file(const std::filesystem::path& file) {
  return hdf5::own<hdf5::File>(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
                               fmt::format("create '{}'", file.string()));
}

void close_file(hdf5::File file, const std::filesystem::path& path) {
  hdf5::check(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), fmt::format("write '{}'", path.string()));
  hdf5::check(H5Fclose(file.give_up()), fmt::format("close '{}'", path.string()));
}

hdf5::PropertyList dataset_properties() {
  auto properties = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make dataset properties");
  hdf5::check(H5Pset_obj_track_times(properties.get(), false), "turn off the dataset's times");
  return properties;
}

hdf5::Group create_group(hid_t parent, const std::string& name, const std::string& nx_class) {
  auto group = hdf5::own<hdf5::Group>(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                                      "create group " + name);
  if (!nx_class.empty()) write_attribute(group.get(), "NX_class", nx_class);
  return group;
}

void write_attribute(hid_t object, const std::string& name, const std::string& text) {
  const hdf5::Datatype type = text_type();
  const hdf5::Dataspace space = dataspace({});
  const auto attribute = hdf5::own<hdf5::Attribute>(
      H5Acreate2(object, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), "create attribute " + name);
  const char* pointer = text.c_str();
  hdf5::check(H5Awrite(attribute.get(), type.get(), &pointer), "write attribute " + name);
}

void write_attribute(hid_t object, const std::string& name, std::uint64_t value) {
  const hdf5::Dataspace space = dataspace({});
  const auto attribute = hdf5::own<hdf5::Attribute>(
      H5Acreate2(object, name.c_str(), H5T_NATIVE_UINT64, space.get(), H5P_DEFAULT, H5P_DEFAULT),
      "create attribute " + name);
  hdf5::check(H5Awrite(attribute.get(), H5T_NATIVE_UINT64, &value), "write attribute " + name);
}

void write_text(hid_t parent, const std::string& name, const std::string& text) {
  const char* pointer = text.c_str();
  write_values(parent, name, text_type().get(), &pointer, {}, "");
}

void write_texts(hid_t parent, const std::string& name, const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(text.c_str());
  write_values(parent, name, text_type().get(), pointers.data(), {pointers.size()}, "");
}

void write_values(hid_t parent, const std::string& name, hid_t type, const void* values,
                  const std::vector<hsize_t>& shape, const std::string& units) {
  const hdf5::Dataspace space = dataspace(shape);
  const hdf5::PropertyList properties = dataset_properties();
  const auto dataset = hdf5::own<hdf5::Dataset>(
      H5Dcreate2(parent, name.c_str(), type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
      "create dataset " + name);
  hdf5::check(H5Dwrite(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "write dataset " + name);
  if (!units.empty()) write_attribute(dataset.get(), "units", units);
}

void write_tiff(const std::filesystem::path& file, std::uint32_t rows, std::uint32_t columns,
                std::span<const std::uint8_t> values) {
  write_image(file, rows, columns, values);
}

void write_tiff(const std::filesystem::path& file, std::uint32_t rows, std::uint32_t columns,
                std::span<const std::int32_t> values) {
  write_image(file, rows, columns, values);
}

}  // namespace annulus::simulation
