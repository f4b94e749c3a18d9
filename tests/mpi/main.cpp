// Runs the same tests on every rank and brings all ranks to one verdict: a failure on any rank fails the job on all.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <memory>

#include "mapping/hdf5.hpp"

namespace {

/// Prints what fails, with its rank. A fatal failure leaves its test early, while the other ranks may wait for this one
/// in a collective call: it ends the whole job at once.
class RankListener : public testing::EmptyTestEventListener {
 public:
  RankListener(int rank, int ranks) : rank_(rank), ranks_(ranks) {}

  void OnTestPartResult(const testing::TestPartResult& part) override {
    if (!part.failed()) return;
    std::fprintf(stderr, "rank %d of %d: %s:%d: %s\n", rank_, ranks_, part.file_name(), part.line_number(),
                 part.message());
    if (part.fatally_failed() && ranks_ > 1) MPI_Abort(MPI_COMM_WORLD, 1);
  }

 private:
  int rank_;
  int ranks_;
};

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  testing::InitGoogleTest(&argc, argv);
  annulus::mapping::hdf5::silence();
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(std::make_unique<RankListener>(rank, ranks).release());

  int failed = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) failed = 1;  // a filter that matches nothing
  int any_failed = 0;
  MPI_Allreduce(&failed, &any_failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return any_failed;
}
