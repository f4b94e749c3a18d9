// The OpenCL backend: builds the matrix on the device, decodes batches of frames there and multiplies them, in float64.
//
// Needs OpenCL C 1.2 and cl_khr_fp64. Sums run in an order that depends on the kind of device (CPU or not) alone.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/engine.hpp"

namespace annulus::kernels::opencl {

/// Who decodes compressed frames.
enum class Decoder : std::uint8_t {
  measured,  ///< host alone for an OpenCL device that is a CPU; else the device, helped by the host where the first
             ///< batches show that this is faster
  device,    ///< the device, whatever it can decode
  host,
};

/// How frames are multiplied, where pixels are not filtered; the numbers may differ in the last bit.
enum class Product : std::uint8_t {
  chosen,   ///< by rows on a CPU, else by tiles
  by_rows,  ///< batch_product.cl
  by_tiles  ///< tile_product.cl, for pixels of up to 4 bytes
};

struct EngineOptions {
  /// Bytes of decoded frames that may lie on the device at a time: a larger batch is worked off in parts, with the same
  /// results. 0 = a twelfth of the device's memory, at most its largest buffer.
  std::uint64_t batch_bytes = 0;
  Decoder decoder = Decoder::measured;
  Product product = Product::chosen;
};

/// An engine on the device that `choice` means. Throws InputError when there is none or it has no float64, DeviceError
/// when it cannot be opened.
[[nodiscard]] std::unique_ptr<Engine> make_engine(const DeviceChoice& choice, const EngineOptions& options = {});

}  // namespace annulus::kernels::opencl
