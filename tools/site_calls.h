// What commands ask the daemon about one site.
#pragma once

#include <string>

#include "common/proto/rpc.pb.h"
#include "tools/daemon_link.h"

namespace datacloud {

result<pb::SiteReply> act_on_site(DaemonLink&, const std::string& name, pb::SiteAction,
                                  bool scrub = false);
// Its storage is there; returns what the daemon has seen, within 15 s, also when it is away still.
result<pb::SiteReply> wait_until_site_up(DaemonLink&, const std::string& name);

}  // namespace datacloud
