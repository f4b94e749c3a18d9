// What physics and arithmetic ask of any integration, whatever its geometry: counts are conserved, a turn about the
// beam changes nothing, nor does another unit of the same axis, nor cutting pixels into smaller ones.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <numbers>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "integrator/integration.hpp"
#include "kernels/reference/reference_engine.hpp"

namespace {
using namespace annulus;
using kernels::FrameBatch;
using kernels::PixelType;
using kernels::Splitting;

integrator::IntegrationPlan tilted_plan(std::uint32_t rows = 61, std::uint32_t columns = 47) {
  integrator::IntegrationPlan plan;
  integrator::Geometry& geometry = plan.geometry;
  geometry.detector.rows = rows;
  geometry.detector.columns = columns;
  geometry.detector.pixel1_m = 1.1e-4;
  geometry.detector.pixel2_m = 0.9e-4;
  geometry.distance_m = 0.02;
  geometry.poni1_m = -1.5e-3;
  geometry.poni2_m = 2.1e-3;
  geometry.rot1_rad = 0.21;
  geometry.rot2_rad = -0.13;
  geometry.wavelength_m = 0.7e-10;
  plan.settings.bins = 37;
  return plan;
}

std::vector<std::uint32_t> random_counts(std::size_t pixels, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> counts(pixels);
  for (auto& count : counts) count = static_cast<std::uint32_t>(random() % 1000);
  return counts;
}

std::vector<float> pattern_of(const integrator::IntegrationPlan& plan, const std::vector<std::uint32_t>& counts) {
  integrator::Integrator integrator(plan, kernels::make_engine(kernels::Backend::reference, {}));
  const FrameBatch batch{reinterpret_cast<const std::byte*>(counts.data()), PixelType::u32, 1, counts.size()};
  std::vector<float> pattern(integrator.rows(), -1.0F);
  const double monitor = 1.0;
  integrator.integrate(batch, {&monitor, 1}, {pattern, {}, {}});
  return pattern;
}

double largest_difference(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double largest = 0.0;
  for (std::size_t bin = 0; bin < expected.size(); ++bin) {
    largest = std::max(largest, std::abs(static_cast<double>(found[bin]) - expected[bin]));
  }
  return largest;
}

constexpr Splitting all_splittings[] = {Splitting::no, Splitting::bbox, Splitting::pseudo, Splitting::full};

TEST(Integration, ConservesTheSumOfAllCounts) {
  std::mt19937_64 random(99);
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  int geometries = 0;
  for (; geometries < 1200; ++geometries) {
    integrator::IntegrationPlan plan =
        tilted_plan(static_cast<std::uint32_t>(uniform(3, 12)), static_cast<std::uint32_t>(uniform(3, 12)));
    integrator::Geometry& geometry = plan.geometry;
    geometry.distance_m = uniform(0.005, 0.2);
    geometry.poni1_m = uniform(-4e-3, 4e-3);
    geometry.poni2_m = uniform(-4e-3, 4e-3);
    geometry.rot1_rad = uniform(-1.5, 1.5);
    geometry.rot2_rad = uniform(-1.5, 1.5);
    geometry.rot3_rad = uniform(-3.0, 3.0);
    kernels::MatrixSpec spec;
    spec.geometry = integrator::pixel_geometry(geometry);
    spec.splitting = all_splittings[random() % 4];
    spec.bins = static_cast<std::uint32_t>(uniform(1, 60));
    spec.azimuthal_bins = random() % 2 == 0 ? 0 : static_cast<std::uint32_t>(uniform(1, 30));
    const auto shapes = kernels::reference::pixel_shapes(spec);
    const auto matrix = kernels::reference::build_matrix(spec, shapes, kernels::reference::bin_axes(spec, shapes));
    const std::vector<std::uint32_t> counts = random_counts(spec.geometry.pixels(), geometries);
    const std::vector<float> ones(counts.size(), 1.0F);
    kernels::Corrections corrections;
    corrections.normalisation = ones;
    corrections.bad_pixels.type_maximum = false;
    const FrameBatch batch{reinterpret_cast<const std::byte*>(counts.data()), PixelType::u32, 1, counts.size()};
    double signal = 0.0;
    double normalisation = 0.0;
    for (const auto& sums : kernels::reference::sum_frame(matrix, corrections, batch, 0)) {
      signal += sums.signal;
      normalisation += sums.normalisation;
    }
    double expected = 0.0;
    for (const std::uint32_t count : counts) expected += count;
    // 1e-12: some 10^4 additions of 1.1e-16 each, and shares that are good to as much.
    ASSERT_NEAR(signal, expected, 1e-12 * expected) << "geometry " << geometries;
    ASSERT_NEAR(normalisation, static_cast<double>(counts.size()), 1e-12 * static_cast<double>(counts.size()));
  }
  EXPECT_EQ(geometries, 1200);
}

TEST(Integration, ATurnAboutTheBeamLeavesThePatternAlone) {
  for (const Splitting splitting : all_splittings) {
    for (const std::string unit : {"2th_deg", "q_nm^-1", "r_mm", "log(1+q.nm)_None"}) {
      integrator::IntegrationPlan plan = tilted_plan();
      plan.settings.splitting = splitting;
      plan.settings.unit = unit;
      plan.settings.radial_range = {{0.0, unit == "2th_deg" ? 40.0 : unit == "r_mm" ? 15.0 : 60.0}};
      const auto counts = random_counts(plan.geometry.detector.rows * plan.geometry.detector.columns, 3);
      const std::vector<float> expected = pattern_of(plan, counts);
      plan.geometry.rot3_rad = 1.234;
      // A corner may round to the neighbouring float32: 6e-8 of a radius of some 200 pixels moves 1e-5 of a pixel from
      // a bin to the next; without splitting no pixel may move.
      const double moved = splitting == Splitting::no ? 1e-6 : 1e-5;
      EXPECT_LE(largest_difference(pattern_of(plan, counts), expected), moved * 1000.0)
          << kernels::name_of(splitting) << ", " << unit;
    }
  }
}

TEST(Integration, UnitsOfOneAxisGiveTheSameNumbers) {
  for (const Splitting splitting : all_splittings) {
    for (const auto& [first, second] : {std::pair{"2th_deg", "2th_rad"},
                                        {"q_nm^-1", "q_A^-1"},
                                        {"r_mm", "r_m"},
                                        {"d*2_nm^-2", "d*2_A^-2"},
                                        {"d_A", "d_nm"}}) {
      integrator::IntegrationPlan plan = tilted_plan();
      plan.settings.splitting = splitting;
      const auto counts = random_counts(plan.geometry.detector.rows * plan.geometry.detector.columns, 4);
      plan.settings.unit = first;
      const std::vector<float> expected = pattern_of(plan, counts);
      plan.settings.unit = second;
      EXPECT_EQ(pattern_of(plan, counts), expected) << first << ", " << second;
    }
  }
}

TEST(Integration, CuttingPixelsIntoSmallerOnesConvergesToTheSamePattern) {
  // Every pixel becomes 2 x 2, with the pixel's count each. By area that changes no more than the edges' curvature,
  // which a quadrilateral in (radial, azimuthal) coordinates leaves out: (w / R)^2 / 8 of a pixel of width w at the
  // radius R.
  integrator::IntegrationPlan plan = tilted_plan();
  plan.settings.splitting = Splitting::full;
  plan.settings.bins = 23;
  plan.settings.radial_range = {{12.0, 22.0}};
  const std::uint32_t rows = plan.geometry.detector.rows;
  const std::uint32_t columns = plan.geometry.detector.columns;
  const auto counts = random_counts(std::size_t{rows} * columns, 5);
  const std::vector<float> whole = pattern_of(plan, counts);
  std::vector<std::uint32_t> cut(counts.size() * 4);
  for (std::uint32_t row = 0; row < 2 * rows; ++row) {
    for (std::uint32_t column = 0; column < 2 * columns; ++column) {
      cut[std::size_t{row} * 2 * columns + column] = counts[std::size_t{row / 2} * columns + column / 2];
    }
  }
  integrator::Detector& detector = plan.geometry.detector;
  detector.rows *= 2;
  detector.columns *= 2;
  detector.pixel1_m /= 2.0;
  detector.pixel2_m /= 2.0;
  const std::vector<float> halves = pattern_of(plan, cut);
  // R is at least 0.02 m tan(12 degrees) = 4.2 mm, 39 pixels: 8e-5 of a pixel; a bin has some 70 pixels of up to 999
  // counts, 2 sqrt(70) of them at its edges. The solid angle changes as little within a pixel.
  // Pixels at the ends of the range give what lies outside to the bins inside, small ones less: two bins are left out.
  const auto inner = [](const std::vector<float>& pattern) {
    return std::vector<float>(pattern.begin() + 2, pattern.end() - 2);
  };
  EXPECT_LE(largest_difference(inner(halves), inner(whole)), 8e-5 * 999.0);
  EXPECT_GT(largest_difference(inner(halves), inner(whole)), 0.0);
}

}  // namespace
