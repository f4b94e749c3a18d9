// Integrated patterns of single images as files: text (.xy), and HDF5 in NeXus's NXazint1d and NXazint2d.
//
// A file appears complete or not at all. Text holds one pattern; HDF5 any number of one geometry and one set of
// settings, [images, (azimuthal,) radial], as both definitions have it. Sources of the layout: pyFAI 2026.9 (its text
// header and its writer of NXazint1d; it has none for cakes) and the NeXus definitions of 2025.11.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace annulus::mapping {

/// What patterns of one geometry and one set of settings have in common.
struct PatternDescription {
  std::string unit;               ///< as the user names it: "2th_deg"
  std::string radial_name;        ///< "2th", "q", "r"
  std::string radial_unit;        ///< "deg", "nm^-1", ...; "" = none
  std::string radial_label;       ///< for plots; "" = radial_name
  std::vector<double> radial;     ///< [bins] centres in radial_unit
  std::vector<double> azimuthal;  ///< [azimuthal bins] centres in azimuthal_unit; empty = patterns of all azimuths
  std::string azimuthal_unit = "deg";
  std::string azimuthal_label = "azimuthal bin center";  ///< for plots
  std::string poni_text;                                 ///< geometry as a PONI file
  std::string poni_json;                                 ///< the same as pyFAI's dictionary
  std::optional<double> wavelength_m;
  std::optional<double> energy_kev;  ///< of the photons, with the wavelength
  std::string mask;                  ///< the mask's files; "" = none, "from detector" = the detector's own
  std::vector<std::string> dark;     ///< files
  std::vector<std::string> flat;     ///< files
  bool solid_angle = true;
  std::optional<double> polarisation_factor;  ///< none = not corrected
  std::string splitting;                      ///< "bbox"
  std::string error_model;                    ///< "no", "poisson", ...
  std::string engine;                         ///< what computed
  std::string configuration_json;             ///< all settings; "" = not told
  std::string command_line;
  std::string version;
};

/// The result of one image. Each array is [rows]: radial, or azimuthal * radial, azimuth by azimuth.
struct Pattern {
  std::string source;                 ///< FILE, or FILE::DATASET and the frame's number
  double normalisation_factor = 1.0;  ///< divisor of the intensity, beside the pixels' own
  std::vector<float> intensity;
  std::vector<float> sem;  ///< standard error of the mean; empty = none
  std::vector<float> std;  ///< standard deviation; empty = none
};

/// Writes one pattern as text: a header of '#' lines with geometry and settings, then a line a bin: centre, intensity
/// and, where there are, standard error and standard deviation. Patterns of all azimuths only. Throws InputError when
/// the file exists and `overwrite` is off or the folder cannot be written to, IoError when the disk fails.
void write_xy(const std::filesystem::path& file, const PatternDescription& description, const Pattern& pattern,
              bool overwrite);

/// Writes patterns, at least one, into one HDF5 file: NXazint1d, or NXazint2d with azimuthal bins. All have the same
/// arrays. Throws as write_xy(). Calls HDF5: one thread at a time.
void write_nxazint(const std::filesystem::path& file, const PatternDescription& description,
                   std::span<const Pattern> patterns, bool overwrite);

}  // namespace annulus::mapping
