// Peers that have no business at a daemon's TLS port: they are told why, counted, bounded, and not
// one byte of theirs is taken for a request. And what clients say of daemons that are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <future>
#include <thread>

#include "common/rpc/rpc_dial.h"
#include "common/rpc/rpc_exchange.h"
#include "common/rpc/rpc_session.h"
#include "common/rpc/tls_gate.h"
#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

using ::testing::HasSubstr;

class CountingService final : public RpcService {
 public:
  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    ++requests;
    pb::Reply reply;
    reply.set_id(request.id());
    if (request.has_hello()) {
      connection->session = 7;
      reply.mutable_hello()->set_session(7);
      reply.mutable_hello()->set_lease_ms(20'000);
    }
    connection->reply(reply);
  }
  void on_disconnect(std::shared_ptr<RpcConnection>) override {}
  std::atomic<int> requests{0};
};

class StrangersTest : public ::testing::Test {
 protected:
  StrangersTest() : StrangersTest(milliseconds(700)) {}
  explicit StrangersTest(Duration handshake_patience)
      : address_("tls://127.0.0.1:" + std::to_string(free_port())) {
    TlsServing tls;
    tls.context = [this] { return daemon_; };
    tls.admit = [](const PeerCertificate& shown, PeerCredentials& peer,
                   Refusal& reason) -> result<void> {
      using Verdict = PeerCertificate::Verdict;
      if (shown.verdict == Verdict::good) {
        peer.node = shown.identity.name;
        return success();
      }
      reason = shown.verdict == Verdict::none      ? Refusal::no_certificate
               : shown.verdict == Verdict::expired ? Refusal::expired
               : shown.verdict == Verdict::unfit   ? Refusal::wrong_role
                                                   : Refusal::foreign;
      return failure(Error::posix(EACCES, "the certificate " + shown.problem));
    };
    tls.refusals = refusals_;
    tls.handshake_patience = handshake_patience;
    server_ = make_rpc_server(service_);
    server_->serve_tls(std::move(tls));
    const auto listening = server_->listen(address_);
    EXPECT_TRUE(listening) << listening.error().message();
    thread_ = std::thread([this] { server_->run(); });
  }
  ~StrangersTest() override {
    server_->stop();
    thread_.join();
  }

  // From now on the daemon shows these.
  void show(const TlsCredentials& credentials) {
    std::promise<void> done;
    server_->post([&] {
      daemon_ = TlsContext::make(TlsContext::Side::server, credentials).value();
      done.set_value();
    });
    done.get_future().wait();
  }

  // What a client that shows these credentials is told.
  std::string told(const TlsCredentials& credentials) {
    const auto context = TlsContext::make(TlsContext::Side::client, credentials).value();
    RpcClient::Options options;
    options.addresses = {address_};
    options.tls = [&]() -> result<std::shared_ptr<const TlsContext>> { return context; };
    options.deadline = seconds(5);
    const auto client = connect_rpc(std::move(options), nullptr);
    return client ? "connected" : client.error().message();
  }
  int tcp() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(parse_tls_address(address_).value().port);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
  }
  // True once the other end has closed.
  static bool closed_within(int fd, int ms) {
    const auto until = monotonic_now() + milliseconds(ms);
    for (;;) {
      pollfd waiting{fd, POLLIN, 0};
      const auto left = std::chrono::ceil<milliseconds>(until - monotonic_now()).count();
      if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) <= 0) return false;
      char bytes[4096];
      if (::recv(fd, bytes, sizeof bytes, 0) <= 0) return true;
    }
  }
  bool counted(Refusal refusal, uint64_t times = 1) {
    for (int i = 0; i < 2000 && refusals_->of(refusal) < times; ++i)
      std::this_thread::sleep_for(milliseconds(1));
    return refusals_->of(refusal) >= times;
  }

  const TestCloud cloud_;
  const TestCloud other_{"00000000-0000-4000-8000-000000000002"};
  std::shared_ptr<const TlsContext> daemon_ = cloud_.daemon();
  const std::string address_;
  const std::shared_ptr<PeerRefusals> refusals_ = std::make_shared<PeerRefusals>();
  CountingService service_;
  std::unique_ptr<RpcServer> server_;
  std::thread thread_;
};

TEST_F(StrangersTest, CertificatesThatDoNotCountAreToldWhy) {
  EXPECT_EQ(told(cloud_.credentials("gpu07", NodeRole::mount)), "connected");
  const int before = service_.requests;
  EXPECT_THAT(told(cloud_.credentials("gpu07", NodeRole::mount, kTestDayNs, 3 * kTestDayNs)),
              HasSubstr("has expired"));
  EXPECT_THAT(told(cloud_.credentials("daemon", NodeRole::daemon)), HasSubstr("not one of a node"));
  auto foreign = other_.credentials("gpu07", NodeRole::mount);
  foreign.authority = cloud_.authority.certificate();  // it trusts this daemon, in vain
  EXPECT_THAT(told(foreign), HasSubstr("not signed by this cloud's authority"));
  EXPECT_TRUE(counted(Refusal::expired));
  EXPECT_TRUE(counted(Refusal::wrong_role));
  EXPECT_TRUE(counted(Refusal::foreign));
  EXPECT_EQ(service_.requests, before) << "hello was sent, and never read";
  EXPECT_EQ(told(cloud_.credentials("gpu07", NodeRole::mount)), "connected");
}

TEST_F(StrangersTest, ClientsTellWhatIsWrongWithADaemon) {
  auto credentials = other_.credentials("gpu07", NodeRole::mount);
  EXPECT_THAT(told(credentials), HasSubstr("another cloud's daemon, or somebody stands between"));
  // A node that plays the daemon.
  show(cloud_.credentials("gpu08", NodeRole::mount));
  EXPECT_THAT(told(cloud_.credentials("gpu07", NodeRole::mount)), HasSubstr("not one of a daemon"));
  show(cloud_.credentials("daemon", NodeRole::daemon, kTestDayNs, 3 * kTestDayNs));
  EXPECT_THAT(told(cloud_.credentials("gpu07", NodeRole::mount)), HasSubstr("has expired"));
  EXPECT_EQ(service_.requests, 0);
}

TEST_F(StrangersTest, WhoSaysNothingOrGarbageIsLetGo) {
  const int silent = tcp(), garbage = tcp(), half = tcp();
  const std::string text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  (void)!::send(garbage, text.data(), text.size(), MSG_NOSIGNAL);
  // The beginning of a ClientHello, and then nothing.
  const char hello[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00};
  (void)!::send(half, hello, sizeof hello, MSG_NOSIGNAL);
  EXPECT_TRUE(closed_within(garbage, 500)) << "at once";
  EXPECT_TRUE(closed_within(silent, 3000));
  EXPECT_TRUE(closed_within(half, 3000));
  EXPECT_TRUE(counted(Refusal::slow, 2));
  EXPECT_TRUE(counted(Refusal::handshake));
  for (const int fd : {silent, garbage, half}) ::close(fd);
  EXPECT_EQ(service_.requests, 0);
}

TEST_F(StrangersTest, ManyHandshakesOfOneAddressAreBounded) {
  std::vector<int> fds;
  for (size_t i = 0; i < kHandshakesOfOneAddressMax + 8; ++i) fds.push_back(tcp());
  EXPECT_TRUE(counted(Refusal::too_many, 8));
  EXPECT_EQ(refusals_->of(Refusal::too_many), 8u);
  for (const int fd : fds) ::close(fd);
  // Their places are free again.
  for (int i = 0; i < 500; ++i) {
    if (told(cloud_.credentials("gpu07", NodeRole::mount)) == "connected") break;
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(told(cloud_.credentials("gpu07", NodeRole::mount)), "connected");
}

class PatientStrangersTest : public StrangersTest {
 protected:
  PatientStrangersTest() : StrangersTest(seconds(60)) {}
};

TEST_F(PatientStrangersTest, SilentConnectionsShutOutNobodyBehindTheirAddress) {
  std::vector<int> fds;
  for (size_t i = 0; i < kHandshakesOfOneAddressMax; ++i) fds.push_back(tcp());
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(told(cloud_.credentials("gpu07", NodeRole::mount)), "connected");
  EXPECT_GE(server_->stats().handshakes_evicted, 1u);
  EXPECT_TRUE(counted(Refusal::too_many));
  EXPECT_EQ(refusals_->of(Refusal::slow), 0u);
  uint8_t alert[7] = {};
  EXPECT_EQ(::recv(fds.front(), alert, sizeof alert, MSG_WAITALL), 7) << "the oldest is told";
  EXPECT_EQ(alert[6], 90) << "user_canceled";
  EXPECT_FALSE(closed_within(fds.back(), 50)) << "the others stay";
  for (const int fd : fds) ::close(fd);
}

TEST_F(StrangersTest, ConnectionsOfOneNodeAreBounded) {
  const auto context = cloud_.node("gpu07");
  std::vector<std::unique_ptr<TlsStream>> streams;
  pb::Request hello;
  hello.mutable_hello();
  std::string refused;
  for (int i = 0; i < 66; ++i) {
    auto stream = Dial({address_}, context).wait();
    ASSERT_TRUE(stream) << stream.error().text();
    const auto reply = exchange(*stream.value(), hello, seconds(5));
    if (!reply) refused = reply.error().text();
    streams.push_back(std::move(stream).value());
  }
  EXPECT_THAT(refused, HasSubstr("64 connections already"));
  EXPECT_TRUE(counted(Refusal::too_many, 2));
  EXPECT_EQ(told(cloud_.credentials("gpu08", NodeRole::mount)), "connected") << "others may";
}

TEST_F(StrangersTest, AddressesAreTriedUntilOneAnswers) {
  RpcClient::Options options;
  // Nobody listens; no route answers (RFC 5737); the daemon.
  options.addresses = {"unix:/nonexistent/socket", "tls://127.0.0.1:" + std::to_string(free_port()),
                       "tls://192.0.2.1:7411", address_};
  const auto context = cloud_.node("gpu07");
  options.tls = [&]() -> result<std::shared_ptr<const TlsContext>> { return context; };
  const auto before = monotonic_now();
  const auto client = connect_rpc(options, nullptr);
  ASSERT_TRUE(client) << client.error().message();
  EXPECT_LT(monotonic_now() - before, seconds(3));
  options.addresses.pop_back();
  options.addresses.erase(options.addresses.begin() + 2);
  const auto none = connect_rpc(options, nullptr);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("Connection refused"));
  options.tls = nullptr;
  EXPECT_THAT(connect_rpc(options, nullptr).error().text(), HasSubstr("datacloud join"));
}

}  // namespace
}  // namespace datacloud
