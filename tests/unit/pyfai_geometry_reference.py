#!/usr/bin/env python3
"""Writes pyfai_geometry_reference.hpp: what pyFAI says of sensors, parallax, curved detectors, Fit2D and ImageD11.

Usage: pyfai_geometry_reference.py > pyfai_geometry_reference.hpp    (needs pyFAI 2025.12 or newer; made with 2026.9.0)
"""
import logging
import warnings

import numpy
import pyFAI
from pyFAI import detectors
from pyFAI.detectors.sensors import ALL_MATERIALS
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from pyFAI.io.ponifile import PoniFile
from pyFAI.parallax import Parallax, ThickSensor, ThinSensor

SHAPE = (5, 4)
PIXEL1_M, PIXEL2_M = 2e-3, 3e-3
NODES = [0, 1, 7, 100, 400, 511, 700, 900, 1000, 1020, 1022]


def numbers(*values):
    return ", ".join(repr(float(value)) for value in values)


def attenuations():
    random = numpy.random.default_rng(3)
    for name, material in ALL_MATERIALS.items():
        highest = min(block.max for block in [list(material._data)[-1]])
        energies = [1.0, 8.04, 17.4, 26.711, 26.7112, 31.8139, 40.0, 60.0, 80.0, 99.9]
        energies += [round(float(energy), 4) for energy in numpy.exp(random.uniform(0.0, numpy.log(100.0), 8))]
        if highest > 1000.0:
            energies += [511.0, 1999.0]
        for energy in energies:
            yield f'    {{"{name}", {numbers(energy, material.mu(energy, "m"))}}},'


def parallax_tables():
    for material, thickness, energy, distance in [("Si", 320e-6, 20.0, 0.1), ("Si", 1e-3, 60.0, 0.02),
                                                  ("CdTe", 1e-3, 80.0, 0.5), ("Gd2O2S", 0.0, 30.0, 0.2)]:
        mu = ALL_MATERIALS[material].mu(energy, "m")
        sensor = ThinSensor(thickness=thickness, mu=mu) if thickness else ThickSensor(mu=mu)
        table = Parallax(sensor).calc_corrections(distance)
        yield f'    {{"{material}", {numbers(thickness, energy, distance)}, {{{numbers(*table[NODES])}}}}},'


def geometry_parameters(random, tilt):
    dist = round(float(random.uniform(0.005, 0.05)), 6)
    poni = [round(float(value), 6) for value in random.uniform(-0.01, 0.03, 2)]
    rotations = [round(float(value), 6) for value in random.uniform(-tilt, tilt, 3)]
    wavelength = round(float(random.uniform(0.15, 1.0)), 6) * 1e-10
    return [dist, *poni, *rotations], wavelength


def pixel_of(random):
    return int(random.integers(SHAPE[0])), int(random.integers(SHAPE[1]))


def parallax_places():
    random = numpy.random.default_rng(5)
    for case in range(12):
        orientation = case % 4 + 1
        parameters, wavelength = geometry_parameters(random, 0.4)
        detector = detectors.Detector(PIXEL1_M, PIXEL2_M, max_shape=SHAPE, orientation=orientation)
        detector.sensor = {"material": "Si", "thickness": 1e-3}
        integrator = AzimuthalIntegrator(*parameters, detector=detector, wavelength=wavelength)
        integrator.enable_parallax(True)
        row, column = pixel_of(random)
        factor, offset = 0.9, round(float(random.uniform(-3, 3)), 6)
        transmission = round(float(random.uniform(0.05, 0.95)), 6)
        indices = numpy.indices(SHAPE).astype(numpy.float64)
        cosine = integrator.cos_incidence(indices[0], indices[1])
        arrays = [integrator.center_array(unit=unit) for unit in ("2th_rad", "chi_rad", "r_m")]
        arrays.append(cosine ** 3)  # not solidAngleArray(): that counts pixels in float32
        arrays.append(integrator.polarization(factor=factor, axis_offset=offset))
        integrator._cached_array["cos_incidence"] = cosine
        arrays.append(integrator.calc_transmission(transmission))
        yield (f"    {{{orientation}, {numbers(*parameters, wavelength)}, {row}, {column},\n"
               f"     {numbers(factor, offset, transmission)},\n"
               f"     {numbers(*[array[row, column] for array in arrays])}}},")


def curved_corners():
    """A detector with bent and uneven pixels; float32."""
    row, column = numpy.meshgrid(numpy.arange(SHAPE[0] + 1), numpy.arange(SHAPE[1] + 1), indexing="ij")
    grid = numpy.stack([1e-3 * numpy.sin(0.7 * row + 0.4 * column),
                        PIXEL1_M * (row + 0.1 * numpy.sin(column)),
                        PIXEL2_M * (column + 0.1 * numpy.cos(row))], axis=-1).astype(numpy.float32)
    corners = numpy.empty(SHAPE + (4, 3), dtype=numpy.float32)
    for corner, (down, right) in enumerate([(0, 0), (1, 0), (1, 1), (0, 1)]):
        corners[:, :, corner] = grid[down:down + SHAPE[0], right:right + SHAPE[1]]
    return corners


def curved_places():
    random = numpy.random.default_rng(7)
    for _ in range(6):
        parameters, wavelength = geometry_parameters(random, 0.4)
        detector = detectors.Detector(PIXEL1_M, PIXEL2_M, max_shape=SHAPE, orientation=3)
        detector.IS_FLAT = False
        detector.uniform_pixel = False
        detector.set_pixel_corners(curved_corners())
        integrator = AzimuthalIntegrator(*parameters, detector=detector, wavelength=wavelength)
        indices = numpy.indices(SHAPE).astype(numpy.float64)
        row, column = pixel_of(random)
        # From the corners in float64: calc_cartesian_positions() means them in float32.
        corners = curved_corners().astype(numpy.float64)
        centre = corners.mean(axis=2)
        detector_place = numpy.stack([centre[..., 1] - parameters[1], centre[..., 2] - parameters[2],
                                      centre[..., 0] + parameters[0]])
        rotated = numpy.tensordot(integrator.rotation_matrix(), detector_place, axes=1)
        cosine = integrator.cos_incidence(indices[0], indices[1])
        y, x, z = rotated[:, row, column]
        yield (f"    {{{numbers(*parameters)}, {row}, {column},\n"
               f"     {numbers(y, x, z, cosine[row, column])}}},")


def fit2d():
    random = numpy.random.default_rng(9)
    for case in range(12):
        parameters, wavelength = geometry_parameters(random, [0.4, 1e-3, 1.4][case % 3] / 2 ** 0.5)
        if case == 1:
            parameters[3:] = [0.0, 0.0, 0.0]
        detector = detectors.Detector(PIXEL1_M, PIXEL2_M, max_shape=SHAPE)
        integrator = AzimuthalIntegrator(*parameters, detector=detector, wavelength=wavelength)
        there = integrator.getFit2D()
        back = AzimuthalIntegrator().setFit2D(
            there["directDist"], there["centerX"], there["centerY"], there["tilt"], there["tiltPlanRotation"],
            there["pixelX"], there["pixelY"], wavelength=there["wavelength"])
        poni = PoniFile(back)
        yield (f"    {{{numbers(*parameters, wavelength)},\n"
               f"     {numbers(*[there[key] for key in FIT2D_KEYS])},\n"
               f"     {numbers(poni.dist, poni.poni1, poni.poni2, poni.rot1, poni.rot2, poni.rot3)}}},")


FIT2D_KEYS = ["directDist", "centerX", "centerY", "tilt", "tiltPlanRotation", "pixelX", "pixelY", "wavelength"]


def imaged11():
    random = numpy.random.default_rng(11)
    for case in range(8):
        parameters, wavelength = geometry_parameters(random, 0.4)
        detector = detectors.Detector(PIXEL1_M, PIXEL2_M, max_shape=SHAPE, orientation=case % 4 + 1)
        integrator = AzimuthalIntegrator(*parameters, detector=detector, wavelength=wavelength)
        there = integrator.getImageD11()
        text = "".join(f"{key} {value!r}\\n" for key, value in there.items() if key != "shape")
        yield f'    {{{case % 4 + 1}, {numbers(*parameters, wavelength)},\n     "{text}"}},'


def main():
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    print(f"""// What pyFAI {pyFAI.version} says; made by pyfai_geometry_reference.py, not by hand.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace annulus::test {{

// clang-format off
struct AttenuationReference {{
  std::string_view material;
  double energy_kev, attenuation_per_m;
}};

inline constexpr auto attenuation_references = std::to_array<AttenuationReference>({{""")
    print("\n".join(attenuations()))
    print(f"""}});

inline constexpr std::array<std::uint32_t, {len(NODES)}> parallax_reference_nodes = {{{", ".join(map(str, NODES))}}};

struct ParallaxReference {{
  std::string_view material;
  double thickness_m, energy_kev, distance_m;
  std::array<double, {len(NODES)}> correction_m;  ///< at parallax_reference_nodes
}};

inline constexpr auto parallax_references = std::to_array<ParallaxReference>({{""")
    print("\n".join(parallax_tables()))
    print(f"""}});

inline constexpr std::uint32_t sensor_rows = {SHAPE[0]};
inline constexpr std::uint32_t sensor_columns = {SHAPE[1]};
inline constexpr double sensor_pixel1_m = {PIXEL1_M!r};
inline constexpr double sensor_pixel2_m = {PIXEL2_M!r};

/// Pixels behind 1 mm of silicon, with the correction of parallax.
struct ParallaxPlaceReference {{
  int orientation;
  double distance_m, poni1_m, poni2_m, rot1_rad, rot2_rad, rot3_rad, wavelength_m;
  std::uint32_t row, column;
  double polarisation_factor, polarisation_offset_rad, transmission_normal;
  double two_theta_rad, chi_rad, radius_m, solid_angle;
  double polarisation;  ///< rounded to float32
  double absorption;
}};

inline constexpr auto parallax_place_references = std::to_array<ParallaxPlaceReference>({{""")
    print("\n".join(parallax_places()))
    corners = curved_corners().reshape(-1, 12)
    print(f"""}});

/// [rows, columns, 4, 3] of a bent detector with uneven pixels.
inline constexpr auto curved_vertices = std::to_array<float>({{""")
    print("\n".join("    " + ", ".join(f"{float(value)!r}F" for value in pixel) + "," for pixel in corners))
    print("""});

struct CurvedReference {
  double distance_m, poni1_m, poni2_m, rot1_rad, rot2_rad, rot3_rad;
  std::uint32_t row, column;
  double y_m, x_m, z_m, cosine;  ///< cosine: of the incidence on the pixel, from centres rounded to float32
};

inline constexpr auto curved_references = std::to_array<CurvedReference>({""")
    print("\n".join(curved_places()))
    print("""});

/// A geometry, what getFit2D() makes of it, and what setFit2D() makes of that.
struct Fit2dReference {
  double distance_m, poni1_m, poni2_m, rot1_rad, rot2_rad, rot3_rad, wavelength_m;
  double direct_mm, centre_x, centre_y, tilt_deg, direction_deg, pixel_x_um, pixel_y_um, wavelength_angstrom;
  double back_distance_m, back_poni1_m, back_poni2_m, back_rot1_rad, back_rot2_rad, back_rot3_rad;
};

inline constexpr auto fit2d_references = std::to_array<Fit2dReference>({""")
    print("\n".join(fit2d()))
    print("""});

/// A geometry, and what getImageD11() makes of it (micrometre, nm).
struct ImageD11Reference {
  int orientation;
  double distance_m, poni1_m, poni2_m, rot1_rad, rot2_rad, rot3_rad, wavelength_m;
  std::string_view text;
};

inline constexpr auto imaged11_references = std::to_array<ImageD11Reference>({""")
    print("\n".join(imaged11()))
    print("""});
// clang-format on

}  // namespace annulus::test""")


if __name__ == "__main__":
    main()
