// What the write pipeline commits can be read back, in order, whatever two shards are lost.
#include "fs/write/write_pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/fs/write/write_cloud.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

using Contents = std::map<InodeId, std::map<uint64_t, Bytes>>;

void expect_contents(WriteCloud& cloud, const Contents& expected, std::mt19937_64& random) {
  for (const auto& [ino, blocks] : expected) {
    ASSERT_EQ(cloud.daemon.files[ino].blocks.size(), blocks.size()) << "inode " << ino;
    for (const auto& [block, bytes] : blocks) {
      ColumnSet lost = ColumnSet{1} << (random() % 5);
      lost |= ColumnSet{1} << (random() % 5);
      const auto read = cloud.read_block(ino, block, lost);
      ASSERT_TRUE(read) << read.error().message();
      ASSERT_EQ(read.value(), bytes) << "inode " << ino << " block " << block << " lost " << lost;
    }
  }
  EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
}

TEST(WritePipeline, RandomWritesReadBackWithAnyTwoColumnsLost) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  WriteCloud cloud(5, seed);
  cloud.set_random_delay_ms(4);
  cloud.daemon.set_delay_ms_max(2);
  cloud.start();
  Contents expected;
  std::vector<std::future<result<FlushResult>>> answers;
  for (int i = 0; i < 200; ++i) {
    const InodeId ino = 2 + random() % 20;
    const uint64_t first = random() % 40;
    std::vector<Bytes> blocks;
    const size_t count = random() % 8 == 0 ? 100 : 1 + random() % 6;
    for (size_t b = 0; b < count; ++b) blocks.push_back(random_bytes(random, kTestBlock));
    if (random() % 2) blocks.back().resize(1 + random() % kTestBlock);
    for (size_t b = 0; b < count; ++b) expected[ino][first + b] = blocks[b];
    auto unit = WriteCloud::unit(ino, first, blocks);
    if (random() % 2) unit.compression = Compression::none;
    answers.push_back(cloud.write(std::move(unit), random() % 4 ? Urgency::batch : Urgency::now,
                                  random() % 3 == 0));
    if (random() % 50 == 0) cloud.daemon.revoke_ids();
  }
  cloud.pipeline->flush();
  for (auto& answer : answers) {
    const auto r = answer.get();
    ASSERT_TRUE(r) << r.error().message();
    for (const auto& run : r.value().runs) {
      EXPECT_TRUE(std::any_of(r.value().stripes.begin(), r.value().stripes.end(),
                              [&](const auto& s) { return s->id() == run.stripe(); }));
    }
  }
  expect_contents(cloud, expected, random);
}

TEST(WritePipeline, AnEndingPipelineAnswersEverything) {
  std::mt19937_64 random(5);
  WriteCloud cloud;
  cloud.start();
  std::vector<std::future<result<FlushResult>>> answers;
  for (InodeId ino = 2; ino < 50; ++ino) {
    answers.push_back(
        cloud.write(WriteCloud::unit(ino, 0, {random_bytes(random, 100)}), Urgency::batch));
  }
  cloud.pipeline.reset();
  for (auto& answer : answers) {
    ASSERT_EQ(answer.wait_for(seconds(0)), std::future_status::ready);
    EXPECT_TRUE(answer.get());
  }
}

TEST(WritePipeline, ManySmallUnitsShareAStripe) {
  std::mt19937_64 random(6);
  WriteCloud cloud;
  cloud.start();
  Contents expected;
  std::vector<std::future<result<FlushResult>>> answers;
  for (InodeId ino = 2; ino < 1002; ++ino) {
    expected[ino][0] = random_bytes(random, 1 + random() % 300);
    answers.push_back(cloud.write(WriteCloud::unit(ino, 0, {expected[ino][0]}), Urgency::batch));
  }
  for (auto& answer : answers) ASSERT_TRUE(answer.get());  // closed by the timer
  EXPECT_LE(cloud.daemon.stripes.size(), 10u * kSlowdown);
  EXPECT_LE(cloud.daemon.commits, 10 * kSlowdown);
  expect_contents(cloud, expected, random);
}

TEST(WritePipeline, AFewBytesTakeOneDataColumn) {
  WriteCloud cloud;
  cloud.start();
  ASSERT_TRUE(cloud.write(WriteCloud::unit(2, 0, {Bytes(100, 'a')})).get());
  const pb::Stripe& stripe = cloud.daemon.stripes.begin()->second;
  EXPECT_EQ(stripe.shards(0).state(), pb::SHARD_PRESENT);
  EXPECT_EQ(stripe.shards(1).state(), pb::SHARD_EMPTY);
  EXPECT_EQ(stripe.shards(2).state(), pb::SHARD_EMPTY);
  EXPECT_EQ(stripe.shards(4).state(), pb::SHARD_PRESENT);
  size_t objects = 0;
  for (int i = 0; i < 5; ++i) objects += cloud.control(i).object_count();
  EXPECT_EQ(objects, 3u);
  EXPECT_FALSE(stripe.weak());
}

TEST(WritePipeline, ALargeUnitSpansStripesAndGrowsThroughPrefixes) {
  std::mt19937_64 random(7);
  WriteCloud cloud;
  cloud.set_random_delay_ms(20);
  cloud.start();
  std::vector<Bytes> blocks(10000);
  Contents expected;
  for (size_t b = 0; b < blocks.size(); ++b) {
    blocks[b] = b % 100 == 0 ? random_bytes(random, kTestBlock) : Bytes(kTestBlock, uint8_t(b));
    expected[2][b] = blocks[b];
  }
  blocks.back().resize(17);
  expected[2][9999].resize(17);
  auto unit = WriteCloud::unit(2, 0, blocks);
  unit.truncate_to = 0;
  unit.mtime = from_ns(77);
  const auto r = cloud.write(std::move(unit)).get();
  ASSERT_TRUE(r) << r.error().message();
  EXPECT_GE(r.value().stripes.size(), 4u);
  EXPECT_EQ(r.value().runs.size(), r.value().stripes.size());  // one maximal run per stripe
  const auto& file = cloud.daemon.files[2];
  EXPECT_TRUE(std::is_sorted(file.sizes.begin(), file.sizes.end()));
  EXPECT_EQ(file.sizes.size(), r.value().stripes.size());
  EXPECT_EQ(file.size, 9999u * kTestBlock + 17);
  EXPECT_EQ(file.mtime_ns, 77);
  expect_contents(cloud, expected, random);
}

// Each unit adds the next block: at every commit the blocks must be a prefix of what was written.
TEST(WritePipeline, CommitsOfAnInodeArePrefixesUnderRandomDelays) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  WriteCloud cloud(5, seed);
  cloud.set_random_delay_ms(15);
  cloud.daemon.set_delay_ms_max(3);
  cloud.start();
  std::vector<std::future<result<FlushResult>>> answers;
  for (uint64_t b = 0; b < 100; ++b) {
    answers.push_back(cloud.write(WriteCloud::unit(2, b, {Bytes(kTestBlock, uint8_t(b))}),
                                  b % 3 ? Urgency::now : Urgency::batch));
    std::lock_guard lock(cloud.daemon.mutex());
    const auto& file = cloud.daemon.files[2];
    const uint64_t end = file.blocks.empty() ? 0 : file.blocks.rbegin()->first + 1;
    ASSERT_EQ(end, file.blocks.size());
    ASSERT_EQ(file.size, file.blocks.size() * kTestBlock);
  }
  for (auto& answer : answers) ASSERT_TRUE(answer.get());
  EXPECT_EQ(cloud.daemon.files[2].blocks.size(), 100u);
  EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
}

TEST(WritePipeline, AttributesAndTruncatesStayInOrder) {
  WriteCloud cloud;
  cloud.start();
  auto first = cloud.write(WriteCloud::unit(2, 0, {Bytes(kTestBlock, 1), Bytes(kTestBlock, 2)}),
                           Urgency::batch);
  FlushUnit truncate;
  truncate.ino = 2;
  truncate.code = "rs-3-2";
  truncate.block_bytes = kTestBlock;
  truncate.truncate_to = 0;
  truncate.mtime = from_ns(5);
  auto second = cloud.write(truncate, Urgency::batch, true);
  auto third = cloud.write(WriteCloud::unit(2, 0, {Bytes(10, 3)}));
  ASSERT_TRUE(first.get());
  ASSERT_TRUE(second.get());
  ASSERT_TRUE(third.get());
  EXPECT_EQ(cloud.daemon.files[2].sizes, (std::vector<uint64_t>{2 * kTestBlock, 0, 10}));
  EXPECT_EQ(cloud.daemon.files[2].mtime_ns, 5);
  EXPECT_EQ(cloud.read_block(2, 0).value(), Bytes(10, 3));
  EXPECT_GE(cloud.daemon.durable_commits, 1);
}

TEST(WritePipeline, ManyAttributeUnitsNeedFewCommits) {
  WriteCloud cloud;
  cloud.daemon.set_delay_ms_max(5);
  cloud.start();
  std::vector<std::future<result<FlushResult>>> answers;
  for (int i = 0; i < 2000; ++i) {
    FlushUnit unit;
    unit.ino = static_cast<InodeId>(2 + i % 500);
    unit.code = "rs-3-2";
    unit.mtime = from_ns(i);
    answers.push_back(cloud.write(unit));
  }
  for (auto& answer : answers) ASSERT_TRUE(answer.get());
  EXPECT_LT(cloud.daemon.commits, 500);
  EXPECT_EQ(cloud.daemon.files[2].mtime_ns, 1500);
}

TEST(WritePipeline, RevokedCommitsAreRedoneUnderNewIds) {
  std::mt19937_64 random(8);
  WriteCloud cloud;
  cloud.start();
  ASSERT_TRUE(cloud.write(WriteCloud::unit(2, 0, {Bytes(10, 1)})).get());
  cloud.daemon.revoke_ids();
  Contents expected;
  std::vector<Bytes> blocks;
  for (int b = 0; b < 200; ++b) blocks.push_back(random_bytes(random, kTestBlock));
  for (size_t b = 0; b < blocks.size(); ++b) expected[3][b] = blocks[b];
  const auto r = cloud.write(WriteCloud::unit(3, 0, blocks)).get();
  ASSERT_TRUE(r) << r.error().message();
  expect_contents(cloud, expected, random);
  EXPECT_GE(cloud.daemon.revocations_met, 1);
  cloud.pipeline.reset();
  EXPECT_EQ(cloud.daemon.abandoned.size(), 5u);  // the first attempt's shards
}

TEST(WritePipeline, AFailedCommitFailsItsUnitsAndLaterOnesOfTheSameInodeOnly) {
  WriteCloud cloud;
  cloud.start();
  ASSERT_TRUE(cloud.write(WriteCloud::unit(2, 0, {Bytes(10, 1)})).get());
  cloud.daemon.fail_commits(1, Error(Errc::stale, "lease lost"));
  const auto bad = cloud.write(WriteCloud::unit(2, 1, {Bytes(10, 2)})).get();
  ASSERT_FALSE(bad);
  EXPECT_TRUE(bad.error().is(Errc::stale)) << bad.error().message();
  ASSERT_TRUE(cloud.write(WriteCloud::unit(2, 1, {Bytes(10, 3)})).get());
  EXPECT_EQ(cloud.read_block(2, 1).value(), Bytes(10, 3));
  cloud.pipeline.reset();
  EXPECT_EQ(cloud.daemon.abandoned.size(), 3u);
}

TEST(WritePipeline, AnUnansweredCommitAbandonsNothing) {
  WriteCloud cloud;
  cloud.start();
  cloud.daemon.fail_commits(1, Error(Errc::unavailable, "no answer"));
  EXPECT_FALSE(cloud.write(WriteCloud::unit(2, 0, {Bytes(10, 1)})).get());
  cloud.pipeline.reset();
  EXPECT_TRUE(cloud.daemon.abandoned.empty());
}

TEST(WritePipeline, AnUnlinkedFileIsReportedGone) {
  WriteCloud cloud;
  cloud.start();
  cloud.daemon.drop_inode(2);
  const auto r = cloud.write(WriteCloud::unit(2, 0, {Bytes(10, 1)})).get();
  ASSERT_TRUE(r);
  EXPECT_TRUE(r.value().inode_gone);
}

TEST(WritePipeline, BadUnitsAreRefused) {
  WriteCloud cloud;
  cloud.start();
  auto unknown = WriteCloud::unit(2, 0, {Bytes(10, 1)});
  unknown.code = "xx-1";
  EXPECT_FALSE(cloud.write(unknown).get());
  auto empty = WriteCloud::unit(3, 0, {Bytes()});
  EXPECT_FALSE(cloud.write(empty).get());
  auto good = cloud.write(WriteCloud::unit(3, 0, {Bytes(10, 1)})).get();
  EXPECT_TRUE(good) << good.error().message();
}

}  // namespace
}  // namespace datacloud
