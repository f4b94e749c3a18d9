// What an image's file says of the geometry it was taken with: never to be believed, but worth comparing.
#pragma once

#include <optional>
#include <string>

namespace annulus::mapping {

/// Absent values are not told, or not in a unit that we know.
struct ImageMetadata {
  std::optional<double> distance_m;
  std::optional<double> beam_row;  ///< where the direct beam meets the detector, in pixels from the image's edge
  std::optional<double> beam_column;
  std::optional<double> wavelength_m;
};

/// The header that Dectris detectors put into TIFF and EDF images ("# Detector_distance 0.2 m"), or the NXdetector and
/// NXbeam of an HDF5 file (detector_distance or distance, beam_center_x and _y, incident_wavelength or
/// incident_energy). `url` is FILE or FILE::DATASET. Empty when there is nothing of it; throws InputError when the file
/// cannot be read.
[[nodiscard]] ImageMetadata read_image_metadata(const std::string& url);

}  // namespace annulus::mapping
