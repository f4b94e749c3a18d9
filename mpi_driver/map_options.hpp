// The command line of `map` and `tomo`, as the user meant it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/problems.hpp"
#include "integrator/integration.hpp"
#include "kernels/engine.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/scan.hpp"

namespace annulus::driver {

enum class OutputMode : std::uint8_t { create, overwrite, resume };

/// How a rank computes; does not change any result (other than the backend, within its bound).
struct ComputeSettings {
  std::optional<kernels::Backend> backend;  ///< none = opencl on a GPU, else openmp
  std::string device;
  std::uint32_t batch = 32;  ///< frames that go through the matrix together
  int threads = 0;           ///< 0 = OpenMP's default
};

struct MapOptions {
  mapping::ScanKind kind = mapping::ScanKind::map;
  std::vector<std::filesystem::path> frames;
  std::filesystem::path output;
  std::filesystem::path poni;
  std::uint64_t slow = 0;
  std::uint64_t fast = 0;
  std::int64_t offset = 0;
  bool zigzag = false;
  std::string data;     ///< dataset in HDF5 inputs; "" = find it
  std::string monitor;  ///< dataset in the first HDF5 input; "" = none
  std::string slow_motor;
  std::string fast_motor;
  std::vector<std::string> dark;
  std::vector<std::string> flat;
  std::string mask;
  integrator::IntegrationSettings integration;
  mapping::DamagedFiles damaged_files = mapping::DamagedFiles::refuse;
  ComputeSettings compute;
  OutputMode output_mode = OutputMode::create;
  bool dry_run = false;
};

/// Parses the arguments after the subcommand. What is wrong with values goes to `problems`, to be told together with
/// what is wrong with the files; such an option is left at its default. Throws InputError for what is no option at all.
/// `help` is set when the user asked for it; then nothing else is.
[[nodiscard]] MapOptions parse_map_options(mapping::ScanKind kind, const std::vector<std::string>& arguments,
                                           std::optional<std::string>& help, Problems& problems);

}  // namespace annulus::driver
