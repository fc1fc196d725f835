// Sizes of shards as records say them, and that what fits into columns is laid out within them.
#include "common/stripe/shard_size.h"

#include <gtest/gtest.h>

#include "common/crypto/sealed_block.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

TEST(ShardSize, RecordsSayZeroForTheLargest) {
  EXPECT_EQ(recorded_shard_bytes(kShardPlainBytesMax), 0u);
  EXPECT_EQ(shard_bytes_of(0), kShardPlainBytesMax);
  for (uint32_t bytes = kShardPlainBytesMin; bytes <= kShardPlainBytesMax; bytes *= 2) {
    EXPECT_TRUE(is_recorded_shard_bytes(recorded_shard_bytes(bytes)));
    EXPECT_EQ(shard_bytes_of(recorded_shard_bytes(bytes)), bytes);
  }
}

TEST(ShardSize, OthersAreDamageAndCountAsTheLargest) {
  for (const uint32_t wrong :
       {1u, 4096u, (64u << 10) - 1, 65537u, 3u << 16, 8u << 20, 1u << 31, ~0u}) {
    EXPECT_FALSE(is_recorded_shard_bytes(wrong)) << wrong;
    EXPECT_EQ(shard_bytes_of(wrong), kShardPlainBytesMax) << wrong;
  }
}

TEST(ColumnFill, TakesWhatAStripeOfWholeBlocksHolds) {
  for (const uint32_t block : {4u << 10, 16u << 10, 64u << 10}) {
    ColumnFill fill(3, 64 << 10);
    for (uint32_t i = 0; i < 3 * (64u << 10) / block; ++i) ASSERT_TRUE(fill.add(block)) << i;
    EXPECT_FALSE(fill.add(1));
  }
}

TEST(ColumnFill, AnEmptyColumnTakesAnyBlock) {
  ColumnFill fill(2, 64 << 10);
  EXPECT_TRUE(fill.add(1 << 20));
  EXPECT_TRUE(fill.add(1 << 20));
  EXPECT_FALSE(fill.add(1));
}

// Blocks of all lengths, sealed and not compressible: no column is longer than the size and what
// sealing adds.
TEST(ColumnFill, WhatFitsIsLaidOutWithinTheSize) {
  Seeded random;
  for (int round = 0; round < 300; ++round) {
    const int k = 1 + static_cast<int>(random.number(0, 11));
    const uint32_t shard = kShardPlainBytesMin << random.number(0, 6);
    const uint32_t block = 4096u << random.number(0, 4);
    ColumnFill fill(k, shard);
    std::vector<uint32_t> sealed;
    while (sealed.size() < kStripeSlotsMax) {
      const uint32_t plain =
          random.number(0, 2) == 0 ? static_cast<uint32_t>(random.number(1, block)) : block;
      if (!fill.add(plain)) break;
      sealed.push_back(plain + static_cast<uint32_t>(kSealedOverheadBytes));
    }
    const auto layout = lay_out_stripe(sealed, k, 1, std::min(128u << 10, shard)).value();
    for (const uint32_t length : layout.data_lengths) {
      ASSERT_LE(length, shard + sealed.size() * kSealedOverheadBytes);
    }
  }
}

}  // namespace
}  // namespace datacloud
