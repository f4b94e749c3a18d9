// What a pixel's counts must be divided by: solid angle, polarisation, the sensor's absorption, flat field.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/matrix.hpp"
#include "kernels/pixel_geometry.hpp"

namespace annulus::integrator {

/// Whether the size of each pixel counts, where it is given by its vertices: `equal` leaves that to the flat field, as
/// pyFAI does; `own` multiplies by area / (pixel1_m pixel2_m), as pyFAI does for detectors with a spline file.
enum class PixelArea : std::uint8_t { equal, own };

/// The solid angle of each pixel relative to that of one at the point of normal incidence: cos a (distance / t)^2 with
/// the angle a between the ray, of length t, and the pixel's own normal, which is cos^3 a on a flat detector. For
/// pixels given by their vertices, Convention::pyfai has cos^3 a as well, which is right only where a pixel's normal is
/// the detector's. Parallax has no part. Overwrites `out` [pixels], float64.
void solid_angle(const kernels::PixelGeometry& geometry, std::span<double> out,
                 kernels::Convention convention = kernels::Convention::exact, PixelArea area = PixelArea::equal);

/// P = (1 + cos^2 2theta - factor cos(2 (chi + offset_rad)) sin^2 2theta) / 2 for a beam with the degree of linear
/// polarisation `factor`, -1 (vertical) to 1 (horizontal), its plane turned by `offset_rad`. 2theta and chi are those
/// that parallax leaves. Overwrites `out` [pixels].
void polarisation(const kernels::PixelGeometry& geometry, double factor, std::span<double> out,
                  double offset_rad = 0.0);

/// The share of photons that a screen or sensor absorbs, relative to normal incidence: (1 - T^(1 / cos a)) / (1 - T)
/// with the transmission T at normal incidence, 0 to 1 (at 1 the limit, 1 / cos a), and the angle of incidence a as in
/// solid_angle (G. Wu et al., J. Appl. Cryst. 35 (2002) 356). Overwrites `out` [pixels].
void absorption(const kernels::PixelGeometry& geometry, double transmission_normal, std::span<double> out);

struct CorrectionSettings {
  bool solid_angle = true;
  std::optional<double> polarisation_factor;    ///< none = no correction; 0 = an unpolarised beam
  double polarisation_offset_rad = 0.0;         ///< from the horizontal to the plane of polarisation
  std::optional<double> transmission_normal{};  ///< of the sensor, see sensor_transmission(); none = no correction
  PixelArea pixel_area = PixelArea::equal;
  kernels::Convention convention = kernels::Convention::exact;  ///< of the solid angle
};

/// The product of all corrections, [pixels] float32, rounded as pyFAI does (each factor to float32, then multiplied).
/// `flat` is [pixels] or empty. Throws InputError for a polarisation factor beyond -1 to 1 or a transmission beyond 0
/// to 1. Where a vertex is not a number, so is the product.
[[nodiscard]] std::vector<float> pixel_normalisation(const kernels::PixelGeometry& geometry,
                                                     const CorrectionSettings& settings, std::span<const float> flat);

}  // namespace annulus::integrator
