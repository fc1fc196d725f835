// The daemon's metrics: what `datacloud status`, `traffic` and `fold` say, as Prometheus takes it.
#pragma once

#include "common/proto/records.pb.h"
#include "common/proto/rpc.pb.h"
#include "common/rpc/rpc.h"
#include "common/site/metrics.h"

namespace datacloud {

// Pure: of one state of the daemon. `now_s` is wall time in seconds.
Metrics daemon_metrics(const pb::StatusReply&, const pb::TrafficReply&, const pb::FoldReply&,
                       double now_s);

// What the server of the RPC is doing.
void add_rpc_metrics(const RpcServerStats&, Metrics&);

}  // namespace datacloud
