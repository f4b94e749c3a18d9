#!/usr/bin/env python3
"""Writes pyfai_detector_reference.hpp: what pyFAI says of every detector of its registry, and of a spline file.

Usage: pyfai_detector_reference.py > pyfai_detector_reference.hpp      (made with 2026.9.0; needs 3 GB of memory)
"""
import logging
import os
import tempfile
import zlib

import fabio
import numpy
import pyFAI
from pyFAI import detectors
from pyFAI.detectors import Detector

SPLINE_SHAPE = (44, 60)  # rows, columns
SAMPLES = ((0, 0), (1, 2), (-1, -1), (-2, 3))


def classes():
    seen = {}
    for name, detector_class in Detector.registry.items():
        seen.setdefault(detector_class, []).append(name)
    for detector_class in sorted(seen, key=lambda known: known.__name__):
        if detector_class is not Detector:
            yield detector_class, seen[detector_class]


def is_hexagonal(detector_class):
    return detector_class.CORNERS != 4


def number(value):
    return repr(float(value))


def mask_of(detector):
    mask = detector.mask
    if mask is None:
        mask = numpy.zeros(detector.shape, numpy.uint8)
    mask = numpy.ascontiguousarray(mask, numpy.uint8)
    return f"{int(mask.sum())}, 0x{zlib.crc32(mask.tobytes()):08x}U"


def detector_lines():
    for detector_class, _ in classes():
        if is_hexagonal(detector_class):
            continue
        detector = detector_class()
        dummy = "none" if detector.dummy is None else number(detector.dummy)
        delta = 0.0 if detector.delta_dummy is None else detector.delta_dummy
        sensors = " ".join(f"{sensor.material.name}:{sensor.thickness * 1e6:.0f}" for sensor in detector.SENSORS)
        yield (f'    {{"{detector_class.__name__}", {detector.shape[0]}, {detector.shape[1]}, '
               f'{number(detector.pixel1)}, {number(detector.pixel2)}, {mask_of(detector)}, {dummy}, {number(delta)}, '
               f'"{sensors}"}},')


def alias_lines():
    for detector_class, names in classes():
        for name in names + list(detector_class.aliases):
            yield f'    {{"{name}", "{"" if is_hexagonal(detector_class) else detector_class.__name__}"}},'


def weighted_means(corners):
    """Means over the pixels of each of the 12 coordinates, weighted so that no pixel can take another's place."""
    rows, columns = corners.shape[:2]
    weights = (numpy.arange(rows)[:, None] * 31 + numpy.arange(columns)[None, :] * 17) % 101
    total = weights.sum(dtype=numpy.float64)
    flat = weights.ravel().astype(numpy.float64)
    return [float(flat @ corners[:, :, corner, axis].ravel().astype(numpy.float64) / total)
            for corner in range(4) for axis in range(3)]


def braces(values):
    return "{" + ", ".join(number(value) for value in values) + "}"


def corner_line(name, orientation, corners):
    samples = [value for row, column in SAMPLES for value in corners[row, column].ravel()]
    return (f'    {{"{name}", {orientation}, {corners.shape[0]}, {corners.shape[1]},\n'
            f'     {braces(weighted_means(corners))},\n     {braces(numpy.float32(samples))}}},')


def corner_lines():
    for detector_class, _ in classes():
        if is_hexagonal(detector_class):
            continue
        detector = detector_class()
        # Jungfrau8M has corners with wide pixels that its class says it has not: its image is an assembled one.
        if detector.uniform_pixel and detector.IS_FLAT:
            continue
        corners = numpy.asarray(detector.get_pixel_corners(), dtype=numpy.float32)
        yield corner_line(detector_class.__name__, 3, corners)
    # The others' corners forget the orientation.
    for orientation in (1, 2, 4):
        corners = detectors.ImXPadS140(orientation=orientation).get_pixel_corners()
        yield corner_line("ImXPadS140", orientation, corners)


BINNINGS = (
    ("Eiger2_4M", 1081, 1034), ("Eiger2_4M", 2162, 1034), ("Eiger2_4M", 1000, 1000), ("PilatusCdTe300k", 619, 487),
    ("Eiger4M", 197, 207), ("Perkin", 4096, 4096), ("Perkin", 1024, 1024), ("Perkin", 1000, 1000),
    ("Pixium", 1910, 2480), ("Dexela2923", 1944, 1536), ("Dexela2923", 972, 768), ("Maxipix2x2", 258, 258),
    ("Lambda2M", 778, 389), ("RayonixSx165", 2048, 2048), ("RayonixSx165", 1364, 1364), ("RayonixMx225", 6144, 6144),
    ("RayonixMx225", 3072, 1536), ("Rayonix133", 4096, 4096), ("RayonixMx300hs", 768, 768), ("Mar345", 2300, 2300),
    ("Mar345", 3000, 3000), ("Mar345", 1200, 1200), ("Mar345", 1201, 1201), ("ImXPadS140", 120, 280),
    ("Jungfrau8M", 1111, 1606), ("Jungfrau4M", 541, 517), ("FReLoN", 1024, 1024), ("ADSC_Q315", 3072, 3072),
    ("Apex2", 512, 512), ("Fairchild", 1024, 1024),
)


def binning_lines():
    for name, rows, columns in BINNINGS:
        detector = detectors.ALL_DETECTORS[name.lower()]()
        fits = detector.guess_binning((rows, columns))
        if fits:
            yield (f'    {{"{name}", {rows}, {columns}, true, {number(detector.pixel1)}, {number(detector.pixel2)}, '
                   f'{mask_of(detector)}}},')
        else:
            yield f'    {{"{name}", {rows}, {columns}, false, 0.0, 0.0, 0, 0}},'


def offset_lines():
    """A Pilatus of 5 x 7 pixels with offsets of -2 to 2 hundredths of a pixel, a fifth of them 0."""
    pixels = numpy.arange(35, dtype=numpy.int32).reshape(5, 7)
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("x.edf", "y.edf")]
        for file, seed in zip(files, (3, 0)):
            fabio.edfimage.EdfImage(data=(pixels * 7 + seed) % 5 - 2).write(file)
        for orientation in (3, 1, 2, 4):
            detector = detectors.Pilatus(max_shape=pixels.shape, x_offset_file=files[0], y_offset_file=files[1],
                                         orientation=orientation)
            yield corner_line("Pilatus", orientation, detector.get_pixel_corners())


def spline_section(title, knots_x, knots_y, coefficients):
    numbers = [*knots_x, *knots_y, *coefficients]
    lines = [f"  {title}", f"{len(knots_x):8d}{len(knots_y):8d}"]
    for start in range(0, len(numbers), 5):
        lines.append("".join(f"{value:14.7E}" for value in numbers[start:start + 5]))
    return lines + [""]


def spline_text():
    random = numpy.random.default_rng(5)
    rows, columns = SPLINE_SHAPE
    lines = ["SPATIAL DISTORTION SPLINE INTERPOLATION COEFFICIENTS", "", "  VALID REGION",
             f"{0:14.7E}{0:14.7E}{columns:14.7E}{rows:14.7E}", "", "  GRID SPACING, X-PIXEL SIZE, Y-PIXEL SIZE",
             f"{1000:14.7E}{46.77648:14.7E}{48.08150:14.7E}", ""]
    # The second spline begins within the image: corners before its knots take the value at their end.
    for title, start, inner_x, inner_y in (("X-DISTORTION", 0.0, (9.5, 31.25, 47.0), (17.75, 30.5)),
                                           ("Y-DISTORTION", 2.0, (20.0, 22.0), (11.0, 24.0, 39.5))):
        knots_x = [start] * 4 + list(inner_x) + [float(columns)] * 4
        knots_y = [start] * 4 + list(inner_y) + [float(rows)] * 4
        coefficients = random.uniform(-3.0, 3.0, (len(knots_x) - 4) * (len(knots_y) - 4))
        lines += spline_section(title, knots_x, knots_y, coefficients)
    return "\n".join(lines) + "\n"


def main():
    logging.disable(logging.CRITICAL)
    print(f"""// What pyFAI {pyFAI.version} says of detectors; made by pyfai_detector_reference.py, not by hand.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>

namespace annulus::test {{

inline constexpr double none = std::numeric_limits<double>::quiet_NaN();

struct DetectorReference {{
  std::string_view name;
  std::uint32_t rows;
  std::uint32_t columns;
  double pixel1_m;
  double pixel2_m;
  std::uint64_t masked;
  std::uint32_t crc32;  ///< of the mask's bytes, 0 and 1
  double dummy;
  double delta_dummy;
  std::string_view sensors;  ///< material:thickness in um
}};

inline constexpr auto detector_references = std::to_array<DetectorReference>({{""")
    print("\n".join(detector_lines()))
    print("""});

struct AliasReference {
  std::string_view written;
  std::string_view name;  ///< "" = hexagonal
};

inline constexpr auto alias_references = std::to_array<AliasReference>({""")
    print("\n".join(alias_lines()))
    print(f"""}});

struct CornerReference {{
  std::string_view name;
  int orientation;
  std::uint32_t rows;
  std::uint32_t columns;
  /// [4, 3] of all pixels' corners, weighted by (31 row + 17 column) modulo 101
  std::array<double, 12> weighted_means_m;
  /// [4, 4, 3] corners of the pixels (0, 0), (1, 2), (-1, -1), (-2, 3), counted from the end when negative
  std::array<float, 48> samples_m;
}};

inline constexpr auto corner_references = std::to_array<CornerReference>({{""")
    print("\n".join(corner_lines()))
    print("""});

struct BinningReference {
  std::string_view name;
  std::uint32_t rows;
  std::uint32_t columns;
  bool fits;
  double pixel1_m;
  double pixel2_m;
  std::uint64_t masked;
  std::uint32_t crc32;
};

inline constexpr auto binning_references = std::to_array<BinningReference>({""")
    print("\n".join(binning_lines()))
    print("""});

inline constexpr auto offset_references = std::to_array<CornerReference>({""")
    print("\n".join(offset_lines()))
    text = spline_text()
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "made_up.spline")
        with open(name, "w") as file:
            file.write(text)
        frelon = detectors.FReLoN(name)
        plain = detectors.Detector(splinefile=name)
        corners = plain.get_pixel_corners()
        assert numpy.array_equal(corners, frelon.get_pixel_corners())
        print(f"""}});

inline constexpr std::string_view spline_text = R"({text})";
inline constexpr double spline_pixel1_m = {number(plain.pixel1)};
inline constexpr double spline_pixel2_m = {number(plain.pixel2)};
inline constexpr CornerReference spline_reference =
{corner_line("Detector", 3, corners)[:-1]};
inline constexpr std::uint64_t frelon_masked = {int(frelon.mask.sum())};
inline constexpr std::uint32_t frelon_crc32 = {mask_of(frelon).split(", ")[1]};

}}  // namespace annulus::test""")


if __name__ == "__main__":
    main()
