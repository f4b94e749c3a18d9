// Geometries of the places that pyFAI was asked about.
#pragma once

#include "integrator/geometry.hpp"

namespace annulus::test {

/// Puts a detector where a reference has it: distance, point of normal incidence, rotations, wavelength if it has one.
/// @param reference  one of pyfai_reference.hpp or pyfai_geometry_reference.hpp
template <typename Reference>
void place(integrator::Geometry& geometry, const Reference& reference) {
  geometry.distance_m = reference.distance_m;
  geometry.poni1_m = reference.poni1_m;
  geometry.poni2_m = reference.poni2_m;
  geometry.rot1_rad = reference.rot1_rad;
  geometry.rot2_rad = reference.rot2_rad;
  geometry.rot3_rad = reference.rot3_rad;
  if constexpr (requires { reference.wavelength_m; }) geometry.wavelength_m = reference.wavelength_m;
}

}  // namespace annulus::test
