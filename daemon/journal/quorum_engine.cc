// Claim, adoption, and what failures mean (quorum_engine.h).
#include "daemon/journal/quorum_engine.h"

#include <algorithm>
#include <utility>

#include "daemon/journal/adoption.h"

namespace datacloud::journal {
namespace {

constexpr auto kFirstPause = milliseconds(20);
constexpr unsigned kPauseDoublings = 9;  // to 10 seconds
constexpr auto kTrimPause = seconds(10);
constexpr auto kSourcePause = seconds(1);
constexpr auto kSilence = seconds(5);  // before people are told
// One read shows where a log ends: another entry would have fitted unless half of it is full.
constexpr size_t kCheckBytes = 2 * kEntryBytesMax;

}  // namespace

const char* member_state_text(MemberState::State state) {
  switch (state) {
    case MemberState::State::ok:
      return "ok";
    case MemberState::State::behind:
      return "behind";
    case MemberState::State::away:
      return "away";
    case MemberState::State::sealed:
      break;
  }
  return "sealed";
}

QuorumEngine::QuorumEngine(EngineOptions options)
    : options_(std::move(options)),
      members_(options_.names.size()),
      kept_(options_.kept_bytes_max) {}

std::optional<LogRequest> QuorumEngine::next(size_t member, MonotonicTime now) {
  Member& m = members_[member];
  if (over_ || m.busy || now < m.retry_at || m.stage == Stage::sealed) return std::nullopt;
  // The answers of appends come first: they say what the site has.
  if (m.stage != Stage::begun && !m.window.empty()) return std::nullopt;
  auto call = m.stage == Stage::begun ? feed_call(member, now) : next_call(member, now);
  if (call && call->kind != LogRequest::Kind::append) {
    m.busy = true;
    m.called_at = now;
  }
  return call;
}

std::optional<LogRequest> QuorumEngine::next_call(size_t member, MonotonicTime now) {
  Member& m = members_[member];
  switch (m.stage) {
    case Stage::unseen:
      return call(adopted() ? LogRequest::Kind::claim : LogRequest::Kind::head, member);
    case Stage::seen:
      if (epoch_ == Epoch()) return std::nullopt;
      return call(LogRequest::Kind::claim, member);
    case Stage::promised: {
      if (phase_ == Phase::leading) return begin_call(member, now);
      // Logs are read behind the promises of all that are needed.
      const auto needed = static_cast<size_t>(options_.rules.adopt);
      if (adopted() || count({Stage::promised, Stage::checked}) < needed) return std::nullopt;
      auto read = call(LogRequest::Kind::read, member);
      const bool has_end = m.end.sequence > 0 && m.end.sequence >= m.floor;
      read.from = has_end ? m.end.sequence : std::max(m.end.sequence + 1, m.floor);
      read.bytes_max = kCheckBytes;
      return read;
    }
    case Stage::checked:
      if (phase_ == Phase::leading) return begin_call(member, now);
      return std::nullopt;
    case Stage::unsettled:
      return call(LogRequest::Kind::settle, member);
    case Stage::doubtful:
      return call(LogRequest::Kind::head, member);
    case Stage::begun:
    case Stage::sealed:
      break;
  }
  return std::nullopt;
}

LogRequest QuorumEngine::call(LogRequest::Kind kind, size_t member) {
  LogRequest call;
  call.kind = kind;
  call.member = call.store = member;
  call.number = ++calls_;
  call.epoch = epoch_;
  return call;
}

void QuorumEngine::answer(const LogRequest& call, result<LogReply> reply, MonotonicTime now) {
  if (call.kind == LogRequest::Kind::append) return appended(call, reply, now);
  members_[call.member].busy = false;
  if (over_) return;
  const bool of_epoch = call.kind == LogRequest::Kind::claim || call.kind == LogRequest::Kind::read;
  if (of_epoch && call.epoch != epoch_) return;  // the claim has gone on with a higher number
  if (reply) {
    succeeded(call, std::move(reply).value(), now);
  } else {
    failed(call, reply.error(), now);
  }
}

void QuorumEngine::succeeded(const LogRequest& call, LogReply reply, MonotonicTime now) {
  Member& m = members_[call.member];
  switch (call.kind) {
    case LogRequest::Kind::head:
      return m.stage == Stage::doubtful ? doubted(m, reply.head, now) : seen(m, reply.head);
    case LogRequest::Kind::claim:
      return claimed(m, reply.head);
    case LogRequest::Kind::read:
      if (!adopted()) return checked(m, call, reply.entries, now);
      if (m.stage == Stage::begun) return staged(m, call, std::move(reply.entries), now);
      if (m.search || m.anew) return looked_up(m, call, reply.entries, now);
      return;  // read to be adopted, and adopted without it
    case LogRequest::Kind::begin:
      return begun(m, call.base, call.where);
    case LogRequest::Kind::settle:
      return settled(m, reply.head);
    case LogRequest::Kind::trim:
      trims_.reset();
      m.floor = std::max(m.floor, call.floor);
      return;
    case LogRequest::Kind::append:
      break;
  }
}

void QuorumEngine::failed(const LogRequest& call, const Error& error, MonotonicTime now) {
  Member& m = members_[call.member];
  if (call.kind == LogRequest::Kind::trim) {
    trims_.reset();
    m.trim_at = now + kTrimPause;
  }
  if (call.store != call.member) {  // another's log could not be read: somebody else's is
    Member& source = members_[call.store];
    source.source_at = now + kSourcePause;
    if (error.is(Errc::not_found)) source.floor = std::max(source.floor, call.from + 1);
    m.search.reset();
    m.resumes = false;
    return pause(m, error.in("to catch up from " + name(source)), now);
  }
  if (error.is(Errc::revoked)) return lost(m);
  if (call.kind == LogRequest::Kind::trim) {
    if (error.is(Errc::stale) && m.stage == Stage::begun) m.stage = Stage::doubtful;
    return;
  }
  m.search.reset();
  m.resumes = false;
  if (error.is(Errc::stale)) {
    m.stage = adopted() ? Stage::doubtful : Stage::unseen;
  } else if (m.stage != Stage::unseen) {
    m.stage = Stage::seen;
  }
  pause(m, error, now);
}

void QuorumEngine::seen(Member& m, const LogHead& head) {
  if (head.sealed) return lost(m);
  highest_seen_ = std::max({highest_seen_, head.promised.number, head.last.epoch.number});
  if (m.stage == Stage::unseen) m.stage = Stage::seen;
  if (adopted()) return;
  if (epoch_ == Epoch()) {
    if (count({Stage::seen}) >= static_cast<size_t>(options_.rules.adopt)) choose_epoch();
  } else if (head.promised.number >= epoch_.number && head.promised != epoch_) {
    choose_epoch();
  }
}

// A site has refused as stale, so somebody may lead; or the site was put back from a backup.
void QuorumEngine::doubted(Member& m, const LogHead& head, MonotonicTime now) {
  if (head.sealed) return lost(m);
  if (head.promised.number >= epoch_.number && head.promised != epoch_) {
    return end(Error(Errc::stale, "epoch " + epoch_text(head.promised) +
                                      " has claimed the journal at " + name(m) +
                                      ": another daemon leads it now"));
  }
  m.stage = Stage::seen;  // claims again, then settles or begins
  if (m.error) pause(m, Error(*m.error), now);
}

void QuorumEngine::claimed(Member& m, const LogHead& head) {
  if (head.sealed) return lost(m);
  m.stage = Stage::promised;
  m.head = head;
  m.end = head.last;
  m.floor = head.floor;
  m.search.reset();
  m.resumes = m.settled = false;
  if (head.begun != epoch_) m.counts = m.has_log = false;
}

void QuorumEngine::checked(Member& m, const LogRequest& call, const std::vector<LogEntry>& entries,
                           MonotonicTime now) {
  if (m.stage != Stage::promised) return;
  const bool has_end = call.from == m.end.sequence;
  bool good = !has_end || (!entries.empty() && entries[0].position() == m.end);
  LogPosition at = m.end;
  size_t bytes = 0;
  for (size_t i = has_end ? 1 : 0; good && i < entries.size(); ++i) {
    good = continues(entries[i], options_.journal, at);
    at = entries[i].position();
    bytes += entries[i].bytes->size();
  }
  if (!good) {  // somebody else has begun meanwhile, or the site lies
    m.stage = Stage::seen;
    return pause(m, Error(Errc::corrupt, "the log changed while it was read"), now);
  }
  m.end = at;
  if (bytes > kCheckBytes - kEntryBytesMax) return;
  m.stage = Stage::checked;
  got_on(m);
  if (count({Stage::checked}) >= static_cast<size_t>(options_.rules.adopt)) choose_adoption();
}

void QuorumEngine::choose_epoch() {
  if (highest_seen_ >= kEpochNumberMax) {
    return end(Error(Errc::invalid, "a site of the journal has promised the last possible epoch"));
  }
  epoch_ = {++highest_seen_, options_.nonce()};
  for (Member& m : members_) {
    if (m.stage == Stage::promised || m.stage == Stage::checked) m.stage = Stage::seen;
  }
}

void QuorumEngine::choose_adoption() {
  std::vector<SiteLog> logs;
  for (const Member& m : members_) {
    if (m.stage == Stage::checked) logs.push_back({static_cast<int>(index(m)), m.end, {}});
  }
  const auto chosen = choose_log(epoch_, logs, {}, static_cast<size_t>(options_.rules.adopt));
  if (!chosen) {  // somebody has claimed, and appended, since these sites promised
    for (const auto& log : logs) {
      highest_seen_ = std::max(highest_seen_, log.end().epoch.number);
    }
    return choose_epoch();
  }
  source_ = static_cast<size_t>(logs[chosen.value().source].site);
  adopted_ = last_ = logs[chosen.value().source].end();
  for (Member& m : members_) {
    if (m.stage != Stage::checked || m.end != adopted_) continue;
    m.has_log = true;
    m.has = adopted_;
    if (m.floor < members_[source_].floor) source_ = index(m);
  }
  adopted_floor_ = std::min(members_[source_].floor, adopted_.sequence + 1);
  kept_.start(adopted_.sequence + 1);
  phase_ = Phase::ready;
}

std::vector<size_t> QuorumEngine::holders() const {
  std::vector<size_t> out{source_};
  for (size_t i = 0; i < members_.size(); ++i) {
    if (i != source_ && members_[i].has_log) out.push_back(i);
  }
  return out;
}

void QuorumEngine::rewind(const LogPosition& to) {
  adopted_ = last_ = to;
  kept_.start(to.sequence + 1);
  for (Member& m : members_) {
    if (m.has_log) m.has = to;
  }
}

void QuorumEngine::pause(Member& m, const Error& error, MonotonicTime now) {
  m.error = error;
  m.retry_at = now + kFirstPause * (1U << std::min(m.failures, kPauseDoublings));
  ++m.failures;
  m.staged.clear();
  release(m);
}

void QuorumEngine::release(const Member& m) {
  if (reads_back_ == index(m)) reads_back_.reset();
}

// Whether it owes an answer for longer than that.
bool QuorumEngine::silent(const Member& m, Duration patience, MonotonicTime now) {
  const bool appends = !m.window.empty() && now - m.window.front().at > patience;
  return appends || (m.busy && now - m.called_at > patience);
}

void QuorumEngine::got_on(Member& m) {
  m.failures = 0;
  m.error.reset();
  ++progress_;
}

void QuorumEngine::lost(Member& m) {
  m.stage = Stage::sealed;
  m.counts = m.has_log = false;
  m.error = Error(Errc::revoked, "has left the journal");
  release(m);
  const size_t left = members_.size() - count({Stage::sealed});
  if (left >= static_cast<size_t>(std::max(options_.rules.commit, options_.rules.adopt))) return;
  end(Error(Errc::revoked,
            "only " + std::to_string(left) + " sites of this journal have not left it, " +
                std::to_string(options_.rules.commit) + " are needed: it has moved to others"));
}

void QuorumEngine::end(Error error) {
  if (!over_) over_ = std::move(error);
}

size_t QuorumEngine::count(std::initializer_list<Stage> stages) const {
  return static_cast<size_t>(std::count_if(members_.begin(), members_.end(), [&](const Member& m) {
    return std::find(stages.begin(), stages.end(), m.stage) != stages.end();
  }));
}

MemberState QuorumEngine::state(size_t member, MonotonicTime now) const {
  const Member& m = members_[member];
  MemberState out;
  out.name = name(m);
  out.acknowledged = m.counts || m.has_log ? m.has.sequence : 0;
  const bool hangs = silent(m, kSilence, now);
  const bool near = m.sent.sequence + 1 >= kept_.first() && m.staged.empty() &&
                    kept_.bytes_after(m.has.sequence) <= kBatchBytesMax;
  if (m.stage == Stage::sealed) {
    out.state = MemberState::State::sealed;
  } else if (m.error || hangs) {
    out.state = MemberState::State::away;
  } else if (m.stage == Stage::checked && !m.search && phase_ != Phase::leading) {
    out.state = m.has_log ? MemberState::State::ok : MemberState::State::behind;
  } else if (m.stage == Stage::begun && near) {
    out.state = MemberState::State::ok;
  } else {
    out.state = m.stage == Stage::unseen ? MemberState::State::away : MemberState::State::behind;
  }
  if (m.error) out.reason = m.error->message();
  if (!m.error && hangs) out.reason = "does not answer";
  if (!m.error && m.stage == Stage::unseen) out.reason = "has not answered yet";
  return out;
}

}  // namespace datacloud::journal
