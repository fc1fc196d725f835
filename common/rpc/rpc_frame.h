// Frames of the RPC on a byte stream: magic u32 LE, length u32 LE, protobuf (common/rpc/rpc.h).
//
// FrameReader turns received bytes into frames and never holds more memory than twice what has
// arrived; FrameWriter queues frames and hands many to the kernel at once. Neither is thread safe:
// the owner locks.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/net/address.h"
#include "common/net/byte_stream.h"
#include "common/rpc/rpc.h"

namespace datacloud {

inline constexpr size_t kFrameHeaderBytes = 8;
// Unanswered requests of one connection: more are answered `unavailable` without being run.
inline constexpr size_t kRequestsInFlightMax = 4096;

using SharedFrame = std::shared_ptr<const std::string>;

// Header and body in one string. invalid when the body is longer than kFrameBytesMax.
result<SharedFrame> encode_frame(const pb::Frame&);

class FrameReader {
 public:
  // Where to put the next bytes: never empty. Then say how many came.
  MutableByteView space();
  void filled(size_t bytes);
  // True: `frame` is the next one. False: more bytes are needed. corrupt: close the connection.
  result<bool> next(pb::Frame& frame);
  // Of the frame that next() gave last.
  uint64_t frame_bytes() const { return frame_bytes_; }
  // A part of a frame has come, after next() has given false.
  bool in_frame() const { return begin_ != end_; }

 private:
  Bytes buffer_;
  uint64_t frame_bytes_ = 0;
  size_t begin_ = 0;  // unread bytes are buffer_[begin_, end_)
  size_t end_ = 0;
};

class FrameWriter {
 public:
  enum class State { empty, blocked, broken };

  void push(SharedFrame);
  // Sends what the stream takes without waiting.
  State write_to(ByteStream&);
  size_t bytes() const { return bytes_; }
  size_t frames() const { return queue_.size(); }
  bool empty() const { return queue_.empty() && !held_; }
  void clear();

 private:
  std::deque<SharedFrame> queue_;
  size_t sent_ = 0;    // bytes of the first frame already sent
  size_t bytes_ = 0;   // bytes not yet sent
  bool held_ = false;  // by the stream, which waits for room
};

}  // namespace datacloud
