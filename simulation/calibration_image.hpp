// One image of a reference compound with known geometry: Debye-Scherrer rings, and all that makes them hard to find.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "calibration/calibrant.hpp"
#include "integrator/geometry.hpp"
#include "simulation/powder.hpp"

namespace annulus::simulation {

/// What lies under the rings, in expected counts per pixel at full solid angle.
struct ImageBackground {
  double flat = 0.0;
  double falling = 0.0;  ///< air scatter: falling / (1 + (2theta / falling_rad)^2)
  double falling_rad = 0.1;
  double slope1 = 0.0;              ///< from the first row to the last, 0 in the middle
  double slope2 = 0.0;              ///< from the first column to the last
  double hump = 0.0;                ///< height of a Gaussian halo, as of glass
  double hump_two_theta_rad = 0.2;  ///< its middle
  double hump_sigma_rad = 0.03;
};

/// What stands in the beam behind the sample: a disk about the beam, and a strip that holds it.
struct BeamStop {
  double radius_pixels = 0.0;  ///< 0 = none
  double holder_pixels = 0.0;  ///< width of the strip; 0 = none
  double holder_rad = 0.0;     ///< its direction from the beam, 0 along rising columns, pi / 2 along rising rows
  double transmission = 0.01;  ///< share of the light that comes through
  bool masked = true;          ///< whether the mask of the image knows of it
};

struct CalibrationImageSettings {
  integrator::Geometry geometry;  ///< the truth, wavelength and a detector's shape included; parallax as it says
  std::vector<Line> lines;        ///< of the compound; none = a blank image
  std::vector<Line> other_lines;  ///< of a second phase; intensities on the scale of `lines`
  double fwhm_rad = 0.0;          ///< of every line in 2theta: Gaussian, the same at all angles
  double peak_counts = 1e4;       ///< expected at the top of the strongest line that the detector sees
  /// Grains that make a whole ring, on average; 0 = a perfect powder. Each makes a spot of `grain_sigma_rad` along the
  /// ring, of exponentially distributed strength.
  double grains = 0.0;
  double grain_sigma_rad = 0.01;
  std::uint32_t crystal_spots = 0;  ///< round spots of the lines' width anywhere, as of a single crystal
  double spot_counts = 1e4;         ///< their tops: exponentially distributed with this mean
  ImageBackground background;
  BeamStop beam_stop;
  bool solid_angle = true;                    ///< counts fall with cos^3 of the incidence, as on a flat detector
  std::optional<double> polarisation_factor;  ///< as for integrator::polarisation; none = not polarised at all
  double hot_pixels = 0.0;                    ///< share of pixels, not in the mask, with a thousand times `peak_counts`
  double dead_pixels = 0.0;                   ///< share of pixels, not in the mask, that count nothing
  std::uint64_t seed = 1;
};

struct CalibrationPicture {
  std::vector<float> expected;     ///< [rows, columns] noise-free counts, without hot, dead and masked pixels
  std::vector<float> counts;       ///< [rows, columns] whole numbers; -1 in the detector's gaps
  std::vector<std::uint8_t> mask;  ///< [rows, columns] 1 = gap, or beam stop when that is masked
};

/// The mean over a pixel's area is Gauss's rule of 4 x 4 points: right to 1e-4 of a line's height for lines of 2 pixels
/// FWHM and more. So a ring's top stands off its 2theta only by what shifts it on a real detector: the solid angle and
/// the ring's bend. The same settings give the same image for any number of threads. Throws InputError for a geometry
/// without wavelength or shape, or a width that is not above 0.
[[nodiscard]] CalibrationPicture make_calibration_image(const CalibrationImageSettings& settings);

/// Lines of a calibrant up to 2theta_max, intensities by structure factors where powder.hpp knows the compound (their
/// d taken from the calibrant), else falling smoothly with a variation that is the same in every call.
[[nodiscard]] std::vector<Line> calibrant_lines(const calibration::Calibrant& calibrant, double wavelength_m,
                                                double two_theta_max_rad);

/// Largest and smallest 2theta of the detector's pixel corners on a coarse grid, in rad.
struct TwoThetaRange {
  double lowest_rad = 0.0;
  double highest_rad = 0.0;
};
[[nodiscard]] TwoThetaRange two_theta_range(const integrator::Geometry& geometry);

}  // namespace annulus::simulation
