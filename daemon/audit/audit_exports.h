// Bundles for third-party auditors, given out page by page (common/audit/audit_bundle.h).
//
// The stripes are not one snapshot: each is as it was when its page was made, none that was there
// at the beginning and still is at its page is left out. The signature covers what was given out.
// Runs on the loop. Memory: kRunsMax runs of one page each.
#pragma once

#include <map>
#include <memory>

#include "common/audit/audit_bundle.h"
#include "common/proto/admin.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class AuditExports {
 public:
  static constexpr size_t kRunsMax = 4;     // the oldest is forgotten for a new one
  static constexpr int kKnownMax = 20'000;  // records that the asker has, per request
  static constexpr size_t kPageStripes = 1000;
  static constexpr size_t kPageBytes = 1u << 20;

  AuditExports(MetadataStore& store, const ShardNamer& namer, const pb::Cloud& cloud,
               const std::map<SiteId, SecretKey>& audit_keys,
               std::shared_ptr<const SigningKey> signer)
      : store_(store),
        namer_(namer),
        cloud_(cloud),
        audit_keys_(audit_keys),
        signer_(std::move(signer)) {}

  // invalid: not the next page of a run, nor the last again. unsupported: there is no signer.
  result<pb::AuditExportReply> page(const pb::AuditExportRequest&);
  // Which shards of the request are what the records name now.
  result<pb::AuditStandingReply> standing(const pb::AuditStandingRequest&) const;

 private:
  struct Run {
    std::string header;
    AuditStateDigest state;
    StripeId next = 0;
    pb::AuditExportReply last;
  };
  result<uint64_t> begin(const std::string& base);
  // Changes of one page; true when it is the last.
  result<bool> fill(const pb::AuditExportRequest&, Run&, pb::AuditBundlePage&) const;

  MetadataStore& store_;
  const ShardNamer& namer_;
  const pb::Cloud& cloud_;
  const std::map<SiteId, SecretKey>& audit_keys_;
  const std::shared_ptr<const SigningKey> signer_;
  std::map<uint64_t, Run> runs_;
  uint64_t next_run_ = 1;
};

}  // namespace datacloud
