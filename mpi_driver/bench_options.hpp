// The command line of `bench`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/problems.hpp"
#include "mpi_driver/map_options.hpp"
#include "simulation/simulation.hpp"

namespace annulus::driver {

/// How well the frames of a simulated scan compress, as uint16 of a 4-megapixel detector.
enum class RatioClass : std::uint8_t {
  dense,    ///< about 3: hundreds of counts a pixel
  typical,  ///< about 8: sharp rings on a dark ground
  sparse,   ///< about 30: mostly zeros
};

struct BenchOptions {
  MapOptions map;                     ///< frames, integration, computation; grid and output are set by the run
  std::vector<std::string> backends;  ///< names as of --backend, in the order to be tried
  RatioClass ratio = RatioClass::typical;
  std::string detector = "Eiger2CdTe_4M";
  kernels::PixelType type = kernels::PixelType::u16;
  std::uint64_t frames = 128;    ///< of the simulated scan, or the first ones of the given scan
  std::filesystem::path folder;  ///< for the simulated scan and the volumes, kept; "" = temporary
  std::filesystem::path json;    ///< file to write; "" = none
  std::uint32_t repeats = 5;
  bool alone = false;  ///< every stage also by rank 0 by itself
  bool cold = false;   ///< files leave the page cache before each round that reads them
};

/// Parses the arguments after `bench`; as parse_map_options() otherwise.
[[nodiscard]] BenchOptions parse_bench_options(const std::vector<std::string>& arguments,
                                               std::optional<std::string>& help, Problems& problems);

/// A scan of such frames, as a map of `fast` points a line.
[[nodiscard]] simulation::SimulationSettings simulated_scan(const BenchOptions& options, std::uint64_t fast);

}  // namespace annulus::driver
