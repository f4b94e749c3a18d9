#include "simulation/simulation.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <omp.h>
#include <tiffio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"
#include "integrator/units.hpp"
#include "kernels/bslz4.hpp"
#include "mapping/hdf5.hpp"

namespace annulus::simulation {
namespace {

namespace hdf5 = mapping::hdf5;
using kernels::DecodeStatus;

/// The smallest detector with a name and a gap: 407 x 487 pixels.
constexpr std::uint32_t rows = 407;
constexpr std::uint32_t columns = 487;
constexpr std::size_t pixels = static_cast<std::size_t>(rows) * columns;

SimulationSettings small_settings() {
  SimulationSettings settings;
  settings.detector = "Pilatus200k";
  settings.slow = 3;
  settings.fast = 5;
  settings.frames_per_file = 8;
  settings.hot_pixels = 1e-4;
  settings.dead_pixels = 1e-4;
  return settings;
}

/// A folder of its own for each test, removed at its end.
class SimulationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    hdf5::silence();
    const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("annulus_" + std::string(test->name()) + "_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const SimulationSettings& settings, const std::filesystem::path& folder) const {
    const Simulation simulation(settings);
    simulation.write_companions(folder);
    for (std::uint64_t file = 0; file < simulation.data_files(); ++file) simulation.write_data_file(file, folder);
  }

  [[nodiscard]] hdf5::File open(const std::string& name) const {
    return hdf5::own<hdf5::File>(H5Fopen((folder_ / name).c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), "open " + name);
  }

  std::filesystem::path folder_;
};

template <typename T>
std::vector<T> read_numbers(const hdf5::File& file, const std::string& name, hid_t type) {
  const auto dataset =
      hdf5::own<hdf5::Dataset>(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), "open dataset " + name);
  const auto space = hdf5::own<hdf5::Dataspace>(H5Dget_space(dataset.get()), "get the shape of " + name);
  std::vector<T> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.get())));
  hdf5::check(H5Dread(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "read " + name);
  return values;
}

std::vector<double> read_doubles(const hdf5::File& file, const std::string& name) {
  return read_numbers<double>(file, name, H5T_NATIVE_DOUBLE);
}

std::string read_units(const hdf5::File& file, const std::string& name) {
  const auto attribute = hdf5::own<hdf5::Attribute>(
      H5Aopen_by_name(file.get(), name.c_str(), "units", H5P_DEFAULT, H5P_DEFAULT), "open units of " + name);
  const auto type = hdf5::own<hdf5::Datatype>(H5Aget_type(attribute.get()), "get the type");
  char* text = nullptr;
  hdf5::check(H5Aread(attribute.get(), type.get(), &text), "read units");
  std::string units(text);
  hdf5::check(H5free_memory(text), "free");
  return units;
}

/// The chunk of a frame as stored, empty when there is none. `frame` counts from the scan's start.
std::vector<std::byte> read_chunk(const hdf5::File& master, std::uint64_t frame, std::uint64_t frames_per_file) {
  const std::string name = "/entry/data/data_00000" + std::to_string(frame / frames_per_file + 1);
  const auto dataset = hdf5::own<hdf5::Dataset>(H5Dopen2(master.get(), name.c_str(), H5P_DEFAULT), "open " + name);
  const std::array<hsize_t, 3> offset{frame % frames_per_file, 0, 0};
  hsize_t size = 0;
  if (H5Dget_chunk_storage_size(dataset.get(), offset.data(), &size) < 0) size = 0;
  std::vector<std::byte> chunk(size);
  std::uint32_t filters = 0;
  if (size > 0) {
    hdf5::check(H5Dread_chunk(dataset.get(), H5P_DEFAULT, offset.data(), &filters, chunk.data()), "read the chunk");
  }
  EXPECT_EQ(filters, 0U);
  return chunk;
}

template <typename T>
std::vector<T> read_frame(const hdf5::File& master, std::uint64_t frame, std::uint64_t frames_per_file) {
  std::vector<T> counts(pixels);
  EXPECT_EQ(kernels::decode_bslz4(read_chunk(master, frame, frames_per_file), sizeof(T),
                                  std::as_writable_bytes(std::span<T>(counts))),
            DecodeStatus::ok)
      << "frame " << frame;
  return counts;
}

template <typename T>
std::vector<T> read_tiff(const std::filesystem::path& file) {
  TIFF* tiff = TIFFOpen(file.c_str(), "rc");  // c: strips as they are in the file
  EXPECT_NE(tiff, nullptr);
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint16_t bits = 0;
  TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
  TIFFGetField(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
  EXPECT_EQ(width, columns);
  EXPECT_EQ(height, rows);
  EXPECT_EQ(bits, 8 * sizeof(T));
  std::vector<T> values(static_cast<std::size_t>(width) * height);
  EXPECT_EQ(TIFFReadEncodedStrip(tiff, 0, values.data(), static_cast<tmsize_t>(values.size() * sizeof(T))),
            static_cast<tmsize_t>(values.size() * sizeof(T)));
  TIFFClose(tiff);
  return values;
}

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// What truth.h5 expects of a frame, [pixels], 0 where no pixel counts.
class Truth {
 public:
  explicit Truth(const hdf5::File& file)
      : paths_(read_doubles(file, "path_integrals")), monitor_(read_doubles(file, "monitor")) {
    for (const char* name : {"CeO2", "alpha_Al2O3", "Ni", "background"}) {
      images_.push_back(read_doubles(file, std::string("images/") + name));
    }
    points_ = monitor_.size();
  }

  [[nodiscard]] std::vector<double> expected(std::size_t point) const {
    std::vector<double> counts(images_[0].size(), 0.0);
    for (std::size_t image = 0; image < images_.size(); ++image) {
      const double weight = image + 1 < images_.size() ? paths_[image * points_ + point] : 1.0;
      for (std::size_t pixel = 0; pixel < counts.size(); ++pixel) {
        counts[pixel] += monitor_[point] * weight * images_[image][pixel];
      }
    }
    return counts;
  }
  [[nodiscard]] const std::vector<double>& image(std::size_t index) const { return images_[index]; }

 private:
  std::vector<double> paths_;
  std::vector<double> monitor_;
  std::vector<std::vector<double>> images_;
  std::size_t points_ = 0;
};

TEST_F(SimulationTest, FilesDoNotDependOnTheNumberOfThreads) {
  const SimulationSettings settings = small_settings();
  const int threads = omp_get_max_threads();
  for (const int count : {1, 3}) {
    omp_set_num_threads(count);
    write(settings, folder_ / std::to_string(count));
  }
  omp_set_num_threads(threads);
  int compared = 0;
  for (const char* name :
       {"data_000001.h5", "data_000002.h5", "scan_master.h5", "truth.h5", "mask.tif", "calibrant.tif"}) {
    const std::string one = bytes_of(folder_ / "1" / name);
    EXPECT_GT(one.size(), 1000U) << name;
    EXPECT_TRUE(one == bytes_of(folder_ / "3" / name)) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 6);
}

TEST_F(SimulationTest, AnotherSeedGivesOtherCounts) {
  SimulationSettings settings = small_settings();
  write(settings, folder_ / "a");
  settings.seed = 2;
  write(settings, folder_ / "b");
  EXPECT_TRUE(read_frame<std::uint16_t>(open("a/scan_master.h5"), 0, 8) !=
              read_frame<std::uint16_t>(open("b/scan_master.h5"), 0, 8));
  EXPECT_TRUE(read_doubles(open("a/truth.h5"), "hot_pixels") != read_doubles(open("b/truth.h5"), "hot_pixels"));
}

TEST_F(SimulationTest, CountsArePoissonAboutTheTruth) {
  const SimulationSettings settings = small_settings();
  write(settings, folder_);
  const hdf5::File master = open("scan_master.h5");
  const Truth truth(open("truth.h5"));
  const std::vector<std::uint8_t> mask = read_tiff<std::uint8_t>(folder_ / "mask.tif");

  double chi_square = 0.0;
  double fourth = 0.0;
  double sum = 0.0;
  double sum_expected = 0.0;
  double compared = 0.0;
  std::vector<double> difference_sum(pixels, 0.0);  // over all frames
  std::vector<double> expected_sum(pixels, 0.0);
  for (std::uint64_t frame = 0; frame < 15; ++frame) {
    const std::vector<std::uint16_t> counts = read_frame<std::uint16_t>(master, frame, 8);
    const std::vector<double> expected = truth.expected(frame);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      if (mask[pixel] != 0 || counts[pixel] == std::numeric_limits<std::uint16_t>::max()) continue;
      const double difference = counts[pixel] - expected[pixel];
      chi_square += difference * difference / expected[pixel];
      fourth += 2.0 + 1.0 / expected[pixel];  // variance of (x - m)^2 / m for a Poisson count
      sum += counts[pixel];
      sum_expected += expected[pixel];
      compared += 1.0;
      difference_sum[pixel] += difference;
      expected_sum[pixel] += expected[pixel];
    }
  }
  EXPECT_GT(compared, 15.0 * 0.9 * pixels);
  EXPECT_NEAR(chi_square, compared, 4.5 * std::sqrt(fourth));
  EXPECT_NEAR(sum, sum_expected, 4.5 * std::sqrt(sum_expected));

  // Frames are independent: the sum over frames of a pixel's counts is a Poisson count too.
  double summed_chi_square = 0.0;
  double summed_fourth = 0.0;
  double summed_pixels = 0.0;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    if (expected_sum[pixel] == 0.0) continue;
    summed_chi_square += difference_sum[pixel] * difference_sum[pixel] / expected_sum[pixel];
    summed_fourth += 2.0 + 1.0 / expected_sum[pixel];
    summed_pixels += 1.0;
  }
  EXPECT_NEAR(summed_chi_square, summed_pixels, 4.5 * std::sqrt(summed_fourth));
  // The same as a share: the bias that would be seen, 4.5 sigma, is below 0.1 %.
  EXPECT_LT(4.5 / std::sqrt(sum_expected), 1e-3);
}

TEST_F(SimulationTest, IntegratedScanHasTheTruePatternWithinPoissonNoise) {
  SimulationSettings settings = small_settings();
  settings.peak_counts = 2000.0;
  settings.polarisation_factor = 0.95;
  write(settings, folder_);
  const hdf5::File master = open("scan_master.h5");
  const hdf5::File truth = open("truth.h5");
  EXPECT_EQ(read_doubles(truth, "polarisation_factor").at(0), 0.95);
  const std::vector<std::uint8_t> mask = read_tiff<std::uint8_t>(folder_ / "mask.tif");
  const std::vector<double> two_theta_deg = read_doubles(truth, "two_theta_deg");
  const std::vector<double> patterns = read_doubles(truth, "patterns");
  const std::vector<double> background = read_doubles(truth, "background");
  const std::vector<double> paths_mm = read_doubles(truth, "path_integrals");
  const std::vector<double> monitor = read_doubles(truth, "monitor");

  // An integration with nothing of ours but the geometry: corrections by their formulas, nearest bins of 0.5 degrees,
  // and in each bin the true patterns as its pixels see them, by a midpoint rule of 5 x 5 points a pixel.
  const integrator::Geometry geometry = integrator::read_poni(folder_ / "geometry.poni");
  const kernels::PixelGeometry plane = integrator::pixel_geometry(geometry);
  constexpr double bin_deg = 0.5;
  constexpr std::size_t bins = 40;
  constexpr int points = 5;
  const double step_deg = two_theta_deg[1];
  const std::size_t channels = two_theta_deg.size();
  const auto hot = read_numbers<std::uint64_t>(truth, "hot_pixels", H5T_NATIVE_UINT64);
  std::vector<double> used(bins, 0.0);
  std::vector<std::array<double, 4>> pattern_sum(bins, std::array<double, 4>{});
  std::vector<std::size_t> bin_of(pixels, bins);
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint32_t column = 0; column < columns; ++column) {
      const std::size_t pixel = static_cast<std::size_t>(row) * columns + column;
      if (mask[pixel] != 0 || std::binary_search(hot.begin(), hot.end(), pixel)) continue;
      const double angle_rad = integrator::two_theta_rad(plane, row + 0.5, column + 0.5);
      const double chi_rad = integrator::chi_rad(plane, row + 0.5, column + 0.5);
      const double p1_m = (row + 0.5) * plane.pixel1_m - geometry.poni1_m;
      const double p2_m = (column + 0.5) * plane.pixel2_m - geometry.poni2_m;
      const double cosine = geometry.distance_m / std::hypot(geometry.distance_m, p1_m, p2_m);
      const double sine2 = std::sin(angle_rad) * std::sin(angle_rad);
      const double factor = cosine * cosine * cosine * 0.5 * (2.0 - sine2 - 0.95 * std::cos(2.0 * chi_rad) * sine2);
      const auto bin = static_cast<std::size_t>(integrator::degrees_of(angle_rad) / bin_deg);
      ASSERT_LT(bin, bins);
      bin_of[pixel] = bin;
      used[bin] += 1.0;
      for (int point = 0; point < points * points; ++point) {
        const double place =
            integrator::degrees_of(integrator::two_theta_rad(plane, row + (point / points + 0.5) / points,
                                                             column + (point % points + 0.5) / points)) /
            step_deg;
        const auto channel = static_cast<std::size_t>(place);
        ASSERT_LT(channel + 1, channels);
        const double rest = place - static_cast<double>(channel);
        for (std::size_t image = 0; image < 4; ++image) {
          const double* values = image < 3 ? patterns.data() + image * channels : background.data();
          pattern_sum[bin][image] +=
              factor / (points * points) * ((1.0 - rest) * values[channel] + rest * values[channel + 1]);
        }
      }
    }
  }

  std::vector<double> counts_sum(bins, 0.0);
  std::vector<double> expected_sum(bins, 0.0);
  for (std::uint64_t frame = 0; frame < 15; ++frame) {
    const std::vector<std::uint16_t> counts = read_frame<std::uint16_t>(master, frame, 8);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      if (bin_of[pixel] < bins) counts_sum[bin_of[pixel]] += counts[pixel];
    }
    for (std::size_t bin = 0; bin < bins; ++bin) {
      double expected = pattern_sum[bin][3];
      for (std::size_t powder = 0; powder < 3; ++powder) {
        expected += paths_mm[powder * 15 + frame] * pattern_sum[bin][powder];
      }
      expected_sum[bin] += monitor[frame] * expected;
    }
  }
  double total = 0.0;
  double total_expected = 0.0;
  int compared = 0;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    if (used[bin] < 100.0) continue;
    // Beside Poisson noise, the midpoint rule: h^2 / 24 f'', h = 1/5 pixel, f'' = 8 ln 2 / 25 of the height a pixel^2
    // at most (a line has at least 5 pixels FWHM), on each axis of the pixel across the ring: 4e-4.
    EXPECT_NEAR(counts_sum[bin], expected_sum[bin], 4.5 * std::sqrt(expected_sum[bin]) + 4e-4 * expected_sum[bin])
        << "bin " << bin;
    total += counts_sum[bin];
    total_expected += expected_sum[bin];
    ++compared;
  }
  EXPECT_GE(compared, 25);
  // Over whole rings the rule's errors of either sign cancel: noise alone, here 0.05 % at most.
  EXPECT_NEAR(total, total_expected, 4.5 * std::sqrt(total_expected));
  EXPECT_LT(4.5 / std::sqrt(total_expected), 5e-4);
}

TEST_F(SimulationTest, GapsAndHotPixelsAreTheTypesMaximumAndDeadPixelsAreZero) {
  SimulationSettings settings = small_settings();
  settings.type = kernels::PixelType::u32;
  write(settings, folder_);
  const hdf5::File master = open("scan_master.h5");
  const hdf5::File truth = open("truth.h5");
  const auto hot = read_numbers<std::uint64_t>(truth, "hot_pixels", H5T_NATIVE_UINT64);
  const auto dead = read_numbers<std::uint64_t>(truth, "dead_pixels", H5T_NATIVE_UINT64);
  const std::vector<std::uint8_t> gaps = integrator::make_detector("Pilatus200k").mask();
  const std::vector<std::uint8_t> mask = read_tiff<std::uint8_t>(folder_ / "mask.tif");
  const std::vector<std::uint32_t> counts = read_frame<std::uint32_t>(master, 3, 8);
  EXPECT_EQ(hot.size(), 20U);  // 1e-4 of 198,209
  EXPECT_EQ(dead.size(), 20U);

  std::size_t saturated = 0;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    const bool is_hot = std::binary_search(hot.begin(), hot.end(), pixel);
    const bool is_dead = std::binary_search(dead.begin(), dead.end(), pixel);
    const bool highest = counts[pixel] == std::numeric_limits<std::uint32_t>::max();
    EXPECT_EQ(highest, gaps[pixel] != 0 || is_hot);
    EXPECT_EQ(mask[pixel], gaps[pixel] != 0 || is_dead ? 1 : 0);
    EXPECT_FALSE(gaps[pixel] != 0 && (is_hot || is_dead));
    if (is_dead) {
      EXPECT_EQ(counts[pixel], 0U);
    }
    if (highest) ++saturated;
  }
  EXPECT_EQ(saturated, 17U * columns + hot.size());  // a gap of 17 rows between two modules
}

TEST_F(SimulationTest, ZigzagScanTakesOddLinesBackwards) {
  SimulationSettings settings = small_settings();
  settings.zigzag = true;
  write(settings, folder_);
  const hdf5::File master = open("scan_master.h5");
  const hdf5::File truth_file = open("truth.h5");
  const std::vector<double> rotation = read_doubles(master, "/entry/sample/rotation");
  const std::vector<double> translation = read_doubles(master, "/entry/sample/translation");
  const std::vector<double> monitor = read_doubles(master, "/entry/monitor/data");
  const std::vector<double> fast = read_doubles(truth_file, "fast");
  const std::vector<double> monitor_map = read_doubles(truth_file, "monitor");
  ASSERT_EQ(translation.size(), 15U);
  for (std::size_t step = 0; step < 5; ++step) {
    EXPECT_EQ(rotation[5 + step], 60.0);
    EXPECT_EQ(translation[step], fast[step]);
    EXPECT_EQ(translation[5 + step], fast[4 - step]);
    EXPECT_EQ(translation[10 + step], fast[step]);
    EXPECT_EQ(monitor[5 + step], monitor_map[5 + 4 - step]);
  }
  EXPECT_EQ(read_units(master, "/entry/sample/rotation"), "deg");
  EXPECT_EQ(read_units(master, "/entry/sample/translation"), "mm");

  // The frames themselves follow: frame 6 has the counts of the last point but one of line 1.
  const Truth truth(truth_file);
  const std::vector<std::uint16_t> counts = read_frame<std::uint16_t>(master, 6, 8);
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0, [](double total, std::uint16_t count) {
    return total + (count == std::numeric_limits<std::uint16_t>::max() ? 0.0 : count);
  });
  const auto expected_sum = [&](std::size_t point) {
    const std::vector<double> expected = truth.expected(point);
    return std::accumulate(expected.begin(), expected.end(), 0.0);
  };
  // The 20 hot pixels are in the expected sum alone: 1e-4 of it, a tenth more for luck.
  const double at_point_8 = expected_sum(8);
  EXPECT_NEAR(sum, at_point_8, 4.5 * std::sqrt(at_point_8) + 3e-4 * at_point_8);
  EXPECT_GT(std::abs(sum - expected_sum(6)), 20.0 * std::sqrt(at_point_8));
}

TEST_F(SimulationTest, DamageIsWhereItWasAskedForAndNowhereElse) {
  SimulationSettings settings = small_settings();
  write(settings, folder_ / "whole");
  settings.corrupt_frames = {2, 9};
  settings.missing_frames = {4, 7, 14};
  settings.dead_monitor_frames = {11};
  write(settings, folder_ / "damaged");
  const hdf5::File whole = open("whole/scan_master.h5");
  const hdf5::File damaged = open("damaged/scan_master.h5");
  std::vector<std::uint16_t> counts(pixels);
  for (std::uint64_t frame = 0; frame < 15; ++frame) {
    const std::vector<std::byte> chunk = read_chunk(damaged, frame, 8);
    const DecodeStatus status = kernels::decode_bslz4(chunk, 2, std::as_writable_bytes(std::span(counts)));
    if (frame == 4 || frame == 7 || frame == 14) {
      EXPECT_TRUE(chunk.empty()) << "frame " << frame;
    } else if (frame == 2 || frame == 9) {
      EXPECT_EQ(status, DecodeStatus::corrupt) << "frame " << frame;
    } else {
      EXPECT_EQ(status, DecodeStatus::ok) << "frame " << frame;
      EXPECT_TRUE(chunk == read_chunk(whole, frame, 8)) << "frame " << frame;
    }
  }
  const std::vector<double> monitor = read_doubles(damaged, "/entry/monitor/data");
  for (std::size_t frame = 0; frame < 15; ++frame) EXPECT_EQ(monitor[frame] == 0.0, frame == 11);
}

TEST_F(SimulationTest, MapLooksAtTheDensityOfEachCell) {
  SimulationSettings settings = small_settings();
  settings.kind = mapping::ScanKind::map;
  settings.slow = 6;
  settings.fast = 7;
  const Simulation simulation(settings);
  simulation.write_companions(folder_);
  const hdf5::File truth = open("truth.h5");
  const std::vector<double> paths = read_doubles(truth, "path_integrals");
  EXPECT_EQ(paths, read_doubles(truth, "phase_maps"));
  EXPECT_EQ(paths.size(), 3U * 6 * 7);
  EXPECT_GT(*std::max_element(paths.begin(), paths.end()), 0.3);
  const hdf5::File master = open("scan_master.h5");
  const std::vector<double> slow = read_doubles(master, "/entry/sample/slow");
  const std::vector<double> fast = read_doubles(master, "/entry/sample/fast");
  ASSERT_EQ(slow.size(), 42U);
  EXPECT_EQ(slow[0], slow[6]);
  EXPECT_LT(slow[6], slow[7]);
  EXPECT_LT(fast[0], fast[1]);
  EXPECT_EQ(read_units(master, "/entry/sample/slow"), "mm");
}

TEST_F(SimulationTest, BeamHitsThePixelThatTheMasterFileNames) {
  const Simulation simulation(small_settings());
  simulation.write_companions(folder_);
  const hdf5::File master = open("scan_master.h5");
  const integrator::Geometry geometry = integrator::read_poni(folder_ / "geometry.poni");
  const double row = read_doubles(master, "/entry/instrument/detector/beam_center_y").at(0);
  const double column = read_doubles(master, "/entry/instrument/detector/beam_center_x").at(0);
  // A pixel is 0.9 mrad: rounding alone leaves 1e-16 m of 0.2 m.
  EXPECT_LT(integrator::two_theta_rad(integrator::pixel_geometry(geometry), row, column), 1e-12);
  EXPECT_EQ(geometry.rot1_rad, 0.01);
  EXPECT_EQ(geometry.detector.name, "Pilatus200k");
  EXPECT_EQ(read_units(master, "/entry/instrument/detector/detector_distance"), "m");
  // 12.398... / 60 Angstrom.
  EXPECT_NEAR(read_doubles(master, "/entry/instrument/beam/incident_wavelength").at(0), 0.20664, 1e-6);
}

TEST_F(SimulationTest, CalibrantShowsTheRingsOfLanthanumHexaboride) {
  const Simulation simulation(small_settings());
  simulation.write_companions(folder_);
  const std::vector<std::int32_t> image = read_tiff<std::int32_t>(folder_ / "calibrant.tif");
  const std::vector<std::uint8_t> gaps = integrator::make_detector("Pilatus200k").mask();
  const kernels::PixelGeometry plane = integrator::pixel_geometry(integrator::read_poni(folder_ / "geometry.poni"));
  // Line 110 (d = a / sqrt 2, the strongest) and the valley between it and 100, at pixels within 0.05 degrees.
  const auto angle_deg = [](double d_angstrom) {
    return 2.0 * integrator::degrees_of(std::asin(12.398419843320026 / 60.0 / (2.0 * d_angstrom)));
  };
  const double ring_deg = angle_deg(4.156826 / std::sqrt(2.0));
  const double valley_deg = 0.5 * (ring_deg + angle_deg(4.156826));
  double ring = 0.0;
  double ring_pixels = 0.0;
  double valley = 0.0;
  double valley_pixels = 0.0;
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint32_t column = 0; column < columns; ++column) {
      const std::size_t pixel = static_cast<std::size_t>(row) * columns + column;
      EXPECT_EQ(image[pixel] == -1, gaps[pixel] != 0);
      if (image[pixel] < 0) continue;
      const double here_deg = integrator::degrees_of(integrator::two_theta_rad(plane, row + 0.5, column + 0.5));
      if (std::abs(here_deg - ring_deg) < 0.05) {
        ring += image[pixel];
        ring_pixels += 1.0;
      } else if (std::abs(here_deg - valley_deg) < 0.05) {
        valley += image[pixel];
        valley_pixels += 1.0;
      }
    }
  }
  ASSERT_GT(ring_pixels, 300.0);
  ASSERT_GT(valley_pixels, 200.0);
  // FWHM 0.246 degrees: within 0.05 the mean is above 0.9 of the top. The valley is 2.5 FWHM off: Lorentz tails alone.
  EXPECT_NEAR(ring / ring_pixels, 1e4, 0.12e4);
  EXPECT_LT(valley / valley_pixels, 0.04e4);
}

TEST_F(SimulationTest, StrongestRingHasTheCountsAskedFor) {
  SimulationSettings settings = small_settings();
  settings.slow = 60;
  settings.fast = 60;
  settings.peak_counts = 500.0;
  const Simulation simulation(settings);
  simulation.write_companions(folder_);
  const hdf5::File truth = open("truth.h5");
  const std::vector<double> patterns = read_doubles(truth, "patterns");
  const std::vector<double> paths_mm = read_doubles(truth, "path_integrals");
  const double top =
      *std::max_element(patterns.begin(), patterns.begin() + static_cast<std::ptrdiff_t>(patterns.size() / 3));
  const double longest_mm = *std::max_element(paths_mm.begin(), paths_mm.begin() + 3600);
  // The scan's own longest path is at most that of the fine sampling, and near it.
  EXPECT_LE(top * longest_mm, 500.0 * 1.001);
  EXPECT_GE(top * longest_mm, 500.0 * 0.95);
  EXPECT_EQ(read_doubles(truth, "background").at(0), 2.0);
}

TEST(SimulationSettingsCheck, AllProblemsAreToldAtOnce) {
  SimulationSettings settings = small_settings();
  settings.rotation_range_deg = 90.0;
  settings.type = kernels::PixelType::f32;
  settings.missing_frames = {15};
  settings.energy_kev = -1.0;
  try {
    const Simulation simulation(settings);
    FAIL() << "expected InputError";
  } catch (const InputError& error) {
    const std::string message = error.what();
    for (const char* word : {"rotation range", "float32", "frame 15", "energy"}) {
      EXPECT_NE(message.find(word), std::string::npos) << word << " in: " << message;
    }
  }
}

TEST(SimulationSettingsCheck, UnknownDetectorAndImpossibleGeometryAreRefused) {
  SimulationSettings settings = small_settings();
  settings.detector = "Eyeger";
  EXPECT_THROW(Simulation{settings}, InputError);
  settings = small_settings();
  settings.distance_m = 0.001;
  EXPECT_THROW(Simulation{settings}, InputError);
  settings = small_settings();
  settings.peak_counts = 60000.0;
  EXPECT_THROW(Simulation{settings}, InputError);
}

}  // namespace
}  // namespace annulus::simulation
