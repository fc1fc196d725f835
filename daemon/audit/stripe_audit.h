// Stripes' shards challenged: does each site hold the bytes that were written, in their newest
// state? A job of the background threads; blocks. No data are downloaded where the site can compute
// the answer itself. How answers are judged: common/audit/stripe_challenge.h.
//
// Stripes are challenged many at a time, so that thousands of small shards do not cost a round trip
// each: as many as the answers' memory allows where a site's shards must be read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/audit/stripe_challenge.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

struct AuditFinding {
  StripeId stripe = 0;
  int column = 0;
  InstanceId instance = 0;
  SiteId site = 0;
  AuditVerdict verdict = AuditVerdict::silent;
  std::string detail;
};

struct AuditItem {
  StripeId stripe = 0;
  ColumnSet columns = ~ColumnSet{0};
};
inline constexpr size_t kAuditBatchMax = 64;  // stripes of one job

struct AuditReport {
  uint64_t gone = 0;  // stripes that exist no more
  StripeChallenge::Totals totals;
  std::map<SiteId, uint64_t> checked_by_site, transferred_by_site;
  std::vector<AuditFinding> findings;
  std::vector<std::string> doubts;  // the two tests disagree
};

// samples: audit blocks per shard, 0: all. Findings other than silence are recorded as damage,
// unless the record has changed meanwhile (then they are no findings).
result<AuditReport> audit_stripes(BackgroundContext&, const std::vector<AuditItem>&,
                                  uint64_t samples);

}  // namespace datacloud
