// The metadata half of fsck as replies: for the daemon, and for a store that nobody serves.
#pragma once

#include <functional>
#include <vector>

#include "common/proto/admin.pb.h"
#include "daemon/fsck/record_check.h"

namespace datacloud {

// The findings, numbered from 1 in their order, without any mended yet.
void tell_findings(const RecordCheckReport&, pb::FsckReply&);

struct MendHooks {
  std::function<result<void>(Transaction&&)> commit;
  std::function<InodeId(Transaction&)> new_ino;  // of /lost+found; used up if committed
  bool online = false;                           // a daemon runs: what it holds in memory is left
};
// Mends these findings, a transaction each, and says in the reply which were and why others not.
// A failure is the store's, not a finding's.
result<void> mend_findings(MetadataStore&, const std::vector<Finding>&,
                           const std::vector<uint64_t>& numbers, const MendHooks&, pb::FsckReply&);

// A store without a daemon: checks it, and mends in it durably.
class LocalFsck {
 public:
  explicit LocalFsck(MetadataStore& store, RecordCheckLimits limits = {})
      : store_(store), limits_(limits) {}
  result<pb::FsckReply> check(RecordCheckProgress&);
  result<void> mend(const std::vector<uint64_t>& numbers, pb::FsckReply&);

 private:
  MetadataStore& store_;
  const RecordCheckLimits limits_;
  std::vector<Finding> findings_;
};

}  // namespace datacloud
