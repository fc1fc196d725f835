// The stages of a commit: applied and committed at once, durable on the loop after a sync; a store
// that fails ends the daemon and answers nobody.
#include "daemon/metadata/committer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "tests/support/simulated_files.h"

namespace datacloud {
namespace {

// Runs what is posted when the test says so.
class HandLoop final : public EventLoop {
 public:
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(f));
    posted_.notify_all();
  }
  void after(Duration, std::function<void()> f) override { post(std::move(f)); }
  MonotonicTime now() override { return monotonic_now(); }
  // Waits for the next function and runs it.
  void run_one() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(posted_.wait_for(lock, seconds(30), [&] { return !queue_.empty(); }));
    const auto f = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    f();
  }

 private:
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> queue_;
};

class CommitterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(disk_->make_directory("/state"));
    MetadataStore::Options options;
    options.directory = "/state/metadata";
    options.files = disk_;
    pb::Cloud cloud;
    cloud.set_name("test");
    ASSERT_TRUE(MetadataStore::create(options, cloud, 0, 0));
    store_ = MetadataStore::open(options).value();
    committer_ = std::make_unique<LocalCommitter>(
        *store_, loop_, [this](const Error& e) { fatal_.push_back(e.text()); });
  }
  result<void> apply(const std::string& key) {
    auto txn = store_->begin();
    txn.put(key, std::string("value"));
    return committer_->apply(std::move(txn));
  }
  void fail(SimulatedFiles::Call call, int error) {
    disk_->set_failure_rule([=](SimulatedFiles::Call c, const std::string& path) {
      return c == call && path.ends_with(".log") ? error : 0;
    });
  }

  std::shared_ptr<SimulatedFiles> disk_ = std::make_shared<SimulatedFiles>();
  std::shared_ptr<HandLoop> loop_ = std::make_shared<HandLoop>();
  std::vector<std::string> fatal_;
  std::unique_ptr<MetadataStore> store_;
  std::unique_ptr<Committer> committer_;
};

// Also when the sync thread sleeps after some work, and nobody waits for the next commit.
TEST_F(CommitterTest, WhatNobodyWaitsForBecomesDurableByItself) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(apply("Z" + std::to_string(i)));
    ASSERT_TRUE(committer_->wait_durable(seconds(30)));
    EXPECT_TRUE(committer_->durable());
  }
  ASSERT_TRUE(apply("Z9"));
  const auto end = monotonic_now() + seconds(30);
  while (!committer_->durable() && monotonic_now() < end) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_TRUE(committer_->durable());
  fail(SimulatedFiles::Call::sync, EIO);
  ASSERT_TRUE(apply("Z10"));
  EXPECT_FALSE(committer_->wait_durable(seconds(30)));
  EXPECT_FALSE(committer_->durable());
}

TEST_F(CommitterTest, AppliedIsSeenAndCommittedAtOnceDurableOnTheLoop) {
  ASSERT_TRUE(apply("Z1"));
  EXPECT_TRUE(store_->begin().get("Z1").value());
  bool committed = false, durable = false;
  committer_->when_committed([&] { committed = true; });
  EXPECT_TRUE(committed);
  committer_->when_durable([&] { durable = true; });
  EXPECT_FALSE(durable) << "never before the call returns";
  loop_->run_one();
  EXPECT_TRUE(durable);
  EXPECT_TRUE(fatal_.empty());
}

TEST_F(CommitterTest, AFailedWriteIsFatalAndNothingIsAppliedAfterIt) {
  fail(SimulatedFiles::Call::append, ENOSPC);
  EXPECT_FALSE(apply("Z1"));
  ASSERT_EQ(fatal_.size(), 1u);
  EXPECT_NE(fatal_[0].find("/state/metadata"), std::string::npos) << fatal_[0];
  EXPECT_FALSE(apply("Z2"));
  EXPECT_FALSE(store_->begin().get("Z2").value());
}

TEST_F(CommitterTest, AFailedSyncIsFatalAndWhoWaitsIsNotAnswered) {
  ASSERT_TRUE(apply("Z1"));
  fail(SimulatedFiles::Call::sync, EIO);
  bool durable = false;
  committer_->when_durable([&] { durable = true; });
  loop_->run_one();
  EXPECT_FALSE(durable);
  ASSERT_EQ(fatal_.size(), 1u);
}

TEST_F(CommitterTest, TheStoreMayAnswerWhenTheCommitterIsGone) {
  ASSERT_TRUE(apply("Z1"));
  bool durable = false;
  committer_->when_durable([&] { durable = true; });
  committer_.reset();
  loop_->run_one();
  EXPECT_TRUE(durable);
}

}  // namespace
}  // namespace datacloud
