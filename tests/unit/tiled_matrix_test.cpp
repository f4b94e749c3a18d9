// A matrix from rows is cut into the same tiles as one that was built in tiles, by any number of threads.
#include "kernels/openmp/tiled_matrix.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/openmp/matrix_builder.hpp"
#include "tests/detectors.hpp"

namespace annulus::kernels::openmp {
namespace {

MatrixSpec spec_of(std::uint32_t bins, std::uint32_t azimuthal_bins) {
  MatrixSpec spec = test::tilted_detector(0.6435);
  spec.splitting = Splitting::full;
  spec.bins = bins;
  spec.azimuthal_bins = azimuthal_bins;
  return spec;
}

void expect_same(const TiledMatrix& found, const TiledMatrix& expected, const std::string& what) {
  EXPECT_EQ(found.bins(), expected.bins()) << what;
  EXPECT_EQ(found.columns(), expected.columns()) << what;
  EXPECT_EQ(found.entries(), expected.entries()) << what;
  EXPECT_TRUE(std::ranges::equal(found.used(), expected.used())) << what;
  ASSERT_EQ(found.tiles(), expected.tiles()) << what;
  for (std::size_t index = 0; index < expected.tiles(); ++index) {
    const TiledMatrix::Tile mine = found.tile(index);
    const TiledMatrix::Tile other = expected.tile(index);
    const auto same_row = [](const TileRow& left, const TileRow& right) {
      return left.bin == right.bin && left.end == right.end;
    };
    ASSERT_TRUE(std::ranges::equal(mine.rows, other.rows, same_row)) << what << ", tile " << index;
    const std::size_t entries = other.rows.empty() ? 0 : other.rows.back().end;
    EXPECT_TRUE(std::equal(mine.pixels, mine.pixels + entries, other.pixels)) << what << ", tile " << index;
    EXPECT_TRUE(std::equal(mine.weights, mine.weights + entries, other.weights)) << what << ", tile " << index;
  }
}

TEST(TiledMatrix, FromRowsIsTheOneThatWasBuilt) {
  // One row for all threads; usual ones; more rows than pixels, so that many are empty.
  for (const auto& [bins, azimuthal_bins] : {std::pair{1U, 0U}, {83U, 0U}, {40U, 36U}, {9000U, 3U}}) {
    BinAxes axes;
    const TiledMatrix built = build_matrix(spec_of(bins, azimuthal_bins), 2, axes);
    ASSERT_GT(built.entries(), 10'000U);
    const CsrMatrix rows = built.csr();
    for (const int threads : {1, 2, 3, 16}) {
      expect_same(TiledMatrix(rows, threads), built,
                  std::to_string(bins) + " x " + std::to_string(azimuthal_bins) + " bins, " + std::to_string(threads) +
                      " threads");
    }
  }
}

TEST(TiledMatrix, RowsWithoutEntriesAreNoTrouble) {
  CsrMatrix rows;
  rows.rows = 3;
  rows.columns = 5000;
  rows.offsets = {0, 0, 0, 0};
  const TiledMatrix matrix(rows, 4);
  EXPECT_EQ(matrix.tiles(), 2U);
  EXPECT_EQ(matrix.entries(), 0U);
  EXPECT_EQ(matrix.csr().offsets, rows.offsets);
}

}  // namespace
}  // namespace annulus::kernels::openmp
