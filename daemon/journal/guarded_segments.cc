// Segments as guarded objects (guarded_segments.h).
#include "daemon/journal/guarded_segments.h"

#include <algorithm>
#include <charconv>

#include "common/base/hex.h"
#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

constexpr size_t kSegmentsFollowedMax = 65536;  // that are followed
constexpr size_t kChunkBytes = size_t{4} << 20;

std::string attribute(const Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? "" : found->second;
}

bool number(const Attributes& attributes, const std::string& name, uint64_t& out) {
  const std::string text = attribute(attributes, name);
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && at == text.data() + text.size() && !text.empty();
}

std::string nonce_text(const Epoch& epoch) {
  const std::string text = epoch_text(epoch);
  return text.substr(text.find('.') + 1);
}

bool parse_nonce(const std::string& text, uint64_t& out) {
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return error == std::errc() && at == text.data() + text.size() && text.size() == 16;
}

std::string text_of(const Bytes& bytes) { return std::string(as_text(bytes)); }

}  // namespace

Attributes promise_attributes(const Epoch& epoch) {
  return {{"epoch", std::to_string(epoch.number)}, {"nonce", nonce_text(epoch)}};
}

Attributes position_attributes(const LogPosition& last) {
  Bytes bytes(kPositionBytes);
  put_position(bytes, 0, last);
  return {{"next", std::to_string(last.sequence + 1)}, {"last", text_of(bytes)}};
}

Attributes segment_attributes(const GuardedSegment& segment) {
  Attributes out = promise_attributes(segment.promised);
  out.merge(position_attributes(segment.last));
  out["header"] = text_of(encode_segment_header(segment.header));
  out["floor"] = std::to_string(segment.floor);
  out["successor"] = segment.successor;
  return out;
}

std::vector<AttributeGuard> leader_guards(const Epoch& epoch) {
  using Is = AttributeGuard::Is;
  return {{"successor", Is::same, kNoSuccessor, 0},
          {"epoch", Is::same, std::to_string(epoch.number), 0},
          {"nonce", Is::same, nonce_text(epoch), 0}};
}

AttributeGuard next_guard(uint64_t sequence) {
  return {"next", AttributeGuard::Is::same, std::to_string(sequence), 0};
}

GuardedSegments::GuardedSegments(GuardedObjects& objects, const JournalId& journal)
    : objects_(objects), journal_(journal) {}

result<void> GuardedSegments::create(const GuardedSegment& segment) {
  return wait_for<void>(
      [&](auto done) { objects_.create(segment.name, segment_attributes(segment), done); });
}

result<void> GuardedSegments::change(const std::string& name, GuardedChange change) {
  return wait_for<void>([&](auto done) { objects_.change(name, std::move(change), done); });
}

result<void> GuardedSegments::remove(const std::string& name) {
  auto gone = wait_for<void>([&](auto done) { objects_.remove(name, done); });
  if (!gone && !gone.error().is(Errc::not_found)) return gone;
  return success();
}

result<ObjectView> GuardedSegments::view(const std::string& name, ByteRange range) {
  return wait_for<ObjectView>([&](auto done) { objects_.view(name, range, done); });
}

// The first segment is made before the anchor: where there is an anchor, there is a log.
result<void> GuardedSegments::format() {
  if (auto there = view(kAnchorName, {}); there) {
    return failure(Errc::exists, objects_.location() + " holds a journal already");
  } else if (!there.error().is(Errc::not_found)) {
    return failure(there.error());
  }
  GuardedSegment first;
  first.name = std::string(kAnchorName) + "-first";
  first.header.journal = journal_;
  auto made = create(first);
  if (!made && !made.error().is(Errc::exists)) return made;
  return wait_for<void>([&](auto done) {
    objects_.create(kAnchorName,
                    {{"journal", to_hex(journal_)}, {"ordinal", "0"}, {"segment", first.name}},
                    done);
  });
}

result<GuardedSegment> GuardedSegments::get(const std::string& name) {
  TRY(const auto found, view(name, {}));
  const Attributes& attributes = found.attributes;
  GuardedSegment segment;
  segment.name = name;
  segment.size = found.size;
  auto header = decode_segment_header(as_bytes(attribute(attributes, "header")));
  const std::string last = attribute(attributes, "last");
  segment.successor = attribute(attributes, "successor");
  uint64_t next = 0;
  const bool good = header && number(attributes, "epoch", segment.promised.number) &&
                    parse_nonce(attribute(attributes, "nonce"), segment.promised.nonce) &&
                    number(attributes, "floor", segment.floor) && !segment.successor.empty() &&
                    last.size() == kPositionBytes && number(attributes, "next", next);
  if (good) segment.last = get_position(as_bytes(last), 0);
  if (!good || next != segment.last.sequence + 1 || header.value().journal != journal_) {
    return failure(Errc::corrupt,
                   objects_.location() + "/" + name + " is no segment of this cloud's journal");
  }
  segment.header = std::move(header).value();
  return segment;
}

result<GuardedSegment> GuardedSegments::tail(const std::string& hint) {
  std::string name = hint;
  for (size_t step = 0; step < kSegmentsFollowedMax; ++step) {
    if (name.empty()) {
      auto anchor = view(kAnchorName, {});
      if (!anchor) {
        if (!anchor.error().is(Errc::not_found)) return failure(anchor.error());
        return failure(Errc::away, objects_.location() + " holds no journal: it was emptied");
      }
      name = attribute(anchor.value().attributes, "segment");
      if (attribute(anchor.value().attributes, "journal") != to_hex(journal_)) {
        return failure(Errc::away, objects_.location() + " holds another cloud's journal");
      }
    }
    auto segment = get(name);
    if (!segment) {
      if (!segment.error().is(Errc::not_found)) return segment;
      name.clear();  // trimmed since its name was read
      continue;
    }
    const std::string& next = segment.value().successor;
    if (next == kNoSuccessor || next == kSealed) return segment;
    name = next;
  }
  return failure(Errc::corrupt, objects_.location() + ": the journal's segments have no end");
}

result<std::vector<GuardedSegment>> GuardedSegments::chain(const GuardedSegment& tail,
                                                           uint64_t from) {
  std::vector<GuardedSegment> out{tail};
  while (!out.back().header.previous.empty() && out.back().header.base.sequence >= from) {
    auto older = get(out.back().header.previous);
    if (!older) {
      if (older.error().is(Errc::not_found)) break;  // trimmed, or lost: a reader finds out
      return failure(older.error());
    }
    older.value().limit = out.back().header.previous_bytes;
    if (older.value().header.ordinal >= out.back().header.ordinal ||
        out.size() > kSegmentsFollowedMax) {
      return failure(Errc::corrupt,
                     objects_.location() + "/" + older.value().name + " is not the segment it was");
    }
    out.push_back(std::move(older).value());
  }
  return out;
}

result<GuardedSegments::End> GuardedSegments::scan(const GuardedSegment& segment,
                                                   const std::function<bool(LogEntry)>& sink,
                                                   const std::optional<ReadMarks::Mark>& from) {
  SegmentScanner scanner(segment.header, segment.limit, from);
  End end{segment.header.base, 0};
  if (from) end = {from->last, from->bytes};
  bool wanted = true;
  for (uint64_t offset = end.bytes; wanted && offset < segment.size; offset += kChunkBytes) {
    TRY(const auto piece, view(segment.name, {offset, kChunkBytes}));
    const bool more = scanner.feed(piece.bytes, [&](LogEntry entry) {
      if (!wanted) return;
      end = {entry.position(), scanner.valid_bytes()};
      wanted = sink(std::move(entry));
    });
    if (!more || piece.bytes.size() < kChunkBytes) break;
  }
  return end;
}

result<void> GuardedSegments::move_anchor(const GuardedSegment& segment) {
  GuardedChange to;
  to.guards = {{"ordinal", AttributeGuard::Is::below, "", segment.header.ordinal}};
  to.set = {{"ordinal", std::to_string(segment.header.ordinal)}, {"segment", segment.name}};
  auto moved = change(kAnchorName, std::move(to));
  if (!moved && !moved.error().is(Errc::stale)) return moved;  // stale: it is further already
  return success();
}

}  // namespace datacloud::journal
