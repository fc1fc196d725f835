// Reading and writing frames of the RPC (rpc_frame.h): every length is checked before it is used.
#include "common/rpc/rpc_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/check.h"

namespace datacloud {
namespace {

constexpr size_t kReadBytes = 64u << 10;          // room offered to one receive
constexpr size_t kReadBytesMin = 16u << 10;       // less room than this is enlarged
constexpr size_t kIdleBufferBytesMax = 1u << 20;  // kept by a connection that has nothing unread
constexpr size_t kBufferBytesMax = kFrameHeaderBytes + kFrameBytesMax + kReadBytes;
constexpr size_t kFramesPerWrite = 64;

uint32_t load_u32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

void store_u32(char* p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = static_cast<char>(v >> (8 * i));
}

}  // namespace

result<SharedFrame> encode_frame(const pb::Frame& frame) {
  const size_t bytes = frame.ByteSizeLong();
  if (bytes > kFrameBytesMax) {
    return failure(Errc::invalid, fmt::format("an RPC message of {} bytes exceeds the limit of {}",
                                              bytes, kFrameBytesMax));
  }
  auto out = std::make_shared<std::string>(kFrameHeaderBytes + bytes, '\0');
  store_u32(out->data(), kFrameMagic);
  store_u32(out->data() + 4, static_cast<uint32_t>(bytes));
  frame.SerializeWithCachedSizesToArray(
      reinterpret_cast<uint8_t*>(out->data() + kFrameHeaderBytes));
  return SharedFrame(std::move(out));
}

MutableByteView FrameReader::space() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kIdleBufferBytesMax) Bytes().swap(buffer_);
  }
  if (buffer_.size() - end_ < kReadBytesMin && begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < kReadBytesMin) {
    // What is unread here is less than one frame, so the limit always leaves room.
    buffer_.resize(std::clamp(end_ * 2, kReadBytes, kBufferBytesMax));
  }
  return MutableByteView(buffer_).subspan(end_);
}

void FrameReader::filled(size_t bytes) {
  DC_CHECK(bytes <= buffer_.size() - end_, "more was received than there was room for");
  end_ += bytes;
}

result<bool> FrameReader::next(pb::Frame& frame) {
  const size_t have = end_ - begin_;
  if (have < kFrameHeaderBytes) return false;
  const uint8_t* header = buffer_.data() + begin_;
  const uint32_t magic = load_u32(header);
  if (magic != kFrameMagic) {
    return failure(Errc::corrupt, fmt::format("frame with magic {:#010x}", magic));
  }
  const uint32_t length = load_u32(header + 4);
  if (length > kFrameBytesMax) {
    return failure(Errc::corrupt, fmt::format("frame of {} bytes exceeds the limit of {}", length,
                                              kFrameBytesMax));
  }
  if (have - kFrameHeaderBytes < length) return false;
  if (!frame.ParseFromArray(header + kFrameHeaderBytes, static_cast<int>(length))) {
    return failure(Errc::corrupt, fmt::format("frame of {} bytes does not parse", length));
  }
  frame_bytes_ = kFrameHeaderBytes + length;
  begin_ += frame_bytes_;
  return true;
}

void FrameWriter::push(SharedFrame frame) {
  bytes_ += frame->size();
  queue_.push_back(std::move(frame));
}

FrameWriter::State FrameWriter::write_to(ByteStream& stream) {
  while (!queue_.empty()) {
    std::array<iovec, kFramesPerWrite> parts;
    const size_t count = std::min(queue_.size(), parts.size());
    for (size_t i = 0; i < count; i++) {
      const size_t skip = i == 0 ? sent_ : 0;
      parts[i] = {const_cast<char*>(queue_[i]->data()) + skip, queue_[i]->size() - skip};
    }
    const auto sent = stream.send({parts.data(), count});
    if (sent.state == ByteStream::State::blocked) return State::blocked;
    if (sent.state == ByteStream::State::broken) return State::broken;
    bytes_ -= sent.bytes;
    sent_ += sent.bytes;
    while (!queue_.empty() && sent_ >= queue_.front()->size()) {
      sent_ -= queue_.front()->size();
      queue_.pop_front();
    }
  }
  const auto flushed = stream.flush();
  held_ = flushed == ByteStream::State::blocked;
  if (held_) return State::blocked;
  return flushed == ByteStream::State::done ? State::empty : State::broken;
}

void FrameWriter::clear() {
  queue_.clear();
  held_ = false;
  sent_ = bytes_ = 0;
}

}  // namespace datacloud
