#!/usr/bin/env python3
"""Writes pyfai_configurations.hpp: configurations of every version as pyFAI writes them, and how pyFAI reads them.

One configuration of version 1 is brought to versions 2, 3 and 4 by pyFAI's own upgrade, and to 5 by its writer; others
of version 5 and of pyFAI-diffmap are made by its classes. What is expected is what pyFAI's reader makes of the text.

Usage: pyfai_configurations.py > pyfai_configurations.hpp      (made with pyFAI 2026.9.0)
"""
import json
import logging

logging.disable(logging.CRITICAL)

# pylint: disable=wrong-import-position
import pyFAI
from pyFAI.diffmap import DiffMap
from pyFAI.io import integration_config
from pyFAI.io.diffmap_config import DiffmapConfig, ListDataSet, MotorRange
from pyFAI.io.integration_config import WorkerConfig
from pyFAI.io._json import json_dumps

GEOMETRY = {"dist": 0.2125, "poni1": 0.0631, "poni2": 0.0587, "rot1": 0.013, "rot2": -0.021, "rot3": 0.3,
            "wavelength": 4.2e-11}

VERSION_1 = {
    **GEOMETRY, "detector": "pilatus1m", "pixel1": 1.72e-4, "pixel2": 1.72e-4, "splineFile": "",
    "nbpt_rad": 777, "nbpt_azim": 36, "do_2D": True, "unit": "q_nm^-1", "chi_discontinuity_at_0": True,
    "do_polarization": True, "polarization_factor": 0.97, "do_dummy": True, "val_dummy": -7.0, "delta_dummy": 0.25,
    "do_mask": True, "mask_file": "mask.edf", "do_dark": True, "dark_current": "d1.edf, d2.edf",
    "do_flat": False, "flat_field": "unused.edf", "do_solid_angle": True, "do_radial_range": True,
    "radial_range_min": 3.0, "radial_range_max": 41.5, "do_azimuthal_range": True, "azimuth_range_min": 20.0,
    "azimuth_range_max": 300.0, "error_model": "azimuthal", "method": "full_csr", "do_OpenCL": False}

SWITCHED_OFF = {
    **GEOMETRY, "detector": "detector", "pixel1": 1e-4, "pixel2": 2e-4, "shape": [200, 100],
    "nbpt_rad": 400, "nbpt_azim": 1, "do_2D": False, "unit": "2th_rad", "chi_discontinuity_at_0": False,
    "do_polarization": False, "polarization_factor": 0.5, "do_dummy": False, "val_dummy": -1.0, "delta_dummy": 2.0,
    "do_mask": False, "mask_file": "m.edf", "do_dark": False, "dark_current": "d.edf", "do_flat": False,
    "flat_field": "f.edf", "do_solid_angle": True, "do_radial_range": False, "radial_range_min": 1.0,
    "radial_range_max": 2.0, "do_azimuthal_range": False, "azimuth_range_min": 1.0, "azimuth_range_max": 2.0,
    "error_model": "None", "method": "splitbbox"}


def plain(config):
    """Through JSON and back: what a file would hold."""
    return json.loads(json_dumps(config))


def upgraded(config, version):
    return plain(integration_config.normalize(config, target_version=version))


def worker(**settings):
    config = WorkerConfig(poni=pyFAI.io.ponifile.PoniFile({
        "poni_version": 2.1, **GEOMETRY, "detector": "Eiger4M", "detector_config": {"orientation": 2}}))
    config.unit = pyFAI.units.to_unit(settings.pop("unit", "2th_deg"))
    for name, value in settings.items():
        setattr(config, name, value)
    return plain(config.as_dict())


def diffmap(ai, **settings):
    config = DiffmapConfig(ai=WorkerConfig.from_dict(dict(ai)), **settings)
    return plain(config.as_dict())


def configurations():
    for version in (1, 2, 3, 4):
        yield f"version {version}", VERSION_1 if version == 1 else upgraded(VERSION_1, version)
        yield f"version {version}, switched off", \
            SWITCHED_OFF if version == 1 else upgraded(SWITCHED_OFF, version)
    yield "version 5 from 1", plain(WorkerConfig.from_dict(dict(VERSION_1)).as_dict())
    yield "version 5, defaults", worker(nbpt_rad=1000)
    yield "version 5, everything", worker(
        nbpt_rad=321, nbpt_azim=90, unit="q_A^-1", chi_discontinuity_at_0=True, polarization_factor=0.9,
        normalization_factor=12.5, val_dummy=-3.0, delta_dummy=1.5, correct_solid_angle=False,
        dark_current=["d1.npy", "d2.npy", "d3.npy"], flat_field="flat.npy", mask_file="mask.npy",
        error_model=pyFAI.containers.ErrorModel.HYBRID, method=("full", "csr", "opencl"), opencl_device=[0, 1],
        azimuth_range=[-60.0, 45.5], radial_range=[0.5, 6.25], shape=[2167, 2070])
    yield "diffmap 1", diffmap(
        worker(nbpt_rad=250, error_model=pyFAI.containers.ErrorModel.POISSON, method=("bbox", "csr", "cython")),
        slow_motor=MotorRange(-1.5, 2.5, 5, "samy"), fast_motor=MotorRange(10.0, 13.0, 4, "samz"), offset=2,
        zigzag_scan=True, output_file="map.h5", experiment_title="Diffraction Mapping",
        input_data=ListDataSet.from_serialized([("scan_1.h5", None, 11, (2167, 2070)), ("scan_2.h5", None, 11)]))
    # The older form, as pyFAI 2025's own test data have it: no version, and the motors in separate keys.
    yield "diffmap without version", {
        "ai": worker(nbpt_rad=640, method=("no", "lut", "cython")), "experiment_title": "Diffraction Mapping",
        "fast_motor_name": "samx", "slow_motor_name": "samy", "nbpt_fast": 21, "nbpt_slow": 31, "offset": None,
        "zigzag_scan": True, "output_file": "old.h5", "input_data": [["a.h5", "", None], ["b.h5", "", None]],
        "fast_motor_range": [0.0, 1.0], "slow_motor_range": [4.0, 5.0]}


def number(value):
    return "NAN" if value is None else repr(float(value))


def pair(values):
    return "{NAN, NAN}" if not values else f"{{{number(values[0])}, {number(values[1])}}}"


def names(values):
    values = [values] if isinstance(values, str) else values or []
    return "{" + ", ".join(json.dumps(value) for value in values) + "}"


def row(name, config):
    text = json.dumps(config, indent=1)
    assert ')json"' not in text
    scan = None
    ai = config
    if "ai" in config:
        parsed = DiffMap()
        parsed.set_config(json.loads(text))
        read = DiffmapConfig.from_dict(json.loads(text))
        ai = config["ai"]
        scan = parsed, read
    expected = WorkerConfig.from_dict(json.loads(json.dumps(ai)))
    poni = expected.poni
    dimensions = 2 if expected.do_2D else 1
    place = [poni.dist, poni.poni1, poni.poni2, poni.rot1, poni.rot2, poni.rot3, poni.wavelength]
    fields = [
        json.dumps(name), f'R"json({text})json"', expected.nbpt_rad, expected.nbpt_azim if dimensions == 2 else 0,
        json.dumps(str(expected.unit)), json.dumps(expected.method.split if expected.method else "bbox"),
        json.dumps(pyFAI.containers.ErrorModel.parse(expected.error_model).as_str()),
        pair(expected.radial_range if expected.do_radial_range else None),
        pair(expected.azimuth_range if expected.do_azimuthal_range else None),
        str(bool(expected.chi_discontinuity_at_0)).lower(), str(bool(expected.correct_solid_angle)).lower(),
        number(expected.polarization_factor), number(expected.normalization_factor), number(expected.val_dummy),
        number(expected.delta_dummy), names(expected.dark_current), names(expected.flat_field),
        names(expected.mask_file), json.dumps(type(poni.detector).__name__), number(poni.detector.pixel1),
        number(poni.detector.pixel2), "{" + ", ".join(number(value) for value in place) + "}"]
    if scan is None:
        fields += ["0", "0", "0", "false", '""', '""', '""', "{NAN, NAN}", "{NAN, NAN}", "{}"]
    else:
        parsed, read = scan
        fields += [parsed.nbpt_slow, parsed.nbpt_fast, parsed.offset, str(bool(parsed.zigzag_scan)).lower(),
                   json.dumps(parsed.hdf5), json.dumps(parsed.slow_motor_name), json.dumps(parsed.fast_motor_name),
                   pair(parsed.slow_motor_range), pair(parsed.fast_motor_range), names(parsed.inputfiles)]
    return "    {" + ",\n     ".join(str(field) for field in fields) + "},"


def main():
    print(f"""// Configurations that pyFAI {pyFAI.version} wrote, and how it reads them.
// Made by pyfai_configurations.py, not by hand.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace pyfai_configurations {{

/// NAN stands for a value that is not set.
struct Configuration {{
  const char* name;
  const char* json;
  std::uint32_t radial_bins;
  std::uint32_t azimuthal_bins;
  const char* unit;
  const char* splitting;
  const char* error_model;
  std::array<double, 2> radial_range;
  std::array<double, 2> azimuth_range_deg;
  bool cut_at_zero;
  bool solid_angle;
  double polarisation_factor;
  double normalisation_factor;
  double dummy;
  double delta_dummy;
  std::vector<std::string> dark;
  std::vector<std::string> flat;
  std::vector<std::string> masks;
  const char* detector;
  double pixel1_m;
  double pixel2_m;
  std::array<double, 7> place;  ///< distance, poni1, poni2 and wavelength in m, rot1 to rot3 in rad, as in a PONI file
  std::uint64_t slow;           ///< 0 without a scan, and so all that follows
  std::uint64_t fast;
  std::int64_t offset;
  bool zigzag;
  const char* output;
  const char* slow_name;
  const char* fast_name;
  std::array<double, 2> slow_range;
  std::array<double, 2> fast_range;
  std::vector<std::string> frames;
}};

inline const std::vector<Configuration> configurations = {{""")
    for name, config in configurations():
        print(row(name, config))
    print("""};

}  // namespace pyfai_configurations""")


if __name__ == "__main__":
    main()
