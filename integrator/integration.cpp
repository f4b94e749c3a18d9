#include "integrator/integration.hpp"

#include <cmath>

#include <fmt/format.h>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

/// The user's mask with the pixels that the flat field cannot correct.
std::vector<std::uint8_t> effective_mask(const IntegrationPlan& plan) {
  std::vector<std::uint8_t> mask = plan.mask;
  if (!plan.flat.empty()) mask.resize(plan.flat.size());
  for (std::size_t pixel = 0; pixel < plan.flat.size(); ++pixel) {
    if (plan.flat[pixel] == 0.0F || !std::isfinite(plan.flat[pixel])) mask[pixel] = 1;
  }
  for (std::size_t pixel = 0; pixel < plan.dark.size(); ++pixel) {
    if (std::isfinite(plan.dark[pixel])) continue;
    mask.resize(plan.dark.size());
    mask[pixel] = 1;
  }
  return mask;
}

kernels::MatrixSpec matrix_spec(const IntegrationPlan& plan, const std::vector<std::uint8_t>& mask) {
  const RadialUnit& unit = radial_unit(plan.settings.unit);
  if (unit.space == kernels::RadialSpace::q && !plan.geometry.wavelength_m) {
    throw InputError(fmt::format("unit {} needs a wavelength, and the geometry has none", unit.name));
  }
  kernels::MatrixSpec spec;
  spec.geometry = pixel_geometry(plan.geometry);
  spec.space = unit.space;
  spec.splitting = plan.settings.splitting;
  spec.bins = plan.settings.bins;
  if (plan.settings.radial_range) {
    spec.range = {plan.settings.radial_range->first / unit.scale, plan.settings.radial_range->second / unit.scale};
  }
  spec.mask = mask;
  return spec;
}

std::vector<double> bin_centres(const kernels::BinAxis& axis, double scale) {
  std::vector<double> centres(axis.bins);
  for (std::uint32_t bin = 0; bin < axis.bins; ++bin) {
    centres[bin] = scale * (axis.minimum + (bin + 0.5) * axis.width());
  }
  return centres;
}

}  // namespace

Integrator::Integrator(const IntegrationPlan& plan, std::unique_ptr<kernels::Engine> engine)
    : engine_(std::move(engine)),
      scale_(radial_unit(plan.settings.unit).scale),
      sigma_(plan.settings.error_model != kernels::ErrorModel::no) {
  const std::vector<std::uint8_t> mask = effective_mask(plan);
  const kernels::MatrixSpec spec = matrix_spec(plan, mask);
  axis_ = engine_->build_matrix(spec);

  std::vector<float> normalisation = pixel_normalisation(spec.geometry, plan.settings.corrections, plan.flat);
  kernels::Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.dark = plan.dark;
  corrections.error_model = plan.settings.error_model;
  corrections.bad_pixels.negative = plan.geometry.detector.photon_counting;
  if (plan.settings.dummy) {
    corrections.bad_pixels.dummy_on = true;
    corrections.bad_pixels.dummy = *plan.settings.dummy;
    corrections.bad_pixels.delta_dummy = plan.settings.delta_dummy;
  }
  engine_->set_corrections(corrections);
}

std::vector<double> Integrator::radial() const { return bin_centres(axis_, scale_); }

}  // namespace annulus::integrator
