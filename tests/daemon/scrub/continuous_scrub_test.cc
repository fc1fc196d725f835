// The continuous scrub over real records and memory sites: what is missing is noted, what nobody
// names goes, everything else stays, and a walk goes on where it was.
#include "daemon/scrub/continuous_scrub.h"

#include <gmock/gmock.h>

#include "tests/daemon/fold/fold_rig.h"

namespace datacloud {
namespace {

class ContinuousScrubTest : public FoldRig {
 protected:
  void SetUp() override { make_cloud("rs-3-2"); }
  void TearDown() override {
    end_scrub();
    close();
  }

  ContinuousScrub::Options quick() const {
    return {.cycle = milliseconds(2),
            .directory = root_,
            .page = 4,
            .tick = milliseconds(1),
            .pause_min = milliseconds(1),
            .pause_max = milliseconds(5),
            .save = Duration::zero(),
            .looking_up = {.stripes_per_step = 3, .part_names = 8}};
  }
  void begin_scrub(const ContinuousScrub::Options& options) {
    continuous_scrub_ =
        std::make_unique<ContinuousScrub>(*context_, *ranges_, loop_, options, [this] { ++told_; });
    on_loop([&] { ASSERT_TRUE(continuous_scrub_->open(store_->begin())); });
  }
  // A cycle that never rests lets walk follow walk; this one walks once.
  ContinuousScrub::Options once() const {
    auto options = quick();
    options.cycle = std::chrono::hours(100);
    return options;
  }
  void end_scrub() {
    if (!continuous_scrub_) return;
    stop_all();
    continuous_scrub_.reset();
  }
  void restart_with(const ContinuousScrub::Options& options) {
    end_scrub();
    restart();
    begin_scrub(options);
  }
  pb::ScrubWalk walk(SiteId site) {
    pb::ScrubWalk walk;
    on_loop([&] {
      const auto found = continuous_scrub_->walks().find(site);
      if (found != continuous_scrub_->walks().end()) walk = found->second;
    });
    return walk;
  }
  void wait_until(const std::function<bool()>& condition) {
    const auto end = monotonic_now() + seconds(30);
    while (!condition()) {
      ASSERT_LT(monotonic_now(), end);
      std::this_thread::sleep_for(milliseconds(1));
    }
  }
  void wait_for_walks(uint64_t count, SiteId but = 0) {
    for (SiteId site = 1; site <= memory_.size(); ++site) {
      if (site != but) wait_until([&] { return walk(site).walks() >= count; });
    }
  }
  std::set<std::pair<StripeId, uint32_t>> damaged() {
    std::set<std::pair<StripeId, uint32_t>> found;
    on_loop([&] {
      EXPECT_TRUE(store_->begin().scan("B", "C", [&](std::string_view, std::string_view v) {
        pb::Damage damage;
        EXPECT_TRUE(damage.ParseFromArray(v.data(), static_cast<int>(v.size())));
        EXPECT_EQ(damage.reason(), "missing");
        found.emplace(damage.stripe(), damage.column());
        return true;
      }));
    });
    return found;
  }
  void lose(StripeId stripe, int column) {
    const auto named = *record(stripe);
    const auto store = make_memory_store(memory_[named.shards(column).site() - 1]);
    const auto removed = wait_for<void>([&](Callback<void> done) {
      store->remove(object_name(named, column), {}, std::move(done));
    });
    ASSERT_TRUE(removed) << removed.error().message();
  }
  bool has(SiteId site, const std::string& object) const {
    const auto names = memory_[site - 1].names();
    return std::find(names.begin(), names.end(), object) != names.end();
  }
  void write_stripes(int count) {
    for (int i = 0; i < count; ++i) {
      write(random_blocks(next_block_, 3, 4096));
      next_block_ += 3;
    }
  }

  std::unique_ptr<ContinuousScrub> continuous_scrub_;
  std::atomic<int> told_{0};
  uint64_t next_block_ = 0;
};

TEST_F(ContinuousScrubTest, FindsWhatIsMissingAndDeletesWhatNobodyNames) {
  write_stripes(20);
  const auto stripes = all_stripes();
  lose(stripes[3], 1);
  lose(stripes[17], 4);
  // An object whose id was revoked; one whose id may still be committed; two that are not ours.
  const auto revoked = take(IdKind::instance, 1), live = take(IdKind::instance, 1);
  commit([&](Transaction& txn) -> result<void> {
    EXPECT_TRUE(ranges_->revoke(txn, 1, IdKind::instance, revoked));
    return success();
  });
  const ShardName orphan{stripes[5], 2, revoked}, coming{stripes[5], 3, live};
  const ShardName foreign{7, 1, uint64_t{1} << 50};
  for (const auto& name : {orphan, coming, foreign}) put_object(3, name, random_bytes(100));
  ASSERT_TRUE(wait_for<void>([&](Callback<void> done) {
    make_memory_store(memory_[2])->put("not-one-of-ours", Payload::from(Bytes(10)), {}, {}, done);
  }));

  begin_scrub(once());
  wait_for_walks(1);
  using testing::Pair;
  EXPECT_THAT(damaged(), testing::ElementsAre(Pair(stripes[3], 1), Pair(stripes[17], 4)));
  EXPECT_GE(told_.load(), 1);
  EXPECT_FALSE(has(3, namer_.object_name(orphan)));
  EXPECT_TRUE(has(3, namer_.object_name(coming)));
  EXPECT_TRUE(has(3, namer_.object_name(foreign)));
  EXPECT_TRUE(has(3, "not-one-of-ours"));
  EXPECT_EQ(walk(3).orphans(), 1u);
  EXPECT_EQ(walk(3).unknown_before(), 2u);
  EXPECT_EQ(walk(3).shards(), 20u);
  EXPECT_EQ(walk(2).missing() + walk(5).missing(), 2u);
  for (SiteId site = 1; site <= 5; ++site) EXPECT_EQ(walk(site).walks(), 1u) << "it rests";
}

TEST_F(ContinuousScrubTest, GoesOnWhereItWasAfterARestart) {
  write_stripes(40);
  lose(all_stripes()[11], 0);
  lose(all_stripes()[39], 0);
  begin_scrub(once());
  wait_until([&] { return walk(1).names() >= 12; });
  restart_with(once());
  wait_for_walks(1);
  EXPECT_EQ(damaged().size(), 2u) << "what was listed before the restart is known after it";
  // At most the page that was on its way is listed twice.
  for (SiteId site = 1; site <= 5; ++site) {
    EXPECT_LE(walk(site).objects(), 40u) << "site " << site;
    EXPECT_EQ(walk(site).shards(), 40u);
  }
}

TEST_F(ContinuousScrubTest, BeginsAnewWithoutTheNamesItHadListed) {
  write_stripes(40);
  lose(all_stripes()[11], 0);
  begin_scrub(once());
  wait_until([&] { return walk(1).names() >= 12; });
  end_scrub();
  std::filesystem::remove(root_ + "/walk-1.names");
  restart();
  begin_scrub(once());
  wait_for_walks(1);
  EXPECT_EQ(damaged().size(), 1u) << "and nothing that is there is called missing";
  EXPECT_GT(walk(1).objects(), 40u) << "listed again";
}

TEST_F(ContinuousScrubTest, ASiteThatFailsToListIsNotEmpty) {
  write_stripes(10);
  on_operation = [](SiteId site, StoreOp op, const std::string&) -> Fault {
    if (site != 2 || op != StoreOp::list) return {};
    return {Fault::Kind::fail_before, Error(Errc::io, "its disk is broken"), {}};
  };
  begin_scrub(once());
  wait_for_walks(1, 2);
  EXPECT_TRUE(damaged().empty());
  EXPECT_EQ(walk(2).walks(), 0u);
  on_operation = nullptr;
}

TEST_F(ContinuousScrubTest, WritesAndDeletionsMeanwhileAreNeitherMissingNorGarbage) {
  begin_scrub(quick());  // walk after walk
  for (int i = 0; i < 150; ++i) {
    write_stripes(1);
    if (random_() % 3 == 0) {  // supersedes whole stripes, whose objects are then deleted
      const uint64_t first = random_() % next_block_ / 3 * 3;
      write(random_blocks(first, 3, 4096));
      on_loop([&] { collector_->restart(); });
    }
    if (random_() % 8 == 0) std::this_thread::sleep_for(milliseconds(random_() % 20));
  }
  wait_for_walks(walk(1).walks() + 2);
  EXPECT_TRUE(damaged().empty());
  expect_readable();
}

}  // namespace
}  // namespace datacloud
