// Reads sealed blocks of one stripe, whatever allowed set of shards is missing, slow or lying.
//
// Adjacent slots of a column are read as one range. A shard that is missing, at a site that is
// away, too slow (ReadTimes says when it is raced) or whose block does not authenticate is an
// erasure: the same byte range is decoded from the cheapest other shards, trying further sets (at
// most kDecodeAttemptsMax) until the block authenticates. Only shards thereby disproved, and shards
// not found at a site that is up, are reported as damage.
//
// Errors per block: unavailable (too few shards answer; names the sites), corrupt (all sets tried),
// stale (a shard was not found at a live site: refetch the map once and retry).
// Threads: read() from any thread; the callback runs on the executor.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/base/executor.h"
#include "common/base/ids.h"
#include "common/config/config.h"
#include "common/crypto/sealed_block.h"
#include "common/proto/records.pb.h"
#include "common/site/site_set.h"

namespace datacloud {

inline constexpr int kDecodeAttemptsMax = 128;

class StripeReader {
 public:
  struct Want {
    BlockAddress address;
    uint32_t slot = 0;
  };
  struct Dependencies {
    SiteSet& sites;
    const ShardNamer& namer;
    const BlockSealer& sealer;
    Executor& executor;
    MountConfig config;
    SiteId local_site = 0;                                   // preferred for decoding; 0: none
    std::function<void(std::vector<pb::Damage>)> on_damage;  // must not block
  };
  explicit StripeReader(Dependencies);
  ~StripeReader();  // waits for the calls under way (each has its deadline)

  // What a shard that is not found at a live site means. `refetch`: the record may be outdated, the
  // answer is stale. `erasure`: the caller has just refetched the map and the record is unchanged:
  // the shard is lost, reported as damage and decoded around.
  enum class NotFound { refetch, erasure };

  // Answers once, with one result per want, in order: the plain bytes.
  void read(std::shared_ptr<const pb::Stripe> stripe, std::vector<Want> wants,
            std::function<void(std::vector<result<Bytes>>)> done,
            NotFound not_found = NotFound::refetch);

  // The same, answering each want (by its index) as soon as it is known; calls for different wants
  // may run at the same time.
  using OnBlock = std::function<void(size_t index, result<Bytes>)>;
  void read_each(std::shared_ptr<const pb::Stripe> stripe, std::vector<Want> wants,
                 NotFound not_found, OnBlock on_block);

  uint64_t degraded_reads() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
