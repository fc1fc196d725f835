// POSIX ACLs of inodes: extended attributes that change with the mode, and the mode with them.
//
// Invariants (fsck verifies them): an access ACL that is stored says more than the mode does, and
// acl_mode() of it is the mode's permission bits; a default ACL is one of a directory; a symlink
// has none; kInodeAccessAcl and kInodeDefaultAcl say which are there.
//
// Called with an inode that the caller puts back; records of ACLs are put here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/posix_acl.h"
#include "common/proto/records.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud::acls {

uint32_t flag_of(AclKind);

// What is to be stored of an ACL that a program sets, nullopt for nothing: it says no more than the
// mode, or is empty. An access ACL changes the mode of `inode`. EINVAL, E2BIG: it is none; EACCES:
// a default ACL for what is no directory; EOPNOTSUPP: for a symlink.
result<std::optional<std::string>> accepted(pb::Inode& inode, AclKind, const std::string& value);

// After the mode has been changed otherwise: the access ACL follows.
result<void> follow_mode(Transaction&, const pb::Inode&);

// Of what is being made in `parent` with the mode that a program asked for: ACLs and mode by the
// parent's default ACL; where it has none, the umask, if any, is taken off the mode.
result<void> inherit(Transaction&, const pb::Inode& parent, std::optional<uint32_t> umask,
                     pb::Inode& inode);

}  // namespace datacloud::acls
