#!/usr/bin/env python3
"""The simulated scan against its truth: the errors are those of counting, the mean is right, sigma says so.

What each bin must hold is computed here from truth.h5 alone: the noise-free patterns and path integrals give the
expected counts of every pixel, by pyFAI's geometry and not by annulus's, and pyFAI's matrix sums them into bins. What
is left between that and annulus's volume is Poisson noise of known size.
"""

import math
import warnings

import fabio
import h5py
import numpy

import common

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyFAI

BINS = 500
SLOW, FAST = 6, 6
# The median of |x| of a standard normal number, and the normal density there.
MEDIAN = 0.6744897501960817
DENSITY = math.exp(-MEDIAN * MEDIAN / 2) / math.sqrt(2 * math.pi)


class Truth(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scan = common.simulate(cls.scratch / "scan", SLOW, FAST)
        cls.expect()

    @classmethod
    def expect(cls):
        """Expected intensity, its standard deviation, and expected counts, each [points, bins]."""
        folder = cls.scan.folder
        integrator = pyFAI.load(str(folder / "geometry.poni"))
        with h5py.File(folder / "truth.h5") as truth:
            grid = truth["two_theta_deg"][()]
            patterns = truth["patterns"][()]
            background = truth["background"][()]
            paths = truth["path_integrals"][()].reshape(len(patterns), -1)
            monitor = truth["monitor"][()].ravel()
            hot = truth["hot_pixels"][()]
        mask = fabio.open(str(folder / "mask.tif")).data.copy()
        rows, columns = mask.shape

        # A pixel counts what falls on all of its area: Gauss's rule of 3 x 3 points, exact to the fifth order.
        reach = math.sqrt(0.6) / 2
        points = ((-reach, 5 / 18), (0.0, 8 / 18), (reach, 5 / 18))
        row, column = numpy.indices(mask.shape, dtype=float)
        images = numpy.zeros((len(patterns) + 1, rows, columns))
        for shift1, weight1 in points:
            for shift2, weight2 in points:
                two_theta = numpy.degrees(integrator.tth(row.ravel() + shift1, column.ravel() + shift2))
                for image, pattern in zip(images, [*patterns, background], strict=True):
                    image += weight1 * weight2 * numpy.interp(two_theta, grid, pattern).reshape(mask.shape)
        images *= integrator.solidAngleArray(mask.shape)

        # Saturated pixels are bad in every frame. A dummy leaves the bins' edges to the mask's pixels, as in annulus.
        dummy = -1.0
        cls.intensity, cls.sigma, cls.counts = [], [], []
        for point in range(SLOW * FAST):
            expected = monitor[point] * (numpy.tensordot(paths[:, point], images[:-1], 1) + images[-1])
            image = expected.copy()
            image.ravel()[hot] = dummy
            # Variance = expected counts: what the noise has, however few counts a pixel gets.
            result = integrator.integrate1d(image, BINS, unit="2th_deg", method=("bbox", "csr", "cython"), mask=mask,
                                            variance=expected, dummy=dummy, delta_dummy=0.5,
                                            normalization_factor=float(monitor[point]))
            cls.intensity.append(result.intensity)
            cls.sigma.append(result.sigma)
            cls.counts.append(result.sum_signal)
        cls.intensity, cls.sigma, cls.counts = (numpy.array(values, float) for values in
                                                (cls.intensity, cls.sigma, cls.counts))

    def integrate(self, backend):
        output = self.scratch / f"{backend}.h5"
        common.run(*self.scan.options(output, "--backend", backend, "--overwrite", bins=BINS), ranks=2)
        volume = common.read_volume(output)
        self.assertTrue((volume.status == common.OK).all())
        return volume.intensity.reshape(-1, BINS).astype(float), volume.errors.reshape(-1, BINS).astype(float)

    def test_errors_are_those_of_counting(self):
        # Chosen by the expected counts: the counts that were found would choose bins with luck.
        strong = self.counts > 1000
        self.assertGreater(strong.sum(), 0.8 * strong.size)
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                intensity, errors = self.integrate(backend)
                relative = numpy.abs(intensity - self.intensity)[strong] / self.intensity[strong]
                predicted = MEDIAN * (self.sigma / self.intensity)[strong]
                # The median of n numbers scatters by 1 / (2 density sqrt(n)); bbox splitting shares a pixel among up to
                # three bins, so at least a third of the bins count as independent. Five standard deviations.
                deviation = 1 / (2 * 2 * DENSITY * math.sqrt(strong.sum() / 3)) / MEDIAN
                ratio = float(numpy.median(relative / predicted))
                print(f"{backend}: median relative error {numpy.median(relative):.3%}, by Poisson "
                      f"{numpy.median(predicted):.3%}; ratio {ratio:.4f} +- {deviation:.4f}, {strong.sum()} bins")
                self.assertLess(abs(ratio - 1), 5 * deviation)

                # And the errors that annulus writes are those: they follow the found counts, scattering by 1 / sqrt(n)
                # around the expected ones, half of that in sigma. Their mean is lower by terms of 1 / (8 n) only.
                # Pixels without a count are taken as variance 1 by pyFAI's model, which annulus shares: it shows where
                # counts are below a few a pixel, so compare where there are many.
                many = strong & (self.intensity > 10)
                self.assertGreater(many.sum(), 100)
                written = float(numpy.median(errors[many] / self.sigma[many]))
                print(f"{backend}: sigma written / predicted {written:.4f} ({many.sum()} bins)")
                self.assertLess(abs(written - 1), 0.01)

    def test_no_bias(self):
        for backend in common.BACKENDS:
            with self.subTest(backend=backend):
                intensity, _ = self.integrate(backend)
                # Weighted with the counts each bin expects: the sum of counts found against expected.
                share = self.counts / self.counts.sum()
                bias = float((share * (intensity / self.intensity - 1))[self.counts > 0].sum())
                noise = 1 / math.sqrt(self.counts.sum())
                print(f"{backend}: bias {bias:+.2e} +- {noise:.1e}")
                # The noise of the sum itself must be small enough for 0.1 % to mean something.
                self.assertLess(5 * noise, 1e-3)
                self.assertLess(abs(bias), 1e-3)

                # On the flanks of rings a pattern shifted by a small part of a bin shows first: rising and falling
                # flanks apart, each within 0.1 % and its noise.
                slope = numpy.gradient(self.intensity, axis=1) / self.intensity
                for name, chosen in (("rising", slope > 0.05), ("falling", slope < -0.05)):
                    counts = self.counts[chosen]
                    self.assertGreater(counts.size, 500)
                    bias = float(((intensity / self.intensity - 1)[chosen] * counts).sum() / counts.sum())
                    # Neighbours share pixels, which only makes the sum's noise smaller than this.
                    noise = math.sqrt(((self.sigma / self.intensity)[chosen] ** 2 * counts**2).sum()) / counts.sum()
                    print(f"{backend}: bias on {name} flanks {bias:+.2e} +- {noise:.1e}, {counts.size} bins")
                    self.assertLess(abs(bias), 1e-3 + 4 * noise)


if __name__ == "__main__":
    common.main()
