#!/usr/bin/env python3
"""Times annulus and pyFAI's diff_map on the same simulated scan and prints the time per frame as a markdown table.

usage: compare_pyfai.py FOLDER        called by compare_pyfai.sh, which makes the Python environment and builds

Both integrate the same file into 1,000 bins of 2theta, bounding-box splitting, solid angle, Poisson errors, one mask,
no monitor (diff_map has none), on all cores that this process may use. Runs alternate, and each figure is the median of
its runs, because machines change their speed by the minute; the ratio is taken inside each round. That the two did the
same work is checked: their volumes must agree.
"""

import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import fabio
import h5py
import hdf5plugin  # noqa: F401  (registers bitshuffle-LZ4 with h5py)
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = pathlib.Path(os.environ.get("ANNULUS_PROGRAM", ROOT / "build" / "bin" / "annulus"))
SLOW, FAST, BINS = 8, 16, 1000
FRAMES = SLOW * FAST
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))
DIFF_MAP_CONFIGURATION = {
    "diffmap_config_version": 1,
    "ai": {
        "application": "pyfai-integrate", "version": 5, "nbpt_rad": BINS, "nbpt_azim": 1, "unit": "2th_deg",
        "correct_solid_angle": True, "error_model": "poisson", "integrator_class": "AzimuthalIntegrator",
        "integrator_method": "integrate1d",
    },
}


def run(arguments):
    """Runs a command; returns what it printed and the seconds that it took. Ends this program when it fails."""
    started = time.perf_counter()
    done = subprocess.run([str(argument) for argument in arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}\nended with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout, took


def simulate(folder):
    scan = folder / f"scan-{SLOW}x{FAST}"
    if not (scan / "scan_master.h5").exists():
        # One process with all cores' threads: ranks would share out data files, and there is one.
        run([PROGRAM, "simulate", "-o", scan, "--slow", SLOW, "--fast", FAST, "--detector", "Eiger2CdTe_4M", "--dtype",
             "uint16", "--seed", 3])
    return scan


def time_diff_map(folder, scan, implementation):
    """ms a frame: (frames alone, as diff_map tells it; the whole command)."""
    configuration = dict(DIFF_MAP_CONFIGURATION)
    configuration["ai"] = {**configuration["ai"], "method": ["bbox", "csr", implementation]}
    file = folder / f"diff_map-{implementation}.json"
    file.write_text(json.dumps(configuration))
    output = folder / f"diff_map-{implementation}.h5"
    output.unlink(missing_ok=True)
    told, took = run([pathlib.Path(sys.executable).parent / "diff_map", "--no-gui", "--config", file, "-p",
                      scan / "geometry.poni", "-m", scan / "mask.tif", "-r", SLOW, "-t", FAST, "-c", BINS, "-o", output,
                      scan / "scan_master.h5"])
    found = re.search(r"Execution time for (\d+) frames: ([0-9.]+) s", told)
    if not found or int(found[1]) != FRAMES:
        sys.exit(f"diff_map did not say that it integrated {FRAMES} frames:\n{told}")
    return float(found[2]) * 1e3 / FRAMES, took * 1e3 / FRAMES


def time_fabio(scan):
    """ms a frame for reading alone, in the way that diff_map reads."""
    started = time.perf_counter()
    frames = 0
    with fabio.open(str(scan / "scan_master.h5")) as image:
        for frame in range(image.nframes):
            frames += image.get_frame(frame).data.size > 0
    if frames != FRAMES:
        sys.exit(f"fabio found {frames} frames, not {FRAMES}")
    return (time.perf_counter() - started) * 1e3 / FRAMES


def time_annulus(folder, scan, backend):
    """(ms a frame of the whole command, what annulus printed: its table of stages)."""
    output = folder / f"annulus-{backend}.h5"
    told, took = run(["mpirun", "-n", CORES, "--oversubscribe", PROGRAM, "tomo", "-p", scan / "geometry.poni", "-m",
                      scan / "mask.tif", "-r", SLOW, "-t", FAST, "-c", BINS, "--error-model", "poisson", "--backend",
                      backend, "--overwrite", "-o", output, scan / "scan_master.h5"])
    return took * 1e3 / FRAMES, told


def frames_alone(table):
    """ms a frame for all frames together, from first to last, out of annulus's table of stages."""
    found = re.search(r"^all frames +([0-9.]+)", table, re.MULTILINE)
    if not found:
        sys.exit(f"no line 'all frames' in what annulus printed:\n{table}")
    return float(found[1]) * 1e3 / FRAMES


def check_agreement(folder):
    """Ends the program unless annulus and diff_map hold the same numbers; returns the largest relative difference."""
    with h5py.File(folder / "diff_map-cython.h5") as file:
        expected = file["/entry_0000/pyFAI/result/intensity"][()].astype(float)
    largest = 0.0
    for backend in ("openmp", "opencl"):
        with h5py.File(folder / f"annulus-{backend}.h5") as file:
            found = file["/entry_0000/annulus/result/intensity"][()].astype(float)
        compared = (expected > 0) & (found > 0)
        if compared.sum() < 0.9 * expected.size:
            sys.exit(f"only {compared.sum()} of {expected.size} bins can be compared")
        largest = max(largest, numpy.abs(found[compared] / expected[compared] - 1).max())
    if largest > 1e-6:
        sys.exit(f"annulus and diff_map differ by {largest:.1e} (relative): they did not do the same work")
    return largest


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: compare_pyfai.py FOLDER")
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    scan = simulate(folder)
    stored = sum(file.stat().st_size for file in scan.glob("data_*.h5"))

    rows = {}
    stages = {}

    def keep(name, *figures):
        rows.setdefault(name, []).append(figures)

    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        keep("fabio", time_fabio(scan))
        for implementation in ("cython", "opencl"):
            keep(f"diff_map {implementation}", *time_diff_map(folder, scan, implementation))
        for backend in ("openmp", "opencl"):
            whole, stages[backend] = time_annulus(folder, scan, backend)
            keep(f"annulus {backend}", frames_alone(stages[backend]), whole)
    difference = check_agreement(folder)

    def median(name, figure):
        return statistics.median(figures[figure] for figures in rows[name])

    def ratio(name, figure):
        """How many times faster than diff_map (cython), the median over rounds of the ratio inside a round."""
        return statistics.median(base[figure] / this[figure]
                                 for base, this in zip(rows["diff_map cython"], rows[name], strict=True))

    print(f"{FRAMES} frames, Eiger2 CdTe 4M (2162 x 2068) uint16, bslz4, {stored / FRAMES / 1e6:.2f} MB a frame "
          f"(ratio {FRAMES * 2162 * 2068 * 2 / stored:.1f}), in page cache; {BINS} bins of 2theta, bbox, Poisson, "
          f"solid angle; {CORES} cores of {processor()}; median of {ROUNDS} rounds; largest difference of a bin "
          f"between the two programs {difference:.1e}.\n")
    print("| program | ms a frame | times diff_map | whole command, start-up included, ms a frame | times diff_map |")
    print("|---|---|---|---|---|")
    for name in rows:
        if name == "fabio":
            continue
        print(f"| {name} | {median(name, 0):.2f} | {ratio(name, 0):.1f} | {median(name, 1):.1f} "
              f"| {ratio(name, 1):.1f} |")
    reading = median("fabio", 0)
    print(f"\ndiff_map by stage: reading and decoding (fabio alone) {reading:.1f} ms a frame; all else, by "
          f"difference, {median('diff_map cython', 0) - reading:.1f} ms with cython, "
          f"{median('diff_map opencl', 0) - reading:.1f} ms with opencl.")
    for backend, told in stages.items():
        print(f"\nannulus by stage, {backend}, last round:\n\n```\n{told.strip()}\n```")


if __name__ == "__main__":
    main()
