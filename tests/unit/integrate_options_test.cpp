// The command line of `integrate`: what the output's name means, the order of the images, and that all problems are
// told together.
#include "mpi_driver/integrate_options.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <numbers>
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

TEST(IntegrateOptions, SampleLiesAsTheOptionsSay) {
  Problems problems;
  const IntegrateOptions options = parsed({"-p",
                                           "geo.poni",
                                           "-o",
                                           "out.h5",
                                           "--unit",
                                           "qip_nm^-1",
                                           "--azimuthal-unit",
                                           "qoop_A^-1",
                                           "--npt-azim",
                                           "9",
                                           "--azimuth-range",
                                           "-0.5",
                                           "1.25",
                                           "--incident-angle",
                                           "0.18",
                                           "--tilt-angle",
                                           "-90",
                                           "--sample-orientation",
                                           "6",
                                           "image.tif"},
                                          problems);
  EXPECT_FALSE(problems.any()) << told(problems);
  const integrator::IntegrationSettings& settings = options.integration.settings;
  EXPECT_EQ(settings.unit, "qip_nm^-1");
  EXPECT_EQ(settings.azimuthal_unit, "qoop_A^-1");
  EXPECT_EQ(settings.azimuth_range, std::pair(-0.5, 1.25));
  EXPECT_DOUBLE_EQ(settings.sample.incident_angle_rad, 0.18 * std::numbers::pi / 180.0);
  EXPECT_DOUBLE_EQ(settings.sample.tilt_angle_rad, -0.5 * std::numbers::pi);
  EXPECT_EQ(settings.sample.orientation, 6);
}

TEST(IntegrateOptions, UnitsAndTheSamplesPoseAreChecked) {
  const auto told_of = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"-p", "geo.poni", "-o", "out.h5", "image.tif"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Problems problems;
    static_cast<void>(parsed(arguments, problems));
    return told(problems);
  };
  const auto holds = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_EQ(told_of({"--unit", "exit_angle_vert_deg", "--tilt-angle", "3"}), "");
  EXPECT_TRUE(holds(told_of({"--incident-angle", "3"}), "have no part in --unit 2th_deg"));
  EXPECT_TRUE(holds(told_of({"--unit", "qip_nm^-1", "--sample-orientation", "9"}), "--sample-orientation"));
  EXPECT_TRUE(holds(told_of({"--unit", "qip_nm^-1", "--incident-angle", "inf"}), "expected finite angles"));
  EXPECT_TRUE(holds(told_of({"--azimuthal-unit", "qoop"}), "unknown unit 'qoop'"));
  EXPECT_TRUE(holds(told_of({"--azimuthal-unit", "qoop_nm^-1", "--azimuth-range", "2", "1"}), "the lower end first"));
  EXPECT_TRUE(holds(told_of({"--azimuthal-unit", "chi_rad", "--azimuth-range", "0", "7"}), "2 pi"));
  EXPECT_TRUE(holds(told_of({"--unit", "chi_deg", "--npt-azim", "5"}), "two different coordinates"));
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
