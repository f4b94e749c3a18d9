#!/usr/bin/env python3
"""--matrix-cache: a later run takes the matrix of an earlier one, gives the same bits, and mends what is damaged."""

import numpy

import common

# The backends that keep a matrix; the reference's own weights are float64, which none holds.
KEEPING = ("openmp", "opencl")


class MatrixCache(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", 3, 4)
        cls.outputs = 0

    @classmethod
    def integrate(cls, *more, expect_stage, warning="", ranks=0, expect=common.EXIT_OK):
        """Integrates the scan and checks what the program tells of the matrix; the volume."""
        cls.outputs += 1
        output = cls.scratch / f"volume-{cls.outputs}.h5"
        done = common.run(*cls.scan.options(output, *more), ranks=ranks, expect=expect)
        stages = [line.split("  ")[0] for line in done.stdout.splitlines() if " matrix " in line]
        assert stages == [f"{expect_stage} matrix"], done.stdout
        warnings = [line for line in done.stderr.splitlines() if "warning" in line]
        if warning:
            assert len(warnings) == 1 and warning in warnings[0], done.stderr
        else:
            assert not warnings, done.stderr
        return common.read_volume(output)

    def folder(self, name):
        """Two levels of folders that do not exist yet."""
        return self.scratch / name / "matrices"

    def only_file(self, folder):
        files = list(folder.iterdir())
        self.assertEqual(len(files), 1, files)
        return files[0]

    def test_second_run_loads_and_gives_the_same_bits(self):
        for backend in KEEPING:
            with self.subTest(backend=backend):
                folder = self.folder(backend)
                options = ("--backend", backend, "--matrix-cache", folder)
                without = self.integrate("--backend", backend, expect_stage="build")
                first = self.integrate(*options, expect_stage="build")
                kept = self.only_file(folder).read_bytes()
                second = self.integrate(*options, expect_stage="load")
                self.assertTrue(numpy.isfinite(second.intensity).all())
                self.assertGreater(float(second.intensity.max()), 0)
                self.assert_same_volume(first, without, f"{backend}: first run, and one without a cache")
                self.assert_same_volume(second, without, f"{backend}: second run, and one without a cache")
                numpy.testing.assert_array_equal(second.radial, without.radial)
                self.assertEqual(self.only_file(folder).read_bytes(), kept)

    def test_reference_says_that_it_keeps_none(self):
        folder = self.folder("reference")
        for _ in range(2):
            self.integrate("--backend", "reference", "--matrix-cache", folder, expect_stage="build",
                           warning="no use for the reference backend")
        self.assertFalse(folder.exists())

    def test_ranks_share_a_cache(self):
        folder = self.folder("ranks")
        options = ("--backend", "openmp", "--matrix-cache", folder)
        without = self.integrate("--backend", "openmp", expect_stage="build")
        for ranks, stage in ((3, "build"), (4, "load"), (0, "load")):
            volume = self.integrate(*options, ranks=ranks, expect_stage=stage)
            self.assert_same_volume(volume, without, f"{ranks} ranks")
            self.only_file(folder)

    def test_damage_is_noticed_told_and_mended(self):
        folder = self.folder("damage")
        options = ("--backend", "openmp", "--matrix-cache", folder)
        expected = self.integrate(*options, expect_stage="build")
        file = self.only_file(folder)
        whole = file.read_bytes()
        places = {"middle": len(whole) // 2, "last byte": len(whole) - 1}
        damages = {name: whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:]
                   for name, place in places.items()}
        damages["cut off"] = whole[:-4096]
        damages["zeros"] = bytes(len(whole))
        damages["empty"] = b""
        for name, content in damages.items():
            with self.subTest(name):
                self.assertNotEqual(content, whole)
                file.write_bytes(content)
                volume = self.integrate(*options, ranks=2, expect_stage="build", warning=str(file))
                self.assert_same_volume(volume, expected, name)
                self.assertEqual(self.only_file(folder).read_bytes(), whole, "not mended")
                volume = self.integrate(*options, expect_stage="load")
                self.assert_same_volume(volume, expected, f"{name}, mended")

    def test_what_changes_the_matrix_gets_its_own(self):
        folder = self.folder("keys")
        cache = ("--backend", "openmp", "--matrix-cache", folder)
        variants = ((), ("--unit", "q_nm^-1"), ("--split", "full"), ("--radial-range", 5, 20), ("--npt-azim", 4))
        for count, variant in enumerate(variants, 1):
            self.integrate(*variant, *cache, expect_stage="build")
            self.assertEqual(len(list(folder.iterdir())), count, variant)
        for variant in variants:
            without = self.integrate(*variant, "--backend", "openmp", expect_stage="build")
            volume = self.integrate(*variant, *cache, expect_stage="load")
            self.assert_same_volume(volume, without, variant)
        # What only weighs the pixels uses the matrix that is there.
        self.integrate("--polarization", 0.9, *cache, expect_stage="load")
        self.assertEqual(len(list(folder.iterdir())), len(variants))

    def test_integrate_uses_it_too(self):
        folder = self.folder("integrate")
        texts = []
        for name, files_before in (("a", 0), ("b", 1)):
            self.assertEqual(len(list(folder.iterdir())) if folder.exists() else 0, files_before)
            output = self.scratch / name
            common.run("integrate", "-p", self.scan.folder / "geometry.poni", "--backend", "openmp", "--matrix-cache",
                       folder, "-o", f"{output}/", self.scan.folder / "mask.tif")
            lines = next(output.iterdir()).read_text().splitlines()
            texts.append([line for line in lines if not line.startswith("#")])
        self.only_file(folder)
        self.assertGreater(len(texts[0]), 100)
        self.assertEqual(texts[0], texts[1])

    def test_folder_that_cannot_be_written_is_a_warning(self):
        # Nobody makes a folder in /proc, root neither.
        self.integrate("--backend", "openmp", "--matrix-cache", "/proc/annulus", expect_stage="build",
                       warning="the matrix is not kept")

    def test_file_in_the_place_of_the_folder_is_bad_input(self):
        output = self.scratch / "never.h5"
        done = common.run(*self.scan.options(output, "--matrix-cache", self.scan.folder / "mask.tif"),
                          expect=common.EXIT_BAD_INPUT)
        self.assertIn("--matrix-cache", done.stderr)
        self.assertIn("is no folder", done.stderr)
        self.assertFalse(output.exists())


if __name__ == "__main__":
    common.main()
