// The command line of `integrate`: what the output's name means, the order of the images, and that all problems are
// told together.
#include "mpi_driver/integrate_options.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/errors.hpp"

namespace annulus::driver {
namespace {

IntegrateOptions parsed(const std::vector<std::string>& arguments, Problems& problems) {
  std::optional<std::string> help;
  return parse_integrate_options(arguments, help, problems);
}

std::string told(const Problems& problems) {
  std::string all;
  for (const std::string& message : problems.messages()) all += message + '\n';
  return all;
}

TEST(IntegrateOptions, OutputIsKnownByItsName) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  const std::pair<std::string, PatternOutput> cases[] = {
      {"out.xy", PatternOutput::text_file},    {"OUT.XY", PatternOutput::text_file},
      {"out.dat", PatternOutput::text_file},   {"out.h5", PatternOutput::hdf5_file},
      {"a/out.nxs", PatternOutput::hdf5_file}, {"out.hdf5", PatternOutput::hdf5_file},
      {"patterns/", PatternOutput::folder},    {folder, PatternOutput::folder}};
  for (const auto& [output, kind] : cases) {
    Problems problems;
    const IntegrateOptions options = parsed({"-p", "geo.poni", "-o", output, "image.tif"}, problems);
    EXPECT_FALSE(problems.any()) << output << ": " << told(problems);
    EXPECT_EQ(options.kind, kind) << output;
  }
}

TEST(IntegrateOptions, ImagesAreOrderedByTheNumbersInTheirNames) {
  Problems problems;
  const IntegrateOptions options =
      parsed({"-p", "geo.poni", "-o", "out.h5", "image_10.tif", "image_2.tif", "scan.h5::/entry/data"}, problems);
  EXPECT_EQ(options.images, (std::vector<std::string>{"image_2.tif", "image_10.tif", "scan.h5::/entry/data"}));
}

TEST(IntegrateOptions, AllProblemsAreTold) {
  Problems problems;
  static_cast<void>(parsed({"-c", "0", "--split", "half"}, problems));
  for (const char* expected : {"--npt", "--split", "no images given", "--poni is missing", "--output is missing"}) {
    EXPECT_NE(told(problems).find(expected), std::string::npos) << expected << " is not in\n" << told(problems);
  }
  Problems other;
  static_cast<void>(parsed({"-p", "geo.poni", "-o", "out.png", "image.tif"}, other));
  EXPECT_NE(told(other).find("ends in .xy or .h5"), std::string::npos) << told(other);
}

TEST(IntegrateOptions, TextIsForOnePatternOfAllAzimuths) {
  Problems several;
  static_cast<void>(parsed({"-p", "geo.poni", "-o", "out.xy", "a.tif", "b.tif"}, several));
  EXPECT_NE(told(several).find("found 2 images"), std::string::npos) << told(several);
  Problems cake;
  static_cast<void>(parsed({"-p", "geo.poni", "-o", "out.xy", "--npt-azim", "36", "a.tif"}, cake));
  EXPECT_NE(told(cake).find("no azimuthal bins"), std::string::npos) << told(cake);
}

TEST(IntegrateOptions, HelpNamesTheOptions) {
  std::optional<std::string> help;
  Problems problems;
  static_cast<void>(parse_integrate_options({"--help"}, help, problems));
  ASSERT_TRUE(help.has_value());
  for (const char* option : {"--output", "--unit", "--backend", "usage: annulus integrate"}) {
    EXPECT_NE(help->find(option), std::string::npos) << option;
  }
  EXPECT_FALSE(problems.any());
}

}  // namespace
}  // namespace annulus::driver
