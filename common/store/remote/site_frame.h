// Frames between a node and the server of a site: a small protobuf head, and the bytes of objects
// raw behind it, sent from where they lie and received where they stay.
//
// Frame: magic u32 LE 0x31534344 ("DCS1"), bytes of the head u32 LE, a pb::StoreFrame, then its
// segments one after another, but those that lie in the shared window (in_window). Bounds:
// kHeadBytesMax, kSegmentsMax, kSegmentBytesMax in all; memory for segments is taken after the
// owner has agreed (SiteLink::Owner::on_head).
//
// Not thread-safe: one thread moves a link's bytes.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/net/byte_stream.h"
#include "common/proto/store.pb.h"
#include "common/tags/object_requests.h"

namespace datacloud {

inline constexpr uint32_t kSiteFrameMagic = 0x31534344;
inline constexpr size_t kHeadBytesMax = 2u << 20;
inline constexpr size_t kSegmentsMax = 2 * kXorRangesMax;
inline constexpr uint64_t kSegmentBytesMax = kObjectBytesMax;

// Takes a frame apart as its bytes come.
class SiteFrameReader {
 public:
  enum class Event { none, head, frame };

  // Where the next bytes go; never empty, but after `head`.
  MutableByteView space();
  // That many have come. head: head() can be looked at, and proceed() must be called before more
  // bytes are taken. frame: it is whole, take() it. corrupt: the peer does not speak this.
  result<Event> filled(size_t bytes);
  const pb::StoreFrame& head() const { return head_; }
  uint64_t segment_bytes() const { return segment_bytes_; }
  // Takes memory for the segments.
  Event proceed();
  bool in_frame() const { return state_ != State::prefix || at_ != 0; }
  struct Whole {
    pb::StoreFrame head;
    std::vector<Bytes> segments;  // one that lies in the window is empty
  };
  Whole take();

 private:
  enum class State { prefix, head, agreed, segments, whole };
  result<Event> read_prefix();
  result<Event> read_head();
  Event next_segment();
  uint32_t following(size_t segment) const;  // bytes of it that come
  size_t segment_left() const;               // bytes of the current one that have not come

  State state_ = State::prefix;
  Bytes buffer_ = Bytes(8);
  size_t at_ = 0;  // bytes there of buffer_
  pb::StoreFrame head_;
  uint64_t segment_bytes_ = 0;
  std::vector<Bytes> segments_;
  size_t segment_ = 0;
  Bytes piece_;  // of the current segment
};

// A frame on its way out. `owner` keeps the parts alive until it has been sent or dropped.
struct SiteFrameOut {
  Bytes head;
  std::vector<ByteView> parts;
  std::shared_ptr<const void> owner;
  uint64_t in_window = 0;  // bytes that are there already
};
// Segment i of the frame lies in the window, if there is one.
inline bool is_in_window(const pb::StoreFrame& head, int i) {
  return i < head.in_window_size() && head.in_window(i) != 0;
}
inline uint64_t bytes_in_window(const pb::StoreFrame& head) {
  uint64_t bytes = 0;
  for (int i = 0; i < head.in_window_size(); ++i)
    if (is_in_window(head, i)) bytes += head.segments(i);
  return bytes;
}
// Fills the head's segments from `parts`, unless they are there already. The bounds above are the
// caller's to keep.
SiteFrameOut make_site_frame(pb::StoreFrame head, std::vector<ByteView> parts,
                             std::shared_ptr<const void> owner);

// One connection: what comes in and what goes out.
class SiteLink {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // A head has come. False: not now; turn() asks again. A failure ends the connection.
    virtual result<bool> on_head(const pb::StoreFrame&, uint64_t segment_bytes) = 0;
    virtual result<void> on_frame(SiteFrameReader::Whole) = 0;
  };

  explicit SiteLink(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}
  void send(SiteFrameOut frame) { out_.push_back({std::move(frame), 0}); }

  // Moves what can be moved now, up to a bound. True: call again at once. unavailable: the
  // connection is over.
  result<bool> turn(Owner&);
  // What to poll for before the next turn.
  short events() const;
  bool sending() const { return !out_.empty() || held_; }
  bool receiving() const { return reader_.in_frame(); }
  bool paused() const { return paused_; }  // the owner did not agree to a head
  // Bytes have come; and: the peer has taken some after it would not.
  MonotonicTime heard_at() const { return heard_at_; }
  MonotonicTime moved_at() const { return moved_at_; }
  ByteStream& stream() { return *stream_; }

 private:
  struct Outgoing {
    SiteFrameOut frame;
    size_t sent = 0;
  };
  result<bool> send_some();
  result<bool> receive_some(Owner&);
  void sent(size_t bytes);
  result<bool> handle(Owner&, SiteFrameReader::Event);

  const std::unique_ptr<ByteStream> stream_;
  std::deque<Outgoing> out_;
  SiteFrameReader reader_;
  bool send_blocked_ = false, paused_ = false;
  bool held_ = false;  // the stream has taken bytes that the socket has no room for
  MonotonicTime heard_at_ = monotonic_now(), moved_at_ = monotonic_now();
};

}  // namespace datacloud
