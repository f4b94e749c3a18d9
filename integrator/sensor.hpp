// What a detector's sensor does to photons: how many it absorbs, and how far from their point of entry it sees those
// that come in at an angle (parallax).
//
// Absorption by Lambert and Beer's law with the linear attenuation coefficient mu. A photon that enters at the angle a
// from the normal is absorbed after a mean path that projects onto the sensor's plane as
//     d(a) = sin(a) / mu * (1 - e / (exp(e) - 1)),   e = mu * thickness / cos(a),
// so that a ring is seen too large. Derivation and conventions as in pyFAI (parallax.py, since 2025.12).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "integrator/detector.hpp"

namespace annulus::integrator {

/// The materials that are known, as a PONI file names them: "Si", "CdTe", ...
[[nodiscard]] std::vector<std::string> sensor_materials();

/// Linear attenuation coefficient mu in 1/m, interpolated linearly in energy between the rows of NIST's tables, as
/// pyFAI does; an edge belongs to the energies above it. Throws InputError for an unknown material and for an energy
/// outside its table (1 keV to 2 MeV; BaFBr0.85I0.15 to 100 keV).
[[nodiscard]] double attenuation_per_m(std::string_view material, double energy_kev);

/// The share of photons, 0 to 1, that pass the sensor at normal incidence: exp(-mu * thickness). 0 for a sensor without
/// a thickness, which stands for one that absorbs all. Throws as attenuation_per_m.
[[nodiscard]] double sensor_transmission(const Sensor& sensor, double energy_kev);

/// [kernels::parallax_nodes] in m, <= 0: what must be added to the distance of a point from the point of normal
/// incidence, in the detector's plane, at the incidence angles node * (pi / 2) / (parallax_nodes - 1), so that the
/// photons that are seen there get the place where they entered. pyFAI's Parallax.calc_corrections, but for the last
/// node, grazing incidence, where pyFAI has not-a-number: there it is the limit, -1/mu. A sensor without a thickness is
/// a thick one (d = sin(a) / mu). Throws as attenuation_per_m.
[[nodiscard]] std::vector<double> parallax_correction_m(const Sensor& sensor, double energy_kev, double distance_m);

}  // namespace annulus::integrator
