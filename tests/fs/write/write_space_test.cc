// The write pipeline with full sites and a full daemon: who is told no_space, who EDQUOT and who
// unavailable; that it is told at once; what still succeeds; and that room is found again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/out_of_space.h"
#include "tests/fs/write/write_cloud.h"
#include "tests/support/seeded.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

constexpr auto kAtOnce = milliseconds(1000) * kSlowdown;  // the put deadline is 2 s, times that

Fault full(Error error = Error(Errc::no_space, "the disk says so")) {
  return {.kind = Fault::Kind::fail_before, .error = std::move(error)};
}

std::vector<Bytes> big_file() {
  std::mt19937_64 random(3);
  std::vector<Bytes> blocks;
  for (int b = 0; b < 100; ++b) {
    Bytes bytes(kTestBlock);
    for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
    blocks.push_back(std::move(bytes));
  }
  return blocks;
}

struct SpaceCloud : WriteCloud {
  SpaceCloud() {
    config.put_deadline_ms = 2000 * kSlowdown;
    start();
  }
  result<FlushResult> write_big(InodeId ino = 2) { return write(unit(ino, 0, big_file())).get(); }
  // A stripe fails as soon as that is certain: some of its puts may be on their way then.
  int settled_puts() const {
    int before = -1, now = puts_seen();
    while (before != now) {
      std::this_thread::sleep_for(milliseconds(100) * kSlowdown);
      before = std::exchange(now, puts_seen());
    }
    return now;
  }
  // Until it succeeds: room is found by itself within the longest pause.
  void expect_written_soon(InodeId ino) {
    const auto limit = monotonic_now() + RefusalPause::kMax + seconds(5) * kSlowdown;
    auto written = write_big(ino);
    while (!written && monotonic_now() < limit) {
      std::this_thread::sleep_for(milliseconds(20));
      written = write_big(ino);
    }
    ASSERT_TRUE(written) << written.error().message();
    EXPECT_EQ(read_block(ino, 99).value(), big_file()[99]);
  }
};

TEST(WriteSpace, AllSitesFullIsNoSpaceAtOnceAndThenWithoutAPut) {
  SpaceCloud cloud;
  for (int i = 0; i < 5; ++i) cloud.set_fault(i, full());
  const auto start = monotonic_now();
  const auto first = cloud.write_big();
  ASSERT_FALSE(first);
  EXPECT_TRUE(first.error().is(Errc::no_space)) << first.error().message();
  EXPECT_EQ(first.error().errno_value(), ENOSPC);
  EXPECT_LT(monotonic_now() - start, kAtOnce);
  for (const char* word : {"site1", "site2", "site3", "site4", "site5", "free space"})
    EXPECT_THAT(first.error().text(), ::testing::HasSubstr(word));
  EXPECT_LT(first.error().text().size(), 200u);
  const int puts = cloud.settled_puts();
  const auto again = cloud.write_big();
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().is(Errc::no_space));
  EXPECT_EQ(cloud.puts_seen(), puts) << "nothing is sent where there is no room";
  ASSERT_TRUE(cloud.pipeline->out_of_space(kShardPlainBytesMax));
  for (int i = 0; i < 5; ++i) cloud.set_fault(i, {});
  cloud.expect_written_soon(3);
  EXPECT_FALSE(cloud.pipeline->out_of_space(kShardPlainBytesMax));
}

TEST(WriteSpace, UsedUpQuotasAreTold) {
  SpaceCloud cloud;
  for (int i = 0; i < 5; ++i) cloud.set_fault(i, full(quota_error("the pool says so")));
  const auto refused = cloud.write_big();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errno_value(), EDQUOT) << refused.error().message();
  EXPECT_THAT(refused.error().text(), ::testing::HasSubstr("quota"));
}

TEST(WriteSpace, AFullDiskBesideUsedUpQuotasIsNoSpace) {
  SpaceCloud cloud;
  for (int i = 0; i < 5; ++i)
    cloud.set_fault(i, i == 0 ? full() : full(quota_error("the pool says so")));
  EXPECT_EQ(cloud.write_big().error().errno_value(), ENOSPC);
}

// What is full is not waited for, and neither are the silent ones: they could not help.
TEST(WriteSpace, ThreeSitesFullAndTwoSilentIsNoSpaceAtOnce) {
  SpaceCloud cloud;
  for (int i = 0; i < 3; ++i) cloud.set_fault(i, full());
  for (int i = 3; i < 5; ++i) cloud.set_fault(i, {.kind = Fault::Kind::hang});
  const auto start = monotonic_now();
  const auto refused = cloud.write_big();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::no_space)) << refused.error().message();
  EXPECT_LT(monotonic_now() - start, kAtOnce);
}

TEST(WriteSpace, RoomWouldNotHelpWithThreeSitesAway) {
  SpaceCloud cloud;
  for (int i = 0; i < 3; ++i) cloud.set_away(i, true);
  for (int i = 3; i < 5; ++i) cloud.set_fault(i, full());
  const auto refused = cloud.write_big();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::unavailable)) << refused.error().message();
  EXPECT_THAT(refused.error().text(), ::testing::HasSubstr("site1"));
}

// Two sites fail, one is full, and one that will fail too answers last: it is waited for a moment,
// since room is not what is missing.
TEST(WriteSpace, ALateAnswerDecidesWhetherRoomIsMissing) {
  SpaceCloud cloud;
  cloud.set_fault(1, full());
  for (int i = 2; i < 4; ++i) {
    cloud.set_fault(i, {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "x")});
  }
  cloud.set_fault(4, {.kind = Fault::Kind::fail_late,
                      .error = Error(Errc::io, "x"),
                      .delay = milliseconds(60) * kSlowdown});
  const auto refused = cloud.write_big();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::unavailable)) << refused.error().message();
}

TEST(WriteSpace, SmallShardsStillGoWhereLargeOnesDoNotFit) {
  SpaceCloud cloud;
  std::vector<Bytes> one{big_file()[0]};
  for (int i = 0; i < 5; ++i) cloud.set_fault(i, full());
  ASSERT_FALSE(cloud.write_big());
  for (int i = 0; i < 5; ++i) cloud.set_fault(i, {});  // as a disk with a little room left
  const auto small = cloud.write(WriteCloud::unit(3, 0, one)).get();
  ASSERT_TRUE(small) << small.error().message();
  EXPECT_TRUE(cloud.pipeline->out_of_space(kShardPlainBytesMax)) << "that says nothing of more";
}

TEST(WriteSpace, AFullSiteIsPassedOverUntilItHasRoom) {
  SpaceCloud cloud;
  cloud.set_fault(4, full());
  ASSERT_TRUE(cloud.write_big(2));
  const int puts = cloud.puts_seen();
  const auto second = cloud.write_big(3);
  ASSERT_TRUE(second);
  EXPECT_EQ(cloud.puts_seen(), puts + 5) << "none was refused";
  for (const auto& shard : second.value().stripes[0]->shards()) {
    EXPECT_NE(shard.site(), 5u);
    EXPECT_EQ(shard.state(), pb::SHARD_PRESENT);
  }
  cloud.set_fault(4, {});
  const auto limit = monotonic_now() + RefusalPause::kMax + seconds(5) * kSlowdown;
  while (cloud.control(4).object_count() == 0 && monotonic_now() < limit) {
    ASSERT_TRUE(cloud.write_big(4));
    std::this_thread::sleep_for(milliseconds(50));
  }
  EXPECT_GT(cloud.control(4).object_count(), 0u) << "it is used again";
}

// A refusal by the daemon for want of room: nothing is left at the sites, and nothing more is sent.
TEST(WriteSpace, ADaemonWithoutRoomIsNoSpaceAndNothingStaysAtTheSites) {
  SpaceCloud cloud;
  cloud.daemon.fail_commits(1, Error(Errc::no_space, "the metadata's disk is full"));
  const auto refused = cloud.write_big();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::no_space)) << refused.error().message();
  const int puts = cloud.settled_puts();
  EXPECT_FALSE(cloud.write_big());
  EXPECT_EQ(cloud.puts_seen(), puts);
  auto shorter = WriteCloud::unit(2, 0, {});
  shorter.truncate_to = 0;
  EXPECT_TRUE(cloud.write(shorter).get()) << "what needs no room is still asked for";
  cloud.expect_written_soon(3);
  cloud.pipeline.reset();
  EXPECT_EQ(cloud.daemon.abandoned.size(), 5u) << "the shards of the refused commit";
}

// Sites that are full, slow, away or well, at random. Whatever could be written by those that take
// shards in time is written; else the failure says no_space exactly where room would have helped.
TEST(WriteSpace, RandomWeatherHasTheRightOutcome) {
  Seeded seed;
  enum Kind { well, slow, at_capacity, broken };
  for (int round = 0; round < 12; ++round) {
    SpaceCloud cloud;
    int count[4] = {};
    std::string weather;
    for (int site = 0; site < 5; ++site) {
      const auto kind = static_cast<Kind>(std::array{0, 0, 1, 2, 2, 3}[seed.number(0, 5)]);
      ++count[kind];
      weather += "wsfb"[kind];
      if (kind == slow) {
        cloud.set_fault(site, {.kind = Fault::Kind::delay,
                               .delay = milliseconds(seed.number(100, 700)) * kSlowdown});
      }
      if (kind == at_capacity) cloud.set_fault(site, full());
      if (kind == broken) {
        cloud.set_fault(site, {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "x")});
      }
    }
    SCOPED_TRACE(weather);
    const bool small = seed.number(0, 1) == 0;
    auto unit = WriteCloud::unit(2, 0, small ? std::vector<Bytes>{big_file()[0]} : big_file());
    const auto outcome = cloud.write(std::move(unit)).get();
    if (count[well] + count[slow] >= 3) {
      EXPECT_TRUE(outcome) << outcome.error().message();
    } else {
      ASSERT_FALSE(outcome);
      // A broken site that was not asked is as good as any, for all that is known.
      int unasked = 0;
      for (int site = 0; site < 5; ++site) {
        unasked += weather[static_cast<size_t>(site)] == 'b' && cloud.puts_seen_at(site) == 0;
      }
      const int able = count[well] + count[slow] + count[at_capacity];
      const bool room_helps = able >= 3;
      const bool seems_to = count[at_capacity] > 0 && able + unasked >= 3;
      EXPECT_TRUE(outcome.error().is(Errc::no_space) ? room_helps || seems_to
                                                     : outcome.error().is(Errc::unavailable))
          << outcome.error().message();
      EXPECT_TRUE(!room_helps || outcome.error().is(Errc::no_space)) << outcome.error().message();
    }
    cloud.pipeline.reset();
    EXPECT_EQ(cloud.daemon.violations, std::vector<std::string>{});
  }
}

}  // namespace
}  // namespace datacloud
