// Detectors: masks and corners equal to pyFAI's, names as people write them, binned images, configurations that come
// back.
#include "integrator/detector.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "tests/unit/pyfai_detector_reference.hpp"

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

/// Names of the families, which have any shape.
constexpr std::array<std::string_view, 7> family_names = {"Eiger",       "Eiger2",   "Eiger2CdTe",   "Pilatus",
                                                          "PilatusCdTe", "Pilatus4", "Pilatus4_CdTe"};

/// Largest difference of two roundings to float32 of coordinates that differ by float64's rounding alone: one unit in
/// the last place of a coordinate of up to 2 m.
constexpr double one_ulp_m = 2.4e-7 / 2;

void expect_corners(const Detector& detector, const test::CornerReference& reference, double tolerance_m) {
  SCOPED_TRACE(fmt::format("{}, orientation {}", reference.name, reference.orientation));
  ASSERT_EQ(detector.rows, reference.rows);
  ASSERT_EQ(detector.columns, reference.columns);
  ASSERT_TRUE(detector.vertices);
  const std::vector<float>& vertices = *detector.vertices;
  ASSERT_EQ(vertices.size(), std::size_t{detector.rows} * detector.columns * 12);
  std::array<double, 12> sums{};
  double weights = 0.0;
  std::size_t place = 0;
  for (std::size_t row = 0; row < detector.rows; ++row) {
    for (std::size_t column = 0; column < detector.columns; ++column) {
      const auto weight = static_cast<double>((row * 31 + column * 17) % 101);
      weights += weight;
      for (double& sum : sums) sum += weight * static_cast<double>(vertices[place++]);
    }
  }
  for (std::size_t value = 0; value < sums.size(); ++value) {
    // Differences of single pixels average out; what is left is theirs, and the order of float64 sums.
    EXPECT_NEAR(sums[value] / weights, reference.weighted_means_m[value], tolerance_m * 0.05) << value;
  }
  const std::array<std::array<std::int64_t, 2>, 4> samples = {{{0, 0}, {1, 2}, {-1, -1}, {-2, 3}}};
  for (std::size_t sample = 0; sample < samples.size(); ++sample) {
    const std::int64_t row = samples[sample][0] + (samples[sample][0] < 0 ? detector.rows : 0);
    const std::int64_t column = samples[sample][1] + (samples[sample][1] < 0 ? detector.columns : 0);
    for (std::size_t value = 0; value < 12; ++value) {
      const auto at = static_cast<std::size_t>(row * detector.columns + column) * 12 + value;
      EXPECT_NEAR(vertices[at], reference.samples_m[sample * 12 + value], tolerance_m) << row << " " << column;
    }
  }
}

TEST(Detector, ModelsArePyfais) {
  std::size_t with_vertices = 0;
  for (const test::DetectorReference& reference : test::detector_references) {
    SCOPED_TRACE(reference.name);
    const Detector detector = make_detector(reference.name);
    EXPECT_EQ(detector.name, reference.name);
    EXPECT_EQ(detector.rows, reference.rows);
    EXPECT_EQ(detector.columns, reference.columns);
    EXPECT_EQ(detector.pixel1_m, reference.pixel1_m);
    EXPECT_EQ(detector.pixel2_m, reference.pixel2_m);
    EXPECT_EQ(detector.dummy.has_value(), !std::isnan(reference.dummy));
    EXPECT_EQ(detector.dummy.value_or(0.0), std::isnan(reference.dummy) ? 0.0 : reference.dummy);
    EXPECT_EQ(detector.delta_dummy, reference.delta_dummy);
    EXPECT_FALSE(detector.sensor.has_value());
    std::string sensors;
    for (const Sensor& sensor : known_sensors(detector)) {
      sensors += fmt::format("{}{}:{:.0f}", sensors.empty() ? "" : " ", sensor.material, sensor.thickness_m * 1e6);
    }
    EXPECT_EQ(sensors, reference.sensors);
    const auto mask = detector.mask();
    ASSERT_EQ(mask.size(), std::size_t{detector.rows} * detector.columns);
    EXPECT_EQ(std::accumulate(mask.begin(), mask.end(), std::uint64_t{0}), reference.masked);
    // All pixels, when none is masked: the sum of 90 million zeros tells no more.
    if (reference.masked != 0) {
      EXPECT_EQ(crc32(mask), reference.crc32);
    }
    // Here, so that each is made once: Aarhus and Rapid take 0.8 and 0.6 GB.
    const auto corners = std::ranges::find_if(test::corner_references, [&](const test::CornerReference& known) {
      return known.name == reference.name && known.orientation == 3;
    });
    if (corners == test::corner_references.end()) {
      EXPECT_EQ(detector.vertices, nullptr);
    } else {
      ++with_vertices;
      expect_corners(detector, *corners, one_ulp_m);
    }
  }
  EXPECT_EQ(with_vertices, 10U);
}

TEST(Detector, EveryModelIsComparedAndNoneOfPyfaisIsMissing) {
  std::vector<std::string> compared{"Detector"};
  for (const test::DetectorReference& reference : test::detector_references) compared.emplace_back(reference.name);
  compared.insert(compared.end(), family_names.begin(), family_names.end());
  std::ranges::sort(compared);
  EXPECT_EQ(detector_names(), compared);
  EXPECT_EQ(test::detector_references.size(), 105U);
}

TEST(Detector, DectrisCountsPhotonsAndOthersMayNot) {
  EXPECT_TRUE(make_detector("Eiger2CdTe_1MW").photon_counting);
  EXPECT_TRUE(make_detector("Pilatus4").photon_counting);
  for (const char* name : {"Mythen", "Jungfrau4M", "Perkin", "Lambda250k", "Detector"}) {
    EXPECT_FALSE(make_detector(name).photon_counting) << name;
  }
}

TEST(Detector, OrientedCornersArePyfais) {
  std::size_t compared = 0;
  for (const test::CornerReference& reference : test::corner_references) {
    if (reference.orientation == 3) continue;
    ++compared;
    expect_corners(make_detector(reference.name, fmt::format(R"({{"orientation": {}}})", reference.orientation)),
                   reference, one_ulp_m);
  }
  EXPECT_EQ(compared, 3U);
}

TEST(Detector, OrientationTurnsEveryDetectorsCorners) {
  const auto corner = [](const Detector& detector, std::size_t row, std::size_t column, std::size_t index) {
    const float* vertex = detector.vertices->data() + ((row * detector.columns + column) * 4 + index) * 3;
    return std::array{vertex[0], vertex[1], vertex[2]};
  };
  for (const char* name : {"Jungfrau", "Xpad_flat", "Cirpad", "ImXPadS70"}) {
    SCOPED_TRACE(name);
    const Detector native = make_detector(name);
    const Detector turned1 = make_detector(name, R"({"orientation": 1})");
    const Detector turned2 = make_detector(name, R"({"orientation": 2})");
    const Detector turned4 = make_detector(name, R"({"orientation": 4})");
    const std::size_t row = 3;
    const std::size_t column = 5;
    const std::size_t last_row = native.rows - 1;
    const std::size_t last_column = native.columns - 1;
    // (0, 0) of a pixel that counts rows from the other end is (1, 0) of the one that does not, and so on.
    EXPECT_EQ(corner(turned2, row, column, 0), corner(native, last_row - row, column, 1));
    EXPECT_EQ(corner(turned2, row, column, 3), corner(native, last_row - row, column, 2));
    EXPECT_EQ(corner(turned4, row, column, 0), corner(native, row, last_column - column, 3));
    EXPECT_EQ(corner(turned4, row, column, 1), corner(native, row, last_column - column, 2));
    EXPECT_EQ(corner(turned1, row, column, 0), corner(native, last_row - row, last_column - column, 2));
    EXPECT_EQ(corner(turned1, row, column, 1), corner(native, last_row - row, last_column - column, 3));
    EXPECT_EQ(*oriented_to(turned1, Orientation::bottom_left).vertices, *turned4.vertices);
    EXPECT_EQ(*oriented_to(turned2, Orientation::bottom_right).vertices, *native.vertices);
  }
}

TEST(Detector, RadiusOfABentDetectorIsTaken) {
  const Detector near = make_detector("Aarhus", R"({"max_shape": [2, 3], "radius": 0.001, "pixel2": 0.0005})");
  ASSERT_EQ(near.vertices->size(), 2U * 3 * 12);
  // The last corner: 1.5 rad on a circle of 1 mm that touches z = 0 at x = 0.
  const float* corner = near.vertices->data() + (2 * 3 - 1) * 12 + 2 * 3;
  EXPECT_FLOAT_EQ(corner[0], static_cast<float>(1e-3 * (std::cos(1.5) - 1.0)));
  EXPECT_FLOAT_EQ(corner[1], static_cast<float>(2 * 24.893e-6));
  EXPECT_FLOAT_EQ(corner[2], static_cast<float>(1e-3 * std::sin(1.5)));
  expect_in(error_of("Eiger4M", R"({"radius": 0.3})"), "'radius'");
}

TEST(Detector, BinnedImagesAreRecognisedAsPyfaiDoes) {
  std::size_t fitting = 0;
  for (const test::BinningReference& reference : test::binning_references) {
    SCOPED_TRACE(fmt::format("{} {} x {}", reference.name, reference.rows, reference.columns));
    const Detector detector = make_detector(reference.name);
    const std::optional<Detector> binned = binned_to(detector, reference.rows, reference.columns);
    ASSERT_EQ(binned.has_value(), reference.fits);
    if (!binned) continue;
    ++fitting;
    EXPECT_EQ(binned->rows, reference.rows);
    EXPECT_EQ(binned->columns, reference.columns);
    EXPECT_DOUBLE_EQ(binned->pixel1_m, reference.pixel1_m);
    EXPECT_DOUBLE_EQ(binned->pixel2_m, reference.pixel2_m);
    const auto mask = binned->mask();
    EXPECT_EQ(std::accumulate(mask.begin(), mask.end(), std::uint64_t{0}), reference.masked);
    EXPECT_EQ(crc32(mask), reference.crc32);
    // And back, and by its configuration.
    const std::optional<Detector> again = binned_to(*binned, detector.rows, detector.columns);
    ASSERT_TRUE(again);
    EXPECT_DOUBLE_EQ(again->pixel1_m, detector.pixel1_m);
    EXPECT_EQ(again->mask(), detector.mask());
    const Detector configured = make_detector(binned->name, config_json_of(*binned));
    EXPECT_EQ(configured.rows, binned->rows);
    EXPECT_EQ(configured.columns, binned->columns);
    EXPECT_EQ(configured.mask(), mask);
  }
  EXPECT_EQ(fitting, 26U);
}

TEST(Detector, BinnedVerticesAreTheOuterCorners) {
  const Detector detector = make_detector("ImXPadS140");
  const Detector binned = binned_to(detector, 80, 112).value();  // 3 x 5 pixels each
  ASSERT_EQ(binned.vertices->size(), 80U * 112 * 12);
  const auto corner = [](const Detector& of, std::size_t row, std::size_t column, std::size_t index) {
    const float* vertex = of.vertices->data() + ((row * of.columns + column) * 4 + index) * 3;
    return std::array{vertex[1], vertex[2]};
  };
  EXPECT_EQ(corner(binned, 7, 9, 0), corner(detector, 21, 45, 0));
  EXPECT_EQ(corner(binned, 7, 9, 1), corner(detector, 23, 45, 1));
  EXPECT_EQ(corner(binned, 7, 9, 2), corner(detector, 23, 49, 2));
  EXPECT_EQ(corner(binned, 7, 9, 3), corner(detector, 21, 49, 3));
  EXPECT_EQ(*binned_to(binned, 240, 560)->vertices, *detector.vertices);
}

TEST(Detector, ImagesOfOtherShapesAreNotTakenForBinnedOnes) {
  for (const auto& [rows, columns] : {std::pair{2161U, 2068U}, {4324U, 4136U}, {1U, 1U}, {0U, 5U}, {2068U, 2162U}}) {
    const bool fits = rows == 1;  // one pixel of all of them: absurd, but so the rule has it
    EXPECT_EQ(binned_to(make_detector("Eiger2_4M"), rows, columns).has_value(), fits) << rows << " " << columns;
  }
  EXPECT_FALSE(binned_to(make_detector("Detector", R"({"pixel1": 1, "pixel2": 1, "max_shape": [4, 4]})"), 2, 2));
}

TEST(Detector, PlainDetectorWithoutAShapeTakesTheImages) {
  const auto detector = binned_to(make_detector("Detector", R"({"pixel1": 1e-4, "pixel2": 1e-4})"), 7, 9);
  ASSERT_TRUE(detector);
  EXPECT_EQ(detector->rows, 7U);
  EXPECT_EQ(detector->columns, 9U);
  EXPECT_EQ(detector->pixel1_m, 1e-4);
}

TEST(Detector, LastLinesThatFillNoBinnedPixelAreLost) {
  const auto detector = binned_to(make_detector("Pilatus300kw"), 97, 737);  // 195 x 1475: pyFAI refuses it
  ASSERT_TRUE(detector);
  EXPECT_EQ(detector->mask(), make_detector("Pilatus300kw", R"({"pixel1": 0.000344, "pixel2": 0.000344})").mask());
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

TEST(Detector, AllOfPyfaisNamesAndAliasesAreFound) {
  for (const test::AliasReference& alias : test::alias_references) {
    // Small ones, so that nothing of size is made.
    const std::string message = error_of(alias.written, R"({"nonesuch": 1})");
    if (alias.name.empty()) {
      expect_in(message, "hexagonal");
    } else {
      expect_in(message, fmt::format("Detector_config of {}: unknown key", alias.name));
    }
  }
  EXPECT_GT(test::alias_references.size(), 400U);
}

TEST(Detector, NamesAreSortedAndFindThemselves) {
  const auto names = detector_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) {
    expect_in(error_of(name, R"({"nonesuch": 1})"), fmt::format("Detector_config of {}:", name));
  }
}

TEST(Detector, UnknownNameNamesNearOnes) {
  const std::string message = error_of("Pilatsu1M");
  expect_in(message, "'Pilatsu1M'");
  expect_in(message, "did you mean Pilatus1M");
  expect_in(error_of("Eiger3 4M"), "Eiger2_4M");
  expect_in(error_of("Perkin Elmr"), "did you mean Perkin?");
  const std::string far = error_of("Rutherford's screen");
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

TEST(Detector, SensorIsKept) {
  const std::string_view config =
      R"({"pixel1": 0.000172, "pixel2": 0.000172, "sensor": {"material": "Si", "thickness": 0.00032}})";
  const Detector detector = make_detector("Pilatus1M", config);
  ASSERT_TRUE(detector.sensor);
  EXPECT_EQ(detector.sensor->material, "Si");
  EXPECT_EQ(detector.sensor->thickness_m, 0.00032);
  EXPECT_EQ(config_json_of(detector), config);
  const Detector thick = make_detector("Pilatus1M", R"({"sensor": {"material": "CdTe"}})");
  EXPECT_EQ(thick.sensor->thickness_m, 0.0);
  for (const char* sensor : {R"("Si")", R"({"thickness": 1})", R"({"material": 3})",
                             R"({"material": "Si", "thickness": -1})", R"({"material": "Si", "size": 1})"}) {
    expect_in(error_of("Pilatus1M", fmt::format(R"({{"sensor": {}}})", sensor)), "Pilatus1M: sensor: found");
  }
}

/// A file that is gone with it.
class TemporaryFile {
 public:
  /// In a folder of its own: tests run side by side.
  TemporaryFile(std::string_view name, std::string_view text) {
    std::string folder = (std::filesystem::temp_directory_path() / "annulus-detector-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) throw std::runtime_error(folder + " cannot be made");
    path_ = std::filesystem::path(folder) / name;
    std::ofstream(path_, std::ios::binary) << text;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove_all(path_.parent_path(), ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// pyFAI evaluates splines in float32: displacements of some pixels of 48 um, and places of up to 60 pixels, each
/// rounded several times by up to 2^-24 of 3 mm.
constexpr double spline_tolerance_m = 5 * 3e-3 / (1 << 24);

TEST(Detector, SplineFileDisplacesCornersAsPyfaiDoes) {
  const TemporaryFile file("made-up.spline", test::spline_text);
  const Detector detector = make_detector("Detector", fmt::format(R"({{"splineFile": "{}"}})", file.path().string()));
  expect_corners(detector, test::spline_reference, spline_tolerance_m);
  EXPECT_DOUBLE_EQ(detector.pixel1_m, test::spline_pixel1_m);
  EXPECT_DOUBLE_EQ(detector.pixel2_m, test::spline_pixel2_m);
  EXPECT_EQ(masked_pixels(detector), 0U);
  const std::string config = config_json_of(detector);
  const Detector again = make_detector("Detector", config);
  EXPECT_EQ(*again.vertices, *detector.vertices) << config;
  EXPECT_FALSE(binned_to(detector, 22, 30));
  EXPECT_TRUE(binned_to(detector, 44, 60));
}

TEST(Detector, FrelonIsMaskedWhereItsSplineLeavesTheValidRegion) {
  const TemporaryFile file("made-up.spline", test::spline_text);
  const Detector detector = make_detector("FReLoN", fmt::format(R"({{"splineFile": "{}"}})", file.path().string()));
  const auto mask = detector.mask();
  EXPECT_EQ(std::accumulate(mask.begin(), mask.end(), std::uint64_t{0}), test::frelon_masked);
  EXPECT_EQ(crc32(mask), test::frelon_crc32);
  const Detector turned =
      make_detector("FReLoN", fmt::format(R"({{"splineFile": "{}", "orientation": 1}})", file.path().string()));
  std::vector<std::uint8_t> reversed(mask.rbegin(), mask.rend());
  EXPECT_EQ(turned.mask(), reversed);
}

TEST(Detector, SplineFileIsLookedForBesideWhatNamesIt) {
  const TemporaryFile file("made-up.spline", test::spline_text);
  const std::string config = fmt::format(R"({{"splinefile": "{}"}})", file.path().filename().string());
  EXPECT_THROW(static_cast<void>(make_detector("Detector", config)), InputError);
  DetectorFiles files;
  files.folder = file.path().parent_path();
  EXPECT_EQ(make_detector("Detector", config, files).rows, 44U);
}

TEST(Detector, ConfigurationThatContradictsTheSplineFileIsRefused) {
  const TemporaryFile file("made-up.spline", test::spline_text);
  const auto message = [&](std::string_view extra) {
    return error_of("Detector", fmt::format(R"({{"splineFile": "{}", {}}})", file.path().string(), extra));
  };
  EXPECT_EQ(message(R"("pixel1": 4.8082e-05, "max_shape": [44, 60])"), "");
  expect_in(message(R"("pixel1": 5e-05)"), "Detector: pixel1: found 5e-05 m");
  expect_in(message(R"("max_shape": [60, 44])"), "expected [44, 60]");
}

/// The images of offsets that the reference was made with: hundredths of a pixel, zeros among them.
OffsetImage offsets_of(std::uint32_t rows, std::uint32_t columns, std::uint32_t seed) {
  OffsetImage image{rows, columns, {}};
  for (std::uint32_t pixel = 0; pixel < rows * columns; ++pixel) {
    image.values.push_back(static_cast<double>((pixel * 7 + seed) % 5) - 2.0);
  }
  return image;
}

TEST(Detector, OffsetImagesDisplaceThePixelsOfAPilatusAsPyfaiDoes) {
  DetectorFiles files;
  files.offset = [](const std::filesystem::path& file) { return offsets_of(5, 7, file == "x.edf" ? 3 : 0); };
  const std::string_view offset_files = R"("x_offset_file": "x.edf", "y_offset_file": "y.edf")";
  for (const test::CornerReference& reference : test::offset_references) {
    const Detector detector = make_detector(
        "Pilatus",
        fmt::format(R"({{"max_shape": [5, 7], "orientation": {}, {}}})", reference.orientation, offset_files), files);
    expect_corners(detector, reference, 1.2e-10);  // one unit in the last place of 7 pixels of 172 um
    EXPECT_FALSE(binned_to(detector, 1, 7));
  }
  EXPECT_EQ(test::offset_references.size(), 4U);
}

TEST(Detector, OffsetFilesOfAPilatusAreKeptAndChecked) {
  DetectorFiles files;
  files.offset = [](const std::filesystem::path&) { return offsets_of(195, 487, 0); };
  const std::string_view config = R"({"x_offset_file": "x.edf", "y_offset_file": "y.edf"})";
  EXPECT_EQ(config_json_of(make_detector("Pilatus100k", config, files)),
            R"({"pixel1": 0.000172, "pixel2": 0.000172, "x_offset_file": "x.edf", "y_offset_file": "y.edf"})");
  expect_in(error_of("Pilatus100k", config), "images of offsets cannot be read here");
  expect_in(error_of("Pilatus100k", R"({"x_offset_file": "x.edf"})"), "both or none");
  try {
    static_cast<void>(make_detector("Pilatus200k", config, files));
    FAIL();
  } catch (const InputError& error) {
    expect_in(error.what(), "y.edf: found 195 x 487 pixels, expected 407 x 487 as Pilatus200k has");
  }
}

TEST(Detector, NexusFileIsReadByTheReaderThatIsGiven) {
  DetectorFiles files;
  files.nexus = [](const std::filesystem::path& file) {
    EXPECT_EQ(file.filename(), "my detector.h5");
    Detector read = make_detector("ImXPadS10", R"({"orientation": 2})");
    read.file_mask = std::make_shared<const std::vector<std::uint8_t>>(120 * 80, std::uint8_t{1});
    return read;
  };
  const Detector detector = make_detector("NexusDetector", R"({"filename": "my detector.h5"})", files);
  EXPECT_EQ(detector.name, "NexusDetector");
  EXPECT_EQ(detector.orientation, Orientation::top_right);
  EXPECT_EQ(masked_pixels(detector), 120U * 80);
  EXPECT_EQ(config_json_of(detector),
            R"({"pixel1": 0.00013, "pixel2": 0.00013, "orientation": 2, "filename": "my detector.h5"})");
  const Detector again = make_detector("NexusDetector", config_json_of(detector), files);
  EXPECT_EQ(*again.vertices, *detector.vertices);
  EXPECT_EQ(*make_detector("my detector.h5", "", files).vertices, *detector.vertices);
  EXPECT_EQ(*make_detector("my detector.h5", R"({"orientation": 3})", files).vertices,
            *make_detector("ImXPadS10").vertices);
  const auto message = [&](std::string_view config) -> std::string {
    try {
      static_cast<void>(make_detector("NexusDetector", config, files));
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  expect_in(message("{}"), "filename: found none");
  expect_in(message(R"({"filename": "my detector.h5", "pixel2": 1e-4})"), "pixel2: found 0.0001 m, expected 0.00013 m");
  expect_in(message(R"({"filename": "my detector.h5", "max_shape": [120, 81]})"), "expected [120, 80]");
  expect_in(error_of("NexusDetector", R"({"filename": "d.h5"})"), "'d.h5': NeXus detector files cannot be read here");
}

TEST(Detector, ConfigurationThatCannotBeHonouredIsRefused) {
  expect_in(error_of("Eiger4M", "pixel1"), "expected a JSON object");
  expect_in(error_of("Eiger4M", "[1]"), "expected a JSON object");
  expect_in(error_of("Eiger4M", R"({"binning": [2, 2]})"), "'binning'");
  expect_in(error_of("Eiger4M", R"({"module_size": [514, 1]})"), "expected [514, 1030]");
  EXPECT_EQ(error_of("Eiger4M", R"({"module_size": [514, 1030]})"), "");
  expect_in(error_of("Eiger4M", R"({"splineFile": "f.spline"})"), "splineFile: found \"f.spline\"");
  expect_in(error_of("Detector", R"({"splineFile": "/nonesuch/f.spline"})"), "/nonesuch/f.spline: cannot be opened");
  EXPECT_EQ(error_of("Detector", R"({"splineFile": null})"), "");
  expect_in(error_of("Pilatus4_1M", R"({"x_offset_file": "x.cbf"})"), "do not belong to this detector");
  expect_in(error_of("Detector", R"({"filename": "d.h5"})"), "'filename'");
  expect_in(error_of("ImXPadS10", R"({"pixel1": 0.0002})"), "expected 0.00013 m");
  expect_in(error_of("Cirpad", R"({"max_shape": [560, 120]})"), "expected [11200, 120]");
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
