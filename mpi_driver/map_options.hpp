// The command line of `map` and `tomo`, as the user meant it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/problems.hpp"
#include "mapping/frame_source.hpp"
#include "mapping/scan.hpp"
#include "mpi_driver/calibrate_options.hpp"
#include "mpi_driver/compute_options.hpp"
#include "mpi_driver/integration_options.hpp"

namespace annulus::driver {

enum class OutputMode : std::uint8_t { create, overwrite, resume };

/// One motor of the scan, as a configuration describes it.
struct MotorRange {
  std::string name;                                  ///< "" = not known
  std::optional<std::pair<double, double>> range{};  ///< first and last position; positions between are equidistant
};

/// What a configuration says of its frames; the files themselves count.
struct ExpectedFrames {
  std::optional<std::uint64_t> frames{};
  std::optional<std::pair<std::uint32_t, std::uint32_t>> shape{};  ///< rows, columns
};

struct MapOptions {
  mapping::ScanKind kind = mapping::ScanKind::map;
  std::vector<std::filesystem::path> frames;
  std::filesystem::path output;
  std::uint64_t slow = 0;
  std::uint64_t fast = 0;
  std::int64_t offset = 0;
  bool zigzag = false;
  std::string data;        ///< dataset in HDF5 inputs; "" = find it
  std::string monitor;     ///< dataset in the first HDF5 input; "" = none
  std::string slow_motor;  ///< dataset of positions in the first HDF5 input; "" = none
  std::string fast_motor;
  MotorRange slow_range;  ///< where there is no such dataset
  MotorRange fast_range;
  ExpectedFrames expected;
  IntegrationOptions integration;
  std::optional<CalibrationOptions> calibration;  ///< the geometry is found from images of a reference compound
  bool accept_doubtful_calibration = false;
  std::filesystem::path calibration_report;  ///< HTML file; "" = none
  std::string calibration_evidence;          ///< JSON, once it is done
  mapping::DamagedFiles damaged_files = mapping::DamagedFiles::refuse;
  ComputeSettings compute;
  OutputMode output_mode = OutputMode::create;
  bool dry_run = false;
  std::uint64_t most_frames = 0;      ///< Only the first ones of the input; 0 = all.
  std::vector<std::string> warnings;  ///< what the user should know of the configuration
};

/// Parses the arguments after the subcommand, and the configuration file that --config names. What is wrong with values
/// goes to `problems`, to be told together with what is wrong with the files; such an option is left at its default.
/// Throws InputError for what is no option at all. `help` is set when the user asked for it; then nothing else is.
[[nodiscard]] MapOptions parse_map_options(mapping::ScanKind kind, const std::vector<std::string>& arguments,
                                           std::optional<std::string>& help, Problems& problems);

}  // namespace annulus::driver
