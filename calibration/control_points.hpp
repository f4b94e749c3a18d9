// Control points: where exactly a ring runs, sector by sector, with the standard error of each place.
//
// Given a geometry that is right to some pixels, every pixel near a ring has its 2theta, and a sector of the ring is a
// peak over 2theta: all its pixels are fitted at once by a line of unknown place on a sloped background, weighted by
// counting statistics. So there is no resampling, gaps leave no trace but a larger error, a ring's bend within the
// sector does not matter, and no pixel is used twice: the points' errors are independent.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "calibration/calibration.hpp"

namespace annulus::calibration {

/// A ring of the calibrant as it appears in an image, all azimuths joined.
struct RingProfile {
  std::uint32_t ring = 0;
  bool covered = false;    ///< enough of it is on the detector to say anything
  bool told = false;       ///< far enough from other rings for a peak of its own to be told from theirs
  bool seen = false;       ///< there is a peak, at five standard deviations
  bool resolved = false;   ///< no other seen ring is so near that it could shift it, tails being part of the fit
  double length_px = 0.0;  ///< on the detector, masked parts not counted
  double amplitude = 0.0;  ///< counts of the fitted peak's top over the background
  double amplitude_error = 0.0;
  double clearness = 0.0;   ///< amplitude over its error by counting alone
  double background = 0.0;  ///< counts
  double shift_rad = 0.0;   ///< of the peak against the ring's 2theta
  double sigma_rad = 0.0;   ///< width of the peak (Gaussian)
};

struct RingSector {
  ControlPoint point;
  double chi_rad = 0.0;    ///< azimuth
  double amplitude = 0.0;  ///< counts over relative solid angle and polarisation
  double sigma_px = 0.0;   ///< standard error across the ring, in pixels
};

struct ExtractedRings {
  std::vector<RingProfile> profiles;  ///< one a ring, in the order of the rings
  std::vector<RingSector> sectors;    ///< points found, by ring and azimuth
  std::vector<std::uint32_t> tried;   ///< [rings] sectors that the detector covers
  double line_sigma_px = 0.0;         ///< median width of the lines
};

struct ExtractionSettings {
  double reach_px = 8.0;  ///< how far from its predicted place a ring may be
  std::size_t most_points = 4000;
  bool in_parts = false;        ///< look at a part of each sector only: quicker, the errors larger
  std::uint32_t max_rings = 0;  ///< rings from this one on are not used; 0 = all
  double polarisation = 0.0;    ///< factor of the beam's polarisation, see integrator::polarisation; 0 = none
  /// 2theta of lines of other compounds, rising: their tails are told from the rings', and rings that run into them are
  /// not used.
  std::span<const double> foreign_rad = {};
};

/// The polarisation factor that the rings' strength along azimuth shows, between -1 and 1; near 0.95, that of most
/// synchrotrons' beams, where they show little. Of an extraction without polarisation. It moves the lines by some
/// millionths of their angle, at high angles by a hundredth of a pixel.
[[nodiscard]] double polarisation_of(const ExtractedRings& rings, std::span<const double> rings_rad);

/// Pixels that are not like any of their neighbours (hot, dead, hit by a cosmic ray) added to the mask: what has passed
/// a detector's point spread or is part of a ring or a grain's spot has neighbours that share it.
[[nodiscard]] std::vector<std::uint8_t> with_defects_masked(const CalibrationImage& image, std::uint32_t rows,
                                                            std::uint32_t columns);

/// Finds the points of all rings in an image, `geometry` being that of this image, with a wavelength. Costs some 100 ns
/// a pixel on one core.
[[nodiscard]] ExtractedRings extract_rings(std::span<const float> counts, std::span<const std::uint8_t> mask,
                                           const integrator::Geometry& geometry, std::span<const double> rings_rad,
                                           const ExtractionSettings& settings);

/// A peak on a sloped background, as fitted to pixels: y(x) = factor (amplitude exp(-(x - place)^2 / 2 sigma^2)) +
/// background + slope x; neighbours add to it.
struct PeakFit {
  bool good = false;  ///< converged, with a peak that stands out and both of whose sides are seen
  double amplitude = 0.0;
  double amplitude_error = 0.0;
  double place = 0.0;
  double place_error = 0.0;  ///< standard error by counting statistics
  double sigma = 0.0;
  double background = 0.0;
  double slope = 0.0;
  double reduced_chi_squared = 0.0;
};

/// A line beside the one that is fitted, which moves with it: where, and how high in units of its height.
struct PeakNeighbour {
  double offset = 0.0;
  double ratio = 0.0;
};

/// Samples for fit_peak(): positions, counts, how many counts make one event of the sum (n joined pixels: weight n).
struct PeakSamples {
  std::span<const float> x;
  std::span<const float> counts;  ///< mean counts at x
  std::span<const float> factor;  ///< relative efficiency there; empty = 1
  std::span<const float> pixels;  ///< how many pixels the mean is of; empty = 1
  std::span<const PeakNeighbour> neighbours;
  /// Growth of the line's variance with x over twice its width: a line that is wider on one side than on the other.
  double skew = 0.0;
};

/// Weighted least squares by Gauss and Newton, the Poisson variance taken from the model itself (that from the counts
/// pulls weak peaks to low counts). Starts at `place`, `sigma`; the width is fitted when `free_width` and the peak is
/// bright enough to tell it.
[[nodiscard]] PeakFit fit_peak(const PeakSamples& samples, double place, double sigma, bool free_width);

}  // namespace annulus::calibration
