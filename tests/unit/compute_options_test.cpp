// How many frames go through the matrix together when the user does not say.
#include "mpi_driver/compute_options.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace {
namespace po = boost::program_options;
using annulus::Problems;
using annulus::driver::ComputeSettings;
using annulus::driver::cpu_batch;
using annulus::driver::opencl_batch;

ComputeSettings parse(const std::vector<std::string>& words) {
  po::variables_map given;
  po::store(po::command_line_parser(words).options(annulus::driver::compute_option_group()).run(), given);
  Problems problems;
  return annulus::driver::parse_compute_options(given, problems);
}

TEST(DefaultBatchTest, OnOpenclFramesThatAreLargeInTheirFileGoInSmallBatches) {
  // 4 megapixels of uint16 at ratios 3, 5 and 20; 16 at ratio 3.
  EXPECT_EQ(opencl_batch(3'030'000), 8U);
  EXPECT_EQ(opencl_batch(1'800'000), 16U);
  EXPECT_EQ(opencl_batch(450'000), 32U);
  EXPECT_EQ(opencl_batch(11'000'000), 8U);
  EXPECT_EQ(opencl_batch(0), 32U);
}

TEST(DefaultBatchTest, OnOpenclBatchesAreWholeGroupsOfTheProduct) {
  for (std::uint64_t bytes = 100'000; bytes < 40'000'000; bytes += 50'000) {
    const std::uint32_t batch = opencl_batch(bytes);
    EXPECT_TRUE(batch == 8 || batch == 16 || batch == 32) << bytes << " bytes: " << batch;
  }
}

TEST(DefaultBatchTest, OnCpusItGrowsWithTheThreadsByWholeGroups) {
  EXPECT_EQ(cpu_batch(1), 16U);
  EXPECT_EQ(cpu_batch(2), 16U);
  EXPECT_EQ(cpu_batch(4), 32U);
  EXPECT_EQ(cpu_batch(6), 64U);
  EXPECT_EQ(cpu_batch(16), 128U);
  EXPECT_EQ(cpu_batch(256), 128U);
}

TEST(ComputeOptionsTest, ABatchThatTheUserGivesIsKnownAsTheirs) {
  EXPECT_FALSE(parse({}).batch.has_value());
  EXPECT_EQ(parse({"--batch", "32"}).batch, 32U);
}

}  // namespace
