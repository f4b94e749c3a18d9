// Frames in every encoding that is decoded past HDF5: chunks that other programs wrote, all sizes, and chunks that lie.
#include <gtest/gtest.h>
#include <libdeflate.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/errors.hpp"
#include "kernels/bitshuffle_chunk.hpp"
#include "kernels/encoded_batch.hpp"
#include "tests/fuzz/bslz4_fuzz.hpp"
#include "tests/unit/codec_bytes.hpp"

namespace annulus::kernels {
namespace {

using fuzz::Bytes;
using test::from_hex;
using test::random_bytes;
using test::small_counts;

constexpr std::array<std::size_t, 4> element_sizes = {1, 2, 4, 8};

constexpr std::array all_encodings = {
    Encoding::raw,
    Encoding::bslz4,
    Encoding::bszstd,
    Encoding{Compression::none, Shuffle::bits},
    Encoding{Compression::none, Shuffle::bytes},
    Encoding{Compression::lz4, Shuffle::none},
    Encoding{Compression::lz4, Shuffle::bytes},
    Encoding{Compression::zstd, Shuffle::none},
    Encoding{Compression::zstd, Shuffle::bytes},
    Encoding{Compression::deflate, Shuffle::none},
    Encoding{Compression::deflate, Shuffle::bytes},
};

bool has_header(const Encoding& encoding) {
  return encoding.compression == Compression::lz4 ||
         (encoding.compression == Compression::zstd && encoding.shuffle == Shuffle::bits);
}

Bytes deflate(const Bytes& bytes) {
  libdeflate_compressor* const compressor = libdeflate_alloc_compressor(4);
  Bytes packed(libdeflate_zlib_compress_bound(compressor, bytes.size()));
  packed.resize(libdeflate_zlib_compress(compressor, bytes.data(), bytes.size(), packed.data(), packed.size()));
  libdeflate_free_compressor(compressor);
  return packed;
}

/// A chunk as the filters' definitions have it; `block_bytes` for those that have blocks.
Bytes encode(const Bytes& frame, std::size_t element_size, const Encoding& encoding, std::size_t block_bytes) {
  if (encoding.shuffle == Shuffle::bits) return fuzz::encode_by_definition(frame, element_size, block_bytes, encoding);
  Bytes bytes = frame;
  if (encoding.shuffle == Shuffle::bytes) {
    const std::size_t elements = frame.size() / element_size;
    for (std::size_t place = 0; place < frame.size(); ++place) {
      bytes[place % element_size * elements + place / element_size] = frame[place];
    }
  }
  switch (encoding.compression) {
    case Compression::none: return bytes;
    case Compression::zstd: return fuzz::compress(encoding.compression, bytes);
    case Compression::deflate: return deflate(bytes);
    case Compression::lz4: break;
  }
  Bytes chunk;
  fuzz::append_big_endian(bytes.size(), 8, chunk);
  fuzz::append_big_endian(block_bytes, 4, chunk);
  for (std::size_t first = 0; first < bytes.size(); first += block_bytes) {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(first);
    const Bytes block(begin, begin + static_cast<std::ptrdiff_t>(std::min(block_bytes, bytes.size() - first)));
    Bytes packed = fuzz::compress(encoding.compression, block);
    if (packed.size() >= block.size()) packed = block;  // as the filter does; its length tells
    fuzz::append_big_endian(packed.size(), 4, chunk);
    chunk.insert(chunk.end(), packed.begin(), packed.end());
  }
  return chunk;
}

DecodeStatus status_of(const Bytes& chunk, const Encoding& encoding, std::size_t element_size,
                       std::size_t frame_bytes) {
  Bytes frame(frame_bytes);
  return decode({chunk, encoding}, element_size, frame);
}

// 43 elements of uint16, (7 n^2 + 3) mod 1000, as h5py 3.16 and hdf5plugin 7.1.0 stored them, read with H5Dread_chunk.
TEST(EncodedFrame, ChunksOfOtherProgramsAreDecoded) {
  Bytes counts(86);
  for (std::uint64_t n = 0; n < 43; ++n) {
    const auto value = static_cast<std::uint16_t>((n * n * 7 + 3) % 1000);
    std::memcpy(counts.data() + 2 * n, &value, 2);
  }
  struct Chunk {
    Encoding encoding;
    std::string_view hex;
  };
  const std::array chunks = {
      Chunk{Encoding::bszstd,
            "0000000000000056000020000000003e28b52ffd2050ad0100b4025555555555ff44c63627fef5f46e2ba6067066107b"
            "43d8c9a0be7e6025c094818049557200008e99a4aa00031000bce7bb1601cb0002035f01"},
      Chunk{Encoding::bszstd,
            "0000000000000056000000200000002428b52ffd2020dd0000a85555ffff4444c636f46e7066d8c960258049008e0001"
            "000dc0040000002428b52ffd2020dd0000a85555ffff444427fe2ba6107ba0bec094557299a40001000dc00400000019"
            "28b52ffd201081000055ff44f506437e8100aa000000000000cb0002035f01"},
      Chunk{{Compression::none, Shuffle::bits, 32},
            "5555ffff4444c636f46e7066d8c960258049008e0000000000000000000000005555ffff444427fe2ba6107ba0bec094"
            "557299a400000000000000000000000055ff44f506437e8100aa000000000000cb0002035f01"},
      Chunk{{Compression::deflate, Shuffle::bytes},
            "785e63e692772adef43feab0d5fe20ee5de54ed252fc42ca51ed8794abee67bdaed2bfb5ba28dec9db2bbfeb34533c03"
            "04303232313103292001c160c40c2460909911005a8d118f"},
      Chunk{{Compression::deflate, Shuffle::none},
            "785e6366e062906770622866d8c4f09f218af130a315d37ea620666e865d0ce58c4e4cd2cc520cfc8c424ccacc510ced"
            "8c87989419aa18ef336531bc66ac62d667bcc5b49aa188299ec189c99bc18b299fa18be9340313733c2300ddfc118f"},
      Chunk{{Compression::lz4, Shuffle::none},  // one block, stored as it is
            "0000000000000056000000560000005603000a001f0042007300b200ff005a01c3013a02bf0252030b00ba0077014202"
            "1b031a000f01120223035a008701c20223007a01df026a00eb017a032f01da02ab0072025f0042024b004a026f008a02"
            "cb0002035f01"},
      Chunk{{Compression::lz4, Shuffle::bytes},  // three blocks, of which the last is compressed
            "00000000000000560000002000000020030a1f4273b2ff5ac33abf520bba77421b1a0f12235a87c2237adf6aeb7a2fda"
            "0000001ec2ab725f424b4a6f8acb025f000100e0010102020300000102030001020300000015310001020300e0030102"
            "0002000200020002000301"},
      Chunk{{Compression::zstd, Shuffle::none},
            "28b52ffd2056b1020003000a001f0042007300b200ff005a01c3013a02bf0252030b00ba00770142021b031a000f0112"
            "0223035a008701c20223007a01df026a00eb017a032f01da02ab0072025f0042024b004a026f008a02cb0002035f01"},
      Chunk{{Compression::zstd, Shuffle::bytes},
            "28b52ffd20566502001404030a1f4273b2ff5ac33abf520bba77421b1a0f12235a87c2237adf6aeb7a2fdaab725f424b"
            "4a6f8acb025f00010102020300000102030001020001030102000301030039727619710065"},
      Chunk{{Compression::none, Shuffle::bytes},
            "030a1f4273b2ff5ac33abf520bba77421b1a0f12235a87c2237adf6aeb7a2fdaab725f424b4a6f8acb025f0000000000"
            "0000010102020300000102030001020300010200010200010301020002000200020002000301"},
  };
  for (const Chunk& chunk : chunks) {
    Bytes frame(counts.size());
    ASSERT_EQ(decode({from_hex(chunk.hex), chunk.encoding}, 2, frame), DecodeStatus::ok) << name_of(chunk.encoding);
    EXPECT_EQ(frame, counts) << name_of(chunk.encoding);
  }
}

TEST(EncodedFrame, EveryEncodingGivesBackEverySize) {
  std::mt19937_64 random(21);
  int compared = 0;
  for (const std::size_t element_size : element_sizes) {
    const std::size_t block = 8192 / element_size;
    for (const std::size_t elements : {std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{9},
                                       std::size_t{1000}, block - 1, block, block + 1, block + 8, 3 * block + 77}) {
      for (const Bytes& frame :
           {small_counts(elements, element_size, random), random_bytes(elements * element_size, random)}) {
        for (Encoding encoding : all_encodings) {
          for (const std::size_t block_bytes : {std::size_t{8192}, 16 * 8 * element_size, std::size_t{1} << 20}) {
            if (encoding.shuffle == Shuffle::bits) encoding.block_bytes = block_bytes;
            const Bytes chunk = encode(frame, element_size, encoding, block_bytes);
            Bytes decoded(frame.size());
            ASSERT_EQ(decode({chunk, encoding}, element_size, decoded), DecodeStatus::ok)
                << name_of(encoding) << ", " << elements << " elements of " << element_size;
            ASSERT_EQ(decoded, frame) << name_of(encoding) << ", " << elements << " elements of " << element_size;
            ++compared;
          }
        }
      }
    }
  }
  EXPECT_EQ(compared, 4 * 10 * 2 * 11 * 3);
}

TEST(EncodedFrame, BlocksComeOneByOneAndCanBePassedOver) {
  std::mt19937_64 random(22);
  const Bytes frame = small_counts(20'003, 2, random);
  for (const Compression compression : {Compression::none, Compression::lz4, Compression::zstd}) {
    const Encoding encoding{compression, Shuffle::bits};
    const Bytes chunk = fuzz::encode_by_definition(frame, 2, 8192, encoding);
    BlockReader reader;
    ASSERT_EQ(reader.open({chunk, encoding}, 2, frame.size()), DecodeStatus::ok);
    EXPECT_EQ(reader.block_bytes(), 8192u);
    ASSERT_EQ(reader.skip(), DecodeStatus::ok);
    std::array<std::byte, 8192 + lz4_slack> planes;
    WrittenBytes written;
    ASSERT_EQ(reader.next(best_path(), planes.data(), written), DecodeStatus::ok);
    written.extend(planes.data(), 8192);
    const Bytes second =
        fuzz::transpose_by_definition(fuzz::Direction::to_planes, std::span(frame).subspan(8192, 8192), 2);
    EXPECT_TRUE(std::equal(second.begin(), second.end(), planes.begin())) << name_of(encoding);
    for (int block = 0; block < 2; ++block) ASSERT_EQ(reader.skip(), DecodeStatus::ok);
    EXPECT_EQ(reader.next_bytes(), 20'000u * 2 - 4 * 8192);
    ASSERT_EQ(reader.skip(), DecodeStatus::ok);
    EXPECT_EQ(reader.next_bytes(), 0u);
    std::span<const std::byte> rest;
    ASSERT_EQ(reader.rest(rest), DecodeStatus::ok);
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), frame.end() - 6, frame.end())) << name_of(encoding);
  }
}

TEST(EncodedFrame, NoCutChunkIsAFrame) {
  std::mt19937_64 random(23);
  const Bytes frame = small_counts(101, 2, random);
  for (Encoding encoding : all_encodings) {
    if (encoding.shuffle == Shuffle::bits) encoding.block_bytes = 64;
    const Bytes chunk = encode(frame, 2, encoding, 64);
    ASSERT_EQ(status_of(chunk, encoding, 2, frame.size()), DecodeStatus::ok) << name_of(encoding);
    for (std::size_t length = 0; length < chunk.size(); ++length) {
      const Bytes cut(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(length));
      const DecodeStatus status = status_of(cut, encoding, 2, frame.size());
      const std::string where =
          name_of(encoding) + ", " + std::to_string(length) + " of " + std::to_string(chunk.size()) + " bytes";
      if (encoding.compression == Compression::none) {
        EXPECT_EQ(status, DecodeStatus::wrong_size) << where;
      } else if (has_header(encoding)) {
        EXPECT_EQ(status, DecodeStatus::truncated) << where;
      } else if (encoding.compression == Compression::deflate) {
        EXPECT_EQ(status, DecodeStatus::corrupt) << where;
      } else {
        EXPECT_EQ(status, length == 0 ? DecodeStatus::wrong_size : DecodeStatus::truncated) << where;
      }
    }
  }
}

TEST(EncodedFrame, AnotherDecodedSizeIsRefusedHoweverLarge) {
  // A thousand times the frame in few bytes: what a decompression bomb is made of.
  const Bytes bomb(std::size_t{2} << 20);
  for (const Encoding& encoding : all_encodings) {
    // A zlib stream does not say its size: whether it goes on too long or is damaged remains open.
    const DecodeStatus expected =
        encoding.compression == Compression::deflate ? DecodeStatus::corrupt : DecodeStatus::wrong_size;
    const Bytes chunk = encode(bomb, 2, encoding, std::size_t{1} << 16);
    EXPECT_EQ(status_of(chunk, encoding, 2, 2000), expected) << name_of(encoding);
    EXPECT_EQ(status_of(encode(Bytes(2000), 2, encoding, 64), encoding, 2, 2016), expected) << name_of(encoding);
  }
}

TEST(EncodedFrame, LengthsThatCannotBeAreCorrupt) {
  std::mt19937_64 random(24);
  const Bytes frame = small_counts(1000, 2, random);
  for (const Encoding& encoding : {Encoding::bszstd, Encoding{Compression::lz4, Shuffle::none}}) {
    const Bytes good = encode(frame, 2, encoding, 128);
    const auto with = [&](std::size_t position, std::uint64_t value) {
      Bytes bad = good;
      for (std::size_t byte = 0; byte < 4; ++byte) {
        bad[position + byte] = static_cast<std::byte>(value >> (8 * (3 - byte)));
      }
      return status_of(bad, encoding, 2, frame.size());
    };
    const std::uint64_t first_length = fuzz::big_endian(std::span(good).subspan(12, 4));
    ASSERT_EQ(with(12, first_length), DecodeStatus::ok);
    EXPECT_EQ(with(12, 0), DecodeStatus::corrupt) << name_of(encoding) << ": empty block";
    EXPECT_EQ(with(12, first_length - 1), DecodeStatus::corrupt) << name_of(encoding) << ": block cut";
    EXPECT_EQ(with(12, 0x7FFF'FFFF), DecodeStatus::corrupt) << name_of(encoding) << ": block of 2 GiB";
    EXPECT_EQ(with(12, 0xFFFF'FFFF), DecodeStatus::corrupt) << name_of(encoding) << ": block of 4 GiB";
    EXPECT_EQ(with(8, 112), DecodeStatus::corrupt) << name_of(encoding) << ": blocks longer than the header says";
    EXPECT_EQ(with(8, 144), DecodeStatus::corrupt) << name_of(encoding) << ": blocks shorter than the header says";
  }
  EXPECT_EQ(status_of(encode(frame, 2, Encoding::bslz4, 128), {Compression::none, Shuffle::bits, 24}, 2, 2000),
            DecodeStatus::wrong_size);
  EXPECT_EQ(status_of(frame, {Compression::none, Shuffle::bits, 24}, 2, 2000), DecodeStatus::corrupt)
      << "blocks of 12 elements";
}

/// Changes a chunk in one of the ways that storage or an enemy would.
Bytes mutated(const Bytes& valid, std::mt19937_64& random) {
  Bytes chunk = valid;
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  for (std::size_t changes = 1 + below(3); changes > 0 && !chunk.empty(); --changes) {
    const std::size_t position = below(chunk.size());
    switch (below(5)) {
      case 0: chunk[position] ^= std::byte{1} << below(8); break;
      case 1: chunk[position] = static_cast<std::byte>(random()); break;
      case 2: chunk.resize(position); break;
      case 3: chunk.erase(chunk.begin() + static_cast<std::ptrdiff_t>(position)); break;
      default: chunk.insert(chunk.begin() + static_cast<std::ptrdiff_t>(position), static_cast<std::byte>(random()));
    }
  }
  return chunk;
}

TEST(EncodedFrame, NothingOutsideIsTouchedWhateverTheChunkHolds) {
  std::mt19937_64 random(25);
  fuzz::GuardedBuffer chunk_memory(1 << 16);
  fuzz::GuardedBuffer frame_memory(1 << 16);
  for (const Encoding& encoding : all_encodings) {
    int refused = 0;
    for (int mutant = 0; mutant < 4000; ++mutant) {
      const std::size_t element_size = element_sizes[static_cast<std::size_t>(mutant) % 4];
      const Bytes frame = small_counts(1 + random() % 700, element_size, random);
      const Bytes chunk = mutated(encode(frame, element_size, encoding, 512), random);
      const auto guarded = chunk_memory.take(chunk.size());
      std::ranges::copy(chunk, guarded.begin());
      const auto out = frame_memory.take(frame.size());
      const DecodeStatus status = decode({guarded, encoding}, element_size, out);
      ASSERT_TRUE(fuzz::GuardedBuffer::margin_intact(out)) << name_of(encoding) << ", mutant " << mutant;
      ASSERT_TRUE(std::ranges::equal(chunk, guarded)) << name_of(encoding) << ", mutant " << mutant;
      refused += status == DecodeStatus::ok ? 0 : 1;
    }
    EXPECT_GT(refused, 1000) << name_of(encoding);
  }
}

TEST(EncodedFrame, BitshuffleKeepsItsPromisesForMutatedChunksOfEveryCompression) {
  std::mt19937_64 random(26);
  fuzz::BitshuffleChecker checker;
  for (const Compression compression : {Compression::none, Compression::zstd}) {
    const Encoding encoding{compression, Shuffle::bits};
    std::map<DecodeStatus, int> seen;
    for (int mutant = 0; mutant < 8000; ++mutant) {
      const std::size_t element_size = element_sizes[static_cast<std::size_t>(mutant) % 4];
      const Bytes frame = small_counts(1 + random() % 700, element_size, random);
      const Bytes valid = fuzz::encode_by_definition(frame, element_size, 16 * 8 * element_size, encoding);
      const auto outcome = checker.check(mutant % 8 == 0 ? valid : mutated(valid, random), element_size, encoding);
      ASSERT_EQ(outcome.broken, nullptr) << name_of(encoding) << ", mutant " << mutant << ": " << outcome.broken;
      ++seen[outcome.status];
    }
    EXPECT_GT(seen[DecodeStatus::ok], 800) << name_of(encoding);
    if (compression == Compression::none) continue;  // any bytes of the right size are a frame
    EXPECT_GT(seen[DecodeStatus::truncated], 80);
    EXPECT_GT(seen[DecodeStatus::corrupt], 80);
    EXPECT_GT(seen[DecodeStatus::wrong_size], 20);
  }
}

TEST(EncodedFrame, EncodingsHaveNames) {
  EXPECT_EQ(name_of(Encoding::raw), "uncompressed");
  EXPECT_EQ(name_of(Encoding::bslz4), "bitshuffle + LZ4");
  EXPECT_EQ(name_of(Encoding::bszstd), "bitshuffle + Zstandard");
  EXPECT_EQ(name_of({Compression::deflate, Shuffle::bytes}), "shuffle + deflate");
  EXPECT_EQ(name_of({Compression::none, Shuffle::bits}), "bitshuffle");
  EXPECT_EQ(name_of({Compression::zstd, Shuffle::none}), "Zstandard");
}

TEST(EncodedFrame, BrokenContractsAreInternalErrors) {
  Bytes bytes(24);
  EXPECT_THROW(static_cast<void>(decode({bytes, Encoding::raw}, 3, bytes)), InternalError);
  EXPECT_THROW(static_cast<void>(decode({bytes, {Compression::none, Shuffle::bytes}}, 16, bytes)), InternalError);
  EXPECT_THROW(static_cast<void>(decode({bytes, {Compression::deflate, Shuffle::bits}}, 2, bytes)), InternalError);
}

}  // namespace
}  // namespace annulus::kernels
