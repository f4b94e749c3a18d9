// Ring detection: the crests of an image, as short segments with a place and a direction, and as longer curves.
//
// A ring is a ridge: steep across, slowly changing along. Where the smoothed image's Hessian has a strongly negative
// eigenvalue and the gradient along its eigenvector vanishes is a crest (C. Steger, IEEE PAMI 20 (1998) 113,
// doi:10.1109/34.659930). Background, however strong, has no such curvature, and rings that are cut by gaps, beam stops
// or the detector's edge are found as far as they go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace annulus::calibration {

/// Some neighbouring points of a crest, averaged.
struct RidgeSegment {
  double row = 0.0;  ///< pixel coordinates of the image
  double column = 0.0;
  double normal_row = 0.0;  ///< unit vector across the ridge, sign without meaning
  double normal_column = 0.0;
  double strength = 0.0;    ///< mean significance of its points, in standard deviations of the noise
  double points = 0.0;      ///< how many points of the crest it joins
  std::uint32_t curve = 0;  ///< connected segments share a number
};

/// All crests of an image.
struct RidgeMap {
  std::vector<RidgeSegment> segments;  ///< sorted by curve
  std::uint32_t curves = 0;
  double scale_px = 1.0;  ///< pixels of the image in the detection's own pixel: places are good to a part of it
  /// The image as the detection sees it: [rows, columns] sums of roots of counts, and of how many pixels each is.
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<float> roots;
  std::vector<float> weights;
};

struct RidgeSettings {
  std::uint32_t binning = 1;  ///< pixels of the image joined to one, in each direction
  double smoothing_px = 1.5;  ///< sigma of the Gaussian in binned pixels: lines down to this width are seen best
  double threshold = 4.0;     ///< in standard deviations of the noise; 4 leaves some 10 of 250,000 pixels by chance
};

/// Finds crests. `counts` and `mask` are [rows, columns]; mask 1 = not to be used. Costs some 40 ns a pixel.
[[nodiscard]] RidgeMap detect_ridges(std::span<const float> counts, std::span<const std::uint8_t> mask,
                                     std::uint32_t rows, std::uint32_t columns, const RidgeSettings& settings);

/// The binning that brings the longer side near 600 pixels: fine enough for rings some pixels apart, and quick.
[[nodiscard]] std::uint32_t detection_binning(std::uint32_t rows, std::uint32_t columns);

}  // namespace annulus::calibration
