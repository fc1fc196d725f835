// Frames in and out (site_frame.h).
#include "common/store/remote/site_frame.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <utility>

namespace datacloud {
namespace {

constexpr size_t kPrefixBytes = 8;
constexpr size_t kTurnBytesMax = 1u << 20;  // in each direction, so that neither starves
constexpr size_t kPartsAtOnce = 32;
constexpr size_t kPieceBytes = 16u << 10;  // a record of TLS

uint32_t get_u32(const uint8_t* at) {
  return at[0] | at[1] << 8 | at[2] << 16 | static_cast<uint32_t>(at[3]) << 24;
}

void put_u32(uint8_t* at, uint32_t value) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<uint8_t>(value >> (8 * i));
}

}  // namespace

MutableByteView SiteFrameReader::space() {
  if (state_ == State::prefix || state_ == State::head)
    return MutableByteView(buffer_).subspan(at_);
  // A segment is not filled with zeros first: that would cost more than this copy, whose source is
  // in the nearest cache.
  if (state_ == State::segments)
    return MutableByteView(piece_).first(std::min<size_t>(piece_.size(), segment_left()));
  return {};
}

uint32_t SiteFrameReader::following(size_t segment) const {
  const int i = static_cast<int>(segment);
  return is_in_window(head_, i) ? 0 : head_.segments(i);
}

size_t SiteFrameReader::segment_left() const {
  return following(segment_) - segments_[segment_].size();
}

result<SiteFrameReader::Event> SiteFrameReader::filled(size_t bytes) {
  if (state_ == State::segments) {
    auto& segment = segments_[segment_];
    segment.insert(segment.end(), piece_.begin(), piece_.begin() + static_cast<ptrdiff_t>(bytes));
    if (segment_left() > 0) return Event::none;
    ++segment_;
    return next_segment();
  }
  at_ += bytes;
  if (state_ == State::prefix) return at_ < buffer_.size() ? Event::none : read_prefix();
  return at_ < buffer_.size() ? Event::none : read_head();
}

result<SiteFrameReader::Event> SiteFrameReader::read_prefix() {
  const uint32_t bytes = get_u32(buffer_.data() + 4);
  if (get_u32(buffer_.data()) != kSiteFrameMagic || bytes == 0 || bytes > kHeadBytesMax)
    return failure(Errc::corrupt, "what came is no frame of a site's protocol");
  buffer_.resize(bytes);
  at_ = 0;
  state_ = State::head;
  return Event::none;
}

result<SiteFrameReader::Event> SiteFrameReader::read_head() {
  if (!head_.ParseFromArray(buffer_.data(), static_cast<int>(buffer_.size())))
    return failure(Errc::corrupt, "a frame's head does not parse");
  if (static_cast<size_t>(head_.segments_size()) > kSegmentsMax)
    return failure(Errc::corrupt, "a frame has too many segments");
  if (head_.in_window_size() != 0 && head_.in_window_size() != head_.segments_size())
    return failure(Errc::corrupt, "a frame does not say where its segments are");
  segment_bytes_ = 0;
  for (const uint32_t size : head_.segments()) segment_bytes_ += size;
  if (segment_bytes_ > kSegmentBytesMax)
    return failure(Errc::corrupt, "a frame's segments have more than 64 MiB");
  state_ = State::agreed;
  return Event::head;
}

SiteFrameReader::Event SiteFrameReader::proceed() {
  segments_.assign(static_cast<size_t>(head_.segments_size()), {});
  if (piece_.empty()) piece_.resize(kPieceBytes);
  segment_ = at_ = 0;
  state_ = State::segments;
  return next_segment();
}

SiteFrameReader::Event SiteFrameReader::next_segment() {
  while (segment_ < segments_.size() && segment_left() == 0) ++segment_;
  if (segment_ < segments_.size()) {
    segments_[segment_].reserve(segment_left());
    return Event::none;
  }
  state_ = State::whole;
  return Event::frame;
}

SiteFrameReader::Whole SiteFrameReader::take() {
  Whole whole{std::move(head_), std::move(segments_)};
  head_.Clear();
  segments_.clear();
  buffer_.assign(kPrefixBytes, 0);
  if (buffer_.capacity() > 64u << 10) Bytes(kPrefixBytes).swap(buffer_);
  segment_bytes_ = segment_ = at_ = 0;
  state_ = State::prefix;
  return whole;
}

SiteFrameOut make_site_frame(pb::StoreFrame head, std::vector<ByteView> parts,
                             std::shared_ptr<const void> owner) {
  if (head.segments_size() == 0)
    for (const auto& part : parts) head.add_segments(static_cast<uint32_t>(part.size()));
  const size_t bytes = head.ByteSizeLong();
  SiteFrameOut out{Bytes(kPrefixBytes + bytes), {}, std::move(owner)};
  put_u32(out.head.data(), kSiteFrameMagic);
  put_u32(out.head.data() + 4, static_cast<uint32_t>(bytes));
  head.SerializeToArray(out.head.data() + kPrefixBytes, static_cast<int>(bytes));
  std::erase_if(parts, [](const ByteView& part) { return part.empty(); });
  out.parts = std::move(parts);
  out.in_window = bytes_in_window(head);
  return out;
}

short SiteLink::events() const {
  short events = 0;
  if (!paused_) events |= stream_->receive_waits_for_room() ? POLLOUT : POLLIN;
  if (sending()) events |= POLLOUT;
  return events;
}

result<bool> SiteLink::turn(Owner& owner) {
  // What a peer has said before it closed is heard first.
  TRY(const bool more_in, receive_some(owner));
  TRY(const bool more_out, send_some());
  return more_in || more_out;
}

// Offers the unsent rest of as many frames as fit, from the front: TLS makes small parts one
// record.
result<bool> SiteLink::send_some() {
  size_t taken = 0;
  while (!out_.empty()) {
    if (taken >= kTurnBytesMax) return true;
    std::array<iovec, kPartsAtOnce> iov{};
    size_t n = 0;
    for (auto it = out_.begin(); it != out_.end() && n < iov.size(); ++it) {
      size_t skip = it->sent;
      const auto add = [&](ByteView part) {
        if (n == iov.size()) return;
        if (skip >= part.size()) {
          skip -= part.size();
          return;
        }
        part = part.subspan(skip);
        skip = 0;
        iov[n++] = {const_cast<uint8_t*>(part.data()), part.size()};
      };
      add(it->frame.head);
      for (size_t i = 0; i < it->frame.parts.size() && n < iov.size(); ++i) add(it->frame.parts[i]);
    }
    const auto done = stream_->send({iov.data(), n});
    if (done.state == ByteStream::State::broken)
      return failure(Errc::unavailable, "the connection broke");
    if (done.state == ByteStream::State::blocked) {
      if (!std::exchange(send_blocked_, true)) moved_at_ = monotonic_now();
      return false;
    }
    if (std::exchange(send_blocked_, false)) moved_at_ = monotonic_now();
    taken += done.bytes;
    sent(done.bytes);
  }
  const auto flushed = stream_->flush();
  if (flushed == ByteStream::State::broken)
    return failure(Errc::unavailable, "the connection broke");
  held_ = flushed == ByteStream::State::blocked;
  if (std::exchange(send_blocked_, held_) != held_) moved_at_ = monotonic_now();
  return false;
}

void SiteLink::sent(size_t bytes) {
  while (bytes > 0) {
    auto& front = out_.front();
    size_t total = front.frame.head.size();
    for (const auto& part : front.frame.parts) total += part.size();
    const size_t step = std::min(bytes, total - front.sent);
    front.sent += step;
    bytes -= step;
    if (front.sent == total) out_.pop_front();
  }
}

result<bool> SiteLink::receive_some(Owner& owner) {
  if (paused_) {
    paused_ = false;
    TRY(const bool agreed, handle(owner, SiteFrameReader::Event::head));
    if (!agreed) return false;
  }
  for (size_t taken = 0; taken < kTurnBytesMax;) {
    const auto got = stream_->receive(reader_.space());
    if (got.state == ByteStream::State::broken)
      return failure(Errc::unavailable, "the peer has closed the connection");
    if (got.state == ByteStream::State::blocked) return false;
    heard_at_ = monotonic_now();
    taken += got.bytes;
    TRY(const auto event, reader_.filled(got.bytes));
    TRY(const bool agreed, handle(owner, event));
    if (!agreed || !got.more) return false;
  }
  return true;
}

result<bool> SiteLink::handle(Owner& owner, SiteFrameReader::Event event) {
  if (event == SiteFrameReader::Event::head) {
    TRY(const bool agreed, owner.on_head(reader_.head(), reader_.segment_bytes()));
    if (!agreed) {
      paused_ = true;
      return false;
    }
    event = reader_.proceed();
  }
  if (event == SiteFrameReader::Event::frame) {
    TRY(owner.on_frame(reader_.take()));
  }
  return true;
}

}  // namespace datacloud
