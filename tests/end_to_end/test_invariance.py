#!/usr/bin/env python3
"""A frame's numbers depend on nothing but the frame: bit for bit the same for any ranks, threads and batches."""

import os

import numpy

import common


class Invariance(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # 35 frames: not divisible by 2, 3 or 4 ranks, by a batch of 32, nor rows (5) by the ranks.
        cls.scan = common.simulate(cls.scratch / "scan", 5, 7)
        cls.undisturbed = {}
        for backend in common.BACKENDS:
            cls.undisturbed[backend] = cls.integrate(backend, "base")

    @classmethod
    def integrate(cls, backend, name, *more, ranks=1, threads=2):
        output = cls.scratch / f"{backend}-{name}.h5"
        done = common.run(*cls.scan.options(output, "--backend", backend, *more), ranks=ranks, OMP_NUM_THREADS=threads)
        # Backends that agree bit for bit would hide that another one than asked for did the work.
        assert f" on {backend} (" in done.stdout, done.stdout
        volume = common.read_volume(output)
        os.unlink(output)
        return volume

    def check(self, name, *more, **how):
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                volume = self.integrate(backend, name, *more, **how)
                self.assert_same_volume(volume, self.undisturbed[backend], f"{backend}, {name}")

    def test_the_volume_compared_is_full_and_not_constant(self):
        for backend in common.BACKENDS:
            volume = self.undisturbed[backend]
            self.assertEqual(volume.intensity.shape, (5, 7, 500))
            self.assertTrue((volume.status == common.OK).all())
            self.assertTrue(numpy.isfinite(volume.intensity).all())
            self.assertTrue(numpy.isfinite(volume.errors).all())
            # Poisson noise makes any two frames differ: were they equal, mixed-up frames would pass unseen.
            patterns = volume.intensity.reshape(-1, 500)
            self.assertEqual(len(numpy.unique(patterns, axis=0)), 35)

    def test_two_ranks(self):
        self.check("2-ranks", ranks=2)

    def test_three_ranks(self):
        self.check("3-ranks", ranks=3)

    def test_four_ranks(self):
        self.check("4-ranks", ranks=4)

    def test_batch_of_1(self):
        self.check("batch-1", "--batch", 1)

    def test_batch_of_7(self):
        self.check("batch-7", "--batch", 7)

    def test_batch_of_32(self):
        self.check("batch-32", "--batch", 32)

    def test_one_openmp_thread(self):
        self.check("1-thread", threads=1)

    def test_threads_by_option(self):
        self.check("threads-option", "--threads", 1)

    def test_all_at_once(self):
        self.check("mixed", "--batch", 7, ranks=3, threads=1)

    def test_a_scan_that_is_not_in_the_page_cache(self):
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                for file in self.scan.folder.glob("data_*.h5"):
                    descriptor = os.open(file, os.O_RDONLY)
                    os.fdatasync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(descriptor)
                volume = self.integrate(backend, "cold", "--batch", 2, threads=1)
                self.assert_same_volume(volume, self.undisturbed[backend], f"{backend}, cold")

    def test_without_mpirun(self):
        self.check("singleton", ranks=0)

    def test_a_zigzag_scan_of_the_same_frames_is_mirrored_on_odd_lines(self):
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                volume = self.integrate(backend, "zigzag", "--zigzag", ranks=2)
                expected = self.undisturbed[backend].intensity.copy()
                expected[1::2] = expected[1::2, ::-1]
                self.assert_same_bits(volume.intensity, expected, "zigzag")

    def test_backends_agree(self):
        # Weights are float32 in every backend, so a weight may differ by one rounding, 2^-24 of itself, and the sums of
        # compensated or float64 products by no more; intensity and sigma are then rounded to float32 once more. A bin's
        # ratio S / N takes two such sums, plus rounding: 4 x 2^-24 = 2.4e-7. 1e-6 is what DESIGN.md promises.
        reference = self.undisturbed["reference"]
        for backend in ("openmp", "opencl"):
            volume = self.undisturbed[backend]
            for name in ("intensity", "errors"):
                left, right = getattr(volume, name).astype(float), getattr(reference, name).astype(float)
                compared = right > 0
                self.assertGreater(compared.sum(), 0.9 * compared.size)
                difference = numpy.abs(left[compared] / right[compared] - 1).max()
                print(f"{backend} against reference, {name}: largest relative difference {difference:.2e}")
                self.assertLess(difference, 1e-6)
                numpy.testing.assert_array_equal(left[~compared], right[~compared])


if __name__ == "__main__":
    common.main()
