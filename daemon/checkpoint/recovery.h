// Rebuilding the metadata from the sites alone: what `datacloud recover` does. docs/journal.md,
// "Recovery".
//
// survey_journal() only reads, and may run while a daemon leads. load_metadata() writes nothing but
// the new directory, which counts once it has been renamed (adopt_directory); after a crash before,
// it is begun anew.
//
// Threading: the functions block; one thread calls, further ones read ahead. Memory: 32 MiB of
// entries, three pieces of a checkpoint, and the loader's (metadata_loader.h).
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
  uint64_t first = 0;                        // the lowest entry that was read
  std::optional<journal::ChainHash> before;  // of the entry that it follows
  uint64_t committed = 0;                    // up to here the entries read say that a quorum had it
  uint64_t bytes = 0;                        // of the entries read
  std::vector<FoundRoot> roots;              // in the entries read, the newest first
  // As the newest checkpoint that can be read has them; none of those found: no set.
  pb::Cloud cloud;
  pb::JournalSet set;
  Totals totals;
  journal::QuorumRules rules;
  size_t answered = 0;  // of the set

  // Sites of the set that are missing, with the reasons; for texts.
  std::string describe_missing() const;
  bool enough() const { return answered >= static_cast<size_t>(rules.adopt); }
  // Whether all entries were read.
  bool whole() const { return first <= floor; }
  // The newest checkpoint found from which this entry can be reached.
  const FoundRoot* root_for(uint64_t sequence) const;
  // The lowest entry that can be recovered by the checkpoints found.
  uint64_t oldest() const;
};

// For `reach`: all entries are read.
inline constexpr uint64_t kWholeLog = 0;

// Asks all sources and reads the log that ends last, from its end back to the first checkpoint that
// can be read and from which entry `reach` can be reached (by default the end). A log has half of
// journal.bytes_max behind its newest checkpoint, and up to all of it before. The chain is checked
// of all that is read; the seals are by load_metadata(), or here with kWholeLog. `only`: that
// site's log is taken, whatever others have. not_found: no site that answers has entries, or no
// root is there yet: nothing can be recovered. unavailable: a checkpoint is known and none can be
// read.
result<Survey> survey_journal(const std::vector<RecoverySource>&, const CheckpointPlace&,
                              std::optional<SiteId> only = {}, uint64_t reach = UINT64_MAX);
// Reads on, further back, to a checkpoint as above. It may be that there is none.
result<void> survey_further(Survey&, const std::vector<RecoverySource>&, const CheckpointPlace&,
                            uint64_t reach);

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
// cannot be read the one before it is taken, for which the survey may have to go on. not_found:
// `to` is outside of what the log has.
result<Recovered> load_metadata(Survey&, const std::vector<RecoverySource>&, const CheckpointPlace&,
                                const MetadataStore::Options& options, std::optional<uint64_t> to,
                                const RecoveryProgress& progress);

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
