// The loop against a kernel that the test plays: more waiting programs than threads, INTERRUPT
// before and after its request, what needs no thread, and the daemon's silence.
#include "fs/fuse/raw/request_loop.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "tests/fs/fuse/raw/fake_kernel.h"

namespace datacloud {
namespace {

constexpr uint32_t kDying = 4711, kHandles = 4712;  // threads of programs
constexpr uint32_t kThreads = 3;

// A file system whose lookups wait until the test lets them go, or until they are interrupted.
class RequestLoopTest : public ::testing::Test {
 protected:
  RequestLoopTest() : user_{*this, KernelChannel({})}, kernel_(operations(), user_) {
    PendingRequests::Options options;
    options.deadline = milliseconds(200);
    options.is_dying = [](pid_t thread) { return thread == static_cast<pid_t>(kDying); };
    options.daemon_silence = [this] { return silent_ ? Duration(seconds(60)) : Duration{}; };
    loop_.emplace(kernel_.session(), user_.channel_, kThreads, options);
    thread_ = std::thread([this] { status_ = loop_->run(); });
    kernel_.init(FUSE_ASYNC_READ);
    EXPECT_TRUE(kernel_.reply());
  }
  ~RequestLoopTest() override {
    let_go();
    if (thread_.joinable()) stop();
  }

  void stop() {
    fuse_session_exit(kernel_.session());
    thread_.join();
  }
  void let_go() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // Waits until so many lookups wait inside of the file system.
  void expect_waiting(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return waiting_ == count;
    })) << waiting_;
  }
  // Replies by request, as many as there should be.
  std::map<uint64_t, int> replies(size_t count) {
    std::map<uint64_t, int> out;
    while (out.size() < count) {
      const auto reply = kernel_.reply();
      if (!reply) {
        ADD_FAILURE() << "only " << out.size() << " replies";
        break;
      }
      EXPECT_FALSE(out.count(reply->header.unique)) << "two replies to " << reply->header.unique;
      out[reply->header.unique] = reply->header.error;
    }
    return out;
  }

  struct User {
    RequestLoopTest& test;
    KernelChannel channel_;
    KernelChannel& channel() { return channel_; }
  };
  static RequestLoopTest& test_of(fuse_req_t req) {
    return static_cast<User*>(fuse_req_userdata(req))->test;
  }

  void wait_and_reply(fuse_req_t req) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    most_ = std::max(most_, waiting_);
    changed_.notify_all();
    const auto done = wait_interruptibly(changed_, lock, [&] { return open_; });
    --waiting_;
    changed_.notify_all();
    lock.unlock();
    fuse_reply_err(req, done ? ENOENT : done.error().errno_value());
  }
  static fuse_lowlevel_ops operations() {
    fuse_lowlevel_ops ops{};
    ops.lookup = [](fuse_req_t req, fuse_ino_t, const char*) { test_of(req).wait_and_reply(req); };
    ops.forget = [](fuse_req_t req, fuse_ino_t, uint64_t count) {
      test_of(req).forgotten_ += count;
      fuse_reply_none(req);
    };
    ops.statfs = [](fuse_req_t req, fuse_ino_t) {
      struct statvfs numbers {};
      fuse_reply_statfs(req, &numbers);
    };
    ops.flush = [](fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
      if (fi->fh == 0) return (void)fuse_reply_err(req, 0);
      RequestLoop::may_wait(
          [req] { test_of(req).wait_and_reply(req); },
          [req](const Error& error) { fuse_reply_err(req, error.errno_value()); });
    };
    return ops;
  }
  void flush(uint64_t unique, uint64_t handle, uint32_t pid = 1) {
    fuse_flush_in in{};
    in.fh = handle;
    kernel_.send(FakeKernel::message(FUSE_FLUSH, unique, FUSE_ROOT_ID, in, "", pid));
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool open_ = false;
  size_t waiting_ = 0, most_ = 0;
  std::atomic<uint64_t> forgotten_{0};
  std::atomic<bool> silent_{false};
  User user_;
  FakeKernel kernel_;
  std::optional<RequestLoop> loop_;
  std::thread thread_;
  int status_ = -1;
};

TEST_F(RequestLoopTest, ServesMoreWaitingProgramsThanThreads) {
  for (uint64_t i = 0; i < 40; ++i) kernel_.lookup(100 + 2 * i, "name");
  expect_waiting(kThreads);
  let_go();
  const auto seen = replies(40);
  EXPECT_EQ(seen.size(), 40u);
  for (const auto& [unique, error] : seen) EXPECT_EQ(error, -ENOENT);
  EXPECT_LE(most_, kThreads + 1);
  stop();
  EXPECT_EQ(status_, 0);
}

TEST_F(RequestLoopTest, ForgetsAndAnswersWhatNeedsNoThreadWhileAllWait) {
  for (uint64_t i = 0; i < 10; ++i) kernel_.lookup(100 + 2 * i, "name");
  expect_waiting(kThreads);
  kernel_.send(FakeKernel::message(FUSE_FORGET, 0, 5, fuse_forget_in{.nlookup = 3}));
  kernel_.send(FakeKernel::message(FUSE_STATFS, 200, FUSE_ROOT_ID, FakeKernel::Nothing{}));
  flush(202, 0);
  const auto seen = replies(2);
  EXPECT_EQ(seen, (std::map<uint64_t, int>{{200, 0}, {202, 0}}));
  EXPECT_EQ(forgotten_, 3u);
}

TEST_F(RequestLoopTest, EndsWhatIsServedAndWhatIsQueuedWhenTheProgramIsKilled) {
  for (uint64_t i = 0; i < 10; ++i) kernel_.lookup(100 + 2 * i, "name", kDying);
  expect_waiting(kThreads);
  std::set<uint64_t> all;
  for (uint64_t i = 0; i < 10; ++i) {
    kernel_.interrupt(100 + 2 * i);
    all.insert(100 + 2 * i);
  }
  for (const auto& [unique, error] : replies(10)) {
    EXPECT_EQ(error, -EINTR);
    EXPECT_EQ(all.erase(unique), 1u);
  }
  EXPECT_TRUE(all.empty());
  expect_waiting(0);
}

TEST_F(RequestLoopTest, LeavesProgramsAloneThatHandleTheirSignal) {
  kernel_.lookup(100, "name", kHandles);
  expect_waiting(1);
  kernel_.interrupt(100);
  EXPECT_FALSE(kernel_.reply(300));
  let_go();
  EXPECT_EQ(replies(1), (std::map<uint64_t, int>{{100, -ENOENT}}));
}

TEST_F(RequestLoopTest, TakesAnInterruptThatComesBeforeItsRequest) {
  kernel_.interrupt(100);
  kernel_.lookup(100, "name", kDying);
  EXPECT_EQ(replies(1), (std::map<uint64_t, int>{{100, -EINTR}}));
}

TEST_F(RequestLoopTest, IgnoresInterruptsOfWhatWasAnswered) {
  let_go();
  kernel_.lookup(100, "name", kDying);
  EXPECT_EQ(replies(1).size(), 1u);
  for (uint64_t i = 0; i < 2 * PendingRequests::kEarlyMax; ++i) kernel_.interrupt(100);
  kernel_.lookup(102, "name", kDying);
  EXPECT_EQ(replies(1), (std::map<uint64_t, int>{{102, -ENOENT}}));
}

TEST_F(RequestLoopTest, EndsEveryWaitWhenTheDaemonIsSilentForTheDeadline) {
  for (uint64_t i = 0; i < 10; ++i) kernel_.lookup(100 + 2 * i, "name");
  expect_waiting(kThreads);
  EXPECT_FALSE(kernel_.reply(600));  // slow is not silent
  silent_ = true;
  for (const auto& [unique, error] : replies(10)) EXPECT_EQ(error, -EIO);
}

TEST_F(RequestLoopTest, WhatMayWaitIsServedElsewhereOrRefused) {
  for (uint64_t i = 0; i < 5; ++i) kernel_.lookup(100 + 2 * i, "name");
  expect_waiting(kThreads);
  flush(200, 1, kDying);
  flush(202, 1);
  kernel_.interrupt(200);
  EXPECT_EQ(replies(1), (std::map<uint64_t, int>{{200, -EINTR}}));
  let_go();
  const auto seen = replies(6);
  EXPECT_EQ(seen.at(202), -ENOENT);
}

TEST_F(RequestLoopTest, ServesWhatIsQueuedWhenItIsToldToEnd) {
  for (uint64_t i = 0; i < 10; ++i) kernel_.lookup(100 + 2 * i, "name");
  expect_waiting(kThreads);
  kernel_.send(FakeKernel::message(FUSE_STATFS, 200, FUSE_ROOT_ID, FakeKernel::Nothing{}));
  EXPECT_EQ(replies(1).count(200), 1u);  // so all of them have been read
  fuse_session_exit(kernel_.session());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  let_go();
  EXPECT_EQ(replies(10).size(), 10u);
  thread_.join();
  EXPECT_EQ(status_, 0);
}

}  // namespace
}  // namespace datacloud
