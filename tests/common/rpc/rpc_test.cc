// The RPC against a real socket, a Unix one and one with TLS: order, resending, sessions, pushes,
// and peers that misbehave.
#include "common/rpc/rpc_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "common/rpc/protocol_range.h"
#include "common/rpc/rpc_dial.h"
#include "common/rpc/rpc_frame.h"
#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Answers every request with its getxattr name; remembers what it saw.
class EchoService final : public RpcService {
 public:
  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    std::lock_guard lock(mutex_);
    pb::Reply reply;
    reply.set_id(request.id());
    if (request.has_hello()) {
      hellos_.push_back(request.hello());
      const uint64_t wanted = request.hello().session().id();
      auto* hello = reply.mutable_hello();
      hello->set_resumed(wanted != 0 && know_sessions);
      hello->set_session(hello->resumed() ? wanted : next_session++);
      hello->set_lease_ms(20'000);
      hello->set_protocol(protocol);
      if (turn_away) set_error(reply, Error::posix(EACCES, "node gpu07 was revoked"));
      connection->session = hello->session();
      last_ = connection;
    } else {
      seen_.push_back(request.id());
      acknowledged_ = request.acknowledged();
      if (mute) return;
      if (request.has_getxattr()) reply.mutable_xattr()->set_value(request.getxattr().name());
      if (request.has_keepalive()) reply.mutable_keepalive()->set_lease_ms(60'000);
      if (request.has_unlink()) set_error(reply, Error::posix(ENOENT, "no name \xff\xfe"));
      if (request.has_statfs()) set_error(reply, Error(Errc::revoked, "id 7 is revoked"));
      if (request.has_readdir()) {  // a large answer
        reply.mutable_xattr()->set_value(std::string(request.readdir().count_max(), 'x'));
      }
      for (uint64_t i = 0; request.has_sync() && i < pushes_per_sync; i++) {
        pb::Push push;
        push.mutable_recall()->set_id(i);
        connection->push(push);
      }
    }
    connection->reply(reply);
  }
  void on_disconnect(std::shared_ptr<RpcConnection>) override { disconnects++; }

  std::vector<uint64_t> seen() {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  std::vector<pb::HelloRequest> hellos() {
    std::lock_guard lock(mutex_);
    return hellos_;
  }
  uint64_t acknowledged() {
    std::lock_guard lock(mutex_);
    return acknowledged_;
  }
  std::shared_ptr<RpcConnection> last() {
    std::lock_guard lock(mutex_);
    return last_;
  }

  std::atomic<bool> mute{false};
  std::atomic<bool> turn_away{false};
  std::atomic<uint32_t> protocol{0};
  std::atomic<bool> know_sessions{true};
  std::atomic<uint64_t> pushes_per_sync{0};
  std::atomic<int> disconnects{0};
  std::atomic<uint64_t> next_session{100};

 private:
  std::mutex mutex_;
  std::vector<uint64_t> seen_;
  std::vector<pb::HelloRequest> hellos_;
  uint64_t acknowledged_ = 0;
  std::shared_ptr<RpcConnection> last_;
};

// A server on its own thread, stopped on destruction.
class RunningServer {
 public:
  RunningServer(RpcService& service, const std::string& address, TlsServing tls = {})
      : server(make_rpc_server(service)) {
    if (tls.context) server->serve_tls(std::move(tls));
    auto listening = server->listen(address);
    EXPECT_TRUE(listening) << (listening ? "" : listening.error().message());
    thread_ = std::thread([this] { server->run(); });
  }
  ~RunningServer() {
    server->stop();
    thread_.join();
  }
  std::unique_ptr<RpcServer> server;

 private:
  std::thread thread_;
};

bool eventually(const std::function<bool()>& condition) {
  const auto end = monotonic_now() + seconds(10);
  while (!condition()) {
    if (monotonic_now() > end) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

pb::Request echo(const std::string& text) {
  pb::Request request;
  request.mutable_getxattr()->set_name(text);
  return request;
}

// A peer that speaks bytes, not RPC; blocking.
class RawPeer {
 public:
  explicit RawPeer(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}
  // False when the connection is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      const auto sent = stream_->send({&part, 1});
      if (sent.state == ByteStream::State::broken) return false;
      bytes.remove_prefix(sent.bytes);
      if (sent.state == ByteStream::State::blocked && !wait(POLLOUT)) return false;
    }
    return true;
  }
  // 0: the connection is gone.
  size_t receive(MutableByteView space) {
    for (;;) {
      const auto got = stream_->receive(space);
      if (got.state != ByteStream::State::blocked) return got.bytes;
      if (!wait(POLLIN)) return 0;
    }
  }

 private:
  bool wait(short events) {
    pollfd waiting{stream_->fd(), events, 0};
    return ::poll(&waiting, 1, 10'000) > 0;
  }
  std::unique_ptr<ByteStream> stream_;
};

enum class Transport { unix_socket, tls };

class RpcRig {
 protected:
  explicit RpcRig(Transport transport) {
    char pattern[] = "/tmp/datacloud-rpc-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    path_ = directory_ + "/socket";
    tls_ = transport == Transport::tls;
    address_ = tls_ ? "tls://127.0.0.1:" + std::to_string(free_port()) : "unix:" + path_;
    start();
  }
  ~RpcRig() {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  void start() {
    TlsServing tls;
    tls.context = [this] { return daemon_; };
    tls.admit = [](const PeerCertificate& shown, PeerCredentials& peer, Refusal&) -> result<void> {
      peer.node = shown.identity.name;
      if (shown.verdict == PeerCertificate::Verdict::good) return success();
      return failure(Error::posix(EACCES, shown.problem));
    };
    tls.refusals = std::make_shared<PeerRefusals>();
    server_ = std::make_unique<RunningServer>(service_, address_, std::move(tls));
  }
  void reach(RpcClient::Options& options) {
    options.addresses = {address_};
    options.tls = [this]() -> result<std::shared_ptr<const TlsContext>> { return node_; };
  }

  std::unique_ptr<RpcClient> client(RpcClient::Options options = mount_options()) {
    reach(options);
    auto connected = connect_rpc(std::move(options), nullptr);
    EXPECT_TRUE(connected) << (connected ? "" : connected.error().message());
    return connected ? std::move(connected).value() : nullptr;
  }
  static RpcClient::Options mount_options() {
    RpcClient::Options options;
    options.kind = pb::CLIENT_MOUNT;
    options.deadline = seconds(10);
    return options;
  }
  RawPeer raw_connection() {
    if (tls_) {
      auto stream = Dial({address_}, node_).wait();
      EXPECT_TRUE(stream) << (stream ? "" : stream.error().message());
      return RawPeer(std::move(stream).value());
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address;
    fill_unix_address(path_, address);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return RawPeer(make_socket_stream(fd));
  }

  bool tls_ = false;
  TestCloud cloud_;
  std::shared_ptr<const TlsContext> daemon_ = cloud_.daemon(), node_ = cloud_.node("gpu07");
  std::string directory_, path_, address_;
  EchoService service_;
  std::unique_ptr<RunningServer> server_;
};

class RpcTest : public RpcRig, public ::testing::TestWithParam<Transport> {
 protected:
  RpcTest() : RpcRig(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Over, RpcTest, testing::Values(Transport::unix_socket, Transport::tls),
                         [](const auto& info) {
                           return std::string(info.param == Transport::tls ? "Tls" : "UnixSocket");
                         });

class RpcUnixTest : public RpcRig, public ::testing::Test {
 protected:
  RpcUnixTest() : RpcRig(Transport::unix_socket) {}
};

std::string value_of(const result<pb::Reply>& reply) {
  return reply ? reply.value().xattr().value() : reply.error().message();
}

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
  EXPECT_THAT(refused.error().text(), HasSubstr("protocol 3, this program (Data Cloud "));
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
  EXPECT_THAT(mount->call({}).error().text(), testing::Not(HasSubstr("running?")));
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

TEST_P(RpcTest, RestartResendsExactlyTheUnrepliedInOrder) {
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

TEST_P(RpcTest, LostSessionFailsWhatMayHaveBeenExecuted) {
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

TEST_P(RpcTest, ToolsFailInsteadOfResuming) {
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

TEST_P(RpcTest, DeadlineAnswersUnavailable) {
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
TEST_P(RpcTest, LateOutcomesAreTold) {
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

TEST_F(RpcUnixTest, SocketFiles) {
  EchoService other;
  auto second = make_rpc_server(other);
  auto live = second->listen(address_);
  ASSERT_FALSE(live);
  EXPECT_THAT(live.error().text(), HasSubstr("another daemon"));
  EXPECT_EQ(value_of(client()->call(echo("still here"))), "still here");
  const std::string stale = directory_ + "/stale";
  {  // bound, then abandoned without unlink, as by kill -9
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address;
    fill_unix_address(stale, address);
    ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ::close(fd);
  }
  EXPECT_TRUE(second->listen("unix:" + stale));
  const std::string file = directory_ + "/file";
  std::ofstream(file) << "precious";
  EXPECT_FALSE(second->listen("unix:" + file));
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_TRUE(second->listen("unix:" + directory_ + "/new/folder/socket"));
  second.reset();
  EXPECT_FALSE(std::filesystem::exists(stale));
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

TEST_F(RpcUnixTest, PeerCredentials) {
  auto c = client();
  EXPECT_EQ(service_.last()->peer().pid, ::getpid());
  EXPECT_EQ(service_.last()->peer().uid, ::getuid());
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  std::filesystem::permissions(directory_, std::filesystem::perms::all);
  const pid_t child = ::fork();
  if (child == 0) {  // another user: raw system calls only
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address;
    fill_unix_address(path_, address);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) ::_exit(3);
    FrameReader reader;
    for (;;) {
      auto space = reader.space();
      const ssize_t got = ::recv(fd, space.data(), space.size(), 0);
      pb::Frame frame;
      if (got <= 0) ::_exit(4);
      reader.filled(static_cast<size_t>(got));
      auto more = reader.next(frame);
      if (!more) ::_exit(5);
      if (more.value()) ::_exit(frame.reply().error() == EACCES ? 0 : 6);
    }
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(service_.hellos().size(), 1u);
}

TEST_P(RpcTest, SlowReaderIsCutOff) {
  RawPeer peer = raw_connection();
  pb::Frame frame;
  frame.mutable_request()->set_id(1);
  frame.mutable_request()->mutable_readdir()->set_count_max(4u << 20);
  const auto encoded = encode_frame(frame).value();
  for (int i = 0; i < 40; i++) {  // asks for 160 MiB and reads nothing
    if (!peer.send(*encoded)) break;
  }
  EXPECT_TRUE(eventually([&] { return service_.disconnects == 1; }));
  EXPECT_EQ(value_of(client()->call(echo("others"))), "others");
}

TEST_P(RpcTest, TooManyUnansweredRequests) {
  service_.mute = true;
  RawPeer peer = raw_connection();
  std::string batch;
  for (size_t i = 1; i <= kRequestsInFlightMax + 1; i++) {
    pb::Frame frame;
    *frame.mutable_request() = echo("x");
    frame.mutable_request()->set_id(i);
    batch += *encode_frame(frame).value();
  }
  ASSERT_TRUE(peer.send(batch));
  FrameReader reader;
  pb::Frame frame;
  for (bool done = false; !done;) {
    const size_t got = peer.receive(reader.space());
    ASSERT_GT(got, 0u);
    reader.filled(got);
    done = reader.next(frame).value();
  }
  EXPECT_EQ(frame.reply().id(), kRequestsInFlightMax + 1);
  EXPECT_EQ(frame.reply().error(), -static_cast<int>(Errc::unavailable));
  EXPECT_EQ(service_.seen().size(), kRequestsInFlightMax);
}

// Mutated, truncated and invented frames close their own connection at most.
TEST_P(RpcTest, HostileBytes) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  auto good = client();
  pb::Frame sample;
  sample.mutable_request()->set_id(9);
  sample.mutable_request()->mutable_commit()->add_updates()->add_runs()->set_count(3);
  const std::string valid = *encode_frame(sample).value();
  for (int round = 0; round < 300; round++) {
    std::string bytes = valid + valid;
    switch (random() % 5) {
      case 0:  // flipped bytes anywhere
        for (int i = 0; i < 4; i++) bytes[random() % bytes.size()] ^= 1 << random() % 8;
        break;
      case 1:  // truncated
        bytes.resize(random() % bytes.size());
        break;
      case 2:  // noise
        for (auto& b : bytes) b = static_cast<char>(random());
        break;
      case 3:  // a huge length
        bytes[6] = bytes[7] = static_cast<char>(0xff);
        break;
      default:  // valid header, noise inside
        for (size_t i = kFrameHeaderBytes; i < bytes.size(); i++) bytes[i] ^= random() % 4 == 0;
    }
    (void)raw_connection().send(bytes);
    if (round % 50 == 0) {
      ASSERT_EQ(value_of(good->call(echo("fine"))), "fine");
    }
  }
  EXPECT_TRUE(eventually([&] { return service_.disconnects == 300; }));
  EXPECT_EQ(value_of(good->call(echo("fine"))), "fine");
}

TEST(RpcFrame, ReaderTakesFramesInPieces) {
  std::string stream;
  for (int i = 0; i < 50; i++) {
    pb::Frame frame;
    *frame.mutable_request() = echo(std::string(static_cast<size_t>(i) * 997, 'f'));
    frame.mutable_request()->set_id(static_cast<uint64_t>(i));
    stream += *encode_frame(frame).value();
  }
  FrameReader reader;
  uint64_t next = 0;
  for (size_t at = 0; at < stream.size();) {
    auto space = reader.space();
    const size_t step = std::min({space.size(), stream.size() - at, size_t{1 + at % 700}});
    std::copy_n(stream.begin() + static_cast<ptrdiff_t>(at), step, space.begin());
    reader.filled(step);
    at += step;
    pb::Frame frame;
    while (reader.next(frame).value()) ASSERT_EQ(frame.request().id(), next++);
  }
  EXPECT_EQ(next, 50u);
}

TEST(RpcFrame, ErrorsSurviveTheWire) {
  for (const Error& error : {Error::posix(ENOTEMPTY, "a"), Error(Errc::session_lost, "b")}) {
    pb::Reply reply;
    set_error(reply, error);
    auto back = reply_error(reply);
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code(), error.code());
    EXPECT_EQ(back.error().text(), error.text());
  }
  pb::Reply invented;
  invented.set_error(-99);
  EXPECT_TRUE(reply_error(invented).error().is(Errc::io));
  invented.set_error(std::numeric_limits<int>::min());
  EXPECT_TRUE(reply_error(invented).error().is(Errc::io));
  EXPECT_TRUE(reply_error(pb::Reply()));
}

}  // namespace
}  // namespace datacloud
