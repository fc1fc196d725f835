// The job that makes checkpoints: when, in which order, what stays, and what a crash leaves.
#include "daemon/checkpoint/checkpoint_job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <set>

#include "daemon/checkpoint/checkpoint_rules.h"
#include "tests/daemon/checkpoint/checkpoint_rig.h"

namespace datacloud {
namespace {

// Runs on the test's thread, as fast as it can: no delay is waited for.
class JobLoop final : public EventLoop {
 public:
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(f));
    posted_.notify_all();
  }
  void after(Duration, std::function<void()> f) override { post(std::move(f)); }
  MonotonicTime now() override { return monotonic_now(); }
  template <class Done>
  void run_until(Done done) {
    const auto end = monotonic_now() + seconds(120);
    while (!done()) {
      std::unique_lock lock(mutex_);
      ASSERT_TRUE(posted_.wait_until(lock, end, [&] { return !queue_.empty(); }));
      const auto f = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      f();
      ASSERT_LT(monotonic_now(), end);
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> queue_;
};

// Commits roots at once, or keeps them back.
class FakeJournal final : public CheckpointJournal {
 public:
  explicit FakeJournal(EventLoop& loop) : loop_(loop) {}
  void append_root(Bytes content, std::function<void()> done) override {
    pb::CheckpointRoot root;
    ASSERT_TRUE(root.ParseFromArray(content.data(), static_cast<int>(content.size())));
    roots.push_back(root);
    if (!hold) loop_.post(std::move(done));
  }
  void trim(uint64_t floor) override { floors.push_back(floor); }
  uint64_t bytes() const override { return appended; }
  uint64_t bytes_max() const override { return 1000; }

  bool hold = false;
  uint64_t appended = 0;
  std::vector<pb::CheckpointRoot> roots;
  std::vector<uint64_t> floors;

 private:
  EventLoop& loop_;
};

class CheckpointJobTest : public CheckpointTest {
 protected:
  void SetUp() override {
    CheckpointTest::SetUp();
    make_sites(5);
    add_records(20, 500, sequence_ = 10);
  }
  void TearDown() override {
    job_.reset();
    CheckpointTest::TearDown();
  }
  void start() {
    job_.reset();
    committer_ = std::make_unique<LocalCommitter>(*store_, loop_, [](const Error& error) {
      ADD_FAILURE() << "the store has failed: " << error.message();
    });
    CheckpointJobOptions options;
    options.journal = journal_;
    options.metadata_key = metadata_key_;
    options.code = make_erasure_code("rs-3-2").value();
    options.losses = 2;
    options.bytes_per_second = bytes_per_second_;
    options.takes = [this](SiteId id) { return !leaving_.contains(id); };
    options.look = Duration::zero();
    options.retry = Duration::zero();
    job_ = std::make_unique<CheckpointJob>(*store_, *committer_, *sites_, loop_, fake_, options);
    ASSERT_TRUE(job_->start());
  }
  void grow() {
    fake_.appended += 501;
    add_records(1, 500, ++sequence_);
  }
  void run_until_made(uint64_t count) {
    loop_->run_until([&] { return job_->progress().made >= count; });
  }
  std::map<uint64_t, pb::CheckpointRecord> records() const {
    std::map<uint64_t, pb::CheckpointRecord> found;
    const std::string first = key::meta("checkpoint/");
    EXPECT_TRUE(store_->begin().scan(first, key::after_prefix(first), [&](auto, auto value) {
      pb::CheckpointRecord record;
      EXPECT_TRUE(record.ParseFromArray(value.data(), static_cast<int>(value.size())));
      found[record.number()] = record;
      return true;
    }));
    return found;
  }
  void run_until_records(size_t count) {
    loop_->run_until([&] { return records().size() == count; });
  }

  std::set<SiteId> leaving_;
  uint64_t sequence_ = 0;
  uint64_t bytes_per_second_ = 0;
  std::shared_ptr<JobLoop> loop_ = std::make_shared<JobLoop>();
  FakeJournal fake_{*loop_};
  std::unique_ptr<LocalCommitter> committer_;
  std::unique_ptr<CheckpointJob> job_;
};

TEST_F(CheckpointJobTest, MakesTheFirstAtOnceAndRaisesTheFloorBehindIt) {
  start();
  run_until_made(1);
  loop_->run_until([&] { return !fake_.floors.empty(); });
  ASSERT_EQ(fake_.roots.size(), 1u);
  EXPECT_EQ(fake_.floors.back(), 11u);
  const auto kept = records();
  ASSERT_EQ(kept.size(), 1u);
  const auto& record = kept.begin()->second;
  EXPECT_EQ(record.state(), pb::CHECKPOINT_WHOLE);
  EXPECT_EQ(record.number(), fake_.roots[0].number());
  EXPECT_EQ(record.position(), fake_.roots[0].position());
  EXPECT_EQ(record.losses_survived(), 2u);
  EXPECT_EQ(record.pieces(), 1u);
  EXPECT_EQ(covered_entry(*job_->progress().newest), 10u);
  // What it holds is what was there when it began, its own record among it.
  const auto read_back = read(fake_.roots[0]).value();
  EXPECT_TRUE(read_back.contains(key::inode(1000)));
  EXPECT_TRUE(read_back.contains(key::meta("checkpoint/" + checkpoint_name(record.number()))));
}

TEST_F(CheckpointJobTest, KeepsTwoAndRemovesTheOthersObjects) {
  start();
  run_until_made(1);
  const size_t each = objects();
  for (uint64_t count = 2; count <= 4; ++count) {
    grow();
    run_until_made(count);
    run_until_records(2);
    EXPECT_EQ(objects(), 2 * each);
    loop_->run_until([&] { return fake_.floors.size() >= count; });
    EXPECT_EQ(fake_.floors.back(), sequence_) << "behind the one before the newest";
  }
  for (size_t i = 2; i < 4; ++i) EXPECT_TRUE(read(fake_.roots[i]));
  for (size_t i = 0; i < 2; ++i) EXPECT_FALSE(read(fake_.roots[i]));
  // No growth, no further ones.
  for (int i = 0; i < 100; ++i) loop_->run_until([n = 0]() mutable { return n++ > 0; });
  EXPECT_EQ(job_->progress().made, 4u);
}

TEST_F(CheckpointJobTest, MakesOneOnRequest) {
  start();
  run_until_made(1);
  std::optional<result<pb::CheckpointRecord>> answer;
  job_->request("a test", [&](auto outcome) { answer = std::move(outcome); });
  loop_->run_until([&] { return answer.has_value(); });
  ASSERT_TRUE(*answer);
  EXPECT_EQ(answer->value().number(), fake_.roots.back().number());
  EXPECT_EQ(job_->progress().made, 2u);
}

TEST_F(CheckpointJobTest, NothingIsRetiredBeforeTheRootIsCommitted) {
  start();
  run_until_made(1);
  grow();
  run_until_made(2);
  run_until_records(2);
  loop_->run_until([&] { return fake_.floors.size() == 2; });
  const auto before = records();
  fake_.hold = true;
  grow();
  loop_->run_until([&] { return fake_.roots.size() == 3; });
  for (int i = 0; i < 100; ++i) loop_->run_until([n = 0]() mutable { return n++ > 0; });
  EXPECT_EQ(fake_.floors.size(), 2u);
  auto now = records();
  ASSERT_EQ(now.size(), 3u);
  EXPECT_EQ(now[fake_.roots[2].number()].state(), pb::CHECKPOINT_WRITING);
  for (const auto& [number, record] : before) {
    EXPECT_EQ(now[number].state(), pb::CHECKPOINT_WHOLE);
  }
  // The daemon ends here. Its successor does not know whether that root counts: its objects stay
  // until there is a newer one.
  fake_.hold = false;
  open();
  start();
  EXPECT_TRUE(read(fake_.roots[2]));
  run_until_made(1);
  run_until_records(2);
  EXPECT_FALSE(read(fake_.roots[2]));
  EXPECT_TRUE(read(fake_.roots[1]));
  EXPECT_TRUE(read(fake_.roots[3]));
}

TEST_F(CheckpointJobTest, SaysWhyThereIsNone) {
  for (size_t i = 0; i < 5; ++i) set_away(i, true);
  start();
  loop_->run_until([&] { return job_->progress().failed >= 2; });
  EXPECT_NE(job_->progress().failure.find("s1"), std::string::npos) << job_->progress().failure;
  EXPECT_FALSE(job_->progress().newest);
  EXPECT_TRUE(records().empty());
  std::optional<result<pb::CheckpointRecord>> answer;
  job_->request("a test", [&](auto outcome) { answer = std::move(outcome); });
  loop_->run_until([&] { return answer.has_value(); });
  EXPECT_FALSE(*answer);
  for (size_t i = 0; i < 5; ++i) set_away(i, false);
  job_->on_site_change();
  run_until_made(1);
  EXPECT_EQ(job_->progress().failure, "");
}

TEST_F(CheckpointJobTest, AFailedOneIsClearedAway) {
  // Column 3 fails wherever it is tried, until all sites have failed.
  bool broken = true;
  make_sites(5, [&](StoreOp op, const std::string& name) -> Fault {
    if (op != StoreOp::put || !broken || !name.ends_with("-3")) return {};
    return {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "bad")};
  });
  start();
  run_until_made(1);
  EXPECT_EQ(job_->progress().newest->losses_survived(), 1u) << "it lacks a column";
  broken = false;
  job_->on_site_change();
  run_until_made(2);
  EXPECT_EQ(job_->progress().newest->losses_survived(), 2u);
}

TEST_F(CheckpointJobTest, WhatSitesWereAwayForIsMadeUpFor) {
  start();
  run_until_made(1);
  set_away(0, true);
  grow();
  run_until_made(2);
  grow();
  run_until_made(3);
  run_until_records(3);
  EXPECT_EQ(job_->progress().newest->losses_survived(), 1u);
  EXPECT_EQ(fake_.floors.back(), 11u) << "the journal goes on from the one that is strong";
  job_->on_site_change();  // nothing has come back yet
  for (int i = 0; i < 100; ++i) loop_->run_until([n = 0]() mutable { return n++ > 0; });
  EXPECT_EQ(job_->progress().made, 3u);
  set_away(0, false);
  job_->on_site_change();
  run_until_made(4);
  EXPECT_EQ(job_->progress().newest->losses_survived(), 2u);
  run_until_records(2);
}

TEST_F(CheckpointJobTest, AFullJournalDoesNotWaitForTheStrongOne) {
  start();
  run_until_made(1);
  set_away(0, true);
  for (uint64_t count = 2; count <= 4; ++count) {
    grow();
    run_until_made(count);
  }
  loop_->run_until([&] { return fake_.floors.size() == 4; });
  EXPECT_EQ(fake_.floors.back(), sequence_);
}

TEST_F(CheckpointJobTest, OldObjectsAtASiteThatIsAwayGoLater) {
  start();
  run_until_made(1);
  grow();
  run_until_made(2);
  run_until_records(2);
  const size_t two = objects();
  set_away(4, true);
  grow();
  run_until_made(3);
  loop_->run_until([&] { return controls_[0].object_count() <= 3 && records().size() == 3; });
  set_away(4, false);
  job_->on_site_change();
  run_until_made(4);
  run_until_records(2);
  EXPECT_EQ(objects(), two);
}

TEST_F(CheckpointJobTest, DoesWithoutASiteThatLeavesBeforeItIsGone) {
  start();
  run_until_made(1);
  leaving_ = {3};
  run_until_made(2);
  const auto newest = *job_->progress().newest;
  EXPECT_EQ(std::count(newest.sites().begin(), newest.sites().end(), 3u), 0);
  for (const auto& piece : fake_.roots.back().pieces()) {
    EXPECT_EQ(std::count(piece.sites().begin(), piece.sites().end(), 3u), 0);
  }
  for (int i = 0; i < 100; ++i) loop_->run_until([n = 0]() mutable { return n++ > 0; });
  EXPECT_EQ(job_->progress().made, 2u) << "once is enough";
  // It is gone: what was there is not waited for.
  set_away(2, true);
  sites_->retire(3);
  grow();
  run_until_made(3);
  run_until_records(2);
}

TEST_F(CheckpointJobTest, EndsInTheMidstOfOne) {
  bytes_per_second_ = 1;
  add_records(50, 400'000, ++sequence_);
  start();
  loop_->run_until([&] { return objects() > 0; });
  job_.reset();
  bytes_per_second_ = 0;
  open();
  start();
  run_until_made(1);
  run_until_records(1);
  EXPECT_TRUE(read(fake_.roots.back()));
  size_t left = 0;
  for (const auto& piece : fake_.roots.back().pieces())
    left += static_cast<size_t>(piece.sites_size());
  EXPECT_EQ(objects(), left);
}

}  // namespace
}  // namespace datacloud
