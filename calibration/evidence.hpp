// Evidence: what speaks for a fitted geometry and what against it, and the verdict.
//
// A fit always ends somewhere; these are the ways in which a wrong end shows. No ring is where it should be but those
// that were fitted: too few rings, parts of rings, crests that no ring explains. Rings do not agree with each other:
// scatter between rings larger than their points', rings that are predicted badly by the others. Rings agree with
// another wavelength (or, what is the same, other spacings) better than with the one given.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calibration/calibration.hpp"
#include "calibration/control_points.hpp"
#include "calibration/hypothesis_search.hpp"
#include "calibration/refinement.hpp"

namespace annulus::calibration {

/// The verdict's limits: between what right and wrong geometries of the simulated cases reach (DESIGN.md).
namespace limits {
/// Rings that must be seen all along. Two circles determine centre and distance, three test them; tilted or partial
/// ones need the third for the tilt.
inline constexpr std::size_t fewest_rings = 3;
inline constexpr std::size_t fewest_points = 24;
/// Odds (RingTally::evidence, nats) that the calibrant's rings are those of the image: four rings of four against a
/// chance of a tenth are 9. Wrong compounds and geometries reach 8, rarely 12 to 14; nearly all whole
/// patterns reach 15 and more.
inline constexpr double failed_evidence = 9.0;
inline constexpr double doubtful_evidence = 13.0;
inline constexpr double convincing_evidence = 15.0;
/// Share of the rings on the list and the detector that should be seen: lists leave out the faintest, doses may be low.
inline constexpr double doubtful_seen = 0.5;
/// Share of a ring's sectors that must show it: 150 grains a ring fill half of it, single crystals a few hundredths.
inline constexpr double ring_coverage = 0.25;
/// Scatter beyond counting, over the lines' own width (sigma, at least a pixel). Modules stand within 0.1 pixel of
/// their places and lines are 1 pixel and wider; wrong assignments scatter by what a search window holds, pixels.
inline constexpr double failed_excess = 0.3;
inline constexpr double doubtful_excess = 0.2;
/// Share of the points that must be within half of the lines' width (sigma, at least a pixel) of their rings.
inline constexpr double kept_reach = 0.5;
inline constexpr double failed_kept = 0.5;
inline constexpr double doubtful_kept = 0.8;
/// Share of the crests on rings, over chance: below the first, something else made most of the image; below the second,
/// there may be a second phase or coarse grains, which is told but takes nothing from rings that fit.
inline constexpr double failed_explained = 0.4;
inline constexpr double doubtful_explained = 0.6;
inline constexpr double noted_explained = 0.85;
/// What the robust loss must leave of the points' weight: rings that disagree take all of it from each other.
inline constexpr double failed_say = 0.1;
/// Scatter of which most varies once or twice a turn of azimuth is no detector's: something is held where it is not.
inline constexpr double azimuthal_excess_px = 0.05;
inline constexpr double azimuthal_share = 0.5;
/// A wavelength that is wrong by a thousandth matters and shows; less is within what detectors' distances and samples'
/// purity are good for.
inline constexpr double wavelength_deviation = 1e-3;
inline constexpr double wavelength_sigmas = 3.0;
}  // namespace limits

/// What a verdict is made from.
struct EvidenceInput {
  std::span<const ExtractedRings> images;
  std::span<const ControlPoint> points;  ///< with residuals and weights
  const Refinement* refinement = nullptr;
  std::span<const double> rings_rad;
  RefinementSettings settings;
  CrestShare crests;
  std::vector<RingTally> tallies;  ///< [images]
};

/// Whether the rings that were fitted are where they should be, whatever else is in the image or wrong with the
/// wavelength: no other geometry will do better.
[[nodiscard]] bool fits_well(const CalibrationResult& result);

/// Fills verdict, reasons, warnings, rings and the numbers of the evidence in `result`, whose other members stay.
void judge(const EvidenceInput& input, CalibrationResult& result);

}  // namespace annulus::calibration
