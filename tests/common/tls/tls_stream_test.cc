// TLS over a socket pair: what is sent arrives, whatever the sizes and however full the socket is.
#include "common/tls/tls_stream.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

struct Ends {
  Ends(std::shared_ptr<const TlsContext> a, std::shared_ptr<const TlsContext> b) {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    client = std::make_unique<TlsStream>(fds[0], std::move(a));
    server = std::make_unique<TlsStream>(fds[1], std::move(b));
  }
  bool shake() {
    for (int i = 0; i < 20; ++i) {
      const auto a = client->handshake(), b = server->handshake();
      if (!a || !b) return false;
      if (a.value() && b.value()) return true;
    }
    return false;
  }
  std::unique_ptr<TlsStream> client, server;
};

void send_all(ByteStream& stream, ByteView bytes, std::mt19937 random) {
  while (!bytes.empty()) {
    // Offered in parts of many sizes, as a queue of frames is.
    iovec parts[5];
    size_t count = 0, offset = 0;
    while (count < 5 && offset < bytes.size()) {
      const size_t size =
          std::min<size_t>(bytes.size() - offset, 1 + random() % (random() % 2 ? 100 : 40'000));
      parts[count++] = {const_cast<uint8_t*>(bytes.data()) + offset, size};
      offset += size;
    }
    // What was refused is offered again as it was.
    for (;;) {
      const auto sent = stream.send({parts, count});
      ASSERT_NE(sent.state, ByteStream::State::broken);
      bytes = bytes.subspan(sent.bytes);
      if (sent.state == ByteStream::State::done) break;
      pollfd waiting{stream.fd(), POLLOUT, 0};
      ::poll(&waiting, 1, 1000);
    }
  }
  while (stream.flush() == ByteStream::State::blocked) {
    pollfd waiting{stream.fd(), POLLOUT, 0};
    ::poll(&waiting, 1, 1000);
  }
}

Bytes receive_all(ByteStream& stream, size_t size, std::mt19937 random) {
  Bytes all;
  while (all.size() < size) {
    Bytes space(1 + random() % 50'000);
    const auto got = stream.receive(space);
    if (got.state == ByteStream::State::broken) break;
    all.insert(all.end(), space.begin(), space.begin() + static_cast<ptrdiff_t>(got.bytes));
    pollfd waiting{stream.fd(), POLLIN, 0};
    if (got.state == ByteStream::State::blocked) ::poll(&waiting, 1, 1000);
  }
  return all;
}

TEST(TlsStream, BothSidesLearnWhoTheOtherIs) {
  const TestCloud cloud;
  Ends ends(cloud.node("gpu07"), cloud.daemon());
  ASSERT_TRUE(ends.shake());
  EXPECT_EQ(ends.server->peer(wall_now_ns()).identity.name, "gpu07");
  const auto daemon = ends.client->peer(wall_now_ns());
  EXPECT_EQ(daemon.verdict, PeerCertificate::Verdict::good);
  EXPECT_TRUE(daemon.identity.roles.has(NodeRole::daemon));
  EXPECT_EQ(ends.client->authority_shown(), cloud.authority.certificate());
}

TEST(TlsStream, EverythingArrivesBothWaysAtOnce) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TestCloud cloud;
  Ends ends(cloud.node("gpu07"), cloud.daemon());
  ASSERT_TRUE(ends.shake());
  Bytes there(3u << 20), back(2u << 20);
  for (auto* bytes : {&there, &back})
    for (auto& b : *bytes) b = static_cast<uint8_t>(random());
  std::thread threads[] = {std::thread([&] { send_all(*ends.client, there, random); }),
                           std::thread([&] { send_all(*ends.server, back, random); })};
  Bytes arrived_back;
  std::thread reader([&] { arrived_back = receive_all(*ends.client, back.size(), random); });
  const Bytes arrived_there = receive_all(*ends.server, there.size(), random);
  reader.join();
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(arrived_there == there);
  EXPECT_TRUE(arrived_back == back);
  ends.client->finish_sending();
  Bytes space(10);
  EXPECT_EQ(ends.server->receive(space).state, ByteStream::State::broken);
}

// What the socket has no room for is held, bounded, and goes out with flush().
TEST(TlsStream, WhatIsHeldIsFlushed) {
  const TestCloud cloud;
  Ends ends(cloud.node("gpu07"), cloud.daemon());
  ASSERT_TRUE(ends.shake());
  const Bytes data(8u << 20, 7);
  size_t taken = 0;
  for (;;) {
    const iovec part{const_cast<uint8_t*>(data.data()) + taken, data.size() - taken};
    const auto sent = ends.client->send({&part, 1});
    ASSERT_NE(sent.state, ByteStream::State::broken);
    taken += sent.bytes;
    if (sent.state == ByteStream::State::blocked) break;
  }
  EXPECT_EQ(ends.client->flush(), ByteStream::State::blocked);
  size_t arrived = 0;
  Bytes space(1u << 20);
  while (arrived < taken) {
    const auto got = ends.server->receive(space);
    ASSERT_NE(got.state, ByteStream::State::broken);
    arrived += got.bytes;
    if (got.state == ByteStream::State::blocked) {
      ASSERT_NE(ends.client->flush(), ByteStream::State::broken);
    }
  }
  EXPECT_EQ(arrived, taken);
  EXPECT_EQ(ends.client->flush(), ByteStream::State::done);
}

TEST(TlsStream, WhoIsRefusedBeforeTheHandshakeIsToldWhy) {
  const TestCloud cloud;
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  TlsStream client(fds[0], cloud.node("gpu07"));
  ASSERT_TRUE(client.handshake());
  refuse_handshake(fds[1]);
  ::close(fds[1]);
  const auto refused = client.handshake();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("too many handshakes"), std::string::npos)
      << refused.error().text();
}

TEST(TlsStream, AServerKnowsWhetherItWasGreeted) {
  const TestCloud cloud;
  Ends ends(cloud.node("gpu07"), cloud.daemon());
  ASSERT_TRUE(ends.server->handshake());
  EXPECT_FALSE(ends.server->greeted());
  ASSERT_TRUE(ends.client->handshake());
  ASSERT_TRUE(ends.server->handshake());
  EXPECT_TRUE(ends.server->greeted());
}

TEST(TlsStream, KeysThatDoNotFitAreRefused) {
  const TestCloud cloud;
  auto credentials = cloud.credentials("gpu07", NodeRole::mount);
  credentials.key = NodeKey::generate();
  const auto made = TlsContext::make(TlsContext::Side::client, credentials);
  ASSERT_FALSE(made);
  EXPECT_TRUE(made.error().is(Errc::invalid));
}

TEST(TlsStream, AnEndDuringTheHandshakeIsToldAndGarbageToo) {
  const TestCloud cloud;
  {
    Ends ends(cloud.node("gpu07"), cloud.daemon());
    ends.client.reset();
    EXPECT_FALSE(ends.server->handshake());
  }
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  TlsStream server(fds[1], cloud.daemon());
  const std::string garbage = "GET / HTTP/1.1\r\n\r\n";
  ASSERT_GT(::send(fds[0], garbage.data(), garbage.size(), 0), 0);
  const auto refused = server.handshake();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("TLS handshake failed"), std::string::npos);
  ::close(fds[0]);
}

}  // namespace
}  // namespace datacloud
