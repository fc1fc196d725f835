// See rpc_exchange.h.
#include "common/rpc/rpc_exchange.h"

#include <poll.h>

#include <algorithm>

#include "common/rpc/rpc_frame.h"

namespace datacloud {

result<pb::Reply> exchange(ByteStream& stream, const pb::Request& request, Duration patience) {
  pb::Frame frame;
  *frame.mutable_request() = request;
  TRY(auto encoded, encode_frame(frame));
  FrameWriter out;
  out.push(std::move(encoded));
  FrameReader in;
  const auto until = monotonic_now() + patience;
  for (;;) {
    // A peer that has turned us away may not take the request, and still say why.
    (void)out.write_to(stream);
    const auto got = stream.receive(in.space());
    if (got.state == ByteStream::State::broken)
      return failure(Errc::unavailable, "the daemon closed the connection without an answer");
    if (got.state == ByteStream::State::done) {
      in.filled(got.bytes);
      pb::Frame answer;
      TRY(const bool whole, in.next(answer));
      if (!whole) continue;
      if (!answer.has_reply()) return failure(Errc::corrupt, "the daemon's answer is no reply");
      TRY(reply_error(answer.reply()));
      return std::move(*answer.mutable_reply());
    }
    const auto left = std::chrono::ceil<milliseconds>(until - monotonic_now()).count();
    if (left <= 0) return failure(Errc::unavailable, "the daemon does not answer");
    const bool room = !out.empty() || stream.receive_waits_for_room();
    pollfd waiting{stream.fd(), static_cast<short>(room ? POLLIN | POLLOUT : POLLIN), 0};
    (void)::poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left, 1000)));
  }
}

}  // namespace datacloud
