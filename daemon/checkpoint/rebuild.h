// Metadata that this machine has lost, rebuilt from the sites: what the start of a daemon does by
// itself, and what `datacloud recover` shares with it. docs/journal.md, "Recovery".
//
// Threading: the functions block; one thread.
#pragma once

#include <string>

#include "common/config/config.h"
#include "daemon/checkpoint/recovery.h"

namespace datacloud {

// unavailable: too few sites of the journal answered to be sure that nothing is missing.
result<void> check_quorum(const Survey&);
// The set that counts; the survey knows that of a checkpoint, and it may have changed since.
void count_set(Survey&, const pb::JournalSet&);

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
