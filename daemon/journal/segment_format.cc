// Segment headers and the scan over a segment (segment_format.h).
#include "daemon/journal/segment_format.h"

#include "common/base/crc32c.h"
#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

constexpr uint32_t kMagic = 0x534a4344;  // "DCJS"
constexpr size_t kCrcOffset = 8;
constexpr size_t kPreviousOffset = 128;

uint32_t crc_of(ByteView header) {
  static constexpr uint8_t kZero[4] = {};
  uint32_t crc = crc32c(header.first(kCrcOffset));
  crc = crc32c(kZero, crc);
  return crc32c(header.subspan(kCrcOffset + 4), crc);
}

bool valid_unit(uint32_t unit) {
  return unit >= kEntryPaddingBytes && unit <= kAppendUnitMax && unit % kEntryPaddingBytes == 0;
}

}  // namespace

Bytes encode_segment_header(const SegmentHeader& header) {
  Bytes out(kSegmentHeaderBytes, 0);
  put_number(out, 0, kMagic);
  out[4] = 1;
  put_number(out, 12, header.unit);
  put_array(out, 16, header.journal);
  put_number(out, 32, header.epoch.number);
  put_number(out, 40, header.epoch.nonce);
  put_number(out, 48, header.ordinal);
  put_position(out, 56, header.base);
  put_number(out, 112, header.previous_bytes);
  const std::string name = header.previous.substr(0, kSegmentNameBytesMax);
  out[kPreviousOffset - 1] = static_cast<uint8_t>(name.size());
  std::copy(name.begin(), name.end(), out.begin() + kPreviousOffset);
  put_number(out, kCrcOffset, crc_of(out));
  return out;
}

result<SegmentHeader> decode_segment_header(ByteView bytes) {
  if (bytes.size() < kSegmentHeaderBytes) return failure(Errc::corrupt, "segment: too short");
  bytes = bytes.first(kSegmentHeaderBytes);
  if (get_number<uint32_t>(bytes, 0) != kMagic) return failure(Errc::corrupt, "segment: no magic");
  if (get_number<uint32_t>(bytes, kCrcOffset) != crc_of(bytes)) {
    return failure(Errc::corrupt, "segment: checksum");
  }
  if (bytes[4] != 1) {
    return failure(Errc::corrupt, "segment of format " + std::to_string(bytes[4]) +
                                      "; this program knows 1: install a newer one");
  }
  SegmentHeader header;
  header.unit = get_number<uint32_t>(bytes, 12);
  header.journal = get_array<16>(bytes, 16);
  header.epoch = {get_number<uint64_t>(bytes, 32), get_number<uint64_t>(bytes, 40)};
  header.ordinal = get_number<uint64_t>(bytes, 48);
  header.base = get_position(bytes, 56);
  header.previous_bytes = get_number<uint64_t>(bytes, 112);
  const size_t name = bytes[kPreviousOffset - 1];
  if (name > kSegmentNameBytesMax || !valid_unit(header.unit) ||
      header.epoch.number > kEpochNumberMax || header.base.epoch > header.epoch) {
    return failure(Errc::corrupt, "segment: a field is out of its range");
  }
  header.previous = as_text(bytes.subspan(kPreviousOffset, name));
  if (encode_segment_header(header) != to_bytes(bytes)) {
    return failure(Errc::corrupt, "segment: bytes that say nothing are not zero");
  }
  return header;
}

SegmentScanner::SegmentScanner(const SegmentHeader& header, uint64_t limit,
                               const std::optional<ReadMarks::Mark>& start)
    : journal_(header.journal),
      epoch_(header.epoch),
      unit_(header.unit),
      limit_(limit),
      last_(start ? start->last : header.base),
      valid_(start ? start->bytes : 0),
      offset_(valid_) {}

// Zeros up to the next multiple of the unit. False: more bytes are needed, or the log ends here.
bool SegmentScanner::skip_padding() {
  const uint64_t padding = round_up(offset_, unit_) - offset_;
  if (padding == 0) {
    ended_ = true;
    return false;
  }
  const ByteView left = unread();
  if (left.size() < padding) return false;
  if (!all_zero(left.first(padding))) {
    ended_ = true;
    return false;
  }
  consume(padding);
  return true;
}

bool SegmentScanner::feed(ByteView bytes, const Sink& sink) {
  if (ended_) return false;
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(consumed_));
  consumed_ = 0;
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  while (!ended_) {
    if (offset_ >= limit_) {
      ended_ = true;
      break;
    }
    const ByteView left = unread();
    if (left.size() < kEntryPaddingBytes) break;
    if (all_zero(left.first(kEntryPaddingBytes))) {
      if (!skip_padding()) break;
      continue;
    }
    const auto header = decode_entry_header(left);
    if (!header) {
      ended_ = true;
      break;
    }
    const size_t size = padded_entry_bytes(header.value().body_bytes);
    if (size > limit_ - offset_) {
      ended_ = true;
      break;
    }
    if (left.size() < size) break;
    auto entry = decode_entry(left);
    if (!entry || !continues(entry.value(), journal_, last_) ||
        entry.value().header.epoch > epoch_) {
      ended_ = true;
      break;
    }
    last_ = entry.value().position();
    consume(size);
    valid_ = offset_;
    sink(std::move(entry).value());
  }
  return !ended_;
}

}  // namespace datacloud::journal
