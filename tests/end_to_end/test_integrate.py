#!/usr/bin/env python3
"""Single images to pattern files: the numbers are pyFAI's within 1e-6, and text and HDF5 open in what users have.

Where 1e-6 comes from: see test_pyfai.py. Text adds nothing to it: nine digits hold a float32 exactly.
"""

import json
import warnings

import fabio
import h5py
import numpy
from silx.io import nxdata

import common

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyFAI
    from pyFAI.io.nexus import Nexus, save_NXazint1d

LIMIT = 1e-6
BINS = 400


def read_xy(path):
    """The columns of a text file, with the names that the last comment gives them, and the comments."""
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    names = comments[-1].lstrip("#").split()
    columns = numpy.loadtxt(path, ndmin=2).T
    assert len(names) == len(columns), (names, columns.shape)
    return dict(zip(names, columns)), comments


class Integrate(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", 1, 3, "--map")
        cls.poni = cls.scan.folder / "geometry.poni"
        cls.mask_file = cls.scan.folder / "mask.tif"
        cls.integrator = pyFAI.load(str(cls.poni))
        cls.mask = fabio.open(str(cls.mask_file)).data
        with h5py.File(cls.scan.folder / "data_000001.h5") as file:
            found = []
            file.visititems(lambda name, item: found.append(item[()])
                            if isinstance(item, h5py.Dataset) and item.ndim == 3 else None)
            cls.frames = found[0]
        # Frame 0 as each format has it; saturated pixels (65535) keep their type, and are left out.
        cls.images = {suffix: cls.scratch / f"image{suffix}" for suffix in (".tif", ".edf", ".npy", ".h5")}
        fabio.tifimage.tifimage(data=cls.frames[0]).write(str(cls.images[".tif"]))
        fabio.edfimage.edfimage(data=cls.frames[0]).write(str(cls.images[".edf"]))
        numpy.save(cls.images[".npy"], cls.frames[0])
        with h5py.File(cls.images[".h5"], "w") as file:
            file["entry/data/data"] = cls.frames[0]
        assert (cls.frames[0] == 65535).any(), "no saturated pixel: the rule for them is not tested"

    def options(self, output, *more, bins=BINS):
        return ["integrate", "-p", self.poni, "-m", self.mask_file, "-c", bins, "-o", output, *more]

    def expected(self, frame=0, bins=BINS, **arguments):
        settings = {"unit": "2th_deg", "method": ("bbox", "csr", "cython"), "error_model": "poisson"}
        settings.update(arguments)
        return self.integrator.integrate1d(self.frames[frame], bins, mask=self.mask, dummy=65535, delta_dummy=0.5,
                                           **settings)

    def assert_close(self, ours, theirs, filled, what):
        self.assertGreater(int(filled.sum()), 0.9 * filled.size, what)
        theirs = theirs[filled].astype(float)
        difference = numpy.abs(ours[filled].astype(float) / theirs - 1).max()
        self.assertLess(difference, LIMIT, what)
        print(f"{what}: {int(filled.sum())} bins, largest relative difference {difference:.2e}")

    def test_every_format_to_text(self):
        expected = self.expected(polarization_factor=0.95, normalization_factor=2.5)
        for suffix, image in self.images.items():
            with self.subTest(suffix=suffix):
                output = self.scratch / f"from{suffix}.xy"
                common.run(*self.options(output, "--error-model", "poisson", "--std", "--polarization", 0.95,
                                         "--normalization", 2.5, image))
                columns, comments = read_xy(output)
                self.assertEqual(list(columns), ["2th_deg", "I", "sigma", "std"])
                numpy.testing.assert_allclose(columns["2th_deg"], expected.radial, rtol=1e-8)
                filled = expected.count > 0
                self.assert_close(columns["I"], expected.intensity, filled, f"{suffix}: intensity")
                self.assert_close(columns["sigma"], expected.sem, filled, f"{suffix}: sigma")
                self.assert_close(columns["std"], expected.std, filled, f"{suffix}: std")
                header = "\n".join(comments)
                for line in (f"# Image: {image}", f"# Mask applied: {self.mask_file}", "# Polarization factor: 0.95",
                             "# Normalization factor: 2.5", "# Error model: poisson"):
                    self.assertIn(line, header)
                distance = next(line for line in comments if line.startswith("# Distance:"))
                self.assertAlmostEqual(float(distance.split(":")[1]), self.integrator.dist, places=12)

    def test_text_without_errors_has_two_columns(self):
        output = self.scratch / "plain.xy"
        common.run(*self.options(output, "--unit", "q_A^-1", self.images[".tif"]))
        columns, _ = read_xy(output)
        self.assertEqual(list(columns), ["q_A^-1", "I"])
        expected = self.expected(unit="q_A^-1", error_model=None)
        numpy.testing.assert_allclose(columns["q_A^-1"], expected.radial, rtol=1e-8)
        self.assert_close(columns["I"], expected.intensity, expected.count > 0, "intensity")

    def test_frames_of_a_stack_to_nxazint1d(self):
        output = self.scratch / "stack.h5"
        common.run(*self.options(output, "--error-model", "poisson", "--std", self.scan.master))
        theirs = self.scratch / "theirs.h5"
        results = [self.expected(frame) for frame in range(3)]
        save_NXazint1d(str(theirs), results)
        with h5py.File(output) as file, h5py.File(theirs) as reference:
            self.check_like_pyfai(file["entry"], reference["entry"])
            data = file["entry/data"]
            for frame, result in enumerate(results):
                filled = result.count > 0
                self.assert_close(data["I"][frame], result.intensity, filled, f"frame {frame}: intensity")
                self.assert_close(data["I_errors"][frame], result.sem, filled, f"frame {frame}: errors")
                self.assert_close(data["I_std"][frame], result.std, filled, f"frame {frame}: std")
            numpy.testing.assert_allclose(data["radial_axis"], results[0].radial, rtol=1e-12)
            default = nxdata.get_default(file)
            self.assertTrue(default is not None and default.is_valid, "silx refuses the default plot")
            self.assertEqual((default.signal.shape, default.interpretation), ((3, BINS), "spectrum"))
            self.assertEqual(default.errors.shape, (3, BINS))
        # pyFAI finds the entry, and appends to the file as to one of its own.
        with Nexus(str(output), "r") as nexus:
            self.assertEqual([entry.name for entry in nexus.get_entries()], ["/entry"])
        save_NXazint1d(str(output), results[:1], mode="a")
        with h5py.File(output) as file:
            self.assertEqual(file["entry/data/I"].shape, (4, BINS))

    def check_like_pyfai(self, ours, theirs):
        """Every group, dataset and attribute that pyFAI writes is there, of the same kind; what no program can know of
        a sample, and the counts of pixels, are left out."""
        compared = 0

        def visit(name, node):
            nonlocal compared
            if name in ("data/norm", "sample", "sample/name", "pyFAI/integrate/metadata",
                        "pyFAI/integrate/method_called", "pyFAI/integrate/integration_method"):
                return
            self.assertIn(name, ours)
            self.assertEqual(type(ours[name]), type(node), name)
            if isinstance(node, h5py.Dataset):
                self.assertEqual(ours[name].dtype.kind, node.dtype.kind, name)
                self.assertEqual(ours[name].shape, node.shape, name)
            for attribute, value in node.attrs.items():
                if attribute != "doc":
                    numpy.testing.assert_array_equal(ours[name].attrs.get(attribute), value,
                                                     err_msg=f"{name}@{attribute}")
            compared += 1

        theirs.visititems(visit)
        self.assertGreater(compared, 30)
        self.assertEqual(ours["definition"][()], theirs["definition"][()])
        self.assertEqual(ours["solid_angle_applied"][()], theirs["solid_angle_applied"][()])
        for name in ("wavelength", "energy"):
            self.assertAlmostEqual(ours[f"instrument/monochromator/{name}"][()],
                                   theirs[f"instrument/monochromator/{name}"][()], places=10)
        poni = json.loads(ours["pyFAI/poni/data"][()])
        self.assertEqual(poni["dist"], json.loads(theirs["pyFAI/poni/data"][()])["dist"])

    def test_cake_to_nxazint2d(self):
        output = self.scratch / "cake.h5"
        common.run(*self.options(output, "--npt-azim", 12, "--error-model", "poisson", self.images[".tif"], bins=50))
        expected = self.integrator.integrate2d(
            self.frames[0], 50, 12, unit="2th_deg", method=("bbox", "csr", "cython"), error_model="poisson",
            mask=self.mask, dummy=65535, delta_dummy=0.5)
        with h5py.File(output) as file:
            entry, data = file["entry"], file["entry/data"]
            self.assertEqual(entry["definition"][()].decode(), "NXazint2d")
            self.assertEqual(list(data.attrs["axes"]), [".", "azimuthal_axis", "radial_axis"])
            self.assertEqual((data["I"].shape, data["I_errors"].shape), ((1, 12, 50), (1, 12, 50)))
            self.assertEqual(data["azimuthal_axis"].attrs["units"], "degrees")
            numpy.testing.assert_allclose(data["radial_axis"], expected.radial, rtol=1e-9)
            numpy.testing.assert_allclose(data["azimuthal_axis"], expected.azimuthal, rtol=1e-6)
            filled = expected.count > 0
            ours, theirs = data["I"][0][filled].astype(float), expected.intensity[filled].astype(float)
            self.assertGreater(ours.size, 100)
            positive = theirs > 0
            self.assertLess(numpy.abs(ours[positive] / theirs[positive] - 1).max(), LIMIT)
            numpy.testing.assert_array_equal(ours[~positive], 0)
            default = nxdata.get_default(file)
            self.assertTrue(default is not None and default.is_valid, "silx refuses the default plot")
            self.assertEqual((default.signal.shape, default.interpretation), ((1, 12, 50), "image"))

    def test_folder_gets_a_file_an_image_on_any_number_of_ranks(self):
        images = [self.images[".tif"], self.images[".h5"], self.scan.master]
        texts = {}
        for ranks in (0, 3):
            folder = self.scratch / f"folder{ranks}"
            # One rank more than images: one has nothing to do.
            common.run(*self.options(f"{folder}/", "--backend", "reference", images[0], images[2]), ranks=ranks)
            self.assertEqual(sorted(path.name for path in folder.iterdir()),
                             ["image.xy", "scan_master_0000.xy", "scan_master_0001.xy", "scan_master_0002.xy"])
            texts[ranks] = [path.read_text().splitlines()[-BINS:] for path in sorted(folder.iterdir())]
        self.assertEqual(texts[0], texts[3])
        self.assertEqual(texts[0][0], texts[0][1], "frame 0 of the stack is the image")
        # Names that two images would share are told before any work.
        done = common.run(*self.options(f"{self.scratch / 'twice'}/", *images), expect=common.EXIT_BAD_INPUT)
        self.assertIn("would both become", done.stderr)
        self.assertFalse((self.scratch / "twice").exists())

    def test_one_file_of_all_images_on_any_number_of_ranks(self):
        found = {}
        for ranks in (0, 3):
            output = self.scratch / f"all{ranks}.h5"
            common.run(*self.options(output, "--backend", "reference", self.scan.master, self.images[".tif"],
                                     self.images[".npy"]), ranks=ranks)
            with h5py.File(output) as file:
                found[ranks] = (file["entry/data/I"][()], file["entry/annulus/input/images"][()].decode().splitlines())
        self.assert_same_bits(found[0][0], found[3][0], "intensity")
        self.assertEqual(found[0][1], found[3][1])
        self.assertEqual(found[0][1], [str(self.images[".npy"]), str(self.images[".tif"])]
                         + [f"{self.scan.master}, frame {frame}" for frame in range(3)])

    def test_a_bad_image_costs_no_other_its_pattern(self):
        broken = self.scratch / "broken.tif"
        broken.write_bytes(self.images[".tif"].read_bytes()[:5000])
        small = self.scratch / "small.npy"
        numpy.save(small, numpy.ones((10, 10), numpy.uint16))
        output = self.scratch / "some.h5"
        done = common.run(*self.options(output, broken, self.images[".tif"], small, self.scratch / "absent.tif"),
                          ranks=2, expect=common.EXIT_SOME_FRAMES)
        for text in ("broken.tif", "small.npy: found 10 x 10 pixels", "absent.tif"):
            self.assertIn(text, done.stderr)
        with h5py.File(output) as file:
            self.assertEqual(file["entry/data/I"].shape, (1, BINS))
        # None that is good: bad input, and nothing is written.
        output = self.scratch / "none.h5"
        common.run(*self.options(output, broken), expect=common.EXIT_BAD_INPUT)
        self.assertFalse(output.exists())

    def test_output_is_checked_before_any_work(self):
        image = self.images[".tif"]
        existing = self.scratch / "existing.xy"
        existing.write_text("a night of data")
        cases = [(self.options(existing, image), "--overwrite replaces it"),
                 (self.options(self.scratch / "out.png", image), "ends in .xy or .h5"),
                 (self.options(self.scratch / "absent" / "out.xy", image), "does not exist"),
                 (self.options(self.scratch / "two.xy", image, self.images[".npy"]), "found 2 images"),
                 (self.options(self.scratch / "stack.xy", self.scan.master), "holds 3 frames"),
                 (self.options(self.scratch / "cake.xy", "--npt-azim", 12, image), "no azimuthal bins"),
                 (self.options(self.images[".h5"], "--overwrite", self.images[".h5"]), "is one of the inputs"),
                 (["integrate", image], "--output is missing")]
        for arguments, message in cases:
            with self.subTest(message=message):
                done = common.run(*arguments, expect=common.EXIT_BAD_INPUT)
                self.assertIn(message, done.stderr)
        self.assertEqual(existing.read_text(), "a night of data")
        common.run(*self.options(existing, "--overwrite", image))
        self.assertEqual(len(read_xy(existing)[0]["I"]), BINS)


if __name__ == "__main__":
    common.main()
