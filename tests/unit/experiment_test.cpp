// What rank 0 broadcasts arrives whole: every setting and every image, on ranks that read no file.
#include "mpi_driver/experiment.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <variant>
#include <vector>

namespace annulus::driver {
namespace {

/// No member at its default.
Experiment full_experiment() {
  Experiment experiment;
  integrator::Geometry& geometry = experiment.plan.geometry;
  geometry.distance_m = 0.1;
  geometry.poni1_m = 0.2;
  geometry.poni2_m = 0.3;
  geometry.rot1_rad = 0.4;
  geometry.rot2_rad = 0.5;
  geometry.rot3_rad = 0.6;
  geometry.wavelength_m = 0.1 + 0.2;  // no short decimal: the last bit must arrive
  geometry.parallax = integrator::Parallax::on;
  integrator::Detector& detector = geometry.detector;
  detector.name = "Own";
  detector.rows = 1;
  detector.columns = 2;
  detector.pixel1_m = 1e-4;
  detector.pixel2_m = 2e-4;
  detector.orientation = integrator::Orientation::top_left;
  detector.photon_counting = true;
  detector.sensor = integrator::Sensor{"CdTe", 1e-3};
  detector.dummy = -2.0;
  detector.delta_dummy = 1.5;
  detector.vertices = std::make_shared<const std::vector<float>>(24, 0.25F);
  detector.file_mask = std::make_shared<const std::vector<std::uint8_t>>(std::vector<std::uint8_t>{1, 0});
  detector.flat = std::make_shared<const std::vector<float>>(2, 1.5F);
  detector.dark = std::make_shared<const std::vector<float>>(2, 0.5F);
  detector.file = "own.h5";
  detector.radius_m = 0.7;
  detector.offset1_file = "y.edf";
  detector.offset2_file = "x.edf";

  integrator::IntegrationSettings& settings = experiment.plan.settings;
  settings.bins = 7;
  settings.azimuthal_bins = 8;
  settings.unit = "qip_nm^-1";
  settings.azimuthal_unit = "qoop_A^-1";
  settings.sample = {0.01, -0.2, 6};
  settings.splitting = kernels::Splitting::full;
  settings.radial_range = {1.0, 2.0};
  settings.azimuth_range = {170.0, -170.0};
  settings.azimuth_cut = kernels::AzimuthCut::at_zero;
  settings.negative_radial = true;
  settings.convention = kernels::Convention::pyfai;
  settings.error_model = kernels::ErrorModel::hybrid;
  settings.filter = kernels::SigmaClip{3.5, 9};
  settings.corrections.solid_angle = false;
  settings.corrections.polarisation_factor = 0.9;
  settings.corrections.polarisation_offset_rad = 0.1;
  settings.corrections.transmission_normal = 0.3;
  settings.corrections.pixel_area = integrator::PixelArea::own;
  settings.corrections.convention = kernels::Convention::pyfai;
  settings.normalisation_factor = 11.0;
  settings.dummy = -7.0;
  settings.delta_dummy = 0.5;
  experiment.plan.mask = {0, 1};
  experiment.plan.dark = {1.0F, 2.0F};
  experiment.plan.variance = {3.0F, 4.0F};
  experiment.plan.flat = {5.0F, 6.0F};
  experiment.monitor = {1.0, 2.0};
  experiment.blocks = {{0, 1}, {1, 2}};
  experiment.output = "out.h5";
  experiment.std = true;
  experiment.compute = {kernels::Backend::reference, "gpu", true, 5, 6, "cache"};
  experiment.batch = 6;
  return experiment;
}

TEST(Experiment, DetectorArrivesWithItsPixels) {
  const Experiment sent = full_experiment();
  const Experiment received = deserialise_experiment(serialise(sent));
  const integrator::Detector& detector = received.plan.geometry.detector;
  const integrator::Detector& expected = sent.plan.geometry.detector;
  EXPECT_EQ(detector.name, expected.name);
  EXPECT_EQ(detector.rows, expected.rows);
  EXPECT_EQ(detector.columns, expected.columns);
  EXPECT_EQ(detector.pixel1_m, expected.pixel1_m);
  EXPECT_EQ(detector.pixel2_m, expected.pixel2_m);
  EXPECT_EQ(detector.orientation, expected.orientation);
  EXPECT_EQ(detector.photon_counting, expected.photon_counting);
  ASSERT_TRUE(detector.sensor);
  EXPECT_EQ(detector.sensor->material, "CdTe");
  EXPECT_EQ(detector.sensor->thickness_m, 1e-3);
  EXPECT_EQ(detector.dummy, expected.dummy);
  EXPECT_EQ(detector.delta_dummy, expected.delta_dummy);
  ASSERT_TRUE(detector.vertices && detector.file_mask && detector.flat && detector.dark);
  EXPECT_EQ(*detector.vertices, *expected.vertices);
  EXPECT_EQ(*detector.file_mask, *expected.file_mask);
  EXPECT_EQ(*detector.flat, *expected.flat);
  EXPECT_EQ(*detector.dark, *expected.dark);
  EXPECT_EQ(detector.file, expected.file);
  EXPECT_EQ(detector.radius_m, expected.radius_m);
  EXPECT_EQ(detector.offset1_file, expected.offset1_file);
  EXPECT_EQ(detector.offset2_file, expected.offset2_file);
}

TEST(Experiment, EachKindOfFrameIsNamedOnce) {
  using kernels::PixelType;
  Experiment experiment;
  experiment.batch = 24;
  for (const PixelType type : {PixelType::u32, PixelType::u16, PixelType::u32}) {
    experiment.frames.runs.emplace_back().type = type;
  }
  const std::vector<kernels::FrameKind> expected{{PixelType::u32, 24}, {PixelType::u16, 24}};
  EXPECT_EQ(frame_kinds(experiment), expected);
}

TEST(Experiment, GeometryAndSettingsArriveToTheLastBit) {
  const Experiment sent = full_experiment();
  const Experiment received = deserialise_experiment(serialise(sent));
  const integrator::Geometry& geometry = received.plan.geometry;
  EXPECT_EQ(geometry.distance_m, 0.1);
  EXPECT_EQ(geometry.poni1_m, 0.2);
  EXPECT_EQ(geometry.poni2_m, 0.3);
  EXPECT_EQ(geometry.rot1_rad, 0.4);
  EXPECT_EQ(geometry.rot2_rad, 0.5);
  EXPECT_EQ(geometry.rot3_rad, 0.6);
  EXPECT_EQ(geometry.wavelength_m, 0.1 + 0.2);
  EXPECT_EQ(geometry.parallax, integrator::Parallax::on);

  const integrator::IntegrationSettings& settings = received.plan.settings;
  const integrator::IntegrationSettings& expected = sent.plan.settings;
  EXPECT_EQ(settings.bins, expected.bins);
  EXPECT_EQ(settings.azimuthal_bins, expected.azimuthal_bins);
  EXPECT_EQ(settings.unit, expected.unit);
  EXPECT_EQ(settings.azimuthal_unit, expected.azimuthal_unit);
  EXPECT_EQ(settings.sample, expected.sample);
  EXPECT_EQ(settings.splitting, expected.splitting);
  EXPECT_EQ(settings.radial_range, expected.radial_range);
  EXPECT_EQ(settings.azimuth_range, expected.azimuth_range);
  EXPECT_EQ(settings.azimuth_cut, expected.azimuth_cut);
  EXPECT_EQ(settings.negative_radial, expected.negative_radial);
  EXPECT_EQ(settings.convention, expected.convention);
  EXPECT_EQ(settings.error_model, expected.error_model);
  EXPECT_EQ(settings.corrections.solid_angle, expected.corrections.solid_angle);
  EXPECT_EQ(settings.corrections.polarisation_factor, expected.corrections.polarisation_factor);
  EXPECT_EQ(settings.corrections.polarisation_offset_rad, expected.corrections.polarisation_offset_rad);
  EXPECT_EQ(settings.corrections.transmission_normal, expected.corrections.transmission_normal);
  EXPECT_EQ(settings.corrections.pixel_area, expected.corrections.pixel_area);
  EXPECT_EQ(settings.corrections.convention, expected.corrections.convention);
  EXPECT_EQ(settings.normalisation_factor, expected.normalisation_factor);
  EXPECT_EQ(settings.dummy, expected.dummy);
  EXPECT_EQ(settings.delta_dummy, expected.delta_dummy);
  ASSERT_TRUE(std::holds_alternative<kernels::SigmaClip>(settings.filter));
  EXPECT_EQ(std::get<kernels::SigmaClip>(settings.filter).threshold, 3.5);
  EXPECT_EQ(std::get<kernels::SigmaClip>(settings.filter).cycles, 9U);
}

TEST(Experiment, ImagesAndScheduleArrive) {
  const Experiment sent = full_experiment();
  const Experiment received = deserialise_experiment(serialise(sent));
  EXPECT_EQ(received.plan.mask, sent.plan.mask);
  EXPECT_EQ(received.plan.dark, sent.plan.dark);
  EXPECT_EQ(received.plan.variance, sent.plan.variance);
  EXPECT_EQ(received.plan.flat, sent.plan.flat);
  EXPECT_EQ(received.monitor, sent.monitor);
  ASSERT_EQ(received.blocks.size(), 2U);
  EXPECT_EQ(received.blocks[1].first, 1U);
  EXPECT_EQ(received.blocks[1].lines, 2U);
  EXPECT_EQ(received.output, sent.output);
  EXPECT_TRUE(received.std);
  EXPECT_EQ(received.compute.backend, kernels::Backend::reference);
  EXPECT_EQ(received.compute.device, "gpu");
  EXPECT_TRUE(received.compute.share_device);
  EXPECT_EQ(received.compute.batch, 5U);
  EXPECT_EQ(received.batch, 6U);
  EXPECT_EQ(received.compute.threads, 6);
  EXPECT_EQ(received.compute.matrix_cache, "cache");
}

TEST(Experiment, EveryFilterArrives) {
  Experiment sent = full_experiment();
  sent.plan.settings.filter = kernels::QuantileRange{0.25, 0.75};
  const kernels::OutlierFilter range = deserialise_experiment(serialise(sent)).plan.settings.filter;
  ASSERT_TRUE(std::holds_alternative<kernels::QuantileRange>(range));
  EXPECT_EQ(std::get<kernels::QuantileRange>(range).lower, 0.25);
  EXPECT_EQ(std::get<kernels::QuantileRange>(range).upper, 0.75);
  sent.plan.settings.filter = std::monostate{};
  EXPECT_TRUE(std::holds_alternative<std::monostate>(deserialise_experiment(serialise(sent)).plan.settings.filter));
}

}  // namespace
}  // namespace annulus::driver
