#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "frame_files.hpp"
#include "mapping/frame_source.hpp"

namespace annulus::mapping::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t rows = 5;
constexpr std::uint32_t columns = 7;
constexpr std::size_t pixels = static_cast<std::size_t>(rows) * columns;

/// The pattern's frame as numbers.
std::vector<double> numbers(PixelType type, std::uint64_t frame) {
  const auto bytes = frame_pixels(type, frame, pixels);
  std::vector<double> values(pixels);
  kernels::visit_pixel_type(type, [&]<typename Pixel>() {
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      Pixel value{};
      std::memcpy(&value, bytes.data() + pixel * sizeof value, sizeof value);
      values[pixel] = static_cast<double>(value);
    }
  });
  return values;
}

/// The message of the InputError that `action` throws; "" and a failure when it throws none.
template <typename Action>
std::string refusal(Action&& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

std::string refused_image(const std::string& url) {
  return refusal([&] { static_cast<void>(read_image(url)); });
}

/// The bytes of a .npy file of version 1.
template <typename Number>
std::string npy(const std::string& type, const std::string& shape, const std::vector<Number>& values,
                const std::string& fortran = "False") {
  std::string header = "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  header += std::string(63 - (10 + header.size()) % 64, ' ') + '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {'\1', '\0', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  bytes += header;
  return bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Number));
}

std::string edf(const std::string& entries, const std::string& data) {
  std::string header = "{\n" + entries;
  header += std::string(510 - header.size(), ' ') + "}\n";
  return header + data;
}

class ImageFile : public FolderTest {
 protected:
  std::string at(const std::string& name) const { return (folder / name).string(); }
};

using SeriesFile = ImageFile;

TEST_F(ImageFile, EveryPixelTypeOfATiffBecomesNumbers) {
  for (const PixelType type : all_types) {
    write_tiff(folder / "image.tif", type, rows, columns);
    const Image image = read_image(at("image.tif"));
    EXPECT_EQ(image.rows, rows);
    EXPECT_EQ(image.columns, columns);
    EXPECT_EQ(image.values, numbers(type, 0)) << name_of(type);
  }
}

TEST_F(ImageFile, PagesAndStacksAreAveraged) {
  write_tiff(folder / "stack.tif", PixelType::u16, rows, columns, {}, 0, 4);
  {
    const hdf5::File file = create_file(folder / "stack.h5");
    write_stack(file.get(), "/entry/data/data", PixelType::u16, 4, rows, columns);
  }
  std::vector<double> mean(pixels);
  for (std::uint64_t frame = 0; frame < 4; ++frame) {
    const auto one = numbers(PixelType::u16, frame);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel)
      mean[pixel] += one[pixel] / 4.0;  // Exact: quarters of integers.
  }
  EXPECT_EQ(read_image(at("stack.tif")).values, mean);
  EXPECT_EQ(read_image(at("stack.h5")).values, mean);
  EXPECT_EQ(read_image(at("stack.h5::/entry/data/data")).values, mean);
  EXPECT_EQ(read_image(at("stack.h5::entry/data")).values, mean);
}

TEST_F(ImageFile, MasksOfTypesThatNoFrameHasAreRead) {
  const std::vector<std::int8_t> mask{0, 1, 1, 0, 0, 1};
  const std::vector<std::int64_t> wide{0, -1, 1, 0, 5'000'000'000, 1};
  {
    const hdf5::File file = create_file(folder / "mask.h5");
    const auto boolean = hdf5::own<hdf5::Datatype>(H5Tenum_create(H5T_NATIVE_INT8), "make a type");  // As h5py does.
    const std::array<std::int8_t, 2> members{0, 1};
    H5Tenum_insert(boolean.get(), "FALSE", &members[0]);
    H5Tenum_insert(boolean.get(), "TRUE", &members[1]);
    const auto bools = create_dataset(file.get(), "/bool", boolean.get(), {2, 3});
    H5Dwrite(bools.get(), boolean.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, mask.data());
    const auto longs = create_dataset(file.get(), "/int64", H5T_NATIVE_INT64, {2, 3});
    H5Dwrite(longs.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, wide.data());
  }
  const Image image = read_image(at("mask.h5::/bool"));
  EXPECT_EQ(image.rows, 2u);
  EXPECT_EQ(image.columns, 3u);
  EXPECT_EQ(image.values, std::vector<double>(mask.begin(), mask.end()));
  EXPECT_EQ(read_image(at("mask.h5::/int64")).values, std::vector<double>(wide.begin(), wide.end()));
  const std::string told = refused_image(at("mask.h5"));
  EXPECT_NE(told.find("/bool, /int64"), std::string::npos) << told;
}

TEST_F(ImageFile, EveryNumpyTypeIsRead) {
  const auto check = [&]<typename Number>(const std::string& type, Number low, Number high) {
    write_bytes(folder / "image.npy", npy<Number>(type, "(2, 3)", {0, 1, 2, low, high, 5}));
    const Image image = read_image(at("image.npy"));
    EXPECT_EQ(image.rows, 2u);
    EXPECT_EQ(image.columns, 3u);
    EXPECT_EQ(image.values, (std::vector<double>{0, 1, 2, static_cast<double>(low), static_cast<double>(high), 5}))
        << type;
  };
  check.operator()<std::uint8_t>("|b1", 0, 1);
  check.operator()<std::uint8_t>("|u1", 0, 255);
  check.operator()<std::int8_t>("|i1", -128, 127);
  check.operator()<std::uint16_t>("<u2", 0, 65535);
  check.operator()<std::int16_t>("<i2", -32768, 32767);
  check.operator()<std::uint32_t>("<u4", 0, 4294967295u);
  check.operator()<std::int32_t>("<i4", -2147483647, 2147483647);
  check.operator()<std::uint64_t>("<u8", 0, std::uint64_t{1} << 60);
  check.operator()<std::int64_t>("<i8", -5'000'000'000, 5'000'000'000);
  check.operator()<float>("<f4", -0.25f, 1e30f);
  check.operator()<double>("<f8", -0.1, 1e300);
}

TEST_F(ImageFile, ANumpyStackIsAveraged) {
  write_bytes(folder / "stack.npy", npy<double>("<f8", "(2, 1, 3)", {1, 2, 3, 3, 6, 9}));
  const Image image = read_image(at("stack.npy"));
  EXPECT_EQ(image.rows, 1u);
  EXPECT_EQ(image.values, (std::vector<double>{2, 4, 6}));
}

TEST_F(ImageFile, NumpyFilesThatAreNoImagesAreRefused) {
  const std::vector<double> values(6, 1.0);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {npy("<f8", "(2, 3)", values, "True"), "Fortran order"},
      {npy(">f8", "(2, 3)", values), "'>f8' is not supported"},
      {npy("<c16", "(1, 3)", values), "'<c16' is not supported"},
      {npy("<f8", "(6,)", values), "has 1 dimensions"},
      {npy("<f8", "(1, 1, 2, 3)", values), "has 4 dimensions"},
      {npy("<f8", "(3, 3)", values), "truncated: holds 48 bytes"},
      {npy("<f8", "(0, 3)", values), "not possible"},
      {npy("<f8", "(4294967296, 4294967296)", values), "not possible"},
      {npy("<f8", "(2, x)", values), "damaged shape"},
      {std::string("\x93NUMPY\1\0\xff\xff{", 11), "truncated inside its header"},
      {std::string("\x93NUMPY\1\0", 8), "truncated inside its header"}};
  for (const auto& [bytes, words] : cases) {
    write_bytes(folder / "image.npy", bytes);
    const std::string told = refused_image(at("image.npy"));
    EXPECT_NE(told.find(words), std::string::npos) << told;
    EXPECT_NE(told.find("image.npy"), std::string::npos) << told;
  }
}

TEST_F(ImageFile, AnEdfImageIsReadInItsByteOrder) {
  const std::array<std::uint16_t, 6> values{1, 2, 300, 4, 5, 65535};
  std::string low;
  std::string high;
  for (const std::uint16_t value : values) {
    low += {static_cast<char>(value & 255), static_cast<char>(value >> 8)};
    high += {static_cast<char>(value >> 8), static_cast<char>(value & 255)};
  }
  const std::string size = "EDF_DataBlockID = 0.Image.Psd ;\nDim_1 = 3 ;\nDim_2 = 2 ;\nDataType = UnsignedShort ;\n";
  for (const auto& [order, data] : {std::pair{"LowByteFirst", low}, std::pair{"HighByteFirst", high}}) {
    write_bytes(folder / "image.edf", edf(size + "ByteOrder = " + order + " ;\n", data));
    const Image image = read_image(at("image.edf"));
    EXPECT_EQ(image.rows, 2u);
    EXPECT_EQ(image.columns, 3u);
    EXPECT_EQ(image.values, std::vector<double>(values.begin(), values.end())) << order;
  }
  write_bytes(folder / "two.edf", edf(size, low) + edf(size, low));
  EXPECT_NE(refused_image(at("two.edf")).find("several"), std::string::npos);
  write_bytes(folder / "cut.edf", edf(size, low.substr(0, 10)));
  EXPECT_NE(refused_image(at("cut.edf")).find("truncated"), std::string::npos);
  write_bytes(folder / "type.edf", edf("Dim_1 = 3 ;\nDim_2 = 2 ;\nDataType = Quaternion ;\n", low));
  EXPECT_NE(refused_image(at("type.edf")).find("Quaternion"), std::string::npos);
  write_bytes(folder / "size.edf", edf("Dim_1 = three ;\nDim_2 = 2 ;\nDataType = UnsignedShort ;\n", low));
  EXPECT_NE(refused_image(at("size.edf")).find("'three' for dim_1"), std::string::npos);
}

TEST_F(ImageFile, WhatCannotBeAnImageIsRefusedByName) {
  write_bytes(folder / "notes.txt", "no image at all");
  write_tiff(folder / "image.tif", PixelType::u8, rows, columns);
  EXPECT_NE(refused_image(at("absent.tif")).find("absent.tif: cannot be read: No such file"), std::string::npos);
  EXPECT_NE(refused_image(at("notes.txt")).find("notes.txt: is no image"), std::string::npos);
  EXPECT_NE(refused_image(at("image.tif::/mask")).find("no HDF5 file"), std::string::npos);
  EXPECT_NE(refused_image(at("")).find("is a folder"), std::string::npos);
}

TEST_F(ImageFile, AStackWithADamagedFrameIsNotAveraged) {
  {
    const hdf5::File file = create_file(folder / "dark.h5");
    create_dataset(file.get(), "/dark", H5T_NATIVE_UINT16, {3, rows, columns}, {.chunked = true});
  }
  const std::string told = refused_image(at("dark.h5"));
  EXPECT_NE(told.find("image 0 of 3 is missing"), std::string::npos) << told;
}

// ---------------------------------------------------------------------------------------------------- series

TEST_F(SeriesFile, NumbersAndUnitsAreReadThroughAnExternalLink) {
  const std::vector<std::int32_t> counts{5, -3, 2147483647};
  const std::vector<double> positions{0.5, 1.25, 1e-9};
  {
    const hdf5::File data = create_file(folder / "data.h5");
    const auto ints = create_dataset(data.get(), "/monitor", H5T_NATIVE_INT32, {3});
    H5Dwrite(ints.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, counts.data());
    const auto doubles = create_dataset(data.get(), "/motor", H5T_NATIVE_DOUBLE, {3}, {.big_endian = true});
    H5Dwrite(doubles.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, positions.data());
    write_text_attribute(data.get(), "/motor", "units", "mm");
    const hdf5::File master = create_file(folder / "master.h5");
    link_external(master.get(), "/1.1/measurement/mon", "data.h5", "/monitor");
    link_external(master.get(), "/1.1/measurement/samy", "data.h5", "/motor");
  }
  const Series monitor = read_series(folder / "master.h5", "/1.1/measurement/mon");
  EXPECT_EQ(monitor.values, std::vector<double>(counts.begin(), counts.end()));
  EXPECT_EQ(monitor.units, "");
  const Series motor = read_series(folder / "master.h5", "1.1/measurement/samy");
  EXPECT_EQ(motor.values, positions);
  EXPECT_EQ(motor.units, "mm");
}

TEST_F(SeriesFile, UnitsOfVariableLengthAreRead) {
  {
    const hdf5::File file = create_file(folder / "data.h5");
    const auto dataset = create_dataset(file.get(), "/motor", H5T_NATIVE_DOUBLE, {1});
    const auto type = hdf5::own<hdf5::Datatype>(H5Tcopy(H5T_C_S1), "copy a type");
    H5Tset_size(type.get(), H5T_VARIABLE);
    H5Tset_cset(type.get(), H5T_CSET_UTF8);
    const auto space = hdf5::own<hdf5::Dataspace>(H5Screate(H5S_SCALAR), "make a dataspace");
    const auto attribute = hdf5::own<hdf5::Attribute>(
        H5Acreate2(dataset.get(), "units", type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), "make an attribute");
    const char* units = "\xc2\xb5m";
    H5Awrite(attribute.get(), type.get(), &units);
  }
  EXPECT_EQ(read_series(folder / "data.h5", "/motor").units, "\xc2\xb5m");
}

TEST_F(SeriesFile, WhatIsNoSeriesIsRefusedWithWhatIsThere) {
  {
    const hdf5::File file = create_file(folder / "data.h5");
    create_dataset(file.get(), "/entry/image", H5T_NATIVE_INT32, {3, 4});
    create_dataset(file.get(), "/entry/ring_current", H5T_NATIVE_DOUBLE, {3});
    create_dataset(file.get(), "/entry/title", H5T_C_S1, {1});
    link_external(file.get(), "/entry/lost", "gone.h5", "/monitor");
  }
  const auto refused = [&](const std::string& path) {
    return refusal([&] { static_cast<void>(read_series(folder / "data.h5", path)); });
  };
  EXPECT_NE(refused("/entry/image").find("data.h5::/entry/image: has 2 dimensions"), std::string::npos);
  EXPECT_NE(refused("/entry/title").find("of type string, expected numbers"), std::string::npos);
  EXPECT_NE(refused("/entry/ring").find("there is no 'ring' in /entry (it holds image, lost, ring_current, title)"),
            std::string::npos)
      << refused("/entry/ring");
  EXPECT_NE(refused("/entry").find("is a group, expected a dataset"), std::string::npos);
  EXPECT_NE(refused("/entry/lost").find("gone.h5::/monitor is broken"), std::string::npos) << refused("/entry/lost");
  EXPECT_NE(refusal([&] { static_cast<void>(read_series(folder / "absent.h5", "/x")); }).find("absent.h5"),
            std::string::npos);
  write_tiff(folder / "image.tif", PixelType::u8, rows, columns);
  EXPECT_NE(refusal([&] { static_cast<void>(read_series(folder / "image.tif", "/x")); }).find("is no HDF5 file"),
            std::string::npos);
}

TEST_F(SeriesFile, AVirtualSeriesWithoutItsSourceIsRefusedNotFilledIn) {
  {
    const hdf5::File file = create_file(folder / "virtual.h5");
    const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
    const hsize_t size = 3;
    const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(1, &size, nullptr), "make a dataspace");
    H5Pset_virtual(creation.get(), space.get(), "gone.h5", "/monitor", space.get());
    const auto dataset = hdf5::own<hdf5::Dataset>(
        H5Dcreate2(file.get(), "/monitor", H5T_NATIVE_DOUBLE, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
        "create");
  }
  EXPECT_NE(refusal([&] { static_cast<void>(read_series(folder / "virtual.h5", "/monitor")); }).find("virtual dataset"),
            std::string::npos);
}

}  // namespace
}  // namespace annulus::mapping::test
