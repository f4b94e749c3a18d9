// Hypothesis search: which geometries would put the calibrant's rings where the image has crests.
//
// The wavelength and the calibrant fix the rings' cones, so a pose (sample and beam seen from the detector, five
// numbers) says for each crest whether a ring belongs there, and in which direction it should run. A hypothesis is
// scored by the logarithm of how much more likely the crests are under it than by chance; dense lists of rings, in
// which everything is near to something, earn little by construction. Proposals come from two sides: the normals of the
// crests meet near the pattern's centre (whole or partial rings about a beam on or near the detector, any distance and
// tilt), and pairs of arcs that are tried as any two of the rings (beam far outside, high angles).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "calibration/pose.hpp"
#include "calibration/ring_detection.hpp"
#include "calibration/ring_tally.hpp"
#include "integrator/geometry.hpp"

namespace annulus::calibration {

/// What a search works on.
struct SearchInput {
  const RidgeMap* ridges = nullptr;
  const DetectorPlaces* places = nullptr;
  const std::vector<Eigen::Vector3f>* ridge_places = nullptr;  ///< of the detection's pixels, see places_of()
  std::span<const std::uint8_t> mask;                          ///< [rows, columns]
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  double pixel_m = 0.0;               ///< geometric mean of the pixel's sides
  std::span<const double> rings_rad;  ///< 2theta of the rings, rising
};

struct Hypothesis {
  Pose pose;
  double score = 0.0;       ///< log-likelihood over chance, in nats: the sum over all segments
  std::uint32_t rings = 0;  ///< rings that have segments
  RingTally tally;          ///< of the rings in the image itself
};

/// Places [rows, columns] of the middles of the detection's pixels, in m.
[[nodiscard]] std::vector<Eigen::Vector3f> places_of(const RidgeMap& ridges, const DetectorPlaces& places);

/// How far to look.
enum class SearchEffort : std::uint8_t {
  quick,  ///< small tilts about the centres in which normals meet: most images, in a few hundredths of a second
  full,   ///< everything
};

/// The best hypotheses, refined on the segments; at most `count`, no two alike. First comes the one for which the rings
/// in the image speak most (RingTally::evidence), then by score. `guesses` are tried besides the search's own. Empty
/// when there is too little to go by.
[[nodiscard]] std::vector<Hypothesis> search_hypotheses(const SearchInput& input, std::span<const Pose> guesses,
                                                        SearchEffort effort, std::size_t count);

/// Share of the clear crests, by length, that lie within `tolerance_px` of one of the rings that `seen` [rings] marks,
/// over what would by chance: 0 when no more do than random places, 1 when all do. Clear crests belong to curves that
/// are no chance themselves: three segments or more.
struct CrestShare {
  double explained = 0.0;
  double chance = 0.0;     ///< share of the detector that is so near to one of these rings
  double length_px = 0.0;  ///< of all clear crests
};
[[nodiscard]] CrestShare explained_crests(const SearchInput& input, const integrator::Geometry& geometry,
                                          std::span<const char> seen, double tolerance_px);

}  // namespace annulus::calibration
