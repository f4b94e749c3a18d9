#include "integrator/corrections.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <thread>

#include <fmt/format.h>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"

namespace annulus::integrator {
namespace {

/// One row of pixels: where their centres stand along the detector's axes, seen from the sample, in m. [columns] each.
class PixelRow {
 public:
  explicit PixelRow(const kernels::PixelGeometry& geometry)
      : geometry_(geometry),
        p1_m_(geometry.columns),
        p2_m_(geometry.columns),
        p3_m_(geometry.columns, geometry.distance_m),
        cosine_(geometry.columns),
        area_m2_(geometry.vertices.empty() ? 0 : geometry.columns),
        scratch_(geometry.columns) {}

  void go_to(std::uint32_t row) {
    if (geometry_.vertices.empty()) {
      take_regular(row);
    } else {
      take_vertices(row);
    }
  }

  [[nodiscard]] const kernels::PixelGeometry& geometry() const { return geometry_; }
  [[nodiscard]] std::span<const double> p1_m() const { return p1_m_; }
  [[nodiscard]] std::span<const double> p2_m() const { return p2_m_; }
  [[nodiscard]] std::span<const double> p3_m() const { return p3_m_; }
  /// Of the angle between the ray and the pixel's normal.
  [[nodiscard]] std::span<const double> cosine() const { return cosine_; }
  /// Only with vertices.
  [[nodiscard]] std::span<const double> area_m2() const { return area_m2_; }
  /// For the user's own numbers.
  [[nodiscard]] std::span<double> scratch() { return scratch_; }

 private:
  void take_regular(std::uint32_t row) {
    const double index1 = geometry_.flip1 ? geometry_.rows - (row + 0.5) : row + 0.5;
    const double p1 = geometry_.pixel1_m * index1 - geometry_.poni1_m;
    const double p3 = geometry_.distance_m;
    for (std::uint32_t column = 0; column < geometry_.columns; ++column) {
      const double index2 = geometry_.flip2 ? geometry_.columns - (column + 0.5) : column + 0.5;
      const double p2 = geometry_.pixel2_m * index2 - geometry_.poni2_m;
      p1_m_[column] = p1;
      p2_m_[column] = p2;
      cosine_[column] = p3 / std::sqrt(p1 * p1 + p2 * p2 + p3 * p3);
    }
  }

  void take_vertices(std::uint32_t row) {
    for (std::uint32_t column = 0; column < geometry_.columns; ++column) {
      // Corners a, b, c, d around the pixel, each (z, y, x).
      const float* a = geometry_.vertices.data() + 12 * (std::size_t{row} * geometry_.columns + column);
      const auto mean = [&](std::size_t axis) {
        return 0.25 * (double{a[axis]} + double{a[3 + axis]} + double{a[6 + axis]} + double{a[9 + axis]});
      };
      const auto first_diagonal = [&](std::size_t axis) { return double{a[6 + axis]} - double{a[axis]}; };
      const auto second_diagonal = [&](std::size_t axis) { return double{a[9 + axis]} - double{a[3 + axis]}; };
      // The component of their cross product along the axis that `left` and `right` follow in the cycle (z, y, x).
      const auto normal = [&](std::size_t left, std::size_t right) {
        return first_diagonal(left) * second_diagonal(right) - first_diagonal(right) * second_diagonal(left);
      };
      const double p3 = mean(0) + geometry_.distance_m;
      const double p1 = mean(1) - geometry_.poni1_m;
      const double p2 = mean(2) - geometry_.poni2_m;
      const double normal3 = normal(1, 2);
      const double normal1 = normal(2, 0);
      const double normal2 = normal(0, 1);
      const double normal_length = std::sqrt(normal1 * normal1 + normal2 * normal2 + normal3 * normal3);
      const double ray_m = std::sqrt(p1 * p1 + p2 * p2 + p3 * p3);
      p1_m_[column] = p1;
      p2_m_[column] = p2;
      p3_m_[column] = p3;
      // The corners of some orientations run the other way around: the normal has no front.
      cosine_[column] = std::abs(p1 * normal1 + p2 * normal2 + p3 * normal3) / (ray_m * normal_length);
      area_m2_[column] = 0.5 * normal_length;
    }
  }

  const kernels::PixelGeometry& geometry_;
  std::vector<double> p1_m_;
  std::vector<double> p2_m_;
  std::vector<double> p3_m_;
  std::vector<double> cosine_;
  std::vector<double> area_m2_;
  std::vector<double> scratch_;
};

/// Each of these overwrites `out` [columns].
void solid_angle_of_row(const PixelRow& row, kernels::Convention convention, PixelArea area, std::span<double> out) {
  const kernels::PixelGeometry& geometry = row.geometry();
  const auto cosine = row.cosine();
  for (std::size_t column = 0; column < out.size(); ++column) {
    out[column] = cosine[column] * cosine[column] * cosine[column];
  }
  if (geometry.vertices.empty()) return;
  if (convention == kernels::Convention::exact) {
    for (std::size_t column = 0; column < out.size(); ++column) {
      const double p1 = row.p1_m()[column];
      const double p2 = row.p2_m()[column];
      const double p3 = row.p3_m()[column];
      out[column] = cosine[column] * (geometry.distance_m * geometry.distance_m) / (p1 * p1 + p2 * p2 + p3 * p3);
    }
  }
  if (area == PixelArea::own) {
    const double nominal_m2 = geometry.pixel1_m * geometry.pixel2_m;
    for (std::size_t column = 0; column < out.size(); ++column) out[column] *= row.area_m2()[column] / nominal_m2;
  }
}

/// With the ray (y, x, z) of length t: cos 2theta = z / t, cos(2 chi) sin^2 2theta = (x^2 - y^2) / t^2 and
/// sin(2 chi) sin^2 2theta = 2 x y / t^2.
void polarisation_of_row(const PixelRow& row, double factor, double offset_rad, std::span<double> out) {
  const double along = factor * std::cos(2.0 * offset_rad);
  const double across = 2.0 * factor * std::sin(2.0 * offset_rad);
  for (std::size_t column = 0; column < out.size(); ++column) {
    const auto [y, x, z] = laboratory_m(row.geometry(), row.p1_m()[column], row.p2_m()[column], row.p3_m()[column]);
    const double squared = x * x + y * y + z * z;
    out[column] = 0.5 * (1.0 + (z * z - along * (x * x - y * y) + across * (x * y)) / squared);
  }
}

void absorption_of_row(const PixelRow& row, double transmission_normal, std::span<double> out) {
  const auto cosine = row.cosine();
  if (transmission_normal == 1.0) {
    for (std::size_t column = 0; column < out.size(); ++column) out[column] = 1.0 / cosine[column];
    return;
  }
  const double exponent = std::log(transmission_normal);
  const double absorbed_normal = -std::expm1(exponent);
  for (std::size_t column = 0; column < out.size(); ++column) {
    out[column] = -std::expm1(exponent / cosine[column]) / absorbed_normal;
  }
}

/// products[column] *= each factor, rounded to float32.
void multiply_by_factors(PixelRow& row, const CorrectionSettings& settings, std::span<float> products) {
  const std::span<double> factors = row.scratch();
  const auto multiply = [&] {
    for (std::size_t column = 0; column < products.size(); ++column) {
      products[column] *= static_cast<float>(factors[column]);
    }
  };
  if (settings.solid_angle) {
    solid_angle_of_row(row, settings.convention, settings.pixel_area, factors);
    multiply();
  }
  if (settings.polarisation_factor) {
    polarisation_of_row(row, *settings.polarisation_factor, settings.polarisation_offset_rad, factors);
    multiply();
  }
  if (settings.transmission_normal) {
    absorption_of_row(row, *settings.transmission_normal, factors);
    multiply();
  }
}

/// out[row] = values_of(PixelRow, columns of the row), row by row.
template <typename ValuesOf>
void fill_rows(const kernels::PixelGeometry& geometry, std::span<double> out, ValuesOf&& values_of) {
  ANNULUS_EXPECT(out.size() == geometry.pixels());
  PixelRow pixels(geometry);
  for (std::uint32_t row = 0; row < geometry.rows; ++row) {
    pixels.go_to(row);
    values_of(pixels, out.subspan(std::size_t{row} * geometry.columns, geometry.columns));
  }
}

}  // namespace

void solid_angle(const kernels::PixelGeometry& geometry, std::span<double> out, kernels::Convention convention,
                 PixelArea area) {
  fill_rows(geometry, out,
            [&](const PixelRow& row, std::span<double> values) { solid_angle_of_row(row, convention, area, values); });
}

void polarisation(const kernels::PixelGeometry& geometry, double factor, std::span<double> out, double offset_rad) {
  fill_rows(geometry, out, [&](const PixelRow& row, std::span<double> values) {
    polarisation_of_row(row, factor, offset_rad, values);
  });
}

void absorption(const kernels::PixelGeometry& geometry, double transmission_normal, std::span<double> out) {
  ANNULUS_EXPECT(transmission_normal >= 0.0 && transmission_normal <= 1.0);
  fill_rows(geometry, out, [&](const PixelRow& row, std::span<double> values) {
    absorption_of_row(row, transmission_normal, values);
  });
}

std::vector<float> pixel_normalisation(const kernels::PixelGeometry& geometry, const CorrectionSettings& settings,
                                       std::span<const float> flat) {
  ANNULUS_EXPECT(flat.empty() || flat.size() == geometry.pixels());
  if (settings.polarisation_factor && !(std::abs(*settings.polarisation_factor) <= 1.0)) {
    throw InputError(fmt::format("polarisation factor: found {}, expected -1 (vertical) to 1 (horizontal)",
                                 *settings.polarisation_factor));
  }
  if (!std::isfinite(settings.polarisation_offset_rad)) {
    throw InputError(
        fmt::format("polarisation offset: found {}, expected a number in rad", settings.polarisation_offset_rad));
  }
  if (settings.transmission_normal && !(*settings.transmission_normal >= 0.0 && *settings.transmission_normal <= 1.0)) {
    throw InputError(fmt::format("transmission of the sensor: found {}, expected 0 (absorbs all) to 1",
                                 *settings.transmission_normal));
  }
  std::vector<float> product(geometry.pixels(), 1.0F);
  if (!flat.empty()) product.assign(flat.begin(), flat.end());
  if (!settings.solid_angle && !settings.polarisation_factor && !settings.transmission_normal) return product;

  const auto multiply_rows = [&](PixelRow& pixels, std::uint32_t first_row, std::uint32_t last_row) {
    for (std::uint32_t row = first_row; row < last_row; ++row) {
      pixels.go_to(row);
      const auto products = std::span(product).subspan(std::size_t{row} * geometry.columns, geometry.columns);
      multiply_by_factors(pixels, settings, products);
    }
  };
  // A thread for work of a millisecond or more.
  constexpr std::size_t pixels_per_thread = std::size_t{1} << 17U;
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  const std::size_t threads = std::clamp(geometry.pixels() / pixels_per_thread, std::size_t{1}, cores);
  std::vector<PixelRow> buffers(threads, PixelRow(geometry));
  const auto first_row_of = [&](std::size_t thread) {
    return static_cast<std::uint32_t>(thread * geometry.rows / threads);
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t thread = 1; thread < threads; ++thread) {
      others.emplace_back(multiply_rows, std::ref(buffers[thread]), first_row_of(thread), first_row_of(thread + 1));
    }
    multiply_rows(buffers[0], 0, first_row_of(1));
  }
  return product;
}

}  // namespace annulus::integrator
