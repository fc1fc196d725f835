// What it would take to lose bytes of a file, from the stripes that hold them.
#pragma once

#include <optional>
#include <vector>

#include "common/proto/rpc.pb.h"

namespace datacloud {

struct LossRisk {
  // The fewest sites whose loss makes some of the file unreadable: 0 when some is now; nullopt when
  // no loss of sites does (nothing is stored), or when a stripe's code is not known here.
  std::optional<int> sites;
  std::vector<uint32_t> example;  // ids of such sites
  uint64_t stripe = 0;            // that would be lost with them
  // Any this many shards of one stripe more may be lost in the worst case without a loss.
  int shards_spare = 0;
};

// Groups are left out: an XOR row may save a stripe that this counts as lost, never the reverse.
LossRisk loss_risk(const pb::LocateReply&);

}  // namespace datacloud
