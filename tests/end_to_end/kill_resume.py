#!/usr/bin/env python3
"""Kills one rank of a running job with SIGKILL, again and again, and checks what is left and what --resume makes of it.

usage: kill_resume.py [--kills N] [--seed S]

After each kill: mpirun ends within 10 s with a status other than 0; the file opens; every row marked ok holds the
values of an undisturbed run, bit for bit; --resume with another number of ranks ends with status 0; the volume then
equals the undisturbed one bit for bit.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy

import common

# The longest that mpirun may take to notice a dead rank and end the others.
LIMIT_S = 10.0
# How often the scan's frames are given again as input: a job long enough to be hit in its middle, without gigabytes.
REPEATS = 5


class Failed(Exception):
    """One of the promises above does not hold."""


def expect(condition, message):
    if not condition:
        raise Failed(message)


class KillTest:
    def __init__(self, folder, seed, backend):
        self.random = random.Random(seed)
        self.folder = folder
        self.backend = backend
        self.scan = common.simulate(folder / "scan", 8, 25)
        self.output = folder / "volume.h5"
        self.log = folder / "job.log"
        started = time.monotonic()
        reference = folder / "undisturbed.h5"
        common.run(*self.options(reference), ranks=2)
        self.whole_run_s = time.monotonic() - started
        self.undisturbed = common.read_volume(reference)
        expect((self.undisturbed.status == common.OK).all(), "the undisturbed run has frames that are not ok")
        self.partial = 0

    def options(self, output, *more):
        # A batch of 5 and one thread: many small steps, so that a kill falls between, before and inside writes.
        return ["tomo", "-p", self.scan.folder / "geometry.poni", "-m", self.scan.folder / "mask.tif", "-r",
                self.scan.slow * REPEATS, "-t", self.scan.fast, "-c", 1000, "--error-model", "poisson", "--backend",
                self.backend, "--batch", 5, "--threads", 1, "-o", output, *more, *[self.scan.master] * REPEATS]

    def start(self, ranks):
        with open(self.log, "wb") as log:
            return subprocess.Popen(common.command(*self.options(self.output), ranks=ranks),
                                    env=common.mpi_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def told(self):
        return self.log.read_text(errors="replace")

    def kill_one(self, ranks):
        """Starts a job and kills one of its ranks after the volume was made; None when the job ended before that."""
        self.output.unlink(missing_ok=True)
        job = self.start(ranks)
        pids = []
        try:
            started = time.monotonic()
            while not self.output.exists():
                expect(job.poll() is None, f"the job ended before it made its file:\n{self.told()}")
                expect(time.monotonic() - started < 60, "no file after 60 s")
                time.sleep(0.002)
            pids = common.ranks_of(job.pid)
            # The volume exists a little before the first frame; the rest of an undisturbed run is still to come.
            delay = self.random.uniform(0, max(0.1, self.whole_run_s - (time.monotonic() - started)))
            try:
                job.wait(timeout=delay)
            except subprocess.TimeoutExpired:
                pass
            else:
                # Too late. Machines change their speed while others use them too: go by this job's time from now on.
                expect(job.returncode == 0, f"a job that nobody disturbed failed:\n{self.told()}")
                self.whole_run_s = time.monotonic() - started
                return None
            if common.ranks_of(job.pid) != pids or len(pids) != ranks:
                return None
            victim = self.random.randrange(ranks)
            os.kill(pids[victim], signal.SIGKILL)
            killed = time.monotonic()
            try:
                job.wait(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                raise Failed(f"mpirun still runs {LIMIT_S:.0f} s after the kill:\n{self.told()}") from None
            took = time.monotonic() - killed
            expect(job.returncode != 0, f"mpirun ended with status 0 after the kill:\n{self.told()}")
            expect(not [pid for pid in pids if common.is_rank(pid)], "a rank outlived its mpirun")
            return delay, victim, took, job.returncode
        finally:
            # Nothing that this test started may outlive it, whatever happened.
            if job.poll() is None:
                job.kill()
                job.wait()
            for pid in pids:
                if common.is_rank(pid):
                    os.kill(pid, signal.SIGKILL)

    def check_remains(self):
        """Rows marked ok are right; returns how many frames are marked ok."""
        left = common.read_volume(self.output)
        done = left.status == common.OK
        expect(numpy.isin(left.status, (common.NOT_PROCESSED, common.OK)).all(), f"status {numpy.unique(left.status)}")
        for name in ("intensity", "errors"):
            expect(common.same_bits(getattr(left, name)[done], getattr(self.undisturbed, name)[done]),
                   f"{name} of frames marked ok differs from the undisturbed run")
        return int(done.sum())

    def check_resumed(self, ranks):
        common.run(*self.options(self.output, "--resume"), ranks=ranks)
        resumed = common.read_volume(self.output)
        for name in ("intensity", "errors"):
            expect(common.same_bits(getattr(resumed, name), getattr(self.undisturbed, name)),
                   f"{name} of the resumed volume differs from the undisturbed run")
        expect((resumed.status == common.OK).all(), "the resumed volume has frames that are not ok")

    def kill_and_resume(self, number):
        ranks, resume_ranks = self.random.sample((1, 2, 3, 4), 2)
        outcome = None
        for _ in range(10):
            outcome = self.kill_one(ranks)
            if outcome:
                break
        expect(outcome, "ten jobs in a row ended before they could be hit: make the scan longer")
        delay, victim, took, status = outcome
        done = self.check_remains()
        self.partial += 0 < done < self.undisturbed.status.size
        print(f"kill {number}: {ranks} ranks, rank {victim} killed {delay:.2f} s after the file appeared; "
              f"mpirun ended {took:.2f} s later with status {status}; {done} of {self.undisturbed.status.size} ok; "
              f"resumed on {resume_ranks} ranks", flush=True)
        self.check_resumed(resume_ranks)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--backend", choices=common.BACKENDS, default="openmp")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="annulus-kill-"))
    try:
        test = KillTest(folder, options.seed, options.backend)
        print(f"undisturbed run: {test.whole_run_s:.2f} s, {test.undisturbed.status.size} frames", flush=True)
        for number in range(1, options.kills + 1):
            test.kill_and_resume(number)
        # Kills that all fell before the first or after the last frame would have shown nothing.
        expect(2 * test.partial >= options.kills, f"only {test.partial} of {options.kills} kills left a partial volume")
        print(f"{options.kills} kills, {test.partial} of them with a partial volume: all resumed to the same bits")
    except (Failed, AssertionError, subprocess.TimeoutExpired) as problem:
        sys.exit(f"failed (seed {options.seed}): {problem}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
