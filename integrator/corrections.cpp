#include "integrator/corrections.hpp"

#include <cmath>
#include <cstddef>

#include "base/errors.hpp"
#include "integrator/geometry.hpp"

namespace annulus::integrator {
namespace {

/// out[pixel] = value(row, column) at the pixel's centre.
template <typename Value>
void fill_centres(const kernels::PixelGeometry& geometry, std::span<double> out, Value&& value) {
  ANNULUS_EXPECT(out.size() == geometry.pixels());
  std::size_t pixel = 0;
  for (std::uint32_t row = 0; row < geometry.rows; ++row) {
    for (std::uint32_t column = 0; column < geometry.columns; ++column) out[pixel++] = value(row + 0.5, column + 0.5);
  }
}

}  // namespace

void solid_angle(const kernels::PixelGeometry& geometry, std::span<double> out) {
  fill_centres(geometry, out, [&](double row, double column) {
    // A rotation keeps lengths: the pixel's distance from the sample is that of its place in the laboratory.
    const auto [y, x, z] = position_m(geometry, row, column);
    const double cosine = geometry.distance_m / std::sqrt(x * x + y * y + z * z);
    return cosine * cosine * cosine;
  });
}

void polarisation(const kernels::PixelGeometry& geometry, double factor, std::span<double> out) {
  fill_centres(geometry, out, [&](double row, double column) {
    // With the ray (y, x, z) of length t: cos 2theta = z / t and cos(2 chi) sin^2 2theta = (x^2 - y^2) / t^2.
    const auto [y, x, z] = position_m(geometry, row, column);
    const double squared = x * x + y * y + z * z;
    return 0.5 * (1.0 + (z * z - factor * (x * x - y * y)) / squared);
  });
}

std::vector<float> pixel_normalisation(const kernels::PixelGeometry& geometry, const CorrectionSettings& settings,
                                       std::span<const float> flat) {
  const std::size_t pixels = geometry.pixels();
  ANNULUS_EXPECT(flat.empty() || flat.size() == pixels);
  if (settings.polarisation_factor && !(std::abs(*settings.polarisation_factor) <= 1.0)) {
    throw InputError("polarisation factor: found " + std::to_string(*settings.polarisation_factor) +
                     ", expected -1 (vertical) to 1 (horizontal)");
  }
  std::vector<float> product(pixels, 1.0F);
  if (!flat.empty()) product.assign(flat.begin(), flat.end());
  std::vector<double> factors(settings.solid_angle || settings.polarisation_factor ? pixels : 0);
  const auto multiply = [&] {
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) product[pixel] *= static_cast<float>(factors[pixel]);
  };
  if (settings.solid_angle) {
    solid_angle(geometry, factors);
    multiply();
  }
  if (settings.polarisation_factor) {
    polarisation(geometry, *settings.polarisation_factor, factors);
    multiply();
  }
  return product;
}

}  // namespace annulus::integrator
