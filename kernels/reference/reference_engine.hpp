// The reference backend: float64, one thread, the plainest code that is right. The oracle of all others.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/engine.hpp"
#include "kernels/matrix.hpp"
#include "kernels/radial.hpp"

namespace annulus::kernels::reference {

/// The radial interval of every pixel, [pixels].
[[nodiscard]] std::vector<RadialInterval> pixel_intervals(const PixelGeometry& geometry, RadialSpace space,
                                                          Splitting splitting);

/// The edges of the bins over the unmasked pixels, or over spec.range. Throws InputError when no pixel is left.
[[nodiscard]] BinAxis bin_axis(const MatrixSpec& spec, std::span<const RadialInterval> intervals);

/// The matrix over the given bins.
[[nodiscard]] CsrMatrix build_matrix(const MatrixSpec& spec, std::span<const RadialInterval> intervals,
                                     const BinAxis& axis);

/// The sums of one frame over its good pixels: S, V and N of engine.hpp, before any division. [bins] each.
struct Sums {
  std::vector<double> signal;
  std::vector<double> variance;
  std::vector<double> normalisation;
};
[[nodiscard]] Sums sum_frame(const CsrMatrix& matrix, const Corrections& corrections, const FrameBatch& batch,
                             std::size_t frame);

[[nodiscard]] std::unique_ptr<Engine> make_engine(const DeviceChoice& choice);

}  // namespace annulus::kernels::reference
