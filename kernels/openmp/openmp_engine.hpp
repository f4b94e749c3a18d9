// The CPU backend: many frames at once through a matrix cut into tiles of pixels.
#pragma once

#include <memory>

#include "kernels/engine.hpp"

namespace annulus::kernels::openmp {

/// The CSR matrix of `spec`, built by all threads; the same rows as the reference, whatever their number.
/// Overwrites `axis` with the bins' edges. Throws InputError when no pixel is left.
[[nodiscard]] CsrMatrix build_matrix(const MatrixSpec& spec, int threads, BinAxis& axis);

[[nodiscard]] std::unique_ptr<Engine> make_engine(const DeviceChoice& choice);

}  // namespace annulus::kernels::openmp
