// One epoch's leadership over the sites of the journal: steps 1 to 7 of docs/journal.md.
//
// claim() -> read() what was adopted -> begin() with the opening entry -> append(). Each site is
// kept by a thread of its own: sites that are away, behind, emptied of entries or put back from a
// backup are caught up when they answer, and what timed out is settled. An entry is committed when
// a quorum of the sites has answered ok.
//
// Failures after claim(): a site's failure is that site's state (members()), never the log's. The
// log as a whole fails once, when another leader has claimed (stale) or when too many sites were
// sealed (revoked): `fenced` is called, all that waits is answered with the error, and nothing is
// sent any more. Entries not committed by then may or may not be in the log that is adopted next.
//
// Threading: all methods from any thread, but claim, read, rewind and begin one after another.
// append, when_committed, trim, committed, uncommitted_bytes and members return at once. Callbacks
// run one at a time on a thread of the log, with no lock held; they must not block for long and
// must not destroy the log. Destruction answers what waits with `unavailable`, and takes as long as
// the sites' calls under way.
//
// Memory: kept_bytes_max of committed entries, all uncommitted ones (bound them by
// uncommitted_bytes()), and 16 MiB while a site is caught up from another site's log.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "daemon/journal/log_store.h"
#include "daemon/journal/quorum_rules.h"

namespace datacloud::journal {

struct JournalMember {
  int site = 0;
  std::string name;
  std::shared_ptr<LogStore> log;  // destroyed with the QuorumLog, unless others hold it
};

struct MemberState {
  enum class State {
    ok,      // has what it was sent, or will in a moment
    behind,  // is being caught up
    away,    // does not answer, or its log is damaged: tried again by itself
    sealed   // has left the journal
  };
  int site = 0;
  std::string name;
  State state = State::away;
  uint64_t acknowledged = 0;  // sequence up to which the site has this log
  std::string reason;         // why it is not ok
};
const char* member_state_text(MemberState::State);  // "ok", ...

struct QuorumLogOptions {
  JournalId journal{};
  std::vector<JournalMember> members;  // 1 to kJournalSitesMax
  QuorumRules rules;                   // of as many sites
  // For claim(), and for begin() while no site makes progress.
  Duration claim_deadline = seconds(30);
  // Committed entries kept in memory for sites that are behind; others are read back from a site.
  uint64_t kept_bytes_max = uint64_t{64} << 20;
  // Called at most once, when the leadership is lost.
  std::function<void(const Error&)> fenced;
  // Asked a few times a second while claim() and begin() wait: true ends them with `unavailable`.
  std::function<bool()> cancelled;
};

class QuorumLog {
 public:
  // Claims a new epoch at S - q + 1 sites and adopts the log. Blocks, up to the deadline while
  // sites are away. unavailable: too few sites answered, which the text names.
  static result<std::unique_ptr<QuorumLog>> claim(QuorumLogOptions);
  virtual ~QuorumLog() = default;

  virtual const Epoch& epoch() const = 0;
  // The end of the adopted log (after rewind: what that left). Sequence 0: the log is empty.
  virtual LogPosition adopted() const = 0;
  // The lowest sequence of the adopted log that can be read. adopted().sequence + 1: none.
  virtual uint64_t floor() const = 0;

  // Whether the adopted log has, or went on behind, this position. Its hash and sequence count.
  // True for the position before the floor. Blocks. not_found: it is below that.
  virtual result<bool> contains(const LogPosition&) = 0;

  // The adopted log's entries from a sequence on, in order, up to adopted(). Blocks; entries come
  // one at a time, so that memory is bounded. Ends with the first failure of `sink`. Another site
  // that has the same log is asked when one fails. not_found: `from` is below the floor.
  // Before begin() only.
  virtual result<void> read(uint64_t from,
                            const std::function<result<void>(const LogEntry&)>& sink) = 0;

  // Before begin: goes on behind an earlier entry. All later ones are superseded, although they may
  // have been committed: only for an operator who wants an earlier state back. Blocks.
  // invalid: it is not in the adopted log.
  virtual result<void> rewind(const LogPosition&) = 0;

  // Goes on behind adopted() with this entry, of kind opening and of this epoch, at every site that
  // can. Returns when it is committed, and with it all that was adopted. unavailable: for the
  // claim's deadline no site got on; destroy the log and claim again. stale: fenced.
  virtual result<void> begin(const LogEntry& opening) = 0;

  // The next entry. It must continue the log: anything else is a bug and ends the program. Never
  // blocks. Ignored once fenced.
  virtual void append(LogEntry) = 0;
  // Several, in order. Few bytes are given to the stores of the sites by this call, more by the
  // sites' threads, which are woken once.
  virtual void append_all(std::vector<LogEntry> entries) {
    for (auto& entry : entries) append(std::move(entry));
  }

  virtual LogPosition committed() const = 0;
  // Called when the entry of this sequence is committed, in the order of sequences; those of one
  // sequence in the order of the calls. An error: fenced, or the log is destroyed. Never called
  // from within this call.
  virtual void when_committed(uint64_t sequence, std::function<void(result<void>)>) = 0;
  // Of entries appended and not committed.
  virtual uint64_t uncommitted_bytes() const = 0;

  // Entries below `floor` are covered by a checkpoint that is whole at the sites: they go, site by
  // site, as sites have them all. Never lowers the floor; at most committed + 1 counts.
  virtual void trim(uint64_t floor) = 0;

  virtual std::vector<MemberState> members() const = 0;

  // The log of a site, to be read; null: there is none.
  virtual std::shared_ptr<LogStore> log_at(int /*site*/) const { return nullptr; }
  // What the site has acknowledged was read back, and is not all there. True: its log begins anew,
  // and it is fed from the others; members() tells when it has all again. False: too few others
  // have what is committed, so nothing is taken away from it.
  virtual bool rewrite(int /*site*/) { return false; }
};

}  // namespace datacloud::journal
