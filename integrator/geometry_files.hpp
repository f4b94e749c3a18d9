// Geometry in the parameters of other programs, Fit2D and ImageD11, and any geometry file by its content.
//
// Conversions as in pyFAI (geometry/fit2d.py, geometry/imaged11.py), with arctangents in place of its arccosines, which
// lose half of the digits near a tilt of 0.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "integrator/geometry.hpp"

namespace annulus::integrator {

/// What a file of another program does not hold, and its reader may be told.
struct GeometryFileOptions {
  DetectorFiles detector_files;
  std::uint32_t image_rows = 0;     ///< 0 = not known; ImageD11's reversed axes count from the image's far end
  std::uint32_t image_columns = 0;  ///< the same
  /// Unit of ImageD11's wavelength, in m, where the file has no wavelength_unit: Angstrom, the unit of ImageD11's cells
  /// (pyFAI takes nm unless told otherwise).
  double imaged11_wavelength_unit_m = 1e-10;
};

/// Fit2D's parameters, under pyFAI's names, in lines "key: value" or "key = value", as a JSON object, or as the one
/// line that pyFAI prints ("DirectBeamDist= ... mm Center: x=..., y=... pix Tilt= ..."), whatever its case: directDist
/// (mm), centerX and centerY (pixel, columns and rows), tilt and tiltPlanRotation (degree), wavelength (Angstrom),
/// pixelX and pixelY (micrometre) or detector (its name) and detector_config (as in a PONI file), splineFile.
///
/// Fit2D knows no rotation about the beam by itself: rot3 is the one that pyFAI gives it. Throws one InputError with
/// all problems.
[[nodiscard]] Geometry parse_fit2d(std::string_view text, std::string_view source,
                                   const GeometryFileOptions& options = {});

/// The geometry as Fit2D's parameters in lines that parse_fit2d() reads: the same 2theta everywhere, and the same
/// azimuth but for rot3, which Fit2D lacks. Throws InputError for a geometry that Fit2D cannot hold: a detector turned
/// by 90 degrees or more, or parallax.
[[nodiscard]] std::string fit2d_text(const Geometry& geometry);
void write_fit2d(const Geometry& geometry, const std::filesystem::path& file);

/// ImageD11's parameter file, lines "key value": distance, y_size and z_size (micrometre, or in distance_unit),
/// y_center and z_center (pixel, its centre = 0), tilt_x, tilt_y, tilt_z (rad), o11, o12, o21, o22 (the flip matrix),
/// wavelength, and pyFAI's wavelength_unit, distance_unit and spline. What it says of crystals and their axis (cell,
/// t_x, wedge, omega...) has no part in a powder pattern. Throws one InputError with all problems: a flip matrix that
/// swaps rows and columns, or one that needs the image's shape when that is not known.
[[nodiscard]] Geometry parse_imaged11(std::string_view text, std::string_view source,
                                      const GeometryFileOptions& options = {});

/// A PONI file of any version or in its dictionary form, Fit2D's or ImageD11's parameters: recognised by their keys.
/// Throws InputError when it is none of them, and as their readers do.
[[nodiscard]] Geometry parse_geometry(std::string_view text, std::string_view source,
                                      const GeometryFileOptions& options = {});
[[nodiscard]] Geometry read_geometry(const std::filesystem::path& file, const GeometryFileOptions& options = {});

}  // namespace annulus::integrator
