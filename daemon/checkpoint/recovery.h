// Rebuilding the metadata from the sites alone: what `datacloud recover` does. docs/journal.md,
// "Recovery".
//
// survey_journal() only reads, and may run while a daemon leads. load_metadata() writes nothing but
// the new directory, which counts once it has been renamed (adopt_directory); after a crash before,
// it is begun anew.
//
// Threading: the functions block; one thread. Memory: 32 MiB of entries, and what a checkpoint
// takes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/base/file_layer.h"
#include "common/base/ids.h"
#include "common/proto/journal.pb.h"
#include "common/proto/records.pb.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/journal/log_store.h"
#include "daemon/journal/quorum_rules.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/totals.h"

namespace datacloud {

// A site that may have a log.
struct RecoverySource {
  SiteId site = 0;
  std::string name;
  std::shared_ptr<journal::LogStore> log;  // null: it cannot be asked
  std::string obstacle;                    // then the reason
};

struct SurveyedSite {
  SiteId site = 0;
  std::string name;
  bool answered = false;  // with a log of this journal that has entries and is not sealed
  std::string reason;     // otherwise
  journal::LogHead head;
  bool in_set = false;  // the journal counts on it
};

struct FoundRoot {
  uint64_t entry = 0;    // where the log has it
  uint64_t covered = 0;  // the last entry that is in the checkpoint
  pb::CheckpointRoot root;
};

struct Survey {
  std::vector<SurveyedSite> sites;  // as the sources
  size_t source = 0;                // whose log is taken: the one that ends last
  uint64_t floor = 0;
  journal::LogPosition end;
  uint64_t committed = 0;        // up to here the log itself says that a quorum had it
  uint64_t bytes = 0;            // of its entries
  std::vector<FoundRoot> roots;  // the newest first
  // As the newest checkpoint that can be read has them.
  pb::Cloud cloud;
  pb::JournalSet set;
  Totals totals;
  journal::QuorumRules rules;
  size_t answered = 0;  // of the set

  // Sites of the set that are missing, with the reasons; for texts.
  std::string describe_missing() const;
  bool enough() const { return answered >= static_cast<size_t>(rules.adopt); }
  // The newest checkpoint from which this entry can be reached.
  const FoundRoot* root_for(uint64_t sequence) const;
  // The lowest entry that can be recovered.
  uint64_t oldest() const;
};

// Asks all sources, reads the log that ends last to its end, checking the chain and every seal, and
// reads the beginning of a checkpoint. `only`: that site's log is taken, whatever others have.
// not_found: no site that answers has entries, or no root is there yet: nothing can be recovered.
// unavailable: a checkpoint is known and none can be read.
result<Survey> survey_journal(const std::vector<RecoverySource>&, const CheckpointPlace&,
                              std::optional<SiteId> only = {});

// How far it is; for a bar.
using RecoveryProgress = std::function<void(const std::string& what, uint64_t done, uint64_t all)>;

struct Recovered {
  uint64_t checkpoint = 0;  // its number
  uint64_t covered = 0;     // its last entry
  uint64_t records = 0;     // of the checkpoint
  uint64_t transactions = 0;
  journal::LogPosition position;  // of the store: where the last whole transaction ends
  pb::JournalSet set;             // in force there
  std::vector<std::string>
      problems;  // that did not matter: columns, checkpoints that were passed over
};

// Makes `options.directory` from the newest checkpoint that can be read and the entries behind it,
// up to `to` (none: all); what an earlier attempt has left there is removed. When a checkpoint
// cannot be read the one before it is taken. not_found: `to` is outside of what the log has.
result<Recovered> load_metadata(const Survey&, const std::vector<RecoverySource>&,
                                const CheckpointPlace&, const MetadataStore::Options& options,
                                std::optional<uint64_t> to, const RecoveryProgress& progress);

// What has to be changed in a store that goes back to an earlier state, or that may lack what
// others were told: ids jump, so that none is given out twice, and checkpoints of what is given up
// are retired. With `set`, this is the journal's set from now on.
result<void> adapt_metadata(const MetadataStore::Options& options, const Survey&,
                            const std::optional<pb::JournalSet>& set);

// The directory under another name is removed, if an earlier attempt has left it.
result<void> clear_directory(FileLayer&, const std::string& directory);
// `made` becomes `directory`, which must not be there, durably.
result<void> adopt_directory(FileLayer&, const std::string& made, const std::string& directory);

}  // namespace datacloud
