// The volume: one HDF5 file in pyFAI-diffmap's layout, made by rank 0, filled by all ranks.
//
// Rank 0 creates everything with the serial driver, space allocated and filled (NaN, status 0), and closes it. Then all
// ranks open the file through MPI-IO and write raw data only, each line independently: first intensities and errors,
// then its status bytes. So a file left by a killed job can always be opened, says what it holds, and can be resumed.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mapping/frame_source.hpp"
#include "mapping/scan.hpp"

namespace annulus::mapping {

/// All that the volume says beside the data.
struct VolumeDescription {
  Scan scan;
  std::string radial_name;        ///< "2th", "q", "r"
  std::string radial_unit;        ///< "deg", "nm^-1", ...
  std::string radial_label;       ///< for plots
  std::vector<double> radial;     ///< [bins] in radial_unit
  std::vector<double> azimuthal;  ///< [azimuthal bins] in azimuthal_unit; empty = no such dimension
  std::string azimuthal_unit = "deg";
  std::string azimuthal_label = "Azimuthal angle $\\chi$ ($^{o}$)";  ///< for plots
  bool errors = false;                                               ///< with the standard error of the mean
  bool std = false;                                                  ///< with the standard deviation
  std::vector<double> monitor;                                       ///< [slow * fast], as used; 1 where there is none
  std::vector<FrameList::Input> inputs;
  std::string mask_file;           ///< FILE or FILE::DATASET of the mask, as read_image() takes it; "" = none
  std::string configuration_json;  ///< pyFAI's worker configuration: poni dictionary, unit, nbpt_rad, shape, ...
  std::string calibration_json;    ///< evidence of the calibration that gave the geometry; "" = none was made
  std::string command_line;
  std::string version;
  std::string fingerprint;  ///< identifies input and settings: a resumed run must have the same

  /// Numbers in one frame's pattern.
  [[nodiscard]] std::uint64_t rows() const { return radial.size() * (azimuthal.empty() ? 1 : azimuthal.size()); }
};

/// Creates the file (rank 0 alone, serial driver). It is written beside its final name and renamed when complete, so a
/// file with the final name always holds all metadata. Throws InputError when it exists and `overwrite` is off, or the
/// folder cannot be written to; IoError when the disk fails.
void create_volume(const std::filesystem::path& file, const VolumeDescription& description, bool overwrite);

/// What an unfinished volume holds. Read by rank 0 with the serial driver.
struct VolumeState {
  std::uint64_t slow = 0;
  std::uint64_t fast = 0;
  std::uint64_t bins = 0;            ///< radial
  std::uint64_t azimuthal_bins = 0;  ///< 0 = no such dimension
  bool errors = false;
  bool std = false;
  std::string fingerprint;
  std::vector<std::uint8_t> status;  ///< [slow * fast]; a point marked ok whose data never arrived (NaN) is 0 here
};
/// Throws InputError when the file is absent or no volume of ours.
[[nodiscard]] VolumeState read_volume_state(const std::filesystem::path& file);

/// The results of consecutive points. Each array is [points, rows], azimuth by azimuth as the integrator gives them.
struct VolumeRows {
  std::span<const float> intensity;
  std::span<const float> errors;  ///< standard error of the mean; empty in a volume without
  std::span<const float> std;     ///< standard deviation; empty in a volume without
  std::span<const FrameStatus> status;
};

/// Writes lines of a volume that create_volume made.
class VolumeWriter {
 public:
  /// Collective over `comm`, which must outlive the writer. Throws IoError on every rank when it fails on one.
  VolumeWriter(const std::filesystem::path& file, MPI_Comm comm);
  /// Without close() the file is abandoned: nothing is waited for, and what was written stays valid.
  ~VolumeWriter();
  VolumeWriter(VolumeWriter&&) noexcept;
  VolumeWriter& operator=(VolumeWriter&&) noexcept;

  /// Writes points [first_point, first_point + rows.status.size()) of the grid in C order: data first, then status.
  /// Independent. Throws IoError.
  void write(std::uint64_t first_point, const VolumeRows& rows);

  /// Brings everything to disk and closes. Collective over the communicator. Throws IoError on every rank when it fails
  /// on one.
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Sets end_time once the run has ended (rank 0, serial driver, after close()).
void finish_volume(const std::filesystem::path& file);

}  // namespace annulus::mapping
