// What a served site's client does when the network or the server fails in the middle.
#include <gmock/gmock.h>

#include "tests/support/served_site.h"
#include "tests/support/store_calls.h"
#include "tests/support/tcp_relay.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class RemoteFaults : public testing::Test {
 protected:
  RemoteFaults() { site_.start(); }
  // Through the relay.
  std::unique_ptr<ObjectStore> open(Duration silence_max = seconds(6)) {
    RemoteStoreOptions options = site_.options_for();
    options.address = relay_.address();
    options.silence_max = silence_max;
    return make_remote_store(std::move(options));
  }
  // Tries until a connection is made again.
  static bool back_within(ObjectStore& store, Duration patience) {
    const auto until = monotonic_now() + patience;
    while (monotonic_now() < until) {
      if (check(store)) return true;
      std::this_thread::sleep_for(milliseconds(20));
    }
    return false;
  }

  ServedSite site_;
  TcpRelay relay_{parse_tls_address(site_.address()).value().port};
};

TEST_F(RemoteFaults, AServerThatIsNotThereIsAway) {
  const auto store = open();
  ASSERT_TRUE(put(*store, "one", {1, 2, 3}));
  site_.stop();
  relay_.cut();
  result<ReadReply> failed = failure(Errc::io, "");
  for (int i = 0; i < 3; ++i) {
    failed = read(*store, "one", {{0, 3}});
    ASSERT_FALSE(failed);
    EXPECT_TRUE(failed.error().is(Errc::away)) << failed.error().message();
  }
  EXPECT_THAT(failed.error().text(), HasSubstr(relay_.address()));
  EXPECT_THAT(failed.error().text(), HasSubstr("datacloudd --site oslo"));
  site_.start();
  ASSERT_TRUE(back_within(*store, seconds(5)));
  EXPECT_EQ(read_all(*store, "one").value(), (Bytes{1, 2, 3}));
}

// Cut anywhere in a put: it is done, or its outcome is unknown; what is there afterwards is whole.
TEST_F(RemoteFaults, APutThatIsCutIsUnknownAndNeverHalf) {
  const auto store = open();
  const Bytes data = contents_of("cut", 300'000);
  int unknown = 0;
  for (const int64_t bytes : {1, 200, 20'000, 150'000, 299'999, 300'100}) {
    ASSERT_TRUE(back_within(*store, seconds(5)));
    const std::string name = "cut-" + std::to_string(bytes);
    relay_.cut_after(bytes);
    const auto done = put(*store, name, data);
    if (!done) {
      EXPECT_TRUE(done.error().is(Errc::timed_out)) << done.error().message();
      ++unknown;
    }
    ASSERT_TRUE(back_within(*store, seconds(5)));
    const auto there = read_all(*store, name);
    if (there)
      EXPECT_TRUE(there.value() == data) << bytes;
    else
      EXPECT_TRUE(there.error().is(Errc::not_found)) << there.error().message();
    EXPECT_TRUE(!done || there) << "an answered put is there";
  }
  EXPECT_GE(unknown, 4);
}

TEST_F(RemoteFaults, ARemovalThatIsCutIsUnknown) {
  const auto store = open();
  ASSERT_TRUE(put(*store, "one", {1}));
  relay_.cut_after(1);
  const auto removed = remove(*store, "one");
  ASSERT_FALSE(removed);
  EXPECT_TRUE(removed.error().is(Errc::timed_out)) << removed.error().message();
}

TEST_F(RemoteFaults, AReadThatIsCutIsAskedOnceMore) {
  const auto store = open();
  const Bytes data = contents_of("one", 1 << 20);
  ASSERT_TRUE(put(*store, "one", data));
  for (const int64_t bytes : {1, 70'000, 900'000}) {
    const uint64_t before = relay_.connections();
    relay_.cut_after(bytes, true);
    const auto got = read_all(*store, "one");
    ASSERT_TRUE(got) << got.error().message();
    EXPECT_TRUE(got.value() == data);
    EXPECT_EQ(relay_.connections(), before + 1) << bytes;
  }
}

// Neither a reset nor an end: the server has just gone. Nobody waits longer than silence_max.
TEST_F(RemoteFaults, ASilentConnectionIsGivenUp) {
  const auto store = open(milliseconds(1500));
  ASSERT_TRUE(put(*store, "one", {1}));
  relay_.hold(true);
  const auto began = monotonic_now();
  const auto done = put(*store, "two", {2});
  ASSERT_FALSE(done);
  EXPECT_TRUE(done.error().is(Errc::timed_out)) << done.error().message();
  EXPECT_LT(monotonic_now() - began, seconds(10));
  relay_.hold(false);
  EXPECT_TRUE(back_within(*store, seconds(15)));
}

// A disk that takes its time is no silent server.
TEST_F(RemoteFaults, ASlowStoreIsWaitedFor) {
  site_.stop();
  site_.faults = [](StoreOp op, const std::string&) {
    return op == StoreOp::read ? Fault{Fault::Kind::delay, {}, seconds(4)} : Fault{};
  };
  site_.start();
  const auto store = open(milliseconds(2500));
  ASSERT_TRUE(put(*store, "one", {1}));
  const auto got = read_all(*store, "one");
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(relay_.connections(), 1u);
}

// The answer of a call that was given up comes late, is dropped, and disturbs nobody.
TEST_F(RemoteFaults, LateAnswersAreDropped) {
  site_.stop();
  site_.faults = [](StoreOp, const std::string& name) {
    return name == "slow" ? Fault{Fault::Kind::delay, {}, milliseconds(700)} : Fault{};
  };
  site_.start();
  const auto store = make_deadline_store(open());
  ASSERT_TRUE(put(*store, "one", {1}));
  OpOptions soon;
  soon.deadline = monotonic_now() + milliseconds(100);
  const auto late = put(*store, "slow", {2}, {}, soon);
  ASSERT_FALSE(late);
  EXPECT_TRUE(late.error().is(Errc::timed_out));
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(read_all(*store, "one").value(), (Bytes{1}));
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_EQ(relay_.connections(), 1u);
}

// Calls of many threads over a connection that is cut again and again: each is answered once, and
// what was said to be done is there.
TEST_F(RemoteFaults, WhatWasAnsweredHolds) {
  const auto store = open();
  std::atomic<bool> stop{false};
  std::atomic<int> done{0}, failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        const std::string name = "put-" + std::to_string(t) + "-" + std::to_string(i);
        const Bytes data = contents_of(name, 50'000);
        if (!put(*store, name, data)) {
          ++failed;
          std::this_thread::sleep_for(milliseconds(5));
          continue;
        }
        ++done;
        const auto got = read_all(*store, name);
        if (got)
          EXPECT_TRUE(got.value() == data) << name;
        else
          EXPECT_TRUE(got.error().is(Errc::away)) << got.error().message();
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(milliseconds(100));
    relay_.cut();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_GT(done, 20);
  EXPECT_GT(failed, 0);
  EXPECT_TRUE(back_within(*store, seconds(5)));
}

}  // namespace
}  // namespace datacloud
