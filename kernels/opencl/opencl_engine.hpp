// The OpenCL backend: builds the matrix on the device and multiplies batches of raw frames with it, in float64.
//
// Needs OpenCL C 1.2 and cl_khr_fp64. Sums run in an order that depends on the kind of device (CPU or not) alone.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/engine.hpp"

namespace annulus::kernels::opencl {

/// An engine on the device that `choice` means. Throws InputError when there is none or it has no float64, DeviceError
/// when it cannot be opened.
/// @param batch_bytes  Bytes of raw frames that may lie on the device at a time: a larger batch is worked off in parts,
///                     with the same results. 0 = a quarter of the device's memory, at most its largest buffer.
[[nodiscard]] std::unique_ptr<Engine> make_engine(const DeviceChoice& choice, std::uint64_t batch_bytes = 0);

}  // namespace annulus::kernels::opencl
