// Waits that are given up, and what becomes of the requests behind them: a daemon that answers when
// the test tells it to.
#include "fs/base/interruption.h"

#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "fs/file/dirty_budget.h"
#include "fs/file/metadata_client.h"
#include "fs/read/map_fetcher.h"

namespace datacloud {
namespace {

class HoldingDaemon final : public RpcSession {
 public:
  struct Held {
    pb::Request request;
    Callback callback, late;
  };

  void call(pb::Request request, Callback callback) override {
    call_until_known(std::move(request), std::move(callback), nullptr);
  }
  void call_until_known(pb::Request request, Callback callback, Callback late) override {
    std::lock_guard lock(mutex_);
    held_.push_back({std::move(request), std::move(callback), std::move(late)});
    changed_.notify_all();
  }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return monotonic_now() + seconds(60); }

  Held next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !held_.empty(); });
    Held held = std::move(held_.front());
    held_.pop_front();
    return held;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Held> held_;
};

pb::Reply attr_reply(InodeId ino, pb::LeaseMode lease, uint64_t sequence) {
  pb::Reply reply;
  reply.set_sequence(sequence);
  auto* attr = reply.mutable_attr();
  attr->mutable_inode()->set_ino(ino);
  attr->mutable_inode()->set_nlink(1);
  attr->set_lease(lease);
  return reply;
}

pb::Request create_in(InodeId parent) {
  pb::Request request;
  request.mutable_create()->set_parent(parent);
  request.mutable_create()->set_name("name");
  request.mutable_create()->set_open(true);
  return request;
}

// Calls in a thread of its own, as for a request of the kernel.
template <class Call>
class Interrupted {
 public:
  explicit Interrupted(Call call)
      : thread_([this, call] {
          InterruptionScope scope(interruption_);
          error_ = call();
        }) {}
  ~Interrupted() {
    if (thread_.joinable()) thread_.join();
  }
  int raise(Interruption::Reason why = Interruption::Reason::killed) {
    interruption_.raise(why);
    return join();
  }
  int join() {
    thread_.join();
    return error_;
  }

 private:
  Interruption interruption_;
  int error_ = 0;
  std::thread thread_;
};

class InterruptionTest : public ::testing::Test {
 protected:
  InterruptionTest() {
    client_.on_unwitnessed([this](const auto& news) { told_.push_back(news); });
  }
  ~InterruptionTest() override { client_.on_unwitnessed(nullptr); }

  auto calls(pb::Request request, pb::LeaseMode pin = pb::LEASE_NONE) {
    return [this, request, pin] {
      const auto answer = client_.call(request, pin);
      return answer ? 0 : answer.error().errno_value();
    };
  }
  bool told_of(InodeId ino) const {
    for (const auto& news : told_)
      for (const InodeId told : news.inodes)
        if (told == ino) return true;
    return false;
  }

  HoldingDaemon daemon_;
  InodeTable table_;
  MetadataClient client_{daemon_, table_};
  std::vector<MetadataClient::Unwitnessed> told_;
};

TEST_F(InterruptionTest, ACreateThatHappensAfterAllLeavesNothingBehind) {
  Interrupted caller(calls(create_in(5)));
  auto held = daemon_.next();
  EXPECT_EQ(caller.raise(), EINTR);
  EXPECT_TRUE(told_.empty());
  held.callback(attr_reply(9, pb::LEASE_WRITE, 3));
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_TRUE(told_[0].entries);
  EXPECT_TRUE(told_of(5));  // the directory's times
  EXPECT_EQ(table_.sweep(), std::vector<InodeId>{9});
  const auto released = table_.take_releases(10);
  ASSERT_EQ(released.size(), 1u);  // the lease, and that it is open
  EXPECT_EQ(released[0].ino(), 9u);
}

TEST_F(InterruptionTest, APinThatNobodyTakesIsGivenBack) {
  Interrupted caller(calls(lease_request(9, pb::LEASE_WRITE, false), pb::LEASE_WRITE));
  auto held = daemon_.next();
  EXPECT_EQ(caller.raise(), EINTR);
  held.callback(attr_reply(9, pb::LEASE_WRITE, 3));
  const InodePtr inode = table_.find(9);
  ASSERT_TRUE(inode);
  EXPECT_EQ(inode->users, 0u);
  EXPECT_TRUE(told_.empty());  // nothing has changed
}

TEST_F(InterruptionTest, AnErrorOfTheDaemonChangesNothing) {
  Interrupted caller(calls(create_in(5)));
  auto held = daemon_.next();
  EXPECT_EQ(caller.raise(), EINTR);
  held.callback(failure(Error::posix(EEXIST, "there")));
  EXPECT_TRUE(told_.empty());
}

TEST_F(InterruptionTest, WhatIsAnsweredAfterItsDeadlineIsAppliedWithoutItsLease) {
  pb::Request chmod;
  chmod.mutable_setattr()->set_ino(9);
  chmod.mutable_setattr()->set_mode(0600);
  Interrupted caller(calls(chmod));
  auto held = daemon_.next();
  held.callback(failure(Errc::unavailable, "no answer"));
  EXPECT_EQ(caller.join(), EIO);
  auto late = attr_reply(9, pb::LEASE_WRITE, 3);
  late.mutable_attr()->mutable_inode()->set_mode(0600);
  held.late(late);
  const InodePtr inode = table_.find(9);
  ASSERT_TRUE(inode);
  EXPECT_EQ(inode->lease, pb::LEASE_NONE);
  EXPECT_TRUE(told_of(9));
}

TEST_F(InterruptionTest, WhatMayHaveHappenedIsAskedForAgain) {
  table_.apply(attr_reply(5, pb::LEASE_READ, 1).attr().inode(), pb::LEASE_READ, false, 1, 1, 1);
  table_.apply(attr_reply(9, pb::LEASE_READ, 1).attr().inode(), pb::LEASE_READ, false, 1, 1, 1);
  pb::Request unlink;
  unlink.mutable_unlink()->set_parent(5);
  unlink.mutable_unlink()->set_name("name");
  Interrupted caller(calls(unlink));
  auto held = daemon_.next();
  held.callback(failure(Errc::unavailable, "no answer"));
  EXPECT_EQ(caller.join(), EIO);
  EXPECT_FALSE(table_.find(5)->attr_stale);
  held.late(failure(Errc::unavailable, "the connection broke"));
  EXPECT_TRUE(table_.find(5)->attr_stale);
  EXPECT_TRUE(table_.find(9)->attr_stale);  // may be what was unlinked
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_TRUE(told_[0].entries && told_[0].all);
}

TEST_F(InterruptionTest, AskingEndsByItsPatienceAndOnce) {
  pb::Request request;
  request.mutable_statfs();
  std::mutex mutex;
  std::condition_variable answered;
  std::vector<int> errors;
  const auto ask = [&](Duration patience) {
    client_.ask(request, patience, [&](result<MetadataClient::Answer> answer) {
      std::lock_guard lock(mutex);
      errors.push_back(answer ? 0 : answer.error().errno_value());
      answered.notify_all();
    });
  };
  ask(milliseconds(20));
  auto held = daemon_.next();
  {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(answered.wait_for(lock, seconds(20), [&] { return errors.size() == 1; }));
  }
  held.callback(pb::Reply());
  ask(seconds(60));
  daemon_.next().callback(pb::Reply());
  EXPECT_EQ(errors, (std::vector<int>{EIO, 0}));
}

TEST_F(InterruptionTest, EndsTheWaitForRoomAndForAMap) {
  DirtyBudget budget(100);
  budget.add(100);
  Interrupted writer([&] {
    const auto done = budget.wait_for_room(50, []() -> result<void> { return success(); });
    return done ? 0 : done.error().errno_value();
  });
  EXPECT_EQ(writer.raise(), EINTR);
  EXPECT_EQ(budget.used(), 100u);

  MapFetcher maps(daemon_);
  const auto read = [&] {
    const auto blocks = maps.blocks(9, 0, 1, 0);
    return blocks ? 0 : blocks.error().errno_value();
  };
  Interrupted reader(read);
  auto held = daemon_.next();
  EXPECT_EQ(reader.raise(Interruption::Reason::daemon_silent), EIO);
  // Another reader of the same blocks waits for the same answer, and gets it.
  Interrupted another(read);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  held.callback(failure(Error::posix(ESTALE, "gone")));
  EXPECT_EQ(another.join(), ESTALE);
}

TEST(Interruption, TheFirstReasonCountsAndOtherThreadsAreLeftAlone) {
  Interruption interruption;
  InterruptionScope scope(interruption);
  interruption.raise(Interruption::Reason::daemon_silent);
  interruption.raise(Interruption::Reason::killed);
  EXPECT_EQ(interruption_error().errno_value(), EIO);
  EXPECT_FALSE(sleep_interruptibly(seconds(60)));
  std::thread([] { EXPECT_TRUE(sleep_interruptibly(milliseconds(1))); }).join();
}

}  // namespace
}  // namespace datacloud
