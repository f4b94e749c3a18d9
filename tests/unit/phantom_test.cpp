#include "simulation/phantom.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "base/errors.hpp"

namespace annulus::simulation {
namespace {

constexpr double pi = std::numbers::pi;

TEST(Phantom, PathThroughADiskIsItsChord) {
  const Phantom phantom(1, {{.x_mm = 0.3, .y_mm = -0.1, .semi_axis1_mm = 0.5, .semi_axis2_mm = 0.5, .density = 2.0}});
  // At 90 degrees the translation runs along y; 0.3 mm off the centre of a circle of 0.5 mm the half chord is 0.4 mm.
  EXPECT_NEAR(phantom.path_mm(0, 0.5 * pi, -0.1 + 0.3), 2.0 * 0.8, 1e-14);
  EXPECT_NEAR(phantom.path_mm(0, 0.0, 0.3), 2.0 * 1.0, 1e-14);
  EXPECT_EQ(phantom.path_mm(0, 0.0, 0.81), 0.0);
}

TEST(Phantom, PathThroughAnEllipseAlongAnAxisIsTheOtherAxis) {
  const Phantom phantom(1, {{.semi_axis1_mm = 0.5, .semi_axis2_mm = 0.2, .angle_rad = 0.3}});
  // Translation along the first axis: the beam runs along the second.
  EXPECT_NEAR(phantom.path_mm(0, 0.3, 0.0), 0.4, 1e-15);
  EXPECT_NEAR(phantom.path_mm(0, 0.3 + 0.5 * pi, 0.0), 1.0, 1e-15);
}

TEST(Phantom, RingIsHollow) {
  const Phantom phantom(1, {{.semi_axis1_mm = 0.5, .semi_axis2_mm = 0.5, .hollow = 0.8}});
  EXPECT_NEAR(phantom.path_mm(0, 1.0, 0.0), 1.0 - 0.8, 1e-15);
  EXPECT_EQ(phantom.density(0, 0.0, 0.39), 0.0);
  EXPECT_EQ(phantom.density(0, 0.0, 0.41), 1.0);
  EXPECT_EQ(phantom.density(0, 0.0, 0.51), 0.0);
}

TEST(Phantom, PathIsTheIntegralOfTheDensityAlongTheBeam) {
  const Phantom phantom = pellet_phantom();
  const int steps = 20000;
  const double step_mm = 2.0 * phantom.radius_mm() / steps;
  int compared = 0;
  for (std::size_t powder = 0; powder < phantom.powders(); ++powder) {
    for (const double rotation_rad : {0.0, 0.7, 2.1, 3.9}) {
      for (const double translation_mm : {-0.22, 0.015, 0.13, 0.41}) {
        const double cosine = std::cos(rotation_rad);
        const double sine = std::sin(rotation_rad);
        double sum = 0.0;
        for (int step = 0; step < steps; ++step) {
          const double along_mm = (step + 0.5) * step_mm - phantom.radius_mm();
          sum += phantom.density(powder, translation_mm * cosine - along_mm * sine,
                                 translation_mm * sine + along_mm * cosine);
        }
        // Midpoint rule on steps of height <= 1: each of at most 18 edges is missed by up to half a step.
        EXPECT_NEAR(phantom.path_mm(powder, rotation_rad, translation_mm), sum * step_mm, 9.0 * step_mm)
            << "powder " << powder << " at " << rotation_rad << ", " << translation_mm;
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 48);
}

TEST(Phantom, ProjectionHoldsTheSameAmountAtEveryAngle) {
  const Phantom phantom(
      1, {{.x_mm = 0.1, .semi_axis1_mm = 0.3, .semi_axis2_mm = 0.15, .angle_rad = 0.4, .hollow = 0.5, .density = 0.7}});
  const double amount = 0.7 * pi * 0.3 * 0.15 * (1.0 - 0.25);
  const int steps = 4000;
  const double step_mm = 2.0 * phantom.radius_mm() / steps;
  for (int angle = 0; angle < 12; ++angle) {
    double sum = 0.0;
    for (int step = 0; step < steps; ++step) {
      sum += phantom.path_mm(0, angle * pi / 6.0, (step + 0.5) * step_mm - phantom.radius_mm()) * step_mm;
    }
    // The square roots at four edges cost the midpoint rule about h^1.5 each, times a slope of order 2.
    EXPECT_NEAR(sum, amount, 8.0 * std::pow(step_mm, 1.5));
  }
}

TEST(Phantom, HalfATurnMirrorsTheProjection) {
  const Phantom phantom = pellet_phantom();
  for (std::size_t powder = 0; powder < phantom.powders(); ++powder) {
    for (const double translation_mm : {-0.3, -0.02, 0.2}) {
      EXPECT_NEAR(phantom.path_mm(powder, 0.4, translation_mm), phantom.path_mm(powder, 0.4 + pi, -translation_mm),
                  1e-9);  // a chord's square root turns rounding of 1e-16 near an edge into 1e-8 at worst
    }
  }
}

TEST(Phantom, MeanDensityOverAllCellsIsTheAreaOfTheShapes) {
  const Phantom phantom(
      1, {{.x_mm = 0.05, .y_mm = -0.1, .semi_axis1_mm = 0.3, .semi_axis2_mm = 0.2, .hollow = 0.5, .density = 0.5}});
  const int cells = 50;
  const double cell_mm = 1.2 / cells;
  double sum = 0.0;
  for (int row = 0; row < cells; ++row) {
    for (int column = 0; column < cells; ++column) {
      const double x_mm = (column + 0.5) * cell_mm - 0.6;
      const double y_mm = (row + 0.5) * cell_mm - 0.6;
      sum += phantom.mean_density(0, x_mm, y_mm, cell_mm, cell_mm) * cell_mm * cell_mm;
    }
  }
  // 400 x 400 points; the edges, 2.4 mm in all, cut about 1100 of them at random: an error of 0.3 sqrt(1100) points.
  EXPECT_NEAR(sum, 0.5 * pi * 0.3 * 0.2 * 0.75, 4.0 * 0.5 * 0.3 * std::sqrt(1100.0) * cell_mm * cell_mm / 64.0);
}

TEST(Phantom, PelletHasThreePowdersInDisksEllipsesAndRingsAndOverfillsNoPlace) {
  const Phantom phantom = pellet_phantom();
  ASSERT_EQ(phantom.powders(), 3U);
  std::vector<int> cells(3, 0);
  for (int row = -60; row <= 60; ++row) {
    for (int column = -60; column <= 60; ++column) {
      double sum = 0.0;
      for (std::size_t powder = 0; powder < 3; ++powder) {
        const double density = phantom.density(powder, 0.01 * column, 0.01 * row);
        sum += density;
        if (density > 0.0) {
          ++cells[powder];
          EXPECT_LE(0.01 * std::hypot(column, row), phantom.radius_mm());
        }
      }
      EXPECT_LE(sum, 1.0 + 1e-12) << "at cell " << row << ", " << column;
    }
  }
  for (std::size_t powder = 0; powder < 3; ++powder) {
    EXPECT_GT(cells[powder], 100) << "powder " << powder;
    EXPECT_GT(phantom.longest_path_mm(powder), 0.05);
    EXPECT_LE(phantom.longest_path_mm(powder), 2.0 * phantom.radius_mm());
  }
}

TEST(Phantom, RefusesAShapeThatIsNone) {
  EXPECT_THROW(Phantom(1, {{.powder = 1, .semi_axis1_mm = 1.0, .semi_axis2_mm = 1.0}}), InputError);
  EXPECT_THROW(Phantom(1, {{.semi_axis1_mm = 0.0, .semi_axis2_mm = 1.0}}), InputError);
  EXPECT_THROW(Phantom(1, {{.semi_axis1_mm = 1.0, .semi_axis2_mm = 1.0, .hollow = 1.0}}), InputError);
}

}  // namespace
}  // namespace annulus::simulation
