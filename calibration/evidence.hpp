// Evidence: what speaks for a fitted geometry and what against it, and the verdict.
//
// A fit always ends somewhere; these are the ways in which a wrong end shows. No ring is where it should be but those that
// were fitted: too few rings, parts of rings, crests that no ring explains. Rings do not agree with each other: scatter
// between rings larger than their points', rings that are predicted badly by the others. Rings agree with another wavelength
// (or, what is the same, other spacings) better than with the one given.
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

/// The verdict's limits. Each is far from what right and wrong geometries of the simulated cases reach (DESIGN.md).
namespace limits {
/// Rings that must be seen all along. Two circles determine centre and distance, three test them; tilted or partial ones
/// need the third for the tilt.
inline constexpr std::size_t fewest_rings = 3;
inline constexpr std::size_t fewest_points = 24;
/// Share of a ring's sectors that must show it: 150 grains a ring fill half of it, single crystals a few hundredths.
inline constexpr double ring_coverage = 0.25;
/// Scatter beyond counting, over the lines' own width (sigma): places within a line that are off by this much belong to
/// something else. Modules stand within 0.1 pixel of their places, lines are 1 pixel and wider.
inline constexpr double failed_excess = 1.0;
inline constexpr double doubtful_excess = 0.4;
/// Share of the points that the fit must have kept.
inline constexpr double failed_kept = 0.5;
inline constexpr double doubtful_kept = 0.8;
/// Share of the crests on rings: below the first, something else made the image; below the second, there is a second
/// phase, or the calibrant's list is not this compound's.
inline constexpr double failed_explained = 0.4;
inline constexpr double doubtful_explained = 0.85;
/// A wavelength that is wrong by a thousandth matters and shows; less is within what detectors' distances and samples'
/// purity are good for.
inline constexpr double wavelength_deviation = 1e-3;
inline constexpr double wavelength_sigmas = 5.0;
}  // namespace limits

/// What a verdict is made from.
struct EvidenceInput {
  std::span<const ExtractedRings> images;
  std::span<const ControlPoint> points;  ///< with residuals and weights
  const Refinement* refinement = nullptr;
  std::span<const double> rings_rad;
  RefinementSettings settings;
  CrestShare crests;
};

/// Fills verdict, reasons, warnings, rings and the numbers of the evidence in `result`, whose other members stay.
void judge(const EvidenceInput& input, CalibrationResult& result);

}  // namespace annulus::calibration
