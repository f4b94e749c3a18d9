// Dark and flat images made into one: hand-computed pixels, and the same result for any block of rows.
#include "integrator/image_combination.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

CombinationSettings with(Combination how) {
  CombinationSettings settings;
  settings.how = how;
  return settings;
}

/// One pixel with these values in a list of images.
float combine_pixel(const std::vector<float>& values, const CombinationSettings& settings) {
  std::vector<std::vector<float>> images;
  for (const float value : values) images.push_back({value});
  return combine_images(images, settings).at(0);
}

TEST(ImageCombination, MeanIsTakenPixelByPixel) {
  const std::vector<std::vector<float>> images = {{1.0F, 10.0F}, {2.0F, 20.0F}, {6.0F, 60.0F}};
  EXPECT_EQ(combine_images(images), (std::vector<float>{3.0F, 30.0F}));
}

TEST(ImageCombination, MeanOfManyLargeCountsKeepsTheirUnits) {
  // 2^24 + 1 is no float32 sum: each addition of 1 to 2^24 would be lost.
  std::vector<float> values(101, 1.0F);
  values[0] = 16777216.0F;
  EXPECT_FLOAT_EQ(combine_pixel(values, with(Combination::mean)), (16777216.0F + 100.0F) / 101.0F);
}

TEST(ImageCombination, MedianIsTheMiddleOrTheMeanOfTheMiddleTwo) {
  EXPECT_EQ(combine_pixel({9.0F, 1.0F, 4.0F}, with(Combination::median)), 4.0F);
  EXPECT_EQ(combine_pixel({9.0F, 1.0F, 4.0F, 3.0F}, with(Combination::median)), 3.5F);
  EXPECT_EQ(combine_pixel({7.0F}, with(Combination::median)), 7.0F);
}

TEST(ImageCombination, ClippedMeanDropsAZinger) {
  std::vector<float> values(20, 10.0F);
  values[7] = 10000.0F;  // sqrt(19) = 4.36 standard deviations from the mean
  EXPECT_EQ(combine_pixel(values, with(Combination::clipped_mean)), 10.0F);
  CombinationSettings wide = with(Combination::clipped_mean);
  wide.cutoff_sigma = 4.5;
  EXPECT_EQ(combine_pixel(values, wide), 509.5F);
  EXPECT_EQ(combine_pixel({5.0F, 5.0F}, with(Combination::clipped_mean)), 5.0F);  // no deviation, nothing dropped
  wide.cutoff_sigma = 0.5;
  EXPECT_EQ(combine_pixel({4.0F, 6.0F}, wide), 5.0F);  // both are one sigma away: all or nothing
}

TEST(ImageCombination, QuantilesChooseSortedValues) {
  CombinationSettings settings = with(Combination::quantiles);
  const std::vector<float> values = {50.0F, 10.0F, 40.0F, 20.0F, 30.0F};
  EXPECT_EQ(combine_pixel(values, settings), 30.0F);  // floor(2.5) to below ceil(2.5)
  settings.quantiles = {0.2, 0.8};
  EXPECT_EQ(combine_pixel(values, settings), 30.0F);
  settings.quantiles = {0.0, 0.4};
  EXPECT_EQ(combine_pixel(values, settings), 15.0F);
  settings.quantiles = {1.0, 1.0};
  EXPECT_EQ(combine_pixel(values, settings), 50.0F);
  settings.quantiles = {0.0, 0.0};
  EXPECT_EQ(combine_pixel(values, settings), 10.0F);
}

TEST(ImageCombination, ValuesThatAreNotFiniteAreLeftOut) {
  const float infinite = std::numeric_limits<float>::infinity();
  for (const Combination how : {Combination::mean, Combination::median, Combination::clipped_mean}) {
    EXPECT_EQ(combine_pixel({nan_value, 3.0F, infinite, 5.0F}, with(how)), 4.0F);
    EXPECT_TRUE(std::isnan(combine_pixel({nan_value, -infinite}, with(how))));
  }
  EXPECT_EQ(combine_pixel({nan_value, 3.0F, 5.0F, 4.0F}, with(Combination::quantiles)), 4.0F);
}

TEST(ImageCombination, BlocksOfRowsDoNotChangeTheResultAndBoundTheMemory) {
  constexpr std::uint32_t rows = 23;
  constexpr std::uint32_t columns = 7;
  constexpr std::size_t count = 6;
  std::mt19937 random(3);
  std::vector<std::vector<float>> images(count, std::vector<float>(std::size_t{rows} * columns));
  for (auto& image : images) std::ranges::generate(image, [&] { return static_cast<float>(random() % 1000); });
  for (const Combination how : {Combination::median, Combination::clipped_mean, Combination::quantiles}) {
    const auto expected = combine_images(images, with(how));
    for (const std::uint32_t block_rows : {1U, 5U, 22U}) {
      std::size_t largest = 0;
      std::size_t read = 0;
      const ImageStack stack = {
          count, rows, columns, [&](std::size_t image, std::uint32_t first_row, std::span<float> values) {
            largest = std::max(largest, values.size());
            read += values.size();
            std::ranges::copy(std::span(images[image]).subspan(first_row * columns, values.size()), values.begin());
          }};
      CombinationSettings settings = with(how);
      settings.memory_bytes = count * block_rows * columns * sizeof(float);
      EXPECT_EQ(combine_images(stack, settings), expected);
      EXPECT_EQ(largest, std::size_t{block_rows} * columns);
      EXPECT_EQ(read, count * rows * columns);  // each value once
    }
  }
}

TEST(ImageCombination, MeanReadsEachImageOnceAndWhole) {
  std::vector<std::size_t> order;
  const ImageStack stack = {3, 4, 5, [&](std::size_t image, std::uint32_t first_row, std::span<float> values) {
                              EXPECT_EQ(first_row, 0U);
                              EXPECT_EQ(values.size(), 20U);
                              order.push_back(image);
                              std::ranges::fill(values, static_cast<float>(image));
                            }};
  EXPECT_EQ(combine_images(stack), std::vector<float>(20, 1.0F));
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2}));
}

TEST(ImageCombination, WhatCannotBeCombinedIsRefused) {
  const std::vector<std::vector<float>> none;
  EXPECT_THROW(static_cast<void>(combine_images(none)), InputError);
  const std::vector<std::vector<float>> uneven = {{1.0F}, {1.0F, 2.0F}};
  EXPECT_THROW(static_cast<void>(combine_images(uneven)), InputError);
  CombinationSettings settings = with(Combination::clipped_mean);
  settings.cutoff_sigma = 0.0;
  EXPECT_THROW(static_cast<void>(combine_pixel({1.0F}, settings)), InputError);
  settings = with(Combination::quantiles);
  settings.quantiles = {0.5, 1.5};
  EXPECT_THROW(static_cast<void>(combine_pixel({1.0F}, settings)), InputError);
}

}  // namespace
}  // namespace annulus::integrator
