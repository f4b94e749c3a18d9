// The experiment's geometry: detector, distance, point of normal incidence, rotations, wavelength; PONI files. Those of
// other programs are in geometry_files.hpp.
//
// Definitions as in pyFAI (doi:10.1107/S1600576715004306): distance along the detector's normal, poni1/poni2 the point
// of normal incidence along axis 1 (rows) and axis 2 (columns), rot1 and rot2 left-handed about axes 1 and 2, rot3
// right-handed about the beam.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "integrator/detector.hpp"
#include "kernels/pixel_geometry.hpp"

namespace annulus::integrator {

/// Whether places are corrected for the thickness of the sensor, see sensor.hpp.
enum class Parallax : std::uint8_t { off, on };

struct Geometry {
  Detector detector;
  double distance_m = 1.0;
  double poni1_m = 0.0;
  double poni2_m = 0.0;
  double rot1_rad = 0.0;
  double rot2_rad = 0.0;
  double rot3_rad = 0.0;
  std::optional<double> wavelength_m;
  Parallax parallax = Parallax::off;  ///< on needs a wavelength and the detector's sensor
};

/// R3 R2 R1, row-major [3, 3]: maps (p1, p2, p3) of the detector to (y, x, z) of the laboratory.
[[nodiscard]] std::array<double, 9> rotation_matrix(const Geometry& geometry);

/// [kernels::parallax_nodes] parallax_correction_m() of the detector's sensor; empty with parallax off. Throws
/// InputError when there is no wavelength or no sensor, or when the sensor's material or energy is not known.
[[nodiscard]] std::vector<double> parallax_table_m(const Geometry& geometry);

/// The geometry as the kernels take it. The detector must have a shape. `parallax_m` is parallax_table_m(geometry): to
/// forget it is a broken contract. It and the geometry's detector must outlive the result.
[[nodiscard]] kernels::PixelGeometry pixel_geometry(const Geometry& geometry, std::span<const double> parallax_m = {});

/// Laboratory position (y, x, z) in m of the point at pixel coordinates (row, column); the centre of the first pixel is
/// at (0.5, 0.5). Orientation and parallax included. Within a pixel that is given by its vertices, bilinear between
/// them; points outside the detector continue its outermost pixels.
[[nodiscard]] std::array<double, 3> position_m(const kernels::PixelGeometry& geometry, double row, double column);

/// 2theta in rad and azimuth chi in rad (-pi, pi] at pixel coordinates (row, column), as in position_m.
[[nodiscard]] double two_theta_rad(const kernels::PixelGeometry& geometry, double row, double column);
[[nodiscard]] double chi_rad(const kernels::PixelGeometry& geometry, double row, double column);

/// What parallax makes of the distance of (p1, p2, p3) from the point of normal incidence, as a factor; p1 and p2 in m
/// from that point, p3 in m along the normal from the sample. 1 where the light comes from behind. `parallax_m` is
/// PixelGeometry::parallax_m and not empty.
[[nodiscard]] double parallax_factor(std::span<const double> parallax_m, double p1, double p2, double p3);

/// The laboratory position (y, x, z) in m of that place: parallax, then the rotation.
[[nodiscard]] inline std::array<double, 3> laboratory_m(const kernels::PixelGeometry& geometry, double p1, double p2,
                                                        double p3) {
  if (!geometry.parallax_m.empty()) {
    const double factor = parallax_factor(geometry.parallax_m, p1, p2, p3);
    p1 *= factor;
    p2 *= factor;
  }
  const std::array<double, 9>& matrix = geometry.rotation;
  return {matrix[0] * p1 + matrix[1] * p2 + matrix[2] * p3, matrix[3] * p1 + matrix[4] * p2 + matrix[5] * p3,
          matrix[6] * p1 + matrix[7] * p2 + matrix[8] * p3};
}

/// Reads PONI text, versions 1, 2, 2.1 and 3, or its dictionary form (JSON); the last entry of each key wins, None
/// means not set. `source` names it in errors. Throws one InputError with all problems: unknown version, missing
/// distance or pixel size, a value that is no number, unknown detector, a detector file that cannot be read. `files`
/// reads those; read_poni() looks for them beside the PONI file as well.
[[nodiscard]] Geometry parse_poni(std::string_view text, std::string_view source, const DetectorFiles& files = {});
[[nodiscard]] Geometry read_poni(const std::filesystem::path& file, const DetectorFiles& files = {});

/// PONI text that reads back to the same numbers to the last bit, in the oldest version that holds the geometry: 3 with
/// parallax, 2.1 for other orientations than 3, else 2.
[[nodiscard]] std::string poni_text(const Geometry& geometry);
void write_poni(const Geometry& geometry, const std::filesystem::path& file);

/// The geometry in pyFAI's dictionary form (JSON): poni_version (2.1, or 3 with parallax), dist, poni1, ..., detector,
/// detector_config, wavelength, parallax.
[[nodiscard]] std::string poni_json(const Geometry& geometry);

}  // namespace annulus::integrator
