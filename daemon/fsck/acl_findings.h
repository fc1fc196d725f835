// What is wrong with the POSIX ACLs among an inode's extended attributes
// (daemon/records/inode_acls.h has the rules).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/fsck/record_passes.h"

namespace datacloud {

// The cursor is at an extended attribute of `inode`, which is stored as `raw`. Adds the flag of an
// ACL that stays to `flags`, and takes one that goes off `count`. What mending changes of the inode
// is changed in `inode` too.
void check_acl(RecordPasses&, const RecordSnapshot::Cursor&, pb::Inode& inode,
               const std::optional<std::string>& raw, uint32_t& flags, uint64_t& count);

}  // namespace datacloud
