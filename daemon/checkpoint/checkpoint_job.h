// Makes checkpoints of the metadata, retires old ones, and lets the journal forget what they cover.
//
// A checkpoint is made when the journal has grown by half of what it may have since the last one,
// on request, when there is none, and when the last one lies at a site that leaves. Writers are not
// stopped: the records are read from a snapshot, on a thread of the job's own, and no faster than
// bytes_per_second.
//
// Kept are the newest checkpoint and the one before it, so that `datacloud recover --to` has a
// window; and the newest that survives as many losses as wanted, when neither of them does (sites
// were away), unless the journal is full. The journal keeps every entry behind the oldest of them:
// the floor is raised only when a newer root is committed. An own record of each (CheckpointRecord)
// is durable before the first object is put and goes when the last is removed, so that a crash
// leaves nothing behind that nobody knows of.
//
// Thread: the loop's only. The destructor ends a checkpoint that is being made and waits for it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/crypto/keys.h"
#include "common/proto/checkpoint.pb.h"
#include "common/proto/journal.pb.h"
#include "common/site/site_set.h"
#include "daemon/journal/log_position.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

// What the job needs of the journal. Used on the loop only.
class CheckpointJournal {
 public:
  virtual ~CheckpointJournal() = default;
  // Appends an entry of kind root with this content. `done` runs on the loop once a quorum has it,
  // or never (the daemon ends).
  virtual void append_root(Bytes content, std::function<void()> done) = 0;
  // Entries below `floor` are not needed any more.
  virtual void trim(uint64_t floor) = 0;
  // Bytes of entries: of those that were there at the start of the daemon and of all that it has
  // appended. Only grows, but for errors of an estimate.
  virtual uint64_t bytes() const = 0;
  // The journal is meant to hold no more. A checkpoint is made at half of it.
  virtual uint64_t bytes_max() const = 0;
};

struct CheckpointJobOptions {
  journal::JournalId journal{};
  SecretKey metadata_key;
  std::shared_ptr<const ErasureCode> code;
  int losses = 0;                                  // f: sites that it should survive the loss of
  uint64_t bytes_per_second = uint64_t{64} << 20;  // of records
  // Whether a site is to have parts of new ones, asked on the loop; empty: all are.
  std::function<bool(SiteId)> takes = {};
  Duration look = seconds(1);    // how often the journal's growth is looked at
  Duration retry = seconds(30);  // after a failure
  // One is made when the newest is older, by the wall clock, and the journal has grown since.
  Duration age_max = std::chrono::hours(7 * 24);
};

struct CheckpointProgress {
  bool running = false;
  std::string failure;                         // of the last attempt; empty: it succeeded
  std::optional<pb::CheckpointRecord> newest;  // that is whole
  uint64_t made = 0;                           // since the start
  uint64_t failed = 0;
};

class CheckpointJob {
 public:
  CheckpointJob(MetadataStore&, Committer&, SiteSet&, std::shared_ptr<EventLoop>,
                CheckpointJournal&, CheckpointJobOptions);
  ~CheckpointJob();

  // Reads the records of checkpoints and begins to look. Once.
  result<void> start();
  // Makes one now, or after the one that is being made. `done` may be null; it is given the record
  // of the new checkpoint once its root is committed, or the failure.
  void request(const std::string& reason,
               std::function<void(result<pb::CheckpointRecord>)> done = {});
  // A site has come back, or left: what was not put there is made up for.
  void on_site_change();
  CheckpointProgress progress() const;
  // Those that are whole and not retiring, by number.
  std::vector<uint64_t> kept() const;
  // While one is held its objects are not removed. False: it is not kept (any more). Held ones are
  // few: the caller lets each go.
  bool hold(uint64_t number);
  void let_go(uint64_t number);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace datacloud
