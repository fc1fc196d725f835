// What may be shared by reference, as commits of mounts ask for it (InodeUpdate.clones). The change
// itself is update_inode's.
//
// Functions of the loop; they change nothing.
#pragma once

#include "common/proto/rpc.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

// Of the request alone: clones within their bounds (common/rpc/clone_limits.h), not of a file's
// blocks to overlapping ones of the same file, and nothing else in an update with such a clone.
// invalid: none of the commit is to be applied.
result<void> check_clones(const pb::CommitRequest&);

// Whether all clones of the update can be made now. False when a source is gone, has another change
// id, or differs from the target in realm, key generation or size of blocks; when data are lost
// there (copying them fails at the right place) or are not in stripes alone; when a stripe would be
// shared too often, or the ranges have too many runs. corrupt: a record does not parse.
result<bool> may_share(const Transaction&, const pb::Inode& target, const pb::InodeUpdate&);

}  // namespace datacloud
