// The attributes that make a shard provable: its instance and its audit tags, made by whoever puts
// it (mounts, repair, folding) and verified before anything is built upon what a site returns.
//
// Thread safety: all methods from any thread, but construction and assignment.
#pragma once

#include <map>
#include <memory>
#include <shared_mutex>

#include "common/proto/records.pb.h"
#include "common/store/object_store.h"
#include "common/tags/audit_tag.h"

namespace datacloud {

class ShardTags {
 public:
  ShardTags() = default;
  // The audit keys of the sites, each for one.
  explicit ShardTags(const std::map<SiteId, SecretKey>& audit_keys);
  // All keys of a cloud, as the holder of the service key derives them.
  static std::map<SiteId, SecretKey> derive_keys(const SecretKey& service_key, const pb::Cloud&);

  // The key of a site that has joined since; one that is known stays.
  void add(SiteId, const SecretKey&);

  // Attributes of a new object whose every block is written as name.instance. A site without a key
  // gets only the instance.
  Attributes make(SiteId, const ShardName&, const std::vector<ByteView>& parts) const;
  // The same from sums (tag_sums.h) made with this site's key.
  Attributes make_from_sums(SiteId, const ShardName&, ByteView sums) const;
  // corrupt: `bytes` (the whole shard) are not what the record's instance wrote there.
  result<void> verify(const pb::Stripe&, int column, ByteView bytes, const Attributes&) const;
  // corrupt: the site does not hold it.
  result<void> verify_proof(const pb::Stripe&, int column, const AuditChallenge&,
                            const AuditProof&) const;
  // Null when the site's key is not known.
  const AuditTagger* tagger(SiteId) const;

 private:
  std::unique_ptr<std::shared_mutex> mutex_ = std::make_unique<std::shared_mutex>();
  std::map<SiteId, AuditTagger> taggers_;  // only grows
};

// Versions of a shard's audit blocks: all its instance's, unless the record says otherwise.
BlockVersions versions_of(const pb::Shard&);
void set_versions(pb::Shard&, const BlockVersions&);

}  // namespace datacloud
