// Replies of the daemon as JSON and as text. Pure functions: tests feed them canned replies.
// The JSON keys of locate and traffic are contracts (docs/design.md); status: docs/status-json.md.
#pragma once

#include <string>

#include "common/rpc.pb.h"
#include "tools/json_text.h"

namespace datacloud {

// The name of a site of the cloud, "site N" for an unknown one.
std::string site_name(const pb::Cloud&, uint32_t id);

const char* duty_name(pb::SiteDuty);  // "active", "draining", "lost"

Json status_json(const pb::StatusReply&);
std::string status_text(const pb::StatusReply&, bool colours);

// `path` is what the user asked for.
Json locate_json(const pb::Cloud&, const pb::LocateReply&, const std::string& path);
std::string locate_text(const pb::Cloud&, const pb::LocateReply&, const std::string& path,
                        bool colours);

Json traffic_json(const pb::Cloud&, const pb::TrafficReply&);
std::string traffic_text(const pb::Cloud&, const pb::TrafficReply&, bool colours);

}  // namespace datacloud
