// Column bookkeeping of one stripe read.
#include "fs/read/shard_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/crypto/sealed_block.h"

namespace datacloud {
namespace {

// Relative costs of a column for decoding: what is here, what is coming, near, far, doubtful, slow.
constexpr uint32_t kCostKnown = 1, kCostComing = 2, kCostLocal = 4, kCostRemote = 10;
constexpr uint32_t kCostSuspect = 100, kCostLate = 1000;
// Sealing adds at most 1 % to a shard's plain bytes; a larger claim is not worth the memory.
constexpr uint32_t kShardBytesMax = 2 * kShardPlainBytesMax;

}  // namespace

result<void> check_stripe_record(const pb::Stripe& record, const ErasureCode& code) {
  if (record.shards_size() != code.n())
    return failure(Errc::corrupt,
                   fmt::format("stripe {}: the record has {} shards, {} has {}", record.id(),
                               record.shards_size(), code.name(), code.n()));
  for (const pb::Shard& shard : record.shards())
    if (shard.bytes() > kShardBytesMax)
      return failure(Errc::corrupt, fmt::format("stripe {}: a shard of {} bytes; at most {} occur",
                                                record.id(), shard.bytes(), kShardBytesMax));
  if (record.parity_bytes() > kShardBytesMax)
    return failure(Errc::corrupt, fmt::format("stripe {}: parity of {} bytes", record.id(),
                                              record.parity_bytes()));
  if (record.slot_column_size() != record.slot_offset_size() ||
      record.slot_column_size() != record.slot_length_size())
    return failure(Errc::corrupt,
                   fmt::format("stripe {}: slot arrays of different lengths", record.id()));
  return success();
}

result<Slot> slot_of(const pb::Stripe& record, const ErasureCode& code, uint32_t index) {
  if (index >= static_cast<uint32_t>(record.slot_column_size()))
    return failure(Errc::corrupt, fmt::format("stripe {}: slot {} of {}", record.id(), index,
                                              record.slot_column_size()));
  const int i = static_cast<int>(index);
  const Slot slot{record.slot_column(i), record.slot_offset(i), record.slot_length(i)};
  const bool column_ok = slot.column < static_cast<uint32_t>(code.k());
  if (!column_ok || slot.length == 0 || slot.length > kBlockBytesMax + kSealedOverheadBytes ||
      uint64_t{slot.offset} + slot.length > record.shards(static_cast<int>(slot.column)).bytes())
    return failure(Errc::corrupt,
                   fmt::format("stripe {}: slot {} lies outside its shard", record.id(), index));
  return slot;
}

ShardSource::ShardSource(const pb::Stripe& record, const ErasureCode& code, SiteSet& sites,
                         SlowSites& slow, ReadTimes& times, SiteId local_site)
    : record_(record),
      code_(code),
      slow_(slow),
      times_(times),
      local_site_(local_site),
      columns_(static_cast<size_t>(code.n())) {
  const MonotonicTime now = monotonic_now();
  for (int c = 0; c < n(); ++c) {
    Column& column = columns_[c];
    column.record = &record.shards(c);
    if (column.record->state() == pb::SHARD_EMPTY) continue;  // length 0: zeros, always known
    column.data = ShardRanges(column.record->bytes());
    column.site = sites.find(column.record->site());
    if (column.record->state() != pb::SHARD_PRESENT)
      erase(column, Error(Errc::not_found, "recorded as missing"));
    else if (!column.site)
      erase(column, Error(Errc::away,
                          fmt::format("site {} is not configured here", column.record->site())));
    else if (!column.site->up())
      erase(column, Error(Errc::away, column.site->away_reason()));
    else
      column.late = slow_.slow(column.site->id(), now);
  }
}

bool ShardSource::any_not_found() const {
  for (const Column& c : columns_)
    if (c.not_found) return true;
  return false;
}

ColumnSet ShardSource::usable() const {
  ColumnSet set = 0;
  for (int c = 0; c < n(); ++c)
    if (!columns_[c].erased) set |= ColumnSet{1} << c;
  return set;
}

int ShardSource::prompt_count() const {
  int count = 0;
  for (const Column& c : columns_)
    if (!c.erased && !c.late) ++count;
  return count;
}

std::vector<uint32_t> ShardSource::costs(const ByteRange& range) const {
  std::vector<uint32_t> out(columns_.size());
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& c = columns_[i];
    if (c.data.clip(range).length == 0) continue;  // zeros: free
    const bool known = c.data.covers(range);
    const ByteRange clipped = c.data.clip(range);
    if (known)
      out[i] = kCostKnown;
    else if (c.requested.contains(clipped.offset, end_of(clipped)))
      out[i] = kCostComing;
    else
      out[i] = c.site && c.site->id() == local_site_ ? kCostLocal : kCostRemote;
    if (c.disproved) out[i] += kCostSuspect;
    if (c.late && !known) out[i] += kCostLate;
  }
  return out;
}

void ShardSource::want(int c, std::vector<ByteRange> ranges, MonotonicTime now,
                       std::vector<ShardCall>& calls) {
  Column& column = columns_[c];
  if (column.erased) return;
  ShardCall call{0, c, column.site, {}, now};
  uint64_t bytes = 0;
  const auto flush = [&] {
    if (call.ranges.empty()) return;
    call.id = ++calls_;
    column.in_flight.push_back(
        {call.id, now, now + times_.patience(call.site->id(), bytes, code_.k())});
    calls.push_back(call);
    call.ranges.clear();
    bytes = 0;
  };
  for (const ByteRange& r : coalesce(std::move(ranges), kRangeGapBytesMax, kReadCallBytesMax)) {
    for (const auto& [first, end] : column.data.missing(r)) {
      for (const auto& [from, to] : column.requested.gaps(first, end)) {
        if (bytes + (to - from) > kReadCallBytesMax) flush();
        call.ranges.push_back({from, to - from});
        bytes += to - from;
        column.requested.add(from, to);
      }
    }
  }
  flush();
}

void ShardSource::accept(const ShardCall& call, result<ReadReply> reply, MonotonicTime now) {
  Column& column = columns_[call.column];
  std::erase_if(column.in_flight, [&](const InFlight& f) { return f.id == call.id; });
  for (const ByteRange& r : call.ranges) column.requested.remove(r.offset, end_of(r));
  if (column.in_flight.empty()) column.late = false;
  if (reply || reply.error().is(Errc::timed_out)) {
    uint64_t bytes = 0;
    for (const ByteRange& r : call.ranges) bytes += r.length;
    times_.answered(call.site->id(), bytes, now - call.issued);
  }
  if (reply) {
    slow_.answered(call.site->id(), now);
    accept_ranges(column, call, std::move(reply).value());
    return;
  }
  const Error& error = reply.error();
  if (!error.is(Errc::timed_out)) slow_.answered(call.site->id(), now);
  column.not_found |= error.is(Errc::not_found);
  if (error.is(Errc::corrupt)) disprove(call.column, "corrupt");
  erase(column, error);
}

void ShardSource::accept_ranges(Column& column, const ShardCall& call, ReadReply reply) {
  bool whole = reply.ranges.size() == call.ranges.size();
  for (size_t i = 0; whole && i < call.ranges.size(); ++i)
    whole = reply.ranges[i].size() == call.ranges[i].length;
  if (!whole) {
    disprove(call.column, "corrupt");
    erase(column, Error(Errc::corrupt, fmt::format("the object has {} bytes, its record {}",
                                                   reply.object_size, column.record->bytes())));
    return;
  }
  for (size_t i = 0; i < call.ranges.size(); ++i)
    column.data.add(call.ranges[i].offset,
                    std::make_shared<const Bytes>(std::move(reply.ranges[i])));
}

void ShardSource::expect_late(const std::vector<uint64_t>& bytes) {
  const MonotonicTime now = monotonic_now();
  const uint64_t most = *std::max_element(bytes.begin(), bytes.end());
  for (size_t i = 0; i < columns_.size(); ++i) {
    Column& c = columns_[i];
    if (!c.site || c.erased || c.late) continue;
    c.late = times_.usually_late(c.site->id(), most, code_.k());
    const bool wanted = i < bytes.size() && bytes[i] > 0;
    if (c.late && wanted && times_.probe(c.site->id(), now)) c.late = false;
  }
}

const ShardSource::InFlight* ShardSource::next_late(const Column& c) {
  if (c.late || c.erased || c.in_flight.empty()) return nullptr;
  return &*std::min_element(
      c.in_flight.begin(), c.in_flight.end(),
      [](const InFlight& a, const InFlight& b) { return a.late_at < b.late_at; });
}

void ShardSource::mark_late(MonotonicTime now) {
  for (Column& c : columns_) {
    const InFlight* call = next_late(c);
    if (!call || call->late_at > now) continue;
    c.late = true;
    slow_.overdue(c.site->id(), call->issued, now);
  }
}

MonotonicTime ShardSource::next_late() const {
  MonotonicTime next = MonotonicTime::max();
  for (const Column& c : columns_)
    if (const InFlight* call = next_late(c)) next = std::min(next, call->late_at);
  return next;
}

void ShardSource::disprove(int c, const std::string& reason) {
  Column& column = columns_[c];
  if (column.disproved) return;
  column.disproved = true;
  pb::Damage damage;
  damage.set_stripe(record_.id());
  damage.set_column(static_cast<uint32_t>(c));
  damage.set_instance(column.record->instance());
  damage.set_site(column.record->site());
  damage.set_reason(reason);
  damage_.push_back(std::move(damage));
}

void ShardSource::erase(Column& column, Error why) {
  if (column.erased) return;
  column.erased = true;
  column.why = std::move(why);
}

std::string ShardSource::describe() const {
  std::string reasons;
  int readable = 0;
  for (const Column& c : columns_) {
    if (!c.erased) {
      ++readable;
      continue;
    }
    reasons +=
        fmt::format("; column {} at {}: {}", index_of(c),
                    c.site ? c.site->name() : std::to_string(c.record->site()), c.why.message());
  }
  return fmt::format("stripe {}: {} of {} shards can be read, {} are needed{}", record_.id(),
                     readable, n(), code_.k(), reasons);
}

void ShardSource::drop_data() {
  for (Column& c : columns_) c.data = ShardRanges(c.data.length());
}

}  // namespace datacloud
