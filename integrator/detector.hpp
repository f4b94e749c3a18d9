// Detectors: shape, pixel size, gaps, where the pixels stand, and what their values mean; by name, as in pyFAI's
// registry, from a distortion file, or from a NeXus detector file that the caller reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace annulus::integrator {

/// How the pixel indices run, in pyFAI's (and EXIF's) numbers, seen from the sample.
enum class Orientation : std::uint8_t { top_left = 1, top_right = 2, bottom_right = 3, bottom_left = 4 };

/// What absorbs the photons, for the corrections of parallax and absorption.
struct Sensor {
  std::string material;      ///< chemical symbol or common name, as a PONI file has it: "Si", "CdTe", "CsI", "Gd2O2S"
  double thickness_m = 0.0;  ///< along the detector's normal; 0 = not known
};

/// A detector: its grid of pixels, and where they stand when they are no regular flat grid.
struct Detector {
  std::string name = "Detector";  ///< pyFAI's class name, as a PONI file has it: "Pilatus1M"; "Detector" = a plain one
  std::uint32_t rows = 0;         ///< 0 with a plain detector whose shape is that of the image
  std::uint32_t columns = 0;
  double pixel1_m = 0.0;  ///< height of a pixel (axis 1, between rows)
  double pixel2_m = 0.0;  ///< width of a pixel (axis 2, between columns)
  Orientation orientation = Orientation::bottom_right;
  bool photon_counting = false;  ///< Negative values mark bad pixels (the Dectris families).
  std::optional<Sensor> sensor;
  std::optional<double> dummy;  ///< value of pixels to leave out, when the detector has one of its own
  double delta_dummy = 0.0;     ///< values this close to `dummy` are left out
  /// [rows, columns, 4, 3] where the pixels' corners stand, as (z, y, x) in m along axes 3, 1 and 2 of the detector,
  /// corners in the order (0, 0), (1, 0), (1, 1), (0, 1) of (row, column); orientation included. Null for a regular
  /// flat grid of pixel1_m x pixel2_m, which is most detectors.
  std::shared_ptr<const std::vector<float>> vertices;
  /// [rows * columns] 1 = not a pixel, when a file says so; null = what the detector's name tells.
  std::shared_ptr<const std::vector<std::uint8_t>> file_mask;
  std::shared_ptr<const std::vector<float>> flat;  ///< [rows * columns] flat field of the detector's file, or null
  std::shared_ptr<const std::vector<float>> dark;  ///< [rows * columns] dark current of the detector's file, or null
  std::string file;          ///< NeXus detector file or spline file that the detector comes from; "" = none
  double radius_m = 0.0;     ///< of a bent detector (Aarhus, Rapid); 0 = none
  std::string offset1_file;  ///< images of displacements that a Pilatus was made with (y and x); "" = none
  std::string offset2_file;

  /// [rows * columns] 1 = not a pixel (gap between modules, or the wide pixels of CdTe sensors), 0 = a pixel.
  [[nodiscard]] std::vector<std::uint8_t> mask() const;
  [[nodiscard]] bool has_shape() const { return rows != 0 && columns != 0; }
};

/// An image of displacements, as x_offset_file and y_offset_file hold it.
struct OffsetImage {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::vector<double> values;  ///< [rows * columns] in hundredths of a pixel
};

/// How to read the files that a detector's configuration may name and that need more than text. An absent reader
/// refuses such files by name.
struct DetectorFiles {
  std::function<Detector(const std::filesystem::path&)> nexus;      ///< a NeXus detector file
  std::function<OffsetImage(const std::filesystem::path&)> offset;  ///< an image of any format
  std::filesystem::path folder;  ///< where a relative name is looked for that is not in the working folder

  /// `name` itself, or the file of that name in `folder` when only that exists.
  [[nodiscard]] std::filesystem::path locate(const std::string& name) const;

  /// The same readers, with the folder of `file`, which names detector files, unless there is one already.
  [[nodiscard]] DetectorFiles beside(const std::filesystem::path& file) const;
};

/// Finds a detector by pyFAI's class name or an alias, without regard to case, blanks, '-' and '_'; a name that is the
/// path of a NeXus detector file reads that file, as does "NexusDetector" with `filename`.
///
/// `config_json` is the PONI file's Detector_config ("" or "{}" = defaults): pixel1, pixel2, max_shape, orientation,
/// sensor, module_size (the detector's own), and where the detector has them radius, splineFile, x_offset_file and
/// y_offset_file, filename. Pixels some times larger than the detector's own are those of a binned image: shape and
/// mask shrink with them.
///
/// Detectors whose pixels are no regular flat grid come with their vertices: 48 bytes a pixel (0.8 GB for Aarhus).
/// Throws InputError for an unknown name (with near names), for hexagonal pixels, for a config that the detector does
/// not allow and for a file that cannot be read.
[[nodiscard]] Detector make_detector(std::string_view name, std::string_view config_json = "",
                                     const DetectorFiles& files = {});

/// The detector as it gives an image of `rows` x `columns`: itself, or itself binned (pixels, mask and vertices of so
/// many joined ones), or one of the sizes that its readout has; also the other way, from binned to not binned. Rows or
/// columns that do not fill a binned pixel are lost, as on the detector. A plain detector without a shape takes the
/// image's. Absent when the shape does not fit; what comes from a file fits its own shape alone.
[[nodiscard]] std::optional<Detector> binned_to(const Detector& detector, std::uint32_t rows, std::uint32_t columns);

/// The same detector with the other orientation: vertices are turned with it. What belongs to the image (mask, flat,
/// dark) stays as it is.
[[nodiscard]] Detector oriented_to(Detector detector, Orientation orientation);

/// The Detector_config of a PONI file that gives this detector back.
[[nodiscard]] std::string config_json_of(const Detector& detector);

/// All names, sorted.
[[nodiscard]] std::vector<std::string> detector_names();

/// The sensors that the maker offers for this detector, most usual first; empty when none is known. A detector has the
/// sensor that its configuration names, and none by itself.
[[nodiscard]] std::vector<Sensor> known_sensors(const Detector& detector);

}  // namespace annulus::integrator
