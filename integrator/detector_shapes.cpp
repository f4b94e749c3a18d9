#include "integrator/detector_shapes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

constexpr std::size_t corners = 4;
constexpr std::size_t axes = 3;
constexpr std::size_t floats_a_pixel = corners * axes;

// ------------------------------------------------------------------------------------------------------ masks

/// The lines (rows or columns) of one axis that hold no pixels, as half-open intervals of physical lines.
class LineMask {
 public:
  /// `binning` physical lines make one of the `extent` lines.
  LineMask(std::uint32_t extent, std::uint32_t binning)
      : binning_(binning), physical_extent_(std::uint64_t{extent} * binning), lines_(extent, 0) {}

  [[nodiscard]] std::uint64_t physical_extent() const { return physical_extent_; }

  void add(std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t line = first; line < std::min(end, physical_extent_); ++line) lines_[line / binning_] = 1;
  }

  [[nodiscard]] std::vector<std::uint8_t> take() && { return std::move(lines_); }

 private:
  std::uint64_t binning_;
  std::uint64_t physical_extent_;
  std::vector<std::uint8_t> lines_;
};

/// One axis of a detector, in physical pixels.
struct Axis {
  std::uint32_t extent;
  std::uint32_t binning;
  std::uint32_t module;
  std::uint32_t gap = 0;
  std::uint32_t seam_before = 0;
  std::uint32_t seam_after = 0;
};

std::vector<std::uint8_t> gap_lines(const Axis& axis) {
  LineMask mask(axis.extent, axis.binning);
  const std::uint64_t period = std::uint64_t{axis.module} + axis.gap;
  for (std::uint64_t start = 0; start < mask.physical_extent(); start += period) {
    mask.add(start + axis.module, start + period);
    const std::uint64_t middle = start + axis.module / 2;
    if (middle < mask.physical_extent()) mask.add(middle - axis.seam_before, middle + axis.seam_after);
  }
  return std::move(mask).take();
}

std::vector<std::uint8_t> border_lines(const Axis& axis) {
  LineMask mask(axis.extent, axis.binning);
  mask.add(0, 1);
  mask.add(mask.physical_extent() - 1, mask.physical_extent());
  for (std::uint64_t module = 1; module < mask.physical_extent() / axis.module; ++module) {
    mask.add(module * axis.module - 1, module * axis.module + 1);
  }
  return std::move(mask).take();
}

/// Chips of 256 pixels and the two that stand for each double-sized one: a chip begins every 258 lines of a module, and
/// 255 to 258 of them are a seam. None lies within the detector's last two lines.
std::vector<std::uint8_t> chip_seam_lines(const Axis& axis) {
  constexpr std::uint64_t chip = 256;
  constexpr std::uint64_t pitch = chip + 2;
  LineMask mask(axis.extent, axis.binning);
  const std::uint64_t end = mask.physical_extent() - std::min<std::uint64_t>(2, mask.physical_extent());
  for (std::uint64_t module = 0; module < mask.physical_extent(); module += axis.module) {
    for (std::uint64_t start = module; start + pitch <= module + axis.module; start += pitch) {
      mask.add(std::min(start + chip - 1, end), std::min(start + chip + 3, end));
    }
  }
  return std::move(mask).take();
}

std::vector<std::uint8_t> mask_of_lines(Shape shape, const std::vector<std::uint8_t>& masked_rows,
                                        const std::vector<std::uint8_t>& masked_columns) {
  std::vector<std::uint8_t> pixels(shape.pixels());
  for (std::size_t row = 0; row < shape.rows; ++row) {
    std::uint8_t* line = pixels.data() + row * shape.columns;
    if (masked_rows[row] != 0) {
      std::fill_n(line, shape.columns, std::uint8_t{1});
    } else {
      std::ranges::copy(masked_columns, line);
    }
  }
  return pixels;
}

/// Pixels whose centre is farther than half the rows from the middle.
std::vector<std::uint8_t> outside_circle(Shape shape) {
  std::vector<std::uint8_t> pixels(shape.pixels());
  const double middle1 = shape.rows / 2;
  const double middle2 = shape.columns / 2;
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const double y = static_cast<double>(row) + 0.5 - middle1;
    for (std::size_t column = 0; column < shape.columns; ++column) {
      const double x = static_cast<double>(column) + 0.5 - middle2;
      pixels[row * shape.columns + column] = y * y + x * x > middle1 * middle1 ? 1 : 0;
    }
  }
  return pixels;
}

std::vector<std::uint8_t> outside_chips(const Family& family, Shape shape, Binning binning) {
  // A binned pixel is one when all of its physical ones are in chips, of which several may share it.
  std::vector<std::uint32_t> inside(shape.pixels(), 0);
  for (const ChipPlace& chip : jungfrau_8m_chips()) {
    for (std::uint32_t row = chip.row; row < chip.row + family.module_rows; ++row) {
      if (row / binning.rows >= shape.rows) break;
      for (std::uint32_t column = chip.column; column < chip.column + family.module_columns; ++column) {
        if (column / binning.columns >= shape.columns) break;
        ++inside[static_cast<std::size_t>(row / binning.rows) * shape.columns + column / binning.columns];
      }
    }
  }
  std::vector<std::uint8_t> pixels(shape.pixels());
  const std::uint64_t all = std::uint64_t{binning.rows} * binning.columns;
  std::ranges::transform(inside, pixels.begin(), [all](std::uint32_t count) { return count < all ? 1 : 0; });
  return pixels;
}

// --------------------------------------------------------------------------------------------------- positions

/// Both ends of each pixel along one axis, in m, rounded as they are stored; z is 0 for flat detectors.
struct Ends {
  std::vector<float> low;
  std::vector<float> high;
  std::vector<float> low_z;
  std::vector<float> high_z;
};

/// Pixels one after the other between `edges` [extent + 1].
Ends ends_of(const std::vector<double>& edges) {
  Ends ends;
  for (std::size_t line = 0; line + 1 < edges.size(); ++line) {
    ends.low.push_back(static_cast<float>(edges[line]));
    ends.high.push_back(static_cast<float>(edges[line + 1]));
  }
  ends.low_z.assign(ends.low.size(), 0.0F);
  ends.high_z.assign(ends.low.size(), 0.0F);
  return ends;
}

std::vector<float> vertices_of(const Ends& rows, const Ends& columns) {
  std::vector<float> vertices(rows.low.size() * columns.low.size() * floats_a_pixel);
  float* out = vertices.data();
  for (std::size_t row = 0; row < rows.low.size(); ++row) {
    for (std::size_t column = 0; column < columns.low.size(); ++column) {
      const std::array<float, floats_a_pixel> pixel = {
          columns.low_z[column],  rows.low[row],  columns.low[column],    //
          columns.low_z[column],  rows.high[row], columns.low[column],    //
          columns.high_z[column], rows.high[row], columns.high[column],   //
          columns.high_z[column], rows.low[row],  columns.high[column]};  //
      out = std::ranges::copy(pixel, out).out;
    }
  }
  return vertices;
}

/// Sizes of pixels along one axis: `edge_width` times wider beside each junction of two modules.
std::vector<double> pixel_sizes(std::uint32_t extent, std::uint32_t module, double pixel_m, double edge_width) {
  std::vector<double> sizes(extent, pixel_m);
  for (std::size_t junction = 1; junction < extent / module; ++junction) {
    sizes[junction * module - 1] = pixel_m * edge_width;
    sizes[junction * module] = pixel_m * edge_width;
  }
  return sizes;
}

Ends wide_edges(std::uint32_t extent, std::uint32_t module, double pixel_m, double edge_width) {
  std::vector<double> edges{0.0};
  for (const double size : pixel_sizes(extent, module, pixel_m, edge_width)) edges.push_back(edges.back() + size);
  return ends_of(edges);
}

/// The ends of pixels from their centres, with `gap_m` between modules.
template <typename Real>
Ends ends_of_sizes(const std::vector<Real>& sizes, std::uint32_t module, double gap_m) {
  Ends ends;
  Real before = 0;
  for (std::size_t line = 0; line < sizes.size(); ++line) {
    Real centre = sizes[line] / 2 + before;
    centre += static_cast<Real>(static_cast<double>(line / module) * gap_m);
    ends.low.push_back(static_cast<float>(centre - sizes[line] / 2));
    ends.high.push_back(static_cast<float>(centre + sizes[line] / 2));
    before += sizes[line];
  }
  ends.low_z.assign(sizes.size(), 0.0F);
  ends.high_z.assign(sizes.size(), 0.0F);
  return ends;
}

std::vector<float> xpad_flat(const Family& family, Shape shape, double pixel1_m, double pixel2_m) {
  constexpr double gap_m = 3.57e-3;
  const std::vector<double> heights(shape.rows, pixel1_m);
  const auto widths = pixel_sizes(shape.columns, family.module_columns, pixel2_m, family.edge_width);
  return vertices_of(ends_of_sizes(heights, family.module_rows, gap_m),
                     ends_of_sizes(widths, family.module_columns, 0.0));
}

/// Twenty plates of seven modules, each turned by 6.74 degrees against the one before.
std::vector<float> cirpad(const Family& family) {
  constexpr std::size_t plates = 20;
  constexpr double step_deg = 6.74;
  constexpr std::uint32_t plate_rows = 560;
  constexpr double degree = std::numbers::pi / 180.0;
  // From plate to plate: 560 pixels, 3 more for each of the 6 junctions of wide ones, and 20 of distance.
  constexpr double pitch_m = (560.0 + 3 * 6 + 20) * 0.13 / 1000;
  const auto heights = pixel_sizes(plate_rows, family.module_rows, family.pixel1_m, family.edge_width);
  // pyFAI adds the widths up in float32.
  const std::vector<float> widths(family.module_columns, static_cast<float>(family.pixel2_m));
  const std::vector<float> plate =
      vertices_of(ends_of_sizes(heights, plate_rows, 0.0), ends_of_sizes(widths, family.module_columns, 0.0));
  std::vector<float> vertices;
  vertices.reserve(plates * plate.size());
  for (std::size_t index = 0; index < plates; ++index) {
    const double turn_deg = step_deg * static_cast<double>(index);
    double shift_z = 0.0;
    double shift_y = 0.0;
    for (std::size_t other = 1; other < index; ++other) {
      shift_z += std::sin((turn_deg - step_deg * static_cast<double>(other)) * degree);
    }
    for (std::size_t other = 0; other < index; ++other) {
      shift_y += std::cos((turn_deg - step_deg * static_cast<double>(other + 1)) * degree);
    }
    const double sine = std::sin(turn_deg * degree);
    const double cosine = std::cos(turn_deg * degree);
    for (std::size_t corner = 0; corner < plate.size(); corner += axes) {
      const double y = plate[corner + 1];
      vertices.push_back(static_cast<float>(sine * y + pitch_m * shift_z));
      vertices.push_back(static_cast<float>(cosine * y + pitch_m * shift_y));
      vertices.push_back(plate[corner + 2]);
    }
  }
  return vertices;
}

/// Bent about axis 1 towards the sample, so that z <= 0; the first column touches the plane z = 0.
std::vector<float> cylinder(Shape shape, double pixel1_m, double pixel2_m, double radius_m) {
  std::vector<double> rows;
  for (std::size_t edge = 0; edge <= shape.rows; ++edge) rows.push_back(static_cast<double>(edge) * pixel1_m);
  Ends columns;
  const double angle_step = pixel2_m / radius_m;
  for (std::size_t edge = 0; edge <= shape.columns; ++edge) {
    const double angle = static_cast<double>(edge) * angle_step;
    const auto x = static_cast<float>(radius_m * std::sin(angle));
    const auto z = static_cast<float>(radius_m * (std::cos(angle) - 1.0));
    if (edge < shape.columns) {
      columns.low.push_back(x);
      columns.low_z.push_back(z);
    }
    if (edge > 0) {
      columns.high.push_back(x);
      columns.high_z.push_back(z);
    }
  }
  return vertices_of(ends_of(rows), columns);
}

}  // namespace

std::vector<std::uint8_t> model_mask(const Model& model, Shape shape, Binning binning) {
  const Family& family = family_of(model);
  const Axis rows{shape.rows, binning.rows, family.module_rows, family.gap_rows};
  const Axis columns{shape.columns,      binning.columns,    family.module_columns,
                     family.gap_columns, family.seam_before, family.seam_after};
  switch (family.mask) {
    case MaskShape::none: break;
    case MaskShape::gaps: return mask_of_lines(shape, gap_lines(rows), gap_lines(columns));
    case MaskShape::borders: return mask_of_lines(shape, border_lines(rows), border_lines(columns));
    case MaskShape::chip_seams: return mask_of_lines(shape, chip_seam_lines(rows), chip_seam_lines(columns));
    case MaskShape::circle: return outside_circle(shape);
    case MaskShape::outside_chips: return outside_chips(family, shape, binning);
  }
  return std::vector<std::uint8_t>(shape.pixels(), 0);
}

std::vector<float> model_vertices(const Model& model, Shape shape, double pixel1_m, double pixel2_m, double radius_m) {
  const Family& family = family_of(model);
  switch (family.layout) {
    case Layout::grid:
    case Layout::spline: break;
    case Layout::wide_edges:
      return vertices_of(wide_edges(shape.rows, family.module_rows, pixel1_m, family.edge_width),
                         wide_edges(shape.columns, family.module_columns, pixel2_m, family.edge_width));
    case Layout::xpad_flat: return xpad_flat(family, shape, pixel1_m, pixel2_m);
    case Layout::cirpad: return cirpad(family);
    case Layout::cylinder: return cylinder(shape, pixel1_m, pixel2_m, radius_m);
  }
  return {};
}

std::vector<float> binned_vertices(std::span<const float> vertices, Shape shape, Binning binning) {
  ANNULUS_EXPECT(vertices.size() == shape.pixels() * floats_a_pixel);
  const Shape binned{shape.rows / binning.rows, shape.columns / binning.columns};
  std::vector<float> result(binned.pixels() * floats_a_pixel);
  float* out = result.data();
  for (std::size_t row = 0; row < binned.rows; ++row) {
    for (std::size_t column = 0; column < binned.columns; ++column) {
      for (std::size_t corner = 0; corner < corners; ++corner) {
        const bool last_row = corner == 1 || corner == 2;
        const bool last_column = corner == 2 || corner == 3;
        const std::size_t from_row = row * binning.rows + (last_row ? binning.rows - 1 : 0);
        const std::size_t from_column = column * binning.columns + (last_column ? binning.columns - 1 : 0);
        const std::size_t from = ((from_row * shape.columns + from_column) * corners + corner) * axes;
        out = std::ranges::copy(vertices.subspan(from, axes), out).out;
      }
    }
  }
  return result;
}

std::vector<float> flipped_vertices(std::span<const float> vertices, Shape shape, Flip flip1, Flip flip2) {
  ANNULUS_EXPECT(vertices.size() == shape.pixels() * floats_a_pixel);
  // The corner that takes the place of (0, 0), (1, 0), (1, 1), (0, 1).
  std::array<std::size_t, corners> from_corner = {0, 1, 2, 3};
  if (flip1 == Flip::yes) from_corner = {1, 0, 3, 2};
  if (flip2 == Flip::yes) std::ranges::reverse(from_corner);
  std::vector<float> result(vertices.size());
  float* out = result.data();
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const std::size_t from_row = flip1 == Flip::yes ? shape.rows - 1 - row : row;
    for (std::size_t column = 0; column < shape.columns; ++column) {
      const std::size_t from_column = flip2 == Flip::yes ? shape.columns - 1 - column : column;
      for (const std::size_t corner : from_corner) {
        const std::size_t from = ((from_row * shape.columns + from_column) * corners + corner) * axes;
        out = std::ranges::copy(vertices.subspan(from, axes), out).out;
      }
    }
  }
  return result;
}

std::vector<float> vertices_of_nodes(std::span<const double> y_m, std::span<const double> x_m, Shape shape) {
  const std::size_t across = std::size_t{shape.columns} + 1;
  ANNULUS_EXPECT(y_m.size() == (std::size_t{shape.rows} + 1) * across && x_m.size() == y_m.size());
  std::vector<float> vertices(shape.pixels() * floats_a_pixel);
  float* out = vertices.data();
  for (std::size_t row = 0; row < shape.rows; ++row) {
    for (std::size_t column = 0; column < shape.columns; ++column) {
      const std::size_t node = row * across + column;
      for (const std::size_t corner : {node, node + across, node + across + 1, node + 1}) {
        *out++ = 0.0F;
        *out++ = static_cast<float>(y_m[corner]);
        *out++ = static_cast<float>(x_m[corner]);
      }
    }
  }
  return vertices;
}

std::vector<float> displaced_vertices(std::span<const double> offset1, std::span<const double> offset2, Shape shape,
                                      double pixel1_m, double pixel2_m, Flip flip1, Flip flip2) {
  ANNULUS_EXPECT(offset1.size() == shape.pixels() && offset2.size() == shape.pixels());
  constexpr double percent = 100.0;
  const std::size_t across = std::size_t{shape.columns} + 1;
  std::vector<double> y_m((std::size_t{shape.rows} + 1) * across);
  std::vector<double> x_m(y_m.size());
  for (std::size_t row = 0; row <= shape.rows; ++row) {
    for (std::size_t column = 0; column <= shape.columns; ++column) {
      double delta1 = 0.0;
      double delta2 = 0.0;
      const auto take = [&](std::size_t up, std::size_t left) {
        if (delta1 != 0.0 || row < up || column < left || row - up >= shape.rows || column - left >= shape.columns) {
          return;
        }
        const std::size_t pixel = (row - up) * shape.columns + column - left;
        delta1 = std::trunc(offset1[pixel]);
        delta2 = std::trunc(offset2[pixel]);
      };
      take(0, 0);
      take(1, 0);
      take(1, 1);
      take(0, 1);
      const auto place1 = static_cast<double>(flip1 == Flip::yes ? shape.rows - row : row);
      const auto place2 = static_cast<double>(flip2 == Flip::yes ? shape.columns - column : column);
      // The files hold the negative of the displacement.
      y_m[row * across + column] = pixel1_m * (place1 - delta1 / percent);
      x_m[row * across + column] = pixel2_m * (place2 - delta2 / percent);
    }
  }
  return vertices_of_nodes(y_m, x_m, shape);
}

}  // namespace annulus::integrator
