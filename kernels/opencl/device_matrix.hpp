// The integration matrix in device memory, and its making there (kernels in matrix_build.cl).
#pragma once

#include <cstdint>

#include "kernels/matrix.hpp"
#include "kernels/opencl/runtime.hpp"

namespace annulus::kernels::opencl {

/// CsrMatrix on the device.
struct DeviceMatrix {
  std::uint32_t rows = 0;     ///< bins
  std::uint32_t columns = 0;  ///< pixels
  std::uint64_t entries = 0;
  std::uint32_t longest_row = 0;
  Buffer offsets;  ///< ulong [rows + 1]
  Buffer pixels;   ///< uint [entries]
  Buffer weights;  ///< float [entries]
};

/// Builds the matrix of `spec` on the device and returns the bins' edges; `matrix` is replaced on success and left as
/// it was on failure. The rows are those of the host backends, but for the last bits of the device's atan2 and sin.
/// Scratch memory on the device: up to 40 bytes a pixel and 64 MiB. Throws InputError when no pixel is left. To be
/// called inside Runtime::run.
BinAxes build_matrix(Runtime& runtime, const MatrixSpec& spec, DeviceMatrix& matrix);

/// A copy of a matrix on the device, or on the host; to be called inside Runtime::run.
[[nodiscard]] DeviceMatrix upload(Runtime& runtime, const CsrMatrix& matrix);
[[nodiscard]] CsrMatrix download(Runtime& runtime, const DeviceMatrix& matrix);

}  // namespace annulus::kernels::opencl
