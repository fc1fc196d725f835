// Appends, commits and trim (quorum_engine.h).
#include <algorithm>
#include <functional>
#include <utility>

#include "common/base/check.h"
#include "daemon/journal/quorum_engine.h"

namespace datacloud::journal {
namespace {

constexpr size_t kWindowMax = 8;  // appends under way at a site
constexpr uint64_t kWindowBytesMax = uint64_t{16} << 20;
constexpr auto kTurnPatience = milliseconds(500);
constexpr auto kDoubtPause = seconds(1);  // before one whose log was not what it must be is asked

static_assert(kWindowMax <= kAppendsMax);

}  // namespace

void QuorumEngine::begin(const LogEntry& opening) {
  phase_ = Phase::leading;
  opening_ = opening.header.sequence;
  append(opening);
}

void QuorumEngine::append(LogEntry entry) {
  last_ = entry.position();
  kept_.push(std::move(entry));
}

void QuorumEngine::trim(uint64_t floor) { floor_ = std::max(floor_, floor); }

std::optional<LogRequest> QuorumEngine::feed_call(size_t member, MonotonicTime now) {
  Member& m = members_[member];
  if (auto trim = trim_call(member, now)) return trim;
  const uint64_t next = m.sent.sequence + 1;
  if (next > last_.sequence || m.window.size() >= kWindowMax) return std::nullopt;
  uint64_t under_way = 0;
  for (const Sent& sent : m.window) under_way += sent.bytes;
  if (under_way >= kWindowBytesMax) return std::nullopt;
  const bool from_memory = m.staged.empty();
  if (from_memory && next < kept_.first()) {
    return m.window.empty() ? read_back(member, now) : std::nullopt;
  }
  if (from_memory && !m.window.empty() &&
      kept_.bytes_after(m.sent.sequence) < options_.pipeline_bytes_min) {
    return std::nullopt;
  }
  auto append = call(LogRequest::Kind::append, member);
  uint64_t bytes = 0;
  while (append.entries.size() < kBatchEntriesMax) {
    const uint64_t sequence = next + append.entries.size();
    if (from_memory ? !kept_.has(sequence) : m.staged.empty()) break;
    const LogEntry& entry = from_memory ? kept_.at(sequence) : m.staged.front();
    if (bytes > 0 && bytes + entry.bytes->size() > m.batch_bytes_max) break;
    bytes += entry.bytes->size();
    append.entries.push_back(entry);
    if (!from_memory) m.staged.pop_front();
  }
  if (!continues(append.entries.front(), options_.journal, m.sent)) {
    // What it was fed from another's log leads elsewhere. Look again at what it has.
    m.stage = Stage::seen;
    m.counts = m.has_log = false;
    pause(m, Error(Errc::corrupt, "entry " + std::to_string(next - 1) + " is another one there"),
          now);
    return std::nullopt;
  }
  m.sent = append.entries.back().position();
  m.window.push_back({append.number, m.sent, bytes, now});
  return append;
}

// For whoever has new entries: a site that keeps up can be given them without its thread.
std::optional<LogRequest> QuorumEngine::next_append(size_t member, uint64_t bytes_max,
                                                    MonotonicTime now) {
  const Member& m = members_[member];
  if (over_ || now < m.retry_at || !takes_append(member)) return std::nullopt;
  if (!m.staged.empty() || m.sent.sequence + 1 < kept_.first()) return std::nullopt;
  if (trim_due(member, now) || kept_.bytes_after(m.sent.sequence) > bytes_max) return std::nullopt;
  return feed_call(member, now);
}

bool QuorumEngine::takes_append(size_t member) const {
  const Member& m = members_[member];
  if (m.stage != Stage::begun || m.busy || m.sent.sequence >= last_.sequence) return false;
  return m.window.empty() || !m.staged.empty() ||
         (m.window.size() < kWindowMax &&
          kept_.bytes_after(m.sent.sequence) >= options_.pipeline_bytes_min);
}

std::optional<LogRequest> QuorumEngine::read_back(size_t member, MonotonicTime now) {
  Member& m = members_[member];
  if (reads_back_ && *reads_back_ != member) {
    Member& other = members_[*reads_back_];
    if (!silent(other, kTurnPatience, now)) return std::nullopt;
    other.staged.clear();  // it hangs; what it was to get is read again
    reads_back_.reset();
  }
  const uint64_t next = m.sent.sequence + 1;
  const auto source = source_of(next, member, now);
  if (!source) {
    const auto floor = readable_floor(now);
    if (floor && *floor > next) {  // trimmed everywhere: the site begins again, behind that
      m.stage = Stage::promised;
      m.end = m.has;
      m.settled = true;
      m.search.reset();
      release(m);
    } else {
      pause(m, Error(Errc::unavailable, "no site that answers has entry " + std::to_string(next)),
            now);
    }
    return std::nullopt;
  }
  reads_back_ = member;
  auto read = call(LogRequest::Kind::read, member);
  read.store = *source;
  read.from = next;
  read.bytes_max = kReadBytesMax;
  return read;
}

void QuorumEngine::staged(Member& m, const LogRequest& call, std::vector<LogEntry> entries,
                          MonotonicTime now) {
  if (reads_back_ != index(m)) return;  // it took too long: another's turn
  LogPosition at = m.sent;
  bool good = !entries.empty();
  for (LogEntry& entry : entries) {
    if (entry.header.sequence >= kept_.first()) break;
    good = continues(entry, options_.journal, at);
    at = entry.position();
    good = good && (at.sequence != adopted_.sequence || at.hash == adopted_.hash);
    if (!good) break;
    m.staged.push_back(std::move(entry));
  }
  if (good) return;
  // That log is not what it was: it was put back, or somebody else leads there.
  Member& source = members_[call.store];
  source.source_at = now + kDoubtPause;
  if (source.stage == Stage::begun) source.stage = Stage::unsettled;
  pause(m, Error(Errc::corrupt, name(source) + " has other entries than it had"), now);
}

void QuorumEngine::appended(const LogRequest& call, const result<LogReply>& reply,
                            MonotonicTime now) {
  Member& m = members_[call.member];
  const auto sent = std::find_if(m.window.begin(), m.window.end(),
                                 [&](const Sent& s) { return s.number == call.number; });
  DC_CHECK(sent != m.window.end());
  const LogPosition last = sent->last;
  const uint64_t bytes = sent->bytes;
  m.window.erase(sent);
  if (over_) return;
  if (!reply) {
    if (reply.error().is(Errc::revoked)) return lost(m);
    if (m.stage != Stage::begun) return;
    m.stage = Stage::unsettled;
    if (reply.error().is(Errc::invalid)) m.batch_bytes_max = bytes / 2;  // above a segment's size
    return pause(m, reply.error(), now);
  }
  if (!m.counts) return;
  if (last.sequence > m.has.sequence) m.has = last;
  if (m.stage == Stage::begun) got_on(m);
  if (m.window.empty() && m.staged.empty()) release(m);
  count_commits();
}

void QuorumEngine::count_commits() {
  std::vector<uint64_t> has;
  uint64_t at_all = UINT64_MAX;
  for (const Member& m : members_) {
    if (m.stage == Stage::sealed) continue;
    at_all = std::min(at_all, m.counts ? m.has.sequence : 0);
    if (m.counts) has.push_back(m.has.sequence);
  }
  const auto needed = static_cast<size_t>(options_.rules.commit);
  if (has.size() < needed) return;
  std::sort(has.begin(), has.end(), std::greater<>());
  const uint64_t sequence = has[needed - 1];
  if (sequence >= counted_from() && sequence > committed_.sequence) {
    if (const auto position = known(sequence)) committed_ = *position;
  }
  kept_.drop(committed_.sequence, at_all);
}

bool QuorumEngine::trim_due(size_t member, MonotonicTime now) const {
  const Member& m = members_[member];
  const uint64_t floor = std::min(floor_, committed_.sequence + 1);
  const bool behind = m.has.sequence + 1 < floor;
  return !behind && floor > m.floor && now >= m.trim_at && !trims_;
}

std::optional<LogRequest> QuorumEngine::trim_call(size_t member, MonotonicTime now) {
  if (!trim_due(member, now)) return std::nullopt;
  trims_ = member;
  auto trim = call(LogRequest::Kind::trim, member);
  trim.floor = std::min(floor_, committed_.sequence + 1);
  return trim;
}

}  // namespace datacloud::journal
