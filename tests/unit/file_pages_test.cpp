#include "mapping/file_pages.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "frame_files.hpp"
#include "mapping/input_file.hpp"

namespace annulus::mapping::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t file_bytes = 300'000;  // not a multiple of a page
constexpr long tmpfs_magic = 0x01021994;     // statfs(2)

std::byte byte_at(std::uint64_t offset) { return static_cast<std::byte>((offset * 37 + offset / 4096) & 0xFF); }

class FilePagesTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    if (!maps_files(folder)) GTEST_SKIP() << maps_no_files;
  }

  InputFile make_file(const std::string& name, std::size_t bytes = file_bytes) {
    std::vector<char> content(bytes);
    for (std::size_t offset = 0; offset < bytes; ++offset) content[offset] = static_cast<char>(byte_at(offset));
    std::ofstream(folder / name, std::ios::binary).write(content.data(), static_cast<std::streamsize>(bytes));
    return open_input(folder / name);
  }

  static void expect_bytes(std::span<const std::byte> found, const FilePart& part) {
    ASSERT_EQ(found.size(), part.bytes);
    for (std::size_t index = 0; index < found.size(); ++index) {
      ASSERT_EQ(found[index], byte_at(part.offset + index)) << "byte " << index << " behind " << part.offset;
    }
  }
};

TEST_F(FilePagesTest, PartsHoldTheBytesOfTheirFilesWhereverTheyBegin) {
  const InputFile first = make_file("first");
  const InputFile second = make_file("second");
  const int a = first.descriptor.get();
  const int b = second.descriptor.get();
  // Neighbours, a gap, another file between, backwards, over one another, up to the last byte.
  const std::vector<FilePart> parts = {{a, 0, 10},       {a, 10, 5000},    {a, 200'001, 7}, {b, 4095, 2},
                                       {a, 100, 90'000}, {b, 299'999, 1},  {b, 3, 4097},    {b, 8192, 4096},
                                       {a, 0, 300'000},  {a, 299'990, 10}, {a, 7, 0}};
  FilePages pages;
  ASSERT_TRUE(pages.map(parts));
  for (std::size_t part = 0; part < parts.size(); ++part) expect_bytes(pages[part], parts[part]);
  EXPECT_TRUE(pages.intact());
}

TEST_F(FilePagesTest, ANewMappingEndsTheOneBeforeAndMovesWithItsOwner) {
  const InputFile file = make_file("file");
  const int descriptor = file.descriptor.get();
  FilePages pages;
  for (std::uint64_t offset = 0; offset < 200'000; offset += 30'000) {
    const std::vector<FilePart> parts = {{descriptor, offset, 50'000}};
    ASSERT_TRUE(pages.map(parts));
    FilePages other(std::move(pages));
    expect_bytes(other[0], parts[0]);
    pages = std::move(other);
    expect_bytes(pages[0], parts[0]);
  }
}

TEST_F(FilePagesTest, WhatAFileDoesNotHoldIsNotMapped) {
  const InputFile file = make_file("file");
  FilePages pages;
  EXPECT_FALSE(pages.map(std::vector<FilePart>{{file.descriptor.get(), 0, file_bytes + 1}}));
  EXPECT_FALSE(pages.map(std::vector<FilePart>{{file.descriptor.get(), 0, 10}, {-1, 0, 10}}));
  EXPECT_FALSE(pages.map(std::vector<FilePart>{{file.descriptor.get(), ~std::uint64_t{0} - 10, 20}}));
  EXPECT_FALSE(pages.map({}));
  EXPECT_TRUE(pages.map(std::vector<FilePart>{{file.descriptor.get(), 0, file_bytes}}));
}

TEST_F(FilePagesTest, AFileOfTheKernelsOwnIsNotMapped) {
  const FileDescriptor file(::open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC));
  if (!file) GTEST_SKIP() << "no sysfs here";
  FilePages pages;
  EXPECT_FALSE(pages.map(std::vector<FilePart>{{file.get(), 0, 1}}));
}

TEST_F(FilePagesTest, WhatIsNotInThePageCacheIsNotMapped) {
  const InputFile file = make_file("file");
  const int descriptor = file.descriptor.get();
  struct statfs system {};
  ASSERT_EQ(::fstatfs(descriptor, &system), 0);
  if (system.f_type == tmpfs_magic) GTEST_SKIP() << "the folder for temporary files lies in memory";
  ASSERT_EQ(::fsync(descriptor), 0);
  ASSERT_EQ(::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED), 0);
  FilePages pages;
  EXPECT_FALSE(pages.map(std::vector<FilePart>{{descriptor, 0, file_bytes}}));
  std::vector<std::byte> bytes(file_bytes);
  ASSERT_TRUE(read_exactly(descriptor, 0, bytes));
  EXPECT_TRUE(pages.map(std::vector<FilePart>{{descriptor, 0, file_bytes}}));
}

TEST_F(FilePagesTest, AFileThatShrinksGivesZerosAndIsNoLongerIntact) {
  const InputFile file = make_file("file");
  const FilePart part{file.descriptor.get(), 5, file_bytes - 5};
  FilePages pages;
  ASSERT_TRUE(pages.map(std::vector{part}));
  fs::resize_file(folder / "file", 100'000);
  // Many threads find the same pages gone at once.
  std::vector<std::uint64_t> sums(4);
  std::vector<std::thread> threads;
  for (std::uint64_t& sum : sums) {
    threads.emplace_back([&] {
      for (const std::byte byte : pages[0]) sum += static_cast<std::uint64_t>(byte);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::uint64_t expected = 0;
  for (std::uint64_t offset = 5; offset < 100'000; ++offset) expected += static_cast<std::uint64_t>(byte_at(offset));
  for (const std::uint64_t sum : sums) EXPECT_EQ(sum, expected);
  EXPECT_FALSE(pages.intact());

  // What was lost once is not forgotten when the file has grown again, but by the next mapping.
  fs::resize_file(folder / "file", file_bytes);
  EXPECT_FALSE(pages.intact());
  ASSERT_TRUE(pages.map(std::vector{part}));
  EXPECT_TRUE(pages.intact());
}

TEST_F(FilePagesTest, AFileThatShrinksWithinItsLastPageIsNoticedToo) {
  const InputFile file = make_file("file");
  FilePages pages;
  ASSERT_TRUE(pages.map(std::vector<FilePart>{{file.descriptor.get(), 0, file_bytes}}));
  fs::resize_file(folder / "file", file_bytes - 1);
  EXPECT_EQ(pages[0].back(), std::byte{0});
  EXPECT_FALSE(pages.intact());
}

TEST_F(FilePagesTest, OneThatShrinksDoesNotTouchAnother) {
  const InputFile kept = make_file("kept");
  const InputFile cut = make_file("cut");
  FilePages good;
  FilePages bad;
  const FilePart part{kept.descriptor.get(), 0, file_bytes};
  ASSERT_TRUE(good.map(std::vector{part}));
  ASSERT_TRUE(bad.map(std::vector<FilePart>{{cut.descriptor.get(), 0, file_bytes}}));
  fs::resize_file(folder / "cut", 1);
  EXPECT_EQ(bad[0][200'000], std::byte{0});
  EXPECT_FALSE(bad.intact());
  EXPECT_TRUE(good.intact());
  expect_bytes(good[0], part);
}

using FilePagesDeathTest = FilePagesTest;

TEST_F(FilePagesDeathTest, OtherBusErrorsEndTheProcessAsEver) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const InputFile file = make_file("file");
  FilePages pages;
  ASSERT_TRUE(pages.map(std::vector<FilePart>{{file.descriptor.get(), 0, 10}}));
  const auto touch = [&] {
    const InputFile other = make_file("other");
    auto* const bytes =
        static_cast<volatile char*>(::mmap(nullptr, file_bytes, PROT_READ, MAP_SHARED, other.descriptor.get(), 0));
    fs::resize_file(folder / "other", 1);
    static_cast<void>(bytes[200'000]);
  };
  EXPECT_EXIT(touch(), ::testing::KilledBySignal(SIGBUS), "");
  EXPECT_EXIT(::raise(SIGBUS), ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace annulus::mapping::test
