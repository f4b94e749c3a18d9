// Encoded batches through slots: on every backend the numbers of the decoded frames, bit for bit, and for what cannot
// be decoded the verdict of decode_bslz4().
#include "kernels/encoded_batch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <ostream>
#include <random>
#include <string>

#include "kernels/bslz4.hpp"
#include "kernels/engine.hpp"
#include "kernels/opencl/opencl_engine.hpp"
#include "tests/fuzz/bslz4_fuzz.hpp"

namespace {
using namespace annulus::kernels;
using Bytes = std::vector<std::byte>;

/// An engine under test. What a GPU would choose is asked for, so that a CPU can try it.
struct Contender {
  const char* name;
  Backend backend;
  opencl::EngineOptions options;
};

MatrixSpec small_spec(std::uint32_t rows, std::uint32_t columns) {
  MatrixSpec spec;
  PixelGeometry& geometry = spec.geometry;
  geometry.rows = rows;
  geometry.columns = columns;
  geometry.pixel1_m = 172e-6;
  geometry.pixel2_m = 172e-6;
  geometry.distance_m = 0.03;
  geometry.poni1_m = 0.005;
  geometry.poni2_m = 0.007;
  geometry.wavelength_m = 1e-10;
  geometry.rotation = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  spec.bins = 37;
  return spec;
}

/// Frames with what detectors have: a dark ground, counts of many sizes, a few saturated pixels.
Bytes make_frame(PixelType type, std::size_t pixels, unsigned seed) {
  Bytes bytes(pixels * size_of(type));
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform;
  visit_pixel_type(type, [&]<typename Pixel>() {
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
      const double scale = pixel % 1000 < 300 ? 0.7 : pixel % 1000 < 500 ? 120.0 : 9.0;
      auto value = static_cast<Pixel>(uniform(random) * scale);
      if (uniform(random) < 0.001) value = std::numeric_limits<Pixel>::max();
      std::memcpy(bytes.data() + pixel * sizeof(Pixel), &value, sizeof value);
    }
  });
  return bytes;
}

struct Result {
  std::vector<float> intensity;
  std::vector<float> sem;
  std::vector<float> std;
  std::vector<DecodeStatus> status;

  Result() = default;
  Result(std::size_t frames, std::size_t rows)
      : intensity(frames * rows, -1.0F), sem(intensity), std(intensity), status(frames, DecodeStatus::corrupt) {}
  [[nodiscard]] Patterns patterns() { return {intensity, sem, std}; }
};

/// For the names of the tests, which must not hold addresses.
void PrintTo(const Contender& contender, std::ostream* out) { *out << contender.name; }

class EncodedBatchTest : public ::testing::TestWithParam<Contender> {
 protected:
  void SetUp() override {
    if (GetParam().backend == Backend::opencl && list_devices().empty()) {
      GTEST_SKIP() << "no OpenCL device on this machine";
    }
  }

  /// An engine with a matrix and corrections.
  std::unique_ptr<Engine> engine(std::uint32_t rows, std::uint32_t columns, std::uint64_t batch_bytes = 0) {
    std::unique_ptr<Engine> made = bare_engine(batch_bytes);
    make_ready(*made, rows, columns);
    return made;
  }

  static std::unique_ptr<Engine> bare_engine(std::uint64_t batch_bytes = 0) {
    DeviceChoice choice;
    choice.threads = 2;
    auto options = GetParam().options;
    options.batch_bytes = batch_bytes;
    return GetParam().backend == Backend::opencl ? opencl::make_engine(choice, options)
                                                 : make_engine(GetParam().backend, choice);
  }

  void make_ready(Engine& bare, std::uint32_t rows, std::uint32_t columns) {
    const MatrixSpec spec = small_spec(rows, columns);
    rows_ = bare.build_matrix(spec).rows();
    pixels_ = spec.geometry.pixels();
    normalisation_.assign(pixels_, 1.25F);
    Corrections corrections;
    corrections.normalisation = normalisation_;
    corrections.error_model = ErrorModel::poisson;
    bare.set_corrections(corrections);
  }

  /// What integrate() gives for a decoded frame.
  Result integrate(Engine& engine, PixelType type, const Bytes& frame, double monitor) const {
    Result result(1, rows_);
    engine.integrate({frame.data(), type, 1, pixels_}, std::span(&monitor, 1), result.patterns());
    return result;
  }

  void submit(Engine& engine, std::size_t slot, PixelType type, std::span<const EncodedFrame> frames) const {
    std::vector<double> monitor;
    for (std::size_t frame = 0; frame < frames.size(); ++frame) monitor.push_back(monitor_of(frame));
    engine.submit(slot, {type, pixels_, frames}, monitor, {true, true});
  }

  Result collect(Engine& engine, std::size_t slot, std::size_t frames) const {
    Result result(frames, rows_);
    engine.collect(slot, result.patterns(), result.status);
    return result;
  }

  static double monitor_of(std::size_t frame) { return 1.0 + 0.125 * static_cast<double>(frame); }

  /// Copies chunks into a slot's memory with a gap between them, as readers do that align their reads.
  static std::vector<EncodedFrame> stage(Engine& engine, std::size_t slot, const std::vector<Bytes>& chunks,
                                         std::size_t gap) {
    std::size_t bytes = 0;
    for (const Bytes& chunk : chunks) bytes += chunk.size() + gap;
    std::span<std::byte> memory = engine.staging(slot, bytes);
    EXPECT_GE(memory.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 64, 0U);
    std::vector<EncodedFrame> frames;
    for (const Bytes& chunk : chunks) {
      std::copy(chunk.begin(), chunk.end(), memory.begin());
      frames.push_back({memory.first(chunk.size()), Encoding::bslz4});
      memory = memory.subspan(chunk.size() + gap);
    }
    return frames;
  }

  void expect_frame(const Result& found, std::size_t frame, const Result& expected, const std::string& what) const {
    ASSERT_EQ(found.status[frame], DecodeStatus::ok) << what;
    const auto same = [&](const std::vector<float>& all, const std::vector<float>& one) {
      return std::equal(one.begin(), one.end(), all.begin() + static_cast<std::ptrdiff_t>(frame * rows_));
    };
    EXPECT_TRUE(same(found.intensity, expected.intensity)) << what << ": intensity";
    EXPECT_TRUE(same(found.sem, expected.sem)) << what << ": standard error";
    EXPECT_TRUE(same(found.std, expected.std)) << what << ": standard deviation";
    EXPECT_GT(std::ranges::count_if(expected.intensity, [](float value) { return value > 0.0F; }),
              static_cast<std::ptrdiff_t>(rows_ / 2))
        << what << ": hardly anything was compared";
  }

  std::size_t rows_ = 0;
  std::size_t pixels_ = 0;
  std::vector<float> normalisation_;
};

TEST_P(EncodedBatchTest, FramesOfEveryTypeAndBlockSizeGiveTheNumbersOfDecodedOnes) {
  // 12,707 pixels: a short last block, 3 pixels left over, frames that begin nowhere round.
  const auto tested = engine(97, 131);
  for (const PixelType type : {PixelType::u8, PixelType::u16, PixelType::i32, PixelType::f64}) {
    // 0 = the default; planes of 125 bytes; of a size that no vector divides; a block for all; more than any device's
    // local memory holds is the same here, since blocks end with the frame.
    const std::size_t group = 8 * size_of(type);
    std::vector<Bytes> chunks;
    std::vector<Bytes> frames;
    for (const std::size_t block_bytes :
         {std::size_t{0}, 125 * group, 130 * group, std::size_t{16384}, std::size_t{1} << 20, group}) {
      frames.push_back(make_frame(type, pixels_, static_cast<unsigned>(chunks.size() + 1)));
      chunks.push_back(annulus::fuzz::encode_by_definition(frames.back(), size_of(type), block_bytes));
    }
    for (const std::size_t gap : {0, 1, 100'000}) {
      std::vector<EncodedFrame> encoded = stage(*tested, 0, chunks, gap);
      encoded.push_back({frames[2], Encoding::raw});  // not in the slot's memory
      encoded.push_back({chunks[1], Encoding::bslz4});
      submit(*tested, 0, type, encoded);
      const Result found = collect(*tested, 0, encoded.size());
      for (std::size_t frame = 0; frame < encoded.size(); ++frame) {
        const Bytes& decoded = frames[frame < 6 ? frame : frame == 6 ? 2 : 1];
        expect_frame(found, frame, integrate(*tested, type, decoded, monitor_of(frame)),
                     std::string(name_of(type)) + ", frame " + std::to_string(frame) + ", gap " + std::to_string(gap));
      }
    }
  }
}

TEST_P(EncodedBatchTest, SequencesOfAnyLengthAndOffsetAreDecoded) {
  const auto tested = engine(61, 83);
  std::mt19937 random(11);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
  };
  constexpr std::size_t element_size = 2;
  const std::size_t shuffled = pixels_ * element_size / 16 * 16;
  for (int round = 0; round < 8; ++round) {
    std::vector<Bytes> chunks;
    for (int frame = 0; frame < 16; ++frame) {
      Bytes chunk;
      annulus::fuzz::append_big_endian(pixels_ * element_size, 8, chunk);
      annulus::fuzz::append_big_endian(8192, 4, chunk);
      for (std::size_t position = 0; position < shuffled; position += 8192) {
        const std::size_t size = std::min<std::size_t>(8192, shuffled - position);
        Bytes block;
        std::size_t done = 0;
        const auto length_of = [&](std::size_t rest) {
          const std::size_t limits[] = {4, 20, 40, 150, 700, 4000};
          return below(std::min(limits[below(6)], rest) + 1);
        };
        const auto more = [&](std::size_t length, std::size_t first) {
          if (length < first) return;
          for (length -= first; length >= 255; length -= 255) block.push_back(std::byte{255});
          block.push_back(static_cast<std::byte>(length));
        };
        const auto sequence = [&](std::size_t literals, std::size_t match) {
          block.push_back(static_cast<std::byte>(std::min<std::size_t>(literals, 15) << 4 |
                                                 (match == 0 ? 0 : std::min<std::size_t>(match - 4, 15))));
          more(literals, 15);
          for (std::size_t byte = 0; byte < literals; ++byte) block.push_back(static_cast<std::byte>(random()));
          done += literals;
          if (match == 0) return;
          const std::size_t offset = 1 + (below(2) == 0 ? below(std::min<std::size_t>(done, 200)) : below(done));
          annulus::fuzz::append_big_endian((offset & 255) << 8 | offset >> 8, 2, block);
          more(match - 4, 15);
          done += match;
        };
        while (size - done > 40) {
          const std::size_t literals = std::max<std::size_t>(done == 0, length_of(size - done - 24));
          sequence(literals, 4 + length_of(size - done - literals - 18));
        }
        sequence(size - done, 0);
        annulus::fuzz::append_big_endian(block.size(), 4, chunk);
        chunk.insert(chunk.end(), block.begin(), block.end());
      }
      for (std::size_t byte = shuffled; byte < pixels_ * element_size; ++byte) chunk.push_back(std::byte{1});
      chunks.push_back(std::move(chunk));
    }
    const std::vector<EncodedFrame> encoded = stage(*tested, 0, chunks, 0);
    submit(*tested, 0, PixelType::u16, encoded);
    const Result found = collect(*tested, 0, encoded.size());
    for (std::size_t frame = 0; frame < chunks.size(); ++frame) {
      const auto decoded = annulus::fuzz::decode_by_definition(chunks[frame], element_size, pixels_ * element_size);
      ASSERT_TRUE(decoded.has_value());
      expect_frame(found, frame, integrate(*tested, PixelType::u16, *decoded, monitor_of(frame)),
                   "round " + std::to_string(round) + ", frame " + std::to_string(frame));
    }
  }
}

TEST_P(EncodedBatchTest, DamagedChunksGetTheDecodersVerdictAndHarmNoOther) {
  const auto tested = engine(61, 83);
  const Bytes frame = make_frame(PixelType::u16, pixels_, 1);
  const Bytes whole = encode_bslz4(frame, 2);
  const Result expected_whole = integrate(*tested, PixelType::u16, frame, 1.0);
  std::mt19937 random(3);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
  };
  std::array<std::size_t, 4> verdicts{};
  for (int round = 0; round < 12; ++round) {
    std::vector<Bytes> chunks;
    for (int place = 0; place < 32; ++place) {
      Bytes chunk = whole;
      switch (place % 8) {
        case 0: break;  // every eighth is whole
        case 1: chunk.resize(below(chunk.size())); break;
        case 2: chunk[below(12)] ^= static_cast<std::byte>(1 + below(255)); break;
        case 3: chunk[12 + below(4)] ^= static_cast<std::byte>(1 + below(255)); break;
        case 4: std::fill_n(chunk.begin() + 16 + static_cast<std::ptrdiff_t>(below(900)), 8, std::byte{0xFF}); break;
        case 5: std::fill_n(chunk.begin() + 16 + static_cast<std::ptrdiff_t>(below(900)), 4, std::byte{0}); break;
        default:
          for (std::size_t times = 1 + below(4); times > 0; --times) {
            chunk[below(chunk.size())] ^= static_cast<std::byte>(1 << below(8));
          }
      }
      chunks.push_back(std::move(chunk));
    }
    std::vector<EncodedFrame> encoded = stage(*tested, 0, chunks, 0);
    encoded.push_back({std::span(frame).first(frame.size() - 2), Encoding::raw});
    encoded.push_back({{}, Encoding::bslz4});
    submit(*tested, 0, PixelType::u16, encoded);
    const Result found = collect(*tested, 0, encoded.size());
    for (std::size_t place = 0; place < encoded.size(); ++place) {
      Bytes decoded(frame.size());
      const DecodeStatus verdict = decode(encoded[place], 2, decoded);
      ++verdicts.at(static_cast<std::size_t>(verdict));
      ASSERT_EQ(found.status[place], verdict) << "round " << round << ", frame " << place;
      if (verdict != DecodeStatus::ok) continue;
      expect_frame(found, place, integrate(*tested, PixelType::u16, decoded, monitor_of(place)),
                   "round " + std::to_string(round) + ", frame " + std::to_string(place));
    }
    expect_frame(found, 0, expected_whole, "the whole one");
  }
  for (const std::size_t count : verdicts) EXPECT_GT(count, 5U) << "a verdict that was never given";
}

TEST_P(EncodedBatchTest, VerdictsDoNotNeedTheMemoryThatFramesWereLoadedInto) {
  const auto tested = engine(61, 83);
  const Bytes frame = make_frame(PixelType::u16, pixels_, 1);
  const Result expected = integrate(*tested, PixelType::u16, frame, 1.0);
  for (std::size_t slot = 0; slot < 2 * tested->slots(); ++slot) {
    std::vector<Bytes> chunks(5, encode_bslz4(frame, 2));
    std::fill_n(chunks[1].begin() + 100, 900, std::byte{0});  // inside a block: matches at no distance
    chunks[2][12] = std::byte{0x7F};                          // a length that leads out of the chunk
    chunks[3].resize(chunks[3].size() / 2);
    submit(*tested, slot % tested->slots(), PixelType::u16, stage(*tested, slot % tested->slots(), chunks, 0));
    // Whoever loads the next batches is that far ahead.
    for (std::size_t next = 1; next < tested->slots(); ++next) {
      std::ranges::fill(tested->staging((slot + next) % tested->slots(), 5 * frame.size()), std::byte{0xA5});
    }
    const Result found = collect(*tested, slot % tested->slots(), chunks.size());
    for (std::size_t place = 0; place < chunks.size(); ++place) {
      Bytes decoded(frame.size());
      const DecodeStatus verdict = decode({chunks[place], Encoding::bslz4}, 2, decoded);
      EXPECT_EQ(verdict == DecodeStatus::ok, place == 0 || place == 4);
      EXPECT_EQ(found.status[place], verdict) << "slot " << slot << ", frame " << place;
    }
    expect_frame(found, 0, expected, "slot " + std::to_string(slot));
  }
}

TEST_P(EncodedBatchTest, WhatItWasPreparedForChangesNoResult) {
  const auto plain = engine(97, 131);
  const auto prepared = bare_engine();
  const std::vector<float> dark(97 * 131, 1.0F);
  Corrections other;
  other.dark = dark;
  other.filter = SigmaClip{};
  const FrameKind kinds[] = {{PixelType::u16, 40}, {PixelType::f32, 3}, {PixelType::f64, 1}};
  prepared->prepare(other, kinds);
  other.filter = {};
  other.error_model = ErrorModel::poisson;
  prepared->prepare(other, kinds);
  other.dark = {};
  prepared->prepare(other, kinds);
  make_ready(*prepared, 97, 131);
  for (const PixelType type : {PixelType::u16, PixelType::i32, PixelType::f32}) {
    const Bytes frame = make_frame(type, pixels_, 5);
    const Result found = integrate(*prepared, type, frame, 1.0);
    const Result expected = integrate(*plain, type, frame, 1.0);
    EXPECT_EQ(found.intensity, expected.intensity) << name_of(type);
    EXPECT_EQ(found.sem, expected.sem) << name_of(type);
    EXPECT_EQ(found.std, expected.std) << name_of(type);
  }
}

TEST_P(EncodedBatchTest, BatchesOnTheirWayDoNotDisturbEachOther) {
  const auto tested = engine(97, 131);
  ASSERT_GE(tested->slots(), 2U);
  std::vector<Bytes> frames;
  std::vector<Bytes> chunks;
  std::vector<Result> expected;
  for (unsigned frame = 0; frame < 40; ++frame) {
    frames.push_back(make_frame(PixelType::u16, pixels_, frame));
    chunks.push_back(encode_bslz4(frames.back(), 2));
  }
  const std::size_t sizes[] = {1, 17, 4, 33, 16, 5, 3, 20, 32};
  struct OnItsWay {
    std::size_t first = 0;
    std::size_t frames = 0;
  };
  std::vector<OnItsWay> slots(tested->slots());
  std::size_t compared = 0;
  for (std::size_t batch = 0; batch < std::size(sizes) + slots.size(); ++batch) {
    const std::size_t slot = batch % slots.size();
    auto& [first, count] = slots[slot];
    if (count > 0) {
      const Result found = collect(*tested, slot, count);
      for (std::size_t frame = 0; frame < count; ++frame) {
        expect_frame(found, frame,
                     integrate(*tested, PixelType::u16, frames[(first + frame) % frames.size()], monitor_of(frame)),
                     "batch of " + std::to_string(count) + ", frame " + std::to_string(frame));
        ++compared;
      }
      count = 0;
    }
    if (batch >= std::size(sizes)) continue;
    first = 3 * batch;
    count = sizes[batch];
    std::vector<Bytes> own;
    for (std::size_t frame = 0; frame < count; ++frame) own.push_back(chunks[(first + frame) % chunks.size()]);
    submit(*tested, slot, PixelType::u16, stage(*tested, slot, own, 7));
  }
  EXPECT_EQ(compared, 131U);
}

TEST_P(EncodedBatchTest, ABatchLargerThanTheDeviceGoesInParts) {
  if (GetParam().backend != Backend::opencl) GTEST_SKIP() << "other engines take a batch frame by frame";
  const std::size_t frame_bytes = std::size_t{97} * 131 * 2;
  for (const std::size_t fit : {1, 3, 17}) {
    const auto tested = engine(97, 131, fit * frame_bytes + 1000);
    std::vector<Bytes> frames;
    std::vector<Bytes> chunks;
    for (unsigned frame = 0; frame < 21; ++frame) {
      frames.push_back(make_frame(PixelType::u16, pixels_, frame));
      chunks.push_back(frame % 5 == 4 ? frames.back() : encode_bslz4(frames.back(), 2));
    }
    std::vector<EncodedFrame> encoded = stage(*tested, 1, chunks, 0);
    for (std::size_t frame = 4; frame < 21; frame += 5) encoded[frame].encoding = Encoding::raw;
    submit(*tested, 1, PixelType::u16, encoded);
    const Result found = collect(*tested, 1, encoded.size());
    for (std::size_t frame = 0; frame < encoded.size(); ++frame) {
      expect_frame(found, frame, integrate(*tested, PixelType::u16, frames[frame], monitor_of(frame)),
                   std::to_string(fit) + " fit, frame " + std::to_string(frame));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EncodedBatchTest,
                         ::testing::Values(Contender{"reference", Backend::reference, {}},
                                           Contender{"openmp", Backend::openmp, {}},
                                           Contender{"opencl", Backend::opencl, {}},
                                           Contender{"opencl_as_a_gpu",
                                                     Backend::opencl,
                                                     {0, opencl::Decoder::device, opencl::Product::by_tiles}}),
                         [](const auto& contender) { return std::string(contender.param.name); });

}  // namespace
