// The server against peers that misbehave, and those that are many: sockets, limits, turns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <fstream>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "common/rpc/rpc_frame.h"
#include "tests/common/rpc/rpc_rig.h"

namespace datacloud {
namespace {

using ::testing::HasSubstr;

class RpcServerTest : public RpcOverBoth {};
INSTANTIATE_TEST_SUITE_P(Over, RpcServerTest,
                         testing::Values(Transport::unix_socket, Transport::tls), transport_name);

class RpcSocketTest : public RpcOverUnix {};

TEST_F(RpcSocketTest, SocketFiles) {
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

TEST_F(RpcSocketTest, PeerCredentials) {
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

TEST_P(RpcServerTest, SlowReaderIsCutOff) {
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

TEST_P(RpcServerTest, TooManyUnansweredRequests) {
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
  EXPECT_TRUE(eventually([&] { return service_.seen().size() == kRequestsInFlightMax; }));
}

// Mutated, truncated and invented frames close their own connection at most.
TEST_P(RpcServerTest, HostileBytes) {
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

// More requests at once than may wait: the connection is not read from meanwhile, and nothing is
// lost, doubled or out of order.
TEST_P(RpcServerTest, ManyRequestsAtOnceAreAllAnsweredInOrder) {
  RawPeer peer = raw_connection();
  constexpr uint64_t kCount = 3000;
  std::string batch;
  for (uint64_t i = 1; i <= kCount; i++) {
    pb::Frame frame;
    *frame.mutable_request() = echo(std::string(i % 100 == 0 ? 100'000 : 10, 'x'));
    frame.mutable_request()->set_id(i);
    batch += *encode_frame(frame).value();
  }
  std::thread sender([&] { EXPECT_TRUE(peer.send(batch)); });
  FrameReader reader;
  pb::Frame frame;
  uint64_t answered = 0;
  while (answered < kCount) {
    const size_t got = peer.receive(reader.space());
    if (got == 0) break;
    reader.filled(got);
    while (reader.next(frame).value()) {
      ASSERT_EQ(frame.reply().id(), ++answered);
    }
  }
  sender.join();
  EXPECT_EQ(answered, kCount);
  const auto stats = server_->server->stats();
  EXPECT_EQ(stats.requests_served, kCount);
  EXPECT_EQ(stats.requests_waiting, 0u);
  EXPECT_EQ(stats.connections_paused, 0u);
}

// What other threads than the connection's send at once, and what they leave to it (large frames,
// those that find others in front, a peer that reads slowly): all comes, in order.
TEST_P(RpcServerTest, FramesOfOtherThreadsKeepTheirOrder) {
  RawPeer peer = raw_connection();
  pb::Frame hello;
  hello.mutable_request()->set_id(1);
  hello.mutable_request()->mutable_hello();
  ASSERT_TRUE(peer.send(*encode_frame(hello).value()));
  ASSERT_TRUE(eventually([&] { return service_.last() != nullptr; }));
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  constexpr uint64_t kCount = 4000;
  std::thread sender([&, connection = service_.last()] {
    std::mt19937 random(seed);
    for (uint64_t id = 2; id <= kCount; ++id) {
      pb::Reply reply;
      reply.set_id(id);
      const auto kind = random() % 16;
      if (kind == 0) reply.mutable_xattr()->set_value(std::string(20'000, 'x'));
      if (kind == 1) {
        connection->reply_with([reply] { return reply; });
      } else {
        connection->reply(reply);
      }
      if (kind == 2) std::this_thread::yield();
    }
  });
  FrameReader reader;
  pb::Frame frame;
  uint64_t answered = 0;
  while (answered < kCount) {
    const size_t got = peer.receive(reader.space());
    if (got == 0) break;
    reader.filled(got);
    while (reader.next(frame).value()) {
      EXPECT_EQ(frame.reply().id(), ++answered);
    }
  }
  sender.join();
  EXPECT_EQ(answered, kCount);
}

// A frame that another thread sends while the connection closes goes nowhere, and harms nobody.
TEST_P(RpcServerTest, OtherThreadsSendWhileTheConnectionCloses) {
  pb::Frame hello;
  hello.mutable_request()->set_id(1);
  hello.mutable_request()->mutable_hello();
  for (int round = 0; round < 20; ++round) {
    const size_t before = service_.hellos().size();
    auto peer = std::make_unique<RawPeer>(raw_connection());
    ASSERT_TRUE(peer->send(*encode_frame(hello).value()));
    ASSERT_TRUE(eventually([&] { return service_.hellos().size() > before; }));
    std::atomic<bool> stop{false};
    std::thread sender([&, connection = service_.last()] {
      for (uint64_t id = 2; !stop; ++id) {
        pb::Reply reply;
        reply.set_id(id);
        connection->reply(reply);
        if (id == 50) connection->close();
      }
    });
    Bytes space(4096);
    while (peer->receive(space) > 0) {
    }
    peer.reset();
    EXPECT_TRUE(eventually([&] { return service_.disconnects == round + 1; }));
    stop = true;
    sender.join();
  }
  EXPECT_EQ(value_of(client()->call(echo("fine"))), "fine");
}

// What other threads have the service do, at once or later, is done one at a time beside requests
// and in the order of each thread; nothing is done after the end of run().
TEST_P(RpcServerTest, OtherThreadsServeOneAtATime) {
  constexpr int kThreads = 3, kEach = 2000;
  std::vector<int> done(kThreads, 0);
  std::atomic<int> all{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const auto step = [&, t, i] {
          const EchoService::OneAtATime alone(service_);
          EXPECT_EQ(done[t], i);
          ++done[t];
          ++all;
        };
        i % 3 == 0 ? server_->server->post(step) : server_->server->run_or_post(step);
      }
    });
  }
  auto asking = client();
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(value_of(asking->call(echo("fine"))), "fine");
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(eventually([&] { return all == kThreads * kEach; }));
  auto idle = make_rpc_server(service_);
  bool ran = false;
  idle->run_or_post([&] { ran = true; });
  EXPECT_FALSE(ran);
}

// Replies that are made later keep their place among the others, and pushes theirs.
TEST_P(RpcServerTest, RepliesMadeLaterKeepTheirPlace) {
  service_.pushes_per_sync = 1;
  RawPeer peer = raw_connection();
  std::string batch;
  for (uint64_t id = 1; id <= 600; ++id) {
    pb::Frame frame;
    auto& request = *frame.mutable_request();
    if (id % 3 == 0) {
      (void)request.mutable_listxattr();
    } else if (id % 3 == 1) {
      (void)request.mutable_sync();
    } else {
      request = echo("x");
    }
    request.set_id(id);
    batch += *encode_frame(frame).value();
  }
  std::thread sender([&] { EXPECT_TRUE(peer.send(batch)); });
  FrameReader reader;
  uint64_t answered = 0, made = 0;
  for (bool pushed = false; answered < 600;) {
    const size_t got = peer.receive(reader.space());
    if (got == 0) break;
    reader.filled(got);
    for (pb::Frame frame; reader.next(frame).value();) {
      if (frame.has_push()) {
        EXPECT_EQ(answered % 3, 0u) << "before the reply to its sync";
        pushed = true;
        continue;
      }
      ASSERT_EQ(frame.reply().id(), ++answered);
      EXPECT_EQ(answered % 3 == 1, std::exchange(pushed, false));
      made += frame.reply().xattr().names_size();
    }
  }
  sender.join();
  EXPECT_EQ(answered, 600u);
  EXPECT_EQ(made, 200u);
}

// Half a request is not waited for forever; who says nothing at all may stay.
TEST_P(RpcServerTest, TheRestOfARequestIsNotWaitedForForever) {
  RpcServerOptions options;
  options.stall_max = milliseconds(200);
  restart(options);
  RawPeer slow = raw_connection();
  auto idle = client();
  pb::Frame frame;
  *frame.mutable_request() = echo(std::string(1000, 'x'));
  const auto whole = *encode_frame(frame).value();
  ASSERT_TRUE(slow.send(whole + whole.substr(0, 500)));
  const auto began = monotonic_now();
  Bytes space(4096);
  while (slow.receive(space) > 0) {
  }
  EXPECT_LT(monotonic_now() - began, seconds(8));
  EXPECT_EQ(refusals_->of(Refusal::slow), 1u);
  EXPECT_EQ(value_of(idle->call(echo("still here"))), "still here");
  EXPECT_EQ(service_.hellos().size(), 1u);
}

class RpcFairnessTest : public RpcRig, public ::testing::Test {
 protected:
  RpcFairnessTest() : RpcRig(Transport::tls) {}
};

// A node that has hundreds of expensive requests waiting does not hold up another's.
TEST_F(RpcFairnessTest, OneNodeDoesNotHoldUpAnother) {
  service_.pause = milliseconds(2);
  auto busy = client();
  node_ = cloud_.node("gpu08");
  auto other = client();
  std::atomic<int> left{200};
  for (int i = 0; i < 200; ++i) busy->call(echo("slow"), [&](const auto&) { --left; });
  for (int i = 0; i < 5; ++i) ASSERT_EQ(value_of(other->call(echo("quick"))), "quick");
  EXPECT_GT(left, 100) << "five requests of one node waited for more than a hundred of another";
  EXPECT_TRUE(eventually([&] { return left == 0; }));
}

}  // namespace
}  // namespace datacloud
