// Requests that are kept until they are durable, and sent again: after restarts, in new sessions,
// with daemons of another protocol.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "common/rpc/kept_requests.h"
#include "common/rpc/rpc_session.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A daemon that makes every change at once, and says what is durable when it is told to.
class Daemon final : public RpcService {
 public:
  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    std::lock_guard lock(mutex_);
    connection_ = connection;
    pb::Reply reply;
    reply.set_id(request.id());
    if (request.has_hello()) {
      hellos_.push_back(request.hello());
      if (request.hello().protocol() > newest) {
        set_error(reply, Error(Errc::unsupported, "the daemon speaks protocol 2"));
        return connection->reply(reply);
      }
      auto* hello = reply.mutable_hello();
      const uint64_t wanted = request.hello().session().id();
      hello->set_session(session);
      hello->set_resumed(wanted != 0 && knows);
      hello->set_start(start);
      hello->set_lease_ms(60'000);
      hello->set_protocol(newest >= kProtocolRejoin ? request.hello().protocol() : 0);
      connection->session = session;
      return connection->reply(reply);
    }
    seen_.push_back(request.id());
    acknowledged_ = request.acknowledged();
    if (mute) return;
    const bool asks = request.has_sync() || request.has_getxattr();
    reply.set_sequence(asks ? sequence_ : ++sequence_);
    if (request.has_sync() && sync_commits) committed = sequence_;
    reply.set_committed(committed);
    if (request.has_create()) {
      reply.mutable_attr()->mutable_inode()->set_ino(existing != 0 ? existing.load()
                                                                   : request.create().ino());
    }
    if (request.has_unlink()) set_error(reply, Error::posix(ENOENT, "no such name"));
    connection->reply(reply);
  }
  void on_disconnect(std::shared_ptr<RpcConnection>) override {}

  void push_committed(uint64_t up_to) {
    std::lock_guard lock(mutex_);
    committed = up_to;
    pb::Push push;
    push.set_committed(up_to);
    connection_->push(push);
  }
  void cut() {
    std::lock_guard lock(mutex_);
    connection_->close();
  }
  std::vector<uint64_t> take_seen() {
    std::lock_guard lock(mutex_);
    return std::exchange(seen_, {});
  }
  size_t seen() {
    std::lock_guard lock(mutex_);
    return seen_.size();
  }
  uint64_t acknowledged() {
    std::lock_guard lock(mutex_);
    return acknowledged_;
  }
  std::vector<pb::HelloRequest> hellos() {
    std::lock_guard lock(mutex_);
    return hellos_;
  }

  std::atomic<uint32_t> newest{kProtocolNewest};
  std::atomic<uint64_t> session{100}, start{1}, committed{0}, existing{0};
  std::atomic<bool> knows{true}, mute{false}, sync_commits{true};

 private:
  std::mutex mutex_;
  std::shared_ptr<RpcConnection> connection_;
  std::vector<uint64_t> seen_;
  std::vector<pb::HelloRequest> hellos_;
  uint64_t sequence_ = 0, acknowledged_ = 0;
};

bool eventually(const std::function<bool()>& condition) {
  const auto end = monotonic_now() + seconds(10);
  while (!condition()) {
    if (monotonic_now() > end) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

class RpcKeepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    address_ = "unix:" + (directory_.path() / "socket").string();
    start_server();
  }
  void TearDown() override {
    client_.reset();
    stop_server();
  }
  void start_server() {
    server_ = make_rpc_server(daemon_);
    ASSERT_TRUE(server_->listen(address_));
    thread_ = std::thread([this] { server_->run(); });
  }
  void stop_server() {
    if (!server_) return;
    server_->stop();
    thread_.join();
    server_.reset();
  }
  // What the daemon knew is not lost with this fake, but it counts another start.
  void restart() {
    stop_server();
    ++daemon_.start;
    start_server();
  }
  void connect(size_t bytes_max = 32u << 20) {
    RpcClient::Options options;
    options.kind = pb::CLIENT_MOUNT;
    options.deadline = seconds(10);
    options.addresses = {address_};
    options.session.set_secret(std::string(32, 's'));
    Keeping keeping;
    keeping.bytes_max = bytes_max;
    keeping.on_redone = [this](const pb::Request& request, result<pb::Reply> reply) {
      std::lock_guard lock(mutex_);
      redone_.emplace_back(request.id(), reply ? 0 : reply.error().code().value());
    };
    auto connected = connect_session(std::move(options), nullptr, std::move(keeping));
    ASSERT_TRUE(connected) << connected.error().message();
    client_ = std::move(connected).value();
  }
  static pb::Request change(size_t bytes = 10) {
    pb::Request request;
    request.mutable_setxattr()->set_value(std::string(bytes, 'x'));
    return request;
  }
  static pb::Request create(InodeId ino, bool exclusive = true) {
    pb::Request request;
    request.mutable_create()->set_ino(ino);
    request.mutable_create()->set_exclusive(exclusive);
    return request;
  }
  static pb::Request ask() {
    pb::Request request;
    request.mutable_getxattr();
    return request;
  }
  std::vector<std::pair<uint64_t, int>> redone() {
    std::lock_guard lock(mutex_);
    return redone_;
  }

  TemporaryDirectory directory_;
  std::string address_;
  Daemon daemon_;
  std::unique_ptr<RpcServer> server_;
  std::thread thread_;
  std::unique_ptr<RpcSession> client_;
  std::mutex mutex_;
  std::vector<std::pair<uint64_t, int>> redone_;
};

TEST_F(RpcKeepTest, WhatIsNotDurableIsSentAgainAfterARestart) {
  connect();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client_->call(change()));  // ids 1 to 3
  daemon_.push_committed(1);
  ASSERT_TRUE(client_->call(ask()));  // 4
  pb::Request refused;
  refused.mutable_unlink();
  EXPECT_FALSE(client_->call(refused));    // 5: nothing was changed
  ASSERT_TRUE(client_->call(create(50)));  // 6
  daemon_.existing = 7;
  ASSERT_TRUE(client_->call(create(51, false)));  // 7 has opened a file
  daemon_.existing = 0;
  ASSERT_TRUE(client_->call(ask()));  // 8
  EXPECT_EQ(daemon_.acknowledged(), 1u) << "2 may be sent again";
  daemon_.mute = true;
  std::atomic<bool> answered{false};
  client_->call(change(), [&](const result<pb::Reply>& r) { answered = bool(r); });  // 9
  ASSERT_TRUE(eventually([&] { return daemon_.seen() == 9; }));
  daemon_.take_seen();
  stop_server();
  daemon_.mute = false;
  ++daemon_.start;
  start_server();
  ASSERT_TRUE(eventually([&] { return answered.load(); }));
  EXPECT_THAT(daemon_.take_seen(), ElementsAre(2, 3, 6, 10, 9)) << "10: that these were all";
  EXPECT_THAT(redone(), ElementsAre(std::pair(2, 0), std::pair(3, 0), std::pair(6, 0)));
  const auto hello = daemon_.hellos().back();
  EXPECT_EQ(hello.sequence(), 1u) << "what must not be lost, and no more";
  ASSERT_EQ(hello.inodes_size(), 1);
  EXPECT_EQ(hello.inodes(0).first(), 50u);
  // The sync has made them durable.
  restart();
  ASSERT_TRUE(client_->call(ask()));
  ASSERT_TRUE(eventually([&] { return redone().size() >= 3; }));
  EXPECT_EQ(redone().size(), 4u) << "9 was answered after the sync";
}

// Another mount's kept change may wait for the answer, and this one's for an answer of the other.
TEST_F(RpcKeepTest, RecallsAreAnsweredWhileChangesAreSentAgain) {
  connect();
  ASSERT_TRUE(client_->call(change()));  // 1
  stop_server();
  daemon_.take_seen();
  daemon_.mute = true;
  ++daemon_.start;
  start_server();
  ASSERT_TRUE(eventually([&] { return daemon_.seen() == 1; })) << "1 is sent again";
  std::atomic<int> answered{0};
  const auto count = [&](const result<pb::Reply>& r) { answered += bool(r); };
  client_->call(ask(), count);  // 2
  pb::Request done;
  done.mutable_recall_done()->set_id(77);
  client_->call(done, count);  // 3
  ASSERT_TRUE(eventually([&] { return daemon_.seen() == 2; }));
  EXPECT_THAT(daemon_.take_seen(), ElementsAre(1, 3)) << "and nothing that came behind it";
  stop_server();
  daemon_.mute = false;
  start_server();
  EXPECT_TRUE(eventually([&] { return answered == 2; }));
}

TEST_F(RpcKeepTest, AMereReconnectSendsNothingAgain) {
  connect();
  ASSERT_TRUE(client_->call(change()));
  daemon_.take_seen();
  daemon_.cut();
  ASSERT_TRUE(eventually([&] { return daemon_.hellos().size() == 2; }));
  ASSERT_TRUE(client_->call(ask()));
  EXPECT_THAT(daemon_.take_seen(), ElementsAre(2));
}

TEST_F(RpcKeepTest, WhatIsKeptIsBounded) {
  daemon_.sync_commits = false;
  connect(100'000);
  std::atomic<int> answers{0};
  for (int i = 0; i < 60; ++i)
    client_->call(change(40'000), [&](const result<pb::Reply>& reply) { answers += bool(reply); });
  ASSERT_TRUE(eventually([&] { return answers >= 3; }));
  ASSERT_TRUE(client_->call(ask())) << "what changes nothing does not wait";
  const int before = answers;
  EXPECT_EQ(before, 3) << "the others wait";
  daemon_.sync_commits = true;
  daemon_.push_committed(before);
  EXPECT_TRUE(eventually([&] { return answers == 60; })) << answers;
}

TEST_F(RpcKeepTest, InASessionThatInheritsRequestsGoOn) {
  connect();
  ASSERT_TRUE(client_->call(change()));
  daemon_.mute = true;
  std::atomic<int> made{0}, lost{0};
  const auto count = [&](const result<pb::Reply>& reply) {
    if (reply) ++made;
    if (!reply && reply.error().is(Errc::session_lost)) ++lost;
  };
  client_->call(create(50), count);
  pb::Request commit;
  commit.mutable_commit();
  client_->call(commit, count);  // names ids of the former session
  pb::Request release;
  release.mutable_release();
  client_->call(release, count);  // and this its leases
  pb::Request sync;
  sync.mutable_sync();
  client_->call(sync, count);
  ASSERT_TRUE(eventually([&] { return daemon_.seen() == 5; }));
  daemon_.take_seen();
  daemon_.session = 101;
  daemon_.mute = false;
  daemon_.cut();
  ASSERT_TRUE(eventually([&] { return made + lost == 4; }));
  EXPECT_EQ(made, 2);
  EXPECT_EQ(client_->session(), 101u);
  EXPECT_THAT(daemon_.take_seen(), ElementsAre(2, 5));
  EXPECT_THAT(redone(), IsEmpty()) << "the daemon has lost nothing";

  // Not known: what may have been executed fails, and what was kept is given up.
  daemon_.mute = true;
  client_->call(create(51), count);
  ASSERT_TRUE(eventually([&] { return daemon_.seen() == 1; }));
  daemon_.knows = false;
  daemon_.session = 102;
  daemon_.mute = false;
  daemon_.cut();
  ASSERT_TRUE(eventually([&] { return lost == 3; }));
  ASSERT_TRUE(client_->call(ask()));
  EXPECT_EQ(daemon_.hellos().back().sequence(), 2u) << "what the sync has made durable";
}

TEST_F(RpcKeepTest, DaemonsFromBeforeAreSpokenToAsBefore) {
  daemon_.newest = kProtocolOldest;
  connect();
  EXPECT_EQ(client_->protocol(), kProtocolOldest);
  ASSERT_EQ(daemon_.hellos().size(), 2u);
  EXPECT_EQ(daemon_.hellos()[0].protocol(), kProtocolNewest);
  EXPECT_EQ(daemon_.hellos()[0].protocol_min(), kProtocolOldest);
  EXPECT_EQ(daemon_.hellos()[1].protocol(), kProtocolOldest);
  ASSERT_TRUE(client_->call(change()));
  daemon_.take_seen();
  restart();
  ASSERT_TRUE(client_->call(ask()));
  EXPECT_THAT(daemon_.take_seen(), ElementsAre(2)) << "nothing is kept without end";
  EXPECT_EQ(daemon_.hellos().back().sequence(), 1u);
  // The daemon is upgraded.
  daemon_.newest = kProtocolNewest;
  restart();
  ASSERT_TRUE(client_->call(change()));
  EXPECT_EQ(client_->protocol(), kProtocolNewest);
}

TEST(KeptRequestsTest, TheWindowIsBoundedAndTheOrderKept) {
  KeptRequests kept;
  const auto frame = std::make_shared<const std::string>("frame");
  const size_t count = KeptRequests::kWindow + 10;
  for (uint64_t id = 1; id <= count; ++id) kept.keep(id, frame, 1000 - id, 0);
  kept.committed(1000 - count);  // the newest request has the oldest transaction
  EXPECT_EQ(kept.size(), count - 1);
  EXPECT_EQ(kept.first(), 1u);
  kept.send_all_again();
  kept.committed(2000);
  EXPECT_EQ(kept.size(), count - 1) << "numbers from before the restart mean nothing now";
  size_t sent = 0;
  while (kept.next() != nullptr) ++sent;
  EXPECT_EQ(sent, KeptRequests::kWindow);
  kept.answered(1, 7);
  EXPECT_NE(kept.next(), nullptr);
  EXPECT_EQ(kept.next(), nullptr);
  kept.connected();  // a new connection: what was not answered goes again
  sent = 0;
  for (uint64_t id = 2; id < count; ++id) {
    ASSERT_TRUE(kept.waits_for(id));
    sent += kept.next() != nullptr;
    kept.answered(id, id == 2 ? 0 : id + 10);
  }
  EXPECT_EQ(sent, count - 2);
  EXPECT_FALSE(kept.resending());
  EXPECT_EQ(kept.size(), count - 2) << "2 could not be made again";
  kept.committed(2000);
  EXPECT_EQ(kept.size(), 0u);
  EXPECT_EQ(kept.bytes(), 0u);
}

}  // namespace
}  // namespace datacloud
