#include "mapping/frame_source.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <libdeflate.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "frame_files.hpp"
#include "kernels/big_endian.hpp"
#include "kernels/bslz4.hpp"
#include "mapping/hdf5_chunk_address.hpp"
#include "mapping/hdf5_dataset_reader.hpp"
#include "tests/fuzz/bslz4_fuzz.hpp"

namespace annulus::mapping::test {
namespace {

namespace fs = std::filesystem;

// Odd sizes: neither a multiple of 8 pixels (bitshuffle's leftover) nor of a tile.
constexpr std::uint32_t rows = 21;
constexpr std::uint32_t columns = 37;
constexpr std::size_t pixels = static_cast<std::size_t>(rows) * columns;

const DatasetLayout bslz4{.name = "bslz4", .chunked = true, .filter = hdf5::bitshuffle_filter};

class FrameSource : public FolderTest {
 protected:
  /// An Eiger-like scan: a master file with external links to `counts.size()` data files of bslz4 frames.
  fs::path write_master(const std::vector<std::uint64_t>& counts) {
    fs::create_directories(folder / "scan");
    const fs::path master = folder / "scan" / "scan_master.h5";
    const hdf5::File file = create_file(master);
    std::uint64_t first = 0;
    for (std::size_t index = 0; index < counts.size(); ++index) {
      const std::string name = "scan_data_" + std::string(5, '0') + std::to_string(index + 1) + ".h5";
      const hdf5::File data = create_file(folder / "scan" / name);
      write_stack(data.get(), "/entry/data/data", PixelType::u16, counts[index], rows, columns, bslz4, first);
      link_external(file.get(), "/entry/data/data_" + std::string(5, '0') + std::to_string(index + 1), name,
                    "/entry/data/data");
      first += counts[index];
    }
    return master;
  }

  /// Writes one data file of the pattern's frames [first, first + frames).
  fs::path write_source(const std::string& name, std::uint64_t first, std::uint64_t frames,
                        const DatasetLayout& layout = bslz4) {
    const hdf5::File file = create_file(folder / name);
    write_stack(file.get(), "/data", PixelType::u16, frames, rows, columns, layout, first);
    return folder / name;
  }

  /// Overwrites bytes of a file.
  static void patch(const fs::path& file, std::uint64_t offset, const std::string& bytes) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(offset));
    stream << bytes;
  }

  static hdf5::ChunkAddress chunk_of(const fs::path& file, const std::string& dataset, hsize_t frame) {
    const auto opened = hdf5::open_for_reading(file, hdf5::locating_access().get());
    const auto data = hdf5::open_dataset(opened.get(), file, dataset);
    const std::array<hsize_t, 3> corner{frame, 0, 0};
    return hdf5::locate_chunk(data.get(), corner.data(), fs::file_size(file)).value();
  }
};

// ---------------------------------------------------------------------------------------------------- round trips

TEST_F(FrameSource, EveryPixelTypeComesBackFromEveryTiffLayout) {
  const std::vector<TiffLayout> layouts = {
      {.name = "one strip"},
      {.name = "strips", .rows_per_strip = 4},
      {.name = "big-endian", .rows_per_strip = 5, .mode = "wb"},
      {.name = "BigTIFF", .mode = "w8"},
      {.name = "LZW", .compression = COMPRESSION_LZW, .rows_per_strip = 8},
      {.name = "deflate", .compression = COMPRESSION_ADOBE_DEFLATE},
      {.name = "tiles", .tiled = true},
      {.name = "big-endian tiles, LZW", .compression = COMPRESSION_LZW, .tiled = true, .mode = "wb"}};
  int compared = 0;
  for (const TiffLayout& layout : layouts) {
    for (const PixelType type : all_types) {
      SCOPED_TRACE(layout.name + ", " + std::string(name_of(type)));
      write_tiff(folder / "frame.tif", type, rows, columns, layout);
      const FrameList list = open_good({folder / "frame.tif"});
      EXPECT_EQ(list.rows, rows);
      EXPECT_EQ(list.columns, columns);
      ASSERT_EQ(list.runs.size(), 1u);
      EXPECT_EQ(list.runs[0].storage, Storage::tiff);
      expect_pattern(list, type, 1);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 64);
}

TEST_F(FrameSource, EveryPixelTypeComesBackFromEveryHdf5Storage) {
  using kernels::Compression;
  using kernels::Encoding;
  using kernels::Shuffle;
  struct Case {
    DatasetLayout layout;
    Storage storage;
    Encoding encoding = Encoding::raw;
  };
  const std::vector<Case> cases = {
      {{.name = "contiguous"}, Storage::contiguous},
      {{.name = "raw chunks", .chunked = true}, Storage::chunk},
      {bslz4, Storage::chunk, Encoding::bslz4},
      {{.name = "compact", .compact = true}, Storage::hdf5},
      {{.name = "deflate", .chunked = true, .filter = 1}, Storage::chunk, {Compression::deflate, Shuffle::none}},
      {{.name = "shuffle, deflate", .chunked = true, .filter = 1, .shuffle = true},
       Storage::chunk,
       {Compression::deflate, Shuffle::bytes}},
      {{.name = "shuffle", .chunked = true, .shuffle = true}, Storage::chunk, {Compression::none, Shuffle::bytes}},
      {{.name = "shuffle, bslz4", .chunked = true, .filter = hdf5::bitshuffle_filter, .shuffle = true}, Storage::hdf5},
      {{.name = "deflate, big-endian", .chunked = true, .filter = 1, .big_endian = true}, Storage::hdf5},
      {{.name = "big-endian", .big_endian = true}, Storage::hdf5},
      {{.name = "bslz4, several frames a chunk",
        .chunked = true,
        .chunk = {2, rows, columns},
        .filter = hdf5::bitshuffle_filter},
       Storage::hdf5},
      {{.name = "bslz4, parts of frames", .chunked = true, .chunk = {1, 8, 10}, .filter = hdf5::bitshuffle_filter},
       Storage::hdf5},
  };
  int compared = 0;
  for (const Case& each : cases) {
    for (const PixelType type : all_types) {
      SCOPED_TRACE(each.layout.name + ", " + std::string(name_of(type)));
      {
        const hdf5::File file = create_file(folder / "frames.h5");
        write_stack(file.get(), "/entry/data/data", type, 3, rows, columns, each.layout);
      }
      const FrameList list = open_good({folder / "frames.h5"});
      ASSERT_EQ(list.runs.size(), 1u);
      // A type of one byte has no byte order.
      const bool plain = each.layout.big_endian && size_of(type) == 1;
      const Storage plain_storage = each.layout.chunked ? Storage::chunk : Storage::contiguous;
      EXPECT_EQ(list.runs[0].storage, plain ? plain_storage : each.storage);
      EXPECT_EQ(list.runs[0].encoding, plain ? list.runs[0].encoding : each.encoding);
      expect_pattern(list, type, 3);
      expect_pattern(list, type, 3, 4);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 96);
}

TEST_F(FrameSource, AUserBlockBeforeTheFileMovesNoFrame) {
  for (const auto& layout :
       {DatasetLayout{.name = "contiguous"}, DatasetLayout{.name = "raw", .chunked = true}, bslz4}) {
    SCOPED_TRACE(layout.name);
    {
      const hdf5::File file = create_file(folder / "frames.h5", 2048);
      write_stack(file.get(), "/data", PixelType::i32, 3, rows, columns, layout);
    }
    expect_pattern(open_good({folder / "frames.h5"}), PixelType::i32, 3);
  }
}

TEST_F(FrameSource, A2DDatasetIsOneFrame) {
  for (const auto& layout :
       {DatasetLayout{}, DatasetLayout{.chunked = true}, DatasetLayout{.big_endian = true}, bslz4}) {
    SCOPED_TRACE(layout.name);
    {
      const hdf5::File file = create_file(folder / "frame.h5");
      const auto dataset = create_dataset(file.get(), "/image", H5T_NATIVE_UINT16, {rows, columns}, layout);
      const auto values = frame_pixels(PixelType::u16, 0, pixels);
      hdf5::check(H5Dwrite(dataset.get(), H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "write");
    }
    expect_pattern(open_good({folder / "frame.h5"}), PixelType::u16, 1);
  }
}

TEST_F(FrameSource, FilesOfDifferentTypesKeepTheirTypes) {
  write_tiff(folder / "1.tif", PixelType::u16, rows, columns, {}, 0);
  write_tiff(folder / "2.tif", PixelType::f32, rows, columns, {}, 1);
  FrameReader reader(open_good({folder / "1.tif", folder / "2.tif"}));
  const auto fetched = fetch_all(reader, 0, 2);
  EXPECT_EQ(reader.type_of(0), PixelType::u16);
  EXPECT_EQ(reader.type_of(1), PixelType::f32);
  EXPECT_TRUE(fetched[0].pixels == frame_pixels(PixelType::u16, 0, pixels));
  EXPECT_TRUE(fetched[1].pixels == frame_pixels(PixelType::f32, 1, pixels));
}

TEST_F(FrameSource, EveryPageOfATiffIsAFrame) {
  for (const auto& layout : {TiffLayout{}, TiffLayout{.compression = COMPRESSION_LZW}}) {
    write_tiff(folder / "stack.tif", PixelType::i32, rows, columns, layout, 0, 12);
    write_tiff(folder / "more.tif", PixelType::i32, rows, columns, layout, 12, 2);
    const FrameList list = open_good({folder / "stack.tif", folder / "more.tif"});
    EXPECT_EQ(list.inputs[0].frames, 12u);
    EXPECT_EQ(list.inputs[1].frames, 2u);
    expect_pattern(list, PixelType::i32, 14, 4);
  }
}

TEST_F(FrameSource, FramesAreReadInAnyOrderAndBeyondTheEndAreMissing) {
  FrameReader reader(open_good({write_master({3, 2})}));
  for (const std::uint64_t first : {4u, 0u, 3u, 1u}) {
    const auto fetched = fetch_all(reader, first, 3);
    for (std::uint64_t index = 0; index < 3; ++index) {
      const bool inside = first + index < 5;
      EXPECT_EQ(fetched[index].status, inside ? FrameStatus::ok : FrameStatus::missing);
      if (!inside) continue;
      EXPECT_TRUE(fetched[index].pixels == frame_pixels(PixelType::u16, first + index, pixels));
    }
  }
}

/// Drops a file from the page cache; false where the file system keeps it there.
bool forget(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY);
  const auto bytes = static_cast<std::size_t>(fs::file_size(file));
  ::fdatasync(descriptor);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  ::close(descriptor);
  if (memory == MAP_FAILED) return false;
  std::vector<unsigned char> resident(bytes / static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + 1);
  const bool known = ::mincore(memory, bytes, resident.data()) == 0;
  ::munmap(memory, bytes);
  return known && std::ranges::none_of(resident, [](unsigned char page) { return (page & 1U) != 0; });
}

TEST_F(FrameSource, ReadersTellWhetherTheyWaitedForTheStorage) {
  constexpr std::uint64_t frames = 300;
  const fs::path file = write_source("stack.h5", 0, frames, {.name = "contiguous"});
  const FrameList list = open_good({file});
  const auto waited = [&] {
    FrameReader reader(list);
    const FrameReader::Plan plan = reader.plan(0, frames);
    std::vector<std::byte> memory(plan.bytes());
    std::ranges::fill(memory, std::byte{1});  // pages that are there: nobody waits for them
    std::vector<EncodedFrame> fetched(frames);
    const bool slept = reader.read(plan, memory, fetched, 1);
    EXPECT_EQ(fetched[frames - 1].status, FrameStatus::ok);
    return slept;
  };
  EXPECT_FALSE(waited()) << "just written: in the page cache";
  if (!forget(file)) GTEST_SKIP() << folder << ": this file system keeps its files in memory";
  EXPECT_TRUE(waited()) << "on the disk alone";
  EXPECT_FALSE(waited()) << "read before";
}

TEST_F(FrameSource, MoreFilesThanAreKeptOpenAreRead) {
  expect_pattern(open_good({write_master(std::vector<std::uint64_t>(20, 2))}), PixelType::u16, 40, 3);
}

TEST_F(FrameSource, TheListSurvivesItsByteForm) {
  const FrameList list = open_good({write_master({3, 2}), write_source("other.h5", 5, 4)});
  const auto bytes = serialise(list);
  const FrameList copy = deserialise_frames(bytes);
  EXPECT_EQ(copy.rows, rows);
  EXPECT_EQ(copy.columns, columns);
  ASSERT_EQ(copy.runs.size(), 3u);
  for (std::size_t run = 0; run < 3; ++run) {
    EXPECT_EQ(copy.runs[run].file, list.runs[run].file);
    EXPECT_EQ(copy.runs[run].dataset, list.runs[run].dataset);
    EXPECT_EQ(copy.runs[run].storage, list.runs[run].storage);
    EXPECT_EQ(copy.runs[run].first, list.runs[run].first);
    EXPECT_EQ(copy.runs[run].frames, list.runs[run].frames);
    EXPECT_EQ(copy.runs[run].type, list.runs[run].type);
    EXPECT_EQ(copy.runs[run].encoding, list.runs[run].encoding);
  }
  ASSERT_EQ(copy.inputs.size(), 2u);
  EXPECT_EQ(copy.inputs[0].file, list.inputs[0].file);
  EXPECT_EQ(copy.inputs[0].dataset, "/entry/data");
  EXPECT_EQ(copy.inputs[1].frames, 4u);
  EXPECT_THROW(static_cast<void>(deserialise_frames(std::span(bytes).first(bytes.size() - 1))), InternalError);
}

// ------------------------------------------------------------------------------------------------- without a copy

TEST_F(FrameSource, FramesPastHdf5LieInThePageCacheAndOthersDoNot) {
  if (!maps_files(folder)) GTEST_SKIP() << maps_no_files;
  const auto is_mapped = [&](const fs::path& file) {
    const FrameList list = open_good({file});
    FrameReader reader(list);
    return map_all(reader, 0, list.frames()).has_value();
  };
  EXPECT_TRUE(is_mapped(write_master({2, 3})));
  EXPECT_TRUE(is_mapped(write_source("contiguous.h5", 0, 3, {.name = "contiguous"})));
  EXPECT_FALSE(is_mapped(write_source("pieces.h5", 0, 3, {.name = "pieces", .chunked = true, .chunk = {1, 7, 9}})));
  write_tiff(folder / "frame.tif", PixelType::u16, rows, columns);
  EXPECT_FALSE(is_mapped(folder / "frame.tif"));
}

TEST_F(FrameSource, MappedFramesThatAreMissingHaveTheirStatus) {
  if (!maps_files(folder)) GTEST_SKIP() << maps_no_files;
  const fs::path master = write_master({3, 2});
  const FrameList list = open_good({master});
  // The second file goes behind our back.
  fs::remove(folder / "scan" / "scan_data_000002.h5");
  FrameReader reader(list);
  const auto mapped = map_all(reader, 0, 7);
  ASSERT_TRUE(mapped);
  const auto fetched = fetch_all(reader, 0, 7);
  for (std::size_t frame = 0; frame < 7; ++frame) {
    EXPECT_EQ((*mapped)[frame].status, fetched[frame].status) << frame;
    EXPECT_EQ((*mapped)[frame].status == FrameStatus::ok, frame < 3) << frame;
  }
}

TEST_F(FrameSource, AFrameBehindTheEndOfItsFileIsReadNotMapped) {
  const fs::path file = write_source("cut.h5", 0, 4);
  const FrameList list = open_good({file});
  const hdf5::ChunkAddress last = chunk_of(file, "/data", 3);
  FrameReader reader(list);
  const FrameReader::Plan plan = reader.plan(0, 4);
  std::vector<EncodedFrame> frames(4);
  FilePages pages;
  EXPECT_EQ(reader.map(plan, pages, frames), maps_files(folder));
  fs::resize_file(file, last.offset + last.bytes / 2);
  EXPECT_FALSE(reader.map(plan, pages, frames));
  std::vector<std::byte> memory(plan.bytes());
  reader.read(plan, memory, frames, 1);
  for (std::size_t frame = 0; frame < 4; ++frame) {
    EXPECT_EQ(frames[frame].status, frame < 3 ? FrameStatus::ok : FrameStatus::unreadable) << frame;
  }
}

// ---------------------------------------------------------------------------------------------------- the filter

TEST_F(FrameSource, TheFilterReadsWhatItWroteThroughHdf5Alone) {
  const hdf5::File file = create_file(folder / "frames.h5");
  write_stack(file.get(), "/data", PixelType::i16, 4, rows, columns,
              {.chunked = true, .chunk = {3, 10, columns}, .filter = hdf5::bitshuffle_filter});
  const auto dataset = hdf5::open_dataset(file.get(), folder / "frames.h5", "/data");
  std::vector<std::byte> read(4 * pixels * 2);
  ASSERT_GE(H5Dread(dataset.get(), H5T_NATIVE_INT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, read.data()), 0);
  EXPECT_TRUE(read == stack_pixels(PixelType::i16, 0, 4, pixels));
}

/// Creates a dataset of one chunk per frame whose pipeline is one filter, with its parameters as a file of another
/// program has them: HDF5 lets nobody but the filter itself set those.
hdf5::Dataset create_foreign(hid_t file, const std::string& path, hid_t type, const std::vector<hsize_t>& size,
                             const std::vector<hsize_t>& chunk, H5Z_filter_t filter,
                             const std::vector<unsigned>& values) {
  H5Z_class2_t inert{};
  inert.version = H5Z_CLASS_T_VERS;
  inert.id = filter;
  inert.encoder_present = 1;
  inert.decoder_present = 1;
  inert.name = "as if from elsewhere";
  inert.filter = [](unsigned, std::size_t, const unsigned*, std::size_t bytes, std::size_t*, void**) { return bytes; };
  hdf5::check(H5Zregister(&inert), "register a filter");
  const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
  H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
  H5Pset_filter(creation.get(), filter, H5Z_FLAG_MANDATORY, values.size(), values.data());
  const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr),
                                                "make a dataspace");
  return hdf5::own<hdf5::Dataset>(
      H5Dcreate2(file, path.c_str(), type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), "create " + path);
}

/// Back to our own filter, or to none.
void forget_foreign(H5Z_filter_t filter) {
  hdf5::check(H5Zunregister(filter), "take a filter back");
  if (filter == hdf5::bitshuffle_filter) hdf5::register_bitshuffle_filter();
}

TEST_F(FrameSource, TheFilterDecodesEveryCompressionAndTellsOfOthers) {
  // 16 elements of one byte, all 1: bit plane 0 is two bytes of ones, the other planes are zero.
  const std::vector<std::byte> ones(16, std::byte{1});
  for (const unsigned compression : {hdf5::bitshuffle_none, hdf5::bitshuffle_lz4, hdf5::bitshuffle_zstd, 9u}) {
    const hdf5::File file = create_file(folder / "plain.h5");
    hdf5::Dataset dataset = create_foreign(file.get(), "/d", H5T_NATIVE_UINT8, {4, 4}, {4, 4}, hdf5::bitshuffle_filter,
                                           {0, 3, 1, 0, compression});
    const auto encoding = hdf5::bitshuffle_encoding(std::array{0u, 3u, 1u, 0u, compression});
    ASSERT_EQ(encoding.has_value(), compression != 9);
    const auto chunk = fuzz::encode_by_definition(ones, 1, 16, encoding.value_or(kernels::Encoding::bslz4));
    const std::array<hsize_t, 2> corner{0, 0};
    ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, corner.data(), chunk.size(), chunk.data()), 0);
    dataset.reset();
    forget_foreign(hdf5::bitshuffle_filter);
    dataset.reset(H5Dopen2(file.get(), "/d", H5P_DEFAULT));
    std::vector<std::byte> read(16);
    const herr_t status = H5Dread(dataset.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, read.data());
    if (encoding) {
      EXPECT_GE(status, 0) << compression;
      EXPECT_EQ(read, ones) << compression;
    } else {
      EXPECT_LT(status, 0);
      EXPECT_NE(hdf5::last_error().find("only LZ4, Zstandard and none"), std::string::npos);
    }
  }
}

TEST_F(FrameSource, ZstandardIsReadPastHdf5AndThroughItWithoutAPlugin) {
  for (const PixelType type : {PixelType::u16, PixelType::u32}) {
    for (const hsize_t frames_a_chunk : {hsize_t{1}, hsize_t{2}}) {
      SCOPED_TRACE(std::string(name_of(type)) + ", " + std::to_string(frames_a_chunk) + " frames a chunk");
      const auto element = static_cast<unsigned>(size_of(type));
      {
        const hdf5::File file = create_file(folder / "frames.h5");
        const auto dataset = create_foreign(file.get(), "/data", hdf5::native_type(type), {4, rows, columns},
                                            {frames_a_chunk, rows, columns}, hdf5::bitshuffle_filter,
                                            {0, 4, element, 0, hdf5::bitshuffle_zstd, 3});
        for (hsize_t frame = 0; frame < 4; frame += frames_a_chunk) {
          auto chunk = fuzz::encode_by_definition(stack_pixels(type, frame, frames_a_chunk, pixels), element, 8192,
                                                  kernels::Encoding::bszstd);
          if (frame == 2) chunk[24] ^= std::byte{0xff};
          const std::array<hsize_t, 3> corner{frame, 0, 0};
          ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, corner.data(), chunk.size(), chunk.data()), 0);
        }
      }
      forget_foreign(hdf5::bitshuffle_filter);
      const FrameList list = open_good({folder / "frames.h5"});
      EXPECT_EQ(list.runs[0].storage, frames_a_chunk == 1 ? Storage::chunk : Storage::hdf5);
      FrameReader reader(list);
      const auto fetched = fetch_all(reader, 0, 4);
      for (std::uint64_t frame = 0; frame < 4; ++frame) {
        const bool damaged = frame / frames_a_chunk == 2 / frames_a_chunk;
        EXPECT_EQ(fetched[frame].status, damaged ? FrameStatus::unreadable : FrameStatus::ok) << frame;
        EXPECT_TRUE(damaged || fetched[frame].pixels == frame_pixels(type, frame, pixels)) << frame;
      }
    }
  }
}

TEST_F(FrameSource, OtherProgramsFiltersAreReadWithoutTheirPlugins) {
  // LZ4 (32004), in blocks of 256 bytes that are stored as they are, since liblz4 has nothing to take away from them.
  std::vector<std::byte> lz4;
  const auto frame = frame_pixels(PixelType::u16, 0, pixels);
  kernels::append_big_endian<std::uint64_t>(frame.size(), lz4);
  kernels::append_big_endian<std::uint32_t>(256, lz4);
  for (std::size_t first = 0; first < frame.size(); first += 256) {
    const auto block = std::span(frame).subspan(first, std::min<std::size_t>(256, frame.size() - first));
    kernels::append_big_endian(static_cast<std::uint32_t>(block.size()), lz4);
    lz4.insert(lz4.end(), block.begin(), block.end());
  }
  const std::vector<std::byte> zstd = fuzz::compress(kernels::Compression::zstd, frame);
  for (const auto& [filter, chunk] : {std::pair{32004, lz4}, std::pair{32015, zstd}}) {
    SCOPED_TRACE(filter);
    {
      const hdf5::File file = create_file(folder / "frames.h5");
      const auto dataset =
          create_foreign(file.get(), "/data", H5T_NATIVE_UINT16, {1, rows, columns}, {1, rows, columns}, filter, {});
      const std::array<hsize_t, 3> corner{0, 0, 0};
      ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, corner.data(), chunk.size(), chunk.data()), 0);
    }
    forget_foreign(filter);
    expect_pattern(open_good({folder / "frames.h5"}), PixelType::u16, 1);
  }
}

TEST_F(FrameSource, TheFilterRefusesToWriteWhatItCannot) {
  const hdf5::File file = create_file(folder / "frames.h5");
  const std::array<hsize_t, 2> size{4, 4};
  const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(2, size.data(), nullptr), "make a dataspace");
  for (const auto& given : {std::array<unsigned, 2>{0, 3}, std::array<unsigned, 2>{64, hdf5::bitshuffle_lz4}}) {
    const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
    H5Pset_chunk(creation.get(), 2, size.data());
    H5Pset_filter(creation.get(), hdf5::bitshuffle_filter, H5Z_FLAG_MANDATORY, 2, given.data());
    EXPECT_LT(H5Dcreate2(file.get(), "/d", H5T_NATIVE_UINT16, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
              0);
  }
}

// ---------------------------------------------------------------------------------------------------- finding frames

TEST_F(FrameSource, LinksOfAMasterAreFollowedByNumber) {
  const FrameList list = open_good({write_master({3, 3, 2, 1, 1, 1, 1, 1, 1, 2})});  // data_0000010 comes last.
  ASSERT_EQ(list.runs.size(), 10u);
  EXPECT_EQ(list.runs[0].file.filename(), "scan_data_000001.h5");
  EXPECT_EQ(list.runs[9].file.filename(), "scan_data_0000010.h5");
  EXPECT_EQ(list.runs[0].dataset, "/entry/data/data");
  EXPECT_EQ(list.runs[0].storage, Storage::chunk);
  ASSERT_EQ(list.inputs.size(), 1u);
  EXPECT_EQ(list.inputs[0].dataset, "/entry/data");
  EXPECT_EQ(list.inputs[0].frames, 16u);
  expect_pattern(list, PixelType::u16, 16);
}

TEST_F(FrameSource, AGroupMayBeGivenInsteadOfADataset) {
  const fs::path master = write_master({3, 2});
  expect_pattern(open_good({master}, "/entry/data"), PixelType::u16, 5);
  expect_pattern(open_good({master}, "entry/data/"), PixelType::u16, 5);
  const FrameList one = open_good({master}, "/entry/data/data_000001");
  EXPECT_EQ(one.frames(), 3u);
  EXPECT_EQ(one.inputs[0].dataset, "/entry/data/data_000001");
}

TEST_F(FrameSource, DectrisNamesOneLinkAsSignalAndMeansAll) {
  const fs::path master = write_master({3, 2});
  {
    const auto file = hdf5::own<hdf5::File>(H5Fopen(master.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), "open");
    write_text_attribute(file.get(), "/", "default", "entry");
    write_text_attribute(file.get(), "/entry", "default", "data");
    write_text_attribute(file.get(), "/entry/data", "signal", "data_000001");
  }
  expect_pattern(open_good({master}), PixelType::u16, 5);
}

TEST_F(FrameSource, FramesAreFoundWhereFacilitiesPutThem) {
  for (const std::string path : {"/entry/data/data", "/entry_0000/measurement/data", "/entry/instrument/pilatus/data",
                                 "/1.1/measurement/eiger", "/a/b/c/d"}) {
    SCOPED_TRACE(path);
    {
      const hdf5::File file = create_file(folder / "frames.h5");
      write_stack(file.get(), path, PixelType::u16, 2, rows, columns, bslz4);
      create_dataset(file.get(), "/other/mask", H5T_NATIVE_UINT8, {rows, columns});
      create_dataset(file.get(), "/other/monitor", H5T_NATIVE_DOUBLE, {2});
    }
    const FrameList list = open_good({folder / "frames.h5"});
    EXPECT_EQ(list.inputs[0].dataset, path);
    expect_pattern(list, PixelType::u16, 2);
  }
}

TEST_F(FrameSource, TheNexusDefaultDecidesBetweenDatasets) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    write_stack(file.get(), "/scan/first/image", PixelType::u16, 2, rows, columns, bslz4, 7);
    write_stack(file.get(), "/scan/second/image", PixelType::u16, 2, rows, columns, bslz4);
    write_text_attribute(file.get(), "/", "default", "scan");
    write_text_attribute(file.get(), "/scan", "default", "second");
    write_text_attribute(file.get(), "/scan/second", "signal", "image");
  }
  const FrameList list = open_good({folder / "frames.h5"});
  EXPECT_EQ(list.inputs[0].dataset, "/scan/second/image");
  expect_pattern(list, PixelType::u16, 2);
}

TEST_F(FrameSource, TwoCandidatesAreNamedAndNeitherIsTaken) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    write_stack(file.get(), "/a/frames", PixelType::u16, 2, rows, columns);
    write_stack(file.get(), "/b/frames", PixelType::u16, 2, rows, columns);
  }
  const std::string told = problems_of({folder / "frames.h5"});
  EXPECT_NE(told.find("frames.h5"), std::string::npos) << told;
  EXPECT_NE(told.find("/a/frames, /b/frames"), std::string::npos) << told;
  EXPECT_EQ(open_good({folder / "frames.h5"}, "/b/frames").frames(), 2u);
}

TEST_F(FrameSource, OneDatasetUnderTwoNamesIsOneCandidate) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    write_stack(file.get(), "/a/frames", PixelType::u16, 2, rows, columns);
    H5Lcreate_soft("/a/frames", file.get(), "/linked", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_hard(file.get(), "/a/frames", file.get(), "/hard", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_hard(file.get(), "/", file.get(), "/a/cycle", H5P_DEFAULT, H5P_DEFAULT);
  }
  EXPECT_EQ(open_good({folder / "frames.h5"}).frames(), 2u);
}

TEST_F(FrameSource, ABrokenLinkBesideTheOnlyCandidateIsNotOverlooked) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    write_stack(file.get(), "/a/frames", PixelType::u16, 2, rows, columns);
    link_external(file.get(), "/b/frames", "gone.h5", "/data");
  }
  EXPECT_NE(problems_of({folder / "frames.h5"}).find("/b/frames"), std::string::npos);
}

TEST_F(FrameSource, AWrongPathTellsWhatIsThere) {
  const fs::path file = write_source("frames.h5", 0, 2);
  const std::string told = problems_of({file}, "/entry/frames");
  EXPECT_NE(told.find("frames.h5::/entry/frames"), std::string::npos) << told;
  EXPECT_NE(told.find("'entry'"), std::string::npos) << told;
  EXPECT_NE(told.find("data"), std::string::npos) << told;
}

TEST_F(FrameSource, AGapInTheNumbersIsAProblem) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    for (const int number : {1, 2, 4}) {
      write_stack(file.get(), "/entry/data/data_00000" + std::to_string(number), PixelType::u16, 1, rows, columns);
    }
  }
  EXPECT_NE(problems_of({folder / "frames.h5"}).find("none of number 3"), std::string::npos);
}

TEST_F(FrameSource, LinksThroughGroupsAndSoftLinksAreFollowed) {
  write_source("source.h5", 0, 3);
  {
    const hdf5::File middle = create_file(folder / "middle.h5");
    link_external(middle.get(), "/deep/frames", "source.h5", "/data");
    const hdf5::File top = create_file(folder / "top.h5");
    link_external(top.get(), "/scan", "middle.h5", "/deep");
    H5Lcreate_soft("/scan/frames", top.get(), "/soft", H5P_DEFAULT, H5P_DEFAULT);
  }
  const FrameList list = open_good({folder / "top.h5"}, "/soft");
  EXPECT_EQ(list.runs.at(0).file.filename(), "source.h5");
  EXPECT_EQ(list.runs.at(0).dataset, "/data");
  expect_pattern(list, PixelType::u16, 3);
}

// ---------------------------------------------------------------------------------------------------- virtual

TEST_F(FrameSource, AVirtualDatasetBecomesRunsOfItsSources) {
  write_source("a.h5", 0, 4);
  write_source("b.h5", 3, 6, {.name = "contiguous"});
  {
    const hdf5::File file = create_file(folder / "virtual.h5");
    write_virtual(file.get(), "/data", PixelType::u16, 9, rows, columns,
                  {{4, 5, "b.h5", "/data", 1, 6}, {0, 4, "a.h5", "/data", 0, 4}});
  }
  const FrameList list = open_good({folder / "virtual.h5"});
  ASSERT_EQ(list.runs.size(), 2u);
  EXPECT_EQ(list.runs[0].file.filename(), "a.h5");
  EXPECT_EQ(list.runs[0].storage, Storage::chunk);
  EXPECT_EQ(list.runs[1].file.filename(), "b.h5");
  EXPECT_EQ(list.runs[1].storage, Storage::contiguous);
  EXPECT_EQ(list.runs[1].first, 1u);
  EXPECT_EQ(list.runs[1].frames, 5u);
  expect_pattern(list, PixelType::u16, 9);
}

TEST_F(FrameSource, InterleavedSourcesAreFollowedFrameByFrame) {
  {
    // Even frames in one file, odd ones in the other.
    for (const std::uint64_t parity : {0u, 1u}) {
      const hdf5::File file = create_file(folder / ("part" + std::to_string(parity) + ".h5"));
      const auto dataset =
          create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {3, rows, columns}, {.chunked = true});
      std::vector<std::byte> all;
      for (std::uint64_t index = 0; index < 3; ++index) {
        const auto one = frame_pixels(PixelType::u16, 2 * index + parity, pixels);
        all.insert(all.end(), one.begin(), one.end());
      }
      hdf5::check(H5Dwrite(dataset.get(), H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()), "write");
    }
    const hdf5::File file = create_file(folder / "virtual.h5");
    write_virtual(file.get(), "/data", PixelType::u16, 6, rows, columns,
                  {{0, 3, "part0.h5", "/data", 0, 3, 2}, {1, 3, "part1.h5", "/data", 0, 3, 2}});
  }
  const FrameList list = open_good({folder / "virtual.h5"});
  EXPECT_EQ(list.runs.size(), 6u);
  expect_pattern(list, PixelType::u16, 6);
}

TEST_F(FrameSource, AVirtualDatasetOfVirtualDatasetsIsResolvedToTheEnd) {
  write_source("a.h5", 0, 2);
  write_source("b.h5", 2, 2);
  {
    const hdf5::File inner = create_file(folder / "inner.h5");
    write_virtual(inner.get(), "/both", PixelType::u16, 4, rows, columns,
                  {{0, 2, "a.h5", "/data", 0, 2}, {2, 2, "b.h5", "/data", 0, 2}});
    const hdf5::File outer = create_file(folder / "outer.h5");
    write_virtual(outer.get(), "/all", PixelType::u16, 4, rows, columns, {{0, 4, "inner.h5", "/both", 0, 4}});
  }
  const FrameList list = open_good({folder / "outer.h5"});
  ASSERT_EQ(list.runs.size(), 2u);
  EXPECT_EQ(list.runs[1].file.filename(), "b.h5");
  expect_pattern(list, PixelType::u16, 4);
}

TEST_F(FrameSource, SourcesThatArePartsOfFramesAreReadThroughHdf5) {
  // Two modules, one above the other, in a file each.
  const std::array<hsize_t, 3> size{2, 2 * rows, columns};
  for (const int module : {0, 1}) write_source("module" + std::to_string(module) + ".h5", 10 * module, 2);
  {
    const hdf5::File file = create_file(folder / "virtual.h5");
    const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
    const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, size.data(), nullptr), "make a dataspace");
    const std::array<hsize_t, 3> module_size{2, rows, columns};
    const auto from = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, module_size.data(), nullptr), "make a dataspace");
    for (const hsize_t module : {0, 1}) {
      const std::array<hsize_t, 3> start{0, module * rows, 0};
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, module_size.data(), nullptr);
      H5Pset_virtual(creation.get(), space.get(), ("module" + std::to_string(module) + ".h5").c_str(), "/data",
                     from.get());
    }
    hdf5::own<hdf5::Dataset>(
        H5Dcreate2(file.get(), "/data", H5T_NATIVE_UINT16, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
        "create")
        .reset();
  }
  const FrameList list = open_good({folder / "virtual.h5"});
  ASSERT_EQ(list.runs.size(), 1u);
  EXPECT_EQ(list.runs[0].storage, Storage::hdf5);
  EXPECT_EQ(list.rows, 2 * rows);
  FrameReader reader(list);
  auto expected = frame_pixels(PixelType::u16, 1, pixels);
  const auto lower = frame_pixels(PixelType::u16, 11, pixels);
  expected.insert(expected.end(), lower.begin(), lower.end());
  const auto fetched = fetch_all(reader, 1, 1);
  EXPECT_EQ(fetched[0].status, FrameStatus::ok);
  EXPECT_TRUE(fetched[0].pixels == expected);

  // A module that has gone is a problem for who looks now, and no fill values for who looked before.
  fs::remove(folder / "module1.h5");
  EXPECT_NE(problems_of({folder / "virtual.h5"}).find("module1.h5"), std::string::npos);
  FrameReader later(list);
  EXPECT_EQ(fetch_all(later, 1, 1)[0].status, FrameStatus::missing);
}

TEST_F(FrameSource, AMissingVirtualSourceIsAProblemOrAStatusButNeverFillValues) {
  write_source("a.h5", 0, 2);
  write_source("c.h5", 4, 2);
  {
    const hdf5::File file = create_file(folder / "virtual.h5");
    write_virtual(file.get(), "/data", PixelType::u16, 6, rows, columns,
                  {{0, 2, "a.h5", "/data", 0, 2}, {2, 2, "gone.h5", "/data", 0, 2}, {4, 2, "c.h5", "/data", 0, 2}});
  }
  const std::string told = problems_of({folder / "virtual.h5"});
  EXPECT_NE(told.find("virtual.h5::/data"), std::string::npos) << told;
  EXPECT_NE(told.find("gone.h5"), std::string::npos) << told;

  Problems problems;
  const std::vector<fs::path> files{folder / "virtual.h5"};
  FrameReader reader(open_by_all_crews(files, "", DamagedFiles::become_status, problems));
  EXPECT_FALSE(problems.any());
  ASSERT_EQ(reader.list().frames(), 6u);
  const auto fetched = fetch_all(reader, 0, 6);
  for (const std::size_t frame : {0u, 1u, 4u, 5u}) {
    EXPECT_EQ(fetched[frame].status, FrameStatus::ok);
    EXPECT_TRUE(fetched[frame].pixels == frame_pixels(PixelType::u16, frame, pixels));
  }
  EXPECT_EQ(fetched[2].status, FrameStatus::missing);
  EXPECT_EQ(fetched[3].status, FrameStatus::missing);
}

TEST_F(FrameSource, ASourceShorterThanItsMappingIsAProblem) {
  write_source("a.h5", 0, 2);
  {
    const hdf5::File file = create_file(folder / "virtual.h5");
    write_virtual(file.get(), "/data", PixelType::u16, 3, rows, columns, {{0, 3, "a.h5", "/data", 0, 3}});
  }
  const std::string told = problems_of({folder / "virtual.h5"});
  EXPECT_NE(told.find("holds 2 frames, expected 3"), std::string::npos) << told;
  Problems problems;
  const std::vector<fs::path> files{folder / "virtual.h5"};
  FrameReader reader(open_by_all_crews(files, "", DamagedFiles::become_status, problems));
  const auto fetched = fetch_all(reader, 0, 3);
  EXPECT_EQ(fetched[1].status, FrameStatus::ok);
  EXPECT_EQ(fetched[2].status, FrameStatus::missing);
}

TEST_F(FrameSource, FramesThatNoSourceCoversAreMissing) {
  write_source("a.h5", 0, 2);
  {
    const hdf5::File file = create_file(folder / "virtual.h5");
    write_virtual(file.get(), "/data", PixelType::u16, 5, rows, columns,
                  {{0, 1, "a.h5", "/data", 0, 2}, {3, 1, "a.h5", "/data", 1, 2}});
  }
  FrameReader reader(open_good({folder / "virtual.h5"}));
  ASSERT_EQ(reader.list().frames(), 5u);
  const auto fetched = fetch_all(reader, 0, 5);
  EXPECT_TRUE(fetched[0].pixels == frame_pixels(PixelType::u16, 0, pixels));
  EXPECT_TRUE(fetched[3].pixels == frame_pixels(PixelType::u16, 1, pixels));
  for (const std::size_t frame : {0u, 3u}) EXPECT_EQ(fetched[frame].status, FrameStatus::ok);
  for (const std::size_t frame : {1u, 2u, 4u}) EXPECT_EQ(fetched[frame].status, FrameStatus::missing);
}

// ---------------------------------------------------------------------------------------------------- damage

TEST_F(FrameSource, ABrokenExternalLinkIsAlwaysAProblem) {
  const fs::path master = write_master({3, 2, 2});
  fs::remove(folder / "scan" / "scan_data_000002.h5");
  for (const DamagedFiles damaged : {DamagedFiles::refuse, DamagedFiles::become_status}) {
    const std::string told = problems_of({master}, "", damaged);
    EXPECT_NE(told.find("scan_master.h5"), std::string::npos) << told;
    EXPECT_NE(told.find("/entry/data/data_000002"), std::string::npos) << told;
    EXPECT_NE(told.find("scan_data_000002.h5::/entry/data/data"), std::string::npos) << told;
    EXPECT_NE(told.find("No such file"), std::string::npos) << told;
    EXPECT_EQ(told.find("data_000003"), std::string::npos) << told;
  }
}

TEST_F(FrameSource, ALinkToAFileWithoutTheDatasetTellsBoth) {
  const fs::path master = write_master({3});
  create_file(folder / "scan" / "scan_data_000001.h5").reset();
  const std::string told = problems_of({master});
  EXPECT_NE(told.find("data_000001"), std::string::npos) << told;
  EXPECT_NE(told.find("there is no 'entry'"), std::string::npos) << told;
}

TEST_F(FrameSource, AllProblemsOfAllFilesAreToldAtOnce) {
  const fs::path master = write_master({3, 2});
  fs::remove(folder / "scan" / "scan_data_000001.h5");
  fs::remove(folder / "scan" / "scan_data_000002.h5");
  write_bytes(folder / "empty.tif", "");
  write_bytes(folder / "notes.txt", "no image at all");
  write_bytes(folder / "header_only.h5", std::string("\x89HDF\r\n\x1a\n", 8));
  fs::create_directories(folder / "folder.tif");
  const std::string told = problems_of({master, folder / "absent.tif", folder / "empty.tif", folder / "notes.txt",
                                        folder / "header_only.h5", folder / "folder.tif"});
  for (const char* word :
       {"data_000001", "data_000002", "absent.tif: cannot be read: No such file", "empty.tif: is empty",
        "notes.txt: is neither", "header_only.h5: cannot be opened as HDF5", "folder.tif: is a folder"}) {
    EXPECT_NE(told.find(word), std::string::npos) << word << "\n" << told;
  }
  EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 7) << told;
}

TEST_F(FrameSource, FilesOfDifferentShapesAreAProblemOrAStatus) {
  write_tiff(folder / "1.tif", PixelType::u16, rows, columns);
  write_tiff(folder / "2.tif", PixelType::u16, rows + 1, columns);
  const std::string told = problems_of({folder / "1.tif", folder / "2.tif"});
  EXPECT_NE(told.find("2.tif: frames of 22 x 37 pixels, expected 21 x 37"), std::string::npos) << told;
  EXPECT_NE(told.find("1.tif\n"), std::string::npos) << told;
  Problems problems;
  const std::vector<fs::path> files{folder / "1.tif", folder / "2.tif"};
  FrameReader reader(open_by_all_crews(files, "", DamagedFiles::become_status, problems));
  EXPECT_FALSE(problems.any());
  const auto fetched = fetch_all(reader, 0, 2);
  EXPECT_EQ(fetched[0].status, FrameStatus::ok);
  EXPECT_EQ(fetched[1].status, FrameStatus::wrong_shape);
}

TEST_F(FrameSource, ATiffThatLostItsDirectoryIsAProblem) {
  // libtiff writes the directory behind the pixels.
  write_tiff(folder / "frame.tif", PixelType::u16, rows, columns);
  fs::resize_file(folder / "frame.tif", fs::file_size(folder / "frame.tif") / 2);
  const std::string told = problems_of({folder / "frame.tif"});
  EXPECT_NE(told.find("frame.tif: is no readable TIFF image"), std::string::npos) << told;
}

/// A TIFF as many detectors write it: little-endian, the directory first (at byte 8), then one strip of 2 x 3 pixels of
/// 16 bits (at byte 122): 134 bytes.
std::string tiff_with_directory_first(unsigned compression) {
  const auto u16 = [](unsigned value) {
    return std::string{static_cast<char>(value & 255), static_cast<char>(value >> 8)};
  };
  const auto u32 = [&](unsigned value) { return u16(value & 65535) + u16(value >> 16); };
  const auto entry = [&](unsigned tag, unsigned type, unsigned value) {
    return u16(tag) + u16(type) + u32(1) + u32(value);
  };
  std::string bytes = "II*" + std::string(1, '\0') + u32(8) + u16(9) + entry(256, 3, 3) + entry(257, 3, 2) +
                      entry(258, 3, 16) + entry(259, 3, compression) + entry(262, 3, 1) + entry(273, 4, 122) +
                      entry(277, 3, 1) + entry(278, 3, 2) + entry(279, 4, 12) + u32(0);
  for (unsigned pixel = 0; pixel < 6; ++pixel) bytes += u16(100 * pixel);
  return bytes;
}

TEST_F(FrameSource, ATiffCutInItsPixelsSaysHowLongItIs) {
  for (const unsigned compression : {COMPRESSION_NONE, COMPRESSION_LZW}) {
    write_bytes(folder / "cut.tif", tiff_with_directory_first(compression).substr(0, 130));
    const std::string told = problems_of({folder / "cut.tif"});
    EXPECT_NE(told.find("truncated: the file has 130 bytes, its image data end at byte 134"), std::string::npos)
        << told;
  }
}

TEST_F(FrameSource, DamagedImagesAmongGoodOnesKeepTheirPlaceWhenAsked) {
  const std::string bytes = tiff_with_directory_first(COMPRESSION_NONE);
  write_bytes(folder / "whole.tif", bytes);
  write_bytes(folder / "cut.tif", bytes.substr(0, 130));
  Problems problems;
  const std::vector<fs::path> files{folder / "cut.tif", folder / "whole.tif", folder / "absent.tif",
                                    folder / "whole.tif"};
  FrameReader reader(open_by_all_crews(files, "", DamagedFiles::become_status, problems));
  EXPECT_FALSE(problems.any());
  const auto fetched = fetch_all(reader, 0, 4, 2);
  EXPECT_EQ(fetched[0].status, FrameStatus::unreadable);
  EXPECT_EQ(fetched[1].status, FrameStatus::ok);
  EXPECT_EQ(fetched[2].status, FrameStatus::missing);
  EXPECT_EQ(fetched[3].status, FrameStatus::ok);
  std::array<std::uint16_t, 6> values{};
  ASSERT_EQ(fetched[1].pixels.size(), sizeof values);
  std::memcpy(values.data(), fetched[1].pixels.data(), sizeof values);
  EXPECT_EQ(values, (std::array<std::uint16_t, 6>{0, 100, 200, 300, 400, 500}));
}

TEST_F(FrameSource, ACorruptCompressedTiffIsUnreadableWithoutANoise) {
  write_bytes(folder / "frame.tif", tiff_with_directory_first(COMPRESSION_LZW));  // The pixels are no LZW codes.
  testing::internal::CaptureStderr();
  FrameReader reader(open_good({folder / "frame.tif"}));
  EXPECT_EQ(fetch_all(reader, 0, 1)[0].status, FrameStatus::unreadable);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(FrameSource, AnAbsentFileAmongFilesOfManyFramesIsAlwaysAProblem) {
  // Nobody knows how many frames it held: a guess would shift all that follow.
  const std::string told =
      problems_of({write_source("a.h5", 0, 3), folder / "absent.h5"}, "", DamagedFiles::become_status);
  EXPECT_NE(told.find("absent.h5"), std::string::npos) << told;
}

TEST_F(FrameSource, ColourAndOddBitsAreRefused) {
  for (const auto& [samples, bits] : {std::pair{3, 8}, std::pair{1, 4}}) {
    TIFF* tiff = TIFFOpen((folder / "odd.tif").c_str(), "w");
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 4);
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, 4);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, samples);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, bits);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, samples == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    std::array<unsigned char, 12> line{};
    for (std::uint32_t row = 0; row < 4; ++row) TIFFWriteScanline(tiff, line.data(), row, 0);
    TIFFClose(tiff);
    const std::string told = problems_of({folder / "odd.tif"});
    EXPECT_NE(told.find(samples == 3 ? "3 samples per pixel" : "pixels of 4 bits"), std::string::npos) << told;
  }
}

TEST_F(FrameSource, TypesWithoutAPixelTypeAreNamed) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    create_dataset(file.get(), "/data", H5T_NATIVE_INT64, {2, rows, columns});
    create_dataset(file.get(), "/line", H5T_NATIVE_INT32, {2});
    create_dataset(file.get(), "/four", H5T_NATIVE_INT32, {2, 2, rows, columns});
  }
  EXPECT_NE(problems_of({folder / "frames.h5"}).find("int64"), std::string::npos);
  EXPECT_NE(problems_of({folder / "frames.h5"}, "/line").find("has 1 dimensions"), std::string::npos);
  EXPECT_NE(problems_of({folder / "frames.h5"}, "/four").find("has 4 dimensions"), std::string::npos);
}

TEST_F(FrameSource, AFilterThatIsNotThereIsNamed) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    H5Z_class2_t passing{};
    passing.version = H5Z_CLASS_T_VERS;
    passing.id = 511;  // The last number for tests, never registered by anyone.
    passing.encoder_present = 1;
    passing.decoder_present = 1;
    passing.name = "of a far country";
    passing.filter = [](unsigned, std::size_t, const unsigned*, std::size_t bytes, std::size_t*, void**) {
      return bytes;
    };
    H5Zregister(&passing);
    const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
    const std::array<hsize_t, 3> size{2, rows, columns};
    H5Pset_chunk(creation.get(), 3, size.data());
    H5Pset_filter(creation.get(), 511, H5Z_FLAG_MANDATORY, 0, nullptr);
    const auto space = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, size.data(), nullptr), "make a dataspace");
    hdf5::own<hdf5::Dataset>(
        H5Dcreate2(file.get(), "/data", H5T_NATIVE_UINT16, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
        "create")
        .reset();
  }
  ASSERT_GE(H5Zunregister(511), 0);
  const std::string told = problems_of({folder / "frames.h5"});
  EXPECT_NE(told.find("filter 511 (of a far country)"), std::string::npos) << told;
  EXPECT_NE(told.find("HDF5_PLUGIN_PATH"), std::string::npos) << told;
}

TEST_F(FrameSource, ChunksNeverWrittenAreMissing) {
  for (const auto& layout : {DatasetLayout{.name = "raw", .chunked = true}, bslz4,
                             DatasetLayout{.name = "deflate", .chunked = true, .filter = 1}}) {
    SCOPED_TRACE(layout.name);
    {
      const hdf5::File file = create_file(folder / "frames.h5");
      const auto dataset = create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {4, rows, columns}, layout);
      const auto space = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset.get()), "get space");
      const std::array<hsize_t, 3> start{1, 0, 0};
      const std::array<hsize_t, 3> count{2, rows, columns};
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
      const auto memory = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, count.data(), nullptr), "make a dataspace");
      const auto values = stack_pixels(PixelType::u16, 1, 2, pixels);
      hdf5::check(H5Dwrite(dataset.get(), H5T_NATIVE_UINT16, memory.get(), space.get(), H5P_DEFAULT, values.data()),
                  "write");
    }
    FrameReader reader(open_good({folder / "frames.h5"}));
    const auto fetched = fetch_all(reader, 0, 4);
    EXPECT_EQ(fetched[0].status, FrameStatus::missing);
    EXPECT_EQ(fetched[1].status, FrameStatus::ok);
    EXPECT_TRUE(fetched[2].pixels == frame_pixels(PixelType::u16, 2, pixels));
    EXPECT_EQ(fetched[3].status, FrameStatus::missing);
  }
}

TEST_F(FrameSource, AFrameOfWhichPartsWereNeverWrittenIsUnreadable) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    const auto dataset = create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {2, rows, columns},
                                        {.chunked = true, .chunk = {1, 7, columns}, .filter = 1});
    const auto space = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset.get()), "get space");
    const std::array<hsize_t, 3> start{1, 0, 0};
    const std::array<hsize_t, 3> count{1, 7, columns};
    H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
    const auto memory = hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, count.data(), nullptr), "make a dataspace");
    const std::vector<std::uint16_t> values(7 * columns, 5);
    hdf5::check(H5Dwrite(dataset.get(), H5T_NATIVE_UINT16, memory.get(), space.get(), H5P_DEFAULT, values.data()),
                "write");
  }
  FrameReader reader(open_good({folder / "frames.h5"}));
  const auto fetched = fetch_all(reader, 0, 2);
  EXPECT_EQ(fetched[0].status, FrameStatus::missing);
  EXPECT_EQ(fetched[1].status, FrameStatus::unreadable);
}

TEST_F(FrameSource, AContiguousDatasetNeverWrittenIsMissing) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    create_dataset(file.get(), "/native", H5T_NATIVE_UINT16, {2, rows, columns});
    create_dataset(file.get(), "/swapped", H5T_NATIVE_UINT16, {2, rows, columns}, {.big_endian = true});
  }
  for (const std::string dataset : {"/native", "/swapped"}) {
    FrameReader reader(open_good({folder / "frames.h5"}, dataset));
    for (const Fetched& frame : fetch_all(reader, 0, 2)) EXPECT_EQ(frame.status, FrameStatus::missing);
  }
}

TEST_F(FrameSource, ACorruptChunkIsUnreadableAndItsNeighboursAreNot) {
  const fs::path file = write_source("frames.h5", 0, 5);
  const auto chunk = chunk_of(file, "/data", 2);
  patch(file, chunk.offset + 16, std::string(64, '\xff'));  // Behind the two heads: the LZ4 block itself.
  FrameReader reader(open_good({file}));
  const auto fetched = fetch_all(reader, 0, 5, 2);
  for (std::size_t frame = 0; frame < 5; ++frame) {
    EXPECT_EQ(fetched[frame].status, frame == 2 ? FrameStatus::unreadable : FrameStatus::ok);
  }
  // Through HDF5's pipeline as well: a chunk of several frames.
  const fs::path packed = write_source(
      "packed.h5", 0, 4, {.name = "", .chunked = true, .chunk = {2, rows, columns}, .filter = hdf5::bitshuffle_filter});
  patch(packed, chunk_of(packed, "/data", 0).offset + 16, std::string(64, '\xff'));
  FrameReader slow(open_good({packed}));
  const auto slowly = fetch_all(slow, 0, 4);
  EXPECT_EQ(slowly[0].status, FrameStatus::unreadable);
  EXPECT_EQ(slowly[1].status, FrameStatus::unreadable);
  EXPECT_EQ(slowly[2].status, FrameStatus::ok);
}

TEST_F(FrameSource, AChunkOfAnotherDecodedSizeHasTheWrongShape) {
  const fs::path file = write_source("frames.h5", 0, 3);
  const auto chunk = chunk_of(file, "/data", 1);
  patch(file, chunk.offset + 7, std::string(1, '\x08'));  // Lowest byte of the decoded size.
  FrameReader reader(open_good({file}));
  const auto fetched = fetch_all(reader, 0, 3);
  EXPECT_EQ(fetched[0].status, FrameStatus::ok);
  EXPECT_EQ(fetched[1].status, FrameStatus::wrong_shape);
  EXPECT_EQ(fetched[2].status, FrameStatus::ok);
}

TEST_F(FrameSource, AChunkThatDecodesToLessThanItsSizeIsNotReadBeyond) {
  // HDF5 takes what a filter gives it for a whole chunk. Here a valid chunk of one frame stands for two frames.
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    const auto dataset =
        create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {4, rows, columns},
                       {.chunked = true, .chunk = {2, rows, columns}, .filter = hdf5::bitshuffle_filter});
    for (const hsize_t frames : {1u, 2u}) {
      const auto chunk = kernels::encode_bslz4(stack_pixels(PixelType::u16, 2, frames, pixels), 2);
      const std::array<hsize_t, 3> corner{2 * (frames - 1), 0, 0};
      ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, corner.data(), chunk.size(), chunk.data()), 0);
    }
  }
  FrameReader reader(open_good({folder / "frames.h5"}));
  const auto fetched = fetch_all(reader, 0, 4);
  EXPECT_EQ(fetched[0].status, FrameStatus::unreadable);
  EXPECT_EQ(fetched[1].status, FrameStatus::unreadable);
  EXPECT_TRUE(fetched[2].pixels == frame_pixels(PixelType::u16, 2, pixels));
  EXPECT_TRUE(fetched[3].pixels == frame_pixels(PixelType::u16, 3, pixels));
}

TEST_F(FrameSource, AChunkStoredWithoutItsFilterIsRead) {
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    const auto dataset = create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {3, rows, columns}, bslz4);
    for (hsize_t frame = 0; frame < 2; ++frame) {
      const auto values = frame_pixels(PixelType::u16, frame, pixels);
      const std::array<hsize_t, 3> corner{frame, 0, 0};
      ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 1, corner.data(), values.size(), values.data()), 0);
    }
    const std::array<hsize_t, 3> corner{2, 0, 0};
    const std::array<char, 10> few{};
    ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 1, corner.data(), few.size(), few.data()), 0);
  }
  FrameReader reader(open_good({folder / "frames.h5"}));
  const auto fetched = fetch_all(reader, 0, 3);
  EXPECT_EQ(fetched[0].encoding, kernels::Encoding::raw);
  EXPECT_EQ(fetched[0].status, FrameStatus::ok);
  EXPECT_TRUE(fetched[1].pixels == frame_pixels(PixelType::u16, 1, pixels));
  EXPECT_EQ(fetched[2].status, FrameStatus::wrong_shape);
}

TEST_F(FrameSource, AChunkTooShortForItsChecksumIsUnreadable) {
  for (const std::vector<hsize_t>& chunk : {std::vector<hsize_t>{1, rows, columns}, {1, rows, columns / 2}}) {
    const fs::path name = folder / ("columns" + std::to_string(chunk[2]) + ".h5");
    {
      const hdf5::File file = create_file(name);
      const DatasetLayout layout{.name = "", .chunked = true, .chunk = chunk, .checksum = true};
      const auto dataset = create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {2, rows, columns}, layout);
      const auto values = stack_pixels(PixelType::u16, 0, 2, pixels);
      hdf5::check(H5Dwrite(dataset.get(), H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "write");
      const std::array<hsize_t, 3> corner{0, 0, 0};
      const std::array<char, 3> few{};
      ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, corner.data(), few.size(), few.data()), 0);
    }
    FrameReader reader(open_good({name}));
    const auto fetched = fetch_all(reader, 0, 2);
    EXPECT_EQ(fetched[0].status, FrameStatus::unreadable);
    EXPECT_TRUE(fetched[1].pixels == frame_pixels(PixelType::u16, 1, pixels));
  }
}

TEST_F(FrameSource, OfTwoFiltersEitherMayBeLeftOut) {
  // HDF5 leaves deflate out by itself where it makes a chunk no smaller: then it is shuffled all the same.
  const DatasetLayout layout{.name = "", .chunked = true, .filter = 1, .shuffle = true};
  {
    const hdf5::File file = create_file(folder / "frames.h5");
    const auto dataset = create_dataset(file.get(), "/data", H5T_NATIVE_UINT16, {4, rows, columns}, layout);
    for (hsize_t frame = 0; frame < 4; ++frame) {
      auto values = frame_pixels(PixelType::u16, frame, pixels);
      if ((frame & 1) == 0) {
        std::vector<std::byte> shuffled(values.size());
        for (std::size_t place = 0; place < values.size(); ++place) {
          shuffled[place % 2 * pixels + place / 2] = values[place];
        }
        values = shuffled;
      }
      if ((frame & 2) == 0) {
        std::vector<std::byte> packed(2 * values.size() + 64);
        libdeflate_compressor* const compressor = libdeflate_alloc_compressor(1);
        packed.resize(libdeflate_zlib_compress(compressor, values.data(), values.size(), packed.data(), packed.size()));
        libdeflate_free_compressor(compressor);
        values = packed;
      }
      const std::array<hsize_t, 3> corner{frame, 0, 0};
      ASSERT_GE(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, static_cast<std::uint32_t>(frame), corner.data(),
                               values.size(), values.data()),
                0);
    }
  }
  const FrameList list = open_good({folder / "frames.h5"});
  EXPECT_EQ(list.runs[0].storage, Storage::chunk);
  expect_pattern(list, PixelType::u16, 4);
}

TEST_F(FrameSource, ATruncatedHdf5FileIsAProblem) {
  const fs::path file = write_source("frames.h5", 0, 5);
  fs::resize_file(file, fs::file_size(file) / 2);
  const std::string told = problems_of({file});
  EXPECT_NE(told.find("frames.h5: cannot be opened as HDF5: truncated file"), std::string::npos) << told;
}

TEST_F(FrameSource, DamagedMetadataAreAProblemOfTheInput) {
  const fs::path file = write_source("frames.h5", 0, 2);
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const std::size_t tree = bytes.find("TREE");  // The root group's index.
  ASSERT_NE(tree, std::string::npos);
  patch(file, tree, "FREE");
  EXPECT_NE(problems_of({file}).find("frames.h5: is damaged"), std::string::npos) << problems_of({file});
  EXPECT_NE(problems_of({file}, "/data").find("frames.h5"), std::string::npos);
  EXPECT_THROW(static_cast<void>(read_image(file.string())), InputError);
  EXPECT_THROW(static_cast<void>(read_image(file.string() + "::/data")), InputError);
  EXPECT_THROW(static_cast<void>(read_series(file, "/data")), InputError);
}

TEST_F(FrameSource, FilesThatChangeAfterTheFirstLookGiveAStatus) {
  const fs::path file = write_source("frames.h5", 0, 3, {.name = "contiguous"});
  const FrameList list = open_good({file});
  {  // Truncated while it is open: the last frame ends beyond the file's end.
    FrameReader reader(list);
    EXPECT_EQ(fetch_all(reader, 0, 1)[0].status, FrameStatus::ok);
    fs::resize_file(file, fs::file_size(file) - 10);
    const auto fetched = fetch_all(reader, 0, 3);
    EXPECT_EQ(fetched[0].status, FrameStatus::ok);
    EXPECT_EQ(fetched[2].status, FrameStatus::unreadable);
  }
  {  // HDF5 will not even open it now.
    FrameReader reader(list);
    EXPECT_EQ(fetch_all(reader, 0, 1)[0].status, FrameStatus::unreadable);
  }
  {
    const hdf5::File other = create_file(file);
    write_stack(other.get(), "/data", PixelType::u16, 2, rows, columns);
  }
  {
    FrameReader shortened(list);
    const auto fetched = fetch_all(shortened, 0, 3);
    EXPECT_EQ(fetched[1].status, FrameStatus::ok);
    EXPECT_EQ(fetched[2].status, FrameStatus::missing);
  }
  {
    const hdf5::File other = create_file(file);
    write_stack(other.get(), "/data", PixelType::u16, 3, rows, columns + 1);
  }
  FrameReader reshaped(list);
  EXPECT_EQ(fetch_all(reshaped, 0, 1)[0].status, FrameStatus::wrong_shape);
  fs::remove(file);
  FrameReader gone(list);
  EXPECT_EQ(fetch_all(gone, 0, 1)[0].status, FrameStatus::missing);
}

TEST_F(FrameSource, AFileThatAWriterHasLockedNamesTheWayOut) {
  if (const char* locking = std::getenv("HDF5_USE_FILE_LOCKING");
      locking != nullptr && std::string(locking) == "FALSE") {
    GTEST_SKIP() << "HDF5_USE_FILE_LOCKING=FALSE: HDF5 takes no locks here";
  }
  const fs::path file = write_source("frames.h5", 0, 2);
  // A lock of another open file description is what a writer in another process holds.
  const int descriptor = ::open(file.c_str(), O_RDWR);
  ASSERT_EQ(::flock(descriptor, LOCK_EX | LOCK_NB), 0);
  const std::string told = problems_of({file});
  ::close(descriptor);
  EXPECT_NE(told.find("HDF5_USE_FILE_LOCKING=FALSE"), std::string::npos) << told;
}

TEST_F(FrameSource, AFileWithoutReadPermissionSaysSo) {
  if (::geteuid() == 0) GTEST_SKIP() << "permissions do not stop root";
  write_tiff(folder / "frame.tif", PixelType::u16, rows, columns);
  fs::permissions(folder / "frame.tif", fs::perms::none);
  EXPECT_NE(problems_of({folder / "frame.tif"}).find("Permission denied"), std::string::npos);
}

TEST_F(FrameSource, DecodeChecksTheSizeOfPlainFrames) {
  EncodedFrame frame;
  frame.status = FrameStatus::ok;
  const std::vector<std::byte> bytes(8);
  frame.bytes = bytes;
  std::vector<std::byte> out(8);
  EXPECT_EQ(decode(frame, out), FrameStatus::ok);
  out.resize(10);
  EXPECT_EQ(decode(frame, out), FrameStatus::wrong_shape);
  frame.status = FrameStatus::missing;
  EXPECT_EQ(decode(frame, out), FrameStatus::missing);
}

TEST_F(FrameSource, ChunksAreLocatedAsHdf5LocatesThem) {
  // Every index structure: B-tree, and in the newest format fixed array and extensible array.
  for (const bool latest : {false, true}) {
    for (const bool growing : {false, true}) {
      const fs::path path = folder / "chunks.h5";
      constexpr hsize_t chunks = 300;
      {
        const auto access = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_FILE_ACCESS), "make properties");
        if (latest) H5Pset_libver_bounds(access.get(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
        const auto file =
            hdf5::own<hdf5::File>(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "create");
        const auto creation = hdf5::own<hdf5::PropertyList>(H5Pcreate(H5P_DATASET_CREATE), "make properties");
        const std::array<hsize_t, 3> chunk{1, 2, 3};
        const std::array<hsize_t, 3> size{chunks, 2, 3};
        const std::array<hsize_t, 3> most{growing ? H5S_UNLIMITED : chunks, 2, 3};
        H5Pset_chunk(creation.get(), 3, chunk.data());
        const auto space =
            hdf5::own<hdf5::Dataspace>(H5Screate_simple(3, size.data(), most.data()), "make a dataspace");
        const auto dataset = hdf5::own<hdf5::Dataset>(
            H5Dcreate2(file.get(), "/data", H5T_NATIVE_UINT8, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
            "create");
        for (hsize_t index = 0; index < chunks; index += 1 + index % 2) {  // Some are never written.
          const std::array<hsize_t, 3> corner{index, 0, 0};
          const std::array<char, 6> bytes{static_cast<char>(index)};
          hdf5::check(H5Dwrite_chunk(dataset.get(), H5P_DEFAULT, 0, corner.data(), 6, bytes.data()), "write");
        }
      }
      const auto file = hdf5::open_for_reading(path, hdf5::locating_access().get());
      const auto dataset = hdf5::open_dataset(file.get(), path, "/data");
      int written = 0;
      for (hsize_t index = 0; index < chunks; ++index) {
        const std::array<hsize_t, 3> corner{index, 0, 0};
        const auto place = hdf5::locate_chunk(dataset.get(), corner.data(), fs::file_size(path));
        unsigned mask = 0;
        haddr_t address = HADDR_UNDEF;
        hsize_t bytes = 0;
        hdf5::check(H5Dget_chunk_info_by_coord(dataset.get(), corner.data(), &mask, &address, &bytes), "ask");
        ASSERT_EQ(place.has_value(), address != HADDR_UNDEF) << index;
        if (!place) continue;
        EXPECT_EQ(place->offset, address);
        EXPECT_EQ(place->bytes, bytes);
        EXPECT_EQ(place->filter_mask, mask);
        ++written;
      }
      EXPECT_GT(written, 100);
    }
  }
}

// ---------------------------------------------------------------------------------------------------- real files

TEST_F(FrameSource, NinePilatusImagesAreReadWithoutANoise) {
  const char* data = std::getenv("ANNULUS_TEST_DATA");
  if (data == nullptr || !fs::is_directory(fs::path(data) / "fe3o4c_map")) {
    GTEST_SKIP() << "ANNULUS_TEST_DATA does not name a folder with fe3o4c_map/";
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(data) / "fe3o4c_map")) {
    if (entry.path().extension() == ".tif") files.push_back(entry.path());
  }
  ASSERT_EQ(files.size(), 9u);
  files = natural_order(files);
  EXPECT_NE(files[1].string().find("map_2_"), std::string::npos);
  EXPECT_NE(files[8].string().find("map_13_"), std::string::npos);

  testing::internal::CaptureStderr();
  const FrameList list = open_good(files);
  FrameReader reader(list);
  const auto fetched = fetch_all(reader, 0, 9, 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(list.rows, 1043u);
  EXPECT_EQ(list.columns, 981u);
  for (const Fetched& frame : fetched) {
    ASSERT_EQ(frame.status, FrameStatus::ok);
    std::vector<std::int32_t> values(list.pixels());
    std::memcpy(values.data(), frame.pixels.data(), frame.pixels.size());
    // The nine gaps of a Pilatus 1M (between 2 x 5 modules) are negative: at least 4 x 17 rows and 7 columns of pixels.
    EXPECT_GE(std::count_if(values.begin(), values.end(), [](std::int32_t value) { return value < 0; }),
              4 * 17 * 981 + 7 * (1043 - 4 * 17));
    EXPECT_GT(std::accumulate(values.begin(), values.end(), 0.0), 1e6);
  }
}

}  // namespace
}  // namespace annulus::mapping::test
