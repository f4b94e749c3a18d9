// A matrix that was kept is the matrix that would be built, or it is not used at all.
#include "mapping/matrix_cache.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "integrator/integration.hpp"
#include "integrator/matrix_store.hpp"
#include "kernels/engine.hpp"

namespace annulus::mapping {
namespace {
namespace fs = std::filesystem;
using integrator::StoredMatrix;

Digest digest_of_text(std::string_view text) { return digest_of(std::as_bytes(std::span(text))); }

TEST(Digest, IsMurmurHash3) {
  // Known values of MurmurHash3_x64_128 with seed 0, as of many implementations.
  EXPECT_EQ(digest_of_text(""), (Digest{0, 0}));
  EXPECT_EQ(digest_of_text("The quick brown fox jumps over the lazy dog"),
            (Digest{0xe34bbc7bbc071b6cU, 0x7a433ca9c49a9347U}));
}

TEST(Digest, SeesEveryBit) {
  // Lengths around the block of 16 bytes, so that every branch takes part.
  for (std::size_t length = 1; length <= 49; ++length) {
    std::string text(length, 'a');
    const Digest whole = digest_of_text(text);
    for (std::size_t place = 0; place < length; ++place) {
      for (int bit = 0; bit < 8; ++bit) {
        text[place] = static_cast<char>('a' ^ 1 << bit);
        const Digest other = digest_of_text(text);
        EXPECT_NE(other.first, whole.first) << length << ' ' << place;
        EXPECT_NE(other.second, whole.second) << length << ' ' << place;
      }
      text[place] = 'a';
    }
  }
}

/// A matrix of several blocks of 1 MiB, the last one not full, with empty rows, a row that ends a block, and weights
/// that no short decimal holds.
StoredMatrix large_matrix() {
  StoredMatrix stored;
  stored.axes.radial = {0.1, 0.2 + 0.1, 0.3, 7};
  stored.axes.azimuthal = {-0.1, 3.0, 2.9, 2};
  kernels::CsrMatrix& matrix = stored.matrix;
  matrix.rows = 14;
  matrix.columns = 1'000'003;
  matrix.offsets = {0};
  for (std::uint32_t row = 0; row < matrix.rows; ++row) {
    if (row % 5 != 3) {
      for (std::uint32_t pixel = row; pixel < matrix.columns; pixel += matrix.rows) {
        matrix.pixels.push_back(pixel);
        matrix.weights.push_back(1.0F / static_cast<float>(1 + pixel));
      }
    }
    matrix.offsets.push_back(matrix.pixels.size());
  }
  return stored;
}

StoredMatrix small_matrix() {
  StoredMatrix stored;
  stored.axes.radial = {0.0, 3.0, 2.5, 3};
  stored.matrix = {3, 5, {0, 2, 2, 4}, {0, 4, 1, 4}, {1.0F, 0.5F, 1.0F, 0.5F}};
  return stored;
}

void expect_same(const StoredMatrix& found, const StoredMatrix& expected) {
  EXPECT_EQ(found.axes, expected.axes);
  EXPECT_EQ(found.matrix.rows, expected.matrix.rows);
  EXPECT_EQ(found.matrix.columns, expected.matrix.columns);
  EXPECT_EQ(found.matrix.offsets, expected.matrix.offsets);
  EXPECT_EQ(found.matrix.pixels, expected.matrix.pixels);
  ASSERT_EQ(found.matrix.weights.size(), expected.matrix.weights.size());
  EXPECT_EQ(std::memcmp(found.matrix.weights.data(), expected.matrix.weights.data(),
                        expected.matrix.weights.size() * sizeof(float)),
            0);
}

class MatrixCacheTest : public testing::Test {
 protected:
  MatrixCacheTest() { fs::remove_all(folder_); }
  ~MatrixCacheTest() override { fs::remove_all(folder_); }

  [[nodiscard]] MatrixCache cache(MatrixCache::Access access = MatrixCache::Access::read_and_save) const {
    return {folder_, access, 2};
  }

  [[nodiscard]] std::string content() const {
    std::ifstream stream(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  void replace(const std::string& bytes) const {
    std::ofstream(file_, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<long>(bytes.size()));
  }

  /// Files in the folder, temporary ones too.
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  /// The file as it is now is not used, the user hears why, and the next save mends it.
  void expect_rebuilt(const std::string& reason, const std::string& what) const {
    MatrixCache damaged = cache();
    EXPECT_FALSE(damaged.load(key_).has_value()) << what;
    ASSERT_EQ(damaged.warnings().size(), 1U) << what;
    EXPECT_NE(damaged.warnings()[0].find(reason), std::string::npos) << what << ": " << damaged.warnings()[0];
    EXPECT_NE(damaged.warnings()[0].find(file_.string()), std::string::npos) << what << ": " << damaged.warnings()[0];
    damaged.save(key_, small_matrix());
    MatrixCache mended = cache();
    const auto found = mended.load(key_);
    ASSERT_TRUE(found.has_value()) << what;
    expect_same(*found, small_matrix());
    EXPECT_TRUE(mended.warnings().empty()) << what;
    EXPECT_EQ(files(), 1U) << what;
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / ("annulus_matrix_cache_" + std::to_string(getpid())) / "made";
  const std::string key_ = "version 1\nof a test\n";
  const fs::path file_ = cache().file_of(key_);
};

TEST_F(MatrixCacheTest, GivesBackWhatWasSaved) {
  for (const StoredMatrix& matrix : {small_matrix(), large_matrix()}) {
    MatrixCache writer = cache();
    writer.save(key_, matrix);
    EXPECT_TRUE(writer.warnings().empty());
    MatrixCache reader = cache(MatrixCache::Access::read);
    const auto found = reader.load(key_);
    ASSERT_TRUE(found.has_value());
    expect_same(*found, matrix);
    EXPECT_TRUE(reader.warnings().empty());
  }
  EXPECT_EQ(files(), 1U);
}

TEST_F(MatrixCacheTest, NumberOfThreadsDoesNotMatter) {
  const StoredMatrix matrix = large_matrix();
  MatrixCache(folder_, MatrixCache::Access::read_and_save, 1).save(key_, matrix);
  const std::string of_one = content();
  MatrixCache(folder_, MatrixCache::Access::read_and_save, 3).save(key_, matrix);
  EXPECT_TRUE(content() == of_one);
  EXPECT_TRUE(MatrixCache(folder_, MatrixCache::Access::read, 1).load(key_).has_value());
  EXPECT_TRUE(MatrixCache(folder_, MatrixCache::Access::read, 5).load(key_).has_value());
}

TEST_F(MatrixCacheTest, KnowsNothingWithoutAFolder) {
  MatrixCache empty = cache();
  EXPECT_FALSE(empty.load(key_).has_value());
  EXPECT_TRUE(empty.warnings().empty());
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(MatrixCacheTest, ReaderWritesNothing) {
  MatrixCache reader = cache(MatrixCache::Access::read);
  EXPECT_FALSE(reader.saves());
  reader.save(key_, small_matrix());
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(MatrixCacheTest, EveryFlippedBitIsSeen) {
  cache().save(key_, small_matrix());
  const std::string whole = content();
  ASSERT_GT(whole.size(), 200U);
  for (std::size_t place = 0; place < whole.size(); ++place) {
    std::string garbled = whole;
    garbled[place] = static_cast<char>(garbled[place] ^ 1 << place % 8);
    replace(garbled);
    expect_rebuilt("the matrix is built anew", "byte " + std::to_string(place));
  }
}

TEST_F(MatrixCacheTest, DamageInAnyBlockIsSeen) {
  cache().save(key_, large_matrix());
  const std::string whole = content();
  // All arrays but the few offsets have several blocks of 1 MiB.
  for (std::size_t place = 1000; place < whole.size(); place += 500'000) {
    std::string garbled = whole;
    garbled[place] = static_cast<char>(garbled[place] ^ 1);
    replace(garbled);
    MatrixCache reader = cache();
    EXPECT_FALSE(reader.load(key_).has_value()) << place;
    EXPECT_EQ(reader.warnings().size(), 1U) << place;
  }
}

TEST_F(MatrixCacheTest, EveryTruncationIsSeen) {
  cache().save(key_, small_matrix());
  const std::string whole = content();
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    replace(whole.substr(0, length));
    expect_rebuilt("the matrix is built anew", "length " + std::to_string(length));
  }
  replace(whole + "x");
  expect_rebuilt("its size is not what its header says", "one byte more");
}

TEST_F(MatrixCacheTest, ForeignFilesAreNamed) {
  fs::create_directories(folder_);
  replace(std::string(5000, 'x'));
  expect_rebuilt("is no matrix of annulus", "text");
  std::string other = content();
  other[8] = 1;  // 01 02 03 04: the mark of a big-endian machine
  other[9] = 2;
  other[10] = 3;
  other[11] = 4;
  replace(other);
  expect_rebuilt("another byte order", "byte order");
  other = content();
  ++other[12];
  replace(other);
  expect_rebuilt("another version", "version");
}

TEST_F(MatrixCacheTest, MatrixOfAnotherKeyIsNotTaken) {
  cache().save("version 1\nof another\n", small_matrix());
  fs::rename(cache().file_of("version 1\nof another\n"), file_);
  expect_rebuilt("holds another matrix", "renamed file");
}

TEST_F(MatrixCacheTest, WholeFilesWithoutAMatrixAreNotTaken) {
  // Their checksums are right: what a defect of ours, not of a disk, would leave.
  const std::vector<std::pair<const char*, std::function<void(StoredMatrix&)>>> defects = {
      {"pixel beyond the detector", [](StoredMatrix& stored) { stored.matrix.pixels[3] = 5; }},
      {"offsets descend",
       [](StoredMatrix& stored) {
         stored.matrix.offsets = {0, 3, 2, 4};
       }},
      {"first offset", [](StoredMatrix& stored) { stored.matrix.offsets[0] = 1; }},
      {"last offset", [](StoredMatrix& stored) { stored.matrix.offsets[3] = 3; }},
      {"not a number",
       [](StoredMatrix& stored) { stored.matrix.weights[1] = std::numeric_limits<float>::quiet_NaN(); }},
      {"infinite", [](StoredMatrix& stored) { stored.matrix.weights[0] = std::numeric_limits<float>::infinity(); }},
      {"bins", [](StoredMatrix& stored) { stored.axes.radial.bins = 4; }},
  };
  for (const auto& [name, spoil] : defects) {
    StoredMatrix stored = small_matrix();
    spoil(stored);
    cache().save(key_, stored);
    expect_rebuilt("is damaged", name);
  }
}

TEST_F(MatrixCacheTest, FolderThatCannotBeMadeIsAWarning) {
  // Below a file there is no folder, for root neither.
  fs::create_directories(folder_);
  replace("a file");
  MatrixCache blocked(file_ / "folder", MatrixCache::Access::read_and_save, 1);
  EXPECT_FALSE(blocked.load(key_).has_value());
  blocked.save(key_, small_matrix());
  ASSERT_FALSE(blocked.warnings().empty());
  EXPECT_NE(blocked.warnings().back().find("the matrix is not kept"), std::string::npos) << blocked.warnings().back();
}

TEST_F(MatrixCacheTest, FolderInThePlaceOfAFileIsAWarning) {
  fs::create_directories(file_ / "in the way");
  MatrixCache blocked = cache();
  EXPECT_FALSE(blocked.load(key_).has_value());
  blocked.save(key_, small_matrix());
  EXPECT_EQ(blocked.warnings().size(), 2U);
  EXPECT_EQ(files(), 1U) << "the temporary file must be gone";
}

TEST_F(MatrixCacheTest, ConcurrentWritersLeaveOneWholeFile) {
  const StoredMatrix matrix = large_matrix();
  std::vector<std::string> problems(4);
  std::vector<std::thread> writers;
  for (std::string& problem : problems) {
    writers.emplace_back([this, &matrix, &problem] {
      MatrixCache mine(folder_, MatrixCache::Access::read_and_save, 1);
      for (int turn = 0; turn < 3; ++turn) {
        mine.save(key_, matrix);
        // Whoever was last: what is there is whole at any moment.
        if (const auto found = mine.load(key_); !found || found->matrix.weights != matrix.matrix.weights) {
          problem = "not found whole";
        }
      }
      if (!mine.warnings().empty()) problem = mine.warnings()[0];
    });
  }
  for (std::thread& writer : writers) writer.join();
  for (const std::string& problem : problems) EXPECT_EQ(problem, "");
  EXPECT_EQ(files(), 1U);
}

/// Counts what it is asked for.
class CountingEngine final : public kernels::Engine {
 public:
  explicit CountingEngine(int& builds, kernels::Backend backend = kernels::Backend::openmp)
      : engine_(kernels::make_engine(kernels::Backend::openmp, {"", 0, 2})), builds_(builds), backend_(backend) {}

  [[nodiscard]] kernels::Backend backend() const override { return backend_; }
  [[nodiscard]] std::string device_name() const override { return name; }
  kernels::BinAxes build_matrix(const kernels::MatrixSpec& spec) override {
    ++builds_;
    return engine_->build_matrix(spec);
  }
  void set_matrix(kernels::CsrMatrix matrix) override { engine_->set_matrix(std::move(matrix)); }
  [[nodiscard]] kernels::CsrMatrix matrix() const override { return engine_->matrix(); }
  void set_corrections(const kernels::Corrections& corrections) override { engine_->set_corrections(corrections); }
  void integrate(const kernels::FrameBatch& batch, std::span<const double> monitor,
                 const kernels::Patterns& patterns) override {
    engine_->integrate(batch, monitor, patterns);
  }

  std::string name = "2 threads";

 private:
  std::unique_ptr<kernels::Engine> engine_;
  int& builds_;
  kernels::Backend backend_;
};

integrator::IntegrationPlan small_plan() {
  integrator::IntegrationPlan plan;
  integrator::Geometry& geometry = plan.geometry;
  geometry.detector.name = "Own";
  geometry.detector.rows = 83;
  geometry.detector.columns = 101;
  geometry.detector.pixel1_m = 1e-4;
  geometry.detector.pixel2_m = 1.2e-4;
  geometry.distance_m = 0.05;
  geometry.poni1_m = 0.0041;
  geometry.poni2_m = 0.0052;
  geometry.rot1_rad = 0.1;
  plan.settings.bins = 50;
  plan.settings.splitting = kernels::Splitting::full;
  plan.mask.assign(83 * 101, 0);
  plan.mask[7] = 1;
  return plan;
}

std::vector<float> pattern_of(integrator::Integrator& integrator) {
  std::vector<std::uint16_t> frame(83 * 101);
  for (std::size_t pixel = 0; pixel < frame.size(); ++pixel) frame[pixel] = static_cast<std::uint16_t>(pixel % 977);
  std::vector<float> intensity(integrator.rows());
  const std::vector<double> monitor = {1.0};
  integrator.integrate({reinterpret_cast<const std::byte*>(frame.data()), kernels::PixelType::u16, 1, frame.size()},
                       monitor, {intensity, {}, {}});
  return intensity;
}

TEST_F(MatrixCacheTest, SecondIntegratorBuildsNothingAndGivesTheSameBits) {
  int builds = 0;
  MatrixCache first = cache();
  integrator::Integrator built(small_plan(), std::make_unique<CountingEngine>(builds), &first);
  EXPECT_EQ(builds, 1);
  EXPECT_FALSE(built.matrix_loaded());
  MatrixCache second = cache();
  integrator::Integrator loaded(small_plan(), std::make_unique<CountingEngine>(builds), &second);
  EXPECT_EQ(builds, 1);
  EXPECT_TRUE(loaded.matrix_loaded());
  EXPECT_EQ(loaded.radial(), built.radial());
  EXPECT_EQ(pattern_of(loaded), pattern_of(built));
  integrator::Integrator without(small_plan(), std::make_unique<CountingEngine>(builds));
  EXPECT_EQ(builds, 2);
  EXPECT_EQ(pattern_of(loaded), pattern_of(without));
}

TEST_F(MatrixCacheTest, AnotherPlanBuildsItsOwn) {
  int builds = 0;
  MatrixCache store = cache();
  const integrator::Integrator first(small_plan(), std::make_unique<CountingEngine>(builds), &store);
  integrator::IntegrationPlan plan = small_plan();
  plan.mask[8] = 1;
  const integrator::Integrator second(plan, std::make_unique<CountingEngine>(builds), &store);
  EXPECT_EQ(builds, 2);
  EXPECT_EQ(files(), 2U);
}

TEST_F(MatrixCacheTest, PixelsOfNoUseAreNotMaskedOnes) {
  // A flat field of 0 leaves the bins where they are, a mask may move them.
  int builds = 0;
  MatrixCache store = cache();
  integrator::IntegrationPlan plan = small_plan();
  plan.flat.assign(plan.mask.size(), 1.0F);
  const integrator::Integrator first(plan, std::make_unique<CountingEngine>(builds), &store);
  plan.flat[9] = 0.0F;
  const integrator::Integrator second(plan, std::make_unique<CountingEngine>(builds), &store);
  plan.flat[9] = 1.0F;
  plan.mask[9] = 1;
  const integrator::Integrator third(plan, std::make_unique<CountingEngine>(builds), &store);
  EXPECT_EQ(builds, 3);
  plan.flat[9] = 2.0F;  // the pixels' sensitivity is no part of the matrix
  const integrator::Integrator fourth(plan, std::make_unique<CountingEngine>(builds), &store);
  EXPECT_EQ(builds, 3);
}

TEST_F(MatrixCacheTest, ReferenceKeepsItsOwnWeights) {
  MatrixCache store = cache();
  for (int turn = 0; turn < 2; ++turn) {
    integrator::Integrator reference(small_plan(), kernels::make_engine(kernels::Backend::reference, {}), &store);
    EXPECT_FALSE(reference.matrix_loaded());
  }
  EXPECT_FALSE(fs::exists(folder_));
}

/// A store that answers anything with the same matrix.
class ForeignStore final : public integrator::MatrixStore {
 public:
  [[nodiscard]] std::optional<StoredMatrix> load(const std::string&) override { return small_matrix(); }
  [[nodiscard]] bool saves() const override { return false; }
  void save(const std::string&, const StoredMatrix&) override { ADD_FAILURE() << "saves() is false"; }
};

TEST(MatrixStore, MatrixOfAnotherShapeIsNotTaken) {
  int builds = 0;
  ForeignStore store;
  const integrator::Integrator integrator(small_plan(), std::make_unique<CountingEngine>(builds), &store);
  EXPECT_EQ(builds, 1);
  EXPECT_FALSE(integrator.matrix_loaded());
}

/// A specification that owns its arrays.
struct Specification {
  std::vector<float> vertices = std::vector<float>(24, 0.25F);
  std::vector<double> parallax = std::vector<double>(kernels::parallax_nodes, -1e-5);
  std::vector<std::uint8_t> mask = {0, 1};
  kernels::MatrixSpec spec;

  Specification() {
    spec.geometry.rows = 1;
    spec.geometry.columns = 2;
    spec.geometry.rotation = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  }

  [[nodiscard]] std::string key(kernels::Backend backend = kernels::Backend::openmp,
                                const std::string& device = "2 threads") {
    spec.geometry.vertices = vertices;
    spec.geometry.parallax_m = parallax;
    spec.mask = mask;
    int builds = 0;
    CountingEngine engine(builds, backend);
    engine.name = device;
    return integrator::matrix_key(spec, engine);
  }
};

TEST(MatrixKey, EveryMemberOfTheSpecificationChangesIt) {
  using Change = std::function<void(Specification&)>;
  // Doubles change by their last bit.
  const auto next = [](double& value) { value = std::nextafter(value, 1e9); };
  std::vector<std::pair<std::string, Change>> changes = {
      {"rows", [](Specification& s) { s.spec.geometry.rows = 2; }},
      {"columns", [](Specification& s) { s.spec.geometry.columns = 3; }},
      {"pixel1", [&](Specification& s) { next(s.spec.geometry.pixel1_m); }},
      {"pixel2", [&](Specification& s) { next(s.spec.geometry.pixel2_m); }},
      {"distance", [&](Specification& s) { next(s.spec.geometry.distance_m); }},
      {"poni1", [&](Specification& s) { next(s.spec.geometry.poni1_m); }},
      {"poni2", [&](Specification& s) { next(s.spec.geometry.poni2_m); }},
      {"wavelength", [&](Specification& s) { next(s.spec.geometry.wavelength_m); }},
      {"flip1", [](Specification& s) { s.spec.geometry.flip1 = true; }},
      {"flip2", [](Specification& s) { s.spec.geometry.flip2 = true; }},
      {"no vertices", [](Specification& s) { s.vertices.clear(); }},
      {"no parallax", [](Specification& s) { s.parallax.clear(); }},
      {"space", [](Specification& s) { s.spec.space = kernels::RadialSpace::r; }},
      {"azimuthal space", [](Specification& s) { s.spec.azimuthal_space = kernels::RadialSpace::q_sample_y; }},
      {"azimuth in rad", [](Specification& s) { s.spec.azimuth_in_degrees = false; }},
      {"splitting", [](Specification& s) { s.spec.splitting = kernels::Splitting::full; }},
      {"bins", [](Specification& s) { s.spec.bins = 1001; }},
      {"azimuthal bins", [](Specification& s) { s.spec.azimuthal_bins = 1; }},
      {"range",
       [](Specification& s) {
         s.spec.range = {0.0, 1.0};
       }},
      {"range's lower end",
       [](Specification& s) {
         s.spec.range = {std::nextafter(0.0, 1.0), 1.0};
       }},
      {"range's upper end",
       [](Specification& s) {
         s.spec.range = {0.0, std::nextafter(1.0, 2.0)};
       }},
      {"azimuthal range",
       [](Specification& s) {
         s.spec.azimuthal_range = {0.0, 1.0};
       }},
      {"its lower end",
       [](Specification& s) {
         s.spec.azimuthal_range = {std::nextafter(0.0, 1.0), 1.0};
       }},
      {"its upper end",
       [](Specification& s) {
         s.spec.azimuthal_range = {0.0, std::nextafter(1.0, 2.0)};
       }},
      {"cut", [](Specification& s) { s.spec.cut = kernels::AzimuthCut::at_zero; }},
      {"negative", [](Specification& s) { s.spec.negative_radial = true; }},
      {"convention", [](Specification& s) { s.spec.convention = kernels::Convention::pyfai; }},
      {"no mask", [](Specification& s) { s.mask.clear(); }},
  };
  for (std::size_t entry = 0; entry < 9; ++entry) {
    changes.emplace_back("rotation " + std::to_string(entry),
                         [&next, entry](Specification& s) { next(s.spec.geometry.rotation[entry]); });
    changes.emplace_back("frame " + std::to_string(entry),
                         [&next, entry](Specification& s) { next(s.spec.frame[entry]); });
    changes.emplace_back("azimuthal frame " + std::to_string(entry),
                         [&next, entry](Specification& s) { next(s.spec.azimuthal_frame[entry]); });
  }
  for (std::size_t entry = 0; entry < 24; ++entry) {
    changes.emplace_back("vertex " + std::to_string(entry), [entry](Specification& s) { s.vertices[entry] = 0.5F; });
  }
  for (std::size_t entry = 0; entry < kernels::parallax_nodes; entry += 93) {  // 11 * 93 = 1023, the last one
    changes.emplace_back("parallax " + std::to_string(entry), [entry](Specification& s) { s.parallax[entry] = -2e-5; });
  }
  for (std::size_t pixel = 0; pixel < 2; ++pixel) {
    changes.emplace_back("mask " + std::to_string(pixel), [pixel](Specification& s) { s.mask[pixel] = 2; });
  }

  std::vector<std::pair<std::string, std::string>> keys = {{Specification().key(), "nothing"}};
  for (const auto& [name, change] : changes) {
    Specification changed;
    change(changed);
    for (const auto& [key, other] : keys) EXPECT_NE(key, changed.key()) << name << " and " << other;
    keys.emplace_back(changed.key(), name);
  }
  EXPECT_EQ(keys.size(), 1U + 28U + 27U + 24U + 12U + 2U);
}

TEST(MatrixKey, IsTheSameForTheSameSpecification) { EXPECT_EQ(Specification().key(), Specification().key()); }

TEST(MatrixKey, DevicesDoNotShareAndThreadsDo) {
  using kernels::Backend;
  const std::string host = Specification().key(Backend::openmp, "2 threads");
  EXPECT_EQ(Specification().key(Backend::openmp, "64 threads"), host);
  const std::string device = Specification().key(Backend::opencl, "GPU A");
  EXPECT_NE(device, host);
  EXPECT_NE(Specification().key(Backend::opencl, "GPU B"), device);
}

}  // namespace
}  // namespace annulus::mapping
