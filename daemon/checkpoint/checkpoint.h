// Checkpoints of the metadata at the sites: all records as of one position of the journal, from
// which, with the journal's entries behind it, the metadata is rebuilt when the daemon's machine is
// lost. docs/journal.md, "Checkpoint".
//
// A checkpoint is a sequence of pieces. A piece is some records in the order of their keys,
// compressed, sealed, and erasure coded; its columns are objects at the sites whose names no
// listing shows (common/store/hidden_names.h). The root says how many pieces there are, where their
// columns lie and what their hashes are. It is kept in the journal; nothing at the sites counts
// without it.
//
// A column that was damaged, or that a site lies about, is found by its hash, and others are used.
//
// Memory: some pieces of at most kCheckpointPieceBytesMax and their columns, whatever the size of
// the metadata. Threading: the functions here block, and may be used from any thread, several at a
// time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/crypto/keys.h"
#include "common/proto/checkpoint.pb.h"
#include "common/proto/journal.pb.h"
#include "common/site/site_set.h"
#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/journal/log_position.h"
#include "daemon/metadata/record_snapshot.h"

namespace datacloud {

inline constexpr size_t kCheckpointPieceBytesMax = size_t{8} << 20;  // of records, and sealed
inline constexpr size_t kCheckpointRootBytesMax = size_t{3} << 20;   // it has to fit into an entry

struct CheckpointPlace {
  SecretKey metadata_key;  // entry_sealer.h
  journal::JournalId journal{};
  SiteSet& sites;
  Duration deadline = seconds(30);  // of one call at a site
  // Asked between pieces; true: give up (Errc::unavailable).
  std::function<bool()> stop = {};
};

struct CheckpointWrite {
  uint64_t number = 0;  // random, not 0: names its objects and is part of its key
  std::shared_ptr<const ErasureCode> code;
  // Over which the columns go, in this order; those that are away are replaced by others of them.
  std::vector<SiteId> over;
  int losses = 0;                 // of sites that it should survive
  uint64_t bytes_per_second = 0;  // of records read; 0: as fast as it goes
};

struct WrittenCheckpoint {
  pb::CheckpointRoot root;
  // Fewer than were asked for when sites were away: what could not go to its own site was put at
  // another one as far as there are any. Never below 0.
  int losses_survived = 0;
  bool scattered = false;             // some column was tried elsewhere than where it would be
  std::vector<std::string> problems;  // sites that failed, each with the reason
  uint64_t bytes = 0;                 // put at the sites
};

// Writes all records of the snapshot but those of its own directory alone: what undoes (prefix 'u')
// and "journal_position", which becomes the root's. It must hold that one and "sequence". Success:
// every column that the root gives a site for is durable there, and the checkpoint can be read if
// no site is lost. unavailable: too few sites took columns; what was put has to be removed by
// remove_checkpoint().
result<WrittenCheckpoint> write_checkpoint(const RecordSnapshot&, const CheckpointPlace&,
                                           const CheckpointWrite&);

struct CheckpointReading {
  uint64_t records = 0;
  uint64_t bytes = 0;                 // of records
  uint64_t bytes_read = 0;            // at the sites
  std::vector<std::string> problems;  // columns that were missing or damaged; a bounded number
};

// Hands every record to `visit`, in the order of the keys; views hold until it returns. A failure
// of `visit` ends the reading and is passed on. unavailable: a piece can be put together from no
// columns that are there and whole; the text says which are missing and where. corrupt: what the
// root names is not what was written (the key is another cloud's).
using RecordVisitor = std::function<result<void>(std::string_view key, std::string_view value)>;
result<CheckpointReading> read_checkpoint(const pb::CheckpointRoot&, const CheckpointPlace&,
                                          const RecordVisitor& visit,
                                          const std::function<void(size_t piece)>& progress = {});
// The records of the first piece alone: those about the cloud are there.
result<CheckpointReading> read_checkpoint_start(const pb::CheckpointRoot&, const CheckpointPlace&,
                                                const RecordVisitor& visit);

// What a checkpoint is worth now: every column is read and compared with its hash.
struct CheckpointHealth {
  uint64_t columns = 0;
  uint64_t missing = 0;               // never put, not there, or the site is away
  uint64_t damaged = 0;               // there, but not what was written
  int losses_survived = 0;            // of sites, from now on; -1: it cannot be read
  std::vector<std::string> problems;  // a bounded number
};
result<CheckpointHealth> verify_checkpoint(const pb::CheckpointRoot&, const CheckpointPlace&);

// Removes a checkpoint's objects, also of one whose writing was cut off. Success: none is left at
// sites of the set. A site that is away makes it fail (away); then it is called again later.
result<void> remove_checkpoint(const pb::CheckpointRecord&, const CheckpointPlace&);

// A fresh number. io: no random bytes.
result<uint64_t> random_checkpoint_number();
// Sites any of which may be lost, by the number of columns that each of them has and how many
// columns may be lost.
int survived_losses(std::vector<int> columns_of_sites, int tolerance);

}  // namespace datacloud
