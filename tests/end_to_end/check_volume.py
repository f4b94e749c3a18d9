#!/usr/bin/env python3
"""Reads a volume of annulus as its users' programs do, and checks units, axes and values.

Readers: h5py for the layout, silx for what silx view and h5web open at once, and pyFAI-diffmap-view's own functions for
what that viewer shows. Every problem is told; the exit status is 1 when there is any.
"""

import argparse
import datetime
import json
import pathlib
import sys

import h5py
import numpy
from pyFAI.gui.pilx.models import ImageIndices
from pyFAI.gui.pilx.point import Point
from pyFAI.gui.pilx.utils import get_axes_dataset, get_axes_index, get_radial_dataset, get_signal_dataset
from pyFAI.io.nexus import Nexus
from pyFAI.units import AZIMUTHAL_UNITS, RADIAL_UNITS
from silx.io import get_data, nxdata
from silx.io.url import DataUrl

ENTRY = "/entry_0000"
PROCESS = ENTRY + "/annulus"
RESULT = PROCESS + "/result"
RADIAL_NAMES = {unit.space for unit in [*RADIAL_UNITS.values(), *AZIMUTHAL_UNITS.values()]}
OK = 1
STATUSES = range(6)


class Checks:
    """Counts checks and keeps those that failed."""

    def __init__(self):
        self.count = 0
        self.problems = []

    def that(self, condition, problem):
        self.count += 1
        if not condition:
            self.problems.append(problem)
        return bool(condition)

    def equal(self, name, found, expected):
        return self.that(numpy.array_equal(found, expected), f"{name}: found {found!r}, expected {expected!r}")


def text(value):
    """A string of HDF5, of fixed or variable length."""
    return value.decode() if isinstance(value, bytes) else str(value)


def attribute(node, name):
    """An attribute as plain Python; None when it is not there."""
    value = node.attrs.get(name)
    return value.tolist() if isinstance(value, (numpy.ndarray, numpy.generic)) else value


def is_time(value):
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def check_entry(checks, file, options):
    """Returns whether the groups are there, so that more can be looked at."""
    for path, nx_class in (("/", "NXroot"), (ENTRY, "NXentry"), (PROCESS, "NXprocess"), (RESULT, "NXdata"),
                           (PROCESS + "/maps", "NXdata"), (PROCESS + "/configuration", "NXnote"),
                           (PROCESS + "/source", "NXcollection")):
        if checks.that(path in file, f"{path} is not there"):
            checks.equal(f"{path}@NX_class", attribute(file[path], "NX_class"), nx_class)
    if checks.problems:
        return False
    entry, process = file[ENTRY], file[PROCESS]
    title = text(entry["title"][()])
    checks.that(title in ("diff_map", "diff_tomo"), f"title: found {title!r}")
    if options.kind:
        checks.equal("title", title, "diff_" + options.kind)
    checks.equal("program_name", text(entry["program_name"][()]), "annulus")
    checks.that(is_time(text(entry["start_time"][()])), f"start_time is no ISO 8601: {entry['start_time'][()]!r}")
    end_time = text(entry["end_time"][()])
    checks.that(is_time(end_time) if end_time or options.finished else True, f"end_time is no ISO 8601: {end_time!r}")
    link = entry.get("pyFAI", getlink=True)
    checks.that(isinstance(link, h5py.SoftLink) and file["/entry_0000/pyFAI"] == process, "pyFAI is no link to annulus")
    for name in ("version", "date", "command_line", "fingerprint", "inputfiles", "dim0", "dim1", "dim2", "offset"):
        checks.that(name in process, f"{process.name}/{name} is not there")
    checks.equal("configuration/type", text(process["configuration/type"][()]), "text/json")
    checks.that(isinstance(json.loads(process["configuration/data"][()]), dict), "configuration/data is no JSON object")

    if options.mask:
        checks.equal("maskfile there", "maskfile" in process, options.mask == "yes")
    if "maskfile" in process:
        url = DataUrl(text(process["maskfile"][()]))
        checks.that(url.is_valid() and pathlib.PurePath(url.file_path()).is_absolute(), f"maskfile: {url.path()}")
        if options.mask:
            checks.equal("dimensions of maskfile", get_data(url).ndim, 2)

    links = 0
    for group in (entry["measurement"], process["source"]):
        for name in group:
            link = group.get(name, getlink=True)
            if not checks.that(isinstance(link, h5py.ExternalLink), f"{group.name}/{name} is no external link"):
                continue
            links += 1
            checks.that(not pathlib.PurePath(link.filename).is_absolute(), f"{group.name}/{name}: {link.filename}")
            if options.links:
                checks.that(name in group, f"{group.name}/{name} leads nowhere: {link.filename}::{link.path}")
    if options.links:
        checks.that(links > 0, "there are no links to the input frames")
    return True


def check_axis(checks, result, name, size, unit):
    if not checks.that(name in result, f"{result.name}/{name} is not there"):
        return
    axis = result[name]
    checks.equal(f"shape of {name}", axis.shape, (size,))
    checks.equal(f"{name}@interpretation", attribute(axis, "interpretation"), "scalar")
    checks.that(attribute(axis, "long_name"), f"{name} has no long_name")
    checks.that(bool(numpy.isfinite(axis[()]).all()), f"{name} has values that are no numbers")
    checks.equal(f"{name}: unit and units", attribute(axis, "unit"), attribute(axis, "units"))
    if unit is not None:
        checks.equal(f"{name}@units", attribute(axis, "units"), unit or None)


def pattern_shape(file):
    """(radial bins,), or (azimuthal bins, radial bins) of a volume of cakes."""
    return file[RESULT]["intensity"].shape[2:]


def check_result(checks, file, options):
    result = file[RESULT]
    intensity = result["intensity"]
    if not checks.that(intensity.ndim in (3, 4), f"intensity has {intensity.ndim} dimensions"):
        return
    slow, fast, *pattern = intensity.shape
    bins = pattern[-1]
    if options.shape:
        checks.equal("shape of intensity", intensity.shape, tuple(options.shape))
    checks.equal("dim0, dim1, dim2", [int(file[PROCESS][name][()]) for name in ("dim0", "dim1", "dim2")],
                 [slow, fast, bins])

    signal = attribute(result, "signal")
    axes = attribute(result, "axes")
    checks.that(signal in ("map", "intensity"), f"signal: found {signal!r}")
    radial = axes[len(pattern) - 1] if signal == "map" else axes[-1]
    pattern_axes = ["azimuthal", radial] if len(pattern) == 2 else [radial]
    expected_axes = [*pattern_axes, "slow", "fast"] if signal == "map" else ["slow", "fast", *pattern_axes]
    checks.equal("axes", axes, expected_axes)
    for place, name in enumerate(expected_axes):
        checks.equal(f"{name}@axes", attribute(result[name], "axes") if name in result else None, place + 1)
    checks.that(radial in RADIAL_NAMES, f"radial axis: found {radial!r}")
    if options.signal:
        checks.equal("signal", signal, options.signal)
    if options.radial:
        checks.equal("radial axis", radial, options.radial)
    checks.equal("azimuthal there", "azimuthal" in result, len(pattern) == 2)
    if len(pattern) == 2:
        check_axis(checks, result, "azimuthal", pattern[0], "deg")
    check_axis(checks, result, radial, bins, options.unit)
    check_axis(checks, result, "slow", slow, options.slow_unit)
    check_axis(checks, result, "fast", fast, options.fast_unit)
    checks.that(attribute(result[radial], "units"), f"{radial} has no units")
    if options.radial_range:
        values = result[radial][()]
        edge = 0.5 * abs(values[-1] - values[0]) / max(bins - 1, 1)
        for found, expected in zip((values[0] - edge, values[-1] + edge), options.radial_range):
            checks.that(abs(found - expected) <= 2 * edge, f"{radial} ends at {found}, expected {expected}")

    kind_of_pattern = "image" if len(pattern) == 2 else "spectrum"
    for name, shape, kind, interpretation in (
            ("intensity", (slow, fast, *pattern), "float32", kind_of_pattern),
            ("errors", (slow, fast, *pattern), "float32", kind_of_pattern),
            ("std", (slow, fast, *pattern), "float32", kind_of_pattern),
            ("map", (*pattern, slow, fast), "float32", "image"), ("map_ptr", (slow, fast), "int32", "image"),
            ("frame_status", (slow, fast), "uint8", "image"), ("monitor", (slow, fast), "float64", "image")):
        if name in ("errors", "std"):
            wanted = getattr(options, name)
            if wanted:
                checks.equal(f"{name} there", name in result, wanted == "yes")
            if name not in result:
                continue
        if not checks.that(name in result, f"{result.name}/{name} is not there"):
            continue
        checks.equal(f"shape of {name}", result[name].shape, shape)
        checks.equal(f"type of {name}", result[name].dtype, numpy.dtype(kind))
        checks.equal(f"{name}@interpretation", attribute(result[name], "interpretation"), interpretation)
    checks.that(result["map"].is_virtual, "map is no virtual dataset")


def lines_of(dataset, at_most=1 << 26):
    """Blocks of whole lines, of at most so many values."""
    slow = dataset.shape[0]
    step = max(1, at_most // (dataset.size // slow))
    return (slice(line, min(line + step, slow)) for line in range(0, slow, step))


def check_values(checks, file, options):
    result = file[RESULT]
    intensity = result["intensity"]
    pattern = pattern_shape(file)
    status = result["frame_status"][()]
    checks.that(bool(numpy.isin(status, STATUSES).all()), f"frame_status holds {numpy.unique(status)}")
    for value, count in options.status or ():
        checks.equal(f"points of status {value}", int((status == value).sum()), count)

    for name in ("intensity", "errors", "std"):
        if name not in result:
            continue
        for lines in lines_of(intensity):
            block, ok = result[name][lines], status[lines] == OK
            checks.that(bool(numpy.isfinite(block[ok]).all()), f"{name} is no number in a frame that is ok")
            checks.that(bool(numpy.isnan(block[~ok]).all()), f"{name} is a number in a frame that is not ok")
            if name != "intensity":
                checks.that(bool((block[ok] >= 0).all()), f"{name} is negative")

    # Through the view, a channel and a point; all of it where that is small.
    first, last = tuple(0 for _ in pattern), tuple(bins - 1 for bins in pattern)
    for channel in {first, tuple(bins // 2 for bins in pattern), last}:
        checks.that(numpy.array_equal(result["map"][channel], intensity[(slice(None), slice(None), *channel)],
                                      equal_nan=True), f"map{list(channel)} is not that channel of intensity")
    if intensity.size <= 1 << 22:
        transposed = numpy.moveaxis(intensity[()], (0, 1), (-2, -1))
        checks.that(numpy.array_equal(result["map"][()], transposed, equal_nan=True),
                    "map is not the transpose of intensity")

    if options.reference:
        name, _, path = options.reference.partition("::")
        if path:
            with h5py.File(name, "r") as other:
                expected = other[path][()]
        else:
            expected = numpy.load(name)
        if not checks.equal("shape of the reference", expected.shape, intensity.shape):
            return
        found = intensity[()]
        ok = status == OK
        checks.that(bool(ok.any()), "no frame is ok: nothing to compare with the reference")
        difference = numpy.abs(found[ok].astype(float) - expected[ok])
        bound = options.rtol * numpy.abs(expected[ok]) + options.atol
        worst = float((difference - bound).max(initial=-1.0))
        checks.that(worst <= 0, f"intensity differs from {options.reference} by up to {difference.max(initial=0)} "
                                f"({int((difference > bound).sum())} of {difference.size} values beyond "
                                f"{options.rtol} * reference + {options.atol})")


def check_silx(checks, file):
    """What silx view opens at once: the default plot, valid and an image of slow and fast."""
    default = nxdata.get_default(file)
    if not checks.that(default is not None and default.is_valid, "silx finds no default plot that is valid"):
        return
    checks.equal("default plot's signal", default.signal_name.split("/")[-1] if default.signal_name else None,
                 "Intensity")
    checks.equal("default plot's interpretation", default.interpretation, "image")
    checks.equal("default plot's axes", list(default.axes_dataset_names)[-2:], ["slow", "fast"])
    if len(pattern_shape(file)) == 2:
        checks.equal("default plot's first axis", default.axes_dataset_names[0], "azimuthal")
    checks.equal("default plot's shape", default.signal.shape, file[RESULT]["map"].shape)
    if "errors" not in file[RESULT]:
        checks.that(nxdata.NXdata(file[RESULT]).is_valid, f"silx refuses {RESULT}")


def check_viewer(checks, filename):
    """What pyFAI-diffmap-view reads when it opens the file, with its functions and in its order."""
    with Nexus(filename, "r") as nexus:
        entries = nexus.get_entries()
        checks.that(entries and entries[0].name == ENTRY, "pyFAI finds no entry")
    with h5py.File(filename, "r") as file:
        process = file[ENTRY + "/pyFAI"]
        result = process["result"]
        intensity = result["intensity"]
        signal = get_signal_dataset(result, default="intensity")
        if intensity.ndim == 4:
            # The viewer is made for patterns of all azimuths: of others it finds the arrays, and has no curve to show.
            checks.that(signal.name.split("/")[-1] == attribute(result, "signal"), f"viewer's signal: {signal.name}")
            for place, name in enumerate(attribute(result, "axes")):
                found = get_axes_dataset(result, dim=place)
                checks.that(found == result[name], f"viewer's axis {place}: {found.name}")
            return
        slow, fast, bins = intensity.shape
        index = get_axes_index(signal)
        checks.equal("viewer's map", signal[()].sum(axis=index.radial).shape, (slow, fast))
        slow_axis = get_axes_dataset(result, dim=index.slow, default="slow")
        fast_axis = get_axes_dataset(result, dim=index.fast, default="fast")
        checks.that(slow_axis == result["slow"] and slow_axis.size == slow, f"viewer's slow axis: {slow_axis.name}")
        checks.that(fast_axis == result["fast"] and fast_axis.size == fast, f"viewer's fast axis: {fast_axis.name}")
        radial = get_radial_dataset(result, size=bins)
        # With as many lines as channels, and `intensity` the signal, the viewer itself takes the first axis.
        if attribute(result, "signal") == "map" or slow != bins:
            checks.that(radial.name.split("/")[-1] in RADIAL_NAMES, f"viewer's radial axis: {radial.name}")
            for row, column in {(0, 0), (slow - 1, fast - 1), (slow // 2, fast // 3)}:
                point = Point(ImageIndices(row=row, col=column), url_nxdata_path=f"{filename}?{ENTRY}/pyFAI/result")
                checks.that(numpy.array_equal(point.get_curve(), intensity[row, column], equal_nan=True),
                            f"viewer's curve at ({row}, {column}) is another one")
                checks.equal("viewer's curve: positions", point._radial_curve, radial[()])
        checks.equal("viewer's frame numbers", result["map_ptr"].shape, (slow, fast))
        checks.that(int(process["offset"][()]) is not None, "no offset")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--kind", choices=("map", "tomo"))
    parser.add_argument("--shape", nargs="+", type=int, metavar="N", help="slow, fast, (azimuthal,) radial")
    parser.add_argument("--signal", choices=("map", "intensity"))
    parser.add_argument("--radial", choices=sorted(RADIAL_NAMES), help="name of the radial axis")
    parser.add_argument("--unit", help="of the radial axis: deg, rad, nm^-1, ...")
    parser.add_argument("--radial-range", nargs=2, type=float, metavar=("LO", "HI"), help="within a bin")
    parser.add_argument("--slow-unit", help="'' = must have none")
    parser.add_argument("--fast-unit", help="'' = must have none")
    parser.add_argument("--errors", choices=("yes", "no"), help="standard errors of the mean")
    parser.add_argument("--std", choices=("yes", "no"), help="standard deviations")
    parser.add_argument("--mask", choices=("yes", "no"), help="the file of the mask is named, and can be read")
    parser.add_argument("--finished", action="store_true", help="end_time must be set")
    parser.add_argument("--links", action="store_true", help="links to the frames must be there and lead somewhere")
    parser.add_argument("--status", nargs=2, type=int, action="append", metavar=("STATUS", "COUNT"))
    parser.add_argument("--reference", help="intensity to compare with: FILE.npy or FILE.h5::PATH")
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--atol", type=float, default=0.0)
    return parser.parse_args(arguments)


def check(arguments):
    """Checks one volume and returns its Checks; `arguments` as on the command line."""
    options = parse([str(argument) for argument in arguments])
    checks = Checks()
    with h5py.File(options.file, "r") as file:
        if check_entry(checks, file, options):
            check_result(checks, file, options)
        if not checks.problems:
            check_values(checks, file, options)
            check_silx(checks, file)
    if not checks.problems:
        check_viewer(checks, str(options.file))
    return checks


def main():
    checks = check(sys.argv[1:])
    for problem in checks.problems:
        print(problem)
    print(f"{checks.count} checks, {len(checks.problems)} failed")
    return 1 if checks.problems else 0


if __name__ == "__main__":
    sys.exit(main())
