// Masks and pixel positions of the detectors of the registry, and what binning and orientation make of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "integrator/detector_registry.hpp"

namespace annulus::integrator {

/// Rows and columns of pixels.
struct Shape {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;

  [[nodiscard]] std::size_t pixels() const { return static_cast<std::size_t>(rows) * columns; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

/// How many physical pixels one pixel of an image stands for, along both axes.
struct Binning {
  std::uint32_t rows = 1;
  std::uint32_t columns = 1;

  friend bool operator==(const Binning&, const Binning&) = default;
};

/// [shape] 1 = not a pixel: a pixel of the image is none when any of its physical ones is none.
[[nodiscard]] std::vector<std::uint8_t> model_mask(const Model& model, Shape shape, Binning binning);

/// [shape, 4, 3] corners of the pixels as Detector::vertices has them, orientation 3; `shape` and pixel sizes are those
/// before binning. Empty for a regular flat grid. Positions are computed in float64 and in the order of operations of
/// pyFAI's get_pixel_corners(), then rounded to float32 as there.
[[nodiscard]] std::vector<float> model_vertices(const Model& model, Shape shape, double pixel1_m, double pixel2_m,
                                                double radius_m);

/// [binned, 4, 3] The outer corners of `binning` pixels each; what does not fill a binned pixel is left out.
[[nodiscard]] std::vector<float> binned_vertices(std::span<const float> vertices, Shape shape, Binning binning);

enum class Flip : bool { no, yes };

/// [shape, 4, 3] The same corners with rows (`flip1`) and columns (`flip2`) counted from the other end.
[[nodiscard]] std::vector<float> flipped_vertices(std::span<const float> vertices, Shape shape, Flip flip1, Flip flip2);

/// [shape, 4, 3] Vertices of a flat grid whose corners (row, column) of [rows + 1, columns + 1] stand at y_m, x_m.
[[nodiscard]] std::vector<float> vertices_of_nodes(std::span<const double> y_m, std::span<const double> x_m,
                                                   Shape shape);

/// [shape, 4, 3] Vertices of a regular grid, each corner displaced against an image of offsets in hundredths of a
/// pixel, as they come with Pilatus detectors. Corner (i, j) takes the offset of pixel (i, j), and of (i - 1, j), (i -
/// 1, j - 1), (i, j - 1), in this order, while the former's `offset1` is 0 or not there: so pyFAI does it, and it cuts
/// offsets to whole numbers. Rows and columns are counted with `flip1` and `flip2`, offsets by the image's own.
[[nodiscard]] std::vector<float> displaced_vertices(std::span<const double> offset1, std::span<const double> offset2,
                                                    Shape shape, double pixel1_m, double pixel2_m, Flip flip1,
                                                    Flip flip2);

}  // namespace annulus::integrator
