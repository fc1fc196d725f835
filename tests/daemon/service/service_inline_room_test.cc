// How much the records take: never more than the bound, whatever commits, fails, goes away or dies
// and starts again, and as much again once there is room; and no more in a second than is allowed.
#include <gmock/gmock.h>

#include <string>

#include "tests/daemon/service/inline_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

class InlineRoomTest : public ServiceInlineTest {
 protected:
  bool taken(uint64_t block, bool patch, size_t bytes) {
    const auto outcomes = put(block, patch, sealed('r', bytes));
    return outcomes.size() == 1 && outcomes[0] == Outcome::APPLIED;
  }
  void cut(uint64_t blocks) {
    pb::Request request;
    auto* update = request.mutable_commit()->add_updates();
    update->set_ino(file_);
    update->set_truncate_to(blocks * 4096);
    EXPECT_EQ(call(a_, request).error(), 0);
  }
  // As kill -9: what is known about the room in memory is gone.
  void die_and_come_back() {
    restart();
    connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
    versions_ = grant(a_, IdKind::version, 1000);
  }
};

TEST_F(InlineRoomTest, AStartCountsWhatThereIs) {
  for (uint64_t block = 0; block < 16; ++block) EXPECT_TRUE(taken(block, false, 4000));
  EXPECT_FALSE(taken(16, false, 4000));
  die_and_come_back();
  EXPECT_FALSE(taken(16, false, 4000)) << "what was there before the start counts";
  EXPECT_TRUE(taken(16, false, 1000)) << "and no more than that";
  cut(0);
  die_and_come_back();
  for (uint64_t block = 0; block < 16; ++block) EXPECT_TRUE(taken(block, false, 4000)) << block;
}

// A commit that is refused may have been counted; it does not hold the room for ever.
TEST_F(InlineRoomTest, WhatFailedGivesItsRoomBack) {
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(taken(5, true, 3000)) << "a patch of a hole";
  run_for(seconds(11));
  (void)taken(5, true, 3000);  // lets the records be counted
  run_for(seconds(1));
  for (uint64_t block = 0; block < 15; ++block) EXPECT_TRUE(taken(block, false, 4000)) << block;
}

TEST_F(InlineRoomTest, NeverMoreThanTheBoundAndNeverLessForGood) {
  Seeded random;
  for (int step = 0; step < 400; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    if (step % 100 == 99) versions_ = grant(a_, IdKind::version, 1000);
    const uint64_t block = random.number(0, 30);
    switch (random.number(0, 19)) {
      case 0:
        cut(block);
        break;
      case 1:
        if (random.number(0, 3) == 0) die_and_come_back();
        break;
      case 2:
        run_for(seconds(11));
        break;
      case 3:
      case 4:
        (void)taken(block, true, random.number(60, 900));
        break;
      default:
        (void)taken(block, false, random.number(60, 4000));
    }
    ASSERT_LE(bytes_in_records(), config_.inline_bytes_max);
    if (HasFailure()) return;
  }
  cut(0);
  versions_ = grant(a_, IdKind::version, 1000);
  for (uint64_t block = 0; block < 16; ++block) {
    // The records are counted again when there seems to be no room, and not all the time.
    bool in = taken(block, false, 4000);
    for (int tries = 0; !in && tries < 3; ++tries) {
      run_for(seconds(11));
      in = taken(block, false, 4000);
    }
    EXPECT_TRUE(in) << block;
  }
  EXPECT_LE(bytes_in_records(), config_.inline_bytes_max);
}

class InlineRateTest : public InlineRoomTest {
 protected:
  InlineRateTest() {
    room_ = 64 << 20;
    config_.inline_bytes_per_second_max = 40'000;
  }
};

TEST_F(InlineRateTest, NoMoreInASecondThanIsAllowed) {
  clock_stands_ = true;
  uint64_t block = 0;
  const auto come_in = [&] {
    uint64_t count = 0;
    while (count < 100 && taken(block, false, 4000)) ++count, ++block;
    return count;
  };
  loop_->advance(seconds(5));
  EXPECT_EQ(come_in(), 11u) << "a second's worth at once, and the one that exceeds it";
  EXPECT_EQ(come_in(), 0u);
  loop_->advance(milliseconds(500));
  EXPECT_NEAR(static_cast<double>(come_in()), 5, 1);
}

// Who has the file for writing moves its blocks; what a mount has left, the daemon does.
class InlineLeftTest : public InlineRoomTest {
 protected:
  InlineLeftTest() { config_.fold_age_ms = 0; }
  void fold() {
    pb::Request request;
    request.mutable_fold()->set_start(true);
    EXPECT_EQ(call(tool_, request).error(), 0);
    pb::FoldReply reply;
    const auto idle = [&] {
      pb::Request ask;
      ask.mutable_fold();
      reply = call(tool_, ask).fold();
      return reply.idle();
    };
    EXPECT_TRUE(until(idle));
    EXPECT_EQ(reply.failures(), 0u) << reply.last_failure();
  }
  Client tool_;
};

TEST_F(InlineLeftTest, WhatADeadMountHasLeftGoesIntoStripes) {
  tool_ = tool();
  for (uint64_t block = 0; block < 5; ++block) EXPECT_TRUE(taken(block, false, 500));
  EXPECT_TRUE(taken(3, true, 100));
  fold();
  EXPECT_EQ(inline_blocks_now(), 5u) << "the mount has it for writing";
  const auto change_id = record().change_id();
  pb::Request goodbye;
  goodbye.mutable_goodbye();
  EXPECT_EQ(call(a_, goodbye).error(), 0);
  fold();
  EXPECT_EQ(inline_blocks_now(), 0u);
  EXPECT_EQ(record().change_id(), change_id) << "the contents are the same";
  EXPECT_EQ(record().blocks_mapped(), 5u);
  const auto runs = map_of();
  uint64_t patches = 0;
  for (const auto& run : runs) {
    EXPECT_NE(run.stripe(), 0u);
    patches += run.patches();
  }
  EXPECT_EQ(patches, 1u);
  EXPECT_EQ(objects() > 0, true);
}

// After a start it is not known who has which file before all mounts are back.
TEST_F(InlineLeftTest, NothingMovesBeforeTheMountsAreBack) {
  for (uint64_t block = 0; block < 3; ++block) EXPECT_TRUE(taken(block, false, 500));
  restart();
  tool_ = tool();
  fold();
  EXPECT_EQ(inline_blocks_now(), 3u);
  connect(a_, pb::CLIENT_MOUNT, {held(file_, pb::LEASE_WRITE)});
  fold();
  EXPECT_EQ(inline_blocks_now(), 3u) << "it still has the file";
}

}  // namespace
}  // namespace datacloud
