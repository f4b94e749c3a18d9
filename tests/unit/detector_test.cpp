// Detectors: masks equal to pyFAI's pixel by pixel, names as people write them, configurations that come back.
#include "integrator/detector.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>

#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "tests/unit/pyfai_reference.hpp"

namespace annulus::integrator {
namespace {

/// CRC-32 of ISO 3309 (polynomial 0xedb88320, reflected), as zlib computes it.
std::uint32_t crc32(std::span<const std::uint8_t> bytes) {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1U) ^ ((rest & 1U) != 0 ? 0xedb88320U : 0U);
    table[byte] = rest;
  }
  std::uint32_t sum = 0xffffffffU;
  for (const std::uint8_t byte : bytes) sum = (sum >> 8U) ^ table[(sum ^ byte) & 0xffU];
  return ~sum;
}

std::uint64_t masked_pixels(const Detector& detector) {
  const auto mask = detector.mask();
  return std::accumulate(mask.begin(), mask.end(), std::uint64_t{0});
}

/// The message of the InputError that the call throws; "" when it throws none.
std::string error_of(std::string_view name, std::string_view config = "") {
  try {
    static_cast<void>(make_detector(name, config));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect_in(const std::string& message, std::string_view part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

TEST(Detector, ChecksumOfTheTestsIsZlibs) {
  const std::array<std::uint8_t, 9> digits = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  EXPECT_EQ(crc32(digits), 0xcbf43926U);  // the check value of CRC-32/ISO-HDLC
}

TEST(Detector, MasksOfAllModelsArePyfais) {
  for (const test::MaskReference& reference : test::mask_references) {
    SCOPED_TRACE(reference.name);
    const Detector detector = make_detector(reference.name);
    EXPECT_EQ(detector.name, reference.name);
    EXPECT_EQ(detector.rows, reference.rows);
    EXPECT_EQ(detector.columns, reference.columns);
    EXPECT_EQ(detector.pixel1_m, reference.pixel_m);
    EXPECT_EQ(detector.pixel2_m, reference.pixel_m);
    EXPECT_TRUE(detector.photon_counting);
    const auto mask = detector.mask();
    EXPECT_EQ(std::accumulate(mask.begin(), mask.end(), std::uint64_t{0}), reference.masked);
    EXPECT_EQ(crc32(mask), reference.crc32);
  }
}

TEST(Detector, EveryModelWithAShapeIsCompared) {
  std::size_t with_shape = 0;
  for (const std::string& name : detector_names()) with_shape += make_detector(name).has_shape() ? 1 : 0;
  EXPECT_EQ(with_shape, test::mask_references.size());
}

TEST(Detector, Eiger4MMaskHas250330Pixels) {
  // 3 gaps of 37 rows, 1 of 10 columns: 111 * 2070 + 10 * 2167 - 111 * 10.
  EXPECT_EQ(masked_pixels(make_detector("Eiger4M")), 250330U);
}

TEST(Detector, CdteSeamsAreMaskedBesideTheGaps) {
  // One module each: 2, 3 and 1 columns over its height.
  EXPECT_EQ(masked_pixels(make_detector("Eiger2CdTe_500k")), 2U * 512);
  EXPECT_EQ(masked_pixels(make_detector("PilatusCdTe", R"({"max_shape": [195, 487]})")), 3U * 195);
  EXPECT_EQ(masked_pixels(make_detector("Pilatus4_CdTe", R"({"max_shape": [255, 513]})")), 255U);
}

TEST(Detector, BinnedPixelIsMaskedWhenAnyOfItsPartsIs) {
  // 2 x 2 binning of Pilatus 300k-wide's columns, gaps at 487..493 and 981..987: pixels 243..246 and 490..493. Of the
  // odd 1475 columns the last is lost; rows have no gap.
  const Detector detector = make_detector("Pilatus300kw", R"({"pixel1": 0.000344, "pixel2": 0.000344})");
  EXPECT_EQ(detector.rows, 97U);
  EXPECT_EQ(detector.columns, 737U);
  const auto mask = detector.mask();
  for (std::uint32_t column = 0; column < detector.columns; ++column) {
    const bool in_gap = (column >= 243 && column <= 246) || (column >= 490 && column <= 493);
    EXPECT_EQ(mask[column], in_gap ? 1 : 0) << column;
  }
  EXPECT_EQ(masked_pixels(detector), 8U * 97);
}

TEST(Detector, PlainDetectorHasNoMask) {
  const Detector detector = make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": [3, 4]})");
  EXPECT_EQ(detector.name, "Detector");
  EXPECT_EQ(detector.pixel1_m, 1e-4);
  EXPECT_EQ(detector.pixel2_m, 2e-4);
  EXPECT_EQ(detector.orientation, Orientation::bottom_right);
  EXPECT_FALSE(detector.photon_counting);
  EXPECT_EQ(detector.mask(), std::vector<std::uint8_t>(12, 0));
}

TEST(Detector, PlainDetectorNeedsNoShape) {
  const Detector detector = make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": null})");
  EXPECT_FALSE(detector.has_shape());
  EXPECT_TRUE(detector.mask().empty());
}

TEST(Detector, NamesAreFoundHoweverTheyAreWritten) {
  const std::array<std::array<std::string_view, 2>, 10> spellings = {{{"pilatus 1m", "Pilatus1M"},
                                                                      {"PILATUS_1M", "Pilatus1M"},
                                                                      {"Eiger2 CdTe 1M-W", "Eiger2CdTe_1MW"},
                                                                      {"eiger21m-w", "Eiger2_1MW"},
                                                                      {"Pilatus CdTe 2M", "PilatusCdTe2M"},
                                                                      {"Pilatus 2M CdTe", "PilatusCdTe2M"},
                                                                      {"Pilatus2MCdTe", "PilatusCdTe2M"},
                                                                      {"pilatus4_4m_cdte", "Pilatus4_CdTe_4M"},
                                                                      {"eiger 500k", "Eiger500k"},
                                                                      {"detector", "Detector"}}};
  for (const auto& [written, name] : spellings) EXPECT_EQ(make_detector(written).name, name) << written;
}

TEST(Detector, EveryNameFindsItself) {
  const auto names = detector_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(names.size(), test::mask_references.size() + 7 + 1);  // + the families' own names + the plain detector
  for (const std::string& name : names) EXPECT_EQ(make_detector(name).name, name);
}

TEST(Detector, UnknownNameNamesNearOnes) {
  const std::string message = error_of("Pilatsu1M");
  expect_in(message, "'Pilatsu1M'");
  expect_in(message, "did you mean Pilatus1M");
  expect_in(error_of("Eiger3 4M"), "Eiger2_4M");
  const std::string far = error_of("Perkin Elmer XRD 1621");
  EXPECT_EQ(far.find("did you mean"), std::string::npos) << far;
  expect_in(far, "pixel1, pixel2 and max_shape");
  expect_in(error_of(""), "unknown detector ''");
}

TEST(Detector, OrientationIsReadAndZeroMeansThree) {
  EXPECT_EQ(make_detector("Eiger4M").orientation, Orientation::bottom_right);
  EXPECT_EQ(make_detector("Eiger4M", R"({"orientation": 0})").orientation, Orientation::bottom_right);
  EXPECT_EQ(make_detector("Eiger4M", R"({"orientation": 1})").orientation, Orientation::top_left);
  EXPECT_EQ(make_detector("Eiger4M", R"({"orientation": 2})").orientation, Orientation::top_right);
  EXPECT_EQ(make_detector("Eiger4M", R"({"Orientation": 4})").orientation, Orientation::bottom_left);
  for (const char* config : {R"({"orientation": 5})", R"({"orientation": "top"})", R"({"orientation": -1})"}) {
    expect_in(error_of("Eiger4M", config), "Eiger4M: orientation");
  }
}

TEST(Detector, ConfigurationsComeBack) {
  const std::array<std::array<std::string_view, 2>, 8> cases = {{
      {"Eiger4M", ""},
      {"Pilatus1M", R"({"orientation": 2})"},
      {"Pilatus", R"({"max_shape": [619, 1475]})"},
      {"Pilatus1M", R"({"max_shape": [195, 487], "orientation": 4})"},
      {"Eiger2CdTe_4M", R"({"pixel1": 0.00015, "pixel2": 0.00015})"},
      {"Eiger2CdTe", R"({"pixel1": 0.00015, "pixel2": 0.000225, "max_shape": [1063, 2069]})"},
      {"Detector", R"({"pixel1": 0.00012345678901234567, "pixel2": 1e-4, "max_shape": [7, 5], "orientation": 1})"},
      {"Detector", R"({"pixel1": 1e-4, "pixel2": 1e-4})"},
  }};
  for (const auto& [name, config] : cases) {
    const Detector detector = make_detector(name, config);
    const std::string text = config_json_of(detector);
    SCOPED_TRACE(text);
    const Detector again = make_detector(detector.name, text);
    EXPECT_EQ(again.rows, detector.rows);
    EXPECT_EQ(again.columns, detector.columns);
    EXPECT_EQ(again.pixel1_m, detector.pixel1_m);
    EXPECT_EQ(again.pixel2_m, detector.pixel2_m);
    EXPECT_EQ(again.orientation, detector.orientation);
    EXPECT_EQ(again.mask(), detector.mask());
  }
}

TEST(Detector, ConfigurationHoldsNoMoreThanNeeded) {
  EXPECT_EQ(config_json_of(make_detector("Eiger4M")), R"({"pixel1": 7.5e-05, "pixel2": 7.5e-05})");
  const std::string_view all = R"({"pixel1": 0.0001, "pixel2": 0.25, "max_shape": [7, 5], "orientation": 1})";
  EXPECT_EQ(config_json_of(make_detector("Detector", all)), all);
}

TEST(Detector, SensorIsAcceptedAndChangesNothing) {
  const Detector detector = make_detector("Pilatus1M", R"({"sensor": {"material": "Si", "thickness": 0.00032}})");
  EXPECT_EQ(config_json_of(detector), config_json_of(make_detector("Pilatus1M")));
}

TEST(Detector, ConfigurationThatCannotBeHonouredIsRefused) {
  expect_in(error_of("Eiger4M", "pixel1"), "expected a JSON object");
  expect_in(error_of("Eiger4M", "[1]"), "expected a JSON object");
  expect_in(error_of("Eiger4M", R"({"binning": [2, 2]})"), "'binning'");
  expect_in(error_of("Eiger4M", R"({"module_size": [514, 1]})"), "expected [514, 1030]");
  EXPECT_EQ(error_of("Eiger4M", R"({"module_size": [514, 1030]})"), "");
  expect_in(error_of("Detector", R"({"splineFile": "f.spline"})"), "splineFile: found \"f.spline\"");
  EXPECT_EQ(error_of("Detector", R"({"splineFile": null})"), "");
  expect_in(error_of("Pilatus1M", R"({"x_offset_file": "x.cbf"})"), "distorted detectors are not supported");
  for (const char* pixel : {"0", "-1e-4", "\"1e-4\"", "[1e-4, 1e-4]", "true"}) {
    expect_in(error_of("Detector", std::string(R"({"pixel2": )") + pixel + "}"), "Detector: pixel2: found");
  }
  for (const char* shape : {"5", "[5]", "[5, 0]", "[5, 1.5]", "[5, -1]", "[65536, 65536]", "[1e300, 1]", "\"5,5\""}) {
    expect_in(error_of("Detector", std::string(R"({"max_shape": )") + shape + "}"), "Detector: max_shape: found");
  }
  expect_in(error_of("Eiger500k", R"({"pixel1": 1.0})"), "some times that of a binned image");
}

}  // namespace
}  // namespace annulus::integrator
