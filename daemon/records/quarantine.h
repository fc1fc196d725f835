// The quarantine: records that fsck has taken out or replaced, kept under 'Z' and their old key as
// they were, until an administrator drops them. A note beside each (under 'Y') says when and why.
//
// A stripe in quarantine without a record protects its objects at the sites (block_map.h, is_kept).
// Once dropped they are garbage like any other that no record names, and the listing scrub, which
// must be made due in the same transaction, deletes them. Everything else in quarantine is history:
// dropping it changes nothing but what could still be read there.
#pragma once

#include <string>
#include <string_view>

#include "common/proto/admin.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr int kQuarantinePageMax = 500;  // records of one answer, or dropped by one request
inline constexpr size_t kQuarantinePageBytesMax = 1u << 20;  // of the values of one answer

// Keeps `value`, the record under `key` so far; empty for a stripe whose record is lost. What was
// there under the same key is replaced.
void put_in_quarantine(Transaction&, const std::string& key, const std::string& value,
                       const std::string& why);

result<pb::QuarantineReply> list_quarantine(const Transaction&, const pb::QuarantineRequest&);
// invalid: too many keys. Those that are not there are passed over.
result<pb::QuarantineReply> drop_from_quarantine(Transaction&, const pb::QuarantineRequest&);

// "stripe 5", "run of inode 7 from block 0": what a record's key names.
std::string describe_record(std::string_view key);

}  // namespace datacloud
