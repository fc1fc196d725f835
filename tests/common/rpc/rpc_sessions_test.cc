// What becomes of requests when the connection or the session is lost, or time runs out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/common/rpc/rpc_rig.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RpcSessionTest : public RpcOverBoth {};
INSTANTIATE_TEST_SUITE_P(Over, RpcSessionTest,
                         testing::Values(Transport::unix_socket, Transport::tls), transport_name);

class RpcUnixTest : public RpcOverUnix {};

TEST_P(RpcSessionTest, RestartResendsExactlyTheUnrepliedInOrder) {
  auto options = mount_options();
  std::atomic<int> sessions{0};
  options.on_session = [&](const pb::HelloReply&) { sessions++; };
  options.on_resume = [](pb::HelloRequest& hello) { hello.add_leases()->set_ino(77); };
  auto c = client(options);
  for (int i = 0; i < 5; i++) ASSERT_TRUE(c->call(echo("answered")));
  service_.mute = true;
  std::atomic<int> answers{0};
  for (int i = 0; i < 20; i++) {
    c->call(echo(std::to_string(i)),
            [&, i](result<pb::Reply> reply) { answers += value_of(reply) == std::to_string(i); });
  }
  ASSERT_TRUE(eventually([&] { return service_.seen().size() == 25; }));
  server_.reset();
  for (int i = 20; i < 23; i++) {  // submitted while the daemon is away
    c->call(echo(std::to_string(i)),
            [&, i](result<pb::Reply> reply) { answers += value_of(reply) == std::to_string(i); });
  }
  service_.mute = false;
  start();
  ASSERT_TRUE(eventually([&] { return answers == 23; }));
  auto seen = service_.seen();
  ASSERT_EQ(seen.size(), 25u + 23u);
  for (uint64_t i = 0; i < 23; i++) EXPECT_EQ(seen[25 + i], 6 + i);
  EXPECT_EQ(c->session(), 100u);
  EXPECT_EQ(sessions, 2);
  ASSERT_EQ(service_.hellos().size(), 2u);
  EXPECT_EQ(service_.hellos()[1].session().id(), 100u);
  EXPECT_EQ(service_.hellos()[1].leases_size(), 1);
}

// Leases that the daemon is not told of must not be relied on any more.
TEST_F(RpcUnixTest, MoreLeasesThanAMessageNamesEndTheSession) {
  auto options = mount_options();
  options.session.set_secret(std::string(32, 's'));
  std::mutex mutex;
  std::vector<uint64_t> sessions;
  options.on_session = [&](const pb::HelloReply& hello) {
    std::lock_guard lock(mutex);
    sessions.push_back(hello.resumed() ? 0 : hello.session());
  };
  options.on_resume = [](pb::HelloRequest& hello) {
    for (uint64_t i = 0; i < 1'500'000; ++i) {
      hello.add_leases()->set_ino((uint64_t{1} << 60) + i);
      hello.mutable_leases()->rbegin()->set_mode(pb::LEASE_READ);
    }
  };
  auto c = client(options);
  ASSERT_TRUE(c->call(echo("before")));
  const uint64_t before = c->session();
  service_.mute = true;
  std::atomic<bool> lost{false};
  pb::Request change;
  change.mutable_unlink()->set_name("x");
  c->call(change, [&](result<pb::Reply> r) { lost = !r && r.error().is(Errc::session_lost); });
  ASSERT_TRUE(eventually([&] { return service_.seen().size() == 2; }));
  service_.mute = false;
  service_.last()->close();
  ASSERT_TRUE(eventually([&] { return lost.load(); }));
  EXPECT_EQ(value_of(c->call(echo("after"))), "after");
  EXPECT_NE(c->session(), before);
  const auto hello = service_.hellos().back();
  EXPECT_EQ(hello.session().id(), 0u) << "nothing is resumed";
  EXPECT_EQ(hello.leases_size(), 0);
  EXPECT_EQ(hello.session().secret().size(), 32u);
  EXPECT_NE(hello.session().secret(), options.session.secret()) << "nor by its secret";
  std::lock_guard lock(mutex);
  EXPECT_EQ(sessions.back(), c->session()) << "the mount is told";
}

TEST_P(RpcSessionTest, LostSessionFailsWhatMayHaveBeenExecuted) {
  auto options = mount_options();
  std::mutex mutex;
  std::vector<std::string> events;
  options.on_session = [&](const pb::HelloReply& hello) {
    std::lock_guard lock(mutex);
    events.push_back("session " + std::to_string(hello.session()));
  };
  auto c = client(options);
  service_.mute = true;
  std::atomic<int> lost{0};
  for (int i = 0; i < 3; i++) {
    pb::Request request;
    request.mutable_unlink()->set_name("x");
    c->call(request, [&](result<pb::Reply> reply) {
      std::lock_guard lock(mutex);
      if (!reply && reply.error().is(Errc::session_lost)) lost++;
      events.push_back("failed");
    });
  }
  std::atomic<bool> asked{false};  // executed twice it does no harm
  c->call(echo("asked"), [&](result<pb::Reply> reply) { asked = value_of(reply) == "asked"; });
  ASSERT_TRUE(eventually([&] { return service_.seen().size() == 4; }));
  service_.know_sessions = false;
  service_.mute = false;
  service_.last()->close();
  ASSERT_TRUE(eventually([&] { return lost == 3; }));
  EXPECT_EQ(value_of(c->call(echo("anew"))), "anew");
  EXPECT_TRUE(asked);
  EXPECT_EQ(c->session(), 101u);
  EXPECT_EQ(service_.seen().size(), 6u);
  std::lock_guard lock(mutex);
  EXPECT_THAT(events, ElementsAre("session 100", "session 101", "failed", "failed", "failed"));
}

TEST_P(RpcSessionTest, ToolsFailInsteadOfResuming) {
  RpcClient::Options options;
  options.kind = pb::CLIENT_TOOL;
  auto c = client(options);
  service_.mute = true;
  std::atomic<bool> failed{false};
  c->call(echo("x"), [&](result<pb::Reply> r) { failed = !r && r.error().is(Errc::unavailable); });
  ASSERT_TRUE(eventually([&] { return service_.seen().size() == 1; }));
  service_.last()->close();
  EXPECT_TRUE(eventually([&] { return failed.load(); }));
  service_.mute = false;
  EXPECT_EQ(value_of(c->call(echo("again"))), "again");
  EXPECT_EQ(service_.hellos().back().session().id(), 0u);
}

TEST_P(RpcSessionTest, DeadlineAnswersUnavailable) {
  auto options = mount_options();
  options.deadline = milliseconds(300);
  auto c = client(options);
  service_.mute = true;
  const auto before = monotonic_now();
  auto silent = c->call(echo("x"));
  ASSERT_FALSE(silent);
  EXPECT_TRUE(silent.error().is(Errc::unavailable)) << silent.error().message();
  server_.reset();
  auto gone = c->call(echo("x"));
  ASSERT_FALSE(gone);
  EXPECT_TRUE(gone.error().is(Errc::unavailable));
  EXPECT_THAT(gone.error().text(), HasSubstr("datacloudd"));
  const auto took = monotonic_now() - before;
  EXPECT_GE(took, milliseconds(600));
  EXPECT_LT(took, seconds(3));
}

// What became of requests whose deadline had passed: the late reply, or that there will be none.
TEST_P(RpcSessionTest, LateOutcomesAreTold) {
  auto options = mount_options();
  options.deadline = milliseconds(200);
  reach(options);
  auto session = connect_session(std::move(options), nullptr);
  ASSERT_TRUE(session);
  service_.mute = true;
  std::atomic<int> failed{0}, told{0}, lost{0};
  const auto ask = [&](const std::string& text) {
    session.value()->call_until_known(
        echo(text), [&](result<pb::Reply> reply) { failed += !reply; },
        [&, text](result<pb::Reply> reply) { (value_of(reply) == text ? told : lost)++; });
  };
  ask("answered late");
  ASSERT_TRUE(eventually([&] { return failed == 1; }));
  EXPECT_EQ(told + lost, 0);
  EXPECT_GE(session.value()->silence(), milliseconds(200));
  pb::Reply reply;
  reply.set_id(service_.seen().back());
  reply.mutable_xattr()->set_value("answered late");
  service_.last()->reply(reply);
  service_.last()->reply(reply);  // a second one is nobody's
  ASSERT_TRUE(eventually([&] { return told == 1; }));
  EXPECT_LT(session.value()->silence(), seconds(5));
  ask("never answered");
  ASSERT_TRUE(eventually([&] { return failed == 2; }));
  service_.last()->close();
  ASSERT_TRUE(eventually([&] { return lost == 1; }));
  EXPECT_EQ(told, 1);
}

TEST_F(RpcUnixTest, NobodyListening) {
  RpcClient::Options options;
  options.addresses = {"unix:" + directory_ + "/nothing"};
  const auto before = monotonic_now();
  auto c = connect_rpc(options, nullptr);
  ASSERT_FALSE(c);
  EXPECT_TRUE(c.error().is(Errc::unavailable));
  EXPECT_THAT(c.error().text(), HasSubstr("/nothing"));
  EXPECT_LT(monotonic_now() - before, seconds(3));
  options.addresses = {"tcp://host:1"};
  EXPECT_TRUE(connect_rpc(options, nullptr).error().is(Errc::invalid));
  options.addresses = {"unix:/" + std::string(200, 'p')};
  EXPECT_TRUE(connect_rpc(options, nullptr).error().is(Errc::invalid));
}

}  // namespace
}  // namespace datacloud
