#include "benchmarks/workload.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/errors.hpp"
#include "integrator/detector.hpp"
#include "kernels/bslz4.hpp"
#include "simulation/noise.hpp"

namespace annulus::benchmarks {
namespace {

constexpr const char* detector_name = "Eiger2CdTe_1M";

/// Expected counts of a pixel at `radius` pixels from the beam: twelve rings of a width of 2 pixels over a ground.
double expected_counts(double radius, double peak, double ground) {
  double counts = ground;
  for (int ring = 1; ring <= 12; ++ring) {
    const double distance = (radius - 55.0 * ring) / 2.0;
    if (std::abs(distance) < 6.0) counts += peak / ring * std::exp(-0.5 * distance * distance);
  }
  return counts;
}

}  // namespace

Workload::Workload(Content content, std::size_t frames) {
  integrator::Geometry& geometry = plan.geometry;
  geometry.detector = integrator::make_detector(detector_name);
  const integrator::Detector& detector = geometry.detector;
  const double centre_row = 0.5 * detector.rows;
  const double centre_column = 0.5 * detector.columns;
  geometry.distance_m = 0.2;
  geometry.poni1_m = centre_row * detector.pixel1_m;
  geometry.poni2_m = centre_column * detector.pixel2_m;
  geometry.rot1_rad = 0.01;
  plan.settings.error_model = kernels::ErrorModel::poisson;
  plan.mask = detector.mask();
  pixels = std::size_t{detector.rows} * detector.columns;

  // By trial: ratios of 3.0, 7 and 25.
  const auto [peak, ground] = content == Content::dense     ? std::pair(500.0, 40.0)
                              : content == Content::typical ? std::pair(60.0, 0.3)
                                                            : std::pair(2.0, 0.01);
  std::vector<double> expected(pixels);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    const double row = static_cast<double>(pixel / detector.columns) - centre_row;
    const double column = static_cast<double>(pixel % detector.columns) - centre_column;
    expected[pixel] = expected_counts(std::hypot(row, column), peak, ground);
  }
  const simulation::PoissonSampler poisson;
  decoded.resize(frames * frame_bytes());
  std::vector<std::uint16_t> counts(pixels);
  for (std::size_t frame = 0; frame < frames; ++frame) {
    simulation::Random random(1, frame);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      const bool gap = !plan.mask.empty() && plan.mask[pixel] != 0;
      counts[pixel] =
          gap ? std::uint16_t{65535}
              : static_cast<std::uint16_t>(std::min<std::uint64_t>(poisson(random, expected[pixel]), 65534));
    }
    std::memcpy(decoded.data() + frame * frame_bytes(), counts.data(), frame_bytes());
    chunks.push_back(kernels::encode_bslz4(this->frame(frame), sizeof(std::uint16_t)));
  }
  for (const std::vector<std::byte>& chunk : chunks) views.push_back({chunk, kernels::Encoding::bslz4});
  monitor.assign(frames, 1.0);
}

double Workload::ratio() const {
  std::size_t bytes = 0;
  for (const std::vector<std::byte>& chunk : chunks) bytes += chunk.size();
  return static_cast<double>(decoded.size()) / static_cast<double>(bytes);
}

integrator::Integrator make_integrator(const Workload& workload, kernels::Splitting splitting,
                                       kernels::ErrorModel error_model, int threads) {
  integrator::IntegrationPlan plan = workload.plan;
  plan.settings.splitting = splitting;
  plan.settings.error_model = error_model;
  kernels::DeviceChoice choice;
  choice.threads = threads;
  return {plan, kernels::make_engine(kernels::Backend::openmp, choice)};
}

Runner::Runner(const Workload& workload, integrator::Integrator& integrator)
    : workload_(workload),
      integrator_(integrator),
      intensity_(workload.frames() * integrator.rows()),
      errors_(integrator.has_errors() ? intensity_.size() : 0),
      status_(workload.frames()) {}

kernels::Patterns Runner::patterns(std::size_t count) {
  const std::size_t values = count * integrator_.rows();
  return {std::span(intensity_).first(values), std::span(errors_).first(errors_.empty() ? 0 : values), {}};
}

void Runner::multiply(std::size_t count) {
  integrator_.integrate({workload_.decoded.data(), kernels::PixelType::u16, count, workload_.pixels},
                        std::span(workload_.monitor).first(count), patterns(count));
}

void Runner::decode_and_multiply(std::size_t count) {
  integrator_.submit(0, {kernels::PixelType::u16, workload_.pixels, std::span(workload_.views).first(count)},
                     std::span(workload_.monitor).first(count), {integrator_.has_errors(), false});
  const std::span status = std::span(status_).first(count);
  integrator_.collect(0, patterns(count), status);
  for (const kernels::DecodeStatus each : status) ANNULUS_EXPECT(each == kernels::DecodeStatus::ok);
}

}  // namespace annulus::benchmarks
