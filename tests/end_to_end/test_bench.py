"""`annulus bench`: every stage is measured for every backend, and its JSON says what was measured."""

import json
import pathlib
import tempfile
import unittest

import common


class Bench(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def bench(self, *arguments, ranks=0):
        figures = self.folder / "figures.json"
        table = common.run("bench", "--repeats", 2, "--json", figures, *arguments, ranks=ranks).stdout
        return table, json.loads(figures.read_text())

    def test_every_stage_of_every_backend_has_a_time(self):
        table, figures = self.bench("--frames", 6, "--batch", 4, "--detector", "Eiger2CdTe_500k", "--backend",
                                    "openmp,opencl", "--error-model", "poisson", "--npt", 200)
        stages = [(stage["stage"], stage.get("backend")) for stage in figures["stages"]]
        expected = [("floor: stock LZ4, unshuffle", None), ("read", None), ("decode", None)]
        expected += [(stage, backend) for backend in ("openmp", "opencl")
                     for stage in ("decode + product", "product", "file to volume")]
        self.assertEqual(stages, expected)
        for stage in figures["stages"]:
            self.assertEqual(len(stage["seconds"]), 2, stage)
            self.assertEqual(stage["best_s"], min(stage["seconds"]))
            self.assertGreater(stage["best_s"], 0.0, stage)
            self.assertAlmostEqual(stage["frames_per_s"] * stage["best_s"], stage["frames"], places=6)
            self.assertIn(stage["stage"], table)
        for stage in figures["stages"][:3]:
            self.assertEqual(stage["frames"], 4)  # whole lines of a batch
        self.assertEqual(figures["integration"]["bins"], 200)
        self.assertEqual(figures["integration"]["error_model"], "poisson")
        self.assertEqual(figures["run"]["cache"], "warm")
        self.assertGreater(figures["scan"]["ratio"], 1.0)
        for key in ("cpu", "logical_cores", "simd", "opencl_devices"):
            self.assertIn(key, figures["machine"])
        for key in ("annulus", "hdf5", "lz4", "mpi", "compiler"):
            self.assertTrue(figures["versions"][key], key)

    def test_a_given_scan_by_two_ranks_and_the_first_frames_alone(self):
        scan = common.simulate(self.folder / "scan", 3, 4)
        _, figures = self.bench("-p", scan.folder / "geometry.poni", "--frames", 8, "--batch", 2, "--backend",
                                "openmp", "--folder", self.folder / "work", "--cold", scan.master, ranks=2)
        self.assertEqual({stage["frames"] for stage in figures["stages"]}, {8})
        self.assertEqual(figures["run"]["ranks"], 2)
        self.assertEqual(figures["run"]["cache"], "cold")
        self.assertFalse(figures["scan"]["simulated"])
        self.assertTrue((self.folder / "work" / "bench_volume.h5").exists())

    def test_all_ranks_are_compared_with_the_first_alone(self):
        table, figures = self.bench("--frames", 12, "--batch", 4, "--detector", "Eiger2CdTe_500k", "--backend",
                                    "openmp", "--threads", 1, "--npt", 200, "--alone", ranks=2)
        self.assertIn("times one rank", table)
        for stage in figures["stages"]:
            self.assertEqual(len(stage["alone_s"]), 2, stage)
            self.assertGreater(min(stage["alone_s"]), 0.0, stage)
            # The first rank's share is half of the frames.
            times = [2 * alone / together for alone, together in zip(stage["alone_s"], stage["seconds"])]
            self.assertAlmostEqual(stage["times_one_rank"], sum(times) / 2, places=6, msg=stage)
        for arguments in ((), ("--frames", 1)):
            done = common.run("bench", "--detector", "Eiger2CdTe_500k", "--alone", *arguments,
                              ranks=2 if arguments else 1, expect=common.EXIT_BAD_INPUT)
            self.assertIn("--alone needs more than one rank", done.stderr)
            self.assertNotIn("simulating", done.stderr)

    def test_bad_usage_is_told_before_anything_is_simulated(self):
        done = common.run("bench", "--ratio", "thin", "--backend", "openmp,cuda", expect=common.EXIT_BAD_INPUT)
        self.assertIn('--ratio: found "thin"', done.stderr)
        self.assertIn('"cuda"', done.stderr)
        self.assertNotIn("simulating", done.stderr)


if __name__ == "__main__":
    common.main()
