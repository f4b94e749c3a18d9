// The integration matrix, built by all threads, tile by tile.
#pragma once

#include "kernels/matrix.hpp"
#include "kernels/openmp/tiled_matrix.hpp"

namespace annulus::kernels::openmp {

/// Builds the matrix with the reference's rows; `axes` is overwritten. Needs some 20 bytes a pixel beside the result.
/// Throws InputError when no pixel is left.
[[nodiscard]] TiledMatrix build_matrix(const MatrixSpec& spec, int threads, BinAxes& axes);

}  // namespace annulus::kernels::openmp
