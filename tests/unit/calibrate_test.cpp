// Calibration as a whole on small simulated images: what must be found, what must be refused, and what is said of it.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/errors.hpp"
#include "calibration/calibrant.hpp"
#include "calibration/calibration.hpp"
#include "calibration/hypothesis_search.hpp"
#include "calibration/pose.hpp"
#include "calibration/refinement.hpp"
#include "integrator/detector.hpp"
#include "simulation/calibration_cases.hpp"
#include "simulation/calibration_image.hpp"

namespace annulus::calibration {
namespace {

using simulation::CalibrationCase;
using simulation::CalibrationPicture;
using simulation::CaseKind;
using simulation::CaseSize;

CalibrationSettings settings_of(const CalibrationCase& sample) {
  CalibrationSettings settings;
  settings.detector = sample.detector;
  settings.calibrant = sample.calibrant;
  settings.wavelength_m = sample.wavelength_m;
  settings.parallax = sample.image.geometry.parallax;
  settings.freedom = make_freedom();
  return settings;
}

CalibrationResult calibrated(const CalibrationPicture& picture, const CalibrationSettings& settings) {
  const std::vector<CalibrationImage> images{{picture.counts, picture.mask, 0.0}};
  return calibrate(images, settings);
}

/// Parameters differ from the truth's by no more than so many of their standard errors.
void expect_near_truth(const CalibrationResult& result, const integrator::Geometry& truth, double sigmas) {
  for (std::size_t index = 0; index < parameter_count; ++index) {
    const auto parameter = static_cast<Parameter>(index);
    if (!result.fitted[index]) continue;
    EXPECT_LT(std::abs(value_of(result.geometry, parameter) - value_of(truth, parameter)),
              sigmas * result.standard_error[index])
        << name_of(parameter);
  }
}

bool tells(const std::vector<std::string>& texts, std::string_view part) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(part) != std::string::npos; });
}

TEST(Calibrate, APlainImageIsFoundAndItsErrorsHold) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 1, CaseSize::small);
  const CalibrationResult result = calibrated(simulation::make_calibration_image(sample.image), settings_of(sample));
  EXPECT_EQ(result.verdict, Verdict::good);
  // Five numbers: five standard errors are passed once in 300,000 images.
  expect_near_truth(result, sample.image.geometry, 5.0);
  EXPECT_LT(std::abs(result.geometry.distance_m / sample.image.geometry.distance_m - 1.0), 2e-5);
  EXPECT_GT(result.ring_evidence, 15.0);
  EXPECT_GE(result.rings_seen, 4U);
  EXPECT_GE(result.rings_listed, result.rings_seen);
}

TEST(Calibrate, TheSameBitsWithAnyNumberOfThreads) {
  const CalibrationCase sample = simulation::make_case(CaseKind::large_angle, 2, CaseSize::small);
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  const CalibrationSettings settings = settings_of(sample);
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const CalibrationResult one = calibrated(picture, settings);
  omp_set_num_threads(3);
  const CalibrationResult three = calibrated(picture, settings);
  omp_set_num_threads(before);
  for (std::size_t index = 0; index < parameter_count; ++index) {
    const auto parameter = static_cast<Parameter>(index);
    EXPECT_EQ(value_of(one.geometry, parameter), value_of(three.geometry, parameter)) << name_of(parameter);
    EXPECT_EQ(one.standard_error[index], three.standard_error[index]) << name_of(parameter);
  }
  EXPECT_EQ(one.points.size(), three.points.size());
}

TEST(Calibrate, AWrongGuessIsToldAndNotFollowed) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 2, CaseSize::small);
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  CalibrationSettings settings = settings_of(sample);
  integrator::Geometry guess = sample.image.geometry;
  guess.distance_m *= 1.3;
  guess.poni1_m += 40.0 * guess.detector.pixel1_m;
  settings.guesses = {guess};
  const CalibrationResult result = calibrated(picture, settings);
  EXPECT_EQ(result.verdict, Verdict::good);
  expect_near_truth(result, sample.image.geometry, 5.0);
  EXPECT_TRUE(tells(result.warnings, "is not the one given"));
  EXPECT_TRUE(tells(result.warnings, "the beam was found at"));
  // A right one is not.
  settings.guesses = {sample.image.geometry};
  EXPECT_TRUE(calibrated(picture, settings).warnings.empty());
}

TEST(Calibrate, AParameterFixedAtAWrongValueIsSeenInTheRings) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 3, CaseSize::small);
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  CalibrationSettings settings = settings_of(sample);
  Freedom& distance = settings.freedom[static_cast<std::size_t>(Parameter::distance)];
  distance.kind = Freedom::Kind::fixed;
  distance.value = 1.02 * sample.image.geometry.distance_m;
  const CalibrationResult result = calibrated(picture, settings);
  EXPECT_EQ(result.geometry.distance_m, *distance.value);
  EXPECT_NE(result.verdict, Verdict::good);
  EXPECT_FALSE(result.reasons.empty());
}

TEST(Calibrate, ATiltFixedAtASmallWrongValueIsSeenInTheAzimuth) {
  // Within what the beam's place makes up for on the middle rings: the others wave.
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 6, CaseSize::small);
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  CalibrationSettings settings = settings_of(sample);
  Freedom& rot1 = settings.freedom[static_cast<std::size_t>(Parameter::rot1)];
  rot1.kind = Freedom::Kind::fixed;
  rot1.value = sample.image.geometry.rot1_rad + 0.03;
  const CalibrationResult result = calibrated(picture, settings);
  EXPECT_EQ(result.verdict, Verdict::doubtful);
  EXPECT_TRUE(tells(result.reasons, "a turn of azimuth"));
}

TEST(Calibrate, AnImageThatContradictsItsOffsetIsTold) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 4, CaseSize::small);
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  // The same image as if it had been taken further back.
  const double offset_m = 0.4 * sample.image.geometry.distance_m;
  const std::vector<CalibrationImage> images{{picture.counts, picture.mask, 0.0},
                                             {picture.counts, picture.mask, offset_m}};
  const CalibrationResult result = calibrate(images, settings_of(sample));
  EXPECT_NE(result.verdict, Verdict::good);
  EXPECT_TRUE(tells(result.reasons, "is the offset right?"));
}

TEST(Calibrate, AnImageDividedByItsMonitorIsAsGoodAsItsCounts) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 7, CaseSize::small);
  CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  const CalibrationResult counts = calibrated(picture, settings_of(sample));
  for (float& value : picture.counts) value *= 1e-6F;
  const CalibrationResult divided = calibrated(picture, settings_of(sample));
  EXPECT_EQ(divided.verdict, Verdict::good);
  expect_near_truth(divided, sample.image.geometry, 5.0);
  // The gain is found to a few hundredths: so are the errors.
  EXPECT_NEAR(divided.standard_error[0] / counts.standard_error[0], 1.0, 0.15);
}

TEST(Calibrate, TwoDistancesTellTheWavelength) {
  CalibrationCase sample = simulation::make_case(CaseKind::plain, 4, CaseSize::small);
  const CalibrationPicture near = simulation::make_calibration_image(sample.image);
  const double offset_m = 0.4 * sample.image.geometry.distance_m;
  simulation::CalibrationImageSettings back = sample.image;
  back.geometry = moved_back(sample.image.geometry, offset_m);
  back.seed += 1;
  const CalibrationPicture far = simulation::make_calibration_image(back);
  CalibrationSettings settings = settings_of(sample);
  settings.wavelength_m *= 1.01;
  settings.freedom[static_cast<std::size_t>(Parameter::wavelength)].kind = Freedom::Kind::free;
  const std::vector<CalibrationImage> images{{near.counts, near.mask, 0.0}, {far.counts, far.mask, offset_m}};
  const CalibrationResult result = calibrate(images, settings);
  EXPECT_EQ(result.verdict, Verdict::good);
  expect_near_truth(result, sample.image.geometry, 5.0);
  EXPECT_LT(std::abs(*result.geometry.wavelength_m / *sample.image.geometry.wavelength_m - 1.0), 1e-4);
  EXPECT_TRUE(std::any_of(result.points.begin(), result.points.end(),
                          [](const ControlPoint& point) { return point.image == 1; }));
}

TEST(Calibrate, ImagesThatShowNothingAreRefusedWithTheReason) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 5, CaseSize::small);
  const std::size_t pixels = std::size_t{sample.detector.rows} * sample.detector.columns;
  CalibrationPicture picture;
  picture.mask.assign(pixels, 0);
  for (const float value : {0.0F, 100.0F}) {
    picture.counts.assign(pixels, value);
    const CalibrationResult result = calibrated(picture, settings_of(sample));
    EXPECT_EQ(result.verdict, Verdict::failed);
    EXPECT_TRUE(tells(result.reasons, "no rings"));
  }
  picture.mask.assign(pixels, 1);
  EXPECT_EQ(calibrated(picture, settings_of(sample)).verdict, Verdict::failed);
}

TEST(Calibrate, SettingsThatMakeNoSenseAreRefused) {
  const CalibrationCase sample = simulation::make_case(CaseKind::plain, 5, CaseSize::small);
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  CalibrationSettings settings = settings_of(sample);
  for (Freedom& freedom : settings.freedom) freedom.kind = Freedom::Kind::fixed;
  EXPECT_THROW((void)calibrated(picture, settings), InputError);
  settings = settings_of(sample);
  Freedom& rot2 = settings.freedom[static_cast<std::size_t>(Parameter::rot2)];
  rot2.kind = Freedom::Kind::tied;
  rot2.tie.to = Parameter::wavelength;  // which is fixed
  EXPECT_THROW((void)calibrated(picture, settings), InputError);
  settings = settings_of(sample);
  settings.wavelength_m = 1e-8;  // longer than twice any spacing
  EXPECT_THROW((void)calibrated(picture, settings), InputError);
  settings = settings_of(sample);
  settings.detector.rows += 1;
  EXPECT_THROW((void)calibrated(picture, settings), InputError);
}

/// The best hypothesis of the full search.
Hypothesis searched(const CalibrationCase& sample) {
  const CalibrationPicture picture = simulation::make_calibration_image(sample.image);
  const RidgeMap ridges =
      detect_ridges(picture.counts, picture.mask, sample.detector.rows, sample.detector.columns, RidgeSettings{});
  const DetectorPlaces places(sample.detector);
  const std::vector<Eigen::Vector3f> ridge_places = places_of(ridges, places);
  const std::vector<double> rings = sample.calibrant.two_theta_rad(sample.wavelength_m);
  const SearchInput input{&ridges,
                          &places,
                          &ridge_places,
                          picture.mask,
                          sample.detector.rows,
                          sample.detector.columns,
                          sample.detector.pixel1_m,
                          rings};
  const std::vector<Hypothesis> found = search_hypotheses(input, {}, SearchEffort::full, 4);
  return found.empty() ? Hypothesis{} : found.front();
}

TEST(HypothesisSearch, ArcsAtHighAnglesAreTakenForTheRightRings) {
  for (const std::uint32_t number : {1U, 2U, 3U}) {
    const CalibrationCase sample = simulation::make_case(CaseKind::large_angle, number, CaseSize::small);
    const Hypothesis best = searched(sample);
    const Pose truth = pose_of(sample.image.geometry);
    // Crests are good to half a pixel: the pose to a hundredth of the distance and a hundredth of a radian.
    EXPECT_LT((best.pose.sample - truth.sample).norm(), 0.02 * truth.sample.norm()) << number;
    EXPECT_LT((best.pose.beam - truth.beam).norm(), 0.02) << number;
    EXPECT_EQ(best.tally.seen, best.tally.listed) << number;
  }
}

TEST(HypothesisSearch, ASecondPhaseDoesNotMakeADenserListTheBetterOne) {
  // At half the distance a cubic list has all its rings and many more, which foreign crests then meet.
  for (const std::uint32_t number : {105U, 107U, 109U}) {
    const CalibrationCase sample = simulation::make_case(CaseKind::second_phase, number, CaseSize::small);
    const Hypothesis best = searched(sample);
    EXPECT_NEAR(best.pose.sample[2], -sample.image.geometry.distance_m, 0.01 * sample.image.geometry.distance_m)
        << number;
  }
}

}  // namespace
}  // namespace annulus::calibration
