// Detectors in NeXus files: written and read back, broken ones refused, pixel masks where detectors put them.
#include "mapping/nexus_detector.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <span>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"
#include "mapping/hdf5.hpp"
#include "mapping/hdf5_setup.hpp"
#include "mapping/nexus.hpp"

namespace annulus::mapping {
namespace {

namespace fs = std::filesystem;

using integrator::Detector;
using integrator::Orientation;

class NexusDetector : public testing::Test {
 protected:
  void SetUp() override {
    setup_hdf5();
    std::string name = (fs::temp_directory_path() / "annulus-nexus-detector-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  [[nodiscard]] fs::path file(std::string_view name) const { return folder_ / name; }

 private:
  fs::path folder_;
};

template <typename Call>
std::string input_error_of(Call&& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect_in(const std::string& message, std::string_view part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

void expect_same(const Detector& found, const Detector& expected) {
  EXPECT_EQ(found.rows, expected.rows);
  EXPECT_EQ(found.columns, expected.columns);
  EXPECT_EQ(found.pixel1_m, expected.pixel1_m);
  EXPECT_EQ(found.pixel2_m, expected.pixel2_m);
  EXPECT_EQ(found.orientation, expected.orientation);
  EXPECT_EQ(found.dummy, expected.dummy);
  EXPECT_EQ(found.delta_dummy, expected.delta_dummy);
  EXPECT_EQ(found.mask(), expected.mask());
  const auto expect_same_values = [](const auto& one, const auto& other) {
    ASSERT_EQ(one != nullptr, other != nullptr);
    if (one != nullptr && other != nullptr) {
      EXPECT_EQ(*one, *other);
    }
  };
  expect_same_values(found.vertices, expected.vertices);
  expect_same_values(found.flat, expected.flat);
  expect_same_values(found.dark, expected.dark);
  ASSERT_EQ(found.sensor.has_value(), expected.sensor.has_value());
  if (found.sensor) {
    EXPECT_EQ(found.sensor->material, expected.sensor->material);
    EXPECT_EQ(found.sensor->thickness_m, expected.sensor->thickness_m);
  }
}

std::shared_ptr<const std::vector<float>> ramp(std::size_t size, float first) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), first);
  return std::make_shared<const std::vector<float>>(std::move(values));
}

TEST_F(NexusDetector, ComesBackAsItWasWritten) {
  const std::array<std::array<const char*, 2>, 4> cases = {{
      {"ImXPadS140", R"({"orientation": 2})"},
      {"Pilatus100k", R"({"orientation": 4, "sensor": {"material": "Si", "thickness": 0.00045}})"},
      {"Rapid", R"({"max_shape": [30, 40], "radius": 0.002, "orientation": 1})"},
      {"Detector", R"({"pixel1": 1.25e-4, "pixel2": 3e-4, "max_shape": [5, 7], "sensor": {"material": "CsI"}})"},
  }};
  for (const auto& [name, config] : cases) {
    SCOPED_TRACE(name);
    const Detector detector = integrator::make_detector(name, config);
    const fs::path written = file(fmt::format("{}.h5", name));
    write_nexus_detector(detector, written);
    const Detector read = read_nexus_detector(written);
    EXPECT_EQ(read.name, "NexusDetector");
    EXPECT_EQ(read.file, written.string());
    expect_same(read, detector);
  }
}

TEST_F(NexusDetector, KeepsFlatAndDark) {
  Detector detector = integrator::make_detector("Detector", R"({"pixel1": 1, "pixel2": 1, "max_shape": [5, 7]})");
  detector.flat = ramp(35, 0.5F);
  detector.dark = ramp(35, -7.25F);
  write_nexus_detector(detector, file("d.h5"));
  expect_same(read_nexus_detector(file("d.h5")), detector);
}

TEST_F(NexusDetector, ThatExistsIsNotOverwritten) {
  const Detector detector = integrator::make_detector("Pilatus100k");
  write_nexus_detector(detector, file("d.h5"));
  expect_in(input_error_of([&] { write_nexus_detector(detector, file("d.h5")); }), "d.h5: exists already");
  EXPECT_EQ(read_nexus_detector(file("d.h5")).rows, 195U);
}

TEST_F(NexusDetector, PixelsWithoutCornersAreMasked) {
  Detector detector = integrator::make_detector("ImXPadS10");
  std::vector<float> vertices = *detector.vertices;
  const std::size_t one = 60 * 80 + 40;
  const std::size_t other = 61 * 80 + 12;
  vertices[one * 12 + 5] = std::numeric_limits<float>::quiet_NaN();
  vertices[other * 12] = std::numeric_limits<float>::infinity();
  detector.vertices = std::make_shared<const std::vector<float>>(vertices);
  std::vector<std::uint8_t> mask = detector.mask();
  ASSERT_EQ(mask[one] + mask[other], 0);
  write_nexus_detector(detector, file("d.h5"));
  const Detector read = read_nexus_detector(file("d.h5"));
  mask[one] = 1;
  mask[other] = 1;
  EXPECT_EQ(read.mask(), mask);
  EXPECT_TRUE(std::ranges::all_of(*read.vertices, [](float value) { return std::isfinite(value); }));
  EXPECT_EQ((*read.vertices)[5], vertices[5]);
}

TEST_F(NexusDetector, IsMadeByItsPoniFile) {
  const Detector detector = integrator::make_detector("ImXPadS70", R"({"orientation": 2})");
  write_nexus_detector(detector, file("my detector.h5"));
  integrator::Geometry geometry;
  geometry.detector = read_nexus_detector(file("my detector.h5"));
  geometry.distance_m = 0.2;
  const std::string text = integrator::poni_text(geometry);
  expect_same(integrator::parse_poni(text, "x.poni", detector_files()).detector, detector);
  // Version 1 has the file's name where others have the detector's; relative names are looked for beside the PONI file.
  const fs::path poni = file("old.poni");
  integrator::write_poni(geometry, poni);
  expect_same(integrator::read_poni(poni, detector_files()).detector, detector);
  const std::string old = "Detector: my detector.h5\nDistance: 0.2\n";
  expect_same(integrator::parse_poni(old, "x.poni", detector_files().beside(poni)).detector, detector);
  expect_in(input_error_of([&] { static_cast<void>(integrator::parse_poni(text, "x.poni")); }),
            "NeXus detector files cannot be read here");
}

/// Changes one dataset of a detector's file: removes it, and puts `values` of `extent` in its place unless they are
/// empty.
void replace(const fs::path& name, const std::string& dataset, std::span<const double> values,
             const std::vector<hsize_t>& extent) {
  const auto opened = hdf5::own<hdf5::File>(H5Fopen(name.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), "open " + name.string());
  const auto group = hdf5::own<hdf5::Group>(H5Gopen2(opened.get(), "/entry_0000/pyFAI/ImXPadS10", H5P_DEFAULT), "open");
  if (H5Lexists(group.get(), dataset.c_str(), H5P_DEFAULT) > 0) {
    hdf5::check(H5Ldelete(group.get(), dataset.c_str(), H5P_DEFAULT), "delete " + dataset);
  }
  if (!values.empty()) nexus::write_array<double>(group.get(), dataset, values, extent);
}

TEST_F(NexusDetector, ThatIsDamagedIsRefusedByDataset) {
  struct Case {
    const char* dataset;
    std::vector<double> values;
    std::vector<hsize_t> extent;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"CORNERS", {6}, {}, "CORNERS: found pixels of 6 corners, expected 4"},
      {"pixel_size", {}, {}, "pixel_size: found nothing"},
      {"pixel_size", {1e-4, -1e-4}, {2}, "pixel_size: found 2 numbers from 0.0001"},
      {"orientation", {5}, {}, "orientation: found 5, expected 1, 2, 3 or 4"},
      {"shape", {120, 80.5}, {2}, "shape: found 2 numbers"},
      {"shape", {70, 80}, {2}, "mask: found 120 x 80 pixels, expected 70 x 80"},
      {"mask", {1, 2, 3}, {3}, "mask: found 1 dimensions, expected an image"},
      {"pixel_corners", {1, 2, 3}, {1, 1, 3}, "pixel_corners: found 3 dimensions"},
      {"flatfield", {1, 2, 3, 4}, {2, 2}, "flatfield: found 2 x 2 pixels, expected 120 x 80"},
  };
  int index = 0;
  for (const Case& damaged : cases) {
    const fs::path name = file(fmt::format("d{}.h5", index++));
    write_nexus_detector(integrator::make_detector("ImXPadS10"), name);
    replace(name, damaged.dataset, damaged.values, damaged.extent);
    const std::string message = input_error_of([&] { static_cast<void>(read_nexus_detector(name)); });
    expect_in(message, damaged.message);
    expect_in(message, name.string());
  }
  expect_in(input_error_of([&] { static_cast<void>(read_nexus_detector(file("absent.h5"))); }), "absent.h5");
}

TEST_F(NexusDetector, BinnedFileGivesTheOuterCorners) {
  const Detector detector = integrator::make_detector("ImXPadS10");
  write_nexus_detector(detector, file("d.h5"));
  replace(file("d.h5"), "shape", std::array{60.0, 40.0}, {2});
  replace(file("d.h5"), "mask", {}, {});
  const Detector read = read_nexus_detector(file("d.h5"));
  const Detector binned = integrator::binned_to(detector, 60, 40).value();
  EXPECT_EQ(read.rows, 60U);
  EXPECT_EQ(*read.vertices, *binned.vertices);
}

/// A file as Eiger detectors write it: /entry/instrument/detector, of the classes NeXus gives them.
void write_master(const fs::path& name, std::string_view place, std::span<const double> mask, std::size_t columns) {
  const auto file = hdf5::own<hdf5::File>(H5Fcreate(name.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT), "create");
  const auto entry = nexus::make_group(file.get(), "entry", "NXentry");
  const auto instrument = nexus::make_group(entry.get(), "instrument", "NXinstrument");
  const auto detector = nexus::make_group(instrument.get(), "detector", "NXdetector");
  const auto specific = nexus::make_group(detector.get(), "detectorSpecific", "NXcollection");
  nexus::write_array<double>(place == "detector" ? detector.get() : specific.get(), "pixel_mask", mask,
                             {mask.size() / columns, columns});
}

TEST_F(NexusDetector, PixelMaskOfAMasterFileIsFound) {
  const std::array<double, 6> reasons = {0, 1, 2, 0, 16, 1073741824.0};  // 2^30: "modified by the user"
  for (const std::string_view place : {"detector", "detectorSpecific"}) {
    const fs::path name = file(fmt::format("{}_master.h5", place));
    write_master(name, place, reasons, 3);
    const PixelMask mask = read_pixel_mask(name.string());
    EXPECT_EQ(mask.rows, 2U);
    EXPECT_EQ(mask.columns, 3U);
    EXPECT_EQ(mask.pixels, (std::vector<std::uint8_t>{0, 1, 1, 0, 1, 1}));
  }
  const PixelMask named = read_pixel_mask(file("detectorSpecific_master.h5").string() +
                                          "::entry/instrument/detector/detectorSpecific/pixel_mask");
  EXPECT_EQ(named.pixels.size(), 6U);
}

TEST_F(NexusDetector, FileWithoutAPixelMaskIsRefused) {
  write_nexus_detector(integrator::make_detector("ImXPadS10"), file("d.h5"));
  expect_in(input_error_of([&] { static_cast<void>(read_pixel_mask(file("d.h5").string())); }),
            "d.h5: found no pixel_mask in a detector");
  expect_in(input_error_of([&] { static_cast<void>(read_pixel_mask(file("d.h5").string() + "::/nonesuch")); }),
            "nonesuch");
}

}  // namespace
}  // namespace annulus::mapping
