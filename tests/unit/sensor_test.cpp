// Sensors: attenuation and parallax against pyFAI's numbers, closed forms and a direct integration.
#include "integrator/sensor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "kernels/pixel_geometry.hpp"
#include "tests/unit/pyfai_geometry_reference.hpp"

namespace annulus::integrator {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

TEST(Sensor, AttenuationIsPyfais) {
  for (const test::AttenuationReference& reference : test::attenuation_references) {
    // pyFAI has its energies in MeV and multiplies: 2 roundings of an energy, which weigh by the steepness of the
    // table, E / mu |dmu / dE| < 200 between its rows, and some 5 roundings of the interpolation.
    EXPECT_NEAR(attenuation_per_m(reference.material, reference.energy_kev), reference.attenuation_per_m,
                reference.attenuation_per_m * 400 * epsilon)
        << reference.material << " " << reference.energy_kev;
  }
}

TEST(Sensor, EdgeBelongsToTheEnergiesAboveIt) {
  // The K edge of tellurium, 31.8138 keV, in CdTe: 2.9 times as much absorption in the table.
  EXPECT_GT(attenuation_per_m("CdTe", 31.8138), 1.2 * attenuation_per_m("CdTe", std::nextafter(31.8138, 0.0)));
}

TEST(Sensor, MaterialsMayBeWrittenInAnyCase) {
  EXPECT_EQ(attenuation_per_m("cdte", 40.0), attenuation_per_m("CdTe", 40.0));
}

TEST(Sensor, UnknownMaterialsAndEnergiesAreNamed) {
  const auto error_of = [](std::string_view material, double energy_kev) -> std::string {
    try {
      static_cast<void>(attenuation_per_m(material, energy_kev));
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(error_of("Unobtainium", 20.0).find("'Unobtainium'; expected one of Si, Ge"), std::string::npos);
  EXPECT_NE(error_of("Si", 0.5).find("sensor Si: found an energy of 0.5 keV, expected 1 to 2000"), std::string::npos);
  EXPECT_NE(error_of("BaFBr0.85I0.15", 100.0).find("100"), std::string::npos);
  EXPECT_NE(error_of("Si", std::numeric_limits<double>::quiet_NaN()), "");
}

TEST(Sensor, TransmissionFollowsLambertAndBeer) {
  const double attenuation = attenuation_per_m("Si", 20.0);
  EXPECT_NEAR(sensor_transmission({"Si", std::log(2.0) / attenuation}, 20.0), 0.5, 4 * epsilon);
  EXPECT_EQ(sensor_transmission({"Si", 0.0}, 20.0), 0.0);  // without a thickness it absorbs all
}

TEST(Parallax, CorrectionIsPyfais) {
  for (const test::ParallaxReference& reference : test::parallax_references) {
    SCOPED_TRACE(testing::Message() << reference.material << " " << reference.energy_kev);
    const auto table = parallax_correction_m({std::string(reference.material), reference.thickness_m},
                                             reference.energy_kev, reference.distance_m);
    ASSERT_EQ(table.size(), kernels::parallax_nodes);
    for (std::size_t index = 0; index < reference.correction_m.size(); ++index) {
      const std::uint32_t node = test::parallax_reference_nodes[index];
      const double angle_rad = node * (std::numbers::pi / 2.0) / (kernels::parallax_nodes - 1.0);
      // Both take the difference of two radii near distance tan(angle), with some 8 roundings, and pyFAI's radius is
      // that of sine / sqrt(1 - sine^2), wrong by epsilon tan^2; it moves the node along a correction whose slope with
      // the radius is below 1 / tan. The displacement itself (below 1/mu) has some 16 roundings.
      const double tangent = std::tan(angle_rad);
      const double tolerance_m = epsilon * (reference.distance_m * (16 * tangent + 4 * tangent * tangent) +
                                            16 / attenuation_per_m(reference.material, reference.energy_kev));
      EXPECT_NEAR(table[node], reference.correction_m[index], tolerance_m) << node;
    }
  }
}

TEST(Parallax, MeanPathIsTheIntegralOverTheThickness) {
  // Far behind a thin sensor, one node's displacement by Simpson's rule over the depth; the correction is its negative,
  // up to its change over its own length, below (displacement / distance).
  const Sensor sensor{"Si", 450e-6};
  const double attenuation = attenuation_per_m("Si", 15.0);
  const double distance_m = 1e6;
  const auto table = parallax_correction_m(sensor, 15.0, distance_m);
  for (const std::size_t node : {200U, 512U, 800U}) {
    const double angle_rad = static_cast<double>(node) * (std::numbers::pi / 2.0) / (kernels::parallax_nodes - 1.0);
    const double path_m = sensor.thickness_m / std::cos(angle_rad);
    double weighted = 0.0;
    double absorbed = 0.0;
    constexpr int steps = 2000;
    for (int step = 0; step <= steps; ++step) {
      const double at_m = path_m * step / steps;
      const double weight = (step == 0 || step == steps ? 1.0
                             : step % 2 == 1            ? 4.0
                                                        : 2.0) *
                            std::exp(-attenuation * at_m);
      weighted += weight * at_m;
      absorbed += weight;
    }
    const double displacement_m = std::sin(angle_rad) * weighted / absorbed;
    // Differences of radii of 1e6 m: 1e-10 m each; Simpson's error is below (mu path / 2000)^4.
    EXPECT_NEAR(table[node], -displacement_m, 8 * epsilon * distance_m * std::tan(angle_rad) + 1e-9 * displacement_m);
  }
}

TEST(Parallax, CorrectionShrinksRadiiAndEndsAtTheMeanPath) {
  const auto table = parallax_correction_m({"Si", 320e-6}, 20.0, 0.1);
  EXPECT_EQ(table.front(), 0.0);
  EXPECT_TRUE(std::ranges::all_of(table, [](double value) { return value <= 0.0 && std::isfinite(value); }));
  EXPECT_EQ(table.back(), -1.0 / attenuation_per_m("Si", 20.0));
  // Continuous: the next to last node is 1.5e-3 rad from grazing, where the sensor is 650 times as thick.
  EXPECT_NEAR(table[1022], table[1023], 1e-5 * -table[1023]);
}

TEST(Parallax, ThickSensorIsTheLimitOfThickness) {
  const auto thick = parallax_correction_m({"Si", 0.0}, 10.0, 0.1);
  const auto nearly = parallax_correction_m({"Si", 1.0}, 10.0, 0.1);  // 7,900 mean paths: exp(-7900) = 0
  EXPECT_EQ(thick, nearly);
}

}  // namespace
}  // namespace annulus::integrator
