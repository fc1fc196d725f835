// Who a site's server takes in, what it lets them do, and what it does about peers that misbehave.
#include "common/store/remote/site_server.h"

#include <gmock/gmock.h>
#include <poll.h>

#include "common/rpc/rpc_dial.h"
#include "common/store/remote/site_frame.h"
#include "tests/support/served_site.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class SiteServerTest : public testing::Test {
 protected:
  SiteServerTest() { site_.start(); }

  static result<std::shared_ptr<const TlsContext>> as_result(
      std::shared_ptr<const TlsContext> context) {
    return context;
  }
  // What a client with these options is told.
  static std::string told(RemoteStoreOptions options) {
    const auto store = make_remote_store(std::move(options));
    const auto done = check(*store);
    if (done) return "taken in";
    EXPECT_TRUE(done.error().is(Errc::away)) << done.error().message();
    return done.error().text();
  }
  // A connection of a peer that speaks as it likes.
  std::unique_ptr<TlsStream> connect(NodeRoles roles = NodeRole::mount,
                                     const std::string& node = "wild") {
    Dial dial({site_.address()}, site_.cloud.node(node, roles),
              [](const TlsStream&) -> result<void> { return success(); });
    auto stream = dial.wait();
    EXPECT_TRUE(stream) << stream.error().text();
    return std::move(stream).value();
  }
  static bool send_all(TlsStream& stream, ByteView bytes) {
    const auto until = monotonic_now() + seconds(5);
    while (!bytes.empty() && monotonic_now() < until) {
      const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
      const auto sent = stream.send({&part, 1});
      if (sent.state == ByteStream::State::broken) return false;
      bytes = bytes.subspan(sent.bytes);
      if (sent.state == ByteStream::State::blocked) std::this_thread::sleep_for(milliseconds(1));
    }
    while (stream.flush() == ByteStream::State::blocked && monotonic_now() < until)
      std::this_thread::sleep_for(milliseconds(1));
    return bytes.empty();
  }
  // Reads and throws away until the peer closes.
  static bool is_closed(TlsStream& stream, Duration patience = seconds(5)) {
    Bytes buffer(64 << 10);
    const auto until = monotonic_now() + patience;
    while (monotonic_now() < until) {
      const auto got = stream.receive(buffer);
      if (got.state == ByteStream::State::broken) return true;
      if (got.state == ByteStream::State::blocked) std::this_thread::sleep_for(milliseconds(2));
    }
    return false;
  }
  static Bytes frame_of(uint64_t id, pb::StoreRequest request) {
    pb::StoreFrame frame;
    frame.set_id(id);
    *frame.mutable_request() = std::move(request);
    return make_site_frame(std::move(frame), {}, nullptr).head;
  }
  Bytes hello() const {
    pb::StoreRequest request;
    request.mutable_hello()->set_marker(site_.marker().encode());
    return frame_of(1, request);
  }

  ServedSite site_;
};

TEST_F(SiteServerTest, TakesInNodesOfItsCloudOnly) {
  EXPECT_EQ(told(site_.options_for()), "taken in");
  const TestCloud other("00000000-0000-4000-8000-000000000002");
  auto options = site_.options_for();
  // The client would refuse the server first, so it is given the right authority.
  auto credentials = other.credentials("gpu07", NodeRole::mount);
  credentials.authority = site_.cloud.authority.certificate();
  options.context = [&] { return TlsContext::make(TlsContext::Side::client, credentials); };
  EXPECT_THAT(told(options), HasSubstr("not signed by this cloud's authority"));
  credentials = site_.cloud.credentials("gpu07", NodeRole::mount, kTestDayNs, 2 * kTestDayNs);
  EXPECT_THAT(told(options), HasSubstr("gpu07"));
  EXPECT_THAT(told(site_.options_for(NodeRole::site)), HasSubstr("its role is site"));
  EXPECT_GE(site_.server->refusals().of(Refusal::foreign), 1u);
  EXPECT_GE(site_.server->refusals().of(Refusal::expired), 1u);
  EXPECT_GE(site_.server->refusals().of(Refusal::wrong_role), 1u);
}

TEST_F(SiteServerTest, NodesUseTheRightSiteOfTheirCloudOnly) {
  auto options = site_.options_for();
  options.site = "quito";
  EXPECT_THAT(told(options), HasSubstr("site oslo is served there"));
  const TestCloud other("00000000-0000-4000-8000-000000000002");
  options = site_.options_for();
  options.context = [context = other.node("gpu07")] { return as_result(context); };
  EXPECT_THAT(told(options), HasSubstr("site of another cloud"));
  options = site_.options_for();
  options.expected.cloud_uuid = "another";
  EXPECT_THAT(told(options), HasSubstr("is asked for"));
  options = site_.options_for();
  options.expected.site_id = 7;  // the store finds another marker
  EXPECT_NE(told(options), "taken in");
  site_.stop();
  site_.server_roles = NodeRole::daemon;
  site_.start();
  EXPECT_THAT(told(site_.options_for()), HasSubstr("serves no site"));
}

TEST_F(SiteServerTest, AnAuditorReadsAndChangesNothing) {
  ASSERT_TRUE(put(*site_.open(), "one", {1}, {{"i", std::string(8, 1)}}));
  const auto auditor = site_.open(NodeRole::auditor);
  EXPECT_EQ(read_all(*auditor, "one").value(), Bytes{1});
  EXPECT_EQ(put(*auditor, "two", {2}).error().errno_value(), EROFS);
  EXPECT_EQ(remove(*auditor, "one").error().errno_value(), EROFS);
  const auto formatted = format_remote(site_.options_for(NodeRole::auditor), site_.marker());
  ASSERT_FALSE(formatted);
  EXPECT_EQ(formatted.error().errno_value(), EACCES);
}

TEST_F(SiteServerTest, AReadOnlyNodeChangesNothing) {
  const auto writer = site_.open();
  ASSERT_TRUE(put(*writer, "one", {1}, {{"i", std::string(8, 1)}}));
  const auto reader = site_.open(NodeRole::mount_ro);
  EXPECT_EQ(read_all(*reader, "one").value(), (Bytes{1}));
  EXPECT_EQ(put(*reader, "two", {2}).error().errno_value(), EROFS);
  EXPECT_EQ(remove(*reader, "one").error().errno_value(), EROFS);
  EXPECT_EQ(derive(*reader, "three", {"one", 1, 2, 3, {}, {}}).error().errno_value(), EROFS);
  EXPECT_EQ(list(*writer, "", 10).value().names, (std::vector<std::string>{"one"}));
}

TEST_F(SiteServerTest, TheDaemonFormatsAndNobodyElse) {
  ServedSite empty("quito", false);
  empty.start();
  NodeRoles daemon = NodeRole::daemon;
  daemon.add(NodeRole::mount);
  daemon.add(NodeRole::admin);
  const auto none = read_remote_marker(empty.options_for(daemon));
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().is(Errc::not_found)) << none.error().message();
  EXPECT_EQ(format_remote(empty.options_for(), empty.marker()).error().errno_value(), EACCES);
  EXPECT_TRUE(format_remote(empty.options_for(daemon), site_.marker()).error().is(Errc::invalid));
  ASSERT_TRUE(format_remote(empty.options_for(daemon), empty.marker()));
  EXPECT_EQ(read_remote_marker(empty.options_for()).value(), empty.marker());
  EXPECT_TRUE(format_remote(empty.options_for(daemon), empty.marker()).error().is(Errc::exists));
  EXPECT_TRUE(put(*empty.open(), "one", {1}));
  site_.stop();
  const auto away = read_remote_marker(site_.options_for());
  ASSERT_FALSE(away);
  EXPECT_TRUE(away.error().is(Errc::away)) << away.error().message();
}

// Whatever comes instead of frames ends that connection, and no other.
TEST_F(SiteServerTest, GarbageEndsItsConnectionOnly) {
  const auto other = site_.open();
  ASSERT_TRUE(put(*other, "one", {1}));
  const auto prefix = [](uint32_t head_bytes) {
    Bytes out{'D', 'C', 'S', '1'};
    for (int i = 0; i < 4; ++i) out.push_back(static_cast<uint8_t>(head_bytes >> (8 * i)));
    return out;
  };
  pb::StoreFrame long_one;
  long_one.set_id(9);
  long_one.mutable_request()->mutable_put();
  for (int i = 0; i < 17; ++i) long_one.add_segments(4u << 20);
  pb::StoreFrame many;
  many.set_id(9);
  many.mutable_request()->mutable_put();
  for (size_t i = 0; i <= kSegmentsMax; ++i) many.add_segments(1);
  pb::StoreFrame reply;
  reply.set_id(9);
  (void)reply.mutable_reply();
  std::vector<Bytes> wrong = {contents_of("noise", 5000), Bytes(5000), prefix(0),
                              prefix(kHeadBytesMax + 1), prefix(UINT32_MAX)};
  Bytes not_protobuf = prefix(100);
  not_protobuf.resize(108, 0xff);
  wrong.push_back(not_protobuf);
  for (const auto& frame : {long_one, many, reply})
    wrong.push_back(make_site_frame(frame, {}, nullptr).head);
  pb::StoreRequest ping;
  (void)ping.mutable_check();
  wrong.push_back(frame_of(0, ping));
  for (size_t i = 0; i < wrong.size(); ++i) {
    const auto stream = connect();
    (void)send_all(*stream, hello());
    (void)send_all(*stream, wrong[i]);
    EXPECT_TRUE(is_closed(*stream)) << i;
    EXPECT_TRUE(check(*other)) << i;
  }
  EXPECT_EQ(site_.server->bytes(), 0u);
}

// Requests that parse and make no sense are refused one by one; the connection goes on.
TEST_F(SiteServerTest, NonsenseIsRefused) {
  const auto stream = connect();
  std::vector<pb::StoreRequest> wrong(6);
  wrong[0].set_name("../../etc/passwd");
  (void)wrong[0].mutable_read();
  wrong[1].set_name("one");
  wrong[1].mutable_derive()->add_data_offsets(3);
  wrong[2].set_name("one");
  wrong[2].mutable_prove()->set_seed("short");
  wrong[3].set_name("one");
  wrong[3].mutable_combine()->add_coefficients("x");
  wrong[4].set_name(std::string("one\0", 4));
  (void)wrong[4].mutable_put();
  ASSERT_TRUE(send_all(*stream, hello()));
  for (size_t i = 0; i < wrong.size(); ++i)
    ASSERT_TRUE(send_all(*stream, frame_of(i + 2, wrong[i])));
  class Owner final : public SiteLink::Owner {
   public:
    result<bool> on_head(const pb::StoreFrame&, uint64_t) override { return true; }
    result<void> on_frame(SiteFrameReader::Whole whole) override {
      if (whole.head.id() != 0) errors[whole.head.id()] = whole.head.reply().error();
      return success();
    }
    std::map<uint64_t, int> errors;
  } owner;
  SiteFrameReader reader;
  const auto until = monotonic_now() + seconds(5);
  while (owner.errors.size() < wrong.size() + 1 && monotonic_now() < until) {
    const auto got = stream->receive(reader.space());
    if (got.state != ByteStream::State::done) {
      std::this_thread::sleep_for(milliseconds(2));
      continue;
    }
    auto event = reader.filled(got.bytes).value();
    if (event == SiteFrameReader::Event::head) event = reader.proceed();
    if (event == SiteFrameReader::Event::frame) {
      ASSERT_TRUE(owner.on_frame(reader.take()));
    }
  }
  EXPECT_EQ(owner.errors[1], 0);
  for (uint64_t id = 2; id < 7; ++id)
    EXPECT_EQ(owner.errors[id], -static_cast<int>(Errc::invalid)) << id;
  EXPECT_EQ(owner.errors[7], -static_cast<int>(Errc::unsupported));
}

// Requests before hello reach no store.
TEST_F(SiteServerTest, HelloComesFirst) {
  const auto stream = connect();
  pb::StoreRequest request;
  request.set_name("one");
  (void)request.mutable_put();
  ASSERT_TRUE(send_all(*stream, frame_of(5, request)));
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_TRUE(list(*site_.open(), "", 10).value().names.empty());
}

// A peer that asks for much and takes nothing: its memory is bounded, others are served meanwhile,
// and it is closed.
TEST_F(SiteServerTest, ASlowReaderHoldsUpNobody) {
  site_.stop();
  site_.limits.bytes_of_connection_max = 8u << 20;
  site_.limits.stall_max = seconds(2);
  site_.start();
  const auto other = site_.open();
  ASSERT_TRUE(put(*other, "big", contents_of("big", 4u << 20)));
  const auto stream = connect();
  pb::StoreRequest request;
  request.set_name("big");
  request.mutable_read()->add_ranges()->set_length(4u << 20);
  ASSERT_TRUE(send_all(*stream, hello()));
  for (uint64_t i = 2; i < 200; ++i) ASSERT_TRUE(send_all(*stream, frame_of(i, request)));
  const auto until = monotonic_now() + seconds(15);
  uint64_t most = 0;
  while (site_.server->refusals().of(Refusal::slow) == 0 && monotonic_now() < until) {
    const auto began = monotonic_now();
    EXPECT_TRUE(read(*other, "big", {{0, 1000}}));
    EXPECT_LT(monotonic_now() - began, seconds(1));
    most = std::max(most, site_.server->bytes());
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(site_.server->refusals().of(Refusal::slow), 1u);
  EXPECT_LE(most, 9u << 20);
  EXPECT_GE(most, 4u << 20);
}

TEST_F(SiteServerTest, HalfARequestIsNotWaitedForForever) {
  site_.stop();
  site_.limits.stall_max = seconds(1);
  site_.start();
  const auto idle = site_.open();
  ASSERT_TRUE(check(*idle));
  const auto stream = connect();
  ASSERT_TRUE(send_all(*stream, hello()));
  ASSERT_TRUE(send_all(*stream, Bytes{'D', 'C', 'S'}));
  EXPECT_TRUE(is_closed(*stream));
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_EQ(site_.server->connections(), 1u) << "who asks for nothing stays";
}

TEST_F(SiteServerTest, ANodeHasSoManyConnections) {
  site_.stop();
  site_.limits.connections_of_node_max = 2;
  site_.start();
  const auto a = connect(), b = connect();
  ASSERT_TRUE(send_all(*a, hello()));
  ASSERT_TRUE(send_all(*b, hello()));
  std::this_thread::sleep_for(milliseconds(100));
  const auto c = connect();
  EXPECT_TRUE(is_closed(*c));
  EXPECT_TRUE(check(*site_.open())) << "another node";
  EXPECT_EQ(site_.server->refusals().of(Refusal::too_many), 1u);
}

// Stores cost threads: peers that expect ever other markers get no more of them.
TEST_F(SiteServerTest, ASiteIsAskedForUnderFewNumbers) {
  const auto right = site_.open();
  ASSERT_TRUE(check(*right));
  std::vector<std::unique_ptr<ObjectStore>> others;
  for (uint32_t id = 2; id <= 5; ++id) {
    auto options = site_.options_for();
    options.expected = site_.marker(id);
    others.push_back(make_remote_store(std::move(options)));
    const auto done = check(*others.back());
    ASSERT_FALSE(done);
    EXPECT_TRUE(done.error().is(Errc::away)) << done.error().message();
    EXPECT_EQ(done.error().text().find("too many numbers") != std::string::npos, id == 5) << id;
  }
  EXPECT_TRUE(check(*right));
}

// Connections that never begin a handshake.
std::vector<int> connect_silently(const std::string& to, int count) {
  std::vector<int> sockets;
  for (int i = 0; i < count; ++i) {
    sockets.push_back(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(parse_tls_address(to).value().port);
    EXPECT_EQ(::connect(sockets.back(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  return sockets;
}

// Silent ones, as many as there may be, do not shut out others behind the same address.
TEST_F(SiteServerTest, ASilentConnectionGivesItsPlaceToANewcomer) {
  site_.stop();
  site_.limits.handshakes_max = 8;  // two from one address
  site_.limits.handshake_max = seconds(60);
  site_.start();
  const auto sockets = connect_silently(site_.address(), 5);
  EXPECT_TRUE(check(*site_.open()));
  EXPECT_EQ(site_.server->refusals().of(Refusal::slow), 0u);
  // Who has lost its place notices a moment later.
  const auto until = monotonic_now() + seconds(20);
  while (site_.server->refusals().of(Refusal::too_many) == 0 && monotonic_now() < until)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_GE(site_.server->refusals().of(Refusal::too_many), 1u);
  for (const int fd : sockets) ::close(fd);
}

TEST_F(SiteServerTest, ConnectionsWithoutAHandshakeAreBounded) {
  site_.stop();
  site_.limits.handshakes_max = 8;  // two from one address
  site_.limits.handshake_max = seconds(1);
  site_.start();
  const auto sockets = connect_silently(site_.address(), 5);
  const auto until = monotonic_now() + seconds(5);
  while (site_.server->refusals().of(Refusal::slow) < 2 && monotonic_now() < until)
    std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(site_.server->refusals().of(Refusal::slow), 2u);
  EXPECT_EQ(site_.server->refusals().of(Refusal::too_many), 3u);
  EXPECT_TRUE(check(*site_.open())) << "and then there is room again";
  for (const int fd : sockets) ::close(fd);
}

}  // namespace
}  // namespace datacloud
