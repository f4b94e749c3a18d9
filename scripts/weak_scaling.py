#!/usr/bin/env python3
"""Integrates scans that grow with the number of ranks and prints what a frame costs and how the ends of a run grow.

usage: weak_scaling.py FOLDER [--ranks 1,2,4,8,16,32] [--detector NAME] [--frames-per-rank N] [--rounds N]
                              [--backend openmp]

Every rank has one thread and its own share of frames, so on as many cores as ranks the time should stay what it is.
With more ranks than cores it should grow with ranks a core: the efficiency is that growth, expected over found, against
one rank on one core. What this cannot show of a cluster: its network, its parallel file system, and memory bandwidth
that ranks on other nodes do not share. What it does show: the shared counter of lines, parallel HDF5's calls, looking
at the input together, and the broadcast, with that many processes.

Rounds alternate between the numbers of ranks, since machines change their speed by the minute; figures are medians.
Needs nothing but Python, mpirun and a built annulus (ANNULUS_PROGRAM, else build/bin/annulus).
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = pathlib.Path(os.environ.get("ANNULUS_PROGRAM", ROOT / "build" / "bin" / "annulus"))
CORES = len(os.sched_getaffinity(0))
LINES_PER_RANK = 8


def run(arguments):
    """What a command printed. Ends this program when it fails."""
    environment = dict(os.environ)
    if os.geteuid() == 0:
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run([str(argument) for argument in arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}\nended with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def simulate(folder, detector, lines, points):
    """A map of `lines` x `points` frames, made once."""
    scan = folder / f"{detector}-{lines}x{points}"
    if not (scan / "scan_master.h5").exists():
        run([PROGRAM, "simulate", "--map", "-o", scan, "-r", lines, "-t", points, "--detector", detector, "--seed",
             3])
    return scan


def integrate(folder, scan, ranks, lines, points, backend):
    """(seconds for all frames, from start to the first frame, from the last frame to the end)."""
    told = run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks, PROGRAM, "map", "-p",
                scan / "geometry.poni", "-m", scan / "mask.tif", "-r", lines, "-t", points, "--threads", 1, "--backend",
                backend, "--error-model", "poisson", "--overwrite", "-o", folder / "volume.h5",
                scan / "scan_master.h5"])
    frames = re.search(r"^all frames +([0-9.]+)", told, re.MULTILINE)
    ends = re.search(r"^start to first frame ([0-9.]+) s, last frame to exit ([0-9.]+) s", told, re.MULTILINE)
    if not frames or not ends:
        sys.exit(f"no times in what annulus printed:\n{told}")
    return float(frames[1]), float(ends[1]), float(ends[2])


def main():
    parser = argparse.ArgumentParser(description="weak scaling of annulus map on this machine")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ranks", default="1,2,4,8,16,32")
    parser.add_argument("--detector", default="Pilatus1M")
    parser.add_argument("--frames-per-rank", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="openmp")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    counts = [int(ranks) for ranks in given.ranks.split(",")]
    points = given.frames_per_rank // LINES_PER_RANK
    if points < 1 or min(counts) < 1 or given.rounds < 1:
        sys.exit(f"expected at least {LINES_PER_RANK} frames a rank, one rank and one round")

    scans = {ranks: simulate(folder, given.detector, LINES_PER_RANK * ranks, points) for ranks in counts}
    found = {ranks: [] for ranks in counts}
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
        for ranks in counts:
            found[ranks].append(integrate(folder, scans[ranks], ranks, LINES_PER_RANK * ranks, points, given.backend))

    print(f"{LINES_PER_RANK * points} frames a rank, {given.detector} uint16 bslz4, {given.backend}, "
          f"one thread a rank, {CORES} cores; median of {given.rounds} rounds\n")
    print("| ranks | frames/s | efficiency | start to first frame, s | last frame to exit, s |")
    print("|---|---|---|---|---|")
    for ranks in counts:
        frames_s, start_s, end_s = (statistics.median(figures) for figures in zip(*found[ranks], strict=True))
        frames_of_one_s = statistics.median(figures[0] for figures in found[counts[0]]) / max(1.0, counts[0] / CORES)
        expected_s = frames_of_one_s * max(1.0, ranks / CORES)
        print(f"| {ranks} | {LINES_PER_RANK * points * ranks / frames_s:.0f} | {expected_s / frames_s:.2f} "
              f"| {start_s:.2f} | {end_s:.2f} |")


if __name__ == "__main__":
    main()
