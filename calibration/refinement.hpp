// Refinement: the geometry that fits the control points best, with standard errors that can be believed.
//
// The model is the integrator's own, parallax included; Ceres minimises the points' distances from their rings in units
// of their standard errors, under a loss that stops growing (Tukey's), so that a wrong point has no say at all. What
// counting statistics do not explain (modules that stand askew, grains, lines that are no Gaussians) is a second error,
// the same for all points in pixels, found from the residuals themselves.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "calibration/calibration.hpp"

namespace annulus::calibration {

struct RefinementSettings {
  std::array<Freedom, parameter_count> freedom;
  std::span<const double> d_spacings_m;        ///< of the rings
  std::span<const double> distance_offsets_m;  ///< [images]
  bool near_start = false;  ///< the start is right to parts of a pixel: what is off by its errors is so by itself
};

struct Refinement {
  integrator::Geometry geometry;
  bool converged = false;
  std::array<bool, parameter_count> fitted{};
  std::array<bool, parameter_count> determined{};
  std::array<double, parameter_count> standard_error{};
  std::array<std::array<double, parameter_count>, parameter_count> covariance{};
  double excess_px = 0.0;            ///< error of the points besides counting, in pixels
  double rms_residual_rad = 0.0;     ///< weighted by what the loss left
  double reduced_chi_squared = 0.0;  ///< by counting statistics alone
};

/// 2theta in rad of a place on the detector (DetectorPlaces::at) by the parameters of `geometry`; `distance_offset_m`
/// moves the detector away along the beam. `parallax_m` as for integrator::pixel_geometry().
[[nodiscard]] double model_two_theta_rad(const integrator::Geometry& geometry, const std::array<double, 3>& place_m,
                                         double distance_offset_m, std::span<const double> parallax_m);

/// Fits. The points' residual_rad and weight are overwritten with those of the result. `geometry` is the start, with
/// the wavelength; parameters that are fixed at a value take it. Throws InputError for a start outside its bounds.
[[nodiscard]] Refinement refine(const integrator::Geometry& geometry, std::span<ControlPoint> points,
                                const RefinementSettings& settings);

/// Gives tied parameters their values.
void apply_ties(const std::array<Freedom, parameter_count>& freedom, integrator::Geometry& geometry);

/// The geometry of an image whose detector stands `offset_m` further along the beam.
[[nodiscard]] integrator::Geometry moved_back(integrator::Geometry geometry, double offset_m);

/// The value of a parameter of a geometry, and setting it.
[[nodiscard]] double value_of(const integrator::Geometry& geometry, Parameter parameter);
void set_value(integrator::Geometry& geometry, Parameter parameter, double value);
[[nodiscard]] const char* name_of(Parameter parameter);

}  // namespace annulus::calibration
