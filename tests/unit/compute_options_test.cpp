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

TEST(DefaultBatchTest, OnOpenclFramesThatAreLargeInTheirFileGoInSmallBatches) {
  // 4 megapixels of uint16 at ratios 3, 5 and 20; 16 at ratio 3.
  EXPECT_EQ(default_batch(Backend::opencl, 3'030'000), 8U);
  EXPECT_EQ(default_batch(Backend::opencl, 1'800'000), 16U);
  EXPECT_EQ(default_batch(Backend::opencl, 450'000), 32U);
  EXPECT_EQ(default_batch(Backend::opencl, 11'000'000), 8U);
  EXPECT_EQ(default_batch(Backend::opencl, 0), 32U);
}

TEST(DefaultBatchTest, OnOpenclBatchesAreWholeGroupsOfTheProduct) {
  for (std::uint64_t bytes = 100'000; bytes < 40'000'000; bytes += 50'000) {
    const std::uint32_t batch = default_batch(Backend::opencl, bytes);
    EXPECT_TRUE(batch == 8 || batch == 16 || batch == 32) << bytes << " bytes: " << batch;
  }
}

TEST(DefaultBatchTest, OtherBackendsTakeBatchesOfOneSize) {
  EXPECT_EQ(default_batch(Backend::openmp, 4 * 16 * megapixel), 32U);
  EXPECT_EQ(default_batch(Backend::reference, 2 * megapixel), 32U);
}

TEST(ComputeOptionsTest, ABatchThatTheUserGivesIsKnownAsTheirs) {
  EXPECT_FALSE(parse({}).batch.has_value());
  EXPECT_EQ(parse({"--batch", "32"}).batch, 32U);
}

}  // namespace
