#!/usr/bin/env python3
"""The numbers are pyFAI's: every bin's intensity and standard error within 1e-6 of its Cython CSR integration.

Where 1e-6 comes from: both programs keep weights and normalisations in float32 and sum in double precision, so a bin
differs by the rounding of its result (6e-8) and of those single weights that land on the other side of a float32
rounding; pyFAI's own backends differ among themselves by 1e-7 to 5e-6.
"""

import os
import pathlib
import warnings

import fabio
import h5py
import numpy

import common

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyFAI

LIMIT = 1e-6
DATA = pathlib.Path(os.environ.get("ANNULUS_TEST_DATA", common.ROOT.parent / "shared" / "data"))


def largest_difference(test, ours, theirs, bins, what):
    """The largest relative difference over `bins`; a bin that is 0 in one must be 0 in the other."""
    ours, theirs = ours[bins].astype(float), theirs[bins].astype(float)
    zero = theirs == 0
    numpy.testing.assert_array_equal(ours[zero], 0, err_msg=what)
    difference = numpy.abs(ours[~zero] / theirs[~zero] - 1).max()
    test.assertLess(difference, LIMIT, what)
    return difference


class RealImages(common.TestCase):
    def setUp(self):
        self.folder = DATA / "fe3o4c_map"
        if not self.folder.is_dir():
            self.skipTest(f"no real images at {self.folder}; ANNULUS_TEST_DATA names the folder that holds fe3o4c_map/")

    def test_nine_images_of_a_map(self):
        images = sorted(self.folder.glob("*.tif"), key=lambda path: int(path.name.split("_")[3]))
        self.assertEqual([int(path.name.split("_")[3]) for path in images], [1, 2, 3, 6, 7, 8, 11, 12, 13])
        poni = self.folder / "fe3o4c_map.poni"
        integrator = pyFAI.load(str(poni))
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                output = self.scratch / f"map-{backend}.h5"
                # Given in the order of a shell's *.tif, which has 11 before 2.
                common.run("map", "-p", poni, "-r", 3, "-t", 3, "-c", 1000, "--polarization", 0.99, "--error-model",
                           "poisson", "--backend", backend, "-o", output, *sorted(images), ranks=2)
                volume = common.read_volume(output)
                self.assertTrue((volume.status == common.OK).all())
                compared, largest = 0, 0.0
                for frame, path in enumerate(images):
                    data = fabio.open(str(path)).data
                    # Negative pixels are bad in this frame: Pilatus writes -1 and -2. As a dummy they leave the bins'
                    # edges alone, which a mask of the frame would move.
                    self.assertTrue(numpy.isin(data[data < 0], (-1, -2)).all())
                    expected = integrator.integrate1d(
                        data, 1000, unit="2th_deg", method=("bbox", "csr", "cython"), error_model="poisson",
                        polarization_factor=0.99, correctSolidAngle=True, dummy=-2, delta_dummy=1.5)
                    numpy.testing.assert_allclose(volume.radial, expected.radial, rtol=1e-12)
                    filled = expected.count > 0
                    pattern = divmod(frame, 3)
                    largest = max(largest,
                                  largest_difference(self, volume.intensity[pattern], expected.intensity, filled,
                                                     f"{path.name}: intensity"),
                                  largest_difference(self, volume.errors[pattern], expected.sigma, filled,
                                                     f"{path.name}: sigma"))
                    compared += int(filled.sum())
                print(f"{backend}: {compared} bins of 9 frames, largest relative difference {largest:.2e}")
                self.assertGreater(compared, 8900)


class SimulatedFrames(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", 1, 2)
        cls.integrator = pyFAI.load(str(cls.scan.folder / "geometry.poni"))
        cls.mask = fabio.open(str(cls.scan.folder / "mask.tif")).data
        with h5py.File(cls.scan.master) as file:
            cls.monitor = file["/entry/monitor/data"][()]
        with h5py.File(cls.scan.folder / "data_000001.h5") as file:
            found = []
            file.visititems(lambda name, item: found.append(item[()])
                            if isinstance(item, h5py.Dataset) and item.ndim == 3 else None)
            cls.frames = found[0]
        generator = numpy.random.default_rng(5)
        cls.flat = generator.uniform(0.8, 1.2, cls.mask.shape).astype(numpy.float32)
        cls.dark = generator.uniform(0.0, 2.0, cls.mask.shape).astype(numpy.float32)
        numpy.save(cls.scratch / "flat.npy", cls.flat)
        numpy.save(cls.scratch / "dark.npy", cls.dark)

    def compare(self, unit="2th_deg", split="bbox", backend="openmp", radial_range=None, bins=400, options=(),
                **arguments):
        output = self.scratch / "volume.h5"
        more = list(options)
        if radial_range:
            more += ["--radial-range", *radial_range]
        common.run(*self.scan.options(output, "--unit", unit, "--split", split, "--backend", backend, "--overwrite",
                                      *more, bins=bins))
        volume = common.read_volume(output)
        compared, largest = 0, 0.0
        for frame in range(2):
            expected = self.integrator.integrate1d(
                self.frames[frame], bins, unit=unit, method=(split, "csr", "cython"), error_model="poisson",
                radial_range=radial_range, mask=self.mask, dummy=65535, delta_dummy=0.5,
                normalization_factor=float(self.monitor[frame]), **arguments)
            # Counts are positive, so no scale of ours or theirs hides a shift of the axis: a bin meets its own.
            numpy.testing.assert_allclose(volume.radial, expected.radial, rtol=1e-9)
            filled = expected.count > 0
            if radial_range:
                # pyFAI truncates toward zero: pixels up to one bin's width below the range fall into its first bin.
                # annulus takes the floor, so the first bin alone differs.
                filled[0] = False
            what = f"{unit}, {split}, {backend}, range {radial_range}, frame {frame}"
            largest = max(largest,
                          largest_difference(self, volume.intensity[0, frame], expected.intensity, filled, what),
                          largest_difference(self, volume.errors[0, frame], expected.sigma, filled, what))
            compared += int(filled.sum())
        print(f"{unit}, {split}, {backend}, range {radial_range}: {compared} bins, "
              f"largest relative difference {largest:.2e}")
        self.assertGreater(compared, 0.9 * 2 * bins)

    def test_units_and_splittings(self):
        for unit in ("2th_deg", "2th_rad", "q_nm^-1", "q_A^-1", "r_mm"):
            for split in ("no", "bbox"):
                with self.subTest(unit=unit, split=split):
                    self.compare(unit, split)

    def test_radial_range(self):
        ranges = {"2th_deg": (4.0, 9.0), "q_nm^-1": (22.0, 45.0), "r_mm": (15.0, 30.0)}
        for unit, radial_range in ranges.items():
            for split in ("no", "bbox"):
                with self.subTest(unit=unit, split=split):
                    self.compare(unit, split, radial_range=radial_range)

    def test_flat_and_dark(self):
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                self.compare(backend=backend,
                             options=["-d", self.scratch / "dark.npy", "-f", self.scratch / "flat.npy"],
                             dark=self.dark, flat=self.flat)

    def test_polarisation_without_solid_angle(self):
        self.compare(options=["--polarization", 0.95, "--no-solid-angle"], polarization_factor=0.95,
                     correctSolidAngle=False)


if __name__ == "__main__":
    common.main()
