#!/usr/bin/env python3
"""Writes pyfai_reference.hpp: what pyFAI says of some pixels' places.

Usage: pyfai_reference.py > pyfai_reference.hpp      (needs pyFAI 2025.12 or newer; made with 2026.9.0)
"""
import logging

import numpy
import pyFAI
from pyFAI import detectors
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

POLARISATION_FACTOR = 0.9
SHAPE = (7, 5)
PIXEL1_M, PIXEL2_M = 2e-3, 3e-3  # large pixels: every corner of a small image has its own angles


def places():
    random = numpy.random.default_rng(20)
    for case in range(16):
        orientation = case % 4 + 1
        # Small tilts, then any: every second set reaches beyond 90 degrees.
        tilt = 0.3 if (case // 4) % 2 == 0 else 3.0
        dist = round(float(random.uniform(0.005, 0.05)), 6)
        poni1, poni2 = (round(float(value), 6) for value in random.uniform(-0.01, 0.03, 2))
        rotations = [round(float(value), 6) for value in random.uniform(-tilt, tilt, 3)]
        wavelength = round(float(random.uniform(0.1, 2.0)), 6) * 1e-10
        row, column = int(random.integers(SHAPE[0])), int(random.integers(SHAPE[1]))
        detector = detectors.Detector(PIXEL1_M, PIXEL2_M, max_shape=SHAPE, orientation=orientation)
        integrator = AzimuthalIntegrator(dist, poni1, poni2, *rotations, detector=detector, wavelength=wavelength)
        # Not solidAngleArray(): that counts pixels in float32.
        indices = numpy.indices(SHAPE).astype(numpy.float64)
        arrays = [integrator.center_array(unit=unit) for unit in ("2th_rad", "chi_rad", "q_nm^-1", "r_m")]
        arrays.append(integrator.cos_incidence(indices[0], indices[1]) ** 3)
        arrays.append(integrator.polarization(factor=POLARISATION_FACTOR))
        inputs = ", ".join(repr(value) for value in [orientation, dist, poni1, poni2, *rotations, wavelength])
        outputs = [repr(float(array[row, column])) for array in arrays]
        yield f"    {{{inputs}, {row}, {column},\n     {', '.join(outputs[:4])},\n     {', '.join(outputs[4:])}}},"


def main():
    logging.disable(logging.CRITICAL)
    print(f"""// What pyFAI {pyFAI.version} says; made by pyfai_reference.py, not by hand.
#pragma once

#include <array>
#include <cstdint>

namespace annulus::test {{

inline constexpr std::uint32_t place_rows = {SHAPE[0]};
inline constexpr std::uint32_t place_columns = {SHAPE[1]};
inline constexpr double place_pixel1_m = {PIXEL1_M!r};
inline constexpr double place_pixel2_m = {PIXEL2_M!r};
inline constexpr double place_polarisation_factor = {POLARISATION_FACTOR!r};

struct PlaceReference {{
  int orientation;
  double distance_m, poni1_m, poni2_m, rot1_rad, rot2_rad, rot3_rad, wavelength_m;
  std::uint32_t row, column;
  double two_theta_rad, chi_rad, q_per_nm, radius_m, solid_angle;
  double polarisation;  ///< rounded to float32
}};

inline constexpr auto place_references = std::to_array<PlaceReference>({{""")
    print("\n".join(places()))
    print("""});

}  // namespace annulus::test""")


if __name__ == "__main__":
    main()
