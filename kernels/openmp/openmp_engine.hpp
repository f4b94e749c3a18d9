// The CPU backend: many frames at once through a matrix cut into tiles of pixels.
#pragma once

#include <memory>

#include "kernels/engine.hpp"

namespace annulus::kernels::openmp {

[[nodiscard]] std::unique_ptr<Engine> make_engine(const DeviceChoice& choice);

}  // namespace annulus::kernels::openmp
