// The metadata half of fsck: do all records agree with each other? Any number of files in bounded
// memory, on any thread, while the daemon goes on.
//
// The check reads one snapshot in several passes over sorted keys (record_passes.h), so that what
// it says was true at one moment. A finding carries what mends it as changes that apply only where
// the records are still as they were found. Nothing with contents is ever removed: what has no name
// is linked into /lost+found, and every record that is erased or replaced is kept under 'Z' and its
// old key (quarantine). Some damage hides other damage: after mending one checks again, until
// nothing that can be mended is left.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/record_snapshot.h"
#include "daemon/metadata/totals.h"

namespace datacloud {

struct RecordChange {
  std::string key;
  std::optional<std::string> was;      // it applies only while this is so; nullopt: no record
  std::optional<std::string> becomes;  // nullopt: it is erased
};

struct InodeChange {
  enum class Field { links, attributes, next_cookie, parent, blocks, reserved, tree };
  InodeId ino = 0;
  Field field = Field::links;
  uint64_t was = 0, becomes = 0;
};

struct Finding {
  const char* kind =
      "";  // "namespace", "block-map", "stripe", "ids", "journal": docs/operations.md
  std::string text;
  std::string action;  // what mends it; empty: nothing does without losing something
  std::vector<RecordChange> records;
  std::vector<InodeChange> inodes;
  InodeId nameless = 0;          // to be linked into /lost+found
  StripeId requeue = 0;          // to be put into the repair queue
  StripeId kept = 0;             // whose objects are kept though no record names them
  std::optional<Totals> off_by;  // added to the totals, modulo 2^64
  bool offline_only = false;     // a running daemon holds a copy of it in memory
};

struct RecordCheckLimits {
  size_t table_inodes = 1u << 20;  // counted at a time: 40 bytes each
  size_t buckets = 1u << 16;       // of the sums that compare runs with the reverse map
  size_t findings_max = 10'000;    // told; more are counted
};

struct RecordCheckProgress {
  std::atomic<uint64_t> records{0};   // read, in all passes
  std::atomic<uint64_t> expected{0};  // a rough estimate of all of it
  std::atomic<const char*> phase{""};
  std::atomic<bool> stop{false};
};

struct RecordCheckReport {
  std::vector<Finding> findings;
  uint64_t findings_total = 0;
  bool lost_stripes = false;  // runs name stripes without a record: nothing at the sites may go
  uint64_t blocks_lost = 0;   // mapped, and known to be lost
};

// unavailable: `progress.stop` was set. corrupt, io: the store cannot be read.
result<RecordCheckReport> check_records(const RecordSnapshot&, const RecordCheckLimits&,
                                        RecordCheckProgress&);

// On the store's thread. Puts what mends the finding into the transaction. Otherwise says why not,
// and leaves the transaction alone. `new_ino` gives the id of /lost+found, if it must be made.
result<std::optional<std::string>> mend_finding(Transaction&, const Finding&,
                                                const std::function<InodeId()>& new_ino);

}  // namespace datacloud
