// Waiting for repairs, with progress: shared by `repair` and `site`.
#pragma once

#include "common/proto/admin.pb.h"
#include "tools/daemon_link.h"

namespace datacloud {

struct RepairWait {
  pb::RepairReply last;                      // as things ended
  std::vector<pb::RepairReply::Line> lines;  // repaired meanwhile
  // What each of `lines` read and wrote where; only when asked for.
  std::vector<pb::RepairDetailsReply::Line> details;
};
// Returns when nothing is left besides what cannot be repaired now. A progress bar on a terminal,
// plain lines now and then otherwise; silent with `quiet`. `lines_after`: from an earlier reply.
result<RepairWait> wait_for_repairs(DaemonLink&, uint64_t lines_after, bool quiet,
                                    bool details = false);

}  // namespace datacloud
