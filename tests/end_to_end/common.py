"""What the end-to-end tests share: finding and running the program, simulating scans, reading volumes, verdicts.

The program is the one that ANNULUS_PROGRAM names, else build/bin/annulus of the checkout. Every run's standard error is
looked at: a library's own noise (HDF5-DIAG, libtiff) on a user's terminal is a defect wherever it happens.
"""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import hdf5plugin  # noqa: F401  (registers bitshuffle-LZ4 with h5py)
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("ANNULUS_PROGRAM", ROOT / "build" / "bin" / "annulus"))
RESULT = "/entry_0000/annulus/result"
BACKENDS = ("reference", "openmp", "opencl")

# Statuses of a frame and exit statuses of the program: contracts of DESIGN.md.
NOT_PROCESSED, OK, MISSING, UNREADABLE, WRONG_SHAPE, MONITOR_INVALID = range(6)
EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_SOME_FRAMES = range(4)

# What a library prints by itself when nobody catches its error.
NOISE = ("HDF5-DIAG", "TIFFReadDirectory", "TIFFFetch", "TIFFOpen", "terminate called", "AddressSanitizer")


def mpi_environment(**more):
    """The environment for mpirun: root is allowed, ranks may outnumber cores; `more` is added."""
    environment = dict(os.environ)
    if os.geteuid() == 0:
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    environment.update({name: str(value) for name, value in more.items()})
    return environment


def command(*arguments, ranks=0):
    """The command line of the program; ranks = 0 is without mpirun."""
    launcher = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks else []
    return [*launcher, str(PROGRAM), *[str(argument) for argument in arguments]]


def run(*arguments, ranks=0, expect=EXIT_OK, timeout=300, cwd=None, **environment):
    """Runs the program to its end and checks its exit status and the quietness of its libraries."""
    line = command(*arguments, ranks=ranks)
    done = subprocess.run(line, env=mpi_environment(**environment), capture_output=True, text=True, errors="replace",
                          timeout=timeout, cwd=cwd, stdin=subprocess.DEVNULL, check=False)
    told = f"$ {' '.join(line)}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"expected exit status {expect}\n{told}")
    for noise in NOISE:
        if noise in done.stderr or noise in done.stdout:
            raise AssertionError(f"a library's own message reached the terminal: {noise}\n{told}")
    return done


@dataclasses.dataclass
class Scan:
    """A simulated scan and the options that integrate it."""

    folder: pathlib.Path
    slow: int
    fast: int

    @property
    def master(self):
        return self.folder / "scan_master.h5"

    @property
    def frames(self):
        return self.slow * self.fast

    def options(self, output, *more, bins=500):
        """Options of `annulus tomo` for this scan, the output file among them, the frames last."""
        return ["tomo", "-p", self.folder / "geometry.poni", "-m", self.folder / "mask.tif", "-r", self.slow, "-t",
                self.fast, "-c", bins, "--monitor", "/entry/monitor/data", "--error-model", "poisson", "-o", output,
                *more, self.master]


def simulate(folder, slow, fast, *more, detector="Eiger2CdTe_500k", seed=11):
    """Simulates a tomography into `folder`."""
    run("simulate", "-o", folder, "--slow", slow, "--fast", fast, "--detector", detector, "--seed", seed, *more)
    return Scan(pathlib.Path(folder), slow, fast)


@dataclasses.dataclass
class Volume:
    """The parts of a volume that tests compare."""

    intensity: numpy.ndarray
    errors: numpy.ndarray
    status: numpy.ndarray
    radial: numpy.ndarray


def read_volume(path):
    with h5py.File(path, "r") as file:
        result = file[RESULT]
        radial = result[result.attrs["axes"][0]]
        return Volume(result["intensity"][()], result["errors"][()] if "errors" in result else None,
                      result["frame_status"][()], radial[()])


def same_bits(left, right):
    """Whether two float32 arrays are equal bit for bit, NaN included."""
    return left.shape == right.shape and left.dtype == right.dtype and \
        numpy.array_equal(left.view(numpy.uint32), right.view(numpy.uint32))


def processes_below(pid):
    """All living descendants of a process, by /proc."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name is in parentheses and may hold blanks; state and parent follow the last one.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def is_rank(pid):
    """Whether this process lives and runs the program."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", PROGRAM)
    except OSError:
        return False


def ranks_of(mpirun_pid):
    """The process ids of the program's ranks below an mpirun."""
    return sorted(pid for pid in processes_below(mpirun_pid) if is_rank(pid))


class TestCase(unittest.TestCase):
    """A test case with a scratch folder for the class, removed at the end."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = pathlib.Path(tempfile.mkdtemp(prefix="annulus-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.scratch, ignore_errors=True)

    def assert_same_bits(self, left, right, what):
        if not same_bits(left, right):
            differing = int((left.view(numpy.uint32) != right.view(numpy.uint32)).sum()) \
                if left.shape == right.shape else "all: the shapes differ"
            self.fail(f"{what}: values that differ: {differing}")

    def assert_same_volume(self, left, right, what):
        self.assert_same_bits(left.intensity, right.intensity, f"{what}: intensity")
        self.assert_same_bits(left.errors, right.errors, f"{what}: errors")
        numpy.testing.assert_array_equal(left.status, right.status, err_msg=what)


def main():
    """Runs the calling file's tests; exits 77 with the reasons when every one of them was skipped."""
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} does not exist: build first, or set ANNULUS_PROGRAM")
    # Prints come in order with unittest's own lines, also into a file.
    sys.stdout.reconfigure(line_buffering=True)
    program = unittest.main(module="__main__", verbosity=2, exit=False)
    result = program.result
    for _, reason in result.skipped:
        print(f"skipped: {reason}")
    if not result.wasSuccessful() or result.testsRun == 0:
        sys.exit(1)
    sys.exit(77 if len(result.skipped) == result.testsRun else 0)
