#!/usr/bin/env python3
"""Bad frames are data, not errors: NaN and a status for them, every other frame untouched, exit status 3."""

import os
import unittest

import h5py
import numpy

import common

CORRUPT, ABSENT, DEAD = 9, 17, 22


class Damage(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.whole = common.simulate(cls.scratch / "whole", 5, 6)
        cls.damaged = common.simulate(cls.scratch / "damaged", 5, 6, "--corrupt-frame", CORRUPT, "--missing-frame",
                                      ABSENT, "--dead-monitor-frame", DEAD)

    def test_three_damaged_frames_are_nan_with_their_status_and_the_rest_is_untouched(self):
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                whole, damaged = self.scratch / f"whole-{backend}.h5", self.scratch / f"damaged-{backend}.h5"
                common.run(*self.whole.options(whole, "--backend", backend), ranks=2)
                done = common.run(*self.damaged.options(damaged, "--backend", backend), ranks=2,
                                  expect=common.EXIT_SOME_FRAMES)
                expected, found = common.read_volume(whole), common.read_volume(damaged)
                status = numpy.full(30, common.OK, numpy.uint8)
                status[CORRUPT] = common.UNREADABLE
                status[ABSENT] = common.MISSING
                status[DEAD] = common.MONITOR_INVALID
                numpy.testing.assert_array_equal(found.status.ravel(), status)
                self.assertTrue((expected.status == common.OK).all())
                bad = status != common.OK
                for name in ("intensity", "errors"):
                    values = getattr(found, name).reshape(30, -1)
                    self.assertTrue(numpy.isnan(values[bad]).all(), name)
                    self.assert_same_bits(values[~bad], getattr(expected, name).reshape(30, -1)[~bad], name)
                # The user hears how many, on the terminal too.
                self.assertIn("3 of 30", done.stderr)
                # To resume tries the bad frames again and leaves the others as they are.
                common.run(*self.damaged.options(damaged, "--backend", backend, "--resume"), ranks=3,
                           expect=common.EXIT_SOME_FRAMES)
                self.assert_same_volume(common.read_volume(damaged), found, "resumed")

    def test_a_scan_cut_short_runs_and_marks_the_rest_as_missing(self):
        output = self.scratch / "short.h5"
        short = common.Scan(self.whole.folder, 7, 6)
        # Without the monitor: its 30 values for 42 points would be another matter.
        options = short.options(output)
        at = options.index("--monitor")
        del options[at:at + 2]
        common.run(*options, ranks=2, expect=common.EXIT_SOME_FRAMES)
        volume = common.read_volume(output)
        self.assertTrue((volume.status.ravel()[:30] == common.OK).all())
        self.assertTrue((volume.status.ravel()[30:] == common.MISSING).all())
        self.assertTrue(numpy.isnan(volume.intensity.reshape(42, -1)[30:]).all())
        self.assertTrue(numpy.isfinite(volume.intensity.reshape(42, -1)[:30]).all())

    def test_a_scan_cut_short_with_its_monitor_runs_too(self):
        output = self.scratch / "short-monitor.h5"
        common.run(*common.Scan(self.whole.folder, 7, 6).options(output), ranks=2, expect=common.EXIT_SOME_FRAMES)
        volume = common.read_volume(output)
        self.assertTrue((volume.status.ravel()[:30] == common.OK).all())
        self.assertTrue((volume.status.ravel()[30:] == common.MISSING).all())

    @unittest.skipUnless("ANNULUS_SHRINKING_FILE" in os.environ, "ANNULUS_SHRINKING_FILE does not name the library")
    def test_a_file_that_shrinks_while_its_frames_are_integrated_loses_only_what_it_lost(self):
        scan = common.simulate(self.scratch / "shrinking", 5, 6, "--frames-per-file", 30)
        data = next(path for path in scan.folder.glob("*data*.h5"))
        whole, shrunk = self.scratch / "before.h5", self.scratch / "shrunk.h5"
        options = ("--backend", "openmp", "--threads", 1, "--batch", 6)
        # Without compression: zeros in place of what was lost would be pixels like any others.
        with h5py.File(data, "r+") as file:
            pixels = file["entry/data/data"][()]
            del file["entry/data/data"]
            file.create_dataset("entry/data/data", data=pixels, chunks=(1, *pixels.shape[1:]))
        common.run(*scan.options(whole, *options))
        with h5py.File(data) as file:
            chunks = file["entry/data/data"].id
            cut = chunks.get_chunk_info(15)
            ends = [chunk.byte_offset + chunk.size for chunk in map(chunks.get_chunk_info, range(30))]
        # Frame 15 is cut in the middle when its batch, the third, has just been mapped.
        keeps = cut.byte_offset + cut.size // 2
        done = common.run(*scan.options(shrunk, *options), expect=common.EXIT_SOME_FRAMES,
                          LD_PRELOAD=os.environ["ANNULUS_SHRINKING_FILE"], ANNULUS_SHRINK_FILE=data,
                          ANNULUS_SHRINK_TO=keeps, ANNULUS_SHRINK_AT=3)
        self.assertEqual(data.stat().st_size, keeps, "the file was not cut")
        expected, found = common.read_volume(whole), common.read_volume(shrunk)
        lost = (numpy.array(ends) > keeps) & (numpy.arange(30) >= 12)
        self.assertTrue(lost[15] and not lost[12:15].all())
        numpy.testing.assert_array_equal(found.status.ravel() != common.OK, lost)
        self.assertEqual(found.status.ravel()[15], common.UNREADABLE)
        self.assertIn(f"{lost.sum()} of 30", done.stderr)
        for name in ("intensity", "errors"):
            values = getattr(found, name).reshape(30, -1)
            self.assertTrue(numpy.isnan(values[lost]).all(), name)
            self.assert_same_bits(values[~lost], getattr(expected, name).reshape(30, -1)[~lost], name)


if __name__ == "__main__":
    common.main()
