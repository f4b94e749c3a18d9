#!/usr/bin/env python3
"""annulus calibrate: the truth of a simulated image, the exit statuses, files that pyFAI loads, and a real image."""

import json
import os
import pathlib
import re
import shutil
import warnings

import fabio
import h5py
import numpy

import common

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyFAI
    from pyFAI.calibrant import get_calibrant
    from pyFAI.control_points import ControlPoints
    from pyFAI.geometryRefinement import GeometryRefinement

DATA = pathlib.Path(os.environ.get("ANNULUS_TEST_DATA", common.ROOT.parent / "shared" / "data"))
ENERGY_KEV = 60.0  # of `annulus simulate`
DETECTOR = "Eiger2CdTe_500k"
CALIBRATION = "/entry_0000/annulus/calibration"


def beam(geometry):
    """Where the direct beam meets the detector, (row, column) in pixels."""
    fit2d = geometry.getFit2D()
    return numpy.array([fit2d["centerY"], fit2d["centerX"]])


def pyfai_refinement(test, poni, points, calibrant, fix):
    """pyFAI's own refinement of our points, started from our geometry: cost before and after, in rad^2."""
    loaded = ControlPoints(str(points))
    geometry = pyFAI.load(str(poni))
    data = numpy.array(loaded.getList())
    test.assertGreater(len(data), 200)
    calibrant = get_calibrant(calibrant)
    calibrant.wavelength = geometry.wavelength
    refinement = GeometryRefinement(
        data, dist=geometry.dist, poni1=geometry.poni1, poni2=geometry.poni2, rot1=geometry.rot1, rot2=geometry.rot2,
        rot3=geometry.rot3, detector=geometry.detector, wavelength=geometry.wavelength, calibrant=calibrant)
    before = refinement.chi2()
    refinement.refine3(fix=fix)
    return before, refinement.chi2(), len(data)


class Simulated(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", 2, 3, detector=DETECTOR)
        cls.image = cls.scan.folder / "calibrant.tif"
        cls.truth = pyFAI.load(str(cls.scan.folder / "geometry.poni"))
        cls.options = ["--calibrant", "LaB6", "--energy", ENERGY_KEV, "--detector", DETECTOR]
        cls.poni, cls.points = cls.scratch / "found.poni", cls.scratch / "found.npt"
        cls.report = cls.scratch / "found.html"
        cls.told = common.run("calibrate", *cls.options, "-o", cls.poni, "--points", cls.points, "--report",
                              cls.report, cls.image)

    def test_the_geometry_is_the_truth(self):
        found = pyFAI.load(str(self.poni))
        # Poisson noise of 1e4 counts leaves some 1e-5 of the distance and hundredths of a pixel; ten times that would
        # be another geometry.
        self.assertLess(abs(found.dist / self.truth.dist - 1), 1e-4)
        numpy.testing.assert_allclose(beam(found), beam(self.truth), atol=0.1)
        y, x = numpy.mgrid[0:512:64, 0:1028:64]
        pixel = found.pixel1 / found.dist
        difference = found.tth(y.ravel(), x.ravel()) - self.truth.tth(y.ravel(), x.ravel())
        self.assertLess(numpy.abs(difference).max(), 0.05 * pixel)
        self.assertEqual(found.wavelength, self.truth.wavelength)

    def test_the_table_tells_verdict_parameters_and_rings(self):
        self.assertRegex(self.told.stdout, r"calibration good\n")
        for parameter in ("distance", "poni1", "poni2", "rot1", "rot2"):
            line = re.search(rf"^{parameter} +(\S+) +(\S+)  (m|rad)$", self.told.stdout, re.M)
            self.assertIsNotNone(line, self.told.stdout)
            self.assertGreater(float(line[2]), 0.0)
        self.assertRegex(self.told.stdout, r"rot3 +0\.0+ +fixed")
        self.assertRegex(self.told.stdout, r"\(1 1 0\) x12")

    def test_the_same_image_gives_the_same_files(self):
        again = self.scratch / "again.poni"
        common.run("calibrate", *self.options, "-o", again, "--points", self.scratch / "again.npt", "--threads", 1,
                   self.image, ranks=2)
        self.assertEqual(again.read_text(), self.poni.read_text())
        self.assertEqual((self.scratch / "again.npt").read_text(), self.points.read_text())

    def test_pyfai_finds_nothing_better_for_the_points(self):
        before, after, count = pyfai_refinement(self, self.poni, self.points, "LaB6", ["rot3", "wavelength"])
        print(f"{count} points, pyFAI's cost {before:.4e} -> {after:.4e} rad^2")
        # Its cost counts all points alike, ours goes by their errors, so the minima differ: five parameters take some
        # 5 / count of what is noise.
        self.assertGreater(after, 0.99 * before)

    def test_the_report_is_one_page_that_loads_nothing(self):
        page = self.report.read_text()
        self.assertEqual(page.count("data:image/png;base64,"), 2)
        self.assertNotRegex(page, r"(src|href)=\"(?!data:)")
        for part in ("verdict good", "LaB6", "Residuals against azimuth", "<path", "</html>"):
            self.assertIn(part, page)

    def test_a_guess_is_used_and_never_believed(self):
        # The truth moved by 7 mm and 3 cm: the result is the same as without.
        wrong = self.scratch / "wrong.poni"
        other = pyFAI.load(str(self.scan.folder / "geometry.poni"))
        other.dist, other.poni1 = other.dist + 0.03, other.poni1 + 0.007
        other.save(str(wrong))
        output = self.scratch / "guessed.poni"
        common.run("calibrate", "--calibrant", "LaB6", "-p", wrong, "-o", output, self.image)
        found = pyFAI.load(str(output))
        self.assertLess(abs(found.dist / self.truth.dist - 1), 1e-4)
        numpy.testing.assert_allclose(beam(found), beam(self.truth), atol=0.1)

    def test_fixed_parameters_stay(self):
        output = self.scratch / "fixed.poni"
        common.run("calibrate", *self.options, "--fix", f"rot1={self.truth.rot1!r}", "--fix", "rot2=-0.006,rot3=0",
                   "-o", output, self.image)
        found = pyFAI.load(str(output))
        self.assertEqual((found.rot1, found.rot2, found.rot3), (self.truth.rot1, -0.006, 0.0))

    def test_frames_of_an_hdf5_file_are_one_exposure(self):
        image = fabio.open(str(self.image)).data
        stack = self.scratch / "stack.h5"
        with h5py.File(stack, "w") as file:
            file["/entry/data/data"] = numpy.stack([image, image])
            detector = file.create_group("/entry/instrument/detector")
            file["/entry"].attrs["NX_class"], file["/entry/instrument"].attrs["NX_class"] = "NXentry", "NXinstrument"
            detector.attrs["NX_class"] = "NXdetector"
            detector["detector_distance"] = 250.0
            detector["detector_distance"].attrs["units"] = "mm"
        output = self.scratch / "stack.poni"
        told = common.run("calibrate", *self.options, "-o", output, f"{stack}::/entry/data/data")
        self.assertLess(abs(pyFAI.load(str(output)).dist / self.truth.dist - 1), 1e-4)
        # The header is wrong, and said to be.
        self.assertRegex(told.stderr, r"warning: .*header tells a distance of 0\.25 m, the rings 0\.(2|1999)")

    def test_a_cell_and_a_list_of_spacings_do_as_well_as_a_name(self):
        for name, arguments in {"cell": ["--cell", "4.156826 Pm-3m"],
                                "list": ["--d-spacings", ",".join(f"{d:.8f}" for d in
                                                                  get_calibrant("LaB6").dspacing[:60])]}.items():
            with self.subTest(name):
                output = self.scratch / f"{name}.poni"
                common.run("calibrate", *arguments, "--energy", ENERGY_KEV, "--detector", DETECTOR, "-o", output,
                           self.image)
                self.assertLess(abs(pyFAI.load(str(output)).dist / self.truth.dist - 1), 1e-4)

    def test_two_distances_tell_wavelength_and_distance_apart(self):
        # The same beam and tilt with the detector 0.1 m further along its normal, which is that much along the beam:
        further = common.simulate(self.scratch / "further", 1, 1, "--distance", self.truth.dist + 0.1,
                                  detector=DETECTOR)
        offset = float(0.1 / (numpy.cos(self.truth.rot1) * numpy.cos(self.truth.rot2)))
        output = self.scratch / "both.poni"
        told = common.run("calibrate", "--calibrant", "LaB6", "--wavelength", 1.002 * self.truth.wavelength,
                          "--detector", DETECTOR, "--free", "wavelength", "--distance-offset", f"0,{offset}", "-o",
                          output, self.image, further.folder / "calibrant.tif", expect=None)
        self.assertIn(told.returncode, (common.EXIT_OK, common.EXIT_SOME_FRAMES), told.stdout + told.stderr)
        found = pyFAI.load(str(output))
        self.assertLess(abs(found.wavelength / self.truth.wavelength - 1), 1e-4, told.stdout)
        self.assertLess(abs(found.dist / self.truth.dist - 1), 2e-4, told.stdout)

    def test_what_shows_no_rings_is_refused_and_nothing_but_the_report_written(self):
        image = fabio.open(str(self.image)).data
        blank = numpy.where(image < 0, image, numpy.random.default_rng(5).poisson(100, image.shape)).astype("int32")
        spots = blank.copy()
        for row, column in numpy.random.default_rng(6).integers(5, [500, 1000], (60, 2)):
            spots[row - 2:row + 3, column - 2:column + 3] += 5000
        for name, data, calibrant in (("blank", blank, "LaB6"), ("spots", spots, "LaB6"),
                                      ("other", image, "alpha_Al2O3")):
            with self.subTest(name):
                file, output = self.scratch / f"{name}.tif", self.scratch / f"{name}.poni"
                fabio.tifimage.TifImage(data).write(str(file))
                page = self.scratch / f"{name}.html"
                told = common.run("calibrate", "--calibrant", calibrant, "--energy", ENERGY_KEV, "--detector",
                                  DETECTOR, "-o", output, "--points", self.scratch / f"{name}.npt", "--report", page,
                                  file, expect=common.EXIT_FAILED)
                self.assertRegex(told.stdout, r"calibration failed\n  \S")
                self.assertFalse(output.exists())
                self.assertFalse((self.scratch / f"{name}.npt").exists())
                self.assertIn("verdict failed", page.read_text())

    def test_bad_input_is_told_at_once(self):
        output = self.scratch / "never.poni"
        cases = [
            (["--calibrant", "unobtainium"], ["unobtainium", "CeO2"]),
            (["--calibrant", "LaB6", "--cell", "4 P"], ["exclude each other"]),
            (["--calibrant", "LaB6", "--energy", 60, "--wavelength", 1e-11], ["--wavelength and --energy"]),
            (["--calibrant", "LaB6", "--energy", 60, "--detector", "Pilatus1M"], ["512 x 1028", "1043 x 981"]),
            (["--calibrant", "LaB6", "--energy", 60], ["--detector is missing"]),
            (["--calibrant", "LaB6", "--detector", DETECTOR], ["--wavelength is missing"]),
            (["--calibrant", "LaB6", "--fix", "rot4", "--bounds", "distance=2,1"], ["rot4", "--bounds"]),
            ([*self.options, "--mask", self.scratch / "absent.tif"], ["absent.tif"]),
            ([*self.options, "--distance-offset", "0,0.1"], ["found 2 for 1 images"]),
            ([*self.options, "--points", self.image], ["is one of the inputs"]),
        ]
        for arguments, words in cases:
            told = common.run("calibrate", *arguments, "-o", output, self.image, expect=common.EXIT_BAD_INPUT)
            for word in words:
                self.assertIn(word, told.stderr)
            self.assertFalse(output.exists())
        # Several at once.
        told = common.run("calibrate", "--calibrant", "nothing", "--energy", -1, "nowhere.tif",
                          expect=common.EXIT_BAD_INPUT)
        for word in ("--energy", "--output is missing", "nowhere.tif"):
            self.assertIn(word, told.stderr)

    def test_the_calibrants_are_listed(self):
        told = common.run("calibrate", "--calibrant", "list").stdout
        self.assertEqual(len(told.splitlines()), len(pyFAI.calibrant.names()))
        self.assertRegex(told, r"CeO2 +ceria +NIST SRM 674b")

    def test_a_tomography_calibrates_itself(self):
        given, own = self.scratch / "given.h5", self.scratch / "own.h5"
        common.run(*self.tomo(given, "-p", self.poni))
        common.run(*self.tomo(own, "--calibrate", self.image, *self.options), ranks=4)
        theirs, ours = common.read_volume(given), common.read_volume(own)
        self.assertTrue((ours.status == common.OK).all())
        self.assertTrue(common.same_bits(ours.intensity, theirs.intensity))
        self.assertTrue(common.same_bits(ours.errors, theirs.errors))
        numpy.testing.assert_array_equal(ours.radial, theirs.radial)
        with h5py.File(own) as file:
            self.assertEqual(file[CALIBRATION].attrs["NX_class"], "NXnote")
            evidence = json.loads(file[CALIBRATION]["data"].asstr()[()])
        self.assertEqual((evidence["verdict"], evidence["calibrant"]), ("good", "LaB6"))
        self.assertGreater(evidence["points"], 200)
        self.assertGreater(len(evidence["rings"]), 3)
        self.assertAlmostEqual(evidence["parameters"]["distance"]["value"], self.truth.dist, delta=1e-4)
        with h5py.File(given) as file:
            self.assertNotIn(CALIBRATION, file)

    def tomo(self, output, *more):
        return ["tomo", "-r", self.scan.slow, "-t", self.scan.fast, "-c", 300, "--error-model", "poisson", "-o", output,
                *more, self.scan.master]

    def test_a_doubtful_calibration_is_written_but_stops_a_scan_that_does_not_accept_it(self):
        # The wavelength is 1 % off: the rings say so.
        options = ["--calibrant", "LaB6", "--energy", 1.01 * ENERGY_KEV, "--detector", DETECTOR]
        poni = self.scratch / "doubtful.poni"
        told = common.run("calibrate", *options, "-o", poni, self.image, expect=common.EXIT_SOME_FRAMES)
        self.assertRegex(told.stdout, r"calibration doubtful\n  .*wavelength")
        self.assertRegex(poni.read_text(), r"# .*: doubtful\n# Reason: .*wavelength")
        self.assertIsNotNone(pyFAI.load(str(poni)).dist)

        output = self.scratch / "doubtful.h5"
        told = common.run(*self.tomo(output, "--calibrate", self.image, *options), ranks=2, expect=common.EXIT_FAILED)
        self.assertIn("--accept-doubtful-calibration", told.stderr)
        self.assertFalse(output.exists())
        told = common.run(*self.tomo(output, "--calibrate", self.image, *options, "--accept-doubtful-calibration"),
                          ranks=2)
        self.assertIn("the calibration is doubtful", told.stderr)
        with h5py.File(output) as file:
            self.assertEqual(json.loads(file[CALIBRATION]["data"].asstr()[()])["verdict"], "doubtful")

    def test_a_scan_stops_before_any_work_when_its_calibration_fails(self):
        output = self.scratch / "stopped.h5"
        told = common.run(*self.tomo(output, "--calibrate", self.image, "--calibrant", "alpha_Al2O3", "--energy",
                                     ENERGY_KEV, "--detector", DETECTOR), ranks=2, expect=common.EXIT_FAILED)
        self.assertIn("the calibration is", told.stderr)
        self.assertFalse(output.exists())
        # Its options mean nothing without it, and all that is wrong is told before it starts.
        told = common.run(*self.tomo(output, "-p", self.poni, "--calibrant", "LaB6"), expect=common.EXIT_BAD_INPUT)
        self.assertIn("--calibrant: expected --calibrate", told.stderr)


class Real(common.TestCase):
    """CeO2 on a Pilatus 1M: the owners' geometry, from calibrant, wavelength and detector alone.

    Theirs is of the image as Dioptas shows it, upside down: so it is turned here, which 1043 rows of a Pilatus allow.
    """

    def setUp(self):
        self.folder = DATA / "ceo2_pilatus1m"
        if not self.folder.is_dir():
            self.skipTest(f"no real image at {self.folder}; ANNULUS_TEST_DATA names the folder of ceo2_pilatus1m/")

    def test_the_owners_geometry_is_found_from_nothing(self):
        # A copy without the header, which tells distance and beam.
        image = self.scratch / "plain.tif"
        data = fabio.open(str(self.folder / "CeO2_Pilatus1M.tif")).data[::-1]
        fabio.tifimage.TifImage(numpy.ascontiguousarray(data)).write(str(image))
        poni, points = self.scratch / "geo.poni", self.scratch / "geo.npt"
        told = common.run("calibrate", image, "--calibrant", "CeO2", "--wavelength", 4.066e-11, "--detector",
                          "Pilatus1M", "-o", poni, "--points", points, expect=None)
        print(told.stdout)
        self.assertIn(told.returncode, (common.EXIT_OK, common.EXIT_SOME_FRAMES), told.stdout + told.stderr)
        found = pyFAI.load(str(poni))
        owners = pyFAI.load(str(self.folder / "CeO2_Pilatus1M.poni"))
        self.assertLess(abs(found.dist / owners.dist - 1), 1e-3)
        numpy.testing.assert_allclose(beam(found), beam(owners), atol=0.3)

        data = numpy.array(ControlPoints(str(points)).getList())
        calibrant = get_calibrant("CeO2")
        calibrant.wavelength = 4.066e-11
        rings = numpy.array(calibrant.get_2th())[data[:, 2].astype(int)]
        residual = {name: numpy.sqrt(numpy.mean((geometry.tth(data[:, 0], data[:, 1]) - rings) ** 2))
                    for name, geometry in (("ours", found), ("owners", owners))}
        print(f"rms residual on our {len(data)} points: {residual}")
        self.assertLessEqual(residual["ours"], residual["owners"])
        before, after, _ = pyfai_refinement(self, poni, points, "CeO2", ["rot3", "wavelength"])
        print(f"pyFAI's cost {before:.4e} -> {after:.4e} rad^2")
        self.assertGreater(after, 0.99 * before)

    def test_its_header_is_a_hypothesis_and_its_disagreement_told(self):
        image = self.scratch / "header.tif"
        shutil.copy(self.folder / "CeO2_Pilatus1M.tif", image)
        told = common.run("calibrate", image, "--calibrant", "CeO2", "--wavelength", 4.066e-11, "--detector",
                          "Pilatus1M", "-o", self.scratch / "header.poni", expect=None)
        self.assertRegex(told.stderr, r"header tells a distance of 0\.21143 m, the rings 0\.208")


if __name__ == "__main__":
    common.main()
