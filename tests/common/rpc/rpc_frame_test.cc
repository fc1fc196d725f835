// Frames of the RPC, and errors in them.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/rpc/rpc_frame.h"

namespace datacloud {
namespace {

TEST(RpcFrame, ReaderTakesFramesInPieces) {
  std::string stream;
  for (int i = 0; i < 50; i++) {
    pb::Frame frame;
    frame.mutable_request()->mutable_getxattr()->set_name(
        std::string(static_cast<size_t>(i) * 997, 'f'));
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
