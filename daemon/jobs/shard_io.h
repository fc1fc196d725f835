// Whole shards in and out of the sites, for background jobs. Blocks; nothing unverified comes back.
#pragma once

#include <map>
#include <vector>

#include "common/codes/erasure_code.h"
#include "daemon/jobs/background_context.h"
#include "daemon/jobs/fan_out.h"

namespace datacloud {

// A read that answered with the wrong thing (damage) or not at all (silence).
struct ShardFailure {
  int column = 0;
  bool damaged = false;
  Error error;
};
// What an error of a read says about the shard: that it is not what it must be.
bool is_damage(const Error&);
struct ShardsRead {
  std::map<int, Bytes> columns;  // verified, as long as the record says
  std::vector<ShardFailure> failures;
  std::map<SiteId, uint64_t> bytes_by_site;
};
// Reads the columns in parallel; each is PRESENT in the record.
ShardsRead read_shards(BackgroundContext&, const pb::Stripe&, ColumnSet, Purpose);
// At least the first so many bytes of each column: whole audit blocks. Asked for at once; several
// stripes' may be under way together.
class PrefixReads {
 public:
  // The stripe outlives this object.
  PrefixReads(BackgroundContext&, const pb::Stripe&, std::map<int, uint64_t> bytes_of_column,
              Purpose);
  // Waits; once.
  ShardsRead finish();

 private:
  BackgroundContext& context_;
  const pb::Stripe& stripe_;
  const std::map<int, uint64_t> wanted_;
  std::vector<int> asked_;
  FanOut<ReadReply> answers_;
  ShardsRead out_;
};

struct NewShard {
  int column = 0;
  SiteId site = 0;
  InstanceId instance = 0;
  SharedBytes bytes;
};
struct ShardsPut {
  std::vector<NewShard> failed;
  std::string reasons;
  std::set<SiteId> failed_sites;
};
// Puts all in parallel, with tags. Objects of failed puts are to be abandoned with abandon_shards.
ShardsPut put_shards(BackgroundContext&, StripeId, const std::vector<NewShard>&, Purpose);

// The names will never be committed: ids are revoked and the objects become pending deletions.
result<void> abandon_shards(BackgroundContext&, StripeId, const std::vector<NewShard>&);

// Columns `wanted`, computed from those read (and from empty columns, which are zero); each as long
// as its record says. unavailable when they do not determine it.
result<std::map<int, Bytes>> rebuild_columns(const ErasureCode&, const pb::Stripe&,
                                             const std::map<int, Bytes>& have, ColumnSet wanted);
// The columns of a set, for messages: "0, 3".
std::string columns_text(ColumnSet);

}  // namespace datacloud
