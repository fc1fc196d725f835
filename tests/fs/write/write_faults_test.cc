// The write pipeline with sites that are away, full, failing or silent: quorum, stand-ins, missing
// shards, abandoned names, and clear failures.
#include <gtest/gtest.h>

#include "tests/fs/write/write_cloud.h"

#include <algorithm>

namespace datacloud {
namespace {

std::vector<Bytes> big_file() {  // enough for every data column
  std::mt19937_64 random(3);
  std::vector<Bytes> blocks;
  for (int b = 0; b < 100; ++b) {
    Bytes bytes(kTestBlock);
    for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
    blocks.push_back(std::move(bytes));
  }
  return blocks;
}

// Shards present by site, of the only stripe.
std::map<SiteId, int> present_by_site(const pb::Stripe& stripe) {
  std::map<SiteId, int> count;
  for (const auto& shard : stripe.shards()) {
    if (shard.state() == pb::SHARD_PRESENT) ++count[shard.site()];
  }
  return count;
}

std::vector<int> counts(const pb::Stripe& stripe) {
  std::vector<int> sorted;
  for (const auto& [site, count] : present_by_site(stripe)) sorted.push_back(count);
  std::sort(sorted.rbegin(), sorted.rend());
  return sorted;
}

void expect_readable(WriteCloud& cloud, InodeId ino, const std::vector<Bytes>& blocks) {
  for (size_t b = 0; b < blocks.size(); ++b) {
    const auto read = cloud.read_block(ino, b);
    ASSERT_TRUE(read) << read.error().message();
    ASSERT_EQ(read.value(), blocks[b]);
  }
  EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
}

TEST(WriteFaults, TwoOfFiveSitesAwayAllFiveShardsOnTheOthers) {
  WriteCloud cloud;
  cloud.start();
  cloud.set_away(1, true);
  cloud.set_away(3, true);
  const auto blocks = big_file();
  const auto r = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
  ASSERT_TRUE(r) << r.error().message();
  const pb::Stripe& stripe = *r.value().stripes[0];
  EXPECT_EQ(counts(stripe), (std::vector<int>{2, 2, 1}));
  EXPECT_FALSE(stripe.weak());
  int stand_ins = 0;
  for (const auto& shard : stripe.shards()) stand_ins += shard.site() != shard.home_site();
  EXPECT_EQ(stand_ins, 2);
  EXPECT_EQ(cloud.pipeline->stats().stand_ins, 2u);
  expect_readable(cloud, 2, blocks);
}

// The sites fail only when asked: placement still believed in them.
TEST(WriteFaults, FailingPutsGoToStandIns) {
  for (const Errc errc : {Errc::away, Errc::io, Errc::no_space}) {
    SCOPED_TRACE(static_cast<int>(errc));
    WriteCloud cloud;
    cloud.start();
    cloud.set_fault(0, {.kind = Fault::Kind::fail_before, .error = Error(errc, "refused")});
    cloud.set_fault(4, {.kind = Fault::Kind::fail_before, .error = Error(errc, "refused")});
    const auto blocks = big_file();
    const auto r = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
    ASSERT_TRUE(r) << r.error().message();
    EXPECT_EQ(counts(*r.value().stripes[0]), (std::vector<int>{2, 2, 1}));
    EXPECT_EQ(present_by_site(*r.value().stripes[0]).count(1), 0u);
    expect_readable(cloud, 2, blocks);
    cloud.pipeline.reset();
    EXPECT_GE(cloud.daemon.abandoned.size(), 2u);
  }
}

TEST(WriteFaults, AHangingSiteCostsAGraceAndItsShardIsMissing) {
  WriteCloud cloud;
  cloud.start();
  cloud.set_fault(2, {.kind = Fault::Kind::hang});
  const auto blocks = big_file();
  const auto start = monotonic_now();
  const auto r = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
  ASSERT_TRUE(r) << r.error().message();
  EXPECT_LT(monotonic_now() - start, milliseconds(500));
  const pb::Stripe& stripe = *r.value().stripes[0];
  int missing = 0;
  for (const auto& shard : stripe.shards()) {
    if (shard.state() != pb::SHARD_MISSING) continue;
    ++missing;
    EXPECT_EQ(shard.home_site(), 3u);
    EXPECT_EQ(shard.instance(), 0u);
  }
  EXPECT_EQ(missing, 1);
  EXPECT_FALSE(stripe.weak());
  expect_readable(cloud, 2, blocks);
  cloud.pipeline.reset();  // waits for the deadline of the put
  ASSERT_EQ(cloud.daemon.abandoned.size(), 1u);
  EXPECT_EQ(cloud.daemon.abandoned[0].site(), 3u);
}

TEST(WriteFaults, AShardThatLandsTooLateIsAbandoned) {
  WriteCloud cloud;
  cloud.start();
  cloud.set_fault(2, {.kind = Fault::Kind::delay, .delay = milliseconds(600)});
  const auto r = cloud.write(WriteCloud::unit(2, 0, big_file())).get();
  ASSERT_TRUE(r) << r.error().message();
  EXPECT_EQ(present_by_site(*r.value().stripes[0]).count(3), 0u);
  cloud.pipeline.reset();
  EXPECT_EQ(cloud.control(2).object_count(), 1u);
  ASSERT_EQ(cloud.daemon.abandoned.size(), 1u);
  EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
}

TEST(WriteFaults, ASlowerButHealthySiteLosesNoShard) {
  WriteCloud cloud;
  cloud.start();
  for (int i = 0; i < 5; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::delay, .delay = milliseconds(30 + i * 10)});
  }
  const auto r = cloud.write(WriteCloud::unit(2, 0, big_file())).get();
  ASSERT_TRUE(r);
  EXPECT_EQ(counts(*r.value().stripes[0]), (std::vector<int>{1, 1, 1, 1, 1}));
}

TEST(WriteFaults, TwoSilentSitesAreReplacedByStandIns) {
  WriteCloud cloud;
  cloud.start();
  cloud.set_fault(0, {.kind = Fault::Kind::hang});
  cloud.set_fault(1, {.kind = Fault::Kind::hang});
  const auto blocks = big_file();
  const auto r = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
  ASSERT_TRUE(r) << r.error().message();
  EXPECT_EQ(counts(*r.value().stripes[0]), (std::vector<int>{2, 2, 1}));
  expect_readable(cloud, 2, blocks);
}

// A small stripe has columns to spare at few sites: its first stand-in may be silent as well.
TEST(WriteFaults, ASilentStandInIsReplacedToo) {
  WriteCloud cloud;
  cloud.start();
  cloud.set_fault(0, {.kind = Fault::Kind::hang});
  cloud.set_fault(1, {.kind = Fault::Kind::hang});
  for (uint64_t i = 0; i < 6; ++i) {
    const std::vector<Bytes> one{Bytes(kTestBlock, static_cast<uint8_t>(i))};
    const auto r = cloud.write(WriteCloud::unit(2 + i, 0, one)).get();
    ASSERT_TRUE(r) << r.error().message();
    for (const auto& [site, count] : present_by_site(*r.value().stripes[0])) EXPECT_GT(site, 2u);
    expect_readable(cloud, 2 + i, one);
  }
}

// One site is full and two are slow: the stand-ins crowd on the other two until the slow ones land.
TEST(WriteFaults, SlowSitesThatAnswerSpreadAStripeThatCrowds) {
  WriteCloud cloud;
  cloud.start();
  cloud.set_fault(4, {.kind = Fault::Kind::fail_before, .error = Error(Errc::no_space, "full")});
  cloud.set_fault(0, {.kind = Fault::Kind::delay, .delay = milliseconds(1200)});
  cloud.set_fault(2, {.kind = Fault::Kind::delay, .delay = milliseconds(1200)});
  const auto blocks = big_file();
  const auto r = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
  ASSERT_TRUE(r) << r.error().message();
  EXPECT_GE(present_by_site(*r.value().stripes[0]).size(), 3u);
  expect_readable(cloud, 2, blocks);
  cloud.pipeline.reset();
  EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
}

// Stripes keep flowing past a silent site without waiting for it each time.
TEST(WriteFaults, ASilentSiteIsPassedOverOnceItOwesTooMuch) {
  WriteCloud cloud;
  cloud.config.put_deadline_ms = 3000;
  cloud.start();
  cloud.set_fault(2, {.kind = Fault::Kind::hang});
  for (int i = 0; i < 12; ++i) {
    const auto r =
        cloud.write(WriteCloud::unit(2, 100u * static_cast<uint64_t>(i), big_file())).get();
    ASSERT_TRUE(r) << r.error().message();
  }
  EXPECT_LE(cloud.pipeline->stats().shards_missing, 5u);
  EXPECT_GE(cloud.pipeline->stats().stand_ins, 7u);
}

TEST(WriteFaults, ThreeSitesAwayFailsFastNamesThemAndLaterWorks) {
  WriteCloud cloud;
  cloud.start();
  const auto blocks = big_file();
  for (int i = 0; i < 3; ++i) cloud.set_away(i, true);
  const auto start = monotonic_now();
  const auto bad = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
  ASSERT_FALSE(bad);
  EXPECT_LT(monotonic_now() - start, milliseconds(500));
  EXPECT_TRUE(bad.error().is(Errc::unavailable));
  for (const char* site : {"site1", "site2", "site3"}) {
    EXPECT_NE(bad.error().text().find(site), std::string::npos) << bad.error().text();
  }
  EXPECT_EQ(cloud.pipeline->stats().failures, 1u);
  for (int i = 0; i < 3; ++i) cloud.set_away(i, false);
  const auto good = cloud.write(WriteCloud::unit(2, 0, blocks)).get();
  ASSERT_TRUE(good) << good.error().message();
  EXPECT_EQ(counts(*good.value().stripes[0]), (std::vector<int>{1, 1, 1, 1, 1}));
  expect_readable(cloud, 2, blocks);
}

TEST(WriteFaults, NoQuorumAbandonsWhatWasWritten) {
  WriteCloud cloud;
  cloud.start();
  for (int i = 0; i < 3; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::fail_after, .error = Error(Errc::io, "broken disk")});
  }
  const auto bad = cloud.write(WriteCloud::unit(2, 0, big_file())).get();
  ASSERT_FALSE(bad);
  EXPECT_TRUE(bad.error().is(Errc::unavailable));
  EXPECT_NE(bad.error().text().find("broken disk"), std::string::npos) << bad.error().text();
  cloud.pipeline.reset();
  size_t objects = 0;
  for (int i = 0; i < 5; ++i) objects += cloud.control(i).object_count();
  EXPECT_EQ(cloud.daemon.abandoned.size(), objects);
  EXPECT_TRUE(cloud.daemon.stripes.empty());
}

// A failed stripe takes later stripes of the same file with it, and no other file.
TEST(WriteFaults, AFailedStripeBreaksNoPrefix) {
  WriteCloud cloud;
  cloud.start();
  for (int i = 0; i < 5; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::delay, .delay = milliseconds(200)});
  }
  auto before = cloud.write(WriteCloud::unit(2, 0, {Bytes(kTestBlock, 1)}));
  while (cloud.puts_seen() < 3) std::this_thread::sleep_for(milliseconds(1));
  for (int i = 0; i < 5; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "broken")});
  }
  // Submitted at once: the stripes below are in flight together.
  auto broken = cloud.write(WriteCloud::unit(2, 1, {Bytes(kTestBlock, 2)}));
  EXPECT_FALSE(broken.get());
  for (int i = 0; i < 5; ++i) cloud.set_fault(i, {});
  auto retried = cloud.write(WriteCloud::unit(2, 1, {Bytes(kTestBlock, 3)}));
  auto other = cloud.write(WriteCloud::unit(3, 0, {Bytes(kTestBlock, 4)}));
  ASSERT_TRUE(before.get());
  ASSERT_TRUE(retried.get());
  ASSERT_TRUE(other.get());
  EXPECT_EQ(cloud.daemon.files[2].sizes, (std::vector<uint64_t>{kTestBlock, 2 * kTestBlock}));
  EXPECT_EQ(cloud.read_block(2, 1).value(), Bytes(kTestBlock, 3));
}

TEST(WriteFaults, LaterUnitsFailWithAnEarlierOneOfTheirInode) {
  WriteCloud cloud;
  cloud.start();
  for (int i = 0; i < 5; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::delay, .delay = milliseconds(300)});
  }
  auto first = cloud.write(WriteCloud::unit(2, 0, {Bytes(kTestBlock, 1)}));
  while (cloud.puts_seen() < 3) std::this_thread::sleep_for(milliseconds(1));
  for (int i = 0; i < 5; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::delay, .delay = milliseconds(600)});
  }
  cloud.daemon.fail_commits(1, Error(Errc::stale, "lost"));
  std::vector<std::future<result<FlushResult>>> later;
  for (uint64_t b = 1; b < 4; ++b) {
    later.push_back(cloud.write(WriteCloud::unit(2, b, {Bytes(kTestBlock, 2)}), Urgency::batch));
  }
  auto shares = cloud.write(WriteCloud::unit(3, 0, {Bytes(kTestBlock, 5)}));
  EXPECT_FALSE(first.get());
  for (auto& answer : later) {
    const auto r = answer.get();
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().text().find("earlier write"), std::string::npos) << r.error().text();
  }
  EXPECT_TRUE(shares.get());
  EXPECT_TRUE(cloud.daemon.files[2].blocks.empty());
  EXPECT_EQ(cloud.read_block(3, 0).value(), Bytes(kTestBlock, 5));
}

TEST(WriteFaults, RandomFaultsNeverCommitWhatIsNotThere) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  WriteCloud cloud(5, seed, true);
  cloud.config.put_deadline_ms = 300;
  cloud.set_random_delay_ms(3);
  cloud.start();
  std::map<uint64_t, Bytes> expected;
  const Errc errors[] = {Errc::away, Errc::io, Errc::no_space, Errc::exists};
  for (uint64_t i = 0; i < 60; ++i) {
    for (int site = 0; site < 5; ++site) {
      Fault fault;
      switch (random() % 8) {
        case 0:
          fault = {.kind = Fault::Kind::fail_before, .error = Error(errors[random() % 4], "x")};
          break;
        case 1:
          fault = {.kind = Fault::Kind::fail_after, .error = Error(Errc::timed_out, "x")};
          break;
        case 2:
          if (random() % 3 == 0) fault = {.kind = Fault::Kind::hang};
          break;
      }
      cloud.set_fault(site, fault);
    }
    std::vector<Bytes> blocks;
    for (int b = 0; b < 50; ++b) blocks.push_back(random_bytes(random, kTestBlock));
    if (random() % 10 == 0) cloud.daemon.revoke_ids();
    const auto r = cloud.write(WriteCloud::unit(2, i * 50, blocks)).get();
    if (!r) continue;
    for (size_t b = 0; b < blocks.size(); ++b) expected[i * 50 + b] = blocks[b];
  }
  cloud.pipeline.reset();
  EXPECT_GT(expected.size(), 0u);
  for (const auto& [block, bytes] : expected) {
    const auto read = cloud.read_block(2, block);
    if (!read && read.error().is(Errc::away)) continue;
    ASSERT_TRUE(read) << read.error().message();
    ASSERT_EQ(read.value(), bytes);
  }
  EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
}

}  // namespace
}  // namespace datacloud
