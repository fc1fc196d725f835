// Clients of a cloud with several daemons: they find the one that leads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <atomic>
#include <thread>

#include "common/rpc/journal_mark.h"
#include "common/rpc/known_addresses.h"
#include "tests/common/rpc/rpc_rig.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// As HelloReply.journal_position; `fill` is the chain hash.
std::string position(uint64_t epoch, uint64_t sequence, char fill = 'h') {
  std::string bytes;
  for (const uint64_t number : {epoch, uint64_t{7}, sequence})
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(number >> (8 * i));
  return bytes + std::string(32, fill);
}

// Another daemon of the same cloud, at an address of its own.
class OtherDaemon {
 public:
  OtherDaemon(std::string address, const std::shared_ptr<const TlsContext>& shown)
      : address(std::move(address)), shown_(shown) {}
  void start() {
    TlsServing tls;
    tls.context = [this] { return shown_; };
    tls.admit = [](const PeerCertificate& peer, PeerCredentials& who, Refusal&) -> result<void> {
      who.node = peer.identity.name;
      return success();
    };
    tls.refusals = std::make_shared<PeerRefusals>();
    server = std::make_unique<RunningServer>(service, address, std::move(tls));
  }
  const std::string address;
  EchoService service;
  std::unique_ptr<RunningServer> server;

 private:
  const std::shared_ptr<const TlsContext> shown_;
};

// Takes connections, and says nothing: a daemon that was stopped.
class SilentDaemon {
 public:
  explicit SilentDaemon(const std::string& path) : address("unix:" + path) {
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to;
    fill_unix_address(path, to);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
  }
  SilentDaemon() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof to;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&to), length), 0);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&to), &length), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    address = "tls://127.0.0.1:" + std::to_string(ntohs(to.sin_port));
  }
  ~SilentDaemon() { ::close(fd_); }
  std::string address;

 private:
  int fd_ = -1;
};

class RpcDaemonsTest : public RpcOverBoth {
 protected:
  std::string other_address() {
    return tls_ ? "tls://127.0.0.1:" + std::to_string(free_port()) : "unix:" + path_ + "-other";
  }
  std::function<void(pb::Reply&)> telling(const std::string& leader, const std::string& standby) {
    return [=](pb::Reply& reply) {
      for (const auto& [address, leads] : {std::pair(leader, true), std::pair(standby, false)}) {
        auto* place = reply.has_keepalive() ? reply.mutable_keepalive()->add_daemons()
                                            : reply.mutable_hello()->add_daemons();
        place->set_name(leads ? "one" : "two");
        place->set_leads(leads);
        place->add_addresses(address);
      }
    };
  }
};
INSTANTIATE_TEST_SUITE_P(Over, RpcDaemonsTest,
                         testing::Values(Transport::unix_socket, Transport::tls), transport_name);

class RpcOneSocketTest : public RpcOverUnix {};

// Only the first daemon's address is configured. It names the other one, and dies under requests.
TEST_P(RpcDaemonsTest, GoOnWhereTheLeaderSaid) {
  for (const bool by_keepalive : {false, true}) {
    OtherDaemon other(other_address(), daemon_);
    service_.shape_hello(by_keepalive ? nullptr : telling(address_, other.address));
    auto c = client();
    if (by_keepalive) {
      service_.shape_hello(telling(address_, other.address));
      pb::Request keepalive;
      keepalive.mutable_keepalive();
      ASSERT_TRUE(c->call(std::move(keepalive)));
    }
    ASSERT_TRUE(c->call(echo("at the first")));
    service_.mute = true;
    std::atomic<int> answers{0};
    for (int i = 0; i < 10; i++)
      c->call(echo("x"),
              [&](const result<pb::Reply>& reply) { answers += value_of(reply) == "x"; });
    ASSERT_TRUE(eventually([&] { return service_.seen().size() >= 11; }));
    server_.reset();
    other.start();
    EXPECT_TRUE(eventually([&] { return answers == 10; })) << "sent again to the other one";
    const auto hellos = other.service.hellos();
    ASSERT_EQ(hellos.size(), 1u);
    EXPECT_EQ(hellos[0].session().id(), c->session()) << "the session goes on";
    c.reset();
    other.server.reset();
    service_.mute = false;
    start();
  }
}

TEST_P(RpcDaemonsTest, OneThatDoesNotLeadIsPassedOver) {
  OtherDaemon other(other_address(), daemon_);
  other.start();
  service_.shape_hello([](pb::Reply& reply) {
    set_error(reply, Error(Errc::unavailable, "this daemon does not lead"));
  });
  RpcClient::Options options = mount_options();
  reach(options);
  options.addresses.push_back(other.address);
  pb::HelloReply hello;
  auto c = connect_rpc(std::move(options), &hello);
  ASSERT_TRUE(c) << c.error().message();
  EXPECT_EQ(value_of(c.value()->call(echo("x"))), "x");
  EXPECT_EQ(other.service.seen().size(), 1u);
  EXPECT_LE(service_.hellos().size(), 1u) << "once is enough";
  // The roles change while both are there.
  service_.shape_hello(nullptr);
  other.service.shape_hello([](pb::Reply& reply) {
    set_error(reply, Error(Errc::unavailable, "this daemon does not lead any more"));
  });
  other.service.last()->close();
  EXPECT_EQ(value_of(c.value()->call(echo("y"))), "y");
  EXPECT_EQ(service_.seen().size(), 1u);
}

TEST_F(RpcOneSocketTest, OneThatSaysNothingIsPassedOver) {
  SilentDaemon silent(path_ + "-silent");
  RpcClient::Options options = mount_options();
  options.addresses = {silent.address, address_};
  auto c = connect_rpc(options, nullptr);
  ASSERT_TRUE(c) << c.error().message();
  options.kind = pb::CLIENT_TOOL;
  auto tool = connect_rpc(options, nullptr);
  ASSERT_TRUE(tool) << tool.error().message();
}

// Beside the daemon, without a certificate: addresses over TLS that are told are of no use.
TEST_F(RpcOneSocketTest, WithoutACertificateSocketsAreTried) {
  service_.shape_hello([](pb::Reply& reply) {
    if (!reply.has_hello()) return;
    auto* place = reply.mutable_hello()->add_daemons();
    place->set_leads(true);
    place->add_addresses("tls://127.0.0.1:1");
  });
  RpcClient::Options options = mount_options();
  options.addresses = {address_};
  auto c = connect_rpc(options, nullptr);
  ASSERT_TRUE(c) << c.error().message();
  service_.last()->close();
  EXPECT_EQ(value_of(c.value()->call(echo("x"))), "x") << "it is back at the socket";
  server_.reset();
  options.addresses = {"tls://127.0.0.1:1"};
  EXPECT_TRUE(connect_rpc(options, nullptr).error().is(Errc::invalid)) << "which says why";
}

// It listens only once it leads; the other one's machine takes connections and says nothing.
TEST(Dial, AsksAgainWhoRefused) {
  TestCloud cloud;
  SilentDaemon silent;
  OtherDaemon late("tls://127.0.0.1:" + std::to_string(free_port()), cloud.daemon());
  Dial dial({silent.address, late.address}, cloud.node("gpu07"));
  std::this_thread::sleep_for(milliseconds(300));
  late.start();
  const auto stream = dial.wait();
  ASSERT_TRUE(stream) << stream.error().message();
  EXPECT_EQ(dial.winner(), late.address);
}

TEST_P(RpcDaemonsTest, AJournalThatHasGoneBackIsRefused) {
  service_.shape_hello(
      [](pb::Reply& reply) { reply.mutable_hello()->set_journal_position(position(3, 100)); });
  auto c = client();
  service_.shape_hello(
      [](pb::Reply& reply) { reply.mutable_keepalive()->set_journal_position(position(3, 120)); });
  pb::Request keepalive;
  keepalive.mutable_keepalive();
  ASSERT_TRUE(c->call(std::move(keepalive)));
  service_.shape_hello(
      [](pb::Reply& reply) { reply.mutable_hello()->set_journal_position(position(3, 119)); });
  const size_t before = service_.hellos().size();
  std::atomic<bool> answered{false};
  service_.last()->close();
  ASSERT_TRUE(eventually([&] { return service_.hellos().size() > before; }));
  EXPECT_EQ(service_.hellos().back().journal_position(), position(3, 120)) << "it says so";
  c->call(echo("held"), [&](const result<pb::Reply>& reply) {
    EXPECT_EQ(value_of(reply), "held");
    answered = true;
  });
  ASSERT_TRUE(eventually([&] { return service_.hellos().size() > before + 1; })) << "it asks again";
  EXPECT_FALSE(answered);
  EXPECT_EQ(service_.seen().size(), 1u) << "and nothing else: the keepalive was before";
  service_.shape_hello(
      [](pb::Reply& reply) { reply.mutable_hello()->set_journal_position(position(4, 121)); });
  EXPECT_TRUE(eventually([&] { return answered.load(); })) << "one that has it all is back";
}

TEST(JournalMark, OrdersPositions) {
  EXPECT_FALSE(lacks(position(3, 100), position(3, 100)));
  EXPECT_FALSE(lacks(position(3, 101, 'x'), position(3, 100)));
  EXPECT_FALSE(lacks(position(4, 101), position(3, 100)));
  EXPECT_TRUE(lacks(position(3, 99), position(3, 100)));
  EXPECT_TRUE(lacks(position(2, 200), position(3, 100)));
  EXPECT_TRUE(lacks(position(3, 100, 'x'), position(3, 100))) << "another history";
  EXPECT_FALSE(lacks("", position(3, 100))) << "a daemon that does not say";
  EXPECT_FALSE(lacks(position(3, 100), ""));
  EXPECT_FALSE(lacks("short", position(3, 100)));
}

pb::HelloReply with_places(const std::vector<std::vector<std::string>>& places, size_t leader) {
  pb::HelloReply hello;
  for (size_t i = 0; i < places.size(); ++i) {
    auto* place = hello.add_daemons();
    place->set_name("daemon" + std::to_string(i));
    place->set_leads(i == leader);
    for (const auto& address : places[i]) place->add_addresses(address);
  }
  return hello;
}

TEST(KnownAddresses, AreTheLeadersFirstAndTheConfiguredAlways) {
  KnownAddresses known({"tls://old:1", "unix:/run/a"});
  EXPECT_THAT(known.all(), ElementsAre("tls://old:1", "unix:/run/a"));
  known.told(with_places({{"tls://b:1"}, {"tls://c:1", "tls://old:1"}}, 1), false);
  EXPECT_THAT(known.all(), ElementsAre("tls://c:1", "tls://old:1", "tls://b:1", "unix:/run/a"));
  EXPECT_EQ(known.name_of("tls://b:1"), "daemon0");
  EXPECT_THAT(known.name_of("unix:/run/a"), IsEmpty());
  known.told(pb::HelloReply(), false);
  EXPECT_EQ(known.all().size(), 4u) << "a daemon that does not say changes nothing";
  known.told(with_places({{"tls://d:1"}}, 0), false);
  EXPECT_THAT(known.all(), ElementsAre("tls://d:1", "tls://old:1", "unix:/run/a"));
}

TEST(KnownAddresses, AreThoseThatCanBeUsed) {
  KnownAddresses known({"tls://old:1"});
  const auto told = with_places({{"unix:/run/b", "tls://0.0.0.0:1", "nonsense", "tls://b",
                                  "tls://" + std::string(300, 'x') + ":1", "tls://b:2"}},
                                0);
  known.told(told, false);
  EXPECT_THAT(known.all(), ElementsAre("tls://b:2", "tls://old:1"));
  known.told(told, true);
  EXPECT_THAT(known.all(), ElementsAre("unix:/run/b", "tls://b:2", "tls://old:1"));
  std::vector<std::vector<std::string>> many(100);
  for (size_t i = 0; i < many.size(); ++i)
    for (size_t j = 0; j < 100; ++j)
      many[i].push_back("tls://h" + std::to_string(i) + ":" + std::to_string(j + 1));
  known.told(with_places(many, 0), false);
  EXPECT_EQ(known.all().size(), 16u * 8 + 1);
}

}  // namespace
}  // namespace datacloud
