// The command line of `bench`: what is simulated, what is given, and what contradicts.
#include "mpi_driver/bench_options.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace annulus::driver {
namespace {

struct Parsed {
  BenchOptions options;
  std::vector<std::string> problems;
};

Parsed parse(const std::vector<std::string>& arguments) {
  std::optional<std::string> help;
  Problems problems;
  Parsed parsed;
  parsed.options = parse_bench_options(arguments, help, problems);
  parsed.problems = problems.messages();
  return parsed;
}

bool tells(const Parsed& parsed, const std::string& part) {
  return std::any_of(parsed.problems.begin(), parsed.problems.end(),
                     [&](const std::string& problem) { return problem.find(part) != std::string::npos; });
}

TEST(BenchOptions, WithoutArgumentsAScanIsSimulated) {
  const Parsed parsed = parse({});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_TRUE(parsed.options.map.frames.empty());
  EXPECT_EQ(parsed.options.backends, std::vector<std::string>{"auto"});
}

TEST(BenchOptions, AFileThatCannotBeIsToldBeforeAnythingIsMeasured) {
  EXPECT_TRUE(parse({"--json", "figures.json"}).problems.empty());
  EXPECT_TRUE(tells(parse({"--json", "no/such/folder/figures.json"}), "there is no folder no/such/folder"));
  EXPECT_TRUE(tells(parse({"--json", "."}), "--json .: is a folder"));
}

TEST(BenchOptions, SeveralBackendsKeepTheirOrder) {
  const Parsed parsed = parse({"--backend", "openmp,reference"});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.options.backends, (std::vector<std::string>{"openmp", "reference"}));
}

TEST(BenchOptions, OneUnknownBackendAmongSeveralIsToldOnce) {
  const Parsed parsed = parse({"--backend", "openmp,cuda"});
  ASSERT_EQ(parsed.problems.size(), 1U);
  EXPECT_TRUE(tells(parsed, "\"cuda\""));
}

TEST(BenchOptions, AGivenScanNeedsItsGeometryAndIsNotSimulated) {
  const Parsed parsed = parse({"scan.h5", "--ratio", "dense"});
  EXPECT_TRUE(tells(parsed, "--poni is missing"));
  EXPECT_TRUE(tells(parsed, "--ratio is for simulated scans"));
}

TEST(BenchOptions, ComputationIsThatOfMap) {
  const Parsed parsed = parse({"--batch", "7", "--threads", "3", "-c", "123", "--error-model", "poisson"});
  EXPECT_EQ(parsed.options.map.compute.batch, 7U);
  EXPECT_EQ(parsed.options.map.compute.threads, 3);
  EXPECT_EQ(parsed.options.map.integration.settings.bins, 123U);
  EXPECT_EQ(parsed.options.map.integration.settings.error_model, kernels::ErrorModel::poisson);
}

TEST(BenchOptions, TheSimulatedScanHasAsManyFramesAsLinesHold) {
  BenchOptions options;
  options.frames = 100;
  const simulation::SimulationSettings settings = simulated_scan(options, 32);
  EXPECT_EQ(settings.fast, 32U);
  EXPECT_EQ(settings.slow, 3U);
  options.frames = 5;
  EXPECT_EQ(simulated_scan(options, 32).fast, 5U) << "no more than were asked for";
  EXPECT_EQ(simulated_scan(options, 32).slow, 1U);
}

}  // namespace
}  // namespace annulus::driver
