// Parts of the served log's messages, and back. What comes from a peer is checked here.
#pragma once

#include <vector>

#include "common/proto/store.pb.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

// A call with journal and epoch set.
pb::StoreLog make_log_call(pb::StoreLogCall, const JournalId&, const Epoch&);
result<JournalId> journal_of(const pb::StoreLog&);  // invalid: not 16 bytes
void set_log_position(std::string&, const LogPosition&);
result<LogPosition> get_log_position(const std::string&);  // invalid: not 56 bytes
void set_log_head(pb::StoreLogHead&, const LogHead&);
result<LogHead> get_log_head(const pb::StoreLogHead&, const JournalId&);

// Entries one after another. corrupt: what is there are none, or more than kBatchEntriesMax where
// `batch`.
Bytes join_entries(const std::vector<LogEntry>&);
result<std::vector<LogEntry>> split_entries(ByteView, bool batch);

}  // namespace datacloud::journal
