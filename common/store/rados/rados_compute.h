// derive, combine and prove at a RADOS site, each on a call that has entered the pool.
#pragma once

#include "common/store/rados/rados_call.h"

namespace datacloud {

// The requests have been checked against their bounds.
void rados_derive(std::shared_ptr<RadosCall<DeriveReply>>, Derivation);
void rados_combine(std::shared_ptr<RadosCall<CombineReply>>, Combination);
void rados_prove(std::shared_ptr<RadosCall<AuditProof>>, AuditChallenge);

}  // namespace datacloud
