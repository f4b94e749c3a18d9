// The volume, written by all ranks of the job and read back: the test has its own main, because every rank runs the
// same tests, and one that fails on any rank fails on all.
#include "mapping/volume.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <mpi.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "mapping/hdf5.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

const std::string result = "/entry_0000/annulus/result/";

int rank_of_this() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int number_of_ranks() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

/// A folder that all ranks share, made by rank 0 and removed when the test ends.
class SharedFolder {
 public:
  SharedFolder() {
    char name[256] = {};
    if (rank_of_this() == 0) {
      const std::string pattern = (fs::temp_directory_path() / "annulus_volume_XXXXXX").string();
      pattern.copy(name, sizeof name - 1);
      if (::mkdtemp(name) == nullptr) name[0] = '\0';
    }
    MPI_Bcast(name, sizeof name, MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = name;
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  ~SharedFolder() {
    MPI_Barrier(MPI_COMM_WORLD);
    std::error_code ignored;
    if (rank_of_this() == 0) fs::remove_all(path_, ignored);
  }
  [[nodiscard]] fs::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

VolumeDescription describe(std::uint64_t slow, std::uint64_t fast, std::uint64_t bins, bool errors) {
  VolumeDescription description;
  description.scan.kind = ScanKind::tomo;
  description.scan.slow = slow;
  description.scan.fast = fast;
  description.scan.zigzag = true;
  description.scan.offset = 3;
  description.scan.slow_axis = {"rotation", "deg", std::vector<double>(slow)};
  description.scan.fast_axis = {"translation", "", std::vector<double>(fast)};
  std::iota(description.scan.slow_axis.positions.begin(), description.scan.slow_axis.positions.end(), 0.5);
  std::iota(description.scan.fast_axis.positions.begin(), description.scan.fast_axis.positions.end(), -7.0);
  description.radial_name = "2th";
  description.radial_unit = "deg";
  description.radial_label = "Scattering angle $2\\theta$ ($^{o}$)";
  description.radial.resize(bins);
  std::iota(description.radial.begin(), description.radial.end(), 1.25);
  description.errors = errors;
  description.monitor.resize(slow * fast);
  std::iota(description.monitor.begin(), description.monitor.end(), 100.0);
  description.configuration_json = R"({"unit": "2th_deg"})";
  description.command_line = "annulus tomo scan.h5";
  description.version = "1.2.3";
  description.fingerprint = "0123abcd";
  return description;
}

/// The same with patterns of `azimuthal` azimuths and with standard deviations.
VolumeDescription describe_cakes(std::uint64_t slow, std::uint64_t fast, std::uint64_t azimuthal, std::uint64_t bins) {
  VolumeDescription description = describe(slow, fast, bins, true);
  description.azimuthal.resize(azimuthal);
  std::iota(description.azimuthal.begin(), description.azimuthal.end(), -90.0);
  description.std = true;
  return description;
}

/// Creates on rank 0; the others wait until it is there.
void create(const fs::path& file, const VolumeDescription& description) {
  if (rank_of_this() == 0) create_volume(file, description, false);
  MPI_Barrier(MPI_COMM_WORLD);
}

/// The value at (point, bin): exact in float32 up to 2^24.
float value_at(std::uint64_t point, std::uint64_t bin, std::uint64_t bins) {
  return static_cast<float>(point * bins + bin + 1);
}

/// Writes points [first, first + count) of `bins` rows each, all ok, with errors of minus the intensity and standard
/// deviations of half of it.
void write_points(VolumeWriter& writer, std::uint64_t first, std::uint64_t count, std::uint64_t bins, bool errors,
                  bool with_std = false) {
  std::vector<float> intensity(count * bins);
  for (std::uint64_t value = 0; value < intensity.size(); ++value) {
    intensity[value] = value_at(first + value / bins, value % bins, bins);
  }
  std::vector<float> sigma;
  if (errors) std::transform(intensity.begin(), intensity.end(), std::back_inserter(sigma), std::negate<>());
  std::vector<float> deviation;
  if (with_std) {
    std::transform(intensity.begin(), intensity.end(), std::back_inserter(deviation), [](float v) { return v / 2; });
  }
  const std::vector<FrameStatus> status(count, FrameStatus::ok);
  writer.write(first, {intensity, sigma, deviation, status});
}

/// What a reader that knows nothing of ours finds: the values of a dataset, with its shape.
template <typename Number>
struct Array {
  std::vector<hsize_t> shape;
  std::vector<Number> values;
};

template <typename Number>
Array<Number> read(const fs::path& file, const std::string& path, hid_t type) {
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  const hdf5::Dataset dataset(H5Dopen2(handle.get(), path.c_str(), H5P_DEFAULT));
  const hdf5::Dataspace space(H5Dget_space(dataset.get()));
  Array<Number> array;
  array.shape.resize(static_cast<std::size_t>(std::max(H5Sget_simple_extent_ndims(space.get()), 0)));
  H5Sget_simple_extent_dims(space.get(), array.shape.data(), nullptr);
  array.values.resize(static_cast<std::size_t>(std::max<hssize_t>(H5Sget_simple_extent_npoints(space.get()), 0)));
  if (H5Dread(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.values.data()) < 0) array.values.clear();
  return array;
}

Array<float> read_floats(const fs::path& file, const std::string& path) {
  return read<float>(file, path, H5T_NATIVE_FLOAT);
}

/// Where the raw bytes of a dataset lie in the file: [begin, end).
std::pair<haddr_t, haddr_t> place_of(const fs::path& file, const std::string& path) {
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  const hdf5::Dataset dataset(H5Dopen2(handle.get(), path.c_str(), H5P_DEFAULT));
  const haddr_t begin = H5Dget_offset(dataset.get());
  return {begin, begin + H5Dget_storage_size(dataset.get())};
}

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::string message_of(const std::exception& error) { return error.what(); }

TEST(Volume, HoldsWhatAllRanksWroteInAnyOrderWithOneThatOwnsNothing) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  constexpr std::uint64_t slow = 13, fast = 7, bins = 31;
  create(file, describe(slow, fast, bins, true));

  // The last rank of several owns nothing; pieces of 1 to 20 points cross the ends of lines.
  const int owners = std::max(1, number_of_ranks() - 1);
  std::mt19937 random(20240229);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces;
  for (std::uint64_t first = 0; first < slow * fast;) {
    const std::uint64_t count = std::min<std::uint64_t>(1 + random() % 20, slow * fast - first);
    pieces.emplace_back(first, count);
    first += count;
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  VolumeWriter writer(file, MPI_COMM_WORLD);
  for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
    if (static_cast<int>(piece) % owners == rank_of_this()) {
      write_points(writer, pieces[piece].first, pieces[piece].second, bins, true);
    }
  }
  writer.close();

  const Array<float> intensity = read_floats(file, result + "intensity");
  const Array<float> errors = read_floats(file, result + "errors");
  const Array<float> map = read_floats(file, result + "map");
  ASSERT_EQ(intensity.shape, (std::vector<hsize_t>{slow, fast, bins}));
  ASSERT_EQ(errors.shape, intensity.shape);
  ASSERT_EQ(map.shape, (std::vector<hsize_t>{bins, slow, fast}));
  ASSERT_EQ(intensity.values.size(), slow * fast * bins);
  ASSERT_EQ(map.values.size(), intensity.values.size());
  std::uint64_t wrong = 0;
  for (std::uint64_t point = 0; point < slow * fast; ++point) {
    for (std::uint64_t bin = 0; bin < bins; ++bin) {
      const float expected = value_at(point, bin, bins);
      wrong += intensity.values[point * bins + bin] != expected;
      wrong += errors.values[point * bins + bin] != -expected;
      wrong += map.values[bin * slow * fast + point] != expected;
    }
  }
  EXPECT_EQ(wrong, 0u);
  const VolumeState state = read_volume_state(file);
  EXPECT_EQ(state.status, std::vector<std::uint8_t>(slow * fast, 1));
  EXPECT_EQ(state.slow, slow);
  EXPECT_EQ(state.fast, fast);
  EXPECT_EQ(state.bins, bins);
  EXPECT_TRUE(state.errors);
  EXPECT_EQ(state.fingerprint, "0123abcd");
}

TEST(Volume, MapIsTheTransposeForFewPointsAndForFewChannels) {
  const SharedFolder folder;
  constexpr std::uint64_t slow = 4, fast = 3;
  std::uint64_t compared = 0;
  for (const std::uint64_t bins : {5u, 40u}) {  // one mapping a channel, one mapping a point
    const fs::path file = folder / ("volume" + std::to_string(bins) + ".h5");
    create(file, describe(slow, fast, bins, false));
    VolumeWriter writer(file, MPI_COMM_WORLD);
    if (rank_of_this() == 0) write_points(writer, 0, slow * fast, bins, false);
    writer.close();
    const Array<float> map = read_floats(file, result + "map");
    ASSERT_EQ(map.values.size(), slow * fast * bins);
    for (std::uint64_t bin = 0; bin < bins; ++bin) {
      for (std::uint64_t point = 0; point < slow * fast; ++point, ++compared) {
        ASSERT_EQ(map.values[bin * slow * fast + point], value_at(point, bin, bins)) << bin << ' ' << point;
      }
    }
  }
  EXPECT_EQ(compared, 12u * 45u);
}

TEST(Volume, OfCakesHoldsWhatAllRanksWrote) {
  const SharedFolder folder;
  constexpr std::uint64_t slow = 5, fast = 4, bins = 6;
  std::uint64_t compared = 0;
  for (const std::uint64_t azimuthal : {1u, 3u, 7u}) {  // one mapping a channel twice, then one mapping a point
    const fs::path file = folder / ("volume" + std::to_string(azimuthal) + ".h5");
    const std::uint64_t rows = azimuthal * bins;
    create(file, describe_cakes(slow, fast, azimuthal, bins));
    VolumeWriter writer(file, MPI_COMM_WORLD);
    // Pieces of 3 points cross the ends of lines.
    for (std::uint64_t first = 0; first < slow * fast; first += 3) {
      if (static_cast<int>(first / 3) % number_of_ranks() != rank_of_this()) continue;
      write_points(writer, first, std::min<std::uint64_t>(3, slow * fast - first), rows, true, true);
    }
    writer.close();

    const Array<float> intensity = read_floats(file, result + "intensity");
    const Array<float> errors = read_floats(file, result + "errors");
    const Array<float> deviation = read_floats(file, result + "std");
    const Array<float> map = read_floats(file, result + "map");
    ASSERT_EQ(intensity.shape, (std::vector<hsize_t>{slow, fast, azimuthal, bins}));
    ASSERT_EQ(errors.shape, intensity.shape);
    ASSERT_EQ(deviation.shape, intensity.shape);
    ASSERT_EQ(map.shape, (std::vector<hsize_t>{azimuthal, bins, slow, fast}));
    for (std::uint64_t point = 0; point < slow * fast; ++point) {
      for (std::uint64_t row = 0; row < rows; ++row, ++compared) {
        const float expected = value_at(point, row, rows);
        ASSERT_EQ(intensity.values[point * rows + row], expected) << point << ' ' << row;
        ASSERT_EQ(errors.values[point * rows + row], -expected) << point << ' ' << row;
        ASSERT_EQ(deviation.values[point * rows + row], expected / 2) << point << ' ' << row;
        ASSERT_EQ(map.values[row * slow * fast + point], expected) << point << ' ' << row;
      }
    }
    const auto axis = read<double>(file, result + "azimuthal", H5T_NATIVE_DOUBLE);
    ASSERT_EQ(axis.values.size(), azimuthal);
    EXPECT_EQ(axis.values.back(), -90.0 + static_cast<double>(azimuthal - 1));
    const VolumeState state = read_volume_state(file);
    EXPECT_EQ(state.status, std::vector<std::uint8_t>(slow * fast, 1));
    EXPECT_EQ(state.bins, bins);
    EXPECT_EQ(state.azimuthal_bins, azimuthal);
    EXPECT_TRUE(state.errors);
    EXPECT_TRUE(state.std);
  }
  EXPECT_EQ(compared, slow * fast * bins * (1 + 3 + 7));
}

TEST(Volume, OfCakesIsNotANumberUntilAllOfAPointIsThere) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  constexpr std::uint64_t rows = 2 * 5;
  create(file, describe_cakes(1, 3, 2, 5));
  for (const char* name : {"intensity", "errors", "std", "map"}) {
    const Array<float> array = read_floats(file, result + name);
    ASSERT_EQ(array.values.size(), 3 * rows) << name;
    EXPECT_TRUE(std::all_of(array.values.begin(), array.values.end(), [](float v) { return std::isnan(v); })) << name;
  }
  MPI_Barrier(MPI_COMM_WORLD);
  VolumeWriter writer(file, MPI_COMM_WORLD);
  if (rank_of_this() == 0) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> intensity(3 * rows, 1.0f), deviation(3 * rows, 1.0f);
    intensity[rows - 1] = nan;      // the end of the first point's last azimuth never came
    deviation[1 * rows + 3] = nan;  // nor a part of the second one's standard deviations
    const std::vector<FrameStatus> status(3, FrameStatus::ok);
    writer.write(0, {intensity, intensity, deviation, status});
  }
  writer.close();
  EXPECT_EQ(read_volume_state(file).status, (std::vector<std::uint8_t>{0, 0, 1}));
}

TEST(Volume, WithoutAzimuthsOrStandardDeviationsSaysSo) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  create(file, describe(2, 3, 5, true));
  const VolumeState state = read_volume_state(file);
  EXPECT_EQ(state.azimuthal_bins, 0u);
  EXPECT_FALSE(state.std);
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  EXPECT_EQ(H5Lexists(handle.get(), (result + "std").c_str(), H5P_DEFAULT), 0);
  EXPECT_EQ(H5Lexists(handle.get(), (result + "azimuthal").c_str(), H5P_DEFAULT), 0);
  EXPECT_EQ(H5Lexists(handle.get(), "/entry_0000/annulus/maskfile", H5P_DEFAULT), 0);
}

TEST(Volume, NamesItsMaskAsSilxReadsIt) {
  const SharedFolder folder;
  if (rank_of_this() != 0) return;
  std::ofstream(folder / "mask.tif") << "any image";
  {
    const hdf5::File masks(H5Fcreate((folder / "masks.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    const hsize_t shape[2] = {4, 5};
    const hdf5::Dataspace space(H5Screate_simple(2, shape, nullptr));
    const hdf5::Dataset mask(
        H5Dcreate2(masks.get(), "mask", H5T_STD_U8LE, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    const std::vector<std::uint8_t> values(20, 1);
    ASSERT_GE(H5Dwrite(mask.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  }
  const std::string base = folder.path().string();
  const std::pair<std::string, std::string> cases[] = {
      {base + "/mask.tif", "fabio://" + base + "/mask.tif"},
      {base + "/masks.h5::mask", "silx://" + base + "/masks.h5?path=/mask"},
      {base + "/masks.h5", "silx://" + base + "/masks.h5?path=/mask"}};
  for (const auto& [given, expected] : cases) {
    VolumeDescription description = describe(2, 3, 5, false);
    description.mask_file = given;
    create_volume(folder / "volume.h5", description, true);
    const hdf5::File handle(H5Fopen((folder / "volume.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
    const hdf5::Dataset dataset(H5Dopen2(handle.get(), "/entry_0000/annulus/maskfile", H5P_DEFAULT));
    const hdf5::Datatype type(H5Dget_type(dataset.get()));
    char* text = nullptr;
    ASSERT_GE(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text), 0) << given;
    EXPECT_EQ(std::string(text), expected);
    H5free_memory(text);
  }
}

TEST(Volume, IsNotANumberAndNotProcessedBeforeTheFirstFrame) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  create(file, describe(3, 4, 5, true));
  for (const char* name : {"intensity", "errors", "map"}) {
    const Array<float> array = read_floats(file, result + name);
    ASSERT_EQ(array.values.size(), 60u) << name;
    EXPECT_TRUE(std::all_of(array.values.begin(), array.values.end(), [](float v) { return std::isnan(v); })) << name;
  }
  EXPECT_EQ(read_volume_state(file).status, std::vector<std::uint8_t>(12, 0));
}

TEST(Volume, PointersFollowZigzagAndOffset) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  create(file, describe(2, 3, 5, false));
  const auto pointers = read<std::int32_t>(file, result + "map_ptr", H5T_NATIVE_INT32);
  EXPECT_EQ(pointers.values, (std::vector<std::int32_t>{3, 4, 5, 8, 7, 6}));
  const auto monitor = read<double>(file, result + "monitor", H5T_NATIVE_DOUBLE);
  EXPECT_EQ(monitor.values, (std::vector<double>{100, 101, 102, 103, 104, 105}));
}

TEST(Volume, WritingChangesDataAndStatusAndNoOtherByte) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  create(file, describe(6, 5, 100, true));
  const std::string before = bytes_of(file);
  MPI_Barrier(MPI_COMM_WORLD);
  VolumeWriter writer(file, MPI_COMM_WORLD);
  if (rank_of_this() == 0) write_points(writer, 7, 11, 100, true);
  writer.close();
  const std::string after = bytes_of(file);
  ASSERT_EQ(before.size(), after.size());

  std::vector<bool> may_change(before.size(), false);
  for (const char* name : {"intensity", "errors", "frame_status"}) {
    const auto [begin, end] = place_of(file, result + name);
    ASSERT_LE(end, before.size());
    std::fill(may_change.begin() + static_cast<std::ptrdiff_t>(begin),
              may_change.begin() + static_cast<std::ptrdiff_t>(end), true);
  }
  std::uint64_t changed = 0, forbidden = 0;
  for (std::size_t byte = 0; byte < before.size(); ++byte) {
    if (before[byte] == after[byte]) continue;
    ++changed;
    forbidden += !may_change[byte];
  }
  EXPECT_EQ(forbidden, 0u);
  EXPECT_GE(changed, 11u * (2u * 100u + 1u));  // at least a byte of each value and each status
}

TEST(Volume, TellsMissingDataFromFramesThatAreOk) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  constexpr std::uint64_t bins = 8;
  create(file, describe(2, 3, bins, true));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  VolumeWriter writer(file, MPI_COMM_WORLD);
  if (rank_of_this() == 0) {
    std::vector<float> intensity(6 * bins, 1.0f), sigma(6 * bins, 2.0f);
    intensity[1 * bins + bins - 1] = nan;  // ok, but the end of its data never came
    sigma[2 * bins] = nan;                 // ok, but its errors never came
    std::fill_n(intensity.begin() + 4 * bins, bins, nan);
    const std::vector<FrameStatus> status = {FrameStatus::ok,         FrameStatus::ok,
                                             FrameStatus::ok,         FrameStatus::missing,
                                             FrameStatus::unreadable, FrameStatus::monitor_invalid};
    writer.write(0, {intensity, sigma, {}, status});
  }
  writer.close();
  EXPECT_EQ(read_volume_state(file).status, (std::vector<std::uint8_t>{1, 0, 0, 2, 3, 5}));
}

TEST(Volume, KeepsEarlierPointsWhenOpenedAgain) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  constexpr std::uint64_t bins = 9;
  create(file, describe(4, 5, bins, false));
  for (const std::uint64_t first : {0u, 10u}) {
    VolumeWriter writer(file, MPI_COMM_WORLD);
    if (rank_of_this() == number_of_ranks() - 1) write_points(writer, first, 10, bins, false);
    writer.close();
  }
  const Array<float> intensity = read_floats(file, result + "intensity");
  ASSERT_EQ(intensity.values.size(), 20 * bins);
  for (std::uint64_t value = 0; value < intensity.values.size(); ++value) {
    ASSERT_EQ(intensity.values[value], value_at(value / bins, value % bins, bins));
  }
}

TEST(Volume, LinksToInputsRelativeToItsFolder) {
  const SharedFolder folder;
  const fs::path file = folder / "out/volume.h5";
  if (rank_of_this() == 0) {
    fs::create_directories(folder / "out");
    fs::create_directories(folder / "raw");
    VolumeDescription description = describe(2, 3, 5, false);
    description.inputs = {{folder / "raw/scan_0001.h5", "entry/data/data", 4},
                          {folder / "raw/frame.tif", "", 1},
                          {folder / "raw/scan_0002.h5", "/entry/data/data", 1}};
    create_volume(file, description, false);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  std::uint64_t compared = 0;
  for (const char* group : {"/entry_0000/measurement", "/entry_0000/annulus/source"}) {
    const char* expected[] = {"../raw/scan_0001.h5", "../raw/scan_0002.h5"};
    for (int input = 0; input < 2; ++input, ++compared) {
      const std::string name = std::string(group) + "/images_000" + std::to_string(input + 1);
      char value[1024] = {};
      unsigned flags = 0;
      const char *linked_file = nullptr, *linked_dataset = nullptr;
      ASSERT_GE(H5Lget_val(handle.get(), name.c_str(), value, sizeof value, H5P_DEFAULT), 0) << name;
      ASSERT_GE(H5Lunpack_elink_val(value, sizeof value, &flags, &linked_file, &linked_dataset), 0) << name;
      EXPECT_STREQ(linked_file, expected[input]);
      EXPECT_STREQ(linked_dataset, "/entry/data/data");
    }
    EXPECT_EQ(H5Lexists(handle.get(), (std::string(group) + "/images_0003").c_str(), H5P_DEFAULT), 0);
  }
  EXPECT_EQ(compared, 4u);
}

TEST(Volume, SaysWhenItBeganAndWhenItEnded) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  create(file, describe(2, 3, 5, false));
  const auto end_time = [&] {
    const hdf5::File handle(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
    const hdf5::Dataset dataset(H5Dopen2(handle.get(), "/entry_0000/end_time", H5P_DEFAULT));
    const hdf5::Datatype type(H5Dget_type(dataset.get()));
    std::vector<char> text(H5Tget_size(type.get()) + 1, '\0');
    H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data());
    return std::string(text.data());
  };
  EXPECT_EQ(end_time(), "");
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank_of_this() == 0) finish_volume(file);
  MPI_Barrier(MPI_COMM_WORLD);
  const std::string text = end_time();
  ASSERT_EQ(text.size(), std::string("2026-01-31T23:59:59+01:00").size()) << text;
  EXPECT_EQ(text[10], 'T');
  EXPECT_EQ(text[22], ':');
  EXPECT_TRUE(text[19] == '+' || text[19] == '-') << text;
}

TEST(Volume, IsNotOverwrittenUnlessAsked) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  if (rank_of_this() == 0) {
    std::ofstream(file) << "a night of data";
    EXPECT_THROW(create_volume(file, describe(2, 3, 5, false), false), InputError);
    EXPECT_EQ(bytes_of(file), "a night of data");
    create_volume(file, describe(2, 3, 5, false), true);
    EXPECT_EQ(read_volume_state(file).bins, 5u);
    // Neither attempt leaves anything else behind.
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
  }
}

TEST(Volume, RefusesAFolderThatCannotBeWrittenTo) {
  const SharedFolder folder;
  if (rank_of_this() == 0) {
    std::ofstream(folder / "file") << "x";
    EXPECT_THROW(create_volume(folder / "absent/volume.h5", describe(2, 3, 5, false), false), InputError);
    EXPECT_THROW(create_volume(folder / "file/volume.h5", describe(2, 3, 5, false), false), InputError);
    EXPECT_THROW(create_volume(folder.path(), describe(2, 3, 5, false), true), InputError);
  }
}

TEST(Volume, LeavesNothingWhenTheDiskIsFull) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  if (rank_of_this() != 0) return;
  // A limit on the size of files stands for a full disk. Needed: 2 * 20 * 30 * 1000 float32 13 bytes a point,
  // and 4 MiB for metadata.
  rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit limit = old;
  limit.rlim_cur = 1 << 20;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::string message;
  try {
    create_volume(file, describe(20, 30, 1000, true), false);
  } catch (const IoError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("volume.h5' of 9 MB"), std::string::npos) << message;
  EXPECT_TRUE(fs::is_empty(folder.path()));
  // The library is still usable, and the volume is made when there is room again.
  create_volume(file, describe(20, 30, 1000, true), false);
  EXPECT_EQ(read_volume_state(file).status.size(), 600u);
}

TEST(Volume, OfAnotherProgramIsRefused) {
  const SharedFolder folder;
  const fs::path file = folder / "other.h5";
  if (rank_of_this() == 0) {
    EXPECT_THROW(static_cast<void>(read_volume_state(folder / "absent.h5")), InputError);
    std::ofstream(folder / "text.h5") << "no HDF5";
    EXPECT_THROW(static_cast<void>(read_volume_state(folder / "text.h5")), InputError);
    { const hdf5::File handle(H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)); }
    try {
      static_cast<void>(read_volume_state(file));
      FAIL() << "an empty file was taken for a volume";
    } catch (const InputError& error) {
      EXPECT_NE(message_of(error).find("/entry_0000/annulus"), std::string::npos) << error.what();
    }
  }
}

TEST(Volume, FailsOnEveryRankWhenItCannotBeOpened) {
  const SharedFolder folder;
  EXPECT_THROW(VolumeWriter(folder / "absent.h5", MPI_COMM_WORLD), IoError);
  // One rank alone has a problem: the others hear of it.
  const fs::path file = folder / "volume.h5";
  create(file, describe(2, 3, 5, false));
  const bool last = rank_of_this() == number_of_ranks() - 1;
  try {
    VolumeWriter writer(last ? folder / "absent.h5" : file, MPI_COMM_WORLD);
    FAIL() << "opened on rank " << rank_of_this();
  } catch (const IoError& error) {
    EXPECT_NE(message_of(error).find("absent.h5"), std::string::npos) << error.what();
  }
  // A file without our datasets is opened by all, then refused by all.
  const fs::path other = folder / "other.h5";
  if (rank_of_this() == 0) {
    const hdf5::File handle(H5Fcreate(other.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  EXPECT_THROW(VolumeWriter(other, MPI_COMM_WORLD), IoError);
}

TEST(Volume, RefusesPointsThatDoNotFit) {
  const SharedFolder folder;
  const fs::path file = folder / "volume.h5";
  create(file, describe(2, 3, 5, false));
  VolumeWriter writer(file, MPI_COMM_WORLD);
  const std::vector<FrameStatus> two(2, FrameStatus::ok);
  const std::vector<float> values(10, 1.0f);
  EXPECT_THROW(writer.write(5, {values, {}, {}, two}), InternalError);
  EXPECT_THROW(writer.write(0, {std::span(values).first(5), {}, {}, two}), InternalError);
  EXPECT_THROW(writer.write(0, {values, values, {}, two}), InternalError);
  EXPECT_THROW(writer.write(0, {values, {}, values, two}), InternalError);
  writer.close();
}

}  // namespace
}  // namespace annulus::mapping
