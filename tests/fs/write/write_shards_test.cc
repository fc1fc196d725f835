// Sizes of shards as policies set them: no column is longer, what differs shares no stripe, and
// records keep the size and the home for merging.
#include <gmock/gmock.h>

#include "common/crypto/sealed_block.h"
#include "tests/fs/write/write_cloud.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

constexpr uint32_t kShard = 128 << 10;

class WriteShardsTest : public testing::Test {
 protected:
  FlushUnit unit(InodeId ino, uint64_t first, size_t blocks, uint32_t shard_bytes = kShard) {
    std::vector<Bytes> plain;
    for (size_t i = 0; i < blocks; ++i) {
      plain.push_back(random_.bytes(kTestBlock));
      expected_[ino][first + i] = plain.back();
    }
    FlushUnit u = WriteCloud::unit(ino, first, plain);
    u.compression = Compression::none;
    u.shard_bytes = shard_bytes;
    return u;
  }
  void expect_contents() {
    for (const auto& [ino, blocks] : expected_) {
      for (const auto& [block, bytes] : blocks) {
        const auto read = cloud_.read_block(ino, block, ColumnSet{1} << random_.number(0, 4));
        ASSERT_TRUE(read) << read.error().message();
        ASSERT_EQ(read.value(), bytes) << "inode " << ino << " block " << block;
      }
    }
    EXPECT_THAT(cloud_.daemon.violations, testing::IsEmpty());
  }
  static uint64_t sealed_max(uint32_t shard_bytes) {
    return shard_bytes + uint64_t{shard_bytes} / kTestBlock * kSealedOverheadBytes;
  }

  Seeded random_;
  WriteCloud cloud_;
  std::map<InodeId, std::map<uint64_t, Bytes>> expected_;
};

TEST_F(WriteShardsTest, ALargeUnitFillsStripesOfShortColumns) {
  cloud_.start();
  const size_t per_stripe = 3 * kShard / kTestBlock;
  ASSERT_TRUE(cloud_.write(unit(5, 0, 10 * per_stripe + 7)).get());
  EXPECT_EQ(cloud_.daemon.stripes.size(), 11u);
  size_t full = 0;
  for (const auto& [id, stripe] : cloud_.daemon.stripes) {
    EXPECT_EQ(stripe.shard_bytes(), kShard);
    EXPECT_EQ(stripe.home_site(), 0u);
    for (const auto& shard : stripe.shards()) EXPECT_LE(shard.bytes(), sealed_max(kShard));
    full += stripe.parity_bytes() == sealed_max(kShard);
  }
  EXPECT_EQ(full, 10u);
  expect_contents();
}

TEST_F(WriteShardsTest, FilesOfDifferentSizesShareNoStripe) {
  cloud_.start();
  std::vector<std::future<result<FlushResult>>> writes;
  for (InodeId ino = 5; ino < 45; ++ino) {
    const uint32_t shard = ino % 4 == 0 ? kShardPlainBytesMax : kShardPlainBytesMin << ino % 4;
    writes.push_back(cloud_.write(unit(ino, 0, random_.number(1, 3), shard), Urgency::batch));
  }
  cloud_.pipeline->flush();
  std::map<StripeId, std::set<uint32_t>> sizes;
  for (size_t i = 0; i < writes.size(); ++i) {
    const auto done = writes[i].get();
    ASSERT_TRUE(done) << done.error().message();
    const InodeId ino = 5 + i;
    for (const auto& run : done.value().runs) {
      sizes[run.stripe()].insert(ino % 4 == 0 ? 0 : kShardPlainBytesMin << ino % 4);
    }
  }
  EXPECT_LT(sizes.size(), 40u) << "of one size they do";
  for (const auto& [id, of_files] : sizes) {
    EXPECT_EQ(of_files, std::set<uint32_t>{cloud_.daemon.stripes.at(id).shard_bytes()});
  }
  expect_contents();
}

TEST_F(WriteShardsTest, ALittleStaysInOneColumnIfItFits) {
  cloud_.start();
  ASSERT_TRUE(cloud_.write(unit(5, 0, 8, kShardPlainBytesMin)).get());
  ASSERT_TRUE(cloud_.write(unit(6, 0, 24, kShardPlainBytesMin)).get());  // more than one column
  for (const auto& [id, stripe] : cloud_.daemon.stripes) {
    const bool little = stripe.slot_column_size() == 8;
    EXPECT_EQ(stripe.shards(1).state() == pb::SHARD_EMPTY, little);
    EXPECT_LE(stripe.parity_bytes(), sealed_max(kShardPlainBytesMin));
  }
  expect_contents();
}

TEST_F(WriteShardsTest, RecordsKeepTheHomeAndRowsTheSize) {
  cloud_.start();
  for (uint64_t i = 0; i < 3; ++i) {
    auto u = unit(5, i * 96, 96);
    u.home_site = 3;
    u.group = 3;
    ASSERT_TRUE(cloud_.write(std::move(u)).get());
  }
  cloud_.pipeline.reset();
  ASSERT_EQ(cloud_.daemon.stripes.size(), 4u)
      << "three, and their row: they are full for their size";
  for (const auto& [id, stripe] : cloud_.daemon.stripes) {
    EXPECT_EQ(stripe.home_site(), 3u);
    EXPECT_EQ(stripe.shards(0).home_site(), 3u);
    EXPECT_EQ(stripe.shard_bytes(), kShard);
  }
}

// At a distance a file of small shards is not written stripe by stripe.
TEST_F(WriteShardsTest, MoreStripesOfSmallShardsAreUnderWay) {
  cloud_.config.stripes_in_flight_max = 1;
  for (int site = 0; site < 5; ++site) {
    cloud_.set_fault(site, {.kind = Fault::Kind::delay, .delay = milliseconds(100)});
  }
  cloud_.start();
  const auto began = monotonic_now();
  ASSERT_TRUE(cloud_.write(unit(5, 0, 8 * 96)).get());
  EXPECT_LT(monotonic_now() - began, milliseconds(8 * 100));
  EXPECT_EQ(cloud_.daemon.stripes.size(), 8u);
}

}  // namespace
}  // namespace datacloud
