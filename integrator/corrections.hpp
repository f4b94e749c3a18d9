// What a pixel's counts must be divided by: solid angle, polarisation, flat field.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/pixel_geometry.hpp"

namespace annulus::integrator {

/// cos^3 of the angle between the pixel's ray and the detector's normal: the solid angle relative to that at the point
/// of normal incidence. Overwrites `out` [pixels], float64.
void solid_angle(const kernels::PixelGeometry& geometry, std::span<double> out);

/// P = (1 + cos^2 2theta - factor cos(2 chi) sin^2 2theta) / 2 for a beam with the degree of linear polarisation
/// `factor`, -1 (vertical) to 1 (horizontal). Overwrites `out` [pixels].
void polarisation(const kernels::PixelGeometry& geometry, double factor, std::span<double> out);

struct CorrectionSettings {
  bool solid_angle = true;
  std::optional<double> polarisation_factor;  ///< none = no correction; 0 = an unpolarised beam
};

/// The product of all corrections, [pixels] float32, rounded as pyFAI does (each factor to float32, then multiplied).
/// `flat` is [pixels] or empty.
[[nodiscard]] std::vector<float> pixel_normalisation(const kernels::PixelGeometry& geometry,
                                                     const CorrectionSettings& settings, std::span<const float> flat);

}  // namespace annulus::integrator
