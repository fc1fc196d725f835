// The decisions of a QuorumLog, as a state machine: which call of which site's log comes next, and
// what answers mean. No thread, no clock, no I/O: quorum_log.cc drives it with threads, tests drive
// it through schedules of their own.
//
// Members' states (docs/journal.md, steps 1 to 7), in the order in which they are passed:
//
//   unseen -head-> seen -claim-> promised -read-> checked          the epoch is not adopted yet
//   seen -claim-> promised -reads: what is in common-> promised -begin-> begun -> append, append,
//   ... seen -claim-> promised: begun already -> unsettled begun -an append failed-> unsettled
//   -settle-> begun any -unknown outcome-> seen, after a pause     any -stale-> doubtful -head->
//   seen, or the end
//
// Invariants: an entry is sent to a site only behind the entry before it; a site's acknowledgement
// is what it answered ok or showed when it was settled; only entries at or above the own opening
// are committed by counting.
//
// Threading: one thread at a time.
#pragma once

#include <deque>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "daemon/journal/common_search.h"
#include "daemon/journal/kept_entries.h"
#include "daemon/journal/log_store.h"
#include "daemon/journal/quorum_log.h"
#include "daemon/journal/quorum_rules.h"

namespace datacloud::journal {

// One call of one site's LogStore.
struct LogRequest {
  enum class Kind { head, claim, read, begin, append, settle, trim };
  Kind kind = Kind::head;
  size_t member = 0;    // whom the answer concerns
  size_t store = 0;     // whose log is called: for reads, another's too
  uint64_t number = 0;  // of the call
  Epoch epoch;
  LogPosition base;  // begin
  Base where = Base::in_log;
  uint64_t from = 0;  // read
  size_t bytes_max = 0;
  uint64_t floor = 0;             // trim
  std::vector<LogEntry> entries;  // append
};

struct LogReply {
  LogHead head;                   // head, claim, settle
  std::vector<LogEntry> entries;  // read
};

struct EngineOptions {
  JournalId journal{};
  std::vector<std::string> names;  // of the members, for texts
  QuorumRules rules;
  uint64_t kept_bytes_max = uint64_t{64} << 20;
  // While an append is under way at a site, fewer bytes than that wait for the next: together they
  // are one append.
  uint64_t pipeline_bytes_min = uint64_t{64} << 10;
  std::function<uint64_t()> nonce;  // random
};

class QuorumEngine {
 public:
  explicit QuorumEngine(EngineOptions);
  virtual ~QuorumEngine() = default;

  // The next call for this member, to be made and answered. Appends are answered later, several
  // are under way; of other calls one at a time.
  std::optional<LogRequest> next(size_t member, MonotonicTime now);
  // When time alone gives next() something to say.
  MonotonicTime wake_at(size_t member) const { return members_[member].retry_at; }
  void answer(const LogRequest&, result<LogReply>, MonotonicTime now);

  const Epoch& epoch() const { return epoch_; }
  bool adopted() const { return phase_ != Phase::claiming; }
  const LogPosition& adopted_end() const { return adopted_; }
  uint64_t floor() const { return adopted_floor_; }
  // Members whose log is, or has, the adopted one; the source first. Before begin().
  std::vector<size_t> holders() const;
  void rewind(const LogPosition&);  // to a position in the adopted log

  void begin(const LogEntry& opening);
  void append(LogEntry);
  void trim(uint64_t floor);
  // What the member has acknowledged was read back, and is not all there. True: its log begins anew
  // at the floor, and it is fed all of it. False: too few others have what is committed, or it is
  // not at work; then it is only asked once more where its log ends.
  bool rewrite(size_t member);

  const LogPosition& committed() const { return committed_; }
  const LogPosition& last() const { return last_; }
  uint64_t uncommitted_bytes() const { return kept_.bytes_after(committed_.sequence); }
  // Why the leadership is lost, once it is.
  const std::optional<Error>& over() const { return over_; }
  // Grows whenever a site has got on.
  uint64_t progress() const { return progress_; }
  // Whether next() has an append for this member: cheap, for who would wake it.
  bool takes_append(size_t member) const;
  // What next() would give, if that is an append of new entries of at most so many bytes.
  std::optional<LogRequest> next_append(size_t member, uint64_t bytes_max, MonotonicTime now);
  // Whether a site is fed from another's log, so that one more append may be another's turn.
  bool reads_back() const { return reads_back_.has_value(); }
  MemberState state(size_t member, MonotonicTime now) const;
  // Its last failure, until it gets on.
  const std::optional<Error>& trouble(size_t member) const { return members_[member].error; }
  const std::string& name(size_t member) const { return options_.names[member]; }

 protected:
  // The lowest sequence that is committed by counting: an older entry never is, for a later claim
  // may not see its copies.
  virtual uint64_t counted_from() const { return opening_; }
  // Whether what is committed survives that this member has none of it.
  virtual bool spares(size_t member) const;

 private:
  enum class Phase { claiming, ready, leading };
  enum class Stage { unseen, seen, promised, checked, begun, unsettled, doubtful, sealed };
  struct Sent {
    uint64_t number;
    LogPosition last;
    uint64_t bytes;
    MonotonicTime at;
  };
  struct Member {
    Stage stage = Stage::unseen;
    bool busy = false;  // a call other than an append is under way
    MonotonicTime called_at{};
    LogHead head;
    LogPosition end;       // of its log, before it is begun
    bool has_log = false;  // `has` is a position of this log, and the site has all up to there
    bool counts = false;   // begun by this epoch: `has` is acknowledged
    LogPosition has;       // the last entry it is known to have
    LogPosition sent;      // the last entry it was sent
    uint64_t floor = 1;    // of what it has
    uint64_t batch_bytes_max = kBatchBytesMax;  // less where segments are small
    std::deque<Sent> window;                    // appends under way
    std::deque<LogEntry> staged;                // read from another site for this one
    // Where its log and this one part.
    std::optional<CommonSearch> search;
    bool settled = false;  // begun before: `end` is what settling showed
    bool resumes = false;  // settled: only whether `end` is in this log
    bool anew = false;     // begins behind a checkpoint, whatever its log has
    uint64_t compared_at = 0;
    std::optional<LogPosition> ours, theirs;  // at compared_at
    bool theirs_exact = false;                // the epoch too
    std::optional<LogPosition> found;         // at search->common()
    bool found_exact = false;                 // as their log has it
    bool reads_ours = false;                  // what the read under way is for
    unsigned failures = 0;                    // since it last got on
    std::optional<Error> error;
    MonotonicTime retry_at{};
    MonotonicTime source_at{};  // before that nothing is read here for others
    MonotonicTime trim_at{};
  };

  // quorum_engine.cc: claim, failures.
  LogRequest call(LogRequest::Kind, size_t member);
  std::optional<LogRequest> next_call(size_t member, MonotonicTime now);
  void succeeded(const LogRequest&, LogReply, MonotonicTime now);
  void failed(const LogRequest&, const Error&, MonotonicTime now);
  void seen(Member&, const LogHead&);
  void doubted(Member&, const LogHead&, MonotonicTime now);
  void claimed(Member&, const LogHead&);
  void checked(Member&, const LogRequest&, const std::vector<LogEntry>&, MonotonicTime now);
  void choose_epoch();
  void choose_adoption();
  void pause(Member&, const Error&, MonotonicTime now);
  void got_on(Member&);
  void lost(Member&);
  void end(Error);
  const std::string& name(const Member& m) const { return options_.names[index(m)]; }
  size_t index(const Member& m) const { return static_cast<size_t>(&m - members_.data()); }
  size_t count(std::initializer_list<Stage>) const;
  void release(const Member&);
  static bool silent(const Member&, Duration, MonotonicTime now);
  // quorum_engine_begin.cc: where sites begin, and from whom entries are read back.
  std::optional<LogRequest> begin_call(size_t member, MonotonicTime now);
  std::optional<LogRequest> begin_at_floor(size_t member, MonotonicTime now);
  std::optional<LogRequest> look_up_ours(size_t member, uint64_t at, MonotonicTime now);
  std::optional<LogRequest> look_up_theirs(size_t member, uint64_t at);
  bool start_search(Member&, MonotonicTime now);
  std::optional<LogPosition> known(uint64_t sequence) const;
  void looked_up(Member&, const LogRequest&, const std::vector<LogEntry>&, MonotonicTime now);
  void settled(Member&, const LogHead&);
  void begun(Member&, const LogPosition&, Base);
  std::optional<size_t> source_of(uint64_t sequence, size_t asker, MonotonicTime now) const;
  std::optional<uint64_t> readable_floor(MonotonicTime now) const;
  // quorum_engine_feed.cc: appends, commits, trim.
  std::optional<LogRequest> feed_call(size_t member, MonotonicTime now);
  bool trim_due(size_t member, MonotonicTime now) const;
  std::optional<LogRequest> trim_call(size_t member, MonotonicTime now);
  std::optional<LogRequest> read_back(size_t member, MonotonicTime now);
  void staged(Member&, const LogRequest&, std::vector<LogEntry>, MonotonicTime now);
  void appended(const LogRequest&, const result<LogReply>&, MonotonicTime now);
  void count_commits();

  const EngineOptions options_;
  std::vector<Member> members_;
  Phase phase_ = Phase::claiming;
  Epoch epoch_;
  uint64_t highest_seen_ = 0;  // number of an epoch
  uint64_t calls_ = 0, progress_ = 0;
  size_t source_ = 0;
  LogPosition adopted_;
  uint64_t adopted_floor_ = 1;
  uint64_t opening_ = 0;
  LogPosition last_, committed_;
  KeptEntries kept_;
  uint64_t floor_ = 1;                // asked for by trim()
  std::optional<size_t> trims_;       // the member that trims: one at a time
  std::optional<size_t> reads_back_;  // the member that is fed from another's log: one at a time
  std::optional<Error> over_;
};

}  // namespace datacloud::journal
