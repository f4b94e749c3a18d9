#!/usr/bin/env python3
"""Writes reference.json and reference.bin: what pyFAI's Cython CSR engines say of several hundred integrations.

Usage: make_reference.py [FOLDER]      (made with pyFAI 2026.9.0; FOLDER = that of this script)

Each row is one integration: a geometry, images, corrections, a method. Rows are drawn so that every pair of choices
that can stand together does so at least once (a covering design; the full product would have 10^9 rows). The images are
not stored: they come from `Random`, whose numbers conformance_test.cpp makes too.

Left out, because pyFAI has no numbers to agree with:
- pseudo splitting: in one dimension it is full splitting under another name; in two it exists as a histogram alone.
- sigma clipping with splitting: a pixel dropped in one bin vanishes from the others that share it, while threads race.
- the median of frames with dummies, NaN or zeros in the flat: pyFAI sorts 0/0, and std::sort of NaN is not defined.
- the median without solid angle: pixels of equal value stand in an order that std::sort is free to choose.
- azimuthal and hybrid errors of a median, and absorption in two dimensions: not in pyFAI's interface.
- azimuthal errors where all counts of a bin are nearly the same: the one-pass variance may come out below 0 and pyFAI
  takes its root; such a row gets other images (another seed).
- orientations of a detector given by its corners: pyFAI turns the centres of its pixels and not the corners.
- qx and qy with an azimuthal range, or a narrow radial one behind the sample: hardly any bin would have pixels.
- full splitting of patterns over chi: pyFAI divides by areas of 0; with parallax it has no corners for them.
- chigi with the cut at 0: pyFAI keeps its values between -180 and 180 degrees.
- cakes of two units of which one takes pyFAI's fast path and one does not: their corners come from different places.
"""
import itertools
import json
import logging
import math
import pathlib
import sys
import unittest.mock
import warnings

import numpy
import pyFAI
import pyFAI.detectors
import pyFAI.units
from pyFAI.containers import PolarizationDescription
from pyFAI.detectors.sensors import SensorConfig
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

PYFAI_VERSION = "2026.9.0"
RADIAL_BINS, CAKE_BINS = 60, (24, 10)
TRANSMISSION = 0.25  # of the sensor, where it corrects for absorption


class Random:
    """splitmix64 (doi:10.1145/2714064.2660195), one number a pixel: number i of a stream is the i-th output of the
    generator whose first state is 64 * row + stream."""

    FRAME, MASK, DARK, FLAT, VARIANCE, ABSORPTION = range(6)

    def __init__(self, row, shape):
        self.row, self.shape = row, shape

    def bits(self, stream):
        index = numpy.arange(1, self.shape[0] * self.shape[1] + 1, dtype=numpy.uint64)
        z = numpy.uint64(64 * self.row + stream) + index * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return (z ^ (z >> numpy.uint64(31))).reshape(self.shape)

    def unit(self, stream):
        """24 random bits as a float64 in [0, 1): products with few-bit numbers are exact in float32 or float64."""
        return (self.bits(stream) >> numpy.uint64(40)).astype(numpy.float64) * 2.0**-24

    def frame(self, dtype, spread, marks):
        """Counts: 20 to 275, all alike ("wide"), or 100 to 224, scattered about half more than Poisson's ("narrow": so
        that clipping leaves most); one pixel in 256 a peak of 4000 more; floats with a fraction in steps of 1/256. With
        `marks` one pixel in 128 is as a detector marks bad ones: the type's maximum, -1, or not a number."""
        z = self.bits(self.FRAME)
        if spread == "wide":
            counts = numpy.uint64(20) + ((z >> numpy.uint64(32)) & numpy.uint64(255))
        else:
            counts = numpy.full(self.shape, 100, numpy.uint64)
            for shift in (32, 37, 42, 47):
                counts += (z >> numpy.uint64(shift)) & numpy.uint64(31)
        counts += numpy.uint64(4000) * ((z & numpy.uint64(255)) == 0)
        frame = counts.astype(dtype)
        if dtype == "float32":
            frame += ((z >> numpy.uint64(8)) & numpy.uint64(255)).astype("float32") / numpy.float32(256)
        if marks:
            mark = {"uint16": 65535, "int32": -1, "float32": numpy.nan}[dtype]
            frame[((z >> numpy.uint64(16)) & numpy.uint64(127)) == 0] = mark
        return frame

    def mask(self, kind, detector_mask):
        """The detector's own pixels that are none, and of the others one in eight, or a block beside the middle."""
        mask = numpy.zeros(self.shape, numpy.int8) if detector_mask is None else (detector_mask != 0).astype(numpy.int8)
        if kind == "random":
            mask[(self.bits(self.MASK) & numpy.uint64(7)) == 0] = 1
        elif kind == "block":
            rows, columns = self.shape
            mask[rows // 3:rows // 2, columns // 4:2 * columns // 3] = 1
        return mask

    def dark(self):
        return (16.0 * self.unit(self.DARK)).astype(numpy.float32)

    def flat(self, kind):
        flat = (0.5 + self.unit(self.FLAT)).astype(numpy.float32)
        if kind == "zeros":
            flat[(self.bits(self.FLAT) & numpy.uint64(63)) == 0] = 0.0
        return flat

    def variance(self):
        return (10.0 + 256.0 * self.unit(self.VARIANCE)).astype(numpy.float32)

    def absorption(self):
        return (0.625 + 0.375 * self.unit(self.ABSORPTION)).astype(numpy.float32)


def dish_corners(shape, pixel1, pixel2):
    """[rows, columns, 4, 3] (z, y, x): a paraboloid dish of pixels that do not touch, bent towards the sample. All
    numbers have few binary digits, so that any order of operations gives the same float32."""
    rows, columns = shape
    corners = numpy.zeros((rows, columns, 4, 3))
    for corner, (down, right) in enumerate([(0, 0), (1, 0), (1, 1), (0, 1)]):
        row = numpy.arange(rows)[:, None] + (0.9375 if down else 0.0625)
        column = numpy.arange(columns)[None, :] + (0.9375 if right else 0.0625)
        corners[:, :, corner, 0] = -(2.0**-20) * ((row - rows / 2) ** 2 + 0.5 * (column - columns / 2) ** 2)
        corners[:, :, corner, 1] = pixel1 * row + 0.0 * column
        corners[:, :, corner, 2] = pixel2 * column + 0.0 * row
    return corners.astype(numpy.float32)


# Sizes in m. Powers of two and short multiples of them stand exactly in float32, which pyFAI rounds corners to where a
# unit has no fast path (SLOW_UNITS); decimals do not.
BINARY = 2.0**-13
DETECTORS = {
    "square": dict(shape=(59, 71), pixel=(BINARY, BINARY)),
    "oblong": dict(shape=(83, 52), pixel=(BINARY, 0.75 * BINARY)),
    "decimal": dict(shape=(61, 67), pixel=(172e-6, 150e-6)),
    "Pilatus100k": dict(name="Pilatus100k", shape=(195, 487), pixel=(172e-6, 172e-6)),
    "Pilatus200k": dict(name="Pilatus200k", shape=(407, 487), pixel=(172e-6, 172e-6)),
    "ImXPadS70": dict(name="ImXPadS70", shape=(120, 560), pixel=(130e-6, 130e-6)),
    "dish": dict(shape=(56, 64), pixel=(BINARY, BINARY), vertices="dish"),
    "thick": dict(shape=(64, 58), pixel=(BINARY, BINARY), sensor=("Si", 450e-6)),
    "thick_CdTe": dict(shape=(57, 75), pixel=(1.25 * BINARY, BINARY), sensor=("CdTe", 750e-6)),
}

# (distance, poni1, poni2) in heights and widths of the detector, rotations in rad.
PLACES = {
    "inside": ((1.31, 0.4337, 0.5419), (0.031, -0.023, 0.417)),
    "outside": ((1.57, -0.2713, 1.1939), (-0.021, 0.057, -0.213)),
    "untilted": ((1.83, 0.6127, 0.3571), (0.0, 0.0, 0.0)),
    "beyond_90": ((0.91, 0.5273, 0.4691), (1.437, 0.219, -0.127)),
    "backwards": ((1.13, 0.4423, 0.6217), (0.389, -1.913, 0.071)),
}

# Units for which pyFAI computes corners from positions in m rounded to float32; the others go from float64.
SLOW_UNITS = ["d_A", "d*2_A^-2", "d*2_nm^-2", "log10(q.m)_None", "log(q.nm)_None", "log(1+q.nm)_None",
              "log(1+q.A)_None", "arcsinh(q.nm)_None", "arcsinh(q.A)_None", "qx_nm^-1", "qy_nm^-1"]
# Units that are seen from the sample; all are slow as well.
SAMPLE_UNITS = ["scattering_angle_vert_rad", "scattering_angle_horz_rad", "exit_angle_vert_rad", "exit_angle_horz_rad",
                "exit_angle_vert_deg", "exit_angle_horz_deg", "qxgi_nm^-1", "qygi_nm^-1", "qzgi_nm^-1", "qip_nm^-1",
                "qoop_nm^-1", "qtot_nm^-1", "qxgi_A^-1", "qygi_A^-1", "qzgi_A^-1", "qip_A^-1", "qoop_A^-1", "qtot_A^-1",
                "chigi_rad", "chigi_deg"]
CHI_UNITS = ["chi_rad", "chi_deg"]
SPACE = {name: unit.space.replace("qoop", "qygi") for name, unit in pyFAI.units.ANY_UNITS.items()}
# Incident angle and tilt angle in degrees, orientation.
SAMPLES = [(0.2, 0.0, 1), (0.5, -1.5, 2), (-3.0, 7.0, 3), (0.0, 0.0, 4), (12.0, 0.0, 5), (0.3, 20.0, 6),
           (0.0, -4.0, 7), (1.0, 2.0, 8)]
UNITS = ["2th_deg", "2th_rad", "q_nm^-1", "q_A^-1", "r_mm", "r_m"] + SLOW_UNITS

COMMON = {
    "split": ["no", "bbox", "full"],
    "unit": UNITS,
    "detector": ["square", "oblong", "decimal", "Pilatus100k", "Pilatus200k", "ImXPadS70", "dish", "thick",
                 "thick_CdTe"],
    "place": list(PLACES),
    "orientation": [1, 2, 3, 4],
    "radial_range": ["all", "inner", "wider"],
    "azimuth_range": ["all", "within", "across"],
    "cut": ["pi", "zero"],
    "solid_angle": [True, False],
    "polarisation": [None, (0.95, 0.0), (-0.4, 0.0), (0.8, 30.0)],
    "dark": [False, True],
    "flat": ["none", "full", "zeros"],
    "absorption": ["none", "array", "sensor"],
    "mask": ["none", "random", "block"],
    "dummy": [None, (150.0, None), (160.0, 2.5)],
    "error_model": ["no", "variance", "poisson", "azimuthal", "hybrid"],
    "normalisation": [(1.0, 1.0), (2.5, 1.0), (1.0, 1536.0), (0.75, 20.0)],  # factor, monitor: exact in float32
    "frame": ["uint16", "int32", "float32"],
    "marks": [False, True],
    "filter": [None],
    "azimuthal_unit": [None],
}

# (kind, number of rows, changes to COMMON); a new one goes to the end, so that the others' rows stay as they are.
KINDS = [
    ("integrate1d", 168, {}),
    ("integrate2d", 144, {"absorption": ["none"], "azimuthal_unit": ["chi_deg"]}),
    ("sigma_clip", 40, {
        "split": ["no"], "error_model": ["variance", "poisson", "azimuthal", "hybrid"],
        "filter": [{"threshold": threshold, "cycles": cycles} for threshold, cycles in
                   [(5.0, 5), (3.0, 1), (3.0, 10), (2.0, 3), (0.0, 5)]]}),
    ("medfilt", 40, {
        "error_model": ["no", "variance", "poisson"], "dummy": [None], "marks": [False], "flat": ["none", "full"],
        "solid_angle": [True],
        "filter": [{"quantiles": quantiles} for quantiles in
                   [(0.5, 0.5), (0.25, 0.75), (0.125, 0.875), (0.0, 1.0), (0.3125, 0.3125), (0.0, 0.5)]]}),
    ("integrate1d", 60, {"unit": SAMPLE_UNITS + CHI_UNITS, "sample": SAMPLES, "absorption": ["none"]}),
    ("integrate2d", 44, {
        "unit": SAMPLE_UNITS, "sample": SAMPLES, "absorption": ["none"],
        "azimuthal_unit": CHI_UNITS + ["qoop_nm^-1", "qip_A^-1", "qxgi_nm^-1", "qygi_nm^-1", "qzgi_nm^-1", "qy_nm^-1",
                                       "chigi_deg", "chigi_rad", "exit_angle_vert_deg"]}),
]


def possible(row):
    """Whether the choices, those made so far, can stand together."""
    get = row.get
    detector, unit = get("detector"), get("unit")
    if detector in ("dish", "ImXPadS70") and get("orientation") not in (None, 3):
        return False
    if unit in SLOW_UNITS + SAMPLE_UNITS and detector == "Pilatus200k":
        return False  # the decimal detector and the smaller Pilatus stand for it: large rows are few
    if unit == "d_A" and get("place") in ("inside", "untilted"):
        return False  # infinite at the beam: all pixels would share one bin
    if unit in ("qx_nm^-1", "qy_nm^-1") and get("azimuth_range") not in (None, "all"):
        return False  # coordinates that are not independent: most bins would be empty
    if unit in ("qx_nm^-1", "qy_nm^-1") and get("place") in ("beyond_90", "backwards") and \
            get("radial_range") == "inner":
        return False  # they jump between their extremes there, with nothing in between
    if unit in CHI_UNITS and (get("split") == "full" or (detector or "").startswith("thick")):
        return False
    if unit in SAMPLE_UNITS + CHI_UNITS and "azimuthal_unit" in row:
        azimuthal = row["azimuthal_unit"]
        if azimuthal is not None and azimuthal not in CHI_UNITS:
            if get("azimuth_range") == "across" or (unit is not None and SPACE[unit] == SPACE[azimuthal]):
                return False
    if str(unit).startswith("chigi") and get("azimuth_range") not in (None, "all"):
        return False  # hardly any bin would have pixels
    if get("cut") == "zero" and "chigi" in f"{unit} {get('azimuthal_unit')}":
        return False
    around = "azimuthal_unit" in row and (get("azimuthal_unit") or "chi_deg").startswith("chi")
    if unit in SAMPLE_UNITS and get("split") == "full" and around and get("azimuth_range") not in (None, "all"):
        return False  # pyFAI takes most pixels for ones across the cut, and loses them
    if unit in SAMPLE_UNITS and get("place") in ("beyond_90", "backwards") and get("radial_range") == "inner":
        return False  # as qx and qy
    if unit in SAMPLE_UNITS + CHI_UNITS and get("radial_range") == "inner" and get("azimuth_range") == "within":
        return False  # hardly any bin would have pixels
    if get("azimuth_range") == "across" and get("place") not in (None, "inside", "untilted"):
        return False  # no pixels at the cut
    if get("azimuth_range") == "across" and get("radial_range") == "inner":
        return False  # too few pixels
    if get("marks") and get("dummy") is not None:
        return False  # a dummy of the user's takes the place of the detector's
    if get("marks") and detector is not None and not detector.startswith("Pilatus") and \
            get("frame") not in (None, "float32"):
        return False  # a plain detector has no marks but not-a-number
    if get("dummy") is not None and get("flat") == "zeros":
        return False  # pyFAI compares flats with the dummy: then zeros are kept until they divide
    return True


def cover(levels, count):
    """`count` rows of one level a factor: each the one, of some drawn, that holds most pairs not seen before."""
    state = [0x123456789ABCDEF]

    def draw(below):
        state[0] = (state[0] + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = state[0]
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        return (z ^ (z >> 31)) % below

    seen, rows = set(), []
    uses = {}
    for _ in range(count):
        best, best_score = None, None
        for _ in range(60):
            names = list(levels)
            for place in range(len(names) - 1, 0, -1):
                other = draw(place + 1)
                names[place], names[other] = names[other], names[place]
            row = {}
            for name in names:
                options = [level for level in levels[name] if possible({**row, name: level})]
                if not options:
                    break
                row[name] = options[draw(len(options))]
            else:
                pairs = {(a, repr(row[a]), b, repr(row[b])) for a, b in itertools.combinations(sorted(row), 2)}
                # Large detectors cost bytes of nobody but time of every test run: rarely.
                score = len(pairs - seen) - (6 if row["detector"] in ("Pilatus200k", "ImXPadS70") else 0)
                if best is None or score > best_score:
                    best, best_score, best_pairs = row, score, pairs
        seen |= best_pairs
        rows.append(best)
    return rows


def rounded(value):
    return float(f"{value:.6g}")


def unit_of(name, sample):
    """A unit of pyFAI's for a sample that lies in the beam as told; None = its own, where it makes no difference."""
    if sample is None or name not in pyFAI.units.ANY_FIBER_UNITS:
        return pyFAI.units.ANY_UNITS[name]
    incident_angle, tilt_angle, orientation = sample
    unit = pyFAI.units.get_unit_fiber(name, sample_orientation=orientation)
    # Not by get_unit_fiber: it takes negative angles around the circle.
    unit.incident_angle, unit.tilt_angle = math.radians(incident_angle), math.radians(tilt_angle)
    return unit


def units_of(row):
    """(radial, azimuthal) of a row or of the choices for one."""
    sample = row.get("sample")
    return unit_of(row["unit"], sample), unit_of(row["azimuthal_unit"] or "chi_deg", sample)


def integrator_of(geometry, cut="pi"):
    config = geometry["detector_config"]
    sensor = config.get("sensor")
    sensor = SensorConfig(sensor["material"], sensor["thickness"]) if sensor else None
    if geometry["detector"] == "Detector":
        detector = pyFAI.detectors.Detector(config["pixel1"], config["pixel2"], max_shape=tuple(config["max_shape"]),
                                            orientation=config["orientation"], sensor=sensor)
    else:
        detector = pyFAI.detectors.detector_factory(geometry["detector"], {"orientation": config["orientation"]})
    if geometry["vertices"]:
        detector.IS_FLAT = detector.IS_CONTIGUOUS = detector.uniform_pixel = False
        detector._pixel_corners = dish_corners(config["max_shape"], config["pixel1"], config["pixel2"])
    # As numpy.float64, not Python floats: with those numpy adds them to float32 corners in float32.
    integrator = AzimuthalIntegrator(numpy.float64(geometry["distance"]), numpy.float64(geometry["poni1"]),
                                     numpy.float64(geometry["poni2"]), geometry["rot1"], geometry["rot2"],
                                     geometry["rot3"], detector=detector, wavelength=geometry["wavelength"])
    if geometry["parallax"]:
        integrator.enable_parallax()
    if cut == "zero":
        integrator.setChiDiscAtZero()
    # First of all: once the corners of the pixels have been taken from the detector, pyFAI counts orientation twice for
    # centres that it has not computed yet, and azimuths come out mirrored.
    integrator.center_array(unit="chi_rad")
    return integrator


def geometry_of(choice):
    made = DETECTORS[choice["detector"]]
    (rows, columns), (pixel1, pixel2) = made["shape"], made["pixel"]
    (distance, poni1, poni2), (rot1, rot2, rot3) = PLACES[choice["place"]]
    height, width = rows * pixel1, columns * pixel2
    config = {"orientation": choice["orientation"]}
    if "name" not in made:
        config |= {"pixel1": pixel1, "pixel2": pixel2, "max_shape": [rows, columns]}
    if "sensor" in made:
        config["sensor"] = {"material": made["sensor"][0], "thickness": made["sensor"][1]}
    return {"detector": made.get("name", "Detector"), "detector_config": config, "vertices": "vertices" in made,
            "parallax": "sensor" in made, "distance": rounded(distance * min(height, width)),
            "poni1": rounded(poni1 * height), "poni2": rounded(poni2 * width), "rot1": rot1, "rot2": rot2,
            "rot3": rot3, "wavelength": 0.8125e-10}


def ranges_of(choice, geometry):
    integrator = integrator_of(geometry, choice["cut"])
    unit, azimuthal_unit = units_of(choice)
    centres = integrator.center_array(unit=unit, scale=True)
    lower, upper = centres.min(), centres.max()
    span = upper - lower
    radial = {"all": None, "inner": (lower + 0.21 * span, upper - 0.27 * span),
              "wider": (lower - 0.043 * span, upper + 0.13 * span)}[choice["radial_range"]]
    chi = numpy.degrees(integrator.center_array(unit="chi_rad", scale=False))
    azimuth = None
    if choice["azimuth_range"] == "within" and azimuthal_unit.space != "chi":
        places = integrator.center_array(unit=azimuthal_unit, scale=True)
        azimuth = tuple(rounded(value) for value in numpy.percentile(places, (13, 71)))
    elif choice["azimuth_range"] == "within":
        azimuth = tuple(round(float(value), 2) for value in numpy.percentile(chi, (13, 71)))
    elif choice["azimuth_range"] == "across":
        azimuth = (141.7, -123.4) if choice["cut"] == "pi" else (317.3, 61.9)
    if azimuth and choice["azimuthal_unit"] == "chi_rad":
        azimuth = tuple(rounded(math.radians(angle)) for angle in azimuth)
    return radial and tuple(rounded(value) for value in radial), azimuth


def notes_of(row, choice):
    """What pyFAI does to this row that is not right, or not to be had again: names for conformance_test.cpp."""
    notes = []
    exact_in_float32 = DETECTORS[choice["detector"]]["pixel"][0] % 2.0**-15 == 0
    if choice["detector"] == "ImXPadS70" or (choice["unit"] in SLOW_UNITS + SAMPLE_UNITS and not exact_in_float32):
        notes.append("float32 positions")
    if choice["azimuth_range"] == "across":
        notes.append("range across the cut")
    if row["kind"] == "integrate2d":
        if row["split"] != "full" and row["dark"] and row["error_model"] in ("poisson", "hybrid"):
            notes.append("dark in the variance")  # of these cakes alone: Poisson's is that of the counts and the dark
        if row["split"] != "full" and row["cut"] == "zero" and row["azimuth_range"] is None:
            notes.append("azimuths beyond 180 degrees")  # clipped as if the cut were at 180
    if row["split"] == "full":
        corners = integrator_of(row["geometry"], row["cut"]).array_from_unit(typ="corner", unit=units_of(row),
                                                                             scale=False)
        radial, azimuth = corners[..., 0].astype(float), corners[..., 1].astype(float)
        period = units_of(row)[1].period
        across = azimuth.max(axis=-1) - azimuth.min(axis=-1) > (math.pi if period else math.inf)
        # An area of the wrong sign makes a pixel one across the cut: also where the coordinate falls with the angle.
        area = (0.5 * (radial[..., 2] - radial[..., 0]) * (azimuth[..., 3] - azimuth[..., 1]) -
                (azimuth[..., 2] - azimuth[..., 0]) * (radial[..., 3] - radial[..., 1]))
        taken = (-area if choice["orientation"] in (2, 4) else area) > 0.0
        opposite = 0.0 if row["cut"] == "pi" else math.pi
        torn = taken & (azimuth.min(axis=-1) < opposite) & (azimuth.max(axis=-1) >= opposite)
        if not period:
            taken[:] = torn[:] = False
        if row["azimuthal_unit"] in ("chi_deg", "chigi_deg") and (across | torn).any():
            notes.append("pixels moved by 360 rad")  # the period of the unit, taken for rad
        elif across.any():
            notes.append("pixels across the cut")  # in one dimension as if the cut were at 180 degrees
        if (taken & ~across).any():
            notes.append("pixels taken for ones across the cut")
        if "sample" in row:
            # Moved as pyFAI does before it takes areas.
            azimuth = numpy.where(taken[..., None] & (azimuth < opposite), azimuth + (period and 2.0 * math.pi or 0.0),
                                  azimuth)
            following = [1, 2, 3, 0]
            areas = 0.5 * numpy.abs((radial * azimuth[..., following] - radial[..., following] * azimuth).sum(axis=-1))
            boxes = numpy.ptp(radial, axis=-1) * numpy.ptp(azimuth, axis=-1)
            if (areas < 0.01 * boxes).any():
                notes.append("areas that cancel")  # weights are what float32 rounding leaves of them
    elif row["split"] == "bbox" and "chigi" in row["unit"] + str(row["azimuthal_unit"]):
        for unit in units_of(row):
            if unit.space == "chigi":
                chigi = integrator_of(row["geometry"], row["cut"]).corner_array(unit=unit, scale=False)[..., 0]
                if (chigi.max(axis=-1) - chigi.min(axis=-1) > math.pi).any():
                    notes.append("pixels across the cut")  # as wide as the circle, for pyFAI
    return notes


def images_of(row):
    """Everything of a row that is an image, as keyword arguments for pyFAI; the frame first."""
    shape = tuple(row["shape"])
    random = Random(row["seed"], shape)
    integrator = integrator_of(row["geometry"])
    frame = random.frame(row["frame"], row["spread"], row["marks"])
    images = {}
    if row["mask"] != "none":
        images["mask"] = random.mask(row["mask"], integrator.detector.mask)
    if row["dark"]:
        images["dark"] = random.dark()
    if row["flat"] != "none":
        images["flat"] = random.flat(row["flat"])
    if row["absorption"] == "array":
        images["absorption"] = random.absorption()
    elif row["absorption"] == "sensor":
        images["absorption"] = integrator.calc_transmission(TRANSMISSION)
    if row["error_model"] == "variance":
        images["variance"] = random.variance()
    return frame, images


def checksum(image):
    """Sum of (place + 1) * byte over an image's bytes: tells a test that makes other images than this script."""
    values = numpy.frombuffer(numpy.ascontiguousarray(image).tobytes(), numpy.uint8).astype(numpy.uint64)
    return int((values * numpy.arange(1, values.size + 1, dtype=numpy.uint64)).sum())


def checksums_of(row):
    frame, images = images_of(row)
    if row["absorption"] == "sensor":
        del images["absorption"]
    images["frame"] = frame
    if row["geometry"]["vertices"]:
        config = row["geometry"]["detector_config"]
        images["vertices"] = dish_corners(config["max_shape"], config["pixel1"], config["pixel2"])
    return {name: checksum(image) for name, image in sorted(images.items())}


def run(row):
    """pyFAI's result for a row: radial, azimuthal or None, intensity, sem, std, count."""
    integrator = integrator_of(row["geometry"], row["cut"])
    if "sample" in row:
        for unit in units_of(row):
            integrator.center_array(unit=unit)  # before any corners: see integrator_of
    frame, arguments = images_of(row)
    arguments |= {
        "unit": units_of(row)[0], "method": (row["split"], "csr", "cython"), "correctSolidAngle": row["solid_angle"],
        "radial_range": row["radial_range"], "azimuth_range": row["azimuth_range"],
        "normalization_factor": row["normalisation_factor"] * row["monitor"]}
    if row["error_model"] not in ("no", "variance"):
        arguments["error_model"] = row["error_model"]
    if row["polarisation"]:
        factor, offset_deg = row["polarisation"]
        arguments["polarization_factor"] = PolarizationDescription(factor, math.radians(offset_deg))
    if row["dummy"]:
        arguments["dummy"], arguments["delta_dummy"] = row["dummy"]
    elif row["kind"] == "sigma_clip":
        # The detector's own, which clipping does not ask for.
        arguments["dummy"], arguments["delta_dummy"] = integrator.detector.get_dummies(frame)
    # The first pixel of a cake with full splitting is added to memory that nobody has cleared: other weights each run.
    with unittest.mock.patch("numpy.empty", numpy.zeros):
        result = result_of(row, integrator, frame, arguments)
    azimuthal = result.azimuthal if row["kind"] == "integrate2d" else None
    return result.radial, azimuthal, result.intensity, result.sem, result.std, result.count


def result_of(row, integrator, frame, arguments):
    if row["kind"] == "integrate1d":
        return integrator.integrate1d(frame, row["bins"], **arguments)
    if row["kind"] == "integrate2d":
        arguments["unit"] = units_of(row)
        return integrator.integrate2d(frame, row["bins"], row["azimuthal_bins"], **arguments)
    if row["kind"] == "sigma_clip":
        return integrator.sigma_clip(frame, row["bins"], thres=row["filter"]["threshold"],
                                     max_iter=row["filter"]["cycles"], **arguments)
    percentile = tuple(100.0 * quantile for quantile in row["filter"]["quantiles"])
    return integrator.medfilt1d_ng(frame, row["bins"], percentile=percentile, **arguments)


def make_rows():
    number = 0
    for kind, count, changes in KINDS:
        for choice in cover(COMMON | changes, count):
            number += 1
            geometry = geometry_of(choice)
            radial_range, azimuth_range = ranges_of(choice, geometry)
            factor, monitor = choice["normalisation"]
            bins, azimuthal_bins = CAKE_BINS if kind == "integrate2d" else (RADIAL_BINS, 0)
            row = {"kind": kind, "seed": number, "split": choice["split"], "unit": choice["unit"], "bins": bins,
                   "azimuthal_bins": azimuthal_bins, "azimuthal_unit": choice["azimuthal_unit"],
                   "radial_range": radial_range,
                   "azimuth_range": azimuth_range, "cut": choice["cut"],
                   "shape": DETECTORS[choice["detector"]]["shape"], "geometry": geometry,
                   "frame": choice["frame"], "spread": "narrow" if kind == "sigma_clip" else "wide",
                   "marks": choice["marks"], "mask": choice["mask"], "dummy": choice["dummy"],
                   "dark": choice["dark"], "flat": choice["flat"],
                   "solid_angle": choice["solid_angle"], "polarisation": choice["polarisation"],
                   "absorption": choice["absorption"],
                   "transmission": TRANSMISSION if choice["absorption"] == "sensor" else None,
                   "normalisation_factor": factor, "monitor": monitor,
                   "error_model": choice["error_model"], "filter": choice["filter"]}
            if "sample" in choice:
                row["sample"] = choice["sample"]
            row["notes"] = notes_of(row, choice)
            name = f"{kind} {choice['split']} {choice['unit']} {choice['detector']} {choice['place']}"
            yield {"id": f"{number:03d} {name}"} | row


def main():
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", DeprecationWarning)
    if pyFAI.version != PYFAI_VERSION:
        sys.exit(f"pyFAI {pyFAI.version}: the reference is made with {PYFAI_VERSION}")
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent

    lines, numbers = [], bytearray()
    for row in make_rows():
        while True:
            radial, azimuthal, intensity, sem, std, count = run(row)
            if row["error_model"] == "no" or numpy.isfinite(sem).all():
                break
            row["seed"] += 1000
        row["radial"] = [float(radial[0]), float(radial[-1])]
        row["azimuthal"] = None if azimuthal is None else [float(azimuthal[0]), float(azimuthal[-1])]
        assert len(radial) == row["bins"] and (azimuthal is None or len(azimuthal) == row["azimuthal_bins"])
        arrays = {"intensity": intensity, "count": count}
        if row["error_model"] != "no":
            arrays |= {"sem": sem, "std": std}
        row["checksums"] = checksums_of(row)
        row["first_number"] = len(numbers) // 4
        row["arrays"] = list(arrays)
        for name, array in arrays.items():
            array = numpy.asarray(array, dtype="<f4")
            assert numpy.isfinite(array).all(), (row["id"], name)
            assert array.size == row["bins"] * max(1, row["azimuthal_bins"]), (row["id"], name, array.shape)
            numbers += array.tobytes()
        filled = numpy.count_nonzero(count)
        assert filled >= count.size // 16, (row["id"], "hardly any bin has pixels", filled)
        lines.append(json.dumps(row))
    (folder / "reference.bin").write_bytes(numbers)
    text = '{"pyFAI": "%s", "numbers": %d,\n"rows": [\n%s\n]}\n' % (
        pyFAI.version, len(numbers) // 4, ",\n".join(lines))
    (folder / "reference.json").write_text(text)
    print(f"{len(lines)} rows, {len(numbers)} + {len(text)} bytes")


if __name__ == "__main__":
    main()
