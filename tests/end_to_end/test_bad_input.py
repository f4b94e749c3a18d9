#!/usr/bin/env python3
"""Bad input is told before any work: exit status 2, one message with what was found and expected, nothing written."""

import pathlib
import shutil

import h5py
import numpy

import common


def snapshot(folder):
    """Every file below `folder` with its size and time of change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


class BadInput(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Pilatus 100k is 195 x 487; the frames of the scan are small so that each case is quick.
        cls.scan = common.simulate(cls.scratch / "scan", 2, 3, detector="Pilatus100k")
        cls.poni = cls.scan.folder / "geometry.poni"
        cls.image = cls.scan.folder / "calibrant.tif"
        cls.output = cls.scratch / "out" / "volume.h5"
        cls.output.parent.mkdir()

    def refuse(self, *arguments, words, ranks=0, output=None, **environment):
        """Runs; expects exit 2, each of `words` on standard error, and no file made, changed or left."""
        before = snapshot(self.scratch)
        done = common.run(*arguments, ranks=ranks, expect=common.EXIT_BAD_INPUT, timeout=60, **environment)
        self.assertEqual(snapshot(self.scratch), before, "something was written")
        if output is not None:
            self.assertFalse(pathlib.Path(output).exists(), output)
        for word in words:
            self.assertIn(str(word), done.stderr)
        return done.stderr

    def tomo(self, *more, frames=None, poni=None, slow=2, fast=3, output=None):
        return ["tomo", "-p", poni or self.poni, "-r", slow, "-t", fast, "-c", 100, "-o", output or self.output, *more,
                *(frames or [self.scan.master])]

    def scratch_file(self, name, content=b""):
        path = self.scratch / name
        path.write_bytes(content)
        return path

    def test_the_same_options_without_a_fault_are_taken(self):
        # Else every refusal below could have another cause than the one it is about.
        output = self.scratch / "good.h5"
        common.run(*self.tomo(output=output))
        self.assertTrue((common.read_volume(output).status == common.OK).all())

    def test_an_instruction_set_that_is_none(self):
        for backend in ("openmp", "reference"):
            self.refuse(*self.tomo("--backend", backend), words=["ANNULUS_SIMD=avx1024", "plain"], output=self.output,
                        ANNULUS_SIMD="avx1024")

    def test_frame_file_absent(self):
        self.refuse(*self.tomo(frames=["no-such-frame.tif"]), words=["no-such-frame.tif"], output=self.output)

    def test_frame_file_that_is_no_image(self):
        text = self.scratch_file("notes.tif", b"these are notes, not an image\n" * 40)
        self.refuse(*self.tomo(frames=[text]), words=["notes.tif"], output=self.output)

    def test_hdf5_frame_file_that_is_no_hdf5(self):
        text = self.scratch_file("notes.h5", b"these are notes, not an image\n" * 40)
        self.refuse(*self.tomo(frames=[text]), words=["notes.h5"], output=self.output)

    def test_empty_frame_file(self):
        self.refuse(*self.tomo(frames=[self.scratch_file("empty.tif")]), words=["empty.tif"], output=self.output)

    def test_truncated_tiff(self):
        whole = self.image.read_bytes()
        for name, length in (("cut-in-half.tif", len(whole) // 2), ("cut-after-header.tif", 16)):
            with self.subTest(name):
                cut = self.scratch_file(name, whole[:length])
                self.refuse(*self.tomo(frames=[cut], slow=1, fast=1), words=[name], output=self.output)

    def test_truncated_hdf5(self):
        with h5py.File(self.scratch / "frames.h5", "w") as file:
            file["entry/data/data"] = numpy.ones((6, 195, 487), numpy.uint16)
        whole = (self.scratch / "frames.h5").read_bytes()
        cut = self.scratch_file("cut.h5", whole[:len(whole) // 2])
        self.refuse(*self.tomo(frames=[cut]), words=["cut.h5"], output=self.output)

    def test_image_shape_against_detector(self):
        other = self.scratch / "pilatus1m.poni"
        other.write_text("poni_version: 2\nDetector: Pilatus1M\nDetector_config: {}\nDistance: 0.2\nPoni1: 0.08\n"
                         "Poni2: 0.08\nRot1: 0\nRot2: 0\nRot3: 0\nWavelength: 2e-11\n")
        self.refuse(*self.tomo(poni=other), words=["scan_master.h5", "195", "487", "1043", "981"], output=self.output)

    def test_dataset_path_wrong(self):
        self.refuse(*self.tomo("--data", "/entry/no/such/data"), words=["scan_master.h5", "/entry/no/such/data"],
                    output=self.output)

    def test_dataset_that_holds_no_frames(self):
        with h5py.File(self.scratch / "text.h5", "w") as file:
            file["entry/title"] = "only a title"
        self.refuse(*self.tomo(frames=[self.scratch / "text.h5"]), words=["text.h5"], output=self.output)

    def test_monitor_path_wrong(self):
        self.refuse(*self.tomo("--monitor", "/entry/no/monitor"), words=["/entry/no/monitor"], output=self.output)

    def test_broken_external_link(self):
        folder = self.scratch / "linked"
        shutil.copytree(self.scan.folder, folder)
        data_file = sorted(folder.glob("data_*.h5"))[0]
        data_file.unlink()
        try:
            self.refuse(*self.tomo(frames=[folder / "scan_master.h5"]), words=["scan_master.h5", data_file.name],
                        output=self.output)
        finally:
            shutil.rmtree(folder)

    def test_mask_of_another_shape(self):
        numpy.save(self.scratch / "mask.npy", numpy.zeros((10, 20), numpy.uint8))
        self.refuse(*self.tomo("-m", self.scratch / "mask.npy"), words=["mask.npy", "10", "20", "195", "487"],
                    output=self.output)

    def test_dark_and_flat_of_another_shape(self):
        for option in ("-d", "-f"):
            with self.subTest(option):
                numpy.save(self.scratch / "image.npy", numpy.ones((10, 20)))
                self.refuse(*self.tomo(option, self.scratch / "image.npy"), words=["image.npy", "10", "20", "195",
                                                                                   "487"], output=self.output)

    def test_mask_absent(self):
        self.refuse(*self.tomo("-m", "no-mask.tif"), words=["no-mask.tif"], output=self.output)

    def test_mask_of_everything(self):
        numpy.save(self.scratch / "full.npy", numpy.ones((195, 487), numpy.uint8))
        self.refuse(*self.tomo("-m", self.scratch / "full.npy"), words=["pixel"], output=self.output)

    def test_poni_absent(self):
        self.refuse(*self.tomo(poni="no-geometry.poni"), words=["no-geometry.poni"], output=self.output)

    def test_no_poni_given(self):
        self.refuse("tomo", "-r", 2, "-t", 3, "-o", self.output, self.scan.master, words=["poni"], output=self.output)

    def test_no_frames_given(self):
        arguments = self.tomo()[:-1]
        self.refuse(*arguments, words=[], output=self.output)

    def test_unknown_unit(self):
        self.refuse(*self.tomo("--unit", "furlong"), words=["furlong", "2th_deg", "q_nm^-1"], output=self.output)

    def test_unknown_detector(self):
        poni = self.scratch / "pilatos.poni"
        poni.write_text(self.poni.read_text().replace("Pilatus100k", "Pilatos99k"))
        self.refuse(*self.tomo(poni=poni), words=["Pilatos99k"], output=self.output)

    def test_unknown_detector_to_simulate(self):
        self.refuse("simulate", "-o", self.scratch / "never", "--slow", 2, "--fast", 2, "--detector", "Pilatos99k",
                    words=["Pilatos99k"], output=self.scratch / "never")

    def test_unknown_words_for_options(self):
        for option, value, expected in (("--split", "half", "bbox"), ("--error-model", "gauss", "poisson"),
                                        ("--backend", "fortran", "openmp")):
            with self.subTest(option):
                self.refuse(*self.tomo(option, value), words=[value, expected], output=self.output)

    def test_numbers_that_are_none_or_out_of_range(self):
        for option, value in (("-c", "0"), ("-c", "many"), ("-c", "-5"), ("--batch", "0"), ("--batch", "few"),
                              ("--polarization", "1.5"), ("--polarization", "strong")):
            with self.subTest(f"{option} {value}"):
                arguments = self.tomo()
                if option == "-c":
                    arguments[arguments.index("-c") + 1] = value
                else:
                    arguments[-1:-1] = [option, value]
                self.refuse(*arguments, words=[value], output=self.output)

    def test_grid_of_nothing(self):
        self.refuse(*self.tomo(slow=0), words=["0"], output=self.output)

    def test_unknown_option(self):
        self.refuse(*self.tomo("--colour", "blue"), words=["--colour"], output=self.output)

    def test_unknown_command(self):
        self.refuse("tomato", words=["tomato"])

    def test_more_frames_than_grid(self):
        self.refuse(*self.tomo(fast=2), words=["6", "4"], output=self.output)

    def test_output_that_exists(self):
        path = self.scratch_file("precious.h5", b"the only copy of last night's data")
        self.refuse(*self.tomo(output=path), words=["precious.h5", "--overwrite"])
        self.assertEqual(path.read_bytes(), b"the only copy of last night's data")

    def test_output_folder_that_is_a_file(self):
        # Permissions do not stop root, a regular file in the place of a folder stops everyone.
        blocked = self.scratch_file("folder", b"") / "volume.h5"
        self.refuse(*self.tomo(output=blocked), words=["volume.h5"])

    def test_output_folder_that_takes_no_files(self):
        self.refuse(*self.tomo(output="/proc/volume.h5"), words=["/proc"])

    def test_output_folder_absent(self):
        self.refuse(*self.tomo(output=self.scratch / "no" / "such" / "volume.h5"), words=["no/such"])

    def test_resume_of_a_file_that_is_no_volume(self):
        path = self.scratch_file("other.h5", b"not a volume at all")
        self.refuse(*self.tomo("--resume", output=path), words=["other.h5"])

    def test_resume_with_other_settings(self):
        path = self.scratch / "settings.h5"
        common.run(*self.tomo(output=path))
        self.refuse(*self.tomo("--resume", "--unit", "q_nm^-1", output=path), words=["settings.h5"])

    def test_resume_of_a_file_that_is_not_there(self):
        self.refuse(*self.tomo("--resume"), words=["volume.h5", "resume"], output=self.output)

    def test_resume_with_another_monitor(self):
        # Half of a volume divided by the monitor and half not would look right and be wrong.
        path = self.scratch / "monitor.h5"
        common.run(*self.tomo("--monitor", "/entry/monitor/data", output=path))
        self.refuse(*self.tomo("--resume", output=path), words=["monitor.h5", "monitor"])

    def test_overwrite_spares_the_file_until_the_input_is_good(self):
        path = self.scratch_file("kept.h5", b"the only copy of last night's data")
        self.refuse(*self.tomo("--overwrite", frames=["no-such-frame.tif"], output=path), words=["no-such-frame.tif"])
        self.refuse(*self.tomo("--overwrite", "--backend", "opencl", output=path), words=["OpenCL"],
                    OCL_ICD_VENDORS="/nonexistent", OPENCL_VENDOR_PATH="/nonexistent")
        self.assertEqual(path.read_bytes(), b"the only copy of last night's data")

    def test_overwrite_of_an_input(self):
        self.refuse(*self.tomo("--overwrite", output=self.scan.master), words=["scan_master.h5", "input"])

    def test_overwrite_of_the_geometry_or_the_mask(self):
        mask = self.scan.folder / "mask.tif"
        for path in (self.poni, mask):
            with self.subTest(path.name):
                before = path.read_bytes()
                self.refuse(*self.tomo("-m", mask, "--overwrite", output=path), words=[path.name, "input"])
                self.assertEqual(path.read_bytes(), before)

    def test_output_that_is_no_file(self):
        self.refuse(*self.tomo("--overwrite", output="/dev/null"), words=["/dev/null", "no file"])

    def test_resume_of_a_map_as_a_tomography(self):
        path = self.scratch / "map.h5"
        command, *rest = self.tomo(output=path)
        self.assertEqual(command, "tomo")
        common.run("map", *rest)
        self.refuse(*self.tomo("--resume", output=path), words=["map.h5", "kind"])

    def test_opencl_without_a_device(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.refuse(*self.tomo("--backend", "opencl"), words=["OpenCL"], output=self.output, ranks=ranks,
                            OCL_ICD_VENDORS="/nonexistent", OPENCL_VENDOR_PATH="/nonexistent")

    def test_opencl_device_that_is_not_there(self):
        self.refuse(*self.tomo("--backend", "opencl", "--device", "9:9"), words=["9:9"], output=self.output)

    def test_contradictory_options(self):
        for options in (("--resume", "--overwrite"), ("--radial-range", 20, 5)):
            with self.subTest(options):
                self.refuse(*self.tomo(*options), words=[options[0]], output=self.output)

    def test_q_without_a_wavelength(self):
        poni = self.scratch / "colourless.poni"
        poni.write_text("".join(line for line in self.poni.read_text().splitlines(keepends=True)
                                if not line.lower().startswith("wavelength")))
        self.refuse(*self.tomo("--unit", "q_nm^-1", poni=poni), words=["wavelength"], output=self.output)

    def test_all_problems_are_told_at_once(self):
        self.refuse(*self.tomo("--unit", "furlong", "-m", "no-mask.tif", frames=["no-such-frame.tif"]),
                    words=["furlong", "no-mask.tif", "no-such-frame.tif"], output=self.output)

    def test_ranks_tell_it_once(self):
        told = self.refuse(*self.tomo(frames=["no-such-frame.tif"]), words=["no-such-frame.tif"], ranks=3,
                           output=self.output)
        self.assertEqual(told.count("no-such-frame.tif"), 1, told)


if __name__ == "__main__":
    common.main()
