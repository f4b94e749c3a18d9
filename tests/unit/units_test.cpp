// Units: names, scales and labels as viewers of pyFAI's files expect them, and pyFAI's values.
#include "integrator/units.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "base/errors.hpp"
#include "kernels/splitting.hpp"
#include "tests/unit/pyfai_units_reference.hpp"

namespace annulus::integrator {
namespace {

using kernels::RadialSpace;

TEST(Units, EveryUnitIsFoundUnderItsName) {
  ASSERT_EQ(radial_units().size(), 41U);
  for (const RadialUnit& unit : radial_units()) EXPECT_EQ(&radial_unit(unit.name), &unit) << unit.name;
}

TEST(Units, ScalesTurnInternalValuesIntoTheUnit) {
  EXPECT_DOUBLE_EQ(radial_unit("2th_deg").scale * (std::numbers::pi / 6.0), 30.0);
  EXPECT_EQ(radial_unit("2th_rad").scale, 1.0);
  EXPECT_EQ(radial_unit("q_nm^-1").scale, 1.0);
  EXPECT_DOUBLE_EQ(radial_unit("q_A^-1").scale * 25.0, 2.5);  // 1 A = 0.1 nm
  EXPECT_DOUBLE_EQ(radial_unit("r_mm").scale * 0.25, 250.0);
  EXPECT_EQ(radial_unit("r_m").scale, 1.0);
}

TEST(Units, AxisNameAndSymbolFollowTheName) {
  for (const RadialUnit& unit : radial_units()) {
    const std::string symbol = unit.symbol.empty() ? "None" : std::string(unit.symbol);
    EXPECT_EQ(std::string(unit.axis_name) + "_" + symbol, unit.name);
  }
}

TEST(Units, UnitsOfOneAxisHaveOneSpaceAndFrame) {
  for (const RadialUnit& left : radial_units()) {
    for (const RadialUnit& right : radial_units()) {
      if (left.axis_name != right.axis_name) continue;
      EXPECT_EQ(left.space, right.space) << left.name << ", " << right.name;
      EXPECT_EQ(left.frame, right.frame) << left.name << ", " << right.name;
    }
  }
}

TEST(Units, ScaleOfAnAzimuthIsThatOfRadOrDegrees) {
  // A range's period follows from it.
  std::size_t azimuths = 0;
  for (const RadialUnit& unit : radial_units()) {
    if (!is_azimuth(unit.space)) continue;
    EXPECT_EQ(unit.scale, unit.symbol == "rad" ? 1.0 : 180.0 / std::numbers::pi) << unit.name;
    ++azimuths;
  }
  EXPECT_EQ(azimuths, 4U);
}

TEST(Units, AllButAnglesAndRadiiNeedAWavelength) {
  using enum RadialSpace;
  for (const RadialUnit& unit : radial_units()) {
    const bool needless = unit.space == two_theta || unit.space == r || unit.space == chi ||
                          unit.space == angle_vertical || unit.space == angle_horizontal;
    EXPECT_EQ(unit.needs_wavelength, !needless) << unit.name;
  }
}

TEST(Units, AreAllOfPyfaisWithItsScalesAndLabels) {
  ASSERT_EQ(test::unit_references.size(), radial_units().size());
  for (const test::UnitReference& expected : test::unit_references) {
    const RadialUnit& unit = radial_unit(expected.name);
    EXPECT_DOUBLE_EQ(unit.scale, expected.scale) << unit.name;
    EXPECT_EQ(unit.label, expected.label) << unit.name;
    EXPECT_EQ(unit.may_be_negative, !expected.positive) << unit.name;
  }
}

/// The value, in the unit, of a point (x, y, z) in m.
double value_of(const RadialUnit& unit, const SamplePose& pose, double x_m, double y_m, double z_m) {
  const kernels::SampleFrame frame = sample_frame(unit.frame, pose);
  return unit.scale * kernels::shared::coordinate_value(static_cast<int>(unit.space), frame.data(), 0,
                                                        test::unit_wavelength_m, y_m, x_m, z_m);
}

TEST(Units, ValuesArePyfais) {
  // Where a difference cancels (q components near 0), what is lost is relative to the whole vector, 2 k = 155 nm^-1 at
  // most; everywhere else some ten roundings.
  const double largest_q = 4e-9 * std::numbers::pi / test::unit_wavelength_m;
  for (const test::UnitPlaceReference& place : test::unit_place_references) {
    const RadialUnit& unit = radial_unit(place.unit);
    const double found = value_of(unit, {place.incident_angle_rad, place.tilt_angle_rad, place.orientation}, place.x_m,
                                  place.y_m, place.z_m);
    const bool vector = unit.frame == UnitFrame::scattering && !is_azimuth(unit.space);
    EXPECT_NEAR(found, place.value, 4e-15 * (std::abs(place.value) + (vector ? unit.scale * largest_q : 0.0)))
        << place.unit << " " << place.incident_angle_rad << " " << place.tilt_angle_rad << " " << place.orientation;
  }
  EXPECT_GT(test::unit_place_references.size(), 450U);
}

TEST(Units, TurningTheSampleKeepsTheLengthOfTheScatteringVector) {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  for (int draw = 0; draw < 200; ++draw) {
    const double x_m = 0.3 * uniform(random);
    const double y_m = 0.3 * uniform(random);
    const double z_m = 0.2 + 0.3 * uniform(random);
    const SamplePose pose{uniform(random), 3.0 * uniform(random), draw % 8 + 1};
    const auto value = [&](const char* unit) { return value_of(radial_unit(unit), pose, x_m, y_m, z_m); };
    const double q = value("q_nm^-1");
    // Three squares of numbers of up to 155 nm^-1 that are good to a few 1e-14.
    const double bound = 4e-15 * 155.0 * 8.0;
    EXPECT_NEAR(std::hypot(value("qxgi_nm^-1"), value("qygi_nm^-1"), value("qzgi_nm^-1")), q, bound);
    EXPECT_NEAR(std::hypot(value("qip_nm^-1"), value("qoop_nm^-1")), q, bound);
    EXPECT_NEAR(value("qtot_nm^-1"), q, bound);
    EXPECT_NEAR(q * std::cos(value("chigi_rad")), value("qoop_nm^-1"), bound);
    EXPECT_NEAR(q * std::sin(value("chigi_rad")), value("qip_nm^-1"), bound);
  }
}

TEST(Units, SpecularReflectionHasNoInPlaneComponent) {
  // The detector stands perpendicular to a beam that comes in at `incident`; a mirror sends it up by twice that.
  const double incident = 0.01;
  const SamplePose pose{incident, 0.0, 1};
  const double distance_m = 0.7;
  const double y_m = distance_m * std::tan(2.0 * incident);
  EXPECT_NEAR(value_of(radial_unit("qip_nm^-1"), pose, 0.0, y_m, distance_m), 0.0, 1e-13);
  EXPECT_NEAR(value_of(radial_unit("qoop_nm^-1"), pose, 0.0, y_m, distance_m),
              value_of(radial_unit("q_nm^-1"), pose, 0.0, y_m, distance_m), 1e-12);
}

TEST(Units, SampleOrientationOutOfRangeIsAnError) {
  for (const int orientation : {0, 9, -1}) {
    EXPECT_THROW(static_cast<void>(sample_frame(UnitFrame::scattering, {0.0, 0.0, orientation})), InputError);
  }
}

TEST(Units, LabelsArePyfais) {
  EXPECT_EQ(radial_unit("2th_deg").label, "Scattering angle $2\\theta$ ($^{o}$)");
  EXPECT_EQ(radial_unit("2th_rad").label, "Scattering angle $2\\theta$ ($rad$)");
  EXPECT_EQ(radial_unit("q_nm^-1").label, "Scattering vector $q$ ($nm^{-1}$)");
  EXPECT_EQ(radial_unit("q_A^-1").label, "Scattering vector $q$ ($\\AA^{-1}$)");
  EXPECT_EQ(radial_unit("r_mm").label, "Radius $r$ ($mm$)");
  EXPECT_EQ(radial_unit("r_m").label, "Radius $r$ ($m$)");
}

TEST(Units, UnknownUnitNamesAllThatThereAre) {
  try {
    static_cast<void>(radial_unit("2theta"));
    FAIL() << "no exception";
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("'2theta'"), std::string::npos) << message;
    for (const RadialUnit& unit : radial_units()) {
      EXPECT_NE(message.find(unit.name), std::string::npos) << message;
    }
  }
}

TEST(Units, WavelengthAndEnergyMeetAtOneAngstrom) {
  // E = h c / lambda with h = 6.62607015e-34 J s, c = 299792458 m/s, e = 1.602176634e-19 C (all exact in the SI):
  // the constant, rounded to 17 digits, stands for the quotient, so a few roundings (2.2e-16 each) are allowed for.
  const double energy_kev = 6.62607015e-34 * 299792458.0 / 1.0e-10 / 1.602176634e-19 / 1000.0;
  EXPECT_NEAR(energy_kev, hc_kev_angstrom, 8 * 2.2e-16 * hc_kev_angstrom);
  EXPECT_NEAR(wavelength_m_of_energy_kev(hc_kev_angstrom), 1.0e-10, 4 * 2.2e-26);
}

TEST(Units, DegreesAndRadiansAreInverse) {
  EXPECT_DOUBLE_EQ(degrees_of(std::numbers::pi), 180.0);
  EXPECT_DOUBLE_EQ(radians_of(90.0), std::numbers::pi / 2.0);
  EXPECT_DOUBLE_EQ(degrees_of(radians_of(12.34)), 12.34);
}

}  // namespace
}  // namespace annulus::integrator
