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
#include "kernels/splitting.hpp"
#include "tests/detectors.hpp"

namespace {
using namespace annulus::kernels;
using test::tilted_detector;

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

struct Corrected {
  std::vector<float> normalisation;
  std::vector<float> dark;
  std::vector<float> variance;
  Corrections corrections;

  Corrected(std::size_t pixels, bool with_dark, ErrorModel model) {
    std::mt19937 random(7);
    std::uniform_real_distribution<float> uniform(0.5F, 1.5F);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      normalisation.push_back(uniform(random));
      if (with_dark) dark.push_back(uniform(random) - 0.5F);
      if (model == ErrorModel::variance) variance.push_back(10.0F * uniform(random));
    }
    corrections.normalisation = normalisation;
    corrections.dark = dark;
    corrections.variance = variance;
    corrections.error_model = model;
    corrections.bad_pixels.negative = true;
    corrections.bad_pixels.dummy_on = true;
    corrections.bad_pixels.dummy = 13.0;
  }
};

struct Result {
  std::vector<float> intensity;
  std::vector<float> sem;
  std::vector<float> std;

  [[nodiscard]] Patterns patterns() { return {intensity, sem, std}; }
  void append(const Result& other) {
    intensity.insert(intensity.end(), other.intensity.begin(), other.intensity.end());
    sem.insert(sem.end(), other.sem.begin(), other.sem.end());
    std.insert(std.end(), other.std.begin(), other.std.end());
  }
  bool operator==(const Result&) const = default;
};

Result integrate(Engine& engine, const FrameBatch& batch, std::size_t rows, ErrorModel model, double monitor = 1.0) {
  Result result;
  result.intensity.assign(batch.frames * rows, -1.0F);  // poisoned: every element must be written
  result.sem.assign(model == ErrorModel::no ? 0 : batch.frames * rows, -1.0F);
  result.std = result.sem;
  const std::vector<double> monitors(batch.frames, monitor);
  engine.integrate(batch, monitors, result.patterns());
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

void expect_close(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what,
                  double slack = 1.0, double filled = 0.5) {
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_FALSE(expected.empty());
  std::size_t nonzero = 0;
  for (std::size_t place = 0; place < expected.size(); ++place) {
    ASSERT_LE(std::abs(static_cast<double>(found[place]) - expected[place]),
              slack * relative_bound * std::abs(expected[place]) + 1e-12)
        << what << " at " << place << ": " << found[place] << " against " << expected[place];
    nonzero += expected[place] != 0.0F;
  }
  EXPECT_GE(static_cast<double>(nonzero), filled * static_cast<double>(expected.size()))
      << what << ": hardly anything was compared";
}

/// Within the rounding of weights and results; see relative_bound. `slack` is for what is found from a difference,
/// `filled` the part of the bins that have an intensity, `with_errors` those that have errors.
void expect_close(const Result& found, const Result& expected, const std::string& what, double slack = 1.0,
                  double filled = 0.5, double with_errors = 0.5) {
  expect_close(found.intensity, expected.intensity, what + ": intensity", 1.0, filled);
  if (expected.sem.empty()) return;
  expect_close(found.sem, expected.sem, what + ": standard error", slack, with_errors);
  expect_close(found.std, expected.std, what + ": standard deviation", slack, with_errors);
}

/// Rows as dense arrays, since a share that rounding makes zero or not may be an entry or none.
void expect_same_rows(const CsrMatrix& found, const CsrMatrix& expected, double bound, const std::string& what) {
  ASSERT_EQ(found.rows, expected.rows);
  ASSERT_EQ(found.columns, expected.columns);
  std::vector<float> row_found(found.columns);
  std::vector<float> row_expected(found.columns);
  std::size_t entries = 0;
  std::size_t without_twin = 0;
  for (std::uint32_t row = 0; row < expected.rows; ++row) {
    const auto spread = [&](const CsrMatrix& matrix, std::vector<float>& dense) {
      std::int64_t last = -1;
      for (std::uint64_t entry = matrix.offsets[row]; entry < matrix.offsets[row + 1]; ++entry) {
        ASSERT_GT(static_cast<std::int64_t>(matrix.pixels[entry]), last) << what << ": pixels must ascend";
        last = matrix.pixels[entry];
        dense[matrix.pixels[entry]] = matrix.weights[entry];
      }
    };
    std::fill(row_found.begin(), row_found.end(), 0.0F);
    std::fill(row_expected.begin(), row_expected.end(), 0.0F);
    spread(found, row_found);
    spread(expected, row_expected);
    for (std::uint32_t pixel = 0; pixel < expected.columns; ++pixel) {
      ASSERT_NEAR(row_found[pixel], row_expected[pixel], bound) << what << ", row " << row << ", pixel " << pixel;
      entries += row_expected[pixel] != 0.0F;
      without_twin += (row_found[pixel] != 0.0F) != (row_expected[pixel] != 0.0F);
    }
  }
  EXPECT_GT(entries, 500U) << what;
  EXPECT_LE(without_twin, entries / 200) << what;
}

/// A sample that is turned about all axes.
constexpr SampleFrame turned_sample = {0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6};

TEST_P(BackendTest, AnyCoordinateOnTheSecondAxisGivesTheReferencesRows) {
  std::size_t matrices = 0;
  for (int space = 0; space <= static_cast<int>(RadialSpace::q_total); ++space) {
    for (const Splitting splitting : {Splitting::no, Splitting::bbox, Splitting::pseudo, Splitting::full}) {
      // All spaces in one splitting, one of each kind in all.
      const auto azimuthal = static_cast<RadialSpace>(space);
      const bool everywhere = azimuthal == RadialSpace::chi_sample || azimuthal == RadialSpace::q_in_plane;
      if (splitting != Splitting::bbox && !everywhere) continue;
      for (const Convention convention : {Convention::exact, Convention::pyfai}) {
        if (convention == Convention::pyfai && !everywhere) continue;
        MatrixSpec spec = tilted_detector(0.2, 61, 83);
        spec.space = azimuthal == RadialSpace::q_sample_y ? RadialSpace::q_in_plane : RadialSpace::q_sample_y;
        spec.frame = turned_sample;
        spec.azimuthal_space = azimuthal;
        spec.azimuthal_frame = turned_sample;
        spec.negative_radial = true;
        spec.splitting = splitting;
        spec.azimuthal_bins = 7;
        spec.cut = space % 2 == 0 ? AzimuthCut::at_pi : AzimuthCut::at_zero;
        spec.convention = convention;
        const std::string what = "azimuthal space " + std::to_string(space) + ", " + std::string(name_of(splitting)) +
                                 ", " + std::string(name_of(convention));
        const auto reference = make_engine(Backend::reference, {});
        const BinAxes expected_axes = reference->build_matrix(spec);
        const auto tested = engine();
        const BinAxes axes = tested->build_matrix(spec);
        // As above; of coordinates that cancel, the last bits are those of the whole.
        const double scale =
            std::max(std::abs(expected_axes.azimuthal.minimum), std::abs(expected_axes.azimuthal.maximum));
        EXPECT_NEAR(axes.azimuthal.minimum, expected_axes.azimuthal.minimum, 6e-8 * scale) << what;
        EXPECT_NEAR(axes.azimuthal.maximum, expected_axes.azimuthal.maximum, 6e-8 * scale) << what;
        expect_same_rows(tested->matrix(), reference->matrix(), convention == Convention::pyfai ? 2e-3 : 2e-5, what);
        ++matrices;
      }
    }
  }
  EXPECT_EQ(matrices, 20U + 2U * 4U * 2U);
}

TEST_P(BackendTest, MatrixHasTheReferencesRows) {
  std::vector<std::uint8_t> mask(tilted_detector().geometry.pixels());
  for (std::size_t pixel = 0; pixel < mask.size(); pixel += 11) mask[pixel] = 1;
  std::size_t matrices = 0;
  for (int space = 0; space <= static_cast<int>(RadialSpace::q_total); ++space) {
    for (const Splitting splitting : {Splitting::no, Splitting::bbox, Splitting::pseudo, Splitting::full}) {
      for (const std::uint32_t azimuthal_bins : {0U, 7U}) {
        for (const Convention convention : {Convention::exact, Convention::pyfai}) {
          // All spaces in the default splitting, all else in two of them.
          if (space > 1 && (splitting != Splitting::bbox || azimuthal_bins != 0) && space != 7) continue;
          MatrixSpec spec = tilted_detector(0.2, 61, 83);
          mask.resize(spec.geometry.pixels());
          spec.space = static_cast<RadialSpace>(space);
          spec.negative_radial = space >= static_cast<int>(RadialSpace::qx);
          if (space >= static_cast<int>(RadialSpace::angle_vertical)) spec.frame = turned_sample;
          spec.splitting = splitting;
          spec.azimuthal_bins = azimuthal_bins;
          spec.cut = space % 2 == 0 ? AzimuthCut::at_pi : AzimuthCut::at_zero;
          spec.convention = convention;
          spec.mask = mask;
          const std::string what = "space " + std::to_string(space) + ", " + std::string(name_of(splitting)) + ", " +
                                   std::to_string(azimuthal_bins) + " azimuths, " + std::string(name_of(convention));
          const auto reference = make_engine(Backend::reference, {});
          const BinAxes expected_axes = reference->build_matrix(spec);
          const auto tested = engine();
          const BinAxes axes = tested->build_matrix(spec);
          // Device mathematics may differ in the last bits of atan2, sin and log: 4 ulp of float64 and some reserve;
          // where corners decide, in the last bit of a float32.
          const double ulp = splits_by_area(splitting) ? 6e-8 : 4e-15;
          const double scale = std::max(std::abs(expected_axes.radial.minimum), std::abs(expected_axes.radial.maximum));
          EXPECT_NEAR(axes.radial.minimum, expected_axes.radial.minimum, ulp * scale) << what;
          EXPECT_NEAR(axes.radial.maximum, expected_axes.radial.maximum, ulp * scale) << what;
          // A corner may round to the neighbouring float32: 6e-8 of a radius of some 100 pixels' width; float32 areas
          // of pyFAI's kind lose another digit or two in one dimension.
          expect_same_rows(tested->matrix(), reference->matrix(), convention == Convention::pyfai ? 2e-3 : 2e-5, what);
          ++matrices;
        }
      }
    }
  }
  EXPECT_GE(matrices, 60U);
}

TEST_P(BackendTest, RangesAndVerticesAndParallaxGiveTheReferencesRows) {
  MatrixSpec spec = tilted_detector(0.2, 61, 83);
  std::vector<float> vertices;
  for (std::uint32_t pixel = 0; pixel < spec.geometry.pixels(); ++pixel) {
    const double row = pixel / spec.geometry.columns;
    const double column = pixel % spec.geometry.columns;
    for (const auto& [down, right] : {std::pair{0, 0}, {1, 0}, {1, 1}, {0, 1}}) {
      // A cylinder about the vertical axis, with gaps between the pixels.
      const double across = (column + 0.95 * right) * spec.geometry.pixel2_m;
      vertices.insert(vertices.end(), {static_cast<float>(0.02 - 0.02 * std::cos(across / 0.02)),
                                       static_cast<float>((row + 0.9 * down) * spec.geometry.pixel1_m),
                                       static_cast<float>(0.02 * std::sin(across / 0.02))});
    }
  }
  std::vector<double> parallax(parallax_nodes);
  for (std::size_t node = 0; node < parallax.size(); ++node) parallax[node] = -3e-7 * static_cast<double>(node);
  for (const int variant : {0, 1, 2, 3}) {
    for (const Splitting splitting : {Splitting::no, Splitting::bbox, Splitting::full}) {
      spec.splitting = splitting;
      spec.azimuthal_bins = variant % 2 == 0 ? 0 : 5;
      spec.range = {{0.05, 0.4}};
      spec.azimuthal_range = {{1.0, 3.0}};
      spec.geometry.vertices = variant < 2 ? std::span<const float>(vertices) : std::span<const float>();
      spec.geometry.parallax_m = variant < 2 ? std::span<const double>() : std::span<const double>(parallax);
      const auto reference = make_engine(Backend::reference, {});
      const auto tested = engine();
      EXPECT_EQ(reference->build_matrix(spec), tested->build_matrix(spec));
      expect_same_rows(tested->matrix(), reference->matrix(), 2e-5,
                       "variant " + std::to_string(variant) + ", " + std::string(name_of(splitting)));
    }
  }
}

TEST_P(BackendTest, ManyRowsAreSortedToo) {
  MatrixSpec spec = tilted_detector();
  spec.splitting = Splitting::full;
  spec.bins = 1000;
  spec.azimuthal_bins = 360;  // so many that the OpenCL backend counts and sorts by atomics
  const auto reference = make_engine(Backend::reference, {});
  const auto tested = engine();
  reference->build_matrix(spec);
  tested->build_matrix(spec);
  const CsrMatrix found = tested->matrix();
  const CsrMatrix expected = reference->matrix();
  ASSERT_EQ(found.rows, 360'000U);
  std::size_t same = 0;
  for (std::uint32_t row = 0; row < found.rows; ++row) {
    for (std::uint64_t entry = found.offsets[row] + 1; entry < found.offsets[row + 1]; ++entry) {
      ASSERT_LT(found.pixels[entry - 1], found.pixels[entry]);
    }
    const std::uint64_t entries = expected.offsets[row + 1] - expected.offsets[row];
    if (found.offsets[row + 1] - found.offsets[row] != entries) continue;
    same += entries;
    for (std::uint64_t entry = 0; entry < entries; ++entry) {
      if (found.pixels[found.offsets[row] + entry] != expected.pixels[expected.offsets[row] + entry]) continue;
      // Bins of a tenth of a pixel: a corner's float32 rounding moves a share by ten times as much.
      ASSERT_NEAR(found.weights[found.offsets[row] + entry], expected.weights[expected.offsets[row] + entry], 2e-4F);
    }
  }
  EXPECT_GT(same, expected.entries() * 99 / 100);
}

TEST_P(BackendTest, AMatrixThatWasSavedGivesTheSameNumbers) {
  MatrixSpec spec = tilted_detector();
  spec.splitting = Splitting::full;
  const auto tested = engine();
  tested->build_matrix(spec);
  const Corrected corrected(spec.geometry.pixels(), true, ErrorModel::poisson);
  tested->set_corrections(corrected.corrections);
  const Frames frames = make_frames(PixelType::u16, 3, spec.geometry.pixels(), 0.02, 5);
  const Result expected = integrate(*tested, frames.batch, spec.bins, ErrorModel::poisson);
  const auto second = engine();
  second->set_matrix(tested->matrix());
  second->set_corrections(corrected.corrections);
  const Result found = integrate(*second, frames.batch, spec.bins, ErrorModel::poisson);
  if (GetParam() == Backend::reference) {
    expect_close(found, expected, "float32 weights");  // its own are float64
  } else {
    EXPECT_EQ(found, expected);
  }
}

TEST_P(BackendTest, AgreesWithTheReferenceForEveryPixelType) {
  const MatrixSpec spec = tilted_detector();
  const auto reference = make_engine(Backend::reference, {});
  const auto tested = engine();
  reference->build_matrix(spec);
  tested->build_matrix(spec);
  for (const PixelType type : {PixelType::u8, PixelType::u16, PixelType::u32, PixelType::i8, PixelType::i16,
                               PixelType::i32, PixelType::f32, PixelType::f64}) {
    for (const bool dark : {false, true}) {
      for (const ErrorModel model :
           {ErrorModel::no, ErrorModel::variance, ErrorModel::poisson, ErrorModel::azimuthal, ErrorModel::hybrid}) {
        // OpenCL programs are compiled for each type and model, which takes seconds: all types, and all models.
        const bool every_type = model == ErrorModel::poisson || (model == ErrorModel::no && !dark);
        if (!every_type && type != PixelType::u16 && type != PixelType::f32) continue;
        const Corrected corrected(spec.geometry.pixels(), dark, model);
        reference->set_corrections(corrected.corrections);
        tested->set_corrections(corrected.corrections);
        const Frames frames = make_frames(type, 3, spec.geometry.pixels(), 0.02, 5);
        const Result expected = integrate(*reference, frames.batch, spec.bins, model, 2.5);
        const Result found = integrate(*tested, frames.batch, spec.bins, model, 2.5);
        expect_close(found, expected,
                     std::string(name_of(type)) + ", " + std::string(name_of(model)) + (dark ? " with dark" : ""));
      }
    }
  }
}

TEST_P(BackendTest, AgreesWithTheReferenceForEveryFilter) {
  const auto reference = make_engine(Backend::reference, {});
  const auto tested = engine();
  const std::vector<OutlierFilter> filters{SigmaClip{2.5, 5},       SigmaClip{3.0, 1},         SigmaClip{1.0, 20},
                                           QuantileRange{0.5, 0.5}, QuantileRange{0.25, 0.75}, QuantileRange{0.0, 1.0},
                                           QuantileRange{0.9, 0.95}};
  for (const std::uint32_t azimuthal_bins : {0U, 5U}) {
    MatrixSpec spec = tilted_detector();
    spec.azimuthal_bins = azimuthal_bins;
    const std::size_t rows = reference->build_matrix(spec).rows();
    tested->build_matrix(spec);
    for (std::size_t filter = 0; filter < filters.size(); ++filter) {
      for (const ErrorModel model :
           {ErrorModel::no, ErrorModel::variance, ErrorModel::poisson, ErrorModel::azimuthal, ErrorModel::hybrid}) {
        for (const Convention convention : {Convention::exact, Convention::pyfai}) {
          Corrected corrected(spec.geometry.pixels(), true, model);
          corrected.corrections.filter = filters[filter];
          corrected.corrections.convention = convention;
          reference->set_corrections(corrected.corrections);
          tested->set_corrections(corrected.corrections);
          // Real numbers with an outlier now and then; counts would tie.
          Frames frames = make_frames(PixelType::f32, 5, spec.geometry.pixels(), 0.01, 5);
          auto* values = reinterpret_cast<float*>(frames.bytes.data());
          for (std::size_t place = 3; place < 5 * spec.geometry.pixels(); place += 101) values[place] += 5000.0F;
          const Result expected = integrate(*reference, frames.batch, rows, model, 2.5);
          const Result found = integrate(*tested, frames.batch, rows, model, 2.5);
          // One by one, pyFAI's variance loses to rounding what the scatter is smaller than the counts.
          expect_close(found, expected,
                       "filter " + std::to_string(filter) + ", " + std::string(name_of(model)) + ", " +
                           std::string(name_of(convention)) + ", " + std::to_string(azimuthal_bins) + " azimuths",
                       2.0, 0.1, 0.0);
        }
      }
    }
  }
}

TEST_P(BackendTest, TheScatterOfEqualValuesIsZero) {
  const MatrixSpec spec = tilted_detector();
  const auto tested = engine();
  tested->build_matrix(spec);
  const std::vector<float> ones(spec.geometry.pixels(), 1.0F);
  Corrections corrections;
  corrections.normalisation = ones;
  corrections.error_model = ErrorModel::azimuthal;
  tested->set_corrections(corrections);
  const std::vector<std::uint16_t> values(spec.geometry.pixels(), 12345);
  const FrameBatch batch{reinterpret_cast<const std::byte*>(values.data()), PixelType::u16, 1, values.size()};
  const Result found = integrate(*tested, batch, spec.bins, ErrorModel::azimuthal);
  EXPECT_EQ(found.intensity, std::vector<float>(spec.bins, 12345.0F));
  for (const float sem : found.sem) EXPECT_NEAR(sem, 0.0F, 1e-8F);
}

TEST_P(BackendTest, BadPixelsGiveTheNumbersOfAMaskKnownBeforehand) {
  for (const double share : {0.0, 0.01, 0.1, 0.5}) {
    MatrixSpec spec = tilted_detector();
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
    const Result found = integrate(*dynamic, frames.batch, spec.bins, ErrorModel::poisson);
    spec.mask = mask;
    const auto fixed = engine();
    fixed->build_matrix(spec);
    fixed->set_corrections(corrected.corrections);
    const Result expected = integrate(*fixed, frames.batch, spec.bins, ErrorModel::poisson);
    expect_close(found, expected, std::to_string(share) + " of the pixels bad");
  }
}

TEST_P(BackendTest, ABinWhosePixelsAreAllBadIsZero) {
  const MatrixSpec spec = tilted_detector();
  const auto tested = engine();
  tested->build_matrix(spec);
  const Corrected corrected(spec.geometry.pixels(), true, ErrorModel::poisson);
  tested->set_corrections(corrected.corrections);
  const std::vector<std::uint16_t> values(spec.geometry.pixels(), 65535);
  const FrameBatch batch{reinterpret_cast<const std::byte*>(values.data()), PixelType::u16, 1, values.size()};
  const Result found = integrate(*tested, batch, spec.bins, ErrorModel::poisson);
  EXPECT_EQ(found.intensity, std::vector<float>(spec.bins, 0.0F));
  EXPECT_EQ(found.sem, std::vector<float>(spec.bins, 0.0F));
  EXPECT_EQ(found.std, std::vector<float>(spec.bins, 0.0F));
}

TEST_P(BackendTest, EmptyBinsAreZero) {
  MatrixSpec spec = tilted_detector(0.2, 7, 5);
  spec.bins = 2000;  // far more bins than the pixels can fill
  spec.splitting = Splitting::no;
  const auto tested = engine();
  tested->build_matrix(spec);
  const Corrected corrected(spec.geometry.pixels(), false, ErrorModel::poisson);
  tested->set_corrections(corrected.corrections);
  const std::vector<std::uint16_t> values(spec.geometry.pixels(), 10);
  const FrameBatch batch{reinterpret_cast<const std::byte*>(values.data()), PixelType::u16, 1, values.size()};
  const Result found = integrate(*tested, batch, spec.bins, ErrorModel::poisson);
  std::size_t filled = 0;
  for (std::size_t bin = 0; bin < spec.bins; ++bin) {
    filled += found.intensity[bin] != 0.0F;
    EXPECT_EQ(found.intensity[bin] == 0.0F, found.sem[bin] == 0.0F);
  }
  EXPECT_GT(filled, 10U);
  EXPECT_LE(filled, 35U);
}

TEST_P(BackendTest, OneBinHoldsTheWholeDetector) {
  MatrixSpec spec = tilted_detector();
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
  const Result found = integrate(*tested, batch, 1, ErrorModel::no);
  EXPECT_FLOAT_EQ(found.intensity[0], static_cast<float>(sum / static_cast<double>(values.size())));
}

TEST_P(BackendTest, AFramesNumbersDependOnNothingButTheFrame) {
  const MatrixSpec spec = tilted_detector();
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
        found.append(integrate(*tested, part, spec.bins, ErrorModel::poisson));
      }
      if (expected.intensity.empty()) expected = found;
      EXPECT_TRUE(found == expected) << threads << " threads, batches of " << size;
    }
  }
}

TEST_P(BackendTest, AMaskOverTheWholeDetectorIsAnInputError) {
  MatrixSpec spec = tilted_detector();
  const std::vector<std::uint8_t> mask(spec.geometry.pixels(), 1);
  spec.mask = mask;
  EXPECT_THROW(engine()->build_matrix(spec), annulus::InputError);
}

TEST_P(BackendTest, ARangeThatNoPixelReachesIsAnInputError) {
  MatrixSpec spec = tilted_detector();
  spec.range = {{3.0, 3.1}};
  EXPECT_THROW(engine()->build_matrix(spec), annulus::InputError);
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendTest, ::testing::Values(Backend::reference, Backend::openmp, Backend::opencl),
                         [](const auto& backend) { return std::string(name_of(backend.param)); });

}  // namespace
