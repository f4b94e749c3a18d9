// The product by tiles, which the OpenCL backend chooses on GPUs, tried on whatever device there is: against the
// float64 reference within the bound of engine_test.cpp, and the cutting into tiles by itself.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <string>

#include "kernels/engine.hpp"
#include "kernels/opencl/device_tiles.hpp"
#include "kernels/opencl/opencl_engine.hpp"
#include "tests/detectors.hpp"

namespace {
using namespace annulus::kernels;

/// Half a unit in the last place of float32 on either side; float64 sums of so few terms add nothing to that.
constexpr double relative_bound = 1.3e-7;

MatrixSpec tilted_spec(std::uint32_t bins) {
  MatrixSpec spec = test::tilted_detector();
  spec.bins = bins;
  return spec;
}

std::vector<std::byte> make_frames(PixelType type, std::size_t values, double bad_share) {
  std::vector<std::byte> bytes(values * size_of(type));
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform;
  visit_pixel_type(type, [&]<typename Pixel>() {
    for (std::size_t place = 0; place < values; ++place) {
      auto value = static_cast<Pixel>(uniform(random) * uniform(random) * 100.0);
      if (uniform(random) < bad_share) {
        value = uniform(random) < 0.5 ? static_cast<Pixel>(13) : std::numeric_limits<Pixel>::max();
        if constexpr (std::is_signed_v<Pixel>) value = static_cast<Pixel>(-3);
        if constexpr (std::is_floating_point_v<Pixel>) {
          if (uniform(random) < 0.5) value = std::numeric_limits<Pixel>::quiet_NaN();
        }
      }
      std::memcpy(bytes.data() + place * sizeof(Pixel), &value, sizeof value);
    }
  });
  return bytes;
}

struct Result {
  std::vector<float> intensity;
  std::vector<float> sem;
  std::vector<float> std;
  bool operator==(const Result&) const = default;
};

Result integrate(Engine& engine, const FrameBatch& batch, std::size_t rows, bool errors) {
  Result result;
  result.intensity.assign(batch.frames * rows, -1.0F);
  result.sem.assign(errors ? batch.frames * rows : 0, -1.0F);
  result.std = result.sem;
  const std::vector<double> monitor(batch.frames, 2.5);
  engine.integrate(batch, monitor, {result.intensity, result.sem, result.std});
  return result;
}

void expect_close(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  std::size_t filled = 0;
  for (std::size_t place = 0; place < expected.size(); ++place) {
    ASSERT_LE(std::abs(static_cast<double>(found[place]) - expected[place]), relative_bound * std::abs(expected[place]))
        << what << " at " << place << ": " << found[place] << " against " << expected[place];
    filled += expected[place] != 0.0F;
  }
  EXPECT_GE(filled, expected.size() / 2) << what << ": hardly anything was compared";
}

class TileProductTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (list_devices().empty()) GTEST_SKIP() << "no OpenCL device on this machine";
  }
  static std::unique_ptr<Engine> by_tiles() {
    return opencl::make_engine({}, {0, opencl::Decoder::host, opencl::Product::by_tiles});
  }
};

TEST_F(TileProductTest, AgreesWithTheReference) {
  const MatrixSpec spec = tilted_spec(83);
  const std::size_t pixels = spec.geometry.pixels();
  const auto reference = make_engine(Backend::reference, {});
  const auto tested = by_tiles();
  reference->build_matrix(spec);
  tested->build_matrix(spec);
  std::vector<float> normalisation(pixels);
  std::vector<float> dark(pixels);
  std::vector<float> variance(pixels);
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(0.5F, 1.5F);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    normalisation[pixel] = uniform(random);
    dark[pixel] = uniform(random) - 0.5F;
    variance[pixel] = 10.0F * uniform(random);
  }
  for (const ErrorModel model : {ErrorModel::no, ErrorModel::variance, ErrorModel::poisson, ErrorModel::azimuthal}) {
    Corrections corrections;
    corrections.normalisation = normalisation;
    corrections.dark = dark;
    if (model == ErrorModel::variance) corrections.variance = variance;
    corrections.error_model = model;
    corrections.bad_pixels = {true, true, true, 13.0, 0.0};
    reference->set_corrections(corrections);
    tested->set_corrections(corrections);
    // Each type and model is compiled anew, which takes seconds: all types in one model, all models in one type.
    for (const PixelType type :
         {PixelType::u16, PixelType::u8, PixelType::u32, PixelType::i16, PixelType::i32, PixelType::f32}) {
      if (model != ErrorModel::poisson && type != PixelType::u16) continue;
      for (const double bad_share : {0.0, 0.02, 0.5}) {
        const std::vector<std::byte> frames = make_frames(type, 3 * pixels, bad_share);
        const FrameBatch batch{frames.data(), type, 3, pixels};
        const bool errors = model != ErrorModel::no;
        const Result expected = integrate(*reference, batch, spec.bins, errors);
        const Result found = integrate(*tested, batch, spec.bins, errors);
        const std::string what =
            std::string(name_of(type)) + ", " + std::string(name_of(model)) + ", bad " + std::to_string(bad_share);
        expect_close(found.intensity, expected.intensity, what + ": intensity");
        if (!errors) continue;
        expect_close(found.sem, expected.sem, what + ": standard error");
        expect_close(found.std, expected.std, what + ": standard deviation");
      }
    }
  }
}

TEST_F(TileProductTest, AFramesNumbersDependOnNothingButTheFrame) {
  const MatrixSpec spec = tilted_spec(83);
  const std::size_t pixels = spec.geometry.pixels();
  const auto tested = by_tiles();
  tested->build_matrix(spec);
  const std::vector<float> normalisation(pixels, 1.0F);
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.error_model = ErrorModel::poisson;
  tested->set_corrections(corrections);
  constexpr std::size_t frames = 33;
  const std::vector<std::byte> all = make_frames(PixelType::u16, frames * pixels, 0.01);
  const Result expected = integrate(*tested, {all.data(), PixelType::u16, frames, pixels}, spec.bins, true);
  for (const std::size_t size : {1, 7, 16, 32}) {
    Result found;
    for (std::size_t first = 0; first < frames; first += size) {
      const std::size_t count = std::min(size, frames - first);
      const Result part =
          integrate(*tested, {all.data() + first * pixels * 2, PixelType::u16, count, pixels}, spec.bins, true);
      found.intensity.insert(found.intensity.end(), part.intensity.begin(), part.intensity.end());
      found.sem.insert(found.sem.end(), part.sem.begin(), part.sem.end());
      found.std.insert(found.std.end(), part.std.begin(), part.std.end());
    }
    EXPECT_TRUE(found == expected) << "batches of " << size;
  }
}

TEST_F(TileProductTest, ABinWithoutAGoodPixelIsZero) {
  const MatrixSpec spec = tilted_spec(83);
  const std::size_t pixels = spec.geometry.pixels();
  const auto tested = by_tiles();
  tested->build_matrix(spec);
  std::vector<float> normalisation(pixels);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) normalisation[pixel] = 0.7F + 1e-4F * static_cast<float>(pixel);
  Corrections corrections;
  corrections.normalisation = normalisation;
  corrections.dark = normalisation;
  corrections.error_model = ErrorModel::poisson;
  tested->set_corrections(corrections);
  const std::vector<std::uint16_t> values(pixels, 65535);
  const Result found = integrate(
      *tested, {reinterpret_cast<const std::byte*>(values.data()), PixelType::u16, 1, pixels}, spec.bins, true);
  EXPECT_EQ(found.intensity, std::vector<float>(spec.bins, 0.0F));
  EXPECT_EQ(found.sem, std::vector<float>(spec.bins, 0.0F));
  EXPECT_EQ(found.std, std::vector<float>(spec.bins, 0.0F));
}

// Every entry of the matrix exactly once, in pieces that no slice overfills, its segment in its row.
TEST(DeviceTilesTest, EveryEntryHasOnePlace) {
  for (const std::uint32_t bins : {1U, 83U, 250U}) {
    const auto engine = make_engine(Backend::reference, {});
    MatrixSpec spec = tilted_spec(bins);
    std::vector<std::uint8_t> mask(spec.geometry.pixels());
    std::fill_n(mask.begin() + 3000, 4000, std::uint8_t{1});
    spec.mask = mask;
    engine->build_matrix(spec);
    const CsrMatrix matrix = engine->matrix();
    const opencl::TiledRows tiled = opencl::cut_into_tiles(matrix);

    std::map<std::uint32_t, std::uint32_t> row_of_place;
    for (std::uint32_t row = 0; row < matrix.rows; ++row) {
      for (std::uint32_t place = tiled.row_segments[row]; place < tiled.row_segments[row + 1]; ++place) {
        row_of_place[place] = row;
      }
    }
    ASSERT_EQ(row_of_place.size(), tiled.segments.size());
    std::map<std::pair<std::uint32_t, std::uint32_t>, float> found;
    for (std::size_t slice = 0; slice < tiled.slices.size(); ++slice) {
      const auto& [tile, first_segment, segments, steps] = tiled.slices[slice];
      std::uint32_t next_piece = 0;
      for (std::uint32_t segment = first_segment; segment < first_segment + segments; ++segment) {
        const std::uint32_t row = row_of_place.at(tiled.segments[segment].place);
        const std::uint32_t first = tiled.segments[segment].pieces & 0xFFFF;
        ASSERT_EQ(first, next_piece);
        next_piece += tiled.segments[segment].pieces >> 16;
        ASSERT_LE(next_piece, opencl::slice_pieces);
        for (std::uint32_t piece = first; piece < next_piece; ++piece) {
          for (std::uint32_t entry = 0; entry < steps * opencl::step_entries; ++entry) {
            const std::uint64_t step = tiled.slice_steps[slice] + entry / opencl::step_entries;
            const std::size_t at =
                (step * opencl::slice_pieces + piece) * opencl::step_entries + entry % opencl::step_entries;
            const std::uint32_t slot = opencl::place_in_tile(tiled.places.at(at));
            const std::uint32_t run = tiled.slice_runs[slice * opencl::tile_runs + slot / opencl::run_pixels];
            EXPECT_EQ(tiled.run_places[run].tile, tile);
            EXPECT_TRUE(tiled.run_places[run].used >> slot % opencl::run_pixels & 1) << "padding, too, must be judged";
            if (tiled.weights[at] == 0.0F) continue;
            const std::uint32_t pixel = run * opencl::run_pixels + slot % opencl::run_pixels;
            EXPECT_TRUE(found.try_emplace({row, pixel}, tiled.weights[at]).second) << "twice";
          }
        }
      }
    }
    std::size_t entries = 0;
    for (std::uint32_t row = 0; row < matrix.rows; ++row) {
      for (std::uint64_t entry = matrix.offsets[row]; entry < matrix.offsets[row + 1]; ++entry) {
        if (matrix.weights[entry] == 0.0F) continue;
        ++entries;
        const auto place = found.find({row, matrix.pixels[entry]});
        ASSERT_NE(place, found.end()) << "bins " << bins << ", row " << row;
        EXPECT_EQ(place->second, matrix.weights[entry]);
      }
    }
    EXPECT_EQ(entries, found.size());
    EXPECT_GT(entries, 5000U);
  }
}

TEST(DeviceTilesTest, AMatrixOfManyRowsIsNotCut) {
  const auto engine = make_engine(Backend::reference, {});
  MatrixSpec spec = tilted_spec(200);
  spec.azimuthal_bins = 36;
  engine->build_matrix(spec);
  EXPECT_TRUE(opencl::cut_into_tiles(engine->matrix()).slices.empty());
}

}  // namespace
