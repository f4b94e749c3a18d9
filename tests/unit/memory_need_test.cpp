// What a rank is told to need, and batches that are made to fit.
#include "mpi_driver/memory_need.hpp"

#include <gtest/gtest.h>

#include <string>

#include "base/errors.hpp"
#include "integrator/detector.hpp"
#include "kernels/engine.hpp"

namespace annulus::driver {
namespace {

constexpr std::uint64_t gigabyte = 1'000'000'000;

Experiment experiment_of(const std::string& detector, std::uint64_t frames) {
  Experiment experiment;
  integrator::Geometry& geometry = experiment.plan.geometry;
  geometry.detector = integrator::make_detector(detector);
  geometry.distance_m = 0.2;
  geometry.poni1_m = geometry.poni2_m = 0.03;
  experiment.plan.mask = geometry.detector.mask();
  experiment.frames.rows = geometry.detector.rows;
  experiment.frames.columns = geometry.detector.columns;
  experiment.frames.runs = {{"scan.h5", "/data", mapping::Storage::chunk, 0, frames, kernels::PixelType::u32}};
  experiment.scan.slow = frames / 100;
  experiment.scan.fast = 100;
  experiment.blocks = {{0, 1}};
  experiment.compute.backend = kernels::Backend::openmp;
  experiment.compute.threads = 2;
  return experiment;
}

TEST(MemoryNeed, TheLengthOfTheScanCostsItsListsAlone) {
  const MemoryNeed few = memory_need(experiment_of("Eiger2CdTe_1M", 1'000), 2'000'000, 1'000'000);
  const MemoryNeed many = memory_need(experiment_of("Eiger2CdTe_1M", 1'000'000), 2'000'000, 1'000'000);
  EXPECT_EQ(few.total() - few.scan, many.total() - many.scan);
  EXPECT_LT(many.scan, 200'000'000U);
}

TEST(MemoryNeed, ABatchMoreCostsItsFramesInEverySlot) {
  Experiment experiment = experiment_of("Eiger2CdTe_1M", 1'000);
  experiment.batch = 16;
  const std::uint64_t stored = 1'500'000;
  const std::uint64_t small = memory_need(experiment, 0, stored).batches;
  experiment.batch = 32;
  EXPECT_GE(memory_need(experiment, 0, stored).batches - small, 16 * stored * 2);
}

TEST(MemoryNeed, FramesThatNobodyCanLookAtAreTakenAsIncompressible) {
  Experiment experiment = experiment_of("Eiger2CdTe_1M", 1'000);
  const std::uint64_t decoded = experiment.frames.pixels() * 4;
  const StoredFrames lost = stored_frames(experiment.frames, 10);
  EXPECT_EQ(lost.looked_at, 10U);
  EXPECT_EQ(lost.most, most_stored_bytes(experiment.frames));
  EXPECT_GT(lost.most, decoded);
  experiment.frames.runs.front().storage = mapping::Storage::contiguous;
  const StoredFrames plain = stored_frames(experiment.frames, 10);
  EXPECT_EQ(plain.looked_at, 0U);
  EXPECT_EQ(plain.most, decoded);
  EXPECT_EQ(plain.mean, decoded);
}

TEST(MemoryNeed, EntriesAreThoseOfTheMatrixToAFewPerCent) {
  for (const auto splitting : {kernels::Splitting::no, kernels::Splitting::bbox, kernels::Splitting::full}) {
    Experiment experiment = experiment_of("Eiger2CdTe_1M", 100);
    experiment.plan.settings.splitting = splitting;
    const std::uint64_t told = matrix_entries(experiment.plan);
    const integrator::Integrator integrator(experiment.plan, kernels::make_engine(kernels::Backend::openmp, {}));
    const std::uint64_t found = integrator.engine().matrix().entries();
    EXPECT_GE(told, found) << kernels::name_of(splitting);
    // 18,000 pixels are sampled: three deviations of a mean of about two are 1.5 %, and as much again for the sample.
    EXPECT_LE(static_cast<double>(told), 1.05 * static_cast<double>(found)) << kernels::name_of(splitting);
    EXPECT_LE(found, most_matrix_entries(experiment.plan));
  }
}

TEST(FitBatch, WhatFitsIsLeftAlone) {
  Experiment experiment = experiment_of("Eiger2CdTe_16M", 1'000);
  EXPECT_EQ(fit_batch(experiment, 100 * gigabyte), "");
  EXPECT_EQ(fit_batch(experiment, 0), "") << "not known";
  EXPECT_EQ(experiment.batch, 32U);
}

TEST(FitBatch, WhatDoesNotIsMadeSmallerAndTold) {
  Experiment experiment = experiment_of("Eiger2CdTe_1M", 1'000);
  experiment.batch = 512;
  const std::uint64_t stored = most_stored_bytes(experiment.frames);
  const std::uint64_t available = memory_need(experiment, matrix_entries(experiment.plan), stored).total() / 3;
  const std::string warning = fit_batch(experiment, available);
  EXPECT_LT(experiment.batch, 512U);
  EXPECT_GE(experiment.batch, 1U);
  EXPECT_LE(memory_need(experiment, matrix_entries(experiment.plan), stored).total(), available);
  EXPECT_NE(warning.find("--batch 512"), std::string::npos) << warning;
  EXPECT_NE(warning.find("batches of " + std::to_string(experiment.batch)), std::string::npos) << warning;
}

TEST(FitBatch, NotEvenOneFrameIsAnError) {
  Experiment experiment = experiment_of("Eiger2CdTe_1M", 1'000);
  try {
    static_cast<void>(fit_batch(experiment, gigabyte / 20));
    FAIL() << "nothing was thrown";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("0.05 GB"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace annulus::driver
