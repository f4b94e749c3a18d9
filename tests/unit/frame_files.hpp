// Small image files for tests: TIFF and HDF5 in every storage that readers must know, in a folder of their own.
#pragma once

#include <gtest/gtest.h>
#include <hdf5.h>
#include <tiffio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/problems.hpp"
#include "kernels/pixel_type.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_bitshuffle_filter.hpp"
#include "mapping/hdf5_input.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping::test {

using kernels::PixelType;

inline constexpr std::array all_types{PixelType::u8,  PixelType::u16, PixelType::u32, PixelType::i8,
                                      PixelType::i16, PixelType::i32, PixelType::f32, PixelType::f64};

/// A folder of its own for each test, removed at its end.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder = std::filesystem::temp_directory_path() / ("annulus_" + std::string(test->test_suite_name()) + "_" +
                                                       test->name() + "_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
    hdf5::silence();
    hdf5::register_bitshuffle_filter();
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::filesystem::path folder;
};

/// A frame's pixels, different for each frame and pixel, with the extremes of the type among them.
inline std::vector<std::byte> frame_pixels(PixelType type, std::uint64_t frame, std::size_t pixels) {
  std::vector<std::byte> bytes(pixels * kernels::size_of(type));
  kernels::visit_pixel_type(type, [&]<typename Pixel>() {
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      auto value = static_cast<Pixel>((7919 * (frame + 1) + 31 * pixel) % 251);
      if constexpr (std::is_signed_v<Pixel>) {
        if (pixel % 3 == 1) value = static_cast<Pixel>(-static_cast<int>((frame + pixel) % 100));
      }
      if constexpr (std::is_floating_point_v<Pixel>) value += Pixel(0.25);
      if (pixel == 0) value = std::numeric_limits<Pixel>::max();
      if (pixel == 1) value = std::numeric_limits<Pixel>::lowest();
      std::memcpy(bytes.data() + pixel * sizeof value, &value, sizeof value);
    }
  });
  return bytes;
}

inline std::vector<std::byte> stack_pixels(PixelType type, std::uint64_t first, std::uint64_t frames,
                                           std::size_t pixels) {
  std::vector<std::byte> bytes;
  for (std::uint64_t frame = first; frame < first + frames; ++frame) {
    const auto one = frame_pixels(type, frame, pixels);
    bytes.insert(bytes.end(), one.begin(), one.end());
  }
  return bytes;
}

struct TiffLayout {
  std::string name = {};
  std::uint16_t compression = COMPRESSION_NONE;
  std::uint32_t rows_per_strip = 0;  ///< 0: one strip.
  bool tiled = false;                ///< Tiles of 16 x 16.
  const char* mode = "w";            ///< "wb": big-endian; "w8": BigTIFF.
};

/// Writes `pages` frames; frame numbers of the pattern start at `first`.
inline void write_tiff(const std::filesystem::path& file, PixelType type, std::uint32_t rows, std::uint32_t columns,
                       const TiffLayout& layout = {}, std::uint64_t first = 0, std::uint64_t pages = 1) {
  TIFF* tiff = TIFFOpen(file.c_str(), layout.mode);
  ASSERT_NE(tiff, nullptr);
  const bool is_float = type == PixelType::f32 || type == PixelType::f64;
  const bool is_signed = type == PixelType::i8 || type == PixelType::i16 || type == PixelType::i32;
  const std::size_t size = kernels::size_of(type);
  for (std::uint64_t page = 0; page < pages; ++page) {
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, rows);
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, columns);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, static_cast<int>(8 * size));
    TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT,
                 is_float    ? SAMPLEFORMAT_IEEEFP
                 : is_signed ? SAMPLEFORMAT_INT
                             : SAMPLEFORMAT_UINT);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, layout.compression);
    auto pixels = frame_pixels(type, first + page, static_cast<std::size_t>(rows) * columns);
    if (layout.tiled) {
      TIFFSetField(tiff, TIFFTAG_TILEWIDTH, 16);
      TIFFSetField(tiff, TIFFTAG_TILELENGTH, 16);
      for (std::uint32_t row = 0; row < rows; row += 16) {
        for (std::uint32_t column = 0; column < columns; column += 16) {
          std::vector<std::byte> tile(256 * size);
          for (std::uint32_t line = 0; line < std::min(16u, rows - row); ++line) {
            std::memcpy(tile.data() + 16 * size * line,
                        pixels.data() + (static_cast<std::size_t>(row + line) * columns + column) * size,
                        std::min(16u, columns - column) * size);
          }
          ASSERT_GT(TIFFWriteTile(tiff, tile.data(), column, row, 0, 0), 0);
        }
      }
    } else {
      TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, layout.rows_per_strip == 0 ? rows : layout.rows_per_strip);
      for (std::uint32_t row = 0; row < rows; ++row) {
        ASSERT_EQ(TIFFWriteScanline(tiff, pixels.data() + static_cast<std::size_t>(row) * columns * size, row, 0), 1);
      }
    }
    ASSERT_EQ(TIFFWriteDirectory(tiff), 1);
  }
  TIFFClose(tiff);
}

/// How a dataset is made.
struct DatasetLayout {
  std::string name = {};
  bool chunked = false;
  std::vector<hsize_t> chunk = {};  ///< Empty with `chunked`: one frame.
  int filter = 0;                   ///< 0 none, 1 deflate, 32008 bitshuffle + LZ4.
  bool shuffle = false;             ///< HDF5's own, before the filter.
  bool big_endian = false;
  bool compact = false;
  bool checksum = false;  ///< HDF5's own, fletcher32, behind the filter.
};

inline hdf5::File create_file(const std::filesystem::path& file, hsize_t user_block = 0) {
  const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_FILE_CREATE), "make properties");
  hdf5::check(H5Pset_userblock(creation.get(), user_block), "set a user block");
  return hdf5::own<hdf5::File>(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, creation.get(), H5P_DEFAULT), "create a file");
}

/// Creates a dataset of the given size, with all groups on the way, and writes nothing.
inline hdf5::Dataset create_dataset(hid_t file, const std::string& path, hid_t type, const std::vector<hsize_t>& size,
                                    const DatasetLayout& layout = {}) {
  const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
  if (layout.chunked) {
    std::vector<hsize_t> chunk = layout.chunk;
    if (chunk.empty()) chunk = size;
    if (layout.chunk.empty() && size.size() == 3) chunk[0] = 1;
    hdf5::check(H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data()), "set chunks");
  }
  if (layout.compact) hdf5::check(H5Pset_layout(creation.get(), H5D_COMPACT), "set the layout");
  if (layout.shuffle) hdf5::check(H5Pset_shuffle(creation.get()), "set shuffle");
  if (layout.filter == 1) hdf5::check(H5Pset_deflate(creation.get(), 4), "set deflate");
  if (layout.filter == hdf5::bitshuffle_filter) {
    const std::array<unsigned, 2> values{0, hdf5::bitshuffle_lz4};
    hdf5::check(
        H5Pset_filter(creation.get(), hdf5::bitshuffle_filter, H5Z_FLAG_MANDATORY, values.size(), values.data()),
        "set filter 32008");
  }
  if (layout.checksum) hdf5::check(H5Pset_fletcher32(creation.get()), "set fletcher32");
  const auto links = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_LINK_CREATE), "make properties");
  hdf5::check(H5Pset_create_intermediate_group(links.get(), 1), "make groups");
  const auto stored = hdf5::own<hdf5::Datatype>(H5Tcopy(type), "copy a type");
  if (layout.big_endian && H5Tget_size(stored.get()) > 1) H5Tset_order(stored.get(), H5T_ORDER_BE);
  const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr),
                                                "make a dataspace");
  return hdf5::own<hdf5::Dataset>(
      H5Dcreate2(file, path.c_str(), stored.get(), space.get(), links.get(), creation.get(), H5P_DEFAULT),
      "create " + path);
}

/// Creates a dataset [frames, rows, columns] of the pattern, its frame numbers from `first` on.
inline void write_stack(hid_t file, const std::string& path, PixelType type, std::uint64_t frames, std::uint32_t rows,
                        std::uint32_t columns, const DatasetLayout& layout = {}, std::uint64_t first = 0) {
  const auto dataset = create_dataset(file, path, hdf5::native_type(type), {frames, rows, columns}, layout);
  const auto pixels = stack_pixels(type, first, frames, static_cast<std::size_t>(rows) * columns);
  hdf5::check(H5Dwrite(dataset.get(), hdf5::native_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, pixels.data()),
              "write " + path);
}

inline void link_external(hid_t file, const std::string& path, const std::string& target_file,
                          const std::string& target_path) {
  const auto links = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_LINK_CREATE), "make properties");
  hdf5::check(H5Pset_create_intermediate_group(links.get(), 1), "make groups");
  hdf5::check(
      H5Lcreate_external(target_file.c_str(), target_path.c_str(), file, path.c_str(), links.get(), H5P_DEFAULT),
      "link " + path);
}

inline void write_text_attribute(hid_t file, const std::string& object, const std::string& name,
                                 const std::string& text) {
  const auto type = hdf5::own<hdf5::Datatype>(H5Tcopy(H5T_C_S1), "copy a type");
  H5Tset_size(type.get(), text.size());
  const auto space = hdf5::own<hdf5::Dataspace>(H5Screate(H5S_SCALAR), "make a dataspace");
  const auto target = hdf5::own<hdf5::Object>(H5Oopen(file, object.c_str(), H5P_DEFAULT), "open " + object);
  const auto attribute = hdf5::own<hdf5::Attribute>(
      H5Acreate2(target.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), "make an attribute");
  hdf5::check(H5Awrite(attribute.get(), type.get(), text.data()), "write an attribute");
}

/// A block of a virtual dataset: frames [first, first + frames) are frames [source_first, ...) of a source.
struct VirtualSource {
  hsize_t first;
  hsize_t frames;
  std::string file;
  std::string dataset;
  hsize_t source_first;
  hsize_t source_frames;  ///< That the source is said to hold.
  hsize_t stride = 0;     ///< 0: one block; else `frames` single frames that far apart in the virtual dataset.
};

inline void write_virtual(hid_t file, const std::string& path, PixelType type, hsize_t frames, hsize_t rows,
                          hsize_t columns, const std::vector<VirtualSource>& sources) {
  const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
  const std::array<hsize_t, 3> size{frames, rows, columns};
  const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, size.data(), nullptr), "make a dataspace");
  for (const VirtualSource& source : sources) {
    const std::array<hsize_t, 3> source_size{source.source_frames, rows, columns};
    const auto from = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, source_size.data(), nullptr), "make a dataspace");
    const std::array<hsize_t, 3> start{source.first, 0, 0};
    const std::array<hsize_t, 3> source_start{source.source_first, 0, 0};
    const std::array<hsize_t, 3> block{source.frames, rows, columns};
    if (source.stride == 0) {
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, block.data(), nullptr);
    } else {
      const std::array<hsize_t, 3> stride{source.stride, rows, columns};
      const std::array<hsize_t, 3> count{source.frames, 1, 1};
      const std::array<hsize_t, 3> one{1, rows, columns};
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), stride.data(), count.data(), one.data());
    }
    H5Sselect_hyperslab(from.get(), H5S_SELECT_SET, source_start.data(), nullptr, block.data(), nullptr);
    // As h5py does: everything is another kind of selection.
    if (source.frames == source.source_frames) H5Sselect_all(from.get());
    if (source.frames == frames) H5Sselect_all(space.get());
    hdf5::check(H5Pset_virtual(creation.get(), space.get(), source.file.c_str(), source.dataset.c_str(), from.get()),
                "map a source");
  }
  H5Sselect_all(space.get());
  const auto links = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_LINK_CREATE), "make properties");
  hdf5::check(H5Pset_create_intermediate_group(links.get(), 1), "make groups");
  const auto dataset = hdf5::own<hdf5::Dataset>(
      H5Dcreate2(file, path.c_str(), hdf5::native_type(type), space.get(), links.get(), creation.get(), H5P_DEFAULT),
      "create " + path);
}

inline void write_bytes(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

/// open_frames(), and again by crews of several processes, which must find the same and tell the same.
inline FrameList open_by_all_crews(std::span<const std::filesystem::path> files, const std::string& dataset,
                                   DamagedFiles damaged, Problems& problems) {
  FrameList list = open_frames(files, dataset, damaged, problems);
  for (const int size : {2, 5}) {
    SurveyCrew crew;
    crew.size = size;
    crew.ask = [size](const std::vector<std::vector<std::byte>>& questions) {
      EXPECT_EQ(questions.size(), static_cast<std::size_t>(size));
      std::vector<std::vector<std::byte>> answers(questions.size());
      // Last first: nothing may depend on the order in which processes answer.
      for (std::size_t part = questions.size(); part-- > 0;) answers[part] = answer_survey(questions[part]);
      return answers;
    };
    Problems told;
    const FrameList found = open_frames(files, dataset, damaged, told, crew);
    EXPECT_EQ(told.messages(), problems.messages()) << "crew of " << size;
    EXPECT_EQ(serialise(found), serialise(list)) << "crew of " << size;
  }
  return list;
}

/// The list of one or more files that must be good.
inline FrameList open_good(const std::vector<std::filesystem::path>& files, const std::string& dataset = "") {
  Problems problems;
  FrameList list = open_by_all_crews(files, dataset, DamagedFiles::refuse, problems);
  for (const std::string& message : problems.messages()) ADD_FAILURE() << message;
  return list;
}

/// The problems of files, all messages in one text.
inline std::string problems_of(const std::vector<std::filesystem::path>& files, const std::string& dataset = "",
                               DamagedFiles damaged = DamagedFiles::refuse) {
  Problems problems;
  static_cast<void>(open_by_all_crews(files, dataset, damaged, problems));
  std::string all;
  for (const std::string& message : problems.messages()) all += message + '\n';
  return all;
}

/// Status and decoded pixels of one frame.
struct Fetched {
  FrameStatus status = FrameStatus::not_processed;
  kernels::Encoding encoding;
  std::vector<std::byte> pixels;
};

inline std::vector<Fetched> decode_all(const FrameReader& reader, std::span<const EncodedFrame> encoded) {
  std::vector<Fetched> fetched;
  for (const EncodedFrame& frame : encoded) {
    Fetched one;
    one.encoding = frame.encoding;
    one.pixels.resize(reader.list().pixels() * kernels::size_of(frame.type));
    one.status = decode(frame, one.pixels);
    fetched.push_back(std::move(one));
  }
  return fetched;
}

inline std::vector<Fetched> fetch_all(FrameReader& reader, std::uint64_t first, std::size_t frames, int threads = 1) {
  std::vector<EncodedFrame> encoded(frames);
  std::vector<std::byte> memory;
  reader.fetch(first, encoded, memory, threads);
  return decode_all(reader, encoded);
}

/// Whether files in a folder can be mapped: on some file systems none are.
inline bool maps_files(const std::filesystem::path& folder) {
  std::ofstream(folder / "probe") << "bytes";
  const InputFile file = open_input(folder / "probe");
  FilePages pages;
  return pages.map(std::vector<FilePart>{{file.descriptor.get(), 0, 5}});
}
constexpr const char* maps_no_files = "the folder for temporary files lies in a file system whose files are not mapped";

/// The same without a copy; none where that cannot be.
inline std::optional<std::vector<Fetched>> map_all(FrameReader& reader, std::uint64_t first, std::size_t frames) {
  std::vector<EncodedFrame> encoded(frames);
  FilePages pages;
  const FrameReader::Plan plan = reader.plan(first, frames);
  if (!reader.map(plan, pages, encoded)) return std::nullopt;
  auto fetched = decode_all(reader, encoded);
  EXPECT_TRUE(pages.intact());
  return fetched;
}

/// Expects that frames [0, count) of a list are the pattern's frames [0, count), copied and, where they can be, mapped.
inline void expect_pattern(const FrameList& list, PixelType type, std::uint64_t count, int threads = 1) {
  ASSERT_EQ(list.frames(), count);
  FrameReader reader(list);
  const auto fetched = fetch_all(reader, 0, count, threads);
  const auto mapped = map_all(reader, 0, count);
  for (std::uint64_t frame = 0; frame < count; ++frame) {
    SCOPED_TRACE("frame " + std::to_string(frame));
    if (mapped) {
      EXPECT_EQ((*mapped)[frame].status, FrameStatus::ok);
      EXPECT_TRUE((*mapped)[frame].pixels == fetched[frame].pixels) << "mapped pixels differ";
    }
    EXPECT_EQ(reader.type_of(frame), type);
    EXPECT_EQ(fetched[frame].status, FrameStatus::ok);
    EXPECT_TRUE(fetched[frame].pixels == frame_pixels(type, frame, list.pixels())) << "pixels differ";
  }
}

}  // namespace annulus::mapping::test
