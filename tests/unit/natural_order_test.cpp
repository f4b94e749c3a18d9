#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "mapping/frame_source.hpp"

namespace annulus::mapping {
namespace {

std::vector<std::string> sorted(const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const auto& file : natural_order({names.begin(), names.end()})) result.push_back(file.string());
  return result;
}

using Names = std::vector<std::string>;

TEST(NaturalOrder, TwoComesBeforeTen) {
  EXPECT_EQ(sorted({"map_10_P1.tif", "map_2_P1.tif", "map_1_P1.tif"}),
            (Names{"map_1_P1.tif", "map_2_P1.tif", "map_10_P1.tif"}));
}

TEST(NaturalOrder, EveryNumberOfANameCounts) {
  EXPECT_EQ(sorted({"a_2_9", "a_10_1", "a_2_10"}), (Names{"a_2_9", "a_2_10", "a_10_1"}));
}

TEST(NaturalOrder, LeadingZerosDoNotCount) {
  EXPECT_EQ(sorted({"f0010.tif", "f9.tif", "f011.tif"}), (Names{"f9.tif", "f0010.tif", "f011.tif"}));
}

TEST(NaturalOrder, EqualNamesKeepTheirOrder) {
  EXPECT_EQ(sorted({"f1", "f01", "f001"}), (Names{"f1", "f01", "f001"}));
  EXPECT_EQ(sorted({"f001", "f01", "f1"}), (Names{"f001", "f01", "f1"}));
}

TEST(NaturalOrder, NumbersBeyondAnyIntegerAreCompared) {
  EXPECT_EQ(sorted({"f100000000000000000000000000", "f99999999999999999999999999"}),
            (Names{"f99999999999999999999999999", "f100000000000000000000000000"}));
}

TEST(NaturalOrder, FilesOfAFolderStayTogether) {
  EXPECT_EQ(sorted({"run-2/a1", "run/a2", "run-2/a0", "run/a10"}),
            (Names{"run/a2", "run/a10", "run-2/a0", "run-2/a1"}));
}

TEST(NaturalOrder, AShorterNameComesFirst) {
  EXPECT_EQ(sorted({"scan_1b", "scan_1", "scan"}), (Names{"scan", "scan_1", "scan_1b"}));
}

TEST(NaturalOrder, NothingGivesNothing) { EXPECT_TRUE(natural_order({}).empty()); }

}  // namespace
}  // namespace annulus::mapping
