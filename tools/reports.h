// Replies of the daemon as JSON and as text. Pure functions: tests feed them canned replies.
// The JSON keys of locate and traffic are contracts (docs/design.md); status: docs/status-json.md.
#pragma once

#include <string>

#include "common/proto/admin.pb.h"
#include "common/proto/rpc.pb.h"
#include "tools/json_text.h"

namespace datacloud {

// The name of a site of the cloud, "site N" for an unknown one.
std::string site_name(const pb::Cloud&, uint32_t id);

const char* duty_name(pb::SiteDuty);  // "active", "draining", "lost"

Json status_json(const pb::StatusReply&);
std::string status_text(const pb::StatusReply&, bool colours);

// Beyond the counts: protection, queues, background work (report_details.cc).
pb::StatusDetails details_of(const pb::StatusReply&);  // empty when it does not parse
Json queues_json(const pb::StatusDetails&);
Json background_json(const pb::StatusDetails&);
Json scrubs_json(const pb::StatusReply&, const pb::StatusDetails&);
Json operations_json(const pb::StatusDetails&);
std::string background_text(const pb::StatusDetails&);
std::string limits_text(const pb::StatusDetails&);  // pause, limits and windows alone

Json journal_json(const pb::JournalStatus&);
std::string journal_text(const pb::JournalStatus&, bool colours);
Json leader_json(const pb::LeaderReply&);
std::string leader_text(const pb::LeaderReply&, bool colours);

// `top`: what has been done between two answers, `seconds` apart.
Json top_json(const pb::StatusReply& before, const pb::StatusReply& after, double seconds);
std::string top_text(const pb::StatusReply& before, const pb::StatusReply& after, double seconds,
                     bool colours);

// Blocks of a file whose bytes are in the metadata, and those in stripes with changes that are.
struct BlocksInMetadata {
  uint64_t whole = 0, patched = 0;
};
// `path` is what the user asked for.
Json locate_json(const pb::Cloud&, const pb::LocateReply&, const BlocksInMetadata&,
                 const std::string& path);
// `each`: every stripe, also of a file with many; else a line a site.
std::string locate_text(const pb::Cloud&, const pb::LocateReply&, const BlocksInMetadata&,
                        const std::string& path, bool each, bool colours);

Json traffic_json(const pb::Cloud&, const pb::TrafficReply&);
std::string traffic_text(const pb::Cloud&, const pb::TrafficReply&, bool colours);

}  // namespace datacloud
