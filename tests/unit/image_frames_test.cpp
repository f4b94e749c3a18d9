// The frames of one image file: every format gives the same pixels in the type of the file.
#include "mapping/image_frames.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "frame_files.hpp"

namespace annulus::mapping::test {
namespace {

constexpr std::uint32_t rows = 5;
constexpr std::uint32_t columns = 7;
constexpr std::size_t pixels = std::size_t{rows} * columns;

class ImageFramesTest : public FolderTest {
 protected:
  std::string at(const std::string& name) const { return (folder / name).string(); }
};

/// Names and codes of the types in .npy headers and EDF headers; "" where EDF has none.
struct TypeNames {
  PixelType type;
  const char* npy;
  const char* edf;
};
constexpr TypeNames type_names[] = {
    {PixelType::u8, "|u1", "UnsignedByte"},     {PixelType::u16, "<u2", "UnsignedShort"},
    {PixelType::u32, "<u4", "UnsignedInteger"}, {PixelType::i8, "|i1", "SignedByte"},
    {PixelType::i16, "<i2", "SignedShort"},     {PixelType::i32, "<i4", "SignedInteger"},
    {PixelType::f32, "<f4", "FloatValue"},      {PixelType::f64, "<f8", "DoubleValue"}};

void write_npy(const std::filesystem::path& file, const std::string& type, const std::string& shape,
               const std::vector<std::byte>& values) {
  std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
  header += std::string(117 - header.size(), ' ') + '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {'\1', '\0', static_cast<char>(header.size()), '\0'};
  bytes += header;
  write_bytes(file, bytes.append(reinterpret_cast<const char*>(values.data()), values.size()));
}

void write_edf(const std::filesystem::path& file, const std::string& type, const std::vector<std::byte>& values) {
  std::string header = "{\nByteOrder = LowByteFirst ;\nDataType = " + type + " ;\nDim_1 = 7 ;\nDim_2 = 5 ;\n";
  header += std::string(510 - header.size(), ' ') + "}\n";
  write_bytes(file, header.append(reinterpret_cast<const char*>(values.data()), values.size()));
}

void expect_one_frame(const std::string& url, PixelType type) {
  ImageFrames frames(url);
  EXPECT_EQ(frames.rows(), rows) << url;
  EXPECT_EQ(frames.columns(), columns) << url;
  ASSERT_EQ(frames.frames(), 1u) << url;
  DecodedFrames decoded;
  EXPECT_EQ(frames.read(0, 10, decoded), 1u) << url;
  EXPECT_EQ(decoded.type, type) << url;
  EXPECT_EQ(decoded.numbers, std::vector<std::uint64_t>{0}) << url;
  EXPECT_TRUE(decoded.problems.empty()) << url;
  EXPECT_EQ(decoded.pixels, frame_pixels(type, 0, pixels)) << url;
}

TEST_F(ImageFramesTest, KeepTheTypeAndTheBytesOfEveryFormat) {
  for (const auto& [type, npy, edf] : type_names) {
    const auto bytes = frame_pixels(type, 0, pixels);
    write_tiff(folder / "image.tif", type, rows, columns);
    expect_one_frame(at("image.tif"), type);
    write_npy(folder / "image.npy", npy, "(5, 7)", bytes);
    expect_one_frame(at("image.npy"), type);
    write_edf(folder / "image.edf", edf, bytes);
    expect_one_frame(at("image.edf"), type);
    {
      const hdf5::File file = create_file(folder / "image.h5");
      write_stack(file.get(), "/entry/data/data", type, 1, rows, columns);
    }
    expect_one_frame(at("image.h5"), type);
    expect_one_frame(at("image.h5::/entry/data/data"), type);
  }
}

TEST_F(ImageFramesTest, OfAStackComeInBatches) {
  {
    const hdf5::File file = create_file(folder / "stack.h5");
    write_stack(file.get(), "/entry/data/data", PixelType::u16, 5, rows, columns);
  }
  write_tiff(folder / "stack.tif", PixelType::u16, rows, columns, {}, 0, 5);
  for (const char* name : {"stack.h5", "stack.tif"}) {
    ImageFrames frames(at(name));
    ASSERT_EQ(frames.frames(), 5u) << name;
    DecodedFrames decoded;
    EXPECT_EQ(frames.read(0, 3, decoded), 3u);
    EXPECT_EQ(decoded.pixels, stack_pixels(PixelType::u16, 0, 3, pixels)) << name;
    EXPECT_EQ(frames.read(3, 3, decoded), 2u);
    EXPECT_EQ(decoded.numbers, (std::vector<std::uint64_t>{3, 4})) << name;
    EXPECT_EQ(decoded.pixels, stack_pixels(PixelType::u16, 3, 2, pixels)) << name;
  }
}

TEST_F(ImageFramesTest, ThatWereNeverWrittenAreToldAndLeaveTheOthers) {
  {
    // Chunks of a frame, of which the second and the last are never written.
    const hdf5::File file = create_file(folder / "stack.h5");
    const hsize_t size[] = {4, rows, columns}, chunk[] = {1, rows, columns};
    const hdf5::Dataspace space(H5Screate_simple(3, size, nullptr));
    const hdf5::PropertyList properties(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_chunk(properties.get(), 3, chunk);
    const hdf5::Dataset data(
        H5Dcreate2(file.get(), "/data", H5T_STD_U16LE, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
    for (const hsize_t frame : {hsize_t{0}, hsize_t{2}}) {
      const hsize_t start[] = {frame, 0, 0};
      const hdf5::Dataspace memory(H5Screate_simple(3, chunk, nullptr));
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start, nullptr, chunk, nullptr);
      const auto bytes = frame_pixels(PixelType::u16, frame, pixels);
      ASSERT_GE(H5Dwrite(data.get(), H5T_NATIVE_UINT16, memory.get(), space.get(), H5P_DEFAULT, bytes.data()), 0);
    }
  }
  ImageFrames frames(at("stack.h5"));
  DecodedFrames decoded;
  EXPECT_EQ(frames.read(0, 10, decoded), 4u);
  EXPECT_EQ(decoded.numbers, (std::vector<std::uint64_t>{0, 2}));
  std::vector<std::byte> expected = frame_pixels(PixelType::u16, 0, pixels);
  const auto third = frame_pixels(PixelType::u16, 2, pixels);
  expected.insert(expected.end(), third.begin(), third.end());
  EXPECT_EQ(decoded.pixels, expected);
  ASSERT_EQ(decoded.problems.size(), 2u);
  EXPECT_NE(decoded.problems[0].find("frame 1 of 4 is missing"), std::string::npos) << decoded.problems[0];
  EXPECT_NE(decoded.problems[1].find("frame 3 of 4 is missing"), std::string::npos) << decoded.problems[1];
}

TEST_F(ImageFramesTest, OfWhatIsNoSingleImageAreRefused) {
  const auto bytes = stack_pixels(PixelType::u16, 0, 2, pixels);
  write_npy(folder / "stack.npy", "<u2", "(2, 5, 7)", bytes);
  try {
    const ImageFrames frames(at("stack.npy"));
    FAIL() << "a stack was averaged";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("holds 2 images"), std::string::npos) << error.what();
  }
  EXPECT_THROW(ImageFrames(at("absent.tif")), InputError);
  write_tiff(folder / "image.tif", PixelType::u16, rows, columns);
  EXPECT_THROW(ImageFrames(at("image.tif::/data")), InputError);
  std::ofstream(folder / "text.txt") << "no image at all, but long enough to look at";
  EXPECT_THROW(ImageFrames(at("text.txt")), InputError);
}

}  // namespace
}  // namespace annulus::mapping::test
