#include "integrator/image_combination.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double mean(std::span<const double> values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// These take the finite values of one pixel, at least one, and may reorder them.
double median(std::span<double> values) {
  const std::size_t middle = values.size() / 2;
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(middle));
  if (values.size() % 2 == 1) return values[middle];
  return 0.5 * (values[middle] + *std::ranges::max_element(values.first(middle)));
}

double clipped_mean(std::span<const double> values, double cutoff_sigma) {
  const double centre = mean(values);
  double squares = 0.0;
  for (const double value : values) squares += (value - centre) * (value - centre);
  const double largest = cutoff_sigma * std::sqrt(squares / static_cast<double>(values.size()));
  double sum = 0.0;
  std::size_t kept = 0;
  for (const double value : values) {
    if (std::abs(value - centre) > largest) continue;
    sum += value;
    ++kept;
  }
  // A cutoff below one sigma may leave nothing.
  return kept == 0 ? centre : sum / static_cast<double>(kept);
}

double mean_between_quantiles(std::span<double> values, std::pair<double, double> quantiles) {
  const auto count = static_cast<double>(values.size());
  auto first = static_cast<std::size_t>(std::floor(std::min(quantiles.first, quantiles.second) * count));
  auto last = static_cast<std::size_t>(std::ceil(std::max(quantiles.first, quantiles.second) * count));
  if (first == last) {
    if (last < values.size()) {
      ++last;
    } else {
      --first;
    }
  }
  std::ranges::sort(values);
  return mean(values.subspan(first, last - first));
}

double combined(std::span<double> values, const CombinationSettings& settings) {
  if (values.empty()) return not_a_number;
  switch (settings.how) {
    case Combination::mean: return mean(values);
    case Combination::median: return median(values);
    case Combination::clipped_mean: return clipped_mean(values, settings.cutoff_sigma);
    case Combination::quantiles: return mean_between_quantiles(values, settings.quantiles);
  }
  return not_a_number;
}

void expect_valid(const ImageStack& stack, const CombinationSettings& settings) {
  if (stack.images == 0) throw InputError("found no image to combine, expected at least one");
  if (settings.how == Combination::clipped_mean && !(settings.cutoff_sigma > 0.0)) {
    throw InputError(fmt::format("cutoff of the clipped mean: found {} standard deviations, expected more than 0",
                                 settings.cutoff_sigma));
  }
  const auto is_share = [](double value) { return value >= 0.0 && value <= 1.0; };
  const auto [lower, upper] = settings.quantiles;
  if (settings.how == Combination::quantiles && !(is_share(lower) && is_share(upper))) {
    throw InputError(fmt::format("quantiles: found {} and {}, expected 0 to 1", lower, upper));
  }
}

std::vector<float> mean_of_images(const ImageStack& stack) {
  const std::size_t pixels = std::size_t{stack.rows} * stack.columns;
  std::vector<float> image(pixels);
  std::vector<double> sums(pixels, 0.0);
  std::vector<std::uint32_t> counts(pixels, 0);
  for (std::size_t index = 0; index < stack.images; ++index) {
    stack.read(index, 0, image);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      if (!std::isfinite(image[pixel])) continue;
      sums[pixel] += double{image[pixel]};
      ++counts[pixel];
    }
  }
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    image[pixel] = static_cast<float>(sums[pixel] / counts[pixel]);  // 0 / 0 is not a number
  }
  return image;
}

}  // namespace

std::vector<float> combine_images(const ImageStack& stack, const CombinationSettings& settings) {
  expect_valid(stack, settings);
  if (settings.how == Combination::mean) return mean_of_images(stack);

  const std::size_t row_bytes = std::max(std::size_t{1}, stack.images * stack.columns * sizeof(float));
  const auto block_rows = static_cast<std::uint32_t>(
      std::clamp(settings.memory_bytes / row_bytes, std::size_t{1}, std::max(std::size_t{1}, std::size_t{stack.rows})));
  const std::size_t block_pixels = std::size_t{block_rows} * stack.columns;
  std::vector<float> block(stack.images * block_pixels);  // [images, rows of the block, columns]
  std::vector<double> values(stack.images);
  std::vector<float> result(std::size_t{stack.rows} * stack.columns);
  for (std::uint32_t first_row = 0; first_row < stack.rows; first_row += block_rows) {
    const std::size_t pixels = std::size_t{std::min(block_rows, stack.rows - first_row)} * stack.columns;
    for (std::size_t image = 0; image < stack.images; ++image) {
      stack.read(image, first_row, std::span(block).subspan(image * block_pixels, pixels));
    }
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      std::size_t finite = 0;
      for (std::size_t image = 0; image < stack.images; ++image) {
        const float value = block[image * block_pixels + pixel];
        if (std::isfinite(value)) values[finite++] = double{value};
      }
      result[std::size_t{first_row} * stack.columns + pixel] =
          static_cast<float>(combined(std::span(values).first(finite), settings));
    }
  }
  return result;
}

std::vector<float> combine_images(std::span<const std::vector<float>> images, const CombinationSettings& settings) {
  for (const std::vector<float>& image : images) {
    if (image.size() == images.front().size()) continue;
    throw InputError(fmt::format("images to combine: found {} and {} pixels, expected images of one shape",
                                 images.front().size(), image.size()));
  }
  // As images of one column: rows are all that a reader and the memory bound need.
  const auto pixels = images.empty() ? std::size_t{0} : images.front().size();
  ANNULUS_EXPECT(pixels <= std::numeric_limits<std::uint32_t>::max() / 2);
  const ImageStack stack = {images.size(), static_cast<std::uint32_t>(pixels), 1,
                            [&](std::size_t image, std::uint32_t first_row, std::span<float> values) {
                              std::ranges::copy(std::span(images[image]).subspan(first_row, values.size()),
                                                values.begin());
                            }};
  return combine_images(stack, settings);
}

}  // namespace annulus::integrator
