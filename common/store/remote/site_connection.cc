// See site_connection.h.
#include "common/store/remote/site_connection.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <optional>

#include "common/store/remote/site_frame.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

constexpr Duration kPatience = seconds(30);  // formatting makes 256 directories durable

// Takes the one answer.
class Answer final : public SiteLink::Owner {
 public:
  result<bool> on_head(const pb::StoreFrame& head, uint64_t segment_bytes) override {
    if (!head.has_reply() || segment_bytes != 0)
      return failure(Errc::corrupt, "the answer is no reply");
    return true;
  }
  result<void> on_frame(SiteFrameReader::Whole whole) override {
    // Without an error, id 0 says only that somebody is there.
    if (whole.head.id() != 0 || whole.head.reply().error() != 0)
      reply.emplace(std::move(*whole.head.mutable_reply()));
    return success();
  }
  std::optional<pb::StoreReply> reply;
};

// A link borrows the stream for one exchange.
class Borrowed final : public ByteStream {
 public:
  explicit Borrowed(ByteStream& stream) : stream_(stream) {}
  int fd() const override { return stream_.fd(); }
  Received receive(MutableByteView space) override { return stream_.receive(space); }
  Sent send(std::span<const iovec> parts) override { return stream_.send(parts); }
  State flush() override { return stream_.flush(); }
  bool receive_waits_for_room() const override { return stream_.receive_waits_for_room(); }

 private:
  ByteStream& stream_;
};

result<void> check_site(const TlsStream& stream, const std::string& site) {
  const auto peer = stream.peer(wall_now_ns());
  if (peer.verdict != PeerCertificate::Verdict::good) {
    return failure(Errc::invalid,
                   fmt::format("the certificate there {}{}", peer.problem,
                               peer.verdict == PeerCertificate::Verdict::foreign
                                   ? ": it is a site of another cloud, or somebody stands between"
                                   : ""));
  }
  if (peer.named) return success();
  if (!peer.identity.roles.has(NodeRole::site))
    return failure(Errc::invalid,
                   "the peer is node " + peer.identity.name + ", and serves no site");
  if (peer.identity.name != site)
    return failure(Errc::invalid, "site " + peer.identity.name +
                                      " is served there; correct the address in the configuration");
  return success();
}

result<std::unique_ptr<TlsStream>> connect(const RemoteStoreOptions& options) {
  TRY(const auto dial, dial_site(options));
  auto stream = dial->wait();
  if (!stream) return failure(Errc::away, stream.error().text());
  return stream;
}

result<pb::StoreReply> hello(ByteStream& stream) {
  pb::StoreRequest request;
  (void)request.mutable_hello();
  return ask_site(stream, std::move(request), kPatience);
}

}  // namespace

result<std::unique_ptr<Dial>> dial_site(const RemoteStoreOptions& options) {
  TRY(auto context, options.context());
  return std::make_unique<Dial>(
      std::vector<std::string>{options.address}, std::move(context),
      [site = options.site](const TlsStream& stream) { return check_site(stream, site); });
}

result<pb::StoreReply> ask_site(ByteStream& stream, pb::StoreRequest request, Duration patience) {
  SiteLink link(std::make_unique<Borrowed>(stream));
  pb::StoreFrame frame;
  frame.set_id(1);
  *frame.mutable_request() = std::move(request);
  link.send(make_site_frame(std::move(frame), {}, nullptr));
  Answer answer;
  const auto until = monotonic_now() + patience;
  for (;;) {
    const auto turned = link.turn(answer);
    if (answer.reply) {
      TRY(reply_error(*answer.reply));
      return std::move(*answer.reply);
    }
    if (!turned) return failure(turned.error());
    if (turned.value()) continue;
    const auto left = std::chrono::ceil<milliseconds>(until - monotonic_now()).count();
    if (left <= 0) return failure(Errc::unavailable, "no answer");
    pollfd waiting{stream.fd(), link.events(), 0};
    (void)::poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left, 1000)));
  }
}

result<SiteMarker> read_remote_marker(const RemoteStoreOptions& options) {
  const auto ask = [&]() -> result<SiteMarker> {
    TRY(const auto stream, connect(options));
    TRY(const auto reply, hello(*stream));
    if (reply.marker().empty())
      return failure(Errc::not_found, "the storage that is served there carries no marker");
    return SiteMarker::decode(reply.marker());
  };
  auto marker = ask();
  if (!marker) return failure(marker.error().in(options.address));
  return marker;
}

result<void> format_remote(const RemoteStoreOptions& options, const SiteMarker& marker) {
  const auto ask = [&]() -> result<void> {
    TRY(const auto stream, connect(options));
    TRY(hello(*stream));
    pb::StoreRequest request;
    request.mutable_format()->set_marker(marker.encode());
    TRY(ask_site(*stream, std::move(request), kPatience));
    return success();
  };
  auto done = ask();
  if (!done) return failure(done.error().in(options.address));
  return success();
}

}  // namespace datacloud
