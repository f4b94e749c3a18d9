// How many frames go through the matrix together when the user does not say.
#include "mpi_driver/compute_options.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace {
namespace po = boost::program_options;
using annulus::Problems;
using annulus::driver::ComputeSettings;
using annulus::driver::default_batch;
using annulus::kernels::Backend;

constexpr std::uint64_t megapixel = 1'000'000;

ComputeSettings parse(const std::vector<std::string>& words) {
  po::variables_map given;
  po::store(po::command_line_parser(words).options(annulus::driver::compute_option_group()).run(), given);
  Problems problems;
  return annulus::driver::parse_compute_options(given, problems);
}

TEST(DefaultBatchTest, OnOpenclLargeFramesGoInSmallBatches) {
  EXPECT_EQ(default_batch(Backend::opencl, 2 * megapixel), 32U);
  EXPECT_EQ(default_batch(Backend::opencl, 2 * 2 * megapixel), 18U);
  EXPECT_EQ(default_batch(Backend::opencl, 2162 * 2068 * 2), 8U);
  EXPECT_EQ(default_batch(Backend::opencl, 4 * 16 * megapixel), 8U);
  EXPECT_EQ(default_batch(Backend::opencl, 0), 32U);
}

TEST(DefaultBatchTest, OtherBackendsTakeBatchesOfOneSize) {
  EXPECT_EQ(default_batch(Backend::openmp, 4 * 16 * megapixel), 32U);
  EXPECT_EQ(default_batch(Backend::reference, 2 * megapixel), 32U);
}

TEST(ComputeOptionsTest, ABatchThatTheUserGivesIsKnownAsTheirs) {
  EXPECT_FALSE(parse({}).batch_given);
  const ComputeSettings given = parse({"--batch", "32"});
  EXPECT_TRUE(given.batch_given);
  EXPECT_EQ(given.batch, 32U);
}

}  // namespace
