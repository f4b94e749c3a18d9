#include "integrator/integration.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <variant>

#include <fmt/format.h>

#include "base/errors.hpp"

namespace annulus::integrator {
namespace {

/// The user's mask with the pixels that flat, dark or variance cannot serve: the bins do not depend on those.
std::vector<std::uint8_t> effective_mask(const IntegrationPlan& plan) {
  std::vector<std::uint8_t> mask = plan.mask;
  for (std::uint8_t& pixel : mask) pixel = pixel != 0 ? static_cast<std::uint8_t>(kernels::PixelUse::masked) : 0;
  const auto mask_where = [&](const std::vector<float>& image, auto&& useless) {
    for (std::size_t pixel = 0; pixel < image.size(); ++pixel) {
      if (!useless(image[pixel])) continue;
      mask.resize(image.size());
      if (mask[pixel] == 0) mask[pixel] = static_cast<std::uint8_t>(kernels::PixelUse::useless);
    }
  };
  mask_where(plan.flat, [](float value) { return value == 0.0F || !std::isfinite(value); });
  mask_where(plan.dark, [](float value) { return !std::isfinite(value); });
  mask_where(plan.variance, [](float value) { return !(value >= 0.0F) || !std::isfinite(value); });
  return mask;
}

/// An angle in half turns as rad between -pi and pi, or 0 and 2 pi: pyFAI's rounding.
double on_circle_rad(double half_turns, kernels::AzimuthCut cut) {
  double turns = std::fmod(half_turns, 2.0);
  if (turns < 0.0) turns += 2.0;
  if (cut == kernels::AzimuthCut::at_pi && turns >= 1.0) turns -= 2.0;
  return turns * std::numbers::pi;
}

/// The azimuthal range in the internal unit; the upper end may lie beyond the cut.
std::pair<double, double> azimuthal_range(const std::pair<double, double>& range, const RadialUnit& unit,
                                          kernels::AzimuthCut cut) {
  if (!is_azimuth(unit.space)) return {range.first / unit.scale, range.second / unit.scale};
  const double half_turn = unit.scale == 1.0 ? std::numbers::pi : 180.0;
  const double lower = on_circle_rad(range.first / half_turn, cut);
  double upper = on_circle_rad(range.second / half_turn, cut);
  if (upper <= lower) upper += 2.0 * std::numbers::pi;
  return {lower, upper};
}

void expect_wavelength(const RadialUnit& unit, const Geometry& geometry) {
  if (!unit.needs_wavelength || geometry.wavelength_m) return;
  throw InputError(fmt::format("unit {} needs a wavelength, and the geometry has none", unit.name));
}

kernels::MatrixSpec matrix_spec(const IntegrationPlan& plan, const std::vector<std::uint8_t>& mask,
                                std::span<const double> parallax_m) {
  const IntegrationSettings& settings = plan.settings;
  const RadialUnit& unit = radial_unit(settings.unit);
  const RadialUnit& azimuthal_unit = radial_unit(settings.azimuthal_unit);
  expect_wavelength(unit, plan.geometry);
  expect_wavelength(azimuthal_unit, plan.geometry);
  kernels::MatrixSpec spec;
  spec.geometry = pixel_geometry(plan.geometry, parallax_m);
  spec.space = unit.space;
  spec.frame = sample_frame(unit.frame, settings.sample);
  spec.azimuthal_space = azimuthal_unit.space;
  spec.azimuthal_frame = sample_frame(azimuthal_unit.frame, settings.sample);
  spec.azimuth_in_degrees = azimuthal_unit.scale != 1.0;
  spec.splitting = settings.splitting;
  spec.bins = settings.bins;
  spec.azimuthal_bins = settings.azimuthal_bins;
  if (settings.radial_range) {
    spec.range = {settings.radial_range->first / unit.scale, settings.radial_range->second / unit.scale};
  }
  if (settings.azimuth_range) {
    spec.azimuthal_range = azimuthal_range(*settings.azimuth_range, azimuthal_unit, settings.azimuth_cut);
  }
  // Areas of pixels need a second coordinate that says something else than the first.
  if (is_azimuth(spec.space) && is_azimuth(spec.azimuthal_space) && spec.azimuthal_bins == 0 && !spec.azimuthal_range &&
      spec.convention == kernels::Convention::exact) {
    spec.azimuthal_space = kernels::RadialSpace::two_theta;
  }
  spec.cut = settings.azimuth_cut;
  spec.negative_radial = settings.negative_radial.value_or(unit.may_be_negative);
  spec.convention = settings.convention;
  spec.mask = mask;
  return spec;
}

/// Whether a matrix has the shape that was asked for.
bool fits(const StoredMatrix& stored, const kernels::MatrixSpec& spec) {
  return stored.axes.radial.bins == spec.bins && stored.axes.azimuthal.bins == spec.azimuthal_bins &&
         stored.matrix.rows == stored.axes.rows() && stored.matrix.columns == spec.geometry.pixels();
}

std::vector<double> bin_centres(const kernels::BinAxis& axis, double scale) {
  std::vector<double> centres(axis.bins);
  for (std::uint32_t bin = 0; bin < axis.bins; ++bin) {
    centres[bin] = scale * (axis.minimum + (bin + 0.5) * axis.width());
  }
  return centres;
}

kernels::BadPixelRules bad_pixel_rules(const IntegrationPlan& plan) {
  const Detector& detector = plan.geometry.detector;
  kernels::BadPixelRules rules;
  rules.negative = detector.photon_counting;
  std::optional<double> dummy = plan.settings.dummy ? plan.settings.dummy : detector.dummy;
  // Some detectors (Lambda) mark bad pixels by 0, which is also a count: without it every mean would be too high.
  if (!plan.settings.dummy && dummy == 0.0 && plan.settings.convention == kernels::Convention::exact) dummy.reset();
  if (dummy) {
    rules.dummy_on = true;
    rules.dummy = *dummy;
    rules.delta_dummy = plan.settings.dummy ? plan.settings.delta_dummy : detector.delta_dummy;
  }
  return rules;
}

}  // namespace

Integrator::Integrator(const IntegrationPlan& plan, std::unique_ptr<kernels::Engine> engine, MatrixStore* store,
                       std::span<const kernels::FrameKind> frames)
    : engine_(std::move(engine)),
      scale_(radial_unit(plan.settings.unit).scale),
      azimuthal_scale_(radial_unit(plan.settings.azimuthal_unit).scale),
      normalisation_factor_(plan.settings.normalisation_factor),
      errors_(plan.settings.error_model != kernels::ErrorModel::no) {
  if (!(std::isfinite(normalisation_factor_) && normalisation_factor_ != 0.0)) {
    throw InputError(
        fmt::format("normalisation factor: found {}, expected a number other than 0", normalisation_factor_));
  }
  kernels::Corrections corrections;
  corrections.dark = plan.dark;
  corrections.variance = plan.variance;
  corrections.error_model = plan.settings.error_model;
  corrections.filter = plan.settings.filter;
  corrections.convention = plan.settings.convention;
  corrections.bad_pixels = bad_pixel_rules(plan);
  engine_->prepare(corrections, frames);

  const std::vector<std::uint8_t> mask = effective_mask(plan);
  const std::vector<double> parallax_m = parallax_table_m(plan.geometry);
  const kernels::MatrixSpec spec = matrix_spec(plan, mask, parallax_m);
  take_matrix(spec, store);
  const std::vector<float> normalisation = pixel_normalisation(spec.geometry, plan.settings.corrections, plan.flat);
  corrections.normalisation = normalisation;
  engine_->set_corrections(corrections);
}

void Integrator::take_matrix(const kernels::MatrixSpec& spec, MatrixStore* store) {
  // The reference's own weights are float64: a matrix would bring it rounded ones.
  if (store == nullptr || engine_->backend() == kernels::Backend::reference) {
    axes_ = engine_->build_matrix(spec);
    return;
  }
  const std::string key = matrix_key(spec, *engine_);
  std::optional<StoredMatrix> stored = store->load(key);
  matrix_loaded_ = stored && fits(*stored, spec);
  if (matrix_loaded_) {
    axes_ = stored->axes;
    engine_->set_matrix(std::move(stored->matrix));
    return;
  }
  axes_ = engine_->build_matrix(spec);
  if (store->saves()) store->save(key, {axes_, engine_->matrix()});
}

std::span<const double> Integrator::divisors(std::span<const double> monitor) {
  divisors_.assign(monitor.begin(), monitor.end());
  for (double& divisor : divisors_) divisor *= normalisation_factor_;
  return divisors_;
}

void Integrator::integrate(const kernels::FrameBatch& batch, std::span<const double> monitor,
                           const kernels::Patterns& patterns) {
  engine_->integrate(batch, divisors(monitor), patterns);
}

std::vector<double> Integrator::radial() const { return bin_centres(axes_.radial, scale_); }

std::vector<double> Integrator::azimuthal() const { return bin_centres(axes_.azimuthal, azimuthal_scale_); }

}  // namespace annulus::integrator
