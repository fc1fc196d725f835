// Metadata that this machine has lost, rebuilt from the sites: what the start of a daemon does by
// itself, and what `datacloud recover` shares with it. docs/journal.md, "Recovery".
//
// Threading: the functions block; one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/config/config.h"
#include "daemon/checkpoint/recovery.h"
#include "daemon/checkpoint/recovery_sites.h"

namespace datacloud {

// Loads into `made`, beside the daemon's own directory, which is made if it is missing. Before and
// after, for the set may have changed behind the checkpoint, a quorum must have answered, unless
// `any` number will do. Other failures as load_metadata().
result<Recovered> load_beside(const Config&, const RecoverySites&, Survey&,
                              const MetadataStore::Options& made, std::optional<uint64_t> to,
                              bool any, const RecoveryProgress&);

struct Rebuilt {
  Recovered recovered;
  std::string aside;  // where what was at `directory` is now; empty: nothing was
};

// Makes `directory` anew with all that the journal has. What was there is kept beside it, under
// another name. not_found: the sites hold no journal of this cloud, or nothing to begin with.
// After a failure, or a crash at any moment, the directory is as it was, or is whole, or is kept
// beside and the next call makes it.
result<Rebuilt> rebuild_metadata(const Config&, const std::string& directory,
                                 const RecoveryProgress&);

}  // namespace datacloud
