#!/usr/bin/env python3
"""pyFAI's configuration files run unchanged: the same JSON given to pyFAI-diffmap and to --config gives the same map.

1e-6 as in test_pyfai.py: weights and normalisations are float32 in both programs, sums in double precision.
"""

import contextlib
import json
import logging
import os
import warnings

import fabio
import h5py
import numpy

import common

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from pyFAI.diffmap import DiffMap

LIMIT = 1e-6
SHAPE = (190, 170)
SLOW, FAST = 2, 3
EMPTY = -7.0  # what pyFAI writes into bins without pixels, where a dummy is set


class Configurations(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        generator = numpy.random.default_rng(12)
        rows, columns = numpy.indices(SHAPE)
        radius = numpy.hypot(rows - 80.3, columns - 75.8)
        rings = 40 + 300 * numpy.exp(-((radius % 23 - 11) / 2.5) ** 2)
        cls.frames = []
        for index in range(SLOW * FAST):
            frame = generator.poisson(rings * (1 + 0.1 * index)).astype(numpy.int32)
            frame[generator.random(SHAPE) < 0.01] = int(EMPTY)
            name = cls.scratch / f"frame_{index + 1}.tif"
            fabio.tifimage.TifImage(data=frame).write(str(name))
            cls.frames.append(str(name))
        numpy.save(cls.scratch / "mask.npy", (generator.random(SHAPE) < 0.05).astype(numpy.uint8))
        numpy.save(cls.scratch / "flat.npy", generator.uniform(0.8, 1.2, SHAPE).astype(numpy.float32))
        for index in (1, 2):
            numpy.save(cls.scratch / f"dark_{index}.npy", generator.uniform(0, 3, SHAPE).astype(numpy.float32))

    def worker(self, **changes):
        """A configuration of version 5, as pyFAI writes it, with every correction that it has."""
        config = {
            "application": "worker", "version": 5,
            "poni": {"poni_version": 2.1, "dist": 0.11, "poni1": 0.0081, "poni2": 0.0099, "rot1": 0.02, "rot2": -0.03,
                     "rot3": 0.1, "detector": "Detector",
                     "detector_config": {"pixel1": 1e-4, "pixel2": 1.3e-4, "max_shape": list(SHAPE), "orientation": 3},
                     "wavelength": 5e-11},
            "nbpt_rad": 120, "nbpt_azim": None, "unit": "q_nm^-1", "chi_discontinuity_at_0": False,
            "polarization_description": [0.95, 0.0], "normalization_factor": 3.0, "val_dummy": EMPTY,
            "delta_dummy": 0.5, "correct_solid_angle": True,
            "dark_current": [str(self.scratch / "dark_1.npy"), str(self.scratch / "dark_2.npy")],
            "flat_field": [str(self.scratch / "flat.npy")], "mask_file": str(self.scratch / "mask.npy"),
            "error_model": "poisson", "method": ["bbox", "csr", "cython"], "opencl_device": None,
            "azimuth_range": None, "radial_range": None, "integrator_class": "AzimuthalIntegrator",
            "integrator_method": None, "extra_options": None, "monitor_name": None, "shape": list(SHAPE)}
        config.update(changes)
        return config

    def diffmap(self, name, worker):
        return {"diffmap_config_version": 1, "experiment_title": "Diffraction Mapping",
                "slow_motor": {"start": -1.0, "stop": 1.0, "points": SLOW, "name": "samy"},
                "fast_motor": {"start": 4.0, "stop": 5.0, "points": FAST, "name": "samz"},
                "offset": 0, "zigzag_scan": True, "ai": worker, "input_data": [[frame, None, None, None]
                                                                               for frame in self.frames],
                "output_file": str(self.scratch / f"{name}.h5")}

    def of_pyfai(self, name, file):
        """What pyFAI-diffmap makes of a configuration: intensity and errors [slow, fast, ...]."""
        output = self.scratch / f"{name}-pyfai.h5"
        mapper = DiffMap()
        with open(os.devnull, "w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            _, config = mapper.parse(["--config", str(file), "-o", str(output)], with_config=True)
            mapper.configure_worker(config.ai)
            mapper.makeHDF5(rewrite=True)
            mapper.process()
        with h5py.File(output) as result:
            group = result["entry_0000/pyFAI/result"]
            return group["intensity"][()], group["errors"][()] if "errors" in group else None

    def compare(self, name, config, *options, least=0.9):
        """Runs both programs and compares all bins with pixels."""
        file = self.scratch / f"{name}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        common.run("map", "--config", file, *options)
        volume = common.read_volume(self.scratch / f"{name}.h5")
        self.assertTrue((volume.status == common.OK).all())
        intensity, errors = self.of_pyfai(name, file)
        self.assertEqual(volume.intensity.shape, intensity.shape)
        filled = intensity != EMPTY
        largest = 0.0
        for ours, theirs in ((volume.intensity, intensity), (volume.errors, errors)):
            self.assertEqual(ours is None, theirs is None)
            if ours is None:
                continue
            scale = numpy.abs(theirs[filled].astype(float))
            difference = numpy.abs(ours[filled].astype(float) - theirs[filled])
            zero = scale == 0
            self.assertTrue((difference[zero] == 0).all())
            largest = max(largest, (difference[~zero] / scale[~zero]).max())
        print(f"{name}: {int(filled.sum())} bins, largest relative difference {largest:.2e}")
        self.assertGreater(filled.sum(), least * filled.size)
        self.assertLess(largest, LIMIT)
        return volume

    def test_one_dimension(self):
        for split in ("no", "bbox", "full"):
            with self.subTest(split=split):
                name = f"one-{split}"
                self.compare(name, self.diffmap(name, self.worker(method=[split, "csr", "cython"])))
                with h5py.File(self.scratch / f"{name}.h5") as result:
                    group = result[common.RESULT]
                    numpy.testing.assert_allclose(group["slow"][()], [-1, 1])
                    numpy.testing.assert_allclose(group["fast"][()], [4, 4.5, 5])
                    self.assertEqual(group["fast"].attrs["long_name"], "samz")

    def test_two_dimensions(self):
        for split in ("no", "bbox"):
            with self.subTest(split=split):
                name = f"two-{split}"
                self.compare(name, self.diffmap(name, self.worker(
                    method=[split, "csr", "cython"], nbpt_rad=40, nbpt_azim=18)), least=0.5)

    def test_azimuth_range_and_cut_at_zero(self):
        self.compare("range", self.diffmap("range", self.worker(
            azimuth_range=[20.0, 250.0], chi_discontinuity_at_0=True, method=["no", "csr", "cython"])))

    def test_sigma_clipping(self):
        options = {"integrator_method": "sigma_clip_ng", "method": ["no", "csr", "cython"],
                   "extra_options": {"thres": 4.0, "max_iter": 4}}
        self.compare("clip-poisson", self.diffmap("clip-poisson", self.worker(**options, error_model="poisson")))
        # pyFAI weighs the scatter in its own way, which --convention keeps.
        self.compare("clip-azimuthal", self.diffmap("clip-azimuthal", self.worker(**options, error_model="azimuthal")),
                     "--convention", "pyfai")

    def test_median_and_quantiles(self):
        # Without a dummy: pyFAI sorts such pixels as not-a-number, which leaves the others of their bins unsorted.
        options = {"integrator_method": "medfilt1d_ng", "val_dummy": None, "delta_dummy": None}
        self.compare("median", self.diffmap("median", self.worker(**options, method=["no", "csr", "cython"])),
                     "--convention", "pyfai")
        self.compare("quantiles", self.diffmap("quantiles", self.worker(
            **options, method=["full", "csr", "cython"], extra_options={"percentile": [30, 70]})),
            "--convention", "pyfai")

    def test_older_form_without_version(self):
        config = self.diffmap("older", self.worker(method=["no", "csr", "cython"], error_model="no"))
        del config["diffmap_config_version"]
        for axis, points in (("slow", SLOW), ("fast", FAST)):
            motor = config.pop(f"{axis}_motor")
            config[f"nbpt_{axis}"] = points
            config[f"{axis}_motor_name"] = motor["name"]
            config[f"{axis}_motor_range"] = [motor["start"], motor["stop"]]
        self.compare("older", config)

    def test_command_line_wins(self):
        file = self.scratch / "wins.json"
        file.write_text(json.dumps(self.diffmap("wins", self.worker())), encoding="utf-8")
        done = common.run("map", "--config", file, "--npt", 33, "--npt-azim", 6, "-o", self.scratch / "other.h5")
        self.assertIn("val_dummy", done.stderr)
        self.assertFalse((self.scratch / "wins.h5").exists())
        self.assertEqual(common.read_volume(self.scratch / "other.h5").intensity.shape, (SLOW, FAST, 6, 33))

    def test_written_configuration_is_read_again(self):
        """What a volume holds as its configuration gives the same numbers with --config."""
        file = self.scratch / "again.json"
        file.write_text(json.dumps(self.diffmap("again", self.worker())), encoding="utf-8")
        common.run("map", "--config", file)
        with h5py.File(self.scratch / "again.h5") as result:
            written = result["entry_0000/annulus/configuration/data"][()]
        own = self.scratch / "own.json"
        own.write_bytes(written)
        common.run("map", "--config", own, "-r", SLOW, "-t", FAST, "--zigzag", "-o", self.scratch / "own.h5",
                   *self.frames)
        self.assert_same_volume(common.read_volume(self.scratch / "again.h5"),
                                common.read_volume(self.scratch / "own.h5"), "own configuration")

    def test_unknown_and_unsupported_keys_are_told_together(self):
        config = self.diffmap("bad", self.worker(sensitivity=1, integrator_class="GoniometerIntegrator"))
        config["colour"] = "viridis"
        file = self.scratch / "bad.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        done = common.run("map", "--config", file, expect=common.EXIT_BAD_INPUT)
        for part in ("sensitivity", "GoniometerIntegrator", "colour"):
            self.assertIn(part, done.stderr)
        self.assertFalse((self.scratch / "bad.h5").exists())


if __name__ == "__main__":
    common.main()
