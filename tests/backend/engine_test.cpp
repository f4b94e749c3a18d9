// One test source for every backend: each against the float64 reference, within a bound derived from its arithmetic.
#include "kernels/engine.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "base/errors.hpp"
#include "kernels/reference/reference_engine.hpp"

namespace {
using namespace annulus::kernels;

struct Frames {
  std::vector<std::byte> bytes;
  FrameBatch batch;
};

/// Counts with a few bad values of every kind: maximum, negative, not a number, dummy (= 13).
template <typename Pixel>
Frames make_frames(PixelType type, std::size_t frames, std::size_t pixels, double bad_share, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform;
  Frames made;
  made.bytes.resize(frames * pixels * sizeof(Pixel));
  for (std::size_t place = 0; place < frames * pixels; ++place) {
    auto value = static_cast<Pixel>(uniform(random) * uniform(random) * 100.0);
    if (uniform(random) < bad_share) {
      value = std::numeric_limits<Pixel>::max();
      if (uniform(random) < 0.3) value = static_cast<Pixel>(13);
      if constexpr (std::is_signed_v<Pixel>) value = static_cast<Pixel>(-3);
      if constexpr (std::is_floating_point_v<Pixel>) {
        if (uniform(random) < 0.5) value = std::numeric_limits<Pixel>::quiet_NaN();
      }
    }
    std::memcpy(made.bytes.data() + place * sizeof(Pixel), &value, sizeof value);
  }
  made.batch = {made.bytes.data(), type, frames, pixels};
  return made;
}

Frames make_frames(PixelType type, std::size_t frames, std::size_t pixels, double bad_share, unsigned seed) {
  return visit_pixel_type(type,
                          [&]<typename Pixel>() { return make_frames<Pixel>(type, frames, pixels, bad_share, seed); });
}

/// An odd-sized, tilted detector: more than one tile of pixels, no size a multiple of anything.
MatrixSpec odd_spec(std::uint32_t rows = 97, std::uint32_t columns = 131) {
  MatrixSpec spec;
  PixelGeometry& geometry = spec.geometry;
  geometry.rows = rows;
  geometry.columns = columns;
  geometry.pixel1_m = 172e-6;
  geometry.pixel2_m = 150e-6;
  geometry.distance_m = 0.03;
  geometry.poni1_m = 0.0071;
  geometry.poni2_m = 0.0113;
  geometry.wavelength_m = 1.1e-10;
  const double c = std::cos(0.2);
  const double s = std::sin(0.2);
  geometry.rotation = {1, 0, 0, 0, c, -s, 0, s, c};
  spec.bins = 83;
  return spec;
}

struct Corrected {
  std::vector<float> normalisation;
  std::vector<float> dark;
  Corrections corrections;

  Corrected(std::size_t pixels, bool with_dark, ErrorModel model) {
    std::mt19937 random(7);
    std::uniform_real_distribution<float> uniform(0.5F, 1.5F);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      normalisation.push_back(uniform(random));
      if (with_dark) dark.push_back(uniform(random) - 0.5F);
    }
    corrections.normalisation = normalisation;
    corrections.dark = dark;
    corrections.error_model = model;
    corrections.bad_pixels.negative = true;
    corrections.bad_pixels.dummy_on = true;
    corrections.bad_pixels.dummy = 13.0;
  }
};

struct Result {
  std::vector<float> intensity;
  std::vector<float> sigma;
};

Result integrate(Engine& engine, const FrameBatch& batch, std::size_t bins, bool sigma, double monitor = 1.0) {
  Result result;
  result.intensity.assign(batch.frames * bins, -1.0F);  // poisoned: every element must be written
  result.sigma.assign(sigma ? batch.frames * bins : 0, -1.0F);
  const std::vector<double> monitors(batch.frames, monitor);
  engine.integrate(batch, monitors, result.intensity, result.sigma);
  return result;
}

class BackendTest : public ::testing::TestWithParam<Backend> {
 protected:
  static std::unique_ptr<Engine> engine(int threads = 2) {
    DeviceChoice choice;
    choice.threads = threads;
    return make_engine(GetParam(), choice);
  }

  void SetUp() override {
    if (GetParam() == Backend::opencl && list_devices().empty()) GTEST_SKIP() << "no OpenCL device on this machine";
  }
};

/// Sums in float64 of at most 10^4 terms of like size err by less than 10^4 * 1.1e-16 of the sum of their absolute
/// values; subtracting a dark that is at most as large as the signal's noise amplifies that by less than 10^3. What is
/// left is the rounding of the result to float32: half a unit in the last place, 6e-8, on each side.
constexpr double relative_bound = 1.3e-7;

void expect_close(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_FALSE(expected.empty());
  std::size_t nonzero = 0;
  for (std::size_t place = 0; place < expected.size(); ++place) {
    ASSERT_LE(std::abs(static_cast<double>(found[place]) - expected[place]),
              relative_bound * std::abs(expected[place]) + 1e-12)
        << what << " at " << place << ": " << found[place] << " against " << expected[place];
    nonzero += expected[place] != 0.0F;
  }
  EXPECT_GT(nonzero, expected.size() / 2) << what << ": hardly anything was compared";
}

TEST_P(BackendTest, MatrixHasTheReferencesRows) {
  for (const RadialSpace space : {RadialSpace::two_theta, RadialSpace::q, RadialSpace::r}) {
    for (const Splitting splitting : {Splitting::no, Splitting::bbox}) {
      std::vector<std::uint8_t> mask(odd_spec().geometry.pixels());
      for (std::size_t pixel = 0; pixel < mask.size(); pixel += 11) mask[pixel] = 1;
      MatrixSpec spec = odd_spec();
      spec.space = space;
      spec.splitting = splitting;
      spec.mask = mask;
      const auto reference = make_engine(Backend::reference, {});
      const BinAxis expected_axis = reference->build_matrix(spec);
      const CsrMatrix expected = reference->matrix();
      const auto tested = engine();
      const BinAxis axis = tested->build_matrix(spec);
      const CsrMatrix found = tested->matrix();
      // Device mathematics may differ in the last bits of atan2, sin and sqrt: 4 ulp of float64 and some reserve.
      EXPECT_NEAR(axis.minimum, expected_axis.minimum, 2e-15 * expected_axis.maximum);
      EXPECT_NEAR(axis.maximum, expected_axis.maximum, 2e-15 * expected_axis.maximum);
      ASSERT_EQ(found.offsets, expected.offsets);
      ASSERT_EQ(found.pixels, expected.pixels);
      for (std::size_t entry = 0; entry < expected.weights.size(); ++entry) {
        // A corner may round to the neighbouring float32: 6e-8 of a radius of some 100 pixels' width.
        ASSERT_NEAR(found.weights[entry], expected.weights[entry], 2e-5F) << "entry " << entry;
      }
    }
  }
}

TEST_P(BackendTest, AgreesWithTheReferenceForEveryPixelType) {
  const MatrixSpec spec = odd_spec();
  const auto reference = make_engine(Backend::reference, {});
  const auto tested = engine();
  reference->build_matrix(spec);
  tested->build_matrix(spec);
  for (const PixelType type : {PixelType::u8, PixelType::u16, PixelType::u32, PixelType::i8, PixelType::i16,
                               PixelType::i32, PixelType::f32, PixelType::f64}) {
    for (const bool dark : {false, true}) {
      for (const ErrorModel model : {ErrorModel::no, ErrorModel::poisson}) {
        const Corrected corrected(spec.geometry.pixels(), dark, model);
        reference->set_corrections(corrected.corrections);
        tested->set_corrections(corrected.corrections);
        const Frames frames = make_frames(type, 3, spec.geometry.pixels(), 0.02, 5);
        const bool sigma = model != ErrorModel::no;
        const Result expected = integrate(*reference, frames.batch, spec.bins, sigma, 2.5);
        const Result found = integrate(*tested, frames.batch, spec.bins, sigma, 2.5);
        const std::string what = std::string(name_of(type)) + (dark ? " with dark" : "");
        expect_close(found.intensity, expected.intensity, what + " intensity");
        if (sigma) expect_close(found.sigma, expected.sigma, what + " sigma");
      }
    }
  }
}

TEST_P(BackendTest, BadPixelsGiveTheNumbersOfAMaskKnownBeforehand) {
  for (const double share : {0.0, 0.01, 0.1, 0.5}) {
    MatrixSpec spec = odd_spec();
    spec.range = {{0.05, 0.4}};  // a fixed range: masking must not move the bins
    const Corrected corrected(spec.geometry.pixels(), true, ErrorModel::poisson);
    const Frames frames = make_frames(PixelType::u16, 1, spec.geometry.pixels(), share, 9);
    std::vector<std::uint8_t> mask(spec.geometry.pixels());
    std::size_t masked = 0;
    for (std::size_t pixel = 0; pixel < mask.size(); ++pixel) {
      mask[pixel] = is_bad(frames.batch.frame<std::uint16_t>(0)[pixel], corrected.corrections.bad_pixels) ? 1 : 0;
      masked += mask[pixel];
    }
    ASSERT_GE(static_cast<double>(masked), 0.5 * share * static_cast<double>(mask.size()));
    const auto dynamic = engine();
    dynamic->build_matrix(spec);
    dynamic->set_corrections(corrected.corrections);
    const Result found = integrate(*dynamic, frames.batch, spec.bins, true);
    spec.mask = mask;
    const auto fixed = engine();
    fixed->build_matrix(spec);
    fixed->set_corrections(corrected.corrections);
    const Result expected = integrate(*fixed, frames.batch, spec.bins, true);
    expect_close(found.intensity, expected.intensity, "intensity");
    expect_close(found.sigma, expected.sigma, "sigma");
  }
}

TEST_P(BackendTest, ABinWhosePixelsAreAllBadIsZero) {
  const MatrixSpec spec = odd_spec();
  const auto tested = engine();
  tested->build_matrix(spec);
  const Corrected corrected(spec.geometry.pixels(), true, ErrorModel::poisson);
  tested->set_corrections(corrected.corrections);
  const std::vector<std::uint16_t> values(spec.geometry.pixels(), 65535);
  const FrameBatch batch{reinterpret_cast<const std::byte*>(values.data()), PixelType::u16, 1, values.size()};
  const Result found = integrate(*tested, batch, spec.bins, true);
  EXPECT_EQ(found.intensity, std::vector<float>(spec.bins, 0.0F));
  EXPECT_EQ(found.sigma, std::vector<float>(spec.bins, 0.0F));
}

TEST_P(BackendTest, EmptyBinsAreZero) {
  MatrixSpec spec = odd_spec(7, 5);
  spec.bins = 2000;  // far more bins than the pixels can fill
  spec.splitting = Splitting::no;
  const auto tested = engine();
  tested->build_matrix(spec);
  const Corrected corrected(spec.geometry.pixels(), false, ErrorModel::poisson);
  tested->set_corrections(corrected.corrections);
  const std::vector<std::uint16_t> values(spec.geometry.pixels(), 10);
  const FrameBatch batch{reinterpret_cast<const std::byte*>(values.data()), PixelType::u16, 1, values.size()};
  const Result found = integrate(*tested, batch, spec.bins, true);
  std::size_t filled = 0;
  for (std::size_t bin = 0; bin < spec.bins; ++bin) {
    filled += found.intensity[bin] != 0.0F;
    EXPECT_EQ(found.intensity[bin] == 0.0F, found.sigma[bin] == 0.0F);
  }
  EXPECT_GT(filled, 10U);
  EXPECT_LE(filled, 35U);
}

TEST_P(BackendTest, OneBinHoldsTheWholeDetector) {
  MatrixSpec spec = odd_spec();
  spec.bins = 1;
  const auto tested = engine();
  tested->build_matrix(spec);
  const std::vector<float> ones(spec.geometry.pixels(), 1.0F);
  Corrections corrections;
  corrections.normalisation = ones;
  tested->set_corrections(corrections);
  std::vector<std::uint32_t> values(spec.geometry.pixels());
  double sum = 0.0;
  for (std::size_t pixel = 0; pixel < values.size(); ++pixel) {
    values[pixel] = static_cast<std::uint32_t>(pixel % 1000);
    sum += values[pixel];
  }
  const FrameBatch batch{reinterpret_cast<const std::byte*>(values.data()), PixelType::u32, 1, values.size()};
  const Result found = integrate(*tested, batch, 1, false);
  EXPECT_FLOAT_EQ(found.intensity[0], static_cast<float>(sum / static_cast<double>(values.size())));
}

TEST_P(BackendTest, AFramesNumbersDependOnNothingButTheFrame) {
  const MatrixSpec spec = odd_spec();
  constexpr std::size_t frames = 33;
  const Frames all = make_frames(PixelType::u16, frames, spec.geometry.pixels(), 0.01, 3);
  const Corrected corrected(spec.geometry.pixels(), true, ErrorModel::poisson);
  Result expected;
  for (const int threads : {1, 2, 3}) {
    const auto tested = engine(threads);
    tested->build_matrix(spec);
    tested->set_corrections(corrected.corrections);
    for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{32}, frames}) {
      Result found;
      for (std::size_t first = 0; first < frames; first += size) {
        FrameBatch part = all.batch;
        part.data += first * all.batch.frame_bytes();
        part.frames = std::min(size, frames - first);
        const Result result = integrate(*tested, part, spec.bins, true);
        found.intensity.insert(found.intensity.end(), result.intensity.begin(), result.intensity.end());
        found.sigma.insert(found.sigma.end(), result.sigma.begin(), result.sigma.end());
      }
      if (expected.intensity.empty()) expected = found;
      EXPECT_EQ(found.intensity, expected.intensity) << threads << " threads, batches of " << size;
      EXPECT_EQ(found.sigma, expected.sigma) << threads << " threads, batches of " << size;
    }
  }
}

TEST_P(BackendTest, AMaskOverTheWholeDetectorIsAnInputError) {
  MatrixSpec spec = odd_spec();
  const std::vector<std::uint8_t> mask(spec.geometry.pixels(), 1);
  spec.mask = mask;
  EXPECT_THROW(engine()->build_matrix(spec), annulus::InputError);
}

TEST_P(BackendTest, ARangeThatNoPixelReachesIsAnInputError) {
  MatrixSpec spec = odd_spec();
  spec.range = {{3.0, 3.1}};
  EXPECT_THROW(engine()->build_matrix(spec), annulus::InputError);
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendTest, ::testing::Values(Backend::reference, Backend::openmp, Backend::opencl),
                         [](const auto& backend) { return std::string(name_of(backend.param)); });

}  // namespace
