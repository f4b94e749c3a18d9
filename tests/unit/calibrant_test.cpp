#include "calibration/calibrant.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "calibration/space_group.hpp"
#include "pyfai_calibrant_reference.hpp"
#include "space_group_reference.hpp"

namespace annulus::calibration {
namespace {

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError";
}

TEST(Calibrant, AllOfPyfaiAreKnownWithItsSpacings) {
  std::size_t compared = 0;
  for (const auto& [name, theirs] : reference::pyfai_calibrants) {
    std::vector<double> expected = theirs;
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    const Calibrant ours = make_calibrant(name);
    EXPECT_EQ(ours.name, name);
    EXPECT_FALSE(ours.reference.empty()) << name;
    ASSERT_EQ(ours.d_spacings_m.size(), expected.size()) << name;
    // Their files hold 8 decimals of an Angstrom: half a unit is 5e-8 of 0.1 A. PBBA's come from a file of 5 decimals,
    // 5e-6 of 2.4 A; Si's, of a cell rounded to 5.4311950 where SRM 640c is certified as 5.4311946.
    const double tolerance = name == "PBBA" ? 2.2e-6 : name == "Si" ? 2e-7 : 6e-8;
    for (std::size_t ring = 0; ring < expected.size(); ++ring, ++compared) {
      EXPECT_NEAR(ours.d_spacings_m[ring] * 1e10 / expected[ring], 1.0, tolerance) << name << " ring " << ring;
    }
  }
  EXPECT_GT(compared, 4000U);
  EXPECT_EQ(calibrant_names().size(), reference::pyfai_calibrants.size());
}

TEST(Calibrant, NamesAreFoundInAnyCaseAndUnknownOnesTellTheList) {
  EXPECT_EQ(make_calibrant("ceo2").name, "CeO2");
  EXPECT_EQ(make_calibrant("si").name, "Si");
  const std::string message = message_of([] { (void)make_calibrant("unobtainium"); });
  EXPECT_NE(message.find("unobtainium"), std::string::npos) << message;
  EXPECT_NE(message.find("LaB6_SRM660c"), std::string::npos) << message;
}

TEST(Calibrant, AnglesFollowBraggsLawAndEndWhereItForbids) {
  const Calibrant calibrant = calibrant_of_spacings("two", std::array{1.0, 4.0, 2.0});
  const std::vector<double> angles = calibrant.two_theta_rad(2.0e-10);
  ASSERT_EQ(angles.size(), 3U);
  EXPECT_DOUBLE_EQ(angles[0], 2.0 * std::asin(0.25));
  EXPECT_DOUBLE_EQ(angles[1], std::numbers::pi / 3.0);
  EXPECT_DOUBLE_EQ(angles[2], std::numbers::pi);
  EXPECT_EQ(calibrant.two_theta_rad(2.1e-10).size(), 2U);
}

TEST(Calibrant, FileOfEitherStyleIsRead) {
  const Calibrant now = parse_calibrant(
      "# Calibrant: Vanadinite (Pb5(BO4)3Cl)\n# Cell: a=b=10.3231\n# Ref: Am. Mineral. 98\n\n"
      "# d_spacing  # (h k l)  mult intensity\n  8.94010000 # (1 0 0)     6 1.47\n  5.1616 # (1, 1, 0) 6\n",
      "v.D");
  EXPECT_EQ(now.name, "Pb5(BO4)3Cl");
  EXPECT_EQ(now.reference, "Am. Mineral. 98");
  ASSERT_EQ(now.d_spacings_m.size(), 2U);
  EXPECT_DOUBLE_EQ(now.d_spacings_m[0], 8.9401e-10);
  EXPECT_EQ(now.reflections, (std::vector<std::string>{"(1 0 0) x6", "(1 1 0) x6"}));

  // No header, Windows line ends, several a line, any order, one of them twice.
  const Calibrant old = parse_calibrant("3.1 2.7\r\n 1.9 \r\n2.7\r\n# the end\r\n", "folder/old.D");
  EXPECT_EQ(old.name, "old");
  ASSERT_EQ(old.d_spacings_m.size(), 3U);
  EXPECT_DOUBLE_EQ(old.d_spacings_m[2], 1.9e-10);
  EXPECT_TRUE(old.reflections.empty());
}

TEST(Calibrant, FileTellsEveryLineThatHoldsNoSpacing) {
  const std::string message = message_of([] { (void)parse_calibrant("3.1\nthree\n-2\n1.0 inf\n", "bad.D"); });
  for (const char* part : {"bad.D, line 2", "'three'", "bad.D, line 3", "bad.D, line 4"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
  }
  EXPECT_NE(message_of([] { (void)parse_calibrant("# nothing\n", "e.D"); }).find("no spacing"), std::string::npos);
}

TEST(Calibrant, CellsGiveTheSpacingsOfTheirFormulas) {
  // Orthorhombic: 1 / d^2 = h^2 / a^2 + k^2 / b^2 + l^2 / c^2.
  const Calibrant brick = calibrant_of_cell("brick", {3.0, 4.0, 5.0}, "P", 2.0);
  EXPECT_NEAR(brick.d_spacings_m[0], 5e-10, 1e-24);
  EXPECT_EQ(brick.reflections[0], "(0 0 1) x2");
  const auto of = [&](const std::string& name) {
    const auto place = std::find(brick.reflections.begin(), brick.reflections.end(), name);
    return place == brick.reflections.end()
               ? 0.0
               : brick.d_spacings_m[static_cast<std::size_t>(place - brick.reflections.begin())];
  };
  EXPECT_NEAR(of("(1 1 1) x8") * 1e10, 1.0 / std::sqrt(1.0 / 9 + 1.0 / 16 + 1.0 / 25), 1e-12);
  // Triclinic, against d = V / |h b x c + k c x a + l a x b|, worked out with a = (a, 0, 0), b in the plane.
  const UnitCell skew{5.0, 6.0, 7.0, 80.0, 95.0, 110.0};
  const double rad = std::numbers::pi / 180.0;
  const double ca = std::cos(80 * rad), cb = std::cos(95 * rad), cg = std::cos(110 * rad), sg = std::sin(110 * rad);
  const std::array b{6.0 * cg, 6.0 * sg, 0.0};
  const std::array c{7.0 * cb, 7.0 * (ca - cb * cg) / sg,
                     7.0 * std::sqrt(1.0 - cb * cb - std::pow((ca - cb * cg) / sg, 2))};
  const double volume = 5.0 * b[1] * c[2];
  // (1 0 0): |b x c|
  const std::array cross{b[1] * c[2], -b[0] * c[2], b[0] * c[1] - b[1] * c[0]};
  const double d100 = volume / std::hypot(cross[0], cross[1], cross[2]);
  const Calibrant triclinic = calibrant_of_cell("skew", skew, "P1", 2.0);
  const auto place = std::find(triclinic.reflections.begin(), triclinic.reflections.end(), "(1 0 0) x2");
  ASSERT_NE(place, triclinic.reflections.end());
  EXPECT_NEAR(triclinic.d_spacings_m[static_cast<std::size_t>(place - triclinic.reflections.begin())] * 1e10, d100,
              1e-12);
}

TEST(Calibrant, DescriptionOfACellFillsInWhatTheSymmetryTells) {
  EXPECT_EQ(calibrant_of_cell("CeO2", parse_cell("5.411651 Fm-3m").cell, "Fm-3m", 1.0).d_spacings_m.size(), 10U);
  const CellDescription corundum = parse_cell("4.759, 12.992, R -3 c");
  EXPECT_EQ(corundum.symmetry, "R -3 c");
  EXPECT_DOUBLE_EQ(corundum.cell.gamma_deg, 120.0);
  EXPECT_DOUBLE_EQ(parse_cell("4.6 2.96 P42/mnm").cell.gamma_deg, 90.0);
  EXPECT_DOUBLE_EQ(parse_cell("29.59 6.15 3.98 95.5 P21/a").cell.beta_deg, 95.5);
  EXPECT_DOUBLE_EQ(parse_cell("5 6 7 80 95 110 P-1").cell.alpha_deg, 80.0);
  for (const char* bad : {"", "5.4", "Fm-3m", "5.4 Xm-3m", "4.7 R-3c", "1 2 3 4 5 P1", "5 6 7 170 10 10 P1", "-1 P"}) {
    EXPECT_NE(message_of([&] { (void)parse_cell(bad); }), "no InputError") << bad;
  }
}

TEST(Calibrant, AsManyRingsAsAskedFor) {
  EXPECT_EQ(calibrant_of_cell("Si", {5.431, 5.431, 5.431}, "diamond", 0.5, 7).d_spacings_m.size(), 7U);
  EXPECT_NE(message_of([] {
              (void)calibrant_of_cell("Si", {5.431, 5.431, 5.431}, "P", 6.0);
            }).find("no reflection"),
            std::string::npos);
}

/// Indices present in a zone, up to 6, as text.
std::set<std::array<int, 3>> present(const char* symbol, std::array<int, 3> low, std::array<int, 3> high) {
  const SpaceGroup group(symbol);
  std::set<std::array<int, 3>> found;
  for (int h = low[0]; h <= high[0]; ++h) {
    for (int k = low[1]; k <= high[1]; ++k) {
      for (int l = low[2]; l <= high[2]; ++l) {
        if (group.allows(h, k, l)) found.insert({h, k, l});
      }
    }
  }
  return found;
}

TEST(SpaceGroup, AbsencesAreThoseOfTheInternationalTables) {
  // P 63/m m c: hhl only with even l, and so 00l.
  EXPECT_FALSE(SpaceGroup("P6_3/mmc").allows(0, 0, 1));
  EXPECT_FALSE(SpaceGroup("P63/mmc").allows(1, 1, 1));
  EXPECT_TRUE(SpaceGroup("P63/mmc").allows(1, 0, 1));
  // P 41 21 2: 00l with l = 4n, h00 with h = 2n.
  EXPECT_EQ(present("P41212", {0, 0, 1}, {0, 0, 8}), (std::set<std::array<int, 3>>{{0, 0, 4}, {0, 0, 8}}));
  EXPECT_EQ(present("P4_12_12", {1, 0, 0}, {5, 0, 0}), (std::set<std::array<int, 3>>{{2, 0, 0}, {4, 0, 0}}));
  // P a -3 : 0kl with k even, h0l with l even, hk0 with h even: a, b and c are not alike.
  EXPECT_TRUE(SpaceGroup("Pa-3").allows(0, 2, 1));
  EXPECT_FALSE(SpaceGroup("Pa-3").allows(0, 1, 2));
  // F d -3 m: 0kl with k + l = 4n, k and l even.
  EXPECT_FALSE(SpaceGroup("Fd-3m").allows(0, 2, 0));
  EXPECT_TRUE(SpaceGroup("Fd3m").allows(0, 4, 0));
  EXPECT_TRUE(SpaceGroup("Fd-3m").allows(2, 2, 2));  // absent for atoms at 8a alone
  EXPECT_FALSE(SpaceGroup("diamond").allows(2, 2, 2));
  // I a -3 d: hhl with 2h + l = 4n.
  EXPECT_TRUE(SpaceGroup("Ia-3d").allows(1, 1, 2));
  EXPECT_FALSE(SpaceGroup("Ia-3d").allows(2, 2, 2));
  // R -3 c on hexagonal axes: -h + k + l = 3n, h0l with even l.
  EXPECT_TRUE(SpaceGroup("R-3c").allows(0, 1, 2));
  EXPECT_FALSE(SpaceGroup("R-3c").allows(1, 0, 2));
  EXPECT_FALSE(SpaceGroup("R-3c").allows(1, 0, 1));
  EXPECT_FALSE(SpaceGroup("R-3c").allows(0, 0, 3));
  // P 21/c in three settings: the glide goes with its letter.
  EXPECT_FALSE(SpaceGroup("P21/c").allows(1, 0, 1));
  EXPECT_TRUE(SpaceGroup("P21/c").allows(1, 0, 2));
  EXPECT_TRUE(SpaceGroup("P 21/a").allows(2, 0, 1));
  EXPECT_FALSE(SpaceGroup("P 1 1 21/b").allows(1, 1, 0));
  EXPECT_EQ(SpaceGroup("P 1 1 21/b").lattice(), SpaceGroup::Lattice::monoclinic);
  EXPECT_EQ(SpaceGroup("Pnma").lattice(), SpaceGroup::Lattice::orthorhombic);
  EXPECT_FALSE(SpaceGroup("Pbnm").allows(0, 1, 0));
}

TEST(SpaceGroup, EverySettingLeavesTheReflectionsThatGemmiLeaves) {
  for (const auto& [symbol, present, digest] : reference::space_group_absences) {
    const SpaceGroup group(symbol);
    std::uint32_t count = 0;
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (int h = -4; h <= 8; ++h) {
      for (int k = -3; k <= 8; ++k) {
        for (int l = -4; l <= 8; ++l) {
          if (h == 0 && k == 0 && l == 0) continue;
          const bool allowed = group.allows(h, k, l);
          count += allowed ? 1 : 0;
          hash = (hash ^ static_cast<std::uint64_t>(allowed)) * 0x100000001b3U;
        }
      }
    }
    EXPECT_EQ(count, present) << symbol;
    EXPECT_EQ(hash, digest) << symbol;
  }
  EXPECT_GT(reference::space_group_absences.size(), 600U);
}

TEST(SpaceGroup, NonsenseIsRefused) {
  for (const char* bad : {"", "X", "Fm-3q", "P 2 2 2 2", "diamant", "P 21/", "5.4", "Q m m m"}) {
    EXPECT_NE(message_of([&] { (void)SpaceGroup(bad); }), "no InputError") << bad;
  }
}

}  // namespace
}  // namespace annulus::calibration
