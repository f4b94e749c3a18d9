// The reference backend against cases computed by hand.
#include "kernels/reference/reference_engine.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/errors.hpp"

namespace {
using namespace annulus::kernels;

/// A detector of 1 m pixels, 1 m away, not tilted, with the beam at (poni1, poni2) pixels.
PixelGeometry plain_geometry(std::uint32_t rows, std::uint32_t columns, double poni1 = 0.0, double poni2 = 0.0) {
  PixelGeometry geometry;
  geometry.rows = rows;
  geometry.columns = columns;
  geometry.pixel1_m = geometry.pixel2_m = 1.0;
  geometry.distance_m = 1.0;
  geometry.poni1_m = poni1;
  geometry.poni2_m = poni2;
  geometry.wavelength_m = 1e-10;
  geometry.rotation = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  return geometry;
}

std::vector<double> dense(const CsrMatrix& matrix) {
  std::vector<double> all(std::size_t{matrix.rows} * matrix.columns);
  for (std::uint32_t bin = 0; bin < matrix.rows; ++bin) {
    for (std::uint64_t entry = matrix.offsets[bin]; entry < matrix.offsets[bin + 1]; ++entry) {
      all[std::size_t{bin} * matrix.columns + matrix.pixels[entry]] = matrix.weights[entry];
    }
  }
  return all;
}

CsrMatrix matrix_of(const MatrixSpec& spec, BinAxis* axis_out = nullptr) {
  const auto intervals = reference::pixel_intervals(spec.geometry, spec.space, spec.splitting);
  const BinAxis axis = reference::bin_axis(spec, intervals);
  if (axis_out != nullptr) *axis_out = axis;
  return reference::build_matrix(spec, intervals, axis);
}

TEST(RadialPosition, IsTheRadiusAngleAndMomentumTransferOfA345Triangle) {
  const PixelGeometry geometry = plain_geometry(5, 5);
  EXPECT_DOUBLE_EQ(radial_position(geometry, RadialSpace::r, 3.0, 4.0), 5.0);
  EXPECT_DOUBLE_EQ(radial_position(geometry, RadialSpace::two_theta, 3.0, 4.0), std::atan(5.0));
  // q = 4 pi sin(theta) / lambda; lambda = 0.1 nm
  EXPECT_NEAR(radial_position(geometry, RadialSpace::q, 3.0, 4.0),
              4.0 * std::numbers::pi * std::sin(std::atan(5.0) / 2.0) / 0.1, 1e-13);
}

TEST(RadialPosition, FlippedAxesCountFromTheOtherEnd) {
  PixelGeometry geometry = plain_geometry(5, 7);
  geometry.flip1 = true;
  EXPECT_DOUBLE_EQ(radial_position(geometry, RadialSpace::r, 2.0, 4.0), 5.0);  // 5 - 2 = 3
  geometry.flip1 = false;
  geometry.flip2 = true;
  EXPECT_DOUBLE_EQ(radial_position(geometry, RadialSpace::r, 3.0, 3.0), 5.0);  // 7 - 3 = 4
}

TEST(RadialPosition, ATiltOf90DegreesTurnsTheDetectorIntoTheBeamsPlane) {
  PixelGeometry geometry = plain_geometry(5, 5);
  geometry.rotation = {1, 0, 0, 0, 0, -1, 0, 1, 0};  // x = -p3, z = p2
  EXPECT_NEAR(radial_position(geometry, RadialSpace::two_theta, 0.0, 0.0), std::numbers::pi / 2, 1e-15);
}

TEST(SplitInterval, APixelOverThreeBinsGivesItsShares) {
  const BinAxis axis{0.0, 4.0, 4};
  std::vector<std::pair<std::uint32_t, float>> found;
  split_interval({0.5, 2.5}, axis, 1.0, [&](std::uint32_t bin, float weight) { found.emplace_back(bin, weight); });
  const std::vector<std::pair<std::uint32_t, float>> expected{{0, 0.25F}, {1, 0.5F}, {2, 0.25F}};
  EXPECT_EQ(found, expected);
}

TEST(SplitInterval, OutermostBinsTakeWhatLiesOutsideTheRange) {
  const BinAxis axis{1.0, 3.0, 2};
  std::vector<std::pair<std::uint32_t, float>> found;
  split_interval({0.0, 4.0}, axis, 1.0, [&](std::uint32_t bin, float weight) { found.emplace_back(bin, weight); });
  const std::vector<std::pair<std::uint32_t, float>> expected{{0, 0.5F}, {1, 0.5F}};
  EXPECT_EQ(found, expected);
}

TEST(SplitInterval, PixelsOutsideTheRangeGiveNothing) {
  const BinAxis axis{1.0, 3.0, 2};
  int entries = 0;
  const auto count = [&](std::uint32_t, float) { ++entries; };
  split_interval({0.2, 0.9}, axis, 1.0, count);  // less than one bin below the range: pyFAI would take it
  split_interval({3.0, 3.5}, axis, 1.0, count);
  split_interval({std::nan(""), std::nan("")}, axis, 1.0, count);
  EXPECT_EQ(entries, 0);
}

TEST(ReferenceMatrix, WithoutSplittingEachPixelIsWholeInTheBinOfItsCentre) {
  MatrixSpec spec;
  spec.geometry = plain_geometry(1, 4, 0.5, 0.0);  // centres at r = 0.5, 1.5, 2.5, 3.5
  spec.space = RadialSpace::r;
  spec.splitting = Splitting::no;
  spec.bins = 3;
  BinAxis axis;
  const std::vector<double> found = dense(matrix_of(spec, &axis));
  EXPECT_DOUBLE_EQ(axis.minimum, 0.5);
  EXPECT_DOUBLE_EQ(axis.maximum, 3.5 * (1.0 + 1.1920928955078125e-07));
  // The bins are a float32 epsilon wider than 1, so that 1.5 and 2.5 lie just below the next edge.
  const std::vector<double> expected{1, 1, 0, 0, /**/ 0, 0, 1, 0, /**/ 0, 0, 0, 1};
  EXPECT_EQ(found, expected);
}

TEST(ReferenceMatrix, BoundingBoxIsTheFarthestCornerOnBothSides) {
  MatrixSpec spec;
  spec.geometry = plain_geometry(1, 1);  // centre r = sqrt(0.5), corners 0, 1, sqrt(2), 1: half width sqrt(0.5)
  spec.space = RadialSpace::r;
  const auto intervals = reference::pixel_intervals(spec.geometry, spec.space, Splitting::bbox);
  ASSERT_EQ(intervals.size(), 1U);
  EXPECT_NEAR(intervals[0].lower, 0.0, 1e-7);  // corners are rounded to float32
  EXPECT_NEAR(intervals[0].upper, std::numbers::sqrt2, 1e-7);
}

TEST(ReferenceMatrix, ColumnsSumToOneAndMaskedPixelsHaveNone) {
  const std::vector<std::uint8_t> mask{0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
  MatrixSpec spec;
  spec.geometry = plain_geometry(3, 4, 1.3, 0.2);
  spec.bins = 7;
  spec.mask = mask;
  const CsrMatrix matrix = matrix_of(spec);
  std::vector<double> sums(12);
  for (std::size_t entry = 0; entry < matrix.pixels.size(); ++entry)
    sums[matrix.pixels[entry]] += matrix.weights[entry];
  for (std::size_t pixel = 0; pixel < 12; ++pixel) {
    // At most 8 weights a pixel, each rounded to float32.
    EXPECT_NEAR(sums[pixel], mask[pixel] != 0 ? 0.0 : 1.0, 8 * 6e-8) << "pixel " << pixel;
  }
}

TEST(ReferenceMatrix, AllPixelsMaskedIsAnInputError) {
  const std::vector<std::uint8_t> mask(4, 1);
  MatrixSpec spec;
  spec.geometry = plain_geometry(2, 2);
  spec.mask = mask;
  EXPECT_THROW(matrix_of(spec), annulus::InputError);
}

/// Two bins, three pixels: bin 0 = p0 + p1 / 2, bin 1 = p1 / 2 + p2.
CsrMatrix small_matrix() {
  CsrMatrix matrix;
  matrix.rows = 2;
  matrix.columns = 3;
  matrix.offsets = {0, 2, 4};
  matrix.pixels = {0, 1, 1, 2};
  matrix.weights = {1.0F, 0.5F, 0.5F, 1.0F};
  return matrix;
}

template <typename Pixel>
FrameBatch batch_of(const std::vector<Pixel>& values, PixelType type) {
  return {reinterpret_cast<const std::byte*>(values.data()), type, 1, values.size()};
}

TEST(ReferenceSums, AreThoseOfTheFormulas) {
  const std::vector<float> normalisation{2.0F, 4.0F, 8.0F};
  const std::vector<float> dark{1.0F, 2.0F, 3.0F};
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.dark = dark;
  const std::vector<std::uint16_t> frame{10, 20, 0};
  const auto sums = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_EQ(sums.signal, (std::vector<double>{9.0 + 0.5 * 18.0, 0.5 * 18.0 - 3.0}));
  EXPECT_EQ(sums.normalisation, (std::vector<double>{2.0 + 2.0, 2.0 + 8.0}));
  EXPECT_EQ(sums.variance, (std::vector<double>{10.0 + 0.25 * 20.0, 0.25 * 20.0 + 1.0}));  // a zero counts as 1
}

TEST(ReferenceSums, LeaveOutBadPixelsEverywhere) {
  const std::vector<float> normalisation{2.0F, 4.0F, 8.0F};
  Corrections corrections;
  corrections.normalisation = normalisation;
  const std::vector<std::uint16_t> frame{10, 65535, 7};
  const auto sums = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_EQ(sums.signal, (std::vector<double>{10.0, 7.0}));
  EXPECT_EQ(sums.normalisation, (std::vector<double>{2.0, 8.0}));
  EXPECT_EQ(sums.variance, (std::vector<double>{10.0, 7.0}));
}

TEST(BadPixels, RulesHoldForTheirTypesAlone) {
  BadPixelRules rules;
  EXPECT_TRUE(is_bad(std::numeric_limits<std::uint32_t>::max(), rules));
  EXPECT_FALSE(is_bad(std::uint32_t{65535}, rules));
  EXPECT_FALSE(is_bad(std::numeric_limits<std::int32_t>::max(), rules));
  EXPECT_FALSE(is_bad(std::int32_t{-1}, rules));
  EXPECT_TRUE(is_bad(std::numeric_limits<float>::quiet_NaN(), rules));
  EXPECT_TRUE(is_bad(-std::numeric_limits<float>::infinity(), rules));
  rules.negative = true;
  EXPECT_TRUE(is_bad(std::int32_t{-1}, rules));
  EXPECT_FALSE(is_bad(std::int32_t{0}, rules));
  rules.type_maximum = false;
  EXPECT_FALSE(is_bad(std::uint16_t{65535}, rules));
  rules.dummy_on = true;
  rules.dummy = 10.0;
  rules.delta_dummy = 2.0;
  EXPECT_TRUE(is_bad(std::uint16_t{12}, rules));
  EXPECT_FALSE(is_bad(std::uint16_t{13}, rules));
}

}  // namespace
