// Calibration: from one or more images of a reference compound to the geometry, with the evidence for it.
//
// Nothing but the calibrant, the detector and the wavelength is needed; whatever else is known is one hypothesis among
// others, tested against the image. The same input gives the same result, bit for bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calibration/calibrant.hpp"
#include "integrator/geometry.hpp"

namespace annulus::calibration {

/// The parameters of a geometry, in the order of every array here.
enum class Parameter : std::uint8_t { distance, poni1, poni2, rot1, rot2, rot3, wavelength };
inline constexpr std::size_t parameter_count = 7;

/// A parameter that follows from another: factor times that one plus offset, in m or rad.
struct Tie {
  Parameter to = Parameter::distance;
  double factor = 1.0;
  double offset = 0.0;
};

/// What a fit may do with one parameter. Values in m or rad.
struct Freedom {
  enum class Kind : std::uint8_t { free, fixed, tied } kind = Kind::free;
  std::optional<double> value;  ///< fixed at this value; without it: at that of the guess or hypothesis
  std::optional<double> lower;  ///< bounds of a free parameter
  std::optional<double> upper;
  Tie tie;  ///< of a tied one
};

/// An image of the calibrant.
struct CalibrationImage {
  std::span<const float> counts;       ///< [rows, columns]
  std::span<const std::uint8_t> mask;  ///< [rows, columns] 1 = not to be used: gaps, bad pixels, saturated ones
  /// How far this image's detector stands behind that of the first image, in m, along the beam; 0 with one image.
  double distance_offset_m = 0.0;
};

struct CalibrationSettings {
  integrator::Detector detector;  ///< with a shape: that of the images
  Calibrant calibrant;
  double wavelength_m = 0.0;
  integrator::Parallax parallax = integrator::Parallax::off;
  /// Geometries to try besides what the search proposes: from a .poni, options, or metadata of the image.
  std::vector<integrator::Geometry> guesses;
  std::array<Freedom, parameter_count> freedom;  ///< make_freedom(): all free but rot3 and wavelength
  std::uint32_t max_rings = 0;                   ///< 0 = all that are seen
};

/// Where a ring was found: on the fitted peak's top.
struct ControlPoint {
  std::uint32_t image = 0;
  std::uint32_t ring = 0;  ///< index into the calibrant's spacings
  double row = 0.0;        ///< pixel coordinates; the centre of the first pixel is at (0.5, 0.5)
  double column = 0.0;
  double sigma_rad = 0.0;     ///< standard error of its 2theta
  double residual_rad = 0.0;  ///< 2theta there minus the ring's
  double weight = 1.0;        ///< what the robust loss left of it
};

/// The points of one ring in one image.
struct RingEvidence {
  std::uint32_t image = 0;
  std::uint32_t ring = 0;
  std::size_t points = 0;
  double two_theta_rad = 0.0;  ///< by the calibrant
  double mean_residual_rad = 0.0;
  double rms_residual_rad = 0.0;
  double mean_error_rad = 0.0;    ///< standard error of the mean residual
  double strain_ppm = 0.0;        ///< of the mean residual: -delta(2theta) / (2 tan theta) * 1e6
  double azimuth_coverage = 0.0;  ///< share of the ring's sectors on the detector that have points
  bool held_out = false;
  double predicted_residual_rad = 0.0;  ///< mean residual against a fit without this ring; NaN when not held out
};

enum class Verdict : std::uint8_t { good, doubtful, failed };

struct CalibrationResult {
  integrator::Geometry geometry;  ///< of the first image
  Verdict verdict = Verdict::failed;
  std::vector<std::string> reasons;   ///< why the verdict is not good; for people
  std::vector<std::string> warnings;  ///< a guess that disagrees with the result, parameters not determined, ...
  std::array<double, parameter_count> standard_error{};  ///< m or rad; 0 for a fixed one
  std::array<std::array<double, parameter_count>, parameter_count> correlation{};
  std::array<bool, parameter_count> fitted{};
  std::array<bool, parameter_count> determined{};  ///< whether the data say anything about it
  double beam_row = 0.0;  ///< where the direct beam meets the detector's plane, pixel coordinates
  double beam_column = 0.0;
  double tilt_rad = 0.0;             ///< angle between the beam and the detector's normal
  double rms_residual_rad = 0.0;     ///< over all points, weighted by what the robust loss left
  double reduced_chi_squared = 0.0;  ///< of the points, by their standard errors from counting alone
  double excess_px = 0.0;            ///< scatter of the points that counting does not explain, in pixels
  double explained_share = 0.0;      ///< of the crests found in the images, how much lies on the calibrant's rings
  /// Rings of the calibrant on the first image's detector, how many of them the image shows, the share that it would
  /// show by chance, and the logarithm of the odds: see RingTally.
  std::size_t rings_listed = 0;
  std::size_t rings_seen = 0;
  double rings_chance = 0.0;
  double ring_evidence = 0.0;
  /// Wavelength that fits the rings best when it is free, over the one given, and its standard error; 0 = not
  /// determined.
  double wavelength_ratio = 0.0;
  double wavelength_ratio_error = 0.0;
  /// Radial error against azimuth: amplitudes of its harmonics 1 (centre), 2 (tilt, ellipse), 3 and 4 in rad.
  std::array<double, 4> harmonics_rad{};
  std::vector<ControlPoint> points;
  std::vector<RingEvidence> rings;
};

[[nodiscard]] std::array<Freedom, parameter_count> make_freedom();

/// Calibrates. Images must have the detector's shape. Throws InputError for settings that make no sense (no ring within
/// reach at this wavelength, shapes, nothing free); what the images do not support is a verdict, never an exception.
[[nodiscard]] CalibrationResult calibrate(std::span<const CalibrationImage> images,
                                          const CalibrationSettings& settings);

}  // namespace annulus::calibration
