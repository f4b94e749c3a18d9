// Detectors in NeXus files, as pyFAI's detector2nexus writes them, and the pixel masks of detectors' own NeXus files.
//
// The layout is NXentry / NXsubentry or NXinstrument / NXdetector, with in the detector's group: pixel_size [2] in m;
// shape, max_shape and binning [2]; orientation; dummy and delta_dummy; mask, flatfield and darkcurrent [rows,
// columns]; pixel_corners [rows, columns, 4, 3] (z, y, x) in m; sensor_material, and sensor_thickness in m.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "integrator/detector.hpp"

namespace annulus::mapping {

/// Reads the detector of a NeXus file: the first one of the entry that began last. Pixels with a corner that is not
/// finite are masked, and their corners set to 0. Its name is "NexusDetector", its file the path as given.
/// Throws InputError naming file and dataset: no HDF5 file, no detector in it, hexagonal pixels, sizes that disagree.
[[nodiscard]] integrator::Detector read_nexus_detector(const std::filesystem::path& file);

/// Writes a file that read_nexus_detector() and pyFAI's NexusDetector read back to the same detector; vertices, mask
/// and images compressed. The detector must have a shape. Throws InputError when the file exists, IoError when it
/// cannot be written.
void write_nexus_detector(const integrator::Detector& detector, const std::filesystem::path& file);

/// Which pixels a file's pixel mask excludes.
struct PixelMask {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::vector<std::uint8_t> pixels;  ///< [rows * columns] 1 = bad, whatever the reason
};

/// Reads a NeXus pixel mask (0 = good, else a sum of reasons): of `file::dataset`, or of a file alone the pixel_mask of
/// its NXdetector or of the detectorSpecific in it, as in the master files of Eiger detectors. Throws InputError when
/// there is none, naming what was looked for.
[[nodiscard]] PixelMask read_pixel_mask(const std::string& url);

/// Readers of the files that a detector's configuration may name.
[[nodiscard]] integrator::DetectorFiles detector_files();

}  // namespace annulus::mapping
