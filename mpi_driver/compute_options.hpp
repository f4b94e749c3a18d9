// The options of computation, shared by every command that integrates: backend, device, batch, threads, matrix cache.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/problems.hpp"
#include "kernels/engine.hpp"

namespace annulus::driver {

/// Frames that go through the matrix together where nothing speaks for fewer: two groups of 16.
inline constexpr std::uint32_t usual_batch = 32;

/// How a rank computes; does not change any result (other than the backend, within its bound).
struct ComputeSettings {
  std::optional<kernels::Backend> backend;  ///< none = opencl on a GPU, else openmp
  std::string device;
  bool share_device = false;  ///< Several ranks of a node may take one GPU.
  std::optional<std::uint32_t>
      batch;        ///< frames that go through the matrix together; none = cpu_batch(), opencl_batch()
  int threads = 0;  ///< 0 = OpenMP's default
  std::filesystem::path matrix_cache;  ///< folder of matrices that were built before; "" = none
};

/// Frames that should go through the matrix together on a CPU: a group of 16, or as many as `threads` share well.
[[nodiscard]] std::uint32_t cpu_batch(int threads);

/// Frames that should go through the matrix together on OpenCL: 8, 16 or 32, no more than stay in the processor's last
/// cache on their way from the reader to the device.
/// @param encoded_bytes  of a frame as it lies in its file
[[nodiscard]] std::uint32_t opencl_batch(std::uint64_t encoded_bytes);

/// The group of options for a command's table; help texts included.
[[nodiscard]] boost::program_options::options_description compute_option_group();

/// The settings that the command line gives. What is wrong with a value goes to `problems`.
[[nodiscard]] ComputeSettings parse_compute_options(const boost::program_options::variables_map& given,
                                                    Problems& problems);

/// Threads of a rank: those given, or OpenMP's default.
[[nodiscard]] int threads_for(const ComputeSettings& compute);

/// The backend that is meant, on this machine where it is to be found.
[[nodiscard]] kernels::Backend backend_for(const ComputeSettings& compute);

/// The device that is meant for a rank that is number `node_rank` on its node.
[[nodiscard]] kernels::DeviceChoice device_choice_for(const ComputeSettings& compute, int node_rank);

}  // namespace annulus::driver
