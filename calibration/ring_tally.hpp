// Ring tally: of the calibrant's rings that a geometry puts on the detector, how many does the image show, and how many
// would it show by chance?
//
// Crests agree with many a wrong geometry: where the list of rings is dense, something is always near, and all the
// crests of one ring are near together. A ring counts once here, and a ring that should be there and is not counts
// against: that tells a geometry from one at half the distance, and a calibrant from another compound.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "calibration/ring_detection.hpp"

namespace annulus::calibration {

struct RingTally {
  std::size_t listed = 0;  ///< rings of the list on the detector; those too near to each other to be told count as one
  std::size_t seen = 0;    ///< of these, how many the image shows
  double chance = 1.0;     ///< share that would be seen if the list had nothing to do with the image
  /// Logarithm of how much more likely this is when the list is that of the image than by chance, in nats; over the
  /// first rings up to that where it is highest, since faint ones at high angles need not be seen.
  double evidence = 0.0;
  std::vector<double> foreign_sines;  ///< sin(theta) of lines that the image shows and the list does not have, rising
};

/// Counts. `sines` [ridges.rows, ridges.columns] is sin(theta) at the detection's own pixels by the geometry in
/// question, `ring_sines` that of the rings, rising. Costs some 10 ns a pixel of the detection.
[[nodiscard]] RingTally tally_rings(const RidgeMap& ridges, std::span<const float> sines,
                                    std::span<const double> ring_sines);

}  // namespace annulus::calibration
