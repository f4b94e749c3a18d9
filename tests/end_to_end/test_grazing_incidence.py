#!/usr/bin/env python3
"""Grazing incidence and fibres: the units that are seen from the sample, from the command line to the files.

The numbers are those of pyFAI and its FiberIntegrator within 1e-6 (see test_pyfai.py); files name their axes. Without
pixel splitting throughout, as pyFAI advises: a pixel beside the missing wedge must not be spread over it.
"""

import json
import math
import warnings

import fabio
import h5py
import numpy
from silx.io import nxdata

import common

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyFAI
    from pyFAI.integrator.fiber import FiberIntegrator
    from pyFAI.units import get_unit_fiber

LIMIT = 1e-6
POSE = {"incident_angle": 0.2, "tilt_angle": 1.5, "sample_orientation": 3}  # degrees
OPTIONS = ["--incident-angle", 0.2, "--tilt-angle", 1.5, "--sample-orientation", 3, "--split", "no"]
METHOD = ("no", "csr", "cython")


def unit_of(name):
    return get_unit_fiber(name, **POSE, angle_unit="deg")


class GrazingIncidence(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", 1, 2)
        cls.poni, cls.mask_file = cls.scan.folder / "geometry.poni", cls.scan.folder / "mask.tif"
        cls.mask = fabio.open(str(cls.mask_file)).data
        with h5py.File(cls.scan.master) as file:
            cls.monitor = file["/entry/monitor/data"][()]
        with h5py.File(cls.scan.folder / "data_000001.h5") as file:
            found = []
            file.visititems(lambda name, item: found.append(item[()])
                            if isinstance(item, h5py.Dataset) and item.ndim == 3 else None)
            cls.frames = found[0]
        cls.common = {"mask": cls.mask, "dummy": 65535, "delta_dummy": 0.5, "method": METHOD}

    def assert_close(self, ours, theirs, filled, what):
        self.assertGreater(int(filled.sum()), 0.2 * filled.size, what)
        ours, theirs = ours[filled].astype(float), theirs[filled].astype(float)
        self.assertTrue((ours[theirs == 0] == 0).all(), what)
        difference = numpy.abs(ours[theirs != 0] / theirs[theirs != 0] - 1).max()
        self.assertLess(difference, LIMIT, what)
        print(f"{what}: {int(filled.sum())} bins, largest relative difference {difference:.2e}")

    def integrate(self, name, *options):
        output = self.scratch / name
        common.run("integrate", "-p", self.poni, "-m", self.mask_file, "-o", output, *OPTIONS, *options,
                   self.scan.master)
        return output

    def test_volumes_name_the_axis(self):
        for backend, unit, label in (("reference", "qip_nm^-1", "Scattering vector $q_{IP}$ ($nm^{-1}$)"),
                                     ("openmp", "exit_angle_vert_deg", "Vertical exit angle (deg)"),
                                     ("opencl", "qoop_A^-1", "Scattering vector $q_{OOP}$ ($A^{-1}$)")):
            with self.subTest(unit=unit):
                output = self.scratch / f"{backend}.h5"
                common.run(*self.scan.options(output, "--unit", unit, "--backend", backend, *OPTIONS, bins=150))
                volume = common.read_volume(output)
                for frame in range(2):
                    integrator = pyFAI.load(str(self.poni))  # a fresh one: pyFAI keeps places of other units' samples
                    expected = integrator.integrate1d(self.frames[frame], 150, unit=unit_of(unit),
                                                      normalization_factor=float(self.monitor[frame]),
                                                      error_model="poisson", **self.common)
                    numpy.testing.assert_allclose(volume.radial, expected.radial, rtol=1e-9, atol=1e-9)
                    filled = expected.count > 0
                    self.assert_close(volume.intensity[0, frame], expected.intensity, filled, f"{backend} {unit}")
                    self.assert_close(volume.errors[0, frame], expected.sigma, filled, f"{backend} {unit}: errors")
                with h5py.File(output) as file:
                    name, symbol = unit.rsplit("_", 1)
                    axis = file[common.RESULT][name]
                    self.assertEqual((axis.attrs["long_name"], axis.attrs["unit"]), (label, symbol))
                    written = json.loads(file["entry_0000/annulus/configuration/data"][()])
                    self.assertEqual(written["unit"], unit)
                    self.assertAlmostEqual(written["incident_angle"], math.radians(0.2), places=15)

    def test_map_of_two_components_is_that_of_the_fiber_integrator(self):
        output = self.integrate("map.h5", "--unit", "qip_nm^-1", "-c", 60, "--azimuthal-unit", "qoop_nm^-1",
                                "--npt-azim", 40)
        integrator = pyFAI.load(str(self.poni)).promote(FiberIntegrator)
        expected = integrator.integrate2d_fiber(self.frames[0], npt_ip=60, npt_oop=40, unit_ip="qip_nm^-1",
                                                unit_oop="qoop_nm^-1", angle_unit="deg", **POSE, **self.common)
        with h5py.File(output) as file:
            data = file["entry/data"]
            self.assert_close(data["I"][0], expected.intensity, expected.count > 0, "qip, qoop")
            numpy.testing.assert_allclose(data["radial_axis"], expected.inplane, rtol=1e-9, atol=1e-9)
            numpy.testing.assert_allclose(data["azimuthal_axis"], expected.outofplane, rtol=1e-9, atol=1e-9)
            for name, label in (("radial_axis", "IP"), ("azimuthal_axis", "OOP")):
                self.assertEqual(data[name].attrs["long_name"], f"Scattering vector $q_{{{label}}}$ ($nm^{{-1}}$)")
                self.assertEqual(data[name].attrs["units"], "1/nm")
            default = nxdata.get_default(file)
            self.assertTrue(default is not None and default.is_valid, "silx refuses the default plot")

    def test_configuration_of_the_fiber_worker_runs(self):
        pose = {"incident_angle": math.radians(0.2), "tilt_angle": math.radians(1.5), "sample_orientation": 3}
        config = self.scratch / "fiber.json"
        config.write_text(json.dumps({
            "application": "worker", "version": 5, "integrator_class": "FiberIntegrator", "poni": str(self.poni),
            "npt_ip": 60, "npt_oop": 40, "unit_ip": {"name": "qip_nm^-1", **pose},
            "unit_oop": {"name": "qoop_nm^-1", **pose}, "method": ["no", "csr", "cython"],
            "mask_file": str(self.mask_file)}), encoding="utf-8")
        output = self.scratch / "config.h5"
        common.run("integrate", "--config", config, "-o", output, self.scan.master)
        options = self.integrate("options.h5", "--unit", "qip_nm^-1", "-c", 60, "--azimuthal-unit", "qoop_nm^-1",
                                 "--npt-azim", 40)
        with h5py.File(output) as ours, h5py.File(options) as theirs:
            # Radians, and degrees made radians: the last bit of an angle may differ.
            numpy.testing.assert_allclose(ours["entry/data/I"], theirs["entry/data/I"], rtol=1e-5)

    def test_profile_over_the_azimuth_takes_a_range_of_the_other_axis(self):
        output = self.scratch / "profile.h5"
        common.run("integrate", "-p", self.poni, "-m", self.mask_file, "-o", output, "--split", "no", "-c", 34,
                   "--unit",
                   "chi_deg", "--radial-range", -170, 170, "--azimuthal-unit", "2th_deg", "--azimuth-range", 5, 8,
                   self.scan.master)
        integrator = pyFAI.load(str(self.poni))
        two_theta = integrator.center_array(unit="2th_deg")
        settings = {**self.common, "mask": self.mask.astype(bool) | (two_theta < 5) | (two_theta > 8)}
        expected = integrator.integrate1d(self.frames[0], 34, unit="chi_deg", radial_range=(-170, 170), **settings)
        with h5py.File(output) as file:
            data = file["entry/data"]
            filled = expected.count > 0
            filled[0] = False  # pyFAI counts pixels up to one bin below the range in it
            self.assert_close(data["I"][0], expected.intensity, filled, "chi")
            numpy.testing.assert_allclose(data["radial_axis"], expected.radial, rtol=1e-9)
            self.assertEqual(data["radial_axis"].attrs["units"], "degrees")
            self.assertEqual(data["radial_axis"].attrs["long_name"], "Azimuthal angle $\\chi$ ($^{o}$)")

    def test_pose_without_a_unit_for_it_is_refused(self):
        done = common.run("integrate", "-p", self.poni, "-o", self.scratch / "no.xy", "--incident-angle", 0.2,
                          self.scan.master, expect=common.EXIT_BAD_INPUT)
        self.assertIn("have no part in --unit 2th_deg", done.stderr)
        self.assertFalse((self.scratch / "no.xy").exists())


if __name__ == "__main__":
    common.main()
