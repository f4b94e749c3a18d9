// PONI files: every version, appended files, numbers that come back to the last bit, errors that say what is wrong.
#include "integrator/geometry.hpp"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

std::string error_of(std::string_view text) {
  try {
    static_cast<void>(parse_poni(text, "x.poni"));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect_in(const std::string& message, std::string_view part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

void expect_same(const Geometry& found, const Geometry& expected) {
  EXPECT_EQ(found.detector.name, expected.detector.name);
  EXPECT_EQ(found.detector.rows, expected.detector.rows);
  EXPECT_EQ(found.detector.columns, expected.detector.columns);
  EXPECT_EQ(found.detector.pixel1_m, expected.detector.pixel1_m);
  EXPECT_EQ(found.detector.pixel2_m, expected.detector.pixel2_m);
  EXPECT_EQ(found.detector.orientation, expected.detector.orientation);
  EXPECT_EQ(found.detector.photon_counting, expected.detector.photon_counting);
  EXPECT_EQ(found.distance_m, expected.distance_m);
  EXPECT_EQ(found.poni1_m, expected.poni1_m);
  EXPECT_EQ(found.poni2_m, expected.poni2_m);
  EXPECT_EQ(found.rot1_rad, expected.rot1_rad);
  EXPECT_EQ(found.rot2_rad, expected.rot2_rad);
  EXPECT_EQ(found.rot3_rad, expected.rot3_rad);
  EXPECT_EQ(found.wavelength_m, expected.wavelength_m);
  EXPECT_EQ(found.parallax, expected.parallax);
}

/// A folder of its own, removed with what is in it.
class PoniFile : public testing::Test {
 protected:
  PoniFile()
      : folder_(std::filesystem::path(testing::TempDir()) /
                ("annulus_poni_" + std::to_string(::getpid()) + "_" +
                 testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(folder_);
  }
  ~PoniFile() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  [[nodiscard]] std::filesystem::path in_folder(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] static std::string read_error(const std::filesystem::path& file) {
    try {
      static_cast<void>(read_poni(file));
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

 private:
  std::filesystem::path folder_;
};

TEST(Poni, Version1WithoutDetectorIsAPlainOne) {
  const Geometry geometry = parse_poni(
      "# Calibration done at Fri Feb 27 13:52:42 2015\n"
      "PixelSize1: 0.000172\nPixelSize2: 0.0002\nDistance: 0.208651380603\nPoni1: 0.0872948482846\n"
      "Poni2: 0.0799601126306\nRot1: -0.0184422457059\nRot2: 0.00413760084465\nRot3: -2.77645988275e-08\n"
      "SplineFile: None\nWavelength: 4.066e-11\n",
      "x.poni");
  EXPECT_EQ(geometry.detector.name, "Detector");
  EXPECT_FALSE(geometry.detector.has_shape());
  EXPECT_EQ(geometry.detector.pixel1_m, 0.000172);
  EXPECT_EQ(geometry.detector.pixel2_m, 0.0002);
  EXPECT_EQ(geometry.distance_m, 0.208651380603);
  EXPECT_EQ(geometry.poni1_m, 0.0872948482846);
  EXPECT_EQ(geometry.poni2_m, 0.0799601126306);
  EXPECT_EQ(geometry.rot1_rad, -0.0184422457059);
  EXPECT_EQ(geometry.rot2_rad, 0.00413760084465);
  EXPECT_EQ(geometry.rot3_rad, -2.77645988275e-08);
  EXPECT_EQ(geometry.wavelength_m, 4.066e-11);
}

TEST(Poni, Version1TakesTheDetectorsOwnPixels) {
  const Geometry geometry = parse_poni("Detector: Pilatus 1M\nDistance: 1\n", "x.poni");
  EXPECT_EQ(geometry.detector.name, "Pilatus1M");
  EXPECT_EQ(geometry.detector.rows, 1043U);
  EXPECT_EQ(geometry.detector.pixel1_m, 172e-6);
}

TEST(Poni, Version1PixelsOfABinnedDetectorShrinkItsShape) {
  const Geometry geometry =
      parse_poni("Detector: Eiger2CdTe_4M\nPixelSize1: 0.00015\nPixelSize2: 0.00015\nDistance: 1\n", "x.poni");
  EXPECT_EQ(geometry.detector.rows, 1081U);
  EXPECT_EQ(geometry.detector.columns, 1034U);
  EXPECT_EQ(geometry.detector.pixel1_m, 0.00015);
}

TEST(Poni, Version2ReadsTheDetectorsConfiguration) {
  const Geometry geometry = parse_poni(
      "poni_version: 2\nDetector: Detector\n"
      "Detector_config: {\"pixel1\": 0.0001, \"pixel2\": 0.0002, \"max_shape\": [20, 30]}\n"
      "Distance: 0.1\nPoni1: 0.01\nPoni2: 0.02\nRot1: 0\nRot2: 0\nRot3: 0\n",
      "x.poni");
  EXPECT_EQ(geometry.detector.rows, 20U);
  EXPECT_EQ(geometry.detector.columns, 30U);
  EXPECT_EQ(geometry.detector.pixel2_m, 0.0002);
  EXPECT_EQ(geometry.detector.orientation, Orientation::bottom_right);
  EXPECT_FALSE(geometry.wavelength_m.has_value());
}

TEST(Poni, Version21ReadsTheOrientation) {
  const Geometry geometry = parse_poni(
      "poni_version: 2.1\nDetector: Eiger4M\nDetector_config: {\"pixel1\": 7.5e-05, \"pixel2\": 7.5e-05, "
      "\"orientation\": 2}\nDistance: 0.1\n",
      "x.poni");
  EXPECT_EQ(geometry.detector.name, "Eiger4M");
  EXPECT_EQ(geometry.detector.orientation, Orientation::top_right);
  EXPECT_EQ(geometry.detector.rows, 2167U);
}

TEST(Poni, Version3TellsOfParallax) {
  const std::string text =
      "poni_version: 3\nDetector: Pilatus1M\nDetector_config: {\"orientation\": 3, \"sensor\": "
      "{\"material\": \"Si\", \"thickness\": 0.00032}}\nDistance: 0.1\n";
  EXPECT_EQ(parse_poni(text + "Parallax: False\n", "x.poni").parallax, Parallax::off);
  EXPECT_EQ(parse_poni(text, "x.poni").parallax, Parallax::off);
  const Geometry geometry = parse_poni(text + "Parallax: True\n", "x.poni");
  EXPECT_EQ(geometry.parallax, Parallax::on);
  ASSERT_TRUE(geometry.detector.sensor.has_value());
  EXPECT_EQ(geometry.detector.sensor->material, "Si");
  EXPECT_EQ(geometry.detector.sensor->thickness_m, 0.00032);
  expect_in(error_of(text + "Parallax: 3 mm\n"), "x.poni: Parallax: found '3 mm', expected True or False");
}

TEST(Poni, TextIsVersion3WithParallaxAlone) {
  Geometry geometry;
  geometry.detector = make_detector("Pilatus100k", R"({"sensor": {"material": "Si", "thickness": 0.00032}})");
  geometry.distance_m = 0.1;
  geometry.wavelength_m = 1e-10;
  expect_in(poni_text(geometry), "poni_version: 2\n");
  geometry.parallax = Parallax::on;
  const std::string text = poni_text(geometry);
  expect_in(text, "poni_version: 3\n");
  expect_in(text, "\"orientation\": 3");
  expect_in(text, "\"sensor\": {\"material\": \"Si\", \"thickness\": 0.00032}");
  expect_in(text, "\nParallax: True\n");
  EXPECT_EQ(nlohmann::json::parse(poni_json(geometry))["poni_version"], 3);
  EXPECT_EQ(nlohmann::json::parse(poni_json(geometry))["parallax"], true);
  for (const std::string& written : {text, poni_json(geometry)}) {
    const Geometry found = parse_poni(written, "x.poni");
    expect_same(found, geometry);
    ASSERT_TRUE(found.detector.sensor.has_value());
    EXPECT_EQ(found.detector.sensor->material, "Si");
    EXPECT_EQ(found.detector.sensor->thickness_m, 0.00032);
  }
}

TEST(Poni, ConfigurationWithoutVersionIsVersion2) {
  const Geometry geometry = parse_poni(
      "PixelSize1: 0.001\nPixelSize2: 0.001\nDetector: Eiger4M\nDetector_config: {\"orientation\": 4}\nDistance: 0.1\n",
      "x.poni");
  EXPECT_EQ(geometry.detector.orientation, Orientation::bottom_left);
  EXPECT_EQ(geometry.detector.pixel1_m, 75e-6);
}

TEST(Poni, KeysMayBeWrittenInAnyCaseAndSpacing) {
  const Geometry geometry =
      parse_poni("\xef\xbb\xbf  DISTANCE :0.25 \r\npixelsize1:1e-4\r\nPIXELSIZE2:\t+2E-4\r\nrot1: .5\r\n", "x.poni");
  EXPECT_EQ(geometry.distance_m, 0.25);
  EXPECT_EQ(geometry.detector.pixel1_m, 1e-4);
  EXPECT_EQ(geometry.detector.pixel2_m, 2e-4);
  EXPECT_EQ(geometry.rot1_rad, 0.5);
}

TEST(Poni, LastEntryOfAnAppendedFileWins) {
  const Geometry geometry = parse_poni(
      "Detector: Pilatus1M\nDistance: 0.1\nRot1: 0.5\nWavelength: 1e-10\n# a second calibration\n"
      "Distance: 0.2\n#Distance: 0.3\nRot1: 0.25",
      "x.poni");
  EXPECT_EQ(geometry.distance_m, 0.2);
  EXPECT_EQ(geometry.rot1_rad, 0.25);
  EXPECT_EQ(geometry.wavelength_m, 1e-10);
}

TEST(Poni, NoneMeansNotSet) {
  const Geometry geometry =
      parse_poni("Detector: Eiger1M\nDistance: 0.1\nRot1: 0.5\nRot1: None\nWavelength: none\nPoni1:\n", "x.poni");
  EXPECT_EQ(geometry.rot1_rad, 0.0);
  EXPECT_EQ(geometry.poni1_m, 0.0);
  EXPECT_FALSE(geometry.wavelength_m.has_value());
  expect_in(error_of("Detector: Eiger1M\nDistance: None\n"), "Distance: found none");
}

TEST(Poni, ErrorsNameFileKeyFoundAndExpected) {
  expect_in(error_of("Detector: Eiger1M\nDistance: 10 cm\n"),
            "x.poni: Distance: found '10 cm', expected a positive number in m");
  for (const char* value : {"0", "-1", "nan", "inf", "1e999", "0x10", "1,5"}) {
    expect_in(error_of(std::string("Detector: Eiger1M\nDistance: ") + value), "Distance: found '");
  }
  expect_in(error_of("Detector: Eiger1M\nDistance: 1\nRot2: abc\n"),
            "x.poni: Rot2: found 'abc', expected a number in rad");
  expect_in(error_of("Detector: Eiger1M\nDistance: 1\nWavelength: -1e-10\n"), "Wavelength: found '-1e-10'");
  expect_in(error_of("Detector: Eiger1M\nPoni1: 1\n"), "x.poni: Distance: found none");
  expect_in(error_of("Distance: 1\n"), "x.poni: found no pixel size, expected PixelSize1 and PixelSize2");
  expect_in(error_of("Distance: 1\nPixelSize1: 1e-4\n"), "found no pixel size");
  expect_in(error_of("poni_version: 2\nDetector: Detector\nDetector_config: {}\nDistance: 1\n"),
            "expected pixel1 and pixel2 in Detector_config");
  expect_in(error_of("poni_version: 4\nDetector: Eiger1M\nDistance: 1\n"),
            "x.poni: poni_version: found '4', expected 1, 2, 2.1 or 3");
  expect_in(error_of("poni_version: two\nDistance: 1\n"), "poni_version: found 'two'");
  expect_in(error_of("Detector: Eigr4M\nDistance: 1\n"), "x.poni: unknown detector 'Eigr4M'; did you mean Eiger4M");
  expect_in(error_of("PixelSize1: 1e-4\nPixelSize2: 1e-4\nDistance: 1\nSplineFile: frelon.spline\n"),
            "x.poni: frelon.spline: cannot be opened");
  expect_in(error_of("poni_version: 2\nDetector: Eiger1M\nDetector_config: {oops\nDistance: 1\n"),
            "expected a JSON object");
}

TEST(Poni, AllProblemsAreToldAtOnce) {
  const std::string message = error_of("Detector: Nonesuch\nDistance: far\nRot1: left\nParallax: maybe\n");
  for (const char* part : {"Distance", "Rot1", "Parallax", "'Nonesuch'"}) expect_in(message, part);
}

TEST(Poni, WhatIsNoPoniIsCalledSo) {
  for (const char* text : {"", "\n\n", "hello world\n", "title: a text\nauthor: b\n", "# Distance: 1\n"}) {
    expect_in(error_of(text), "x.poni: found none of the keys of a PONI file");
  }
  expect_in(error_of(std::string_view("\x89HDF\r\n\x1a\n\0\0", 10)), "x.poni: found binary data");
  expect_in(error_of("{\"dist\": 1"), "no valid JSON object");
}

TEST(Poni, DictionaryFormIsReadToo) {
  const Geometry geometry = parse_poni(
      R"({"poni_version": 2.1, "dist": 0.1, "poni1": 0.02, "poni2": 0.03, "rot1": 0.1, "rot2": 0.2, "rot3": null,
          "detector": "Pilatus100k", "detector_config": {"pixel1": 0.000172, "pixel2": 0.000172, "orientation": 1},
          "wavelength": 1e-10})",
      "x.json");
  EXPECT_EQ(geometry.detector.name, "Pilatus100k");
  EXPECT_EQ(geometry.detector.orientation, Orientation::top_left);
  EXPECT_EQ(geometry.distance_m, 0.1);
  EXPECT_EQ(geometry.rot2_rad, 0.2);
  EXPECT_EQ(geometry.rot3_rad, 0.0);
  EXPECT_EQ(geometry.wavelength_m, 1e-10);
}

/// A geometry whose numbers have random mantissas, and exponents over many decades.
Geometry random_geometry(std::mt19937_64& random) {
  const auto number = [&] {
    return std::ldexp(std::uniform_real_distribution<double>(0.5, 1.0)(random),
                      std::uniform_int_distribution<int>(-40, 3)(random));
  };
  Geometry geometry;
  const int orientation = std::uniform_int_distribution<int>(1, 4)(random);
  if (random() % 2 == 0) {
    geometry.detector = make_detector("Eiger2CdTe_1MW");
  } else {
    geometry.detector.pixel1_m = number();
    geometry.detector.pixel2_m = number();
    geometry.detector.rows = 11;
    geometry.detector.columns = 13;
  }
  geometry.detector.orientation = static_cast<Orientation>(orientation);
  geometry.distance_m = number();
  geometry.poni1_m = -number();
  geometry.poni2_m = number();
  geometry.rot1_rad = number();
  geometry.rot2_rad = -number();
  geometry.rot3_rad = 0.0;
  if (random() % 2 == 0) geometry.wavelength_m = number() * 1e-10;
  return geometry;
}

TEST(Poni, TextAndDictionaryComeBackToTheLastBit) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    const Geometry geometry = random_geometry(random);
    expect_same(parse_poni(poni_text(geometry), "x.poni"), geometry);
    expect_same(parse_poni(poni_json(geometry), "x.json"), geometry);
    if (HasFailure()) FAIL() << poni_text(geometry) << poni_json(geometry);
  }
}

TEST(Poni, TextIsVersion2ForOrientation3AndElse21) {
  Geometry geometry;
  geometry.detector = make_detector("Pilatus100k");
  geometry.distance_m = 0.1;
  EXPECT_EQ(poni_text(geometry),
            "# Geometry, written by annulus\nponi_version: 2\nDetector: Pilatus100k\n"
            "Detector_config: {\"pixel1\": 0.000172, \"pixel2\": 0.000172}\n"
            "Distance: 0.1\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\n");
  geometry.detector.orientation = Orientation::top_left;
  geometry.wavelength_m = 1e-10;
  EXPECT_EQ(poni_text(geometry),
            "# Geometry, written by annulus\nponi_version: 2.1\nDetector: Pilatus100k\n"
            "Detector_config: {\"pixel1\": 0.000172, \"pixel2\": 0.000172, \"orientation\": 1}\n"
            "Distance: 0.1\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\nWavelength: 1e-10\n");
}

TEST(Poni, DictionaryHasPyfaisKeysInItsOrder) {
  Geometry geometry;
  geometry.detector = make_detector("Pilatus100k");
  geometry.wavelength_m = 1e-10;
  const auto json = nlohmann::ordered_json::parse(poni_json(geometry));
  std::string keys;
  for (const auto& [key, value] : json.items()) keys += key + " ";
  EXPECT_EQ(keys, "poni_version dist poni1 poni2 rot1 rot2 rot3 detector detector_config wavelength ");
  EXPECT_EQ(json["poni_version"], 2.1);
  EXPECT_EQ(json["detector"], "Pilatus100k");
  EXPECT_EQ(json["detector_config"].dump(), R"({"pixel1":0.000172,"pixel2":0.000172,"orientation":3})");
  geometry.wavelength_m.reset();
  EXPECT_FALSE(nlohmann::json::parse(poni_json(geometry)).contains("wavelength"));
}

TEST_F(PoniFile, IsWrittenReadAndReplaced) {
  const auto file = in_folder("geometry.poni");
  Geometry geometry;
  geometry.detector = make_detector("Eiger1M");
  geometry.distance_m = 0.3;
  geometry.wavelength_m = 7e-11;
  write_poni(geometry, file);
  expect_same(read_poni(file), geometry);
  geometry.wavelength_m.reset();  // must not shine through from the first file
  write_poni(geometry, file);
  expect_same(read_poni(file), geometry);
}

TEST_F(PoniFile, AbsentFileIsNamedWithTheReason) {
  const auto file = in_folder("absent.poni");
  expect_in(read_error(file), file.string());
  expect_in(read_error(file), "No such file");
}

TEST_F(PoniFile, FolderIsRefused) { expect_in(read_error(in_folder("")), "is a folder"); }

TEST_F(PoniFile, UnreadableFileIsNamedWithTheReason) {
  if (::geteuid() == 0) GTEST_SKIP() << "the superuser may read every file";
  const auto file = in_folder("secret.poni");
  std::ofstream(file) << "Distance: 1\n";
  std::filesystem::permissions(file, std::filesystem::perms::none);
  expect_in(read_error(file), "Permission denied");
}

TEST_F(PoniFile, BinaryAndHugeFilesAreRefused) {
  const auto binary = in_folder("image.poni");
  std::ofstream(binary, std::ios::binary) << std::string(1000, '\0');
  expect_in(read_error(binary), binary.string() + ": found binary data");
  const auto huge = in_folder("huge.poni");
  std::ofstream(huge).put('\n');
  std::filesystem::resize_file(huge, std::uintmax_t{1} << 30U);  // sparse: takes no space
  expect_in(read_error(huge), huge.string() + ": found more than 8 MiB");
}

TEST_F(PoniFile, WritingWhereNothingCanBeWrittenIsAnIoError) {
  Geometry geometry;
  geometry.detector = make_detector("Eiger1M");
  const auto file = in_folder("no/such/folder/x.poni");
  try {
    write_poni(geometry, file);
    FAIL() << "no exception";
  } catch (const IoError& error) {
    expect_in(error.what(), file.string());
    expect_in(error.what(), "No such file");
  }
}

}  // namespace
}  // namespace annulus::integrator
