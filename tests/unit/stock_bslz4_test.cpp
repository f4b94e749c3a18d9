// The stock decoder that others are measured against: the same bytes as ours, and no trust in what it is given.
#include "kernels/reference/stock_bslz4.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "kernels/bslz4.hpp"

namespace annulus::kernels::reference {
namespace {

using Bytes = std::vector<std::byte>;

Bytes counts(std::size_t bytes, unsigned most) {
  std::mt19937 random(7);
  Bytes frame(bytes);
  for (std::byte& byte : frame) byte = static_cast<std::byte>(random() % (most + 1));
  return frame;
}

TEST(StockBslz4, GivesBackWhatWasEncodedOnEveryPath) {
  int compared = 0;
  for (const std::size_t element : {1U, 2U, 4U, 8U}) {
    // Whole blocks, a shorter last one, and elements left over.
    for (const std::size_t elements : {3U, 4096U, 10'000U, 8192U * 3 + 8 + 5}) {
      const Bytes frame = counts(elements * element, 3);
      const Bytes chunk = encode_bslz4(frame, element);
      for (const SimdPath path : available_paths()) {
        Bytes out(frame.size());
        ASSERT_EQ(decode_stock_bslz4(path, chunk, element, out), DecodeStatus::ok);
        EXPECT_EQ(out, frame);
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 16);
}

TEST(StockBslz4, WhatIsNoChunkIsCorrupt) {
  const Bytes frame = counts(20'000, 3);
  const Bytes chunk = encode_bslz4(frame, 2);
  const SimdPath path = available_paths().front();
  Bytes out(frame.size());
  for (std::size_t bytes = 0; bytes < chunk.size(); bytes += 97) {
    EXPECT_EQ(decode_stock_bslz4(path, std::span(chunk).first(bytes), 2, out), DecodeStatus::corrupt) << bytes;
  }
  Bytes longer = chunk;
  longer.push_back(std::byte{0});
  EXPECT_EQ(decode_stock_bslz4(path, longer, 2, out), DecodeStatus::corrupt);
  Bytes other(frame.size() + 2);
  EXPECT_EQ(decode_stock_bslz4(path, chunk, 2, other), DecodeStatus::corrupt);
}

}  // namespace
}  // namespace annulus::kernels::reference
