#!/usr/bin/env python3
"""What the program says of itself, and what it leaves alone."""

import common


class CommandLine(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", 2, 3, detector="Pilatus100k")
        cls.output = cls.scratch / "volume.h5"

    def test_help_of_every_command_is_on_standard_output(self):
        for command in ("map", "tomo", "simulate"):
            with self.subTest(command):
                done = common.run(command, "--help")
                self.assertIn(f"usage: annulus {command}", done.stdout)
                self.assertEqual(done.stderr, "")

    def test_version(self):
        self.assertRegex(common.run("--version").stdout, r"^annulus \d+\.\d+\.\d+\n$")

    def test_devices_names_a_device_or_says_that_there_is_none(self):
        self.assertNotEqual(common.run("devices").stdout.strip(), "")
        common.run("devices", ranks=2)

    def test_dry_run_tells_what_it_understood_and_writes_nothing(self):
        before = sorted(self.scratch.rglob("*"))
        done = common.run(*self.scan.options(self.output, "--dry-run"), ranks=2)
        self.assertEqual(sorted(self.scratch.rglob("*")), before)
        for word in ("6 in 1 input", "2 rotation x 3 translation", "Pilatus100k", "195 x 487", "500 in 2th_deg", "MB",
                     "2 ranks"):
            self.assertIn(word, done.stdout)

    def test_results_go_to_standard_output_and_progress_to_standard_error(self):
        done = common.run(*self.scan.options(self.output), ranks=2)
        for stage in ("fetch", "decode", "integrate", "write", "all frames"):
            self.assertIn(stage, done.stdout)
            self.assertNotIn(stage, done.stderr)

    def test_a_finished_volume_is_resumed_to_itself(self):
        output = self.scratch / "finished.h5"
        common.run(*self.scan.options(output))
        volume = common.read_volume(output)
        common.run(*self.scan.options(output, "--resume"), ranks=3)
        self.assert_same_volume(common.read_volume(output), volume, "resumed")

    def test_overwrite_replaces_the_volume(self):
        output = self.scratch / "again.h5"
        common.run(*self.scan.options(output, bins=100))
        common.run(*self.scan.options(output, "--overwrite", bins=200), ranks=2)
        self.assertEqual(common.read_volume(output).intensity.shape, (2, 3, 200))


if __name__ == "__main__":
    common.main()
