// A stripe that background work makes of sealed blocks: laid out, encoded, placed, and its shards
// put at the sites. Sealed blocks are taken as they are, so no data key is needed.
//
// Blocks; for jobs. Nothing is committed here: the caller adds the record and maps its slots in one
// transaction. Objects of a stripe that is never committed are garbage after the daemon's next
// start, whose listing scrub finds them by their ids.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/codes/erasure_code.h"
#include "common/stripe/shard_size.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

// What stripes must have in common to be merged; new ones keep it.
struct StripeKind {
  std::string code;
  uint32_t shard_bytes = kShardPlainBytesMax;  // most plain bytes of a data column
  SiteId home_site = 0;                        // where data columns go first; 0: spread
  auto operator<=>(const StripeKind&) const = default;
};
StripeKind kind_of(const pb::Stripe&);
// Of the stripes of a file's blocks.
StripeKind kind_of(const pb::Policy&);

// How many blocks, from number `first` of `count`, go into one stripe; 0 when the first of them
// does not fit into any. `sealed_bytes` gives the length of each.
size_t blocks_for_stripe(const ErasureCode&, const StripeKind&, size_t first, size_t count,
                         const std::function<uint32_t(size_t)>& sealed_bytes);

struct NewStripe {
  pb::Stripe record;  // slot i holds block i
  uint64_t bytes_written = 0;
};
// nullopt: the sites do not take it now, and `obstacle` says why; its names are given up.
result<std::optional<NewStripe>> make_stripe(BackgroundContext&, BackgroundIds&, const ErasureCode&,
                                             const StripeKind&, const std::vector<ByteView>& blocks,
                                             std::string& obstacle);

}  // namespace datacloud
