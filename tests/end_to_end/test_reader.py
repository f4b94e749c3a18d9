#!/usr/bin/env python3
"""Volumes open in what users have: h5py, silx, and pyFAI-diffmap-view's reading functions, units and values too."""

import subprocess
import sys

import common

CHECK = common.ROOT / "tests" / "end_to_end" / "check_volume.py"


class Reader(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tomo = common.simulate(cls.scratch / "tomo", 4, 5, "--missing-frame", 7, "--corrupt-frame", 11)
        cls.raster = common.simulate(cls.scratch / "map", 4, 5, "--map", "--zigzag", "--dtype", "uint32")
        cls.reference = cls.scratch / "reference.h5"
        common.run(*cls.tomo.options(cls.reference, "--backend", "reference"), expect=common.EXIT_SOME_FRAMES)

    def check(self, volume, *options):
        done = subprocess.run([sys.executable, str(CHECK), str(volume), *[str(option) for option in options]],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "")

    def test_tomography(self):
        output = self.scratch / "tomo.h5"
        common.run(*self.tomo.options(output, "--slow-motor", "/entry/sample/rotation", "--fast-motor",
                                      "/entry/sample/translation"), ranks=2, expect=common.EXIT_SOME_FRAMES)
        self.check(output, "--kind", "tomo", "--shape", 4, 5, 500, "--radial", "2th", "--unit", "deg", "--slow-unit",
                   "deg", "--fast-unit", "mm", "--errors", "yes", "--finished", "--links", "--status", common.OK, 18,
                   "--status", common.MISSING, 1, "--status", common.UNREADABLE, 1, "--reference",
                   f"{self.reference}::{common.RESULT}/intensity")

    def test_map_of_cakes_with_standard_deviations(self):
        output = self.scratch / "cakes.h5"
        folder = self.raster.folder
        common.run("map", "-p", folder / "geometry.poni", "-m", folder / "mask.tif", "-r", 4, "-t", 5, "-c", 60,
                   "--npt-azim", 8, "--zigzag", "--error-model", "poisson", "--std", "-o", output, self.raster.master,
                   ranks=3)
        self.check(output, "--kind", "map", "--shape", 4, 5, 8, 60, "--radial", "2th", "--unit", "deg", "--errors",
                   "yes", "--std", "yes", "--mask", "yes", "--finished", "--links", "--status", common.OK, 20)

    def test_map_in_q_without_errors(self):
        output = self.scratch / "map.h5"
        folder = self.raster.folder
        common.run("map", "-p", folder / "geometry.poni", "-r", 4, "-t", 5, "-c", 300, "--unit", "q_nm^-1", "--zigzag",
                   "-o", output, self.raster.master, ranks=3)
        self.check(output, "--kind", "map", "--shape", 4, 5, 300, "--radial", "q", "--unit", "nm^-1", "--slow-unit", "",
                   "--fast-unit", "", "--errors", "no", "--finished", "--links", "--status", common.OK, 20)

    def test_radius_in_a_range(self):
        output = self.scratch / "r.h5"
        common.run(*self.tomo.options(output, "--unit", "r_mm", "--radial-range", 15, 30, bins=100),
                   expect=common.EXIT_SOME_FRAMES)
        self.check(output, "--radial", "r", "--unit", "mm", "--radial-range", 15, 30, "--shape", 4, 5, 100)

    def test_a_volume_moved_with_its_frames_keeps_its_links(self):
        folder = self.scratch / "moved"
        folder.mkdir()
        output = self.raster.folder / "volume.h5"
        common.run(*self.raster.options(output))
        self.raster.folder.rename(folder / "elsewhere")
        try:
            self.check(folder / "elsewhere" / "volume.h5", "--links", "--finished")
        finally:
            (folder / "elsewhere").rename(self.raster.folder)
            output.unlink()


if __name__ == "__main__":
    common.main()
