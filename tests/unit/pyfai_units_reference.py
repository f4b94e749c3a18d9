#!/usr/bin/env python3
"""Writes pyfai_units_reference.hpp: pyFAI's units, radial and azimuthal, and what they make of some points.

Usage: pyfai_units_reference.py > pyfai_units_reference.hpp      (made with pyFAI 2026.9.0)
"""
import logging
import math

import numpy
import pyFAI
from pyFAI import units

WAVELENGTH_M = 0.8125e-10
# Incident and tilt angle in rad, orientation.
POSES = [(0.0, 0.0, 1), (0.0035, 0.0, 1), (0.01, -0.03, 2), (-0.07, 0.2, 3), (0.0, 0.5, 4), (0.21, 0.0, 5),
         (0.004, 0.9, 6), (1.3, -0.6, 7), (-0.02, 0.05, 8)]


def points_of(random, count):
    """x, y, z in m, some behind the sample."""
    points = random.uniform(-0.2, 0.2, (count, 3))
    points[:, 2] += 0.1
    return numpy.round(points, 6)


def value_of(name, pose, point):
    unit = units.ANY_UNITS[name]
    if name in units.ANY_FIBER_UNITS:
        unit = units.get_unit_fiber(name, sample_orientation=pose[2])
        unit.incident_angle, unit.tilt_angle = pose[0], pose[1]
    x, y, z = (numpy.array([value]) for value in point)
    return float(unit.equation(x, y, z, WAVELENGTH_M)[0]) * unit.scale


def main():
    logging.disable(logging.CRITICAL)
    random = numpy.random.default_rng(41)
    names = [name for name in units.ANY_UNITS if name in units.RADIAL_UNITS or name in units.AZIMUTHAL_UNITS]
    print(f"""// What pyFAI {pyFAI.version} says; made by pyfai_units_reference.py, not by hand.
#pragma once

#include <array>

namespace annulus::test {{

inline constexpr double unit_wavelength_m = {WAVELENGTH_M!r};

struct UnitReference {{
  const char* name;
  double scale;
  const char* label;
  bool positive;
}};

inline constexpr auto unit_references = std::to_array<UnitReference>({{""")
    for name in names:
        unit = units.ANY_UNITS[name]
        print(f'    {{"{name}", {float(unit.scale)!r}, R"({unit.label})", {str(unit.positive).lower()}}},')
    print("""});

struct UnitPlaceReference {
  const char* unit;
  double incident_angle_rad, tilt_angle_rad;
  int orientation;
  double x_m, y_m, z_m;
  double value;  ///< in the unit
};

inline constexpr auto unit_place_references = std::to_array<UnitPlaceReference>({""")
    for name in names:
        for pose in POSES if name in units.ANY_FIBER_UNITS else POSES[:1] * 3:
            for point in points_of(random, 2):
                place = ", ".join(repr(float(value)) for value in point)
                value = value_of(name, pose, point)
                assert math.isfinite(value), (name, pose, point)
                print(f'    {{"{name}", {pose[0]!r}, {pose[1]!r}, {pose[2]}, {place}, {value!r}}},')
    print("""});

}  // namespace annulus::test""")


if __name__ == "__main__":
    main()
