// bslz4: the bit transposition on every instruction set of this machine, the chunk format against bytes that another
// program wrote, and chunks that lie.
#include "kernels/bslz4.hpp"

#include <gtest/gtest.h>
#include <lz4.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <latch>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/errors.hpp"
#include "kernels/bitshuffle.hpp"
#include "kernels/lz4_block.hpp"
#include "tests/fuzz/bslz4_fuzz.hpp"
#include "tests/unit/codec_bytes.hpp"

namespace annulus::kernels {
namespace {

using fuzz::Bytes;
using fuzz::Direction;
using test::from_hex;
using test::random_bytes;
using test::small_counts;

constexpr std::array<std::size_t, 4> element_sizes = {1, 2, 4, 8};

template <typename Pixel, typename Formula>
Bytes frame_of(std::size_t elements, Formula formula) {
  Bytes frame(elements * sizeof(Pixel));
  for (std::size_t element = 0; element < elements; ++element) {
    const auto value = static_cast<Pixel>(formula(static_cast<std::uint64_t>(element)));
    std::memcpy(frame.data() + element * sizeof(Pixel), &value, sizeof(Pixel));
  }
  return frame;
}

DecodeStatus status_of(const Bytes& chunk, std::size_t element_size, std::size_t frame_bytes) {
  Bytes frame(frame_bytes);
  return decode_bslz4(chunk, element_size, frame);
}

void set_big_endian(Bytes& bytes, std::size_t position, std::size_t width, std::uint64_t value) {
  for (std::size_t index = 0; index < width; ++index) {
    bytes[position + index] = static_cast<std::byte>(value >> (8 * (width - 1 - index)));
  }
}

TEST(BitShuffle, PlainPathComesFirstAndPathsHaveNames) {
  const auto paths = available_paths();
  ASSERT_FALSE(paths.empty());
  EXPECT_EQ(paths.front(), SimdPath::plain);
  for (std::size_t index = 1; index < paths.size(); ++index) EXPECT_LT(paths[index - 1], paths[index]);
  for (const SimdPath path : paths) EXPECT_NE(name_of(path), "?");
}

TEST(BitShuffle, PlainPathFollowsTheDefinition) {
  std::mt19937_64 random(1);
  for (const std::size_t element_size : element_sizes) {
    for (const std::size_t groups : {0, 1, 2, 3, 17}) {
      const Bytes elements = random_bytes(8 * groups * element_size, random);
      Bytes planes(elements.size());
      bit_shuffle(SimdPath::plain, elements, element_size, planes);
      EXPECT_EQ(planes, fuzz::transpose_by_definition(Direction::to_planes, elements, element_size));
      Bytes back(elements.size());
      bit_unshuffle(SimdPath::plain, planes, element_size, back);
      EXPECT_EQ(back, elements);
    }
  }
}

TEST(BitShuffle, EveryPathGivesThePlainBytes) {
  std::mt19937_64 random(2);
  int compared = 0;
  for (const SimdPath path : available_paths()) {
    for (const std::size_t element_size : element_sizes) {
      // All sizes around one, two and three tiles of the widest registers, which hold 64 groups; then bitshuffle's
      // block.
      std::vector<std::size_t> sizes{8192 / 8 / element_size};
      for (std::size_t groups = 0; groups <= 200; ++groups) sizes.push_back(groups);
      for (const std::size_t groups : sizes) {
        const std::size_t bytes = 8 * groups * element_size;
        // All bits in use; and three bytes alone, so that most planes of a tile are empty, which has its own way.
        Bytes few(bytes);
        for (int count = 0; count < 3 && bytes > 0; ++count) few[random() % bytes] = static_cast<std::byte>(random());
        for (const Bytes& in : {random_bytes(bytes, random), few}) {
          Bytes plain(bytes);
          Bytes out(bytes);
          bit_unshuffle(SimdPath::plain, in, element_size, plain);
          bit_unshuffle(path, in, element_size, out);
          ASSERT_EQ(out, plain) << "unshuffle " << name_of(path) << ", 8 x " << groups << " elements of "
                                << element_size;
          bit_shuffle(SimdPath::plain, in, element_size, plain);
          bit_shuffle(path, in, element_size, out);
          ASSERT_EQ(out, plain) << "shuffle " << name_of(path) << ", 8 x " << groups << " elements of " << element_size;
          ++compared;
        }
      }
    }
  }
  EXPECT_EQ(compared, static_cast<int>(available_paths().size()) * 4 * 202 * 2);
}

TEST(BitShuffle, NeedsNoAlignmentAndTouchesNothingAround) {
  std::mt19937_64 random(3);
  fuzz::GuardedBuffer in_memory(1 << 16);
  fuzz::GuardedBuffer out_memory(1 << 16);
  for (const SimdPath path : available_paths()) {
    for (const std::size_t element_size : element_sizes) {
      for (const std::size_t groups : {1, 15, 16, 31, 33, 63, 64, 65, 127, 131}) {
        const Bytes elements = random_bytes(8 * groups * element_size, random);
        // Both end at a forbidden page: an odd number of groups makes every row and both ends unaligned.
        const auto in = in_memory.take(elements.size());
        const auto out = out_memory.take(elements.size());
        std::copy(elements.begin(), elements.end(), in.begin());
        bit_shuffle(path, in, element_size, out);
        EXPECT_TRUE(fuzz::GuardedBuffer::margin_intact(out)) << name_of(path) << " " << groups;
        std::copy(out.begin(), out.end(), in.begin());
        bit_unshuffle(path, in, element_size, out);
        EXPECT_TRUE(fuzz::GuardedBuffer::margin_intact(out)) << name_of(path) << " " << groups;
        EXPECT_TRUE(std::equal(out.begin(), out.end(), elements.begin(), elements.end())) << name_of(path);
      }
    }
  }
}

TEST(BitShuffle, RefusesWhatItCannotDo) {
  Bytes in(48);
  Bytes out(48);
  EXPECT_THROW(bit_shuffle(SimdPath::plain, in, 3, out), InternalError);
  EXPECT_THROW(bit_shuffle(SimdPath::plain, in, 4, out), InternalError) << "12 elements";
  EXPECT_THROW(bit_unshuffle(SimdPath::plain, in, 2, std::span(out).first(32)), InternalError);
  const auto beyond = static_cast<SimdPath>(static_cast<int>(available_paths().back()) + 1);
  EXPECT_THROW(bit_shuffle(beyond, in, 2, out), InternalError);
}

// Chunks that bitshuffle's own HDF5 filter wrote (hdf5plugin 7.1.0), read with H5Dread_chunk. 43 and 13 elements: the
// last 3 and 5 are stored raw.
TEST(Bslz4, DecodesChunksOfBitshuffle) {
  const Bytes counts = frame_of<std::uint16_t>(43, [](std::uint64_t n) { return (n * n * 7 + 3) % 1000; });
  const Bytes one_block = from_hex(
      "0000000000000056000020000000003b1055010010ff010010440100ff15c63627fef5f46e2ba6067066107b43d8c9a0"
      "be7e6025c094818049557200008e99a4aa00010005500000000000cb0002035f01");
  const Bytes blocks_of_16 = from_hex(
      "00000000000000560000002000000022f0115555ffff4444c636f46e7066d8c960258049008e00000000000000000000"
      "000000000022f0115555ffff444427fe2ba6107ba0bec094557299a400000000000000000000000000000012f00155ff"
      "44f506437e8100aa000000000000cb0002035f01");
  for (const Bytes& chunk : {one_block, blocks_of_16}) {
    Bytes frame(counts.size());
    ASSERT_EQ(decode_bslz4(chunk, 2, frame), DecodeStatus::ok);
    EXPECT_EQ(frame, counts);
  }
  const Bytes words = frame_of<std::uint32_t>(13, [](std::uint64_t n) { return n * 65537 * 3 + 1; });
  const Bytes of_words = from_hex(
      "0000000000000034000020000000001b6655cc9618e0000100f001aa66b438c00000000000000000000000190018001c"
      "001b001f001e002200210025002400");
  Bytes frame(words.size());
  ASSERT_EQ(decode_bslz4(of_words, 4, frame), DecodeStatus::ok);
  EXPECT_EQ(frame, words);
}

TEST(Bslz4, EncodedFramesFollowTheFormat) {
  std::mt19937_64 random(4);
  for (const std::size_t element_size : element_sizes) {
    const std::size_t block = 8192 / element_size;
    for (const std::size_t elements : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{9},
                                       std::size_t{1000}, block - 1, block, block + 1, block + 8, 3 * block + 77}) {
      for (const Bytes& frame :
           {small_counts(elements, element_size, random), random_bytes(elements * element_size, random)}) {
        const Bytes chunk = encode_bslz4(frame, element_size);
        ASSERT_EQ(fuzz::decode_by_definition(chunk, element_size, frame.size()), frame) << elements;
        Bytes decoded(frame.size());
        ASSERT_EQ(decode_bslz4(chunk, element_size, decoded), DecodeStatus::ok) << elements;
        ASSERT_EQ(decoded, frame) << elements << " elements of " << element_size;
      }
    }
  }
}

TEST(Bslz4, CountsAreCompressed) {
  std::mt19937_64 random(5);
  // Poisson counts of mean 3 are below 16 (but for one in ten million): 12 of 16 planes are empty and nearly vanish,
  // the rest needs at most its own size. That is a fourth; a third leaves room for what LZ4 adds.
  const Bytes frame = small_counts(100'000, 2, random);
  EXPECT_LT(encode_bslz4(frame, 2).size(), frame.size() / 3);
}

TEST(Bslz4, DecodesEveryBlockSize) {
  std::mt19937_64 random(6);
  for (const std::size_t element_size : element_sizes) {
    const std::size_t group = 8 * element_size;
    const Bytes frame = small_counts(30'011, element_size, random);
    // One group; around the stack buffer of 16 KiB and above; the whole frame; more than the frame; 0 = default.
    for (const std::size_t block_bytes : {group, 13 * group, std::size_t{8192}, std::size_t{16384}, 16384 + group,
                                          std::size_t{65536}, std::size_t{1} << 30, std::size_t{0}}) {
      const Bytes chunk = fuzz::encode_by_definition(frame, element_size, block_bytes);
      Bytes decoded(frame.size());
      ASSERT_EQ(decode_bslz4(chunk, element_size, decoded), DecodeStatus::ok) << block_bytes;
      ASSERT_EQ(decoded, frame) << block_bytes;
    }
  }
}

TEST(Bslz4, EveryCutChunkIsTruncated) {
  std::mt19937_64 random(7);
  const Bytes frame = small_counts(101, 2, random);
  const Bytes chunk = fuzz::encode_by_definition(frame, 2, 64);
  ASSERT_EQ(status_of(chunk, 2, frame.size()), DecodeStatus::ok);
  for (std::size_t length = 0; length < chunk.size(); ++length) {
    EXPECT_EQ(status_of(Bytes(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(length)), 2, frame.size()),
              DecodeStatus::truncated)
        << length << " of " << chunk.size() << " bytes";
  }
}

TEST(Bslz4, AnotherDecodedSizeIsWrongSize) {
  const Bytes frame(200);
  const Bytes chunk = encode_bslz4(frame, 2);
  EXPECT_EQ(status_of(chunk, 2, 198), DecodeStatus::wrong_size);
  EXPECT_EQ(status_of(chunk, 2, 202), DecodeStatus::wrong_size);
  Bytes huge = chunk;
  set_big_endian(huge, 0, 8, ~std::uint64_t{0});
  EXPECT_EQ(status_of(huge, 2, 200), DecodeStatus::wrong_size);
}

TEST(Bslz4, ImpossibleBlocksAreCorrupt) {
  std::mt19937_64 random(8);
  const Bytes frame = small_counts(1000, 2, random);
  const Bytes good = fuzz::encode_by_definition(frame, 2, 128);
  const auto with = [&](std::size_t position, std::uint64_t value) {
    Bytes bad = good;
    set_big_endian(bad, position, 4, value);
    return status_of(bad, 2, frame.size());
  };
  const std::uint64_t first_length = fuzz::big_endian(std::span(good).subspan(12, 4));
  ASSERT_EQ(with(12, first_length), DecodeStatus::ok);
  EXPECT_EQ(with(8, 1), DecodeStatus::corrupt) << "block of half an element";
  EXPECT_EQ(with(8, 24), DecodeStatus::corrupt) << "block of 12 elements";
  EXPECT_EQ(with(8, 0xFFFF'FFFF), DecodeStatus::corrupt) << "block of 4 GiB less one byte";
  EXPECT_EQ(with(8, 0xFFFF'FFF0), DecodeStatus::corrupt) << "block larger than the frame";
  EXPECT_EQ(with(8, 112), DecodeStatus::corrupt) << "blocks are longer than the header says";
  EXPECT_EQ(with(8, 144), DecodeStatus::corrupt) << "blocks are shorter than the header says";
  EXPECT_EQ(with(12, 0), DecodeStatus::corrupt) << "empty LZ4 block";
  EXPECT_EQ(with(12, first_length - 1), DecodeStatus::corrupt) << "LZ4 block cut";
  EXPECT_EQ(with(12, 0x7FFF'FFFF), DecodeStatus::corrupt) << "LZ4 block of 2 GiB";
  EXPECT_EQ(with(12, 0xFFFF'FFFF), DecodeStatus::corrupt) << "LZ4 block of 4 GiB";
}

TEST(Bslz4, BytesAfterTheFrameAreIgnoredAsBitshuffleDoes) {
  std::mt19937_64 random(9);
  const Bytes frame = small_counts(43, 4, random);
  Bytes chunk = encode_bslz4(frame, 4);
  chunk.resize(chunk.size() + 5);
  Bytes decoded(frame.size());
  EXPECT_EQ(decode_bslz4(chunk, 4, decoded), DecodeStatus::ok);
  EXPECT_EQ(decoded, frame);
}

TEST(Bslz4, BrokenContractsAreInternalErrors) {
  Bytes bytes(24);
  EXPECT_THROW(static_cast<void>(decode_bslz4(bytes, 3, bytes)), InternalError);
  EXPECT_THROW(static_cast<void>(decode_bslz4(bytes, 16, bytes)), InternalError);
  EXPECT_THROW(static_cast<void>(encode_bslz4(std::span(bytes).first(23), 2)), InternalError);
}

/// LZ4 of a block by liblz4, with the slack that the decoder asks for behind it.
std::pair<Bytes, std::size_t> lz4_block(std::span<const std::byte> block) {
  Bytes packed(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(block.size()))) + lz4_slack);
  const int length =
      LZ4_compress_default(reinterpret_cast<const char*>(block.data()), reinterpret_cast<char*>(packed.data()),
                           static_cast<int>(block.size()), static_cast<int>(packed.size()));
  return {packed, static_cast<std::size_t>(length)};
}

TEST(Lz4Block, TellsOfARepetitionUpToTheEndAndDoesNotWriteIt) {
  std::mt19937 random(11);
  for (const std::size_t period : {1UL, 2UL, 3UL, 100UL, 512UL, 1024UL}) {
    for (const std::size_t before : {1UL, 511UL, 513UL, 3000UL, 6000UL}) {
      Bytes block(8192);
      for (std::size_t byte = 0; byte < block.size(); ++byte) {
        block[byte] = byte < before + period ? std::byte(random() % 256) : block[byte - period];
      }
      for (const bool changed : {false, true}) {  // within the literals that end every block
        if (changed) block.back() ^= std::byte{1};
        const auto [packed, length] = lz4_block(block);
        for (const SimdPath path : {SimdPath::plain, best_path()}) {
          Bytes out(block.size() + lz4_slack, std::byte{0xa5});
          WrittenBytes written;
          ASSERT_TRUE(decode_lz4_block(path, packed.data(), length, out.data(), block.size(), written));
          if (changed) {
            EXPECT_EQ(written.count, block.size()) << period << " " << before;
          } else {
            // liblz4's steps grow while it finds nothing.
            const std::size_t found_within = before > 3000 ? before / 8 : 128;
            EXPECT_LE(written.count, std::min(before + 2 * period + found_within, block.size() - 256))
                << period << " " << before;
          }
          written.extend(out.data(), block.size());
          out.resize(block.size());
          EXPECT_EQ(out, block) << period << " " << before << " " << changed;
        }
      }
    }
  }
}

TEST(Bslz4, ManyThreadsDecodeAtOnce) {
  std::mt19937_64 random(10);
  constexpr std::size_t thread_count = 4;
  // Enough for the threads to meet, even where they share one core: several times the some 5 ms of a turn on a core.
  constexpr int turns = 300;
  std::vector<Bytes> frames;
  std::vector<Bytes> chunks;
  for (std::size_t thread = 0; thread < thread_count; ++thread) {
    frames.push_back(small_counts(50'003, 4, random));
    // Blocks of 32 KiB are decoded on the heap, those of 8 KiB on the stack.
    chunks.push_back(fuzz::encode_by_definition(frames.back(), 4, thread == 0 ? 32768 : 8192));
  }
  std::array<int, thread_count> right{};
  std::latch start(thread_count);
  {
    std::vector<std::jthread> threads;
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      threads.emplace_back([&, thread] {
        Bytes decoded(frames[thread].size());
        start.arrive_and_wait();
        for (int turn = 0; turn < turns; ++turn) {
          if (decode_bslz4(chunks[thread], 4, decoded) == DecodeStatus::ok && decoded == frames[thread])
            ++right[thread];
        }
      });
    }
  }
  for (const int count : right) EXPECT_EQ(count, turns);
}

/// Changes a chunk in one of the ways that storage or an enemy would.
Bytes mutated(const Bytes& valid, std::mt19937_64& random) {
  Bytes chunk = valid;
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  for (std::size_t changes = 1 + below(3); changes > 0 && !chunk.empty(); --changes) {
    const std::size_t position = below(chunk.size());
    switch (below(7)) {
      case 0: chunk[position] ^= std::byte{1} << below(8); break;
      case 1: chunk[position] = static_cast<std::byte>(random()); break;
      case 2: chunk.resize(position); break;
      case 3:
        chunk.insert(chunk.begin() + static_cast<std::ptrdiff_t>(position), static_cast<std::byte>(random()));
        break;
      case 4: chunk.erase(chunk.begin() + static_cast<std::ptrdiff_t>(position)); break;
      case 5: {  // a number of the header or a length becomes an extreme
        constexpr std::array<std::uint64_t, 6> extremes = {0, 1, 0x7FFF'FFFF, 0x8000'0000, 0xFFFF'FFFF, 0x7E00'0001};
        const std::size_t field = below(4) * 4;
        if (field + 4 <= chunk.size()) set_big_endian(chunk, field, 4, extremes[below(extremes.size())]);
        break;
      }
      default: {  // a stretch is copied over another
        const std::size_t from = below(chunk.size());
        const std::size_t count = std::min(below(40), chunk.size() - std::max(from, position));
        std::memmove(chunk.data() + position, chunk.data() + from, count);
      }
    }
  }
  return chunk;
}

TEST(Bslz4, KeepsItsPromisesForMutatedChunks) {
  std::mt19937_64 random(20'240'611);
  struct Seed {
    Bytes chunk;
    std::size_t element_size;
  };
  std::vector<Seed> seeds;
  for (const std::size_t element_size : element_sizes) {
    for (const std::size_t elements : {1, 9, 64, 203, 1000}) {
      const Bytes frame = small_counts(elements, element_size, random);
      seeds.push_back({fuzz::encode_by_definition(frame, element_size, 16 * 8 * element_size), element_size});
      seeds.push_back({encode_bslz4(frame, element_size), element_size});
    }
    seeds.push_back(
        {encode_bslz4(small_counts(17'000 / element_size, element_size, random), element_size), element_size});
  }
  fuzz::BitshuffleChecker checker;
  std::map<DecodeStatus, int> seen;
  for (const Seed& seed : seeds) {
    ASSERT_EQ(checker.check(seed.chunk, seed.element_size).status, DecodeStatus::ok);
  }
  constexpr int mutants = 40'000;
  for (int mutant = 0; mutant < mutants; ++mutant) {
    const Seed& seed = seeds[static_cast<std::size_t>(mutant) % seeds.size()];
    const auto outcome = checker.check(mutated(seed.chunk, random), seed.element_size);
    ASSERT_EQ(outcome.broken, nullptr) << "mutant " << mutant << ": " << outcome.broken;
    ++seen[outcome.status];
  }
  // Every status is met often: the mutations reach all of the decoder.
  for (const auto status :
       {DecodeStatus::ok, DecodeStatus::truncated, DecodeStatus::wrong_size, DecodeStatus::corrupt}) {
    EXPECT_GT(seen[status], mutants / 100) << "status " << static_cast<int>(status);
  }
}

}  // namespace
}  // namespace annulus::kernels
