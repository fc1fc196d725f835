// Where each site begins, and whose log the others are fed from (quorum_engine.h).
#include <algorithm>

#include "daemon/journal/quorum_engine.h"

namespace datacloud::journal {
namespace {

constexpr auto kSourcePatience = milliseconds(500);

// Epochs are not compared: of the position before a floor only a bound of it is known.
bool same_entry(const LogPosition& a, const LogPosition& b) {
  return a.sequence == b.sequence && a.hash == b.hash;
}

}  // namespace

// This log's position of a sequence, as far as memory has it.
std::optional<LogPosition> QuorumEngine::known(uint64_t sequence) const {
  if (sequence == 0) return LogPosition();
  if (kept_.has(sequence)) return kept_.at(sequence).position();
  for (const LogPosition* p : {&adopted_, &committed_, &last_}) {
    if (p->sequence == sequence) return *p;
  }
  return std::nullopt;
}

std::optional<LogRequest> QuorumEngine::begin_call(size_t member, MonotonicTime now) {
  Member& m = members_[member];
  if (m.anew) return begin_at_floor(member, now);
  if (m.head.begun == epoch_ && !m.settled) {
    m.stage = Stage::unsettled;
    return call(LogRequest::Kind::settle, member);
  }
  auto begin = call(LogRequest::Kind::begin, member);
  if (m.has_log && !m.settled) {  // what was adopted; the epoch before a floor is not known
    begin.base = m.has;
    const bool at_floor = m.has.sequence > 0 && m.has.sequence + 1 == m.floor;
    begin.where = at_floor ? Base::checkpoint : Base::in_log;
    return begin;
  }
  if (!m.settled && m.end.sequence + 1 >= kept_.first()) {
    const auto ours = known(m.end.sequence);
    if (ours && same_entry(*ours, m.end)) {
      begin.base = m.end;
      return begin;
    }
  }
  if (!m.search && !start_search(m, now)) return std::nullopt;
  while (const auto at = m.search->next()) {
    if (auto read = look_up_ours(member, *at, now)) return read;
    if (!m.ours) return std::nullopt;
    if (auto read = look_up_theirs(member, *at)) return read;
    const bool same = same_entry(*m.ours, *m.theirs);
    if (same) {
      // Where only a bound of the epoch is known, it must be one of this log: that of another
      // history would make the site seem to end later than it does.
      m.found = m.theirs_exact ? m.theirs : m.ours;
      m.found_exact = m.theirs_exact;
    }
    m.search->compared(same);
    m.ours.reset();
    m.theirs.reset();
  }
  const bool common = m.search->common().has_value();
  if (m.resumes) {
    m.resumes = false;
    m.search.reset();
    if (common) {
      begun(m, m.end, Base::in_log);
    } else {
      m.counts = m.has_log = false;
    }
    return std::nullopt;
  }
  if (common) {
    begin.base = *m.found;
    begin.where = m.found_exact ? Base::in_log : Base::checkpoint;
    return begin;
  }
  return begin_at_floor(member, now);  // nothing in common that can still be read
}

// A checkpoint covers what is below the floor.
std::optional<LogRequest> QuorumEngine::begin_at_floor(size_t member, MonotonicTime now) {
  Member& m = members_[member];
  const auto floor = readable_floor(now);
  if (!floor) {
    pause(m, Error(Errc::unavailable, "no site that answers has the log"), now);
    return std::nullopt;
  }
  if (auto read = look_up_ours(member, *floor - 1, now)) return read;
  if (!m.ours) return std::nullopt;
  auto begin = call(LogRequest::Kind::begin, member);
  begin.base = *m.ours;
  begin.where = Base::checkpoint;
  m.ours.reset();
  return begin;
}

bool QuorumEngine::spares(size_t member) const {
  size_t others = 0;
  for (const Member& m : members_) {
    const bool has = m.stage == Stage::begun && m.counts && m.has.sequence >= committed_.sequence;
    others += has && index(m) != member ? 1 : 0;
  }
  return others >= static_cast<size_t>(options_.rules.commit);
}

bool QuorumEngine::rewrite(size_t member) {
  Member& m = members_[member];
  if (over_ || m.stage != Stage::begun) return false;
  const bool allowed = committed_.sequence >= opening_ && spares(member);
  m.stage = allowed ? Stage::promised : Stage::unsettled;
  m.staged.clear();
  m.ours.reset();
  release(m);
  if (!allowed) return false;
  m.anew = true;
  m.counts = m.has_log = false;
  return true;
}

bool QuorumEngine::start_search(Member& m, MonotonicTime now) {
  const auto floor = readable_floor(now);
  if (!floor) {
    pause(m, Error(Errc::unavailable, "no site that answers has the log"), now);
    return false;
  }
  const uint64_t last = m.settled ? last_.sequence : adopted_.sequence;
  m.search.emplace(std::max(*floor, m.floor) - 1, std::min(m.end.sequence, last));
  m.ours.reset();
  m.theirs.reset();
  m.found.reset();
  return true;
}

// Fills in m.ours for that sequence, or returns the read that will, or pauses.
std::optional<LogRequest> QuorumEngine::look_up_ours(size_t member, uint64_t at,
                                                     MonotonicTime now) {
  Member& m = members_[member];
  if (m.ours && m.ours->sequence == at) return std::nullopt;
  m.ours = known(at);
  if (!m.ours && kept_.has(at + 1)) {
    const EntryHeader& after = kept_.at(at + 1).header;
    m.ours = LogPosition{after.epoch, at, after.previous};
  }
  if (m.ours) return std::nullopt;
  for (const uint64_t from : {at, at + 1}) {  // an entry names the hash of the one before
    const auto source = source_of(from, member, now);
    if (!source) continue;
    auto read = call(LogRequest::Kind::read, member);
    read.store = *source;
    read.from = from;
    read.bytes_max = 1;
    m.compared_at = at;
    m.reads_ours = true;
    return read;
  }
  m.search.reset();
  m.resumes = false;
  pause(m, Error(Errc::unavailable, "no site that answers has entry " + std::to_string(at)), now);
  return std::nullopt;
}

std::optional<LogRequest> QuorumEngine::look_up_theirs(size_t member, uint64_t at) {
  Member& m = members_[member];
  if (m.theirs && m.theirs->sequence == at) return std::nullopt;
  if (at == m.end.sequence || at == 0) {
    m.theirs = at == 0 ? LogPosition() : m.end;
    m.theirs_exact = true;
    return std::nullopt;
  }
  auto read = call(LogRequest::Kind::read, member);
  read.from = std::max(at, m.floor);
  read.bytes_max = 1;
  m.compared_at = at;
  m.reads_ours = false;
  return read;
}

void QuorumEngine::looked_up(Member& m, const LogRequest& call,
                             const std::vector<LogEntry>& entries, MonotonicTime now) {
  if (entries.empty() || entries[0].header.sequence != call.from) {
    return failed(call,
                  Error(Errc::corrupt,
                        name(members_[call.store]) + " has no entry " + std::to_string(call.from)),
                  now);
  }
  LogPosition found = entries[0].position();
  if (call.from != m.compared_at) {
    found = {found.epoch, m.compared_at, entries[0].header.previous};
  }
  if (m.reads_ours) {
    m.ours = found;
  } else {
    m.theirs = found;
    m.theirs_exact = call.from == m.compared_at;
  }
}

void QuorumEngine::settled(Member& m, const LogHead& head) {
  if (head.sealed) return lost(m);
  m.stage = Stage::promised;
  m.end = head.last;
  m.floor = head.floor;
  m.settled = true;
  m.resumes = false;
  m.search.reset();
  if (m.end.sequence < m.has.sequence) m.counts = m.has_log = false;  // put back from a backup
  const auto ours = m.end.sequence == m.has.sequence && m.counts ? m.has : known(m.end.sequence);
  if (ours && same_entry(*ours, m.end)) return begun(m, m.end, Base::in_log);
  if (ours || m.end.sequence > last_.sequence) return;
  m.search.emplace(m.end.sequence, m.end.sequence);
  m.ours.reset();
  m.theirs.reset();
  m.resumes = true;
}

void QuorumEngine::begun(Member& m, const LogPosition& base, Base where) {
  m.stage = Stage::begun;
  m.counts = m.has_log = true;
  m.has = m.sent = base;
  if (where == Base::checkpoint) m.floor = std::max(m.floor, base.sequence + 1);
  m.staged.clear();
  m.search.reset();
  m.resumes = m.anew = false;
  ++progress_;
  if (m.has == last_) got_on(m);
  count_commits();
}

// One that has not answered for a while comes last: who reads there would hang with it.
std::optional<size_t> QuorumEngine::source_of(uint64_t sequence, size_t asker,
                                              MonotonicTime now) const {
  std::optional<size_t> hanging;
  for (size_t i = 0; i < members_.size(); ++i) {
    const size_t at = (source_ + i) % members_.size();
    const Member& m = members_[at];
    const bool has = m.has_log && m.floor <= sequence && sequence <= m.has.sequence;
    if (at == asker || !has || m.source_at > now) continue;
    if (!m.error && !silent(m, kSourcePatience, now)) return at;
    if (!hanging) hanging = at;
  }
  return hanging;
}

// From where on some site has everything up to what memory has.
std::optional<uint64_t> QuorumEngine::readable_floor(MonotonicTime now) const {
  std::optional<uint64_t> floor;
  for (const Member& m : members_) {
    if (!m.has_log || m.has.sequence + 1 < kept_.first() || m.source_at > now) continue;
    floor = std::min(floor.value_or(UINT64_MAX), std::min(m.floor, kept_.first()));
  }
  return floor;
}

}  // namespace datacloud::journal
