// One stripe's shards challenged: does each site hold the bytes that were written, in their newest
// state? A job of the background threads; blocks. No data are downloaded where the site can compute
// the answer itself.
//
// Two tests. By tag: each answer is verified with the site's audit key, for the instance the record
// names. Without a key: under one challenge the answers of all columns form a codeword of the
// stripe's code; where tags and codeword disagree, the keys are in doubt and it is said.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/background_context.h"

namespace datacloud {

enum class AuditVerdict { missing, corrupt, stale, silent };
const char* verdict_name(AuditVerdict);

struct AuditFinding {
  StripeId stripe = 0;
  int column = 0;
  InstanceId instance = 0;
  SiteId site = 0;
  AuditVerdict verdict = AuditVerdict::silent;
  std::string detail;
};

struct StripeAuditReport {
  bool gone = false;  // the stripe exists no more
  uint64_t shards_checked = 0;
  uint64_t bytes_covered = 0;      // of shards whose blocks were all asked for, or the sampled part
  uint64_t bytes_transferred = 0;  // between the auditor and the sites
  uint64_t read_remotely = 0;      // shards that were read because their site cannot compute
  std::map<SiteId, uint64_t> checked_by_site;
  std::vector<AuditFinding> findings;
  std::string doubt;  // the two tests disagree
};

// columns: which to ask. samples: audit blocks per shard, 0: all. Findings other than silence are
// recorded as damage, unless the record has changed meanwhile (then they are no findings).
result<StripeAuditReport> audit_stripe(BackgroundContext&, StripeId, ColumnSet columns,
                                       uint64_t samples);

}  // namespace datacloud
