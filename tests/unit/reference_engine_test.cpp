// The reference backend against cases computed by hand.
#include "kernels/reference/reference_engine.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numbers>
#include <random>

#include "base/errors.hpp"
#include "kernels/splitting.hpp"
#include "tests/detectors.hpp"

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

/// The reference's matrix, its bins, and the weights as they are: float64.
struct Built {
  BinAxes axes;
  reference::Matrix matrix;
};

Built build(const MatrixSpec& spec) {
  const auto shapes = reference::pixel_shapes(spec);
  Built built{reference::bin_axes(spec, shapes), {}};
  built.matrix = reference::build_matrix(spec, shapes, built.axes);
  return built;
}

std::vector<double> dense(const reference::Matrix& matrix) {
  std::vector<double> all(matrix.rows.size() * matrix.columns);
  for (std::size_t row = 0; row < matrix.rows.size(); ++row) {
    for (const auto& [pixel, weight] : matrix.rows[row]) all[row * matrix.columns + pixel] = weight;
  }
  return all;
}

double coordinate(const PixelGeometry& geometry, RadialSpace space, double row, double column) {
  MatrixSpec spec;
  spec.geometry = geometry;
  spec.space = space;
  return radial_coordinate(spec, grid_position(geometry, row, column));
}

/// Bins of width 1 from 0, in both coordinates.
BinAxes unit_bins(std::uint32_t radial, std::uint32_t azimuthal) {
  return {{0.0, static_cast<double>(radial), static_cast<double>(radial), radial},
          {0.0, static_cast<double>(azimuthal), static_cast<double>(azimuthal), azimuthal}};
}

/// Any azimuth, no azimuthal bins.
BinAxis all_azimuths() {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return {-infinity, infinity, infinity, 0};
}

reference::PixelShape quadrilateral(std::array<float, 4> radius, std::array<float, 4> azimuth) {
  reference::PixelShape shape;
  shape.corner_radius = radius;
  shape.corner_azimuth = azimuth;
  for (std::size_t corner = 0; corner < 4; ++corner) {
    shape.radius += 0.25 * radius[corner];
    shape.azimuth += 0.25 * azimuth[corner];
  }
  return shape;
}

TEST(RadialCoordinate, IsTheRadiusAngleAndMomentumTransferOfA345Triangle) {
  const PixelGeometry geometry = plain_geometry(5, 5);
  EXPECT_DOUBLE_EQ(coordinate(geometry, RadialSpace::r, 3.0, 4.0), 5.0);
  EXPECT_DOUBLE_EQ(coordinate(geometry, RadialSpace::two_theta, 3.0, 4.0), std::atan(5.0));
  // q = 4 pi sin(theta) / lambda; lambda = 0.1 nm
  EXPECT_NEAR(coordinate(geometry, RadialSpace::q, 3.0, 4.0),
              4.0 * std::numbers::pi * std::sin(std::atan(5.0) / 2.0) / 0.1, 1e-13);
}

TEST(RadialCoordinate, OtherSpacesFollowFromQ) {
  const PixelGeometry geometry = plain_geometry(5, 5);
  const auto at = [&](RadialSpace space) { return coordinate(geometry, space, 3.0, 4.0); };
  const double q_nm = at(RadialSpace::q);
  EXPECT_DOUBLE_EQ(at(RadialSpace::d), 2e-9 * std::numbers::pi / q_nm);
  EXPECT_DOUBLE_EQ(at(RadialSpace::d_star_squared), std::pow(q_nm / (2.0 * std::numbers::pi), 2));
  EXPECT_DOUBLE_EQ(at(RadialSpace::log10_q_m), std::log10(q_nm) + 9.0);
  EXPECT_DOUBLE_EQ(at(RadialSpace::log_q_nm), std::log(q_nm));
  EXPECT_DOUBLE_EQ(at(RadialSpace::log1p_q_nm), std::log(1.0 + q_nm));
  EXPECT_DOUBLE_EQ(at(RadialSpace::log1p_q_a), std::log(1.0 + q_nm / 10.0));
  EXPECT_DOUBLE_EQ(at(RadialSpace::arcsinh_q_nm), std::asinh(q_nm));
  EXPECT_DOUBLE_EQ(at(RadialSpace::arcsinh_q_a), std::asinh(q_nm / 10.0));
  EXPECT_DOUBLE_EQ(at(RadialSpace::qx), 4.0 * std::numbers::pi / 0.1 * std::sin(std::atan(4.0) / 2.0));
  EXPECT_DOUBLE_EQ(at(RadialSpace::qy), 4.0 * std::numbers::pi / 0.1 * std::sin(std::atan(3.0) / 2.0));
}

TEST(RadialCoordinate, FlippedAxesCountFromTheOtherEnd) {
  PixelGeometry geometry = plain_geometry(5, 7);
  geometry.flip1 = true;
  EXPECT_DOUBLE_EQ(coordinate(geometry, RadialSpace::r, 2.0, 4.0), 5.0);  // 5 - 2 = 3
  geometry.flip1 = false;
  geometry.flip2 = true;
  EXPECT_DOUBLE_EQ(coordinate(geometry, RadialSpace::r, 3.0, 3.0), 5.0);  // 7 - 3 = 4
}

TEST(RadialCoordinate, ATiltOf90DegreesTurnsTheDetectorIntoTheBeamsPlane) {
  PixelGeometry geometry = plain_geometry(5, 5);
  geometry.rotation = {1, 0, 0, 0, 0, -1, 0, 1, 0};  // x = -p3, z = p2
  EXPECT_NEAR(coordinate(geometry, RadialSpace::two_theta, 0.0, 0.0), std::numbers::pi / 2, 1e-15);
}

TEST(RadialCoordinate, ParallaxMovesAPointAlongItsRadius) {
  PixelGeometry geometry = plain_geometry(5, 5);
  const std::vector<double> shift(parallax_nodes, -0.5);  // by half a metre everywhere
  geometry.parallax_m = shift;
  EXPECT_DOUBLE_EQ(coordinate(geometry, RadialSpace::r, 3.0, 4.0), 4.5);
  EXPECT_DOUBLE_EQ(coordinate(geometry, RadialSpace::r, 0.0, 0.0), 0.0);  // no direction to move in
}

TEST(AzimuthalCoordinate, JumpsWhereTheCutIs) {
  const PixelGeometry geometry = plain_geometry(4, 4, 2.0, 2.0);
  MatrixSpec spec;
  spec.geometry = geometry;
  const Position below = grid_position(geometry, 1.0, 2.0);
  EXPECT_DOUBLE_EQ(azimuthal_coordinate(spec, below), -std::numbers::pi / 2);
  spec.cut = AzimuthCut::at_zero;
  EXPECT_DOUBLE_EQ(azimuthal_coordinate(spec, below), 1.5 * std::numbers::pi);
}

TEST(Vertices, GiveTheSamePixelsAsTheGridThatTheyDescribe) {
  MatrixSpec spec;
  spec.geometry = plain_geometry(3, 4, 1.25, 0.5);
  const auto expected = reference::pixel_shapes(spec);
  std::vector<float> vertices;
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 4; ++column) {
      for (const auto& [down, right] : {std::pair{0, 0}, {1, 0}, {1, 1}, {0, 1}}) {
        vertices.insert(vertices.end(), {0.0F, static_cast<float>(row + down), static_cast<float>(column + right)});
      }
    }
  }
  spec.geometry.vertices = vertices;
  const auto found = reference::pixel_shapes(spec);
  ASSERT_EQ(found.size(), 12U);
  for (std::size_t pixel = 0; pixel < found.size(); ++pixel) {
    EXPECT_EQ(found[pixel].radius, expected[pixel].radius);
    EXPECT_EQ(found[pixel].corner_radius, expected[pixel].corner_radius);
    EXPECT_EQ(found[pixel].corner_azimuth, expected[pixel].corner_azimuth);
  }
}

using Shares = std::vector<std::pair<std::uint32_t, double>>;

Shares pairs_of(const MatrixSpec& spec, const BinAxes& axes, const reference::PixelShape& shape) {
  Shares found;
  for (const auto& [row, weight] : reference::shares_of(spec, axes, shape)) found.emplace_back(row, weight);
  return found;
}

void expect_shares(const Shares& found, const Shares& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t place = 0; place < expected.size(); ++place) {
    EXPECT_EQ(found[place].first, expected[place].first);
    EXPECT_NEAR(found[place].second, expected[place].second, 1e-15);
  }
}

/// By the reference and by the code that the fast backends share.
void expect_shares_everywhere(const MatrixSpec& spec, const BinAxes& axes, const reference::PixelShape& shape,
                              const Shares& expected) {
  expect_shares(pairs_of(spec, axes, shape), expected);
  const shared::SharedBins bins = shared_bins(spec, axes);
  shared::Footprint footprint;
  Shares found;
  const bool box = !splits_by_area(spec.splitting);
  if (find_footprint(bins, shape.radius, box ? half_width(shape.radius, shape.corner_radius, 0.0) : 0.0, shape.azimuth,
                     box ? half_width(shape.azimuth, shape.corner_azimuth, 2.0 * std::numbers::pi) : 0.0,
                     shape.corner_radius.data(), shape.corner_azimuth.data(), footprint)) {
    for_each_share(footprint, axes.radial.bins,
                   [&](std::uint32_t row, double weight) { found.emplace_back(row, weight); });
  }
  expect_shares(found, expected);
}

TEST(BoxSplitting, APixelOverThreeBinsGivesItsShares) {
  MatrixSpec spec;
  const BinAxes axes{unit_bins(4, 0).radial, all_azimuths()};
  expect_shares_everywhere(spec, axes, quadrilateral({0.5F, 2.5F, 2.5F, 0.5F}, {0, 0, 1, 1}),
                           {{0, 0.25}, {1, 0.5}, {2, 0.25}});
}

TEST(BoxSplitting, OutermostBinsTakeWhatLiesOutsideTheRange) {
  MatrixSpec spec;
  const BinAxes axes{{1.0, 3.0, 3.0, 2}, all_azimuths()};
  expect_shares_everywhere(spec, axes, quadrilateral({0, 4, 4, 0}, {0, 0, 1, 1}), {{0, 0.5}, {1, 0.5}});
}

TEST(BoxSplitting, PixelsOutsideTheRangeGiveNothing) {
  MatrixSpec spec;
  const BinAxes axes{{1.0, 3.0, 3.0, 2}, all_azimuths()};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // Less than one bin below the range: pyFAI would take it.
  expect_shares_everywhere(spec, axes, quadrilateral({0.25F, 0.75F, 0.75F, 0.25F}, {0, 0, 1, 1}), {});
  expect_shares_everywhere(spec, axes, quadrilateral({3.25F, 3.5F, 3.5F, 3.25F}, {0, 0, 1, 1}), {});
  expect_shares_everywhere(spec, axes, quadrilateral({nan, nan, nan, nan}, {0, 0, 1, 1}), {});
}

TEST(BoxSplitting, PyfaisConventionTruncatesTowardsZeroAtTheLowerEdge) {
  MatrixSpec spec;
  spec.convention = Convention::pyfai;
  const BinAxes axes{{1.0, 3.0, 3.0, 2}, all_azimuths()};
  expect_shares(pairs_of(spec, axes, quadrilateral({0.25F, 0.75F, 0.75F, 0.25F}, {0, 0, 1, 1})), {{0, 1.0}});
  expect_shares(pairs_of(spec, axes, quadrilateral({-0.5F, -0.25F, -0.25F, -0.5F}, {0, 0, 1, 1})), {});
}

TEST(BoxSplitting, TwoDimensionsMultiplyTheSharesOfBoth) {
  MatrixSpec spec;
  // Three quarters of the box lie in radial bin 0, a quarter of it in azimuthal bin 1.
  const Shares expected{{0, 0.5625}, {1, 0.1875}, {3, 0.1875}, {4, 0.0625}};
  expect_shares_everywhere(spec, unit_bins(3, 2),
                           quadrilateral({0.25F, 1.25F, 1.25F, 0.25F}, {0.25F, 0.25F, 1.25F, 1.25F}), expected);
}

TEST(BoxSplitting, AnAzimuthalRangeWithoutBinsPicksWholePixels) {
  MatrixSpec spec;
  const BinAxes axes{unit_bins(4, 0).radial, {0.0, 1.0, 1.0, 0}};
  const std::array<float, 4> radius{0.25F, 0.75F, 0.75F, 0.25F};
  expect_shares_everywhere(spec, axes, quadrilateral(radius, {0.75F, 0.75F, 1.75F, 1.75F}), {{0, 1.0}});
  expect_shares_everywhere(spec, axes, quadrilateral(radius, {1.25F, 1.25F, 1.75F, 1.75F}), {});
}

TEST(FullSplitting, ATriangularEdgeGivesAreasInOneDimension) {
  MatrixSpec spec;
  spec.splitting = Splitting::full;
  const BinAxes axes{unit_bins(4, 0).radial, all_azimuths()};
  // A rhombus from r = 0 to 2: half of it on either side of 1. One from 0 to 4: 1/8, 3/8, 3/8, 1/8.
  expect_shares_everywhere(spec, axes, quadrilateral({0, 1, 2, 1}, {0, -1, 0, 1}), {{0, 0.5}, {1, 0.5}});
  expect_shares_everywhere(spec, axes, quadrilateral({0, 2, 4, 2}, {0, -1, 0, 1}),
                           {{0, 0.125}, {1, 0.375}, {2, 0.375}, {3, 0.125}});
}

TEST(FullSplitting, TheSenseOfRotationOfTheCornersDoesNotMatter) {
  MatrixSpec spec;
  spec.splitting = Splitting::full;
  const BinAxes axes{unit_bins(4, 0).radial, all_azimuths()};
  expect_shares_everywhere(spec, axes, quadrilateral({0, 2, 4, 2}, {0, 1, 0, -1}),
                           {{0, 0.125}, {1, 0.375}, {2, 0.375}, {3, 0.125}});
}

TEST(FullSplitting, ARhombusOverNineCellsGivesTheirAreas) {
  MatrixSpec spec;
  spec.splitting = Splitting::full;
  // |x - 1.5| + |y - 1.5| <= 1: area 2. The middle cell is full; each of its neighbours has a triangle of 1/4; none
  // reaches the corners.
  const Shares expected{{1, 0.125}, {3, 0.125}, {4, 0.5}, {5, 0.125}, {7, 0.125}};
  expect_shares_everywhere(spec, unit_bins(3, 3), quadrilateral({0.5F, 1.5F, 2.5F, 1.5F}, {1.5F, 0.5F, 1.5F, 2.5F}),
                           expected);
}

TEST(FullSplitting, WhatLiesOutsideTheRangeIsSharedByWhatLiesInside) {
  MatrixSpec spec;
  spec.splitting = Splitting::full;
  const BinAxes axes{{1.0, 3.0, 3.0, 2}, all_azimuths()};
  expect_shares_everywhere(spec, axes, quadrilateral({0, 2, 4, 2}, {0, -1, 0, 1}), {{0, 0.5}, {1, 0.5}});
  expect_shares_everywhere(spec, axes, quadrilateral({-3, -1, 0.5F, -1}, {0, -1, 0, 1}), {});
}

TEST(FullSplitting, APixelAcrossTheCutBelongsToOneSide) {
  MatrixSpec spec;
  spec.splitting = Splitting::full;
  const double pi = std::numbers::pi;
  // 8 azimuthal bins of pi / 4. Three quarters of the pixel lie below +pi, so all of it goes there.
  const BinAxes axes{unit_bins(2, 0).radial, {-pi, pi, pi, 8}};
  const auto low = static_cast<float>(pi - 0.3);
  const auto high = static_cast<float>(-pi + 0.1);
  expect_shares_everywhere(spec, axes, quadrilateral({0.25F, 0.75F, 0.75F, 0.25F}, {low, low, high, high}),
                           {{14, 1.0}});
}

TEST(FullSplitting, APixelWithoutAreaIsSharedAsItsBox) {
  MatrixSpec spec;
  spec.splitting = Splitting::full;
  const BinAxes axes{unit_bins(4, 0).radial, all_azimuths()};
  expect_shares_everywhere(spec, axes, quadrilateral({0.5F, 1.5F, 1.5F, 0.5F}, {1, 1, 1, 1}), {{0, 0.5}, {1, 0.5}});
}

TEST(PseudoSplitting, ShrinksTheBoxToThePixelsArea) {
  MatrixSpec spec;
  spec.splitting = Splitting::pseudo;
  // A rhombus has half the area of its box: both sides shrink by sqrt(1/2), to 1.5 -+ sqrt(1/2).
  const double side = std::numbers::sqrt2;
  const double outer = (std::sqrt(0.5) - 0.5) / side;
  const double inner = 1.0 / side;
  const Shares expected{{0, outer * outer}, {1, outer * inner}, {2, outer * outer},
                        {3, inner * outer}, {4, inner * inner}, {5, inner * outer},
                        {6, outer * outer}, {7, outer * inner}, {8, outer * outer}};
  expect_shares_everywhere(spec, unit_bins(3, 3), quadrilateral({0.5F, 1.5F, 2.5F, 1.5F}, {1.5F, 0.5F, 1.5F, 2.5F}),
                           expected);
}

TEST(ReferenceMatrix, WithoutSplittingEachPixelIsWholeInTheBinOfItsCentre) {
  MatrixSpec spec;
  spec.geometry = plain_geometry(1, 4, 0.5, 0.0);  // centres at r = 0.5, 1.5, 2.5, 3.5
  spec.space = RadialSpace::r;
  spec.splitting = Splitting::no;
  spec.bins = 3;
  const Built built = build(spec);
  EXPECT_DOUBLE_EQ(built.axes.radial.minimum, 0.5);
  EXPECT_DOUBLE_EQ(built.axes.radial.maximum, 3.5 * (1.0 + 1.1920928955078125e-07));
  // The bins are a float32 epsilon wider than 1, so that 1.5 and 2.5 lie just below the next edge.
  const std::vector<double> expected{1, 1, 0, 0, /**/ 0, 0, 1, 0, /**/ 0, 0, 0, 1};
  EXPECT_EQ(dense(built.matrix), expected);
}

TEST(ReferenceMatrix, BoundingBoxIsTheFarthestCornerOnBothSides) {
  MatrixSpec spec;
  spec.geometry = plain_geometry(1, 1);  // centre r = sqrt(0.5), corners 0, 1, sqrt(2), 1: half width sqrt(0.5)
  spec.space = RadialSpace::r;
  const Built built = build(spec);
  EXPECT_NEAR(built.axes.radial.minimum, 0.0, 1e-7);  // corners are rounded to float32
  EXPECT_NEAR(built.axes.radial.greatest_value, std::numbers::sqrt2, 1e-7);
}

TEST(ReferenceMatrix, AllPixelsMaskedIsAnInputError) {
  const std::vector<std::uint8_t> mask(4, 1);
  MatrixSpec spec;
  spec.geometry = plain_geometry(2, 2);
  spec.mask = mask;
  EXPECT_THROW(build(spec), annulus::InputError);
}

/// A detector anywhere around the sample, with random mask, splitting, space and bins.
MatrixSpec random_spec(std::mt19937_64& random, std::vector<std::uint8_t>& mask) {
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  MatrixSpec spec;
  PixelGeometry& geometry = spec.geometry;
  geometry.rows = static_cast<std::uint32_t>(uniform(1, 9));
  geometry.columns = static_cast<std::uint32_t>(uniform(2, 9));
  geometry.pixel1_m = uniform(1e-4, 4e-3);
  geometry.pixel2_m = uniform(1e-4, 4e-3);
  geometry.distance_m = uniform(0.01, 0.3);
  geometry.poni1_m = uniform(-3.0, 6.0) * geometry.pixel1_m;
  geometry.poni2_m = uniform(-3.0, 6.0) * geometry.pixel2_m;
  geometry.wavelength_m = uniform(1e-11, 2e-10);
  const double tilt = uniform(0.0, 2.5);  // 2theta well beyond 90 degrees
  const double turn = uniform(-3.0, 3.0);
  geometry.rotation = test::rotation_off_beam(tilt, turn);
  geometry.flip1 = random() % 2 == 0;
  geometry.flip2 = random() % 2 == 0;
  constexpr RadialSpace spaces[] = {RadialSpace::two_theta,  RadialSpace::r,          RadialSpace::q,
                                    RadialSpace::log1p_q_nm, RadialSpace::log_q_nm,   RadialSpace::d_star_squared,
                                    RadialSpace::d,          RadialSpace::arcsinh_q_a};
  spec.space = spaces[random() % std::size(spaces)];
  spec.negative_radial = spec.space == RadialSpace::log_q_nm;
  spec.splitting = static_cast<Splitting>(random() % 4);
  spec.bins = static_cast<std::uint32_t>(uniform(1, 40));
  spec.azimuthal_bins = static_cast<std::uint32_t>(random() % 3 == 0 ? 0 : uniform(1, 20));
  spec.cut = random() % 2 == 0 ? AzimuthCut::at_pi : AzimuthCut::at_zero;
  mask.assign(geometry.pixels(), 0);
  for (auto& pixel : mask) pixel = random() % 10 == 0 ? 1 : 0;
  spec.mask = mask;
  return spec;
}

TEST(ReferenceMatrix, ConservesCountsOnRandomGeometries) {
  std::mt19937_64 random(2024);
  std::size_t geometries = 0;
  std::size_t pixels = 0;
  while (geometries < 2000) {
    std::vector<std::uint8_t> mask;
    const MatrixSpec spec = random_spec(random, mask);
    const auto shapes = reference::pixel_shapes(spec);
    Built built;
    try {
      built = build(spec);
    } catch (const annulus::InputError&) {
      continue;  // all masked
    }
    ++geometries;
    const shared::SharedBins bins = shared_bins(spec, built.axes);
    std::vector<double> sums(mask.size());
    for (const auto& row : built.matrix.rows) {
      for (const auto& [pixel, weight] : row) {
        EXPECT_GT(weight, 0.0);
        sums[pixel] += weight;
      }
    }
    for (std::size_t pixel = 0; pixel < mask.size(); ++pixel) {
      const reference::PixelShape& shape = shapes[pixel];
      bool finite = std::isfinite(shape.radius);
      for (const float radius : shape.corner_radius) finite = finite && std::isfinite(radius);
      if (!finite) continue;  // log(0) at the beam itself
      // 1e-12: some 100 shares, each good to 1e-14 of the pixel.
      ASSERT_NEAR(sums[pixel], mask[pixel] != 0 ? 0.0 : 1.0, 1e-12)
          << "pixel " << pixel << " of geometry " << geometries << ", " << name_of(spec.splitting);
      pixels += mask[pixel] == 0;
      if (mask[pixel] != 0) continue;
      // The code that the fast backends share, against polygons that were clipped.
      std::map<std::uint32_t, double> shares;
      for (const auto& [row, weight] : reference::shares_of(spec, built.axes, shape)) shares[row] = weight;
      const bool box = spec.splitting == Splitting::bbox;
      shared::Footprint footprint;
      ASSERT_TRUE(find_footprint(bins, shape.radius, box ? half_width(shape.radius, shape.corner_radius, 0.0) : 0.0,
                                 shape.azimuth,
                                 box ? half_width(shape.azimuth, shape.corner_azimuth, 2.0 * std::numbers::pi) : 0.0,
                                 shape.corner_radius.data(), shape.corner_azimuth.data(), footprint));
      for_each_share(footprint, built.axes.radial.bins, [&](std::uint32_t row, double weight) {
        // Thin slivers of pixels lose digits to cancellation: 1e-9 of a pixel is far below float32.
        EXPECT_NEAR(weight, shares[row], 1e-9) << name_of(spec.splitting);
        shares.erase(row);
      });
      for (const auto& [row, weight] : shares) EXPECT_LT(weight, 1e-9) << "row " << row << " was forgotten";
    }
  }
  EXPECT_GT(pixels, 20'000U);
}

TEST(ReferenceMatrix, PyfaisFloat32AreasConserveCountsToFloat32) {
  std::mt19937_64 random(7);
  std::size_t pixels = 0;
  for (int geometry = 0; geometry < 300; ++geometry) {
    std::vector<std::uint8_t> mask;
    MatrixSpec spec = random_spec(random, mask);
    spec.convention = Convention::pyfai;
    Built built;
    try {
      built = build(spec);
    } catch (const annulus::InputError&) {
      continue;
    }
    std::vector<double> sums(mask.size());
    for (const auto& row : built.matrix.rows) {
      for (const auto& [pixel, weight] : row) sums[pixel] += weight;
    }
    for (std::size_t pixel = 0; pixel < mask.size(); ++pixel) {
      if (mask[pixel] != 0 || sums[pixel] == 0.0) continue;
      EXPECT_NEAR(sums[pixel], 1.0, 1e-12);
      ++pixels;
    }
  }
  EXPECT_GT(pixels, 3'000U);
}

/// Two bins, three pixels: bin 0 = p0 + p1 / 2, bin 1 = p1 / 2 + p2.
reference::Matrix small_matrix() { return {3, {{{0, 1.0}, {1, 0.5}}, {{1, 0.5}, {2, 1.0}}}}; }

template <typename Pixel>
FrameBatch batch_of(const std::vector<Pixel>& values, PixelType type) {
  return {reinterpret_cast<const std::byte*>(values.data()), type, 1, values.size()};
}

void expect_sums(const BinSums& found, const BinSums& expected) {
  EXPECT_DOUBLE_EQ(found.signal, expected.signal);
  EXPECT_DOUBLE_EQ(found.normalisation, expected.normalisation);
  EXPECT_DOUBLE_EQ(found.variance, expected.variance);
  EXPECT_DOUBLE_EQ(found.square, expected.square);
}

TEST(ReferenceSums, AreThoseOfTheFormulas) {
  const std::vector<float> normalisation{2.0F, 4.0F, 8.0F};
  const std::vector<float> dark{1.0F, 2.0F, 3.0F};
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.dark = dark;
  corrections.error_model = ErrorModel::poisson;
  const std::vector<std::uint16_t> frame{10, 20, 0};
  const auto sums = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  ASSERT_EQ(sums.size(), 2U);
  expect_sums(sums[0], {9.0 + 0.5 * 18.0, 2.0 + 2.0, 10.0 + 0.25 * 20.0, 4.0 + 4.0});
  expect_sums(sums[1], {0.5 * 18.0 - 3.0, 2.0 + 8.0, 0.25 * 20.0 + 1.0, 4.0 + 64.0});  // a zero has variance 1
}

TEST(ReferenceSums, LeaveOutBadPixelsEverywhere) {
  const std::vector<float> normalisation{2.0F, 4.0F, 8.0F};
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.error_model = ErrorModel::poisson;
  const std::vector<std::uint16_t> frame{10, 65535, 7};
  const auto sums = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  expect_sums(sums[0], {10.0, 2.0, 10.0, 4.0});
  expect_sums(sums[1], {7.0, 8.0, 7.0, 64.0});
}

TEST(ReferenceSums, AGivenVarianceIsSummedWithTheSquareOfTheShares) {
  const std::vector<float> normalisation{1.0F, 1.0F, 1.0F};
  const std::vector<float> variance{3.0F, 8.0F, 5.0F};
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.variance = variance;
  corrections.error_model = ErrorModel::variance;
  const std::vector<std::uint16_t> frame{10, 20, 30};
  const auto sums = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(sums[0].variance, 3.0 + 0.25 * 8.0);
  EXPECT_DOUBLE_EQ(sums[1].variance, 0.25 * 8.0 + 5.0);
}

TEST(ReferenceSums, TheAzimuthalVarianceIsTheScatterAboutTheMean) {
  const std::vector<float> normalisation{1.0F, 2.0F, 1.0F};
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.error_model = ErrorModel::azimuthal;
  const std::vector<std::uint16_t> frame{10, 40, 30};
  const auto sums = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  // Bin 0: mean (10 + 0.5 * 40) / (1 + 0.5 * 2) = 15; deviations 1 * (10 - 15) and 0.5 * (40 - 2 * 15).
  EXPECT_DOUBLE_EQ(sums[0].variance, 25.0 + 25.0);
  // Bin 1: mean (20 + 30) / 2 = 25; deviations 0.5 * (40 - 50) and 30 - 25.
  EXPECT_DOUBLE_EQ(sums[1].variance, 25.0 + 25.0);
  corrections.convention = Convention::pyfai;
  const auto pyfai = reference::sum_frame(small_matrix(), corrections, batch_of(frame, PixelType::u16), 0);
  // One after the other: bin 0 has w = 1 for the second pixel, value 20, mean 10 before and 15 after it.
  EXPECT_DOUBLE_EQ(pyfai[0].variance, 1.0 * (10.0 - 20.0) * (15.0 - 20.0));
}

/// One bin that holds all pixels.
reference::Matrix one_bin(std::uint32_t pixels) {
  reference::Matrix matrix{pixels, {{}}};
  for (std::uint32_t pixel = 0; pixel < pixels; ++pixel) matrix.rows[0].push_back({pixel, 1.0});
  return matrix;
}

TEST(SigmaClip, LeavesOutAnOutlierAndNoOther) {
  const std::vector<float> normalisation(12, 1.0F);
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.error_model = ErrorModel::azimuthal;
  corrections.filter = SigmaClip{2.5, 5};
  const std::vector<std::uint16_t> frame{9, 11, 9, 11, 9, 11, 9, 11, 9, 11, 10, 1000};
  const auto sums = reference::sum_frame(one_bin(12), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(sums[0].signal, 110.0);
  EXPECT_DOUBLE_EQ(sums[0].normalisation, 11.0);
  EXPECT_DOUBLE_EQ(sums[0].variance, 10.0);
  corrections.error_model = ErrorModel::hybrid;  // clipped by scatter, reported by counts
  const auto hybrid = reference::sum_frame(one_bin(12), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(hybrid[0].variance, 110.0);
  corrections.filter = SigmaClip{2.5, 0};
  const auto none = reference::sum_frame(one_bin(12), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(none[0].signal, 1110.0);
}

TEST(SigmaClip, NeedsSeveralCyclesForOutliersBehindOutliers) {
  const std::vector<float> normalisation(40, 1.0F);
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.filter = SigmaClip{3.0, 1};
  std::vector<std::uint32_t> frame(40);
  for (std::size_t pixel = 0; pixel < 40; ++pixel) frame[pixel] = 100 + pixel % 2;
  frame[5] = 200;
  frame[17] = 1'000'000;
  const auto once = reference::sum_frame(one_bin(40), corrections, batch_of(frame, PixelType::u32), 0);
  EXPECT_DOUBLE_EQ(once[0].normalisation, 39.0);
  corrections.filter = SigmaClip{3.0, 5};
  const auto often = reference::sum_frame(one_bin(40), corrections, batch_of(frame, PixelType::u32), 0);
  EXPECT_DOUBLE_EQ(often[0].normalisation, 38.0);
}

TEST(QuantileRange, TheMedianOfAnOddNumberIsItsMiddle) {
  const std::vector<float> normalisation(5, 1.0F);
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.filter = QuantileRange{};
  const std::vector<std::uint16_t> frame{50, 10, 30, 65535, 20};
  const std::vector<std::uint16_t> five{50, 10, 30, 40, 20};
  const auto odd = reference::sum_frame(one_bin(5), corrections, batch_of(five, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(odd[0].signal, 30.0);
  EXPECT_DOUBLE_EQ(odd[0].normalisation, 1.0);
  // A bad pixel leaves four: the median is the mean of the middle two.
  const auto even = reference::sum_frame(one_bin(5), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(even[0].signal, 50.0);
  EXPECT_DOUBLE_EQ(even[0].normalisation, 2.0);
}

TEST(QuantileRange, KeepsWhatLiesBetweenTheQuantiles) {
  const std::vector<float> normalisation(10, 1.0F);
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.error_model = ErrorModel::poisson;
  corrections.filter = QuantileRange{0.2, 0.7};
  const std::vector<std::uint16_t> frame{9, 0, 8, 1, 7, 2, 6, 3, 5, 4};
  const auto sums = reference::sum_frame(one_bin(10), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(sums[0].signal, 2 + 3 + 4 + 5 + 6);
  EXPECT_DOUBLE_EQ(sums[0].normalisation, 5.0);
  EXPECT_DOUBLE_EQ(sums[0].variance, 20.0);
  corrections.filter = QuantileRange{0.0, 1.0};
  const auto all = reference::sum_frame(one_bin(10), corrections, batch_of(frame, PixelType::u16), 0);
  EXPECT_DOUBLE_EQ(all[0].signal, 45.0);
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
