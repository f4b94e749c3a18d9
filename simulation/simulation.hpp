// A scan with known truth, written as a detector would write it.
//
// A phantom of powders in disks, ellipses and rings is seen by parallel line integrals; each powder gives
// Debye-Scherrer rings of a real width on a tilted detector with gaps, over a smooth background; Poisson noise, hot and
// dead pixels and a fluctuating monitor are added. Every number follows from the seed, whatever the number of ranks and
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "integrator/geometry.hpp"
#include "kernels/pixel_type.hpp"
#include "mapping/scan.hpp"

namespace annulus::simulation {

/// What to simulate. The defaults make a tomography of 48 rotations x 40 translations on an Eiger2 CdTe 1M.
struct SimulationSettings {
  mapping::ScanKind kind = mapping::ScanKind::tomo;
  std::uint32_t slow = 48;            ///< rotations, or lines of the map
  std::uint32_t fast = 40;            ///< translations, or points of a line
  double rotation_range_deg = 180.0;  ///< 180 or 360
  bool zigzag = false;
  std::string detector = "Eiger2CdTe_1M";
  kernels::PixelType type = kernels::PixelType::u16;  ///< u16 or u32
  double distance_m = 0.2;
  double rot1_rad = 0.01;
  double rot2_rad = -0.006;
  double energy_kev = 60.0;
  /// Linear polarisation of the beam that shapes the images, as for integrator::polarisation; none = images without it,
  /// so that an integration with default options (solid angle, no polarisation) gives the truth back.
  std::optional<double> polarisation_factor;
  double peak_counts = 200.0;         ///< expected counts per pixel at the top of the strongest ring, full beam path
  double background_counts = 2.0;     ///< expected counts per pixel of the smooth background near the beam
  double monitor_fluctuation = 0.05;  ///< relative standard deviation of the incident flux from frame to frame
  double hot_pixels = 2e-5;           ///< share of pixels that saturate (type maximum in every frame)
  double dead_pixels = 2e-5;          ///< share of pixels that count nothing; they are in the mask file that is written
  std::uint32_t frames_per_file = 500;
  std::uint64_t seed = 1;
  // Damage, by frame number.
  std::vector<std::uint64_t> corrupt_frames;       ///< chunk whose bytes are no valid LZ4
  std::vector<std::uint64_t> missing_frames;       ///< chunk never written
  std::vector<std::uint64_t> dead_monitor_frames;  ///< monitor value 0 in the file
};

/// A simulation ready to write; building it computes phantom, sinograms and the noise-free image of each powder.
class Simulation {
 public:
  /// Throws InputError for settings that make no scan.
  explicit Simulation(SimulationSettings settings);
  ~Simulation();
  Simulation(Simulation&&) noexcept;
  Simulation& operator=(Simulation&&) noexcept;

  /// The number of data files: the unit of work to share among ranks.
  [[nodiscard]] std::uint64_t data_files() const;
  [[nodiscard]] std::uint64_t frames() const;

  /// Writes data file `index` (data_%06d.h5, one bslz4 chunk a frame) into `folder`; returns the bytes written.
  std::uint64_t write_data_file(std::uint64_t index, const std::filesystem::path& folder) const;

  /// Writes all else: scan_master.h5 (external links, motors, monitor), geometry.poni, mask.tif, calibrant.tif (an
  /// image of LaB6 in the same geometry) and truth.h5 (geometry, noise-free patterns, phase maps, path integrals).
  void write_companions(const std::filesystem::path& folder) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace annulus::simulation
