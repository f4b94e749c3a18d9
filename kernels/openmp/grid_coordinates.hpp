// Radial and azimuthal coordinates of lines of points, in vector code: most of the work of building a matrix.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/matrix.hpp"

namespace annulus::kernels::openmp {

/// Whether line_coordinates can do this: a regular grid without parallax, in the spaces 2theta, q and r, with chi.
[[nodiscard]] bool has_fast_coordinates(const MatrixSpec& spec);

/// Coordinates of the points (row, first_column + n) of a regular grid, n < radius.size(); overwritten.
/// To 4 units in the last place of those that splitting.hpp finds one by one (3 were seen).
/// @param azimuth  of the same size as `radius`, or empty when it is not wanted
void line_coordinates(const MatrixSpec& spec, double row, double first_column, std::span<double> radius,
                      std::span<double> azimuth);

}  // namespace annulus::kernels::openmp
