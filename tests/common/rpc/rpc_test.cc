// Requests and replies over a Unix socket and over TLS: order, sizes, pushes, leases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "common/rpc/protocol_range.h"
#include "common/rpc/rpc_frame.h"
#include "tests/common/rpc/rpc_rig.h"

namespace datacloud {
namespace {

class RpcTest : public RpcOverBoth {};
INSTANTIATE_TEST_SUITE_P(Over, RpcTest, testing::Values(Transport::unix_socket, Transport::tls),
                         transport_name);

TEST_P(RpcTest, AnswersAndErrorsArrive) {
  auto c = client();
  EXPECT_TRUE(c->connected());
  EXPECT_EQ(c->session(), 100u);
  EXPECT_EQ(value_of(c->call(echo("hello"))), "hello");
  pb::Request unlink;
  unlink.mutable_unlink();
  auto failed = c->call(unlink);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().errno_value(), ENOENT);
  EXPECT_EQ(failed.error().text(), "no name \xff\xfe");  // file names need not be UTF-8
  pb::Request statfs;
  statfs.mutable_statfs();
  auto revoked = c->call(statfs);
  ASSERT_FALSE(revoked);
  EXPECT_TRUE(revoked.error().is(Errc::revoked));
  auto unknown = c->call(pb::Request());
  ASSERT_FALSE(unknown);
  EXPECT_TRUE(unknown.error().is(Errc::unsupported));
}

TEST_P(RpcTest, TheDaemonChoosesAProtocolThatBothSpeak) {
  const auto first = client();
  ASSERT_TRUE(first);
  EXPECT_EQ(service_.hellos()[0].protocol(), own_protocols().newest);
  EXPECT_EQ(service_.hellos()[0].protocol_min(), own_protocols().oldest);
  service_.protocol = own_protocols().newest;
  EXPECT_TRUE(client());
  service_.protocol = own_protocols().newest + 1;
  auto options = mount_options();
  reach(options);
  const auto refused = connect_rpc(std::move(options), nullptr);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::unsupported));
  EXPECT_THAT(refused.error().text(), testing::HasSubstr(", this program (Data Cloud "));
}

// It goes on asking, since the node may be let in again, and not each moment.
TEST_P(RpcTest, AMountThatIsTurnedAwayAsksLessOften) {
  auto options = mount_options();
  options.deadline = seconds(1);
  const auto mount = client(std::move(options));
  ASSERT_TRUE(mount);
  service_.turn_away = true;
  service_.last()->close();
  std::this_thread::sleep_for(milliseconds(2500));
  const size_t refused = service_.hellos().size() - 1;
  EXPECT_GE(refused, 1u);
  EXPECT_LE(refused, 3u) << "after one second, then after two";
  EXPECT_THAT(mount->call({}).error().text(), testing::Not(testing::HasSubstr("running?")));
  service_.turn_away = false;
}

TEST_P(RpcTest, ManyThreadsShareOneConnection) {
  auto c = client();
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; t++) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; i++) {
        const std::string text = std::to_string(t) + ":" + std::to_string(i);
        right += value_of(c->call(echo(text))) == text;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(right, 4000);
  // Ids grow by one, and what has been answered is acknowledged.
  auto seen = service_.seen();
  std::sort(seen.begin(), seen.end());
  ASSERT_EQ(seen.size(), 4000u);
  EXPECT_EQ(seen.front(), 1u);
  EXPECT_EQ(seen.back(), 4000u);
  (void)value_of(c->call(echo("last")));
  EXPECT_EQ(service_.acknowledged(), 4000u);
}

TEST_P(RpcTest, LargeRequestsAndRepliesPass) {
  auto c = client();
  const std::string large(8u << 20, 'y');
  EXPECT_EQ(value_of(c->call(echo(large))), large);
  auto too_large = c->call(echo(std::string(kFrameBytesMax, 'z')));
  ASSERT_FALSE(too_large);
  EXPECT_TRUE(too_large.error().is(Errc::invalid));
  pb::Request readdir;  // a reply that exceeds a frame becomes an error, not a broken connection
  readdir.mutable_readdir()->set_count_max(kFrameBytesMax + 1);
  auto refused = c->call(readdir);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::invalid));
  EXPECT_EQ(value_of(c->call(echo("after"))), "after");
  EXPECT_EQ(service_.hellos().size(), 1u);
}

TEST_P(RpcTest, PushesArriveInOrderBeforeTheReply) {
  auto options = mount_options();
  std::vector<uint64_t> pushed;
  options.on_push = [&](const pb::Push& push) { pushed.push_back(push.recall().id()); };
  auto c = client(options);
  service_.pushes_per_sync = 300;
  pb::Request sync;
  sync.mutable_sync();
  ASSERT_TRUE(c->call(sync));
  ASSERT_EQ(pushed.size(), 300u);
  EXPECT_TRUE(std::is_sorted(pushed.begin(), pushed.end()));
}

TEST_P(RpcTest, ALeaseEndsEarlierByWhatTheMachineWasSuspended) {
  auto options = mount_options();
  std::atomic<int> slept_s{1000};  // before; it does not count
  options.suspended = [&] { return Duration(seconds(slept_s)); };
  auto c = client(options);
  const auto end = c->lease_end();
  slept_s += 15;
  EXPECT_EQ(c->lease_end(), end - seconds(15));
  pb::Request keepalive;
  keepalive.mutable_keepalive();
  ASSERT_TRUE(c->call(keepalive));
  EXPECT_GE(c->lease_end(), monotonic_now() + seconds(50)) << "asked for after that";
}

TEST_P(RpcTest, LeaseCountsFromSending) {
  const auto before = monotonic_now();
  auto c = client();
  EXPECT_GE(c->lease_end(), before + seconds(20));
  EXPECT_LE(c->lease_end(), monotonic_now() + seconds(20));
  pb::Request keepalive;
  keepalive.mutable_keepalive();
  const auto sending = monotonic_now();
  ASSERT_TRUE(c->call(keepalive));
  EXPECT_GE(c->lease_end(), sending + seconds(60));
  EXPECT_LE(c->lease_end(), monotonic_now() + seconds(60));
}

// Requests, timers and posted functions, from many clients and threads: one at a time.
TEST_P(RpcTest, TheServiceIsCalledOneThingAtATime) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0}, posted{0}, timers{0};
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      const auto c = client();
      for (int i = 0; i < 300; i++) {
        const std::string text = std::to_string(t) + ":" + std::to_string(i);
        right += value_of(c->call(echo(text))) == text;
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 300; i++) {
      server_->server->post([&] {
        const EchoService::OneAtATime alone(service_);
        ++posted;
      });
      server_->server->after(milliseconds(i % 5), [&] {
        const EchoService::OneAtATime alone(service_);
        ++timers;
      });
      std::this_thread::yield();
    }
  });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 1200);
  EXPECT_TRUE(eventually([&] { return posted == 300 && timers == 300; }));
}

TEST_P(RpcTest, TimersAndPostsRunOnTheServiceThread) {
  std::mutex mutex;
  std::vector<std::thread::id> threads;
  auto note = [&] {
    std::lock_guard lock(mutex);
    threads.push_back(std::this_thread::get_id());
  };
  const auto before = monotonic_now();
  std::atomic<bool> late{false};
  server_->server->after(milliseconds(50), [&] {
    note();
    late = monotonic_now() - before >= milliseconds(50);
  });
  server_->server->post(note);
  ASSERT_TRUE(eventually([&] {
    std::lock_guard lock(mutex);
    return threads.size() == 2;
  }));
  EXPECT_TRUE(late);
  EXPECT_EQ(threads[0], threads[1]);
  EXPECT_NE(threads[0], std::this_thread::get_id());
}

}  // namespace
}  // namespace datacloud
