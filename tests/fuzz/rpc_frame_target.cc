// Frames of the RPC, arriving in pieces of any size.
#include "common/rpc/rpc_frame.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace rpc_frame_input {

void run(ByteView input) {
  silence_protobuf();
  FrameReader reader;
  pb::Frame frame;
  size_t piece = 1;
  while (!input.empty()) {
    const MutableByteView space = reader.space();
    require(!space.empty(), "there is always room for more");
    require(space.size() <= 2 * size_t{kFrameBytesMax}, "memory is bounded");
    const size_t n = std::min({piece, space.size(), input.size()});
    std::copy_n(input.begin(), n, space.begin());
    reader.filled(n);
    input = input.subspan(n);
    piece = piece * 3 % 1009 + 1;
    for (;;) {
      const auto next = reader.next(frame);
      if (!next) return;  // the connection is closed
      if (!next.value()) break;
      (void)frame.ByteSizeLong();
    }
  }
}

std::vector<Bytes> seeds() {
  pb::Frame frame;
  Bytes two;
  for (int i = 0; i < 2; ++i) {
    const auto encoded = encode_frame(frame);
    two.insert(two.end(), encoded.value()->begin(), encoded.value()->end());
    frame.mutable_reply()->set_id(77);
  }
  return {two};
}

}  // namespace rpc_frame_input

FuzzTarget rpc_frame_target() {
  return {"rpc_frame", rpc_frame_input::run, rpc_frame_input::seeds};
}

}  // namespace datacloud::fuzz
