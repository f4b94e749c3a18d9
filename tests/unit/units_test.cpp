// Radial units: names, scales and labels as viewers of pyFAI's files expect them.
#include "integrator/units.hpp"

#include <cstddef>
#include <string>

#include <gtest/gtest.h>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

using kernels::RadialSpace;

TEST(Units, EveryUnitIsFoundUnderItsName) {
  ASSERT_EQ(radial_units().size(), 19U);
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

TEST(Units, UnitsOfOneAxisHaveOneSpace) {
  for (const RadialUnit& left : radial_units()) {
    for (const RadialUnit& right : radial_units()) {
      EXPECT_EQ(left.axis_name == right.axis_name, left.space == right.space) << left.name << ", " << right.name;
    }
  }
}

TEST(Units, AllButAnglesAndRadiiNeedAWavelength) {
  for (const RadialUnit& unit : radial_units()) {
    EXPECT_EQ(unit.needs_wavelength, unit.space != RadialSpace::two_theta && unit.space != RadialSpace::r);
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
