#include "mpi_driver/calibrate_options.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "integrator/units.hpp"
#include "mpi_driver/map_options.hpp"

namespace annulus::driver {
namespace {

using calibration::Freedom;
using calibration::Parameter;

struct Parsed {
  CalibrateOptions options;
  std::vector<std::string> problems;

  [[nodiscard]] const Freedom& freedom(Parameter parameter) const {
    return options.calibration.freedom[static_cast<std::size_t>(parameter)];
  }
  [[nodiscard]] bool tells(const std::string& part) const {
    for (const std::string& problem : problems) {
      if (problem.find(part) != std::string::npos) return true;
    }
    return false;
  }
};

Parsed parse(std::vector<std::string> arguments) {
  Parsed parsed;
  std::optional<std::string> help;
  Problems problems;
  parsed.options = parse_calibrate_options(arguments, help, problems);
  parsed.problems = problems.messages();
  return parsed;
}

/// The least that is enough, and more.
Parsed parse_with(std::vector<std::string> more) {
  more.insert(more.end(),
              {"--calibrant", "CeO2", "--energy", "30", "--detector", "Pilatus1M", "-o", "a.poni", "a.tif"});
  return parse(more);
}

TEST(CalibrateOptions, TheLeastThatIsEnough) {
  const Parsed parsed = parse_with({});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.options.calibration.images, std::vector<std::string>{"a.tif"});
  EXPECT_DOUBLE_EQ(*parsed.options.calibration.wavelength_m, integrator::wavelength_m_of_energy_kev(30.0));
  EXPECT_EQ(parsed.freedom(Parameter::distance).kind, Freedom::Kind::free);
  EXPECT_EQ(parsed.freedom(Parameter::rot3).kind, Freedom::Kind::fixed);
  EXPECT_EQ(parsed.freedom(Parameter::wavelength).kind, Freedom::Kind::fixed);
}

TEST(CalibrateOptions, ParametersAreFixedFreedAndBounded) {
  const Parsed parsed = parse_with(
      {"--fix", "rot1=0.01,rot2", "--free", "wavelength", "--bounds", "distance=0.1,0.3", "--fix", "poni1=-0.002"});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.freedom(Parameter::rot1).kind, Freedom::Kind::fixed);
  EXPECT_EQ(parsed.freedom(Parameter::rot1).value, 0.01);
  EXPECT_EQ(parsed.freedom(Parameter::rot2).kind, Freedom::Kind::fixed);
  EXPECT_FALSE(parsed.freedom(Parameter::rot2).value.has_value());
  EXPECT_EQ(parsed.freedom(Parameter::poni1).value, -0.002);
  EXPECT_EQ(parsed.freedom(Parameter::wavelength).kind, Freedom::Kind::free);
  EXPECT_EQ(parsed.freedom(Parameter::distance).lower, 0.1);
  EXPECT_EQ(parsed.freedom(Parameter::distance).upper, 0.3);
}

TEST(CalibrateOptions, ParametersAreTied) {
  const Parsed parsed = parse_with({"--tie", "rot2=rot1", "--tie", "poni1=-0.5*distance+1e-2"});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.freedom(Parameter::rot2).kind, Freedom::Kind::tied);
  EXPECT_EQ(parsed.freedom(Parameter::rot2).tie.to, Parameter::rot1);
  EXPECT_EQ(parsed.freedom(Parameter::rot2).tie.factor, 1.0);
  EXPECT_EQ(parsed.freedom(Parameter::poni1).tie.to, Parameter::distance);
  EXPECT_EQ(parsed.freedom(Parameter::poni1).tie.factor, -0.5);
  EXPECT_EQ(parsed.freedom(Parameter::poni1).tie.offset, 1e-2);
  EXPECT_EQ(parse_with({"--tie", "rot2=rot1-0.25"}).freedom(Parameter::rot2).tie.offset, -0.25);
  EXPECT_TRUE(parse_with({"--tie", "rot2"}).tells("PARAMETER=[FACTOR*]PARAMETER[+OFFSET]"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=2*rot"}).tells("expected one of distance"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=x*rot1"}).tells("--tie rot2=x*rot1"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=rot2"}).tells("tied to itself"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=rot3"}).tells("no ring depends on rot3"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=rot1", "--fix", "rot1"}).tells("rot2 is tied to rot1, which is not refined"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=rot1", "--fix", "rot2"}).tells("--tie and --fix contradict"));
  EXPECT_TRUE(parse_with({"--tie", "rot2=rot1", "--bounds", "rot2=0,1"}).tells("--tie and --bounds contradict"));
}

TEST(CalibrateOptions, ContradictionsAreTold) {
  EXPECT_TRUE(parse_with({"--fix", "rot1", "--free", "rot1"}).tells("contradict each other for rot1"));
  EXPECT_TRUE(parse_with({"--fix", "rot1", "--bounds", "rot1=0,1"}).tells("contradict each other for rot1"));
  EXPECT_TRUE(parse_with({"--fix", "distance=-1"}).tells("expected a value above 0"));
  EXPECT_TRUE(parse_with({"--points", "x.npt", "--report", "./x.npt"}).tells("the same file twice"));
  EXPECT_TRUE(parse_with({"--fix", "rot9"}).tells("distance, poni1, poni2, rot1"));
  EXPECT_TRUE(parse_with({"--bounds", "rot1=2,1"}).tells("the lower first"));
  EXPECT_TRUE(parse_with({"--bounds", "rot1"}).tells("PARAMETER=LOWER,UPPER"));
  EXPECT_TRUE(parse_with({"--free", "distance=0.2"}).tells("--free"));
  EXPECT_TRUE(parse_with({"--cell", "4 P"}).tells("exclude each other"));
  EXPECT_TRUE(parse_with({"--wavelength", "1e-10"}).tells("--wavelength and --energy"));
  EXPECT_TRUE(parse_with({"--distance", "-1"}).tells("--distance"));
  EXPECT_TRUE(parse_with({"--sensor", "Si"}).tells("MATERIAL,THICKNESS_M"));
  EXPECT_TRUE(parse_with({"--distance-offset", "0.1"}).tells("expected 0"));
  EXPECT_TRUE(parse_with({"--distance-offset", "0,0.1"}).tells("found 2 for 1 images"));
}

TEST(CalibrateOptions, AllThatIsMissingIsTold) {
  const Parsed parsed = parse({});
  for (const char* part : {"--calibrant is missing", "no image given", "--output is missing"}) {
    EXPECT_TRUE(parsed.tells(part)) << part;
  }
  EXPECT_TRUE(parse({"--calibrant", "list"}).problems.empty());
  EXPECT_THROW((void)parse_with({"--bright"}), InputError);
}

TEST(CalibrateOptions, PairsAreColumnThenRow) {
  const Parsed parsed = parse_with({"--beam-center", "-12.5", "480", "--sensor", "CdTe,0.001", "--orientation", "2"});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.options.calibration.beam_center->first, -12.5);
  EXPECT_EQ(parsed.options.calibration.beam_center->second, 480.0);
  EXPECT_EQ(parsed.options.calibration.sensor->material, "CdTe");
  EXPECT_EQ(parsed.options.calibration.orientation, 2U);
}

Parsed parse_map(std::vector<std::string> more, MapOptions& options) {
  more.insert(more.end(), {"-r", "2", "-t", "3", "-o", "a.h5", "frames.h5"});
  Parsed parsed;
  std::optional<std::string> help;
  Problems problems;
  options = parse_map_options(mapping::ScanKind::map, more, help, problems);
  parsed.problems = problems.messages();
  return parsed;
}

TEST(CalibrateOptions, AScanTakesItsGeometryFromACalibration) {
  MapOptions options;
  const std::vector<std::string> given = {"--calibrate", "c.tif",      "--calibrant", "Si", "--wavelength",
                                          "5e-11",       "--detector", "Pilatus1M",   "-m", "m.tif"};
  EXPECT_TRUE(parse_map(given, options).problems.empty());
  ASSERT_TRUE(options.calibration.has_value());
  EXPECT_EQ(options.calibration->images, std::vector<std::string>{"c.tif"});
  EXPECT_EQ(options.calibration->masks, std::vector<std::string>{"m.tif"});
  EXPECT_FALSE(options.accept_doubtful_calibration);

  // A PONI file is a guess then, and not the scan's geometry.
  std::vector<std::string> guessed = given;
  guessed.insert(guessed.end(), {"-p", "guess.poni"});
  EXPECT_TRUE(parse_map(guessed, options).problems.empty());
  EXPECT_EQ(options.calibration->poni, "guess.poni");
  EXPECT_TRUE(options.integration.poni.empty());
}

TEST(CalibrateOptions, CalibrationWithoutAnImageIsAMistake) {
  MapOptions options;
  EXPECT_TRUE(parse_map({"-p", "a.poni", "--calibrant", "Si"}, options).tells("--calibrant: expected --calibrate"));
  EXPECT_TRUE(parse_map({"-p", "a.poni", "--accept-doubtful-calibration"}, options).tells("expected --calibrate"));
  EXPECT_TRUE(parse_map({}, options).tells("(or --calibrate)"));
  EXPECT_TRUE(parse_map({"--calibrate", "c.tif"}, options).tells("--calibrant is missing"));
}

}  // namespace
}  // namespace annulus::driver
