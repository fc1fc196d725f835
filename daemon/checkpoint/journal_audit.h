// The audit of the journal: every entry and every column of kept checkpoints is read back from each
// site in a cycle and proven; what is missing or damaged is repaired where the protocol allows it
// (docs/journal.md, "The audit of the journal").
//
// Runs on the loop; each piece that is read is one job on another thread (`run`). Bounded: one
// piece of 1 MiB of a log, or of a checkpoint with its columns, in memory; findings that are told
// are at most kFindingsMax. Where it is, is a record, saved every minute and whenever a site or a
// checkpoint is done, so that another leader goes on from there.
//
// Thread: the loop's only. It must outlive the jobs that it has given to `run`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/crypto/keys.h"
#include "common/proto/checkpoint.pb.h"
#include "common/proto/journal.pb.h"
#include "common/site/site_set.h"
#include "daemon/checkpoint/checkpoint_job.h"
#include "daemon/checkpoint/checkpoint_pieces_read.h"
#include "daemon/journal/log_walk.h"
#include "daemon/journal/quorum_log.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr char kJournalAuditRecord[] = "journal_audit";  // 'A': pb::JournalAuditState
// Whether a record can be one that an audit has written.
bool valid_journal_audit(const pb::JournalAuditState&);

struct JournalAuditOptions {
  journal::JournalId journal{};
  SecretKey metadata_key;
  Duration cycle = Duration::zero();  // from the end of one to the next; zero: only when asked for
  uint64_t bytes_per_second_max = 0;  // 0: no limit
  size_t piece_bytes = size_t{1} << 20;
  Duration look = seconds(1);         // how often it is looked whether one is due
  Duration poll = milliseconds(100);  // of a site that is being caught up
  Duration patience = seconds(60);    // with one that does not get on
  Duration save = seconds(60);
  // Runs the first on another thread, then the second on the loop.
  std::function<void(std::function<void()>, std::function<void()>)> run;
};

class JournalAudit {
 public:
  static constexpr int kFindingsMax = 20;

  // What is referred to must outlive it.
  JournalAudit(MetadataStore&, Committer&, SiteSet&, std::shared_ptr<EventLoop>,
               journal::QuorumLog&, CheckpointJob&, JournalAuditOptions);
  ~JournalAudit();

  // Reads the record and begins to look. Once.
  result<void> start();
  // Begins a cycle now, or joins the one under way; `done` runs when it is over. It is not paced.
  void request(std::function<void()> done);
  void describe(pb::JournalAudit&) const;

 private:
  std::function<void()> here(std::function<void(JournalAudit&)> f);
  void look();
  void begin();
  void step();
  void step_after(Duration);
  // The log of the first site that is left.
  void walk_site();
  void walk();
  void walked(const result<journal::WalkedPiece>&);
  void note_roots(const std::vector<journal::LogEntry>&);
  void found_wrong(const std::string& how);
  bool waits_for_site(const journal::MemberState&);
  void site_over();
  // The first checkpoint that is left.
  void check_checkpoint();
  void read_root();
  void root_read(result<pb::CheckpointRoot>);
  void mend();
  void mended(const result<MendedPiece>&);
  void checkpoint_over();
  void end();

  void note_finding(uint32_t site, const std::string& text, bool repaired);
  void ask_for_checkpoint(const std::string& why);
  void save(bool at_once);
  Duration pause_after(uint64_t bytes) const;
  const journal::MemberState* member(uint32_t site);

  MetadataStore& store_;
  Committer& committer_;
  SiteSet& sites_;
  const std::shared_ptr<EventLoop> loop_;
  journal::QuorumLog& log_;
  CheckpointJob& checkpoints_;
  const JournalAuditOptions options_;
  const std::shared_ptr<char> alive_ = std::make_shared<char>();

  pb::JournalAuditState state_;
  std::vector<journal::MemberState> members_;
  MonotonicTime started_{}, saved_{};
  bool running_ = false;
  bool asked_ = false;                 // the cycle under way is not paced
  bool asked_for_checkpoint_ = false;  // in this cycle
  std::vector<std::function<void()>> waiting_;

  // Of the site whose log is being read.
  std::optional<journal::LogWalk> walk_;
  bool resumed_ = false;  // the walk goes on from the record: the log may be another since
  std::string wrong_;     // what was found there; it was tried to repair that
  MonotonicTime patience_end_{};
  uint64_t waited_at_ = 0;  // what the site had then
  // Of the checkpoint that is being read.
  std::shared_ptr<pb::CheckpointRoot> root_;
};

}  // namespace datacloud
