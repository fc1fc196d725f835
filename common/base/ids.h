// Identifiers, and the only way to make an object name.
//
// Ids are 64-bit, granted to sessions in ranges by committed transactions, never reused. Stripe
// ids stay below 2^56 because a shard's object name packs (stripe 56 bit, column 8 bit,
// instance 64 bit) into one AES block: names look random to sites, tell nothing about which
// shards belong together, and can still be turned back by the listing scrub.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud {

using InodeId = uint64_t;
using StripeId = uint64_t;
using InstanceId = uint64_t;
using ContentVersion = uint64_t;
using SessionId = uint64_t;
using SiteId = uint32_t;
using Sequence = uint64_t;

inline constexpr InodeId kRootInode = 1;
inline constexpr StripeId kStripeIdMax = (uint64_t{1} << 56) - 1;

enum class IdKind : int { stripe = 1, instance = 2, version = 3, inode = 4 };

struct IdRange {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
};

// Names one instance of one column of a stripe.
struct ShardName {
  StripeId stripe = 0;
  uint8_t column = 0;
  InstanceId instance = 0;
  bool operator==(const ShardName&) const = default;
};

// Turns shard names into object names and back with AES-128 under the cloud's name key.
// Thread safety: const methods from any thread.
class ShardNamer {
 public:
  explicit ShardNamer(ByteView name_key);  // 16 bytes
  // 32 lower-case hex digits. Empty (which no store accepts as a name) when the stripe id exceeds
  // kStripeIdMax: cutting it short would name an object of another stripe.
  std::string object_name(const ShardName&) const;
  // nullopt when the text is not 32 lower-case hex digits. Anything else decodes to something: the
  // caller must look the ids up.
  std::optional<ShardName> parse(const std::string& object_name) const;

 private:
  struct Cipher;
  std::shared_ptr<const Cipher> cipher_;
};

}  // namespace datacloud
