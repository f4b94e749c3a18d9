// A checksum of 128 bits: tells whole files from damaged ones, and long inputs apart. No protection against intent.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace annulus {

struct Digest {
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  bool operator==(const Digest&) const = default;
};

/// MurmurHash3_x64_128 with seed 0 (A. Appleby, 2011; its constants): some 4 GB/s. Numbers are taken in the machine's
/// byte order, so that little-endian machines agree.
[[nodiscard]] inline Digest digest_of(std::span<const std::byte> bytes) {
  constexpr std::uint64_t factor1 = 0x87c37b91114253d5U;
  constexpr std::uint64_t factor2 = 0x4cf5ad432745937fU;
  constexpr std::size_t block = 16;
  const auto mixed1 = [](std::uint64_t word) { return std::rotl(word * factor1, 31) * factor2; };
  const auto mixed2 = [](std::uint64_t word) { return std::rotl(word * factor2, 33) * factor1; };
  const auto avalanche = [](std::uint64_t word) {
    word = (word ^ word >> 33U) * 0xff51afd7ed558ccdU;
    word = (word ^ word >> 33U) * 0xc4ceb9fe1a85ec53U;
    return word ^ word >> 33U;
  };

  Digest digest;
  std::uint64_t words[2];
  std::size_t place = 0;
  for (; place + block <= bytes.size(); place += block) {
    std::memcpy(words, bytes.data() + place, block);
    digest.first = (std::rotl(digest.first ^ mixed1(words[0]), 27) + digest.second) * 5 + 0x52dce729U;
    digest.second = (std::rotl(digest.second ^ mixed2(words[1]), 31) + digest.first) * 5 + 0x38495ab5U;
  }
  if (place < bytes.size()) {
    words[0] = words[1] = 0;
    std::memcpy(words, bytes.data() + place, bytes.size() - place);
    digest.first ^= mixed1(words[0]);
    digest.second ^= mixed2(words[1]);
  }
  digest.first ^= bytes.size();
  digest.second ^= bytes.size();
  digest.first += digest.second;
  digest.second += digest.first;
  digest.first = avalanche(digest.first);
  digest.second = avalanche(digest.second);
  digest.first += digest.second;
  digest.second += digest.first;
  return digest;
}

}  // namespace annulus
