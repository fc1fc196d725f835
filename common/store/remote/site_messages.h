// Parts of a served site's messages, and back. Whatever comes from a peer is checked here or by the
// store that it reaches.
#pragma once

#include "common/proto/store.pb.h"
#include "common/store/object_store.h"

namespace datacloud {

inline constexpr size_t kSiteListNamesMax = 4096;            // of one reply
inline constexpr uint64_t kSiteLogEntryBytesMax = 4u << 20;  // of the journal
inline constexpr uint64_t kSiteLogReadBytesMax = 16u << 20;

void set_error(pb::StoreReply&, const Error&);
// The failure that a reply tells; a number that a peer has invented is `io`.
result<void> reply_error(const pb::StoreReply&);

using AttributeFields = google::protobuf::RepeatedPtrField<pb::StoreAttribute>;
void set_attributes(AttributeFields&, const Attributes&);
// corrupt: more than kAttributesBytesMax, or a name twice.
result<Attributes> get_attributes(const AttributeFields&);

// The bytes that the ranges of a Derivation hold are the frame's segments.
void set_derivation(pb::StoreDerive&, const Derivation&, std::vector<ByteView>& parts);
result<Derivation> get_derivation(const pb::StoreDerive&, std::vector<Bytes> segments);

void set_combination(pb::StoreCombine&, const Combination&);
Combination get_combination(const pb::StoreCombine&);

void set_challenge(pb::StoreProve&, const AuditChallenge&);
result<AuditChallenge> get_challenge(const pb::StoreProve&);

// Bytes of the segments that will answer a request, at most.
uint64_t answer_bytes_max(const pb::StoreRequest&);

}  // namespace datacloud
