#!/usr/bin/env python3
"""The same frames give the same volume, bit for bit, however they are stored, and damage costs a frame, never a run.

No plugin of HDF5 is there for the program: what it reads does not depend on what is installed.
"""

import os

import common
import h5py
import hdf5plugin
import numpy

STORAGES = {
    "contiguous": {},
    "uncompressed": {"chunks": True},
    "bslz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bszstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "bitshuffle": hdf5plugin.Bitshuffle(cname="none"),
    "gzip": {"compression": "gzip", "compression_opts": 4},
    "gzip, shuffle": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "shuffle": {"shuffle": True},
    "LZ4": hdf5plugin.LZ4(),
    "LZ4, shuffle": {"shuffle": True, **hdf5plugin.LZ4(nbytes=65536)},
    "Zstandard": hdf5plugin.Zstd(),
    "Zstandard, shuffle": {"shuffle": True, **hdf5plugin.Zstd()},
    "bszstd, two frames a chunk": {"chunks": (2,), **hdf5plugin.Bitshuffle(cname="zstd")},
    "gzip, big-endian": {"compression": "gzip", "compression_opts": 1, "big_endian": True},
}
DIRECT = {
    "contiguous": "HDF5, contiguous",
    "uncompressed": "one frame a chunk, uncompressed",
    "bslz4": "one frame a chunk, bitshuffle + LZ4",
    "bszstd": "one frame a chunk, bitshuffle + Zstandard",
    "bitshuffle": "one frame a chunk, bitshuffle",
    "gzip": "one frame a chunk, deflate",
    "gzip, shuffle": "one frame a chunk, shuffle + deflate",
    "shuffle": "one frame a chunk, shuffle",
    "LZ4": "one frame a chunk, LZ4",
    "LZ4, shuffle": "one frame a chunk, shuffle + LZ4",
    "Zstandard": "one frame a chunk, Zstandard",
    "Zstandard, shuffle": "one frame a chunk, shuffle + Zstandard",
}


def store(path, frames, options):
    """Writes frames [n, rows, columns] as /entry/data/data."""
    options = dict(options)
    big_endian = options.pop("big_endian", False)
    chunks = options.pop("chunks", (1,) if options else None)
    if chunks is True:
        chunks = (1,)
    if chunks is not None:
        options["chunks"] = chunks + frames.shape[1:]
    dtype = frames.dtype.newbyteorder(">") if big_endian else frames.dtype
    with h5py.File(path, "w") as file:
        file.create_dataset("/entry/data/data", data=frames, dtype=dtype, **options)


class Storages(common.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scans = {}
        for dtype in ("uint16", "uint32"):
            scan = common.simulate(cls.scratch / dtype, 3, 4, "--dtype", dtype)
            with h5py.File(scan.master) as file:
                group = file["/entry/data"]
                frames = numpy.concatenate([group[name][()] for name in sorted(group)])
            # Half of the frames nearly empty: single counts go a way of their own.
            generator = numpy.random.default_rng(5)
            for frame in frames[::2]:
                frame[...] = numpy.where(generator.random(frame.shape) < 0.99, 0, frame)
            cls.scans[dtype] = scan, frames

    def integrate(self, scan, frames_file, backend, *more, expect=common.EXIT_OK):
        output = self.scratch / "volume.h5"
        done = common.run("tomo", "-p", scan.folder / "geometry.poni", "-r", scan.slow, "-t", scan.fast, "-c", 300,
                          "--error-model", "poisson", "--backend", backend, "--overwrite", "-o", output, *more,
                          frames_file, expect=expect, HDF5_PLUGIN_PATH=os.devnull)
        return done.stdout + done.stderr if "--dry-run" in more else common.read_volume(output)

    def test_the_same_bits_from_every_storage(self):
        compared = 0
        for dtype, (scan, frames) in self.scans.items():
            for backend in common.BACKENDS if dtype == "uint16" else ("openmp",):
                expected = None
                for name, options in STORAGES.items():
                    if backend != "openmp" and name not in ("contiguous", "bslz4", "bszstd", "gzip, shuffle"):
                        continue
                    path = self.scratch / "frames.h5"
                    store(path, frames, options)
                    if name in DIRECT:
                        self.assertIn(f"{DIRECT[name]}\n", self.integrate(scan, path, backend, "--dry-run"))
                    volume = self.integrate(scan, path, backend, "--threads", 1 + compared % 2)
                    self.assertTrue((volume.status == common.OK).all(), name)
                    expected = expected or volume
                    self.assert_same_volume(volume, expected, f"{dtype}, {backend}, {name}")
                    compared += 1
        self.assertEqual(compared, 2 * len(STORAGES) + 2 * 4)

    def test_a_damaged_chunk_costs_its_frame(self):
        scan, frames = self.scans["uint16"]
        whole = self.integrate(scan, self.stored(frames, "contiguous"), "openmp")
        for name in ("bszstd", "gzip, shuffle", "gzip", "Zstandard", "LZ4", "bszstd, two frames a chunk"):
            path = self.stored(frames, name)
            with h5py.File(path) as file:
                dataset = file["/entry/data/data"]
                lost = dataset.chunks[0]
                place = dataset.id.get_chunk_info_by_coord((6, 0, 0))
            with open(path, "r+b") as file:
                file.seek(place.byte_offset + 12)  # behind the head, where there is one
                file.write(bytes(64 * [0xff]))
            volume = self.integrate(scan, path, "openmp", expect=common.EXIT_SOME_FRAMES)
            status = volume.status.ravel()
            self.assertTrue((status[6:6 + lost] == common.UNREADABLE).all(), f"{name}: {status}")
            self.assertEqual((status == common.OK).sum(), status.size - lost, name)
            self.assertTrue(numpy.isnan(volume.intensity.reshape(status.size, -1)[6:6 + lost]).all(), name)
            good = volume.status == common.OK
            self.assert_same_bits(volume.intensity[good], whole.intensity[good], name)

    def stored(self, frames, name):
        path = self.scratch / "damaged.h5"
        store(path, frames, STORAGES[name])
        return path

    def test_a_dark_and_a_mask_behind_zstandard_need_no_plugin(self):
        scan, frames = self.scans["uint16"]
        path = self.stored(frames, "bslz4")
        images = {"plain": {}, "packed": {"chunks": (64, 64), **hdf5plugin.Bitshuffle(cname="zstd")}}
        volumes = []
        for name, options in images.items():
            with h5py.File(self.scratch / f"{name}.h5", "w") as file:
                mask = numpy.zeros(frames.shape[1:], dtype=numpy.int64)
                mask[:, ::7] = 1
                file.create_dataset("mask", data=mask, **options)
                file.create_dataset("dark", data=(mask + 1).astype(numpy.float32), **options)
            url = self.scratch / f"{name}.h5"
            volumes.append(self.integrate(scan, path, "openmp", "-m", f"{url}::/mask", "-d", f"{url}::/dark"))
        self.assert_same_volume(volumes[0], volumes[1], "mask and dark")


if __name__ == "__main__":
    common.main()
