#include "simulation/powder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "base/errors.hpp"

namespace annulus::simulation {
namespace {

constexpr double wavelength_angstrom = 0.2;

/// The line at d, or one of intensity 0.
Line line_at(const std::vector<Line>& lines, double d_angstrom) {
  for (const Line& line : lines) {
    if (std::abs(line.d_angstrom / d_angstrom - 1.0) < 1e-9) return line;
  }
  return {};
}

/// d of a cubic cell's reflection with h^2 + k^2 + l^2 = sum.
double cubic_d(const Crystal& crystal, int sum) { return crystal.a_angstrom / std::sqrt(static_cast<double>(sum)); }

TEST(Powder, PrimitiveCubicLaB6HasEveryLine) {
  const Crystal crystal = make_crystal("LaB6");
  const std::vector<Line> lines = powder_lines(crystal, wavelength_angstrom, 0.2);
  ASSERT_GE(lines.size(), 8U);
  // h^2 + k^2 + l^2 takes every number but 7 (of the first eight).
  const std::vector<int> sums{1, 2, 3, 4, 5, 6, 8, 9};
  for (std::size_t line = 0; line < sums.size(); ++line) {
    EXPECT_NEAR(lines[line].d_angstrom, cubic_d(crystal, sums[line]), 1e-12);
  }
}

TEST(Powder, FaceCentredNickelHasUnmixedIndicesAlone) {
  const Crystal crystal = make_crystal("Ni");
  const std::vector<Line> lines = powder_lines(crystal, wavelength_angstrom, 0.3);
  const std::vector<int> sums{3, 4, 8, 11, 12, 16, 19, 20};
  ASSERT_GE(lines.size(), sums.size());
  for (std::size_t line = 0; line < sums.size(); ++line) {
    EXPECT_NEAR(lines[line].d_angstrom, cubic_d(crystal, sums[line]), 1e-12);
  }
}

TEST(Powder, DiamondExtinctionsHoldInSilicon) {
  const Crystal crystal = make_crystal("Si");
  const std::vector<Line> lines = powder_lines(crystal, wavelength_angstrom, 0.2);
  for (const int present : {3, 8, 11, 16, 19}) EXPECT_GT(line_at(lines, cubic_d(crystal, present)).intensity, 0.0);
  for (const int absent : {4, 12, 20}) EXPECT_EQ(line_at(lines, cubic_d(crystal, absent)).intensity, 0.0);
}

TEST(Powder, CorundumHasItsStrongLinesAndNotThoseOfAnotherCell) {
  const Crystal crystal = make_crystal("alpha_Al2O3");
  const double a = crystal.a_angstrom;
  const double c = crystal.c_angstrom;
  const auto d = [&](int h, int k, int l) {
    return 1.0 / std::sqrt(4.0 * (h * h + h * k + k * k) / (3.0 * a * a) + l * l / (c * c));
  };
  const std::vector<Line> lines = powder_lines(crystal, wavelength_angstrom, 0.3);
  EXPECT_NEAR(lines.front().d_angstrom, d(0, 1, 2), 1e-12);
  for (const auto& [h, k, l] : {std::array{0, 1, 2}, {1, 0, 4}, {1, 1, 0}, {1, 1, 3}, {0, 2, 4}, {1, 1, 6}}) {
    EXPECT_GT(line_at(lines, d(h, k, l)).intensity, 0.1) << h << k << l;
  }
  // Rhombohedral: -h + k + l = 3n; glide plane c: l even for h -h 0 l and 0 0 l. 0 0 3 and 1 0 1 break them.
  EXPECT_EQ(line_at(lines, d(1, 0, 1)).intensity, 0.0);
  EXPECT_EQ(line_at(lines, d(0, 0, 3)).intensity, 0.0);
  EXPECT_EQ(line_at(lines, d(0, 0, 6) * 2.0).intensity, 0.0);
}

TEST(Powder, FluoriteIntensitiesFollowFromHandComputedStructureFactors) {
  // CeO2: F(111) = 4 f_Ce, F(200) = 4 (f_Ce - 2 f_O), F(220) = 4 (f_Ce + 2 f_O); multiplicities 8, 6, 12.
  const Crystal crystal = make_crystal("CeO2");
  const std::vector<Line> lines = powder_lines(crystal, wavelength_angstrom, 0.2);
  const auto relative = [&](double electrons, int multiplicity, int sum) {
    const double s2 = 0.25 * sum / (crystal.a_angstrom * crystal.a_angstrom);
    const double form = electrons * std::exp(-0.4 * s2) / (1.0 + s2 / 0.36);
    const double sine2 = s2 * wavelength_angstrom * wavelength_angstrom;
    return multiplicity * form * form / (sine2 * std::sqrt(1.0 - sine2));
  };
  const double line_111 = relative(58.0, 8, 3);
  EXPECT_NEAR(line_at(lines, cubic_d(crystal, 3)).intensity, 1.0, 1e-12);
  EXPECT_NEAR(line_at(lines, cubic_d(crystal, 4)).intensity, relative(58.0 - 16.0, 6, 4) / line_111, 1e-9);
  EXPECT_NEAR(line_at(lines, cubic_d(crystal, 8)).intensity, relative(58.0 + 16.0, 12, 8) / line_111, 1e-9);
}

TEST(Powder, LinesEndAtTheLargestAngle) {
  const std::vector<Line> lines = powder_lines(make_crystal("CeO2"), wavelength_angstrom, 0.15);
  ASSERT_FALSE(lines.empty());
  EXPECT_TRUE(std::is_sorted(lines.begin(), lines.end(),
                             [](const Line& left, const Line& right) { return left.d_angstrom > right.d_angstrom; }));
  EXPECT_GE(2.0 * lines.back().d_angstrom * std::sin(0.075), wavelength_angstrom);
}

TEST(Powder, UnknownCrystalIsRefusedWithTheNamesThatThereAre) {
  try {
    static_cast<void>(make_crystal("unobtainium"));
    FAIL() << "expected InputError";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("unobtainium"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("CeO2"), std::string::npos);
  }
}

TEST(PowderPattern, LineStandsWhereBraggPutsItWithItsWidth) {
  const std::vector<Line> lines{{.d_angstrom = 2.0, .intensity = 1.0}};
  const LineWidth width{.u = 0.0, .v = 0.0, .w = 0.04};
  const TwoThetaGrid grid{.step_deg = 0.001, .channels = 12000};
  const std::vector<double> pattern = powder_pattern(lines, wavelength_angstrom, width, grid);
  // sin(theta) = 0.2 / 4 = 0.05: 2theta = 5.7319680 degrees.
  const auto top = std::max_element(pattern.begin(), pattern.end()) - pattern.begin();
  EXPECT_EQ(top, 5732);
  EXPECT_EQ(pattern[top], 1.0);
  // Half of the height 0.1 degrees beside the centre, whatever the share of Lorentz; both parts are even. The channel
  // is up to half a step off, the slope at half height about 1.3 / FWHM.
  EXPECT_NEAR(pattern[top - 100], 0.5, 0.5 * 0.001 * 1.3 / 0.2);
  EXPECT_NEAR(pattern[top + 100], 0.5, 0.5 * 0.001 * 1.3 / 0.2);
}

TEST(PowderPattern, AreasOfLinesAreTheirIntensities) {
  const std::vector<Line> lines{{.d_angstrom = 2.0, .intensity = 1.0}, {.d_angstrom = 0.5, .intensity = 0.25}};
  const LineWidth width{.u = 1.0, .v = 0.0, .w = 0.01};
  const TwoThetaGrid grid{.step_deg = 0.005, .channels = 10000};
  const std::vector<double> pattern = powder_pattern(lines, wavelength_angstrom, width, grid);
  const auto middle = pattern.begin() + 2800;  // 14 degrees: halfway between 5.73 and 23.07
  const double first = std::accumulate(pattern.begin(), middle, 0.0);
  const double second = std::accumulate(middle, pattern.end(), 0.0);
  // The Lorentz part leaves 0.2 * FWHM / (2 pi distance) of a line beyond `distance`, 8.3 and 9.1 degrees here: 0.04 %
  // of the first line (FWHM 0.11), which is 0.17 % of the second, and 0.08 % of the second line itself (FWHM 0.23).
  EXPECT_NEAR(second / first, 0.25, 0.25 * 0.003);
}

TEST(PowderPattern, WithoutLinesIsZero) {
  const std::vector<double> pattern =
      powder_pattern({}, wavelength_angstrom, {.w = 0.01}, {.step_deg = 0.1, .channels = 5});
  EXPECT_EQ(pattern, std::vector<double>(5, 0.0));
}

}  // namespace
}  // namespace annulus::simulation
