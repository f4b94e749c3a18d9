// Several dark or flat images made into one, pixel by pixel, within bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace annulus::integrator {

enum class Combination : std::uint8_t {
  mean,
  median,        ///< of an even number of values, the mean of the middle two
  clipped_mean,  ///< mean of what is left when values far from the mean of all are dropped
  quantiles,     ///< mean of the sorted values between two quantiles
};

struct CombinationSettings {
  Combination how = Combination::mean;
  /// clipped_mean: values farther from the mean than this many standard deviations (of all values, divisor n) are
  /// dropped, once. pyFAI's default for dark and flat images is 4: of n values
  /// none can lie beyond sqrt(n - 1), so 18 images are the least of which one can be dropped.
  double cutoff_sigma = 4.0;
  /// quantiles: of n sorted values those from floor(lower * n) to below ceil(upper * n), at least one. (0.5, 0.5) is
  /// the upper middle value.
  std::pair<double, double> quantiles = {0.5, 0.5};
  std::size_t memory_bytes = std::size_t{256} << 20U;  ///< about what the values in work may take, beside the result
};

/// The images, all of one shape: read(image, first_row, values) puts rows [first_row, first_row + values.size() /
/// columns) of an image into `values` [rows, columns]. The mean reads each image once and whole; the others read all
/// images a block of rows at a time, in the images' order, so that a list that fits into memory_bytes is read once too.
struct ImageStack {
  std::size_t images = 0;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::function<void(std::size_t image, std::uint32_t first_row, std::span<float> values)> read;
};

/// [rows, columns] float32, computed in float64. Values that are not finite are left out; a pixel without any other is
/// not a number. Throws InputError for a list without images, a cutoff that is not positive or quantiles beyond 0 to 1;
/// what `read` throws, passes.
[[nodiscard]] std::vector<float> combine_images(const ImageStack& stack, const CombinationSettings& settings = {});

/// The same for images in memory, each [pixels]; throws InputError when their sizes differ.
[[nodiscard]] std::vector<float> combine_images(std::span<const std::vector<float>> images,
                                                const CombinationSettings& settings = {});

}  // namespace annulus::integrator
