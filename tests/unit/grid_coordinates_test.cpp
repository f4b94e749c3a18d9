// The coordinates that vector code finds line by line, against those found one by one.
#include "kernels/openmp/grid_coordinates.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "kernels/splitting.hpp"
#include "tests/detectors.hpp"

namespace {
using namespace annulus::kernels;

/// Distance in units of the last place of a number of the size of `expected`.
double ulps(double found, double expected) {
  const double size = std::abs(expected);
  return std::abs(found - expected) / (std::nextafter(size, std::numeric_limits<double>::infinity()) - size);
}

TEST(GridCoordinates, AreThoseFoundOneByOneToFourUlp) {
  std::mt19937_64 random(5);
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  std::size_t points = 0;
  double largest = 0.0;
  for (int geometry = 0; geometry < 300; ++geometry) {
    MatrixSpec spec;
    spec.geometry.rows = 50;
    spec.geometry.columns = 37;
    spec.geometry.pixel1_m = uniform(5e-5, 3e-4);
    spec.geometry.pixel2_m = uniform(5e-5, 3e-4);
    spec.geometry.distance_m = uniform(0.01, 1.0);
    spec.geometry.poni1_m = uniform(-0.02, 0.02);
    spec.geometry.poni2_m = uniform(-0.02, 0.02);
    spec.geometry.wavelength_m = uniform(1e-11, 2e-10);
    const double tilt = uniform(0.0, 2.8);
    const double turn = uniform(-3.1, 3.1);
    spec.geometry.rotation = test::rotation_off_beam(tilt, turn);
    spec.geometry.flip1 = random() % 2 == 0;
    spec.geometry.flip2 = random() % 2 == 0;
    spec.cut = random() % 2 == 0 ? AzimuthCut::at_pi : AzimuthCut::at_zero;
    for (const RadialSpace space : {RadialSpace::two_theta, RadialSpace::q, RadialSpace::r}) {
      spec.space = space;
      ASSERT_TRUE(openmp::has_fast_coordinates(spec));
      const double row = static_cast<double>(random() % 51);
      for (const double first_column : {0.0, 0.5}) {
        std::vector<double> radius(38);
        std::vector<double> azimuth(38);
        openmp::line_coordinates(spec, row, first_column, radius, azimuth);
        for (std::size_t place = 0; place < radius.size(); ++place) {
          const Position position = grid_position(spec.geometry, row, first_column + static_cast<double>(place));
          largest = std::max(largest, ulps(radius[place], radial_coordinate(spec, position)));
          largest = std::max(largest, ulps(azimuth[place], azimuthal_coordinate(spec, position)));
          ++points;
        }
      }
    }
  }
  EXPECT_EQ(points, 300U * 3U * 2U * 38U);
  // The rational function 1, three reflections half a unit each, the quotient half, and those found one by one half.
  EXPECT_LE(largest, 4.0);
  EXPECT_GT(largest, 0.0);
}

TEST(GridCoordinates, LeaveOtherPixelsAndSpacesToTheGeneralCode) {
  MatrixSpec spec;
  spec.space = RadialSpace::log_q_nm;
  EXPECT_FALSE(openmp::has_fast_coordinates(spec));
  spec.space = RadialSpace::q;
  const std::vector<float> vertices(12);
  spec.geometry.vertices = vertices;
  EXPECT_FALSE(openmp::has_fast_coordinates(spec));
  spec.geometry.vertices = {};
  const std::vector<double> parallax(parallax_nodes);
  spec.geometry.parallax_m = parallax;
  EXPECT_FALSE(openmp::has_fast_coordinates(spec));
}

}  // namespace
