// The journal's sites as the configuration and the cloud's records have them.
#pragma once

#include <filesystem>

#include "common/config/config.h"
#include "common/proto/journal.pb.h"
#include "common/proto/records.pb.h"
#include "daemon/journal/quorum_log.h"

namespace datacloud {

// The members of this set and their quorum; `fenced` is left to the caller. A site that is not
// configured counts as away. corrupt: the record of the set is damaged.
result<journal::QuorumLogOptions> quorum_options(const Config&, const pb::Cloud&,
                                                 const pb::JournalSet&);

// Makes empty logs at all sites of the set, by the configuration as it is now. May be repeated.
result<void> format_logs(const std::filesystem::path& configuration, const pb::Cloud&,
                         const pb::JournalSet&);

// For a store whose cloud has no journal. exists: its sites have one: the store was put back from a
// backup that is older than the journal.
result<void> check_no_journal(const Config&, const pb::Cloud&);

}  // namespace datacloud
