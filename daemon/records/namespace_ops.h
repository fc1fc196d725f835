// Namespace operations as pure changes of a transaction: POSIX semantics and errno, no sessions,
// no leases, no I/O besides the transaction. Permission bits are checked by the mount's kernel
// (default_permissions); what the kernel does not do for a FUSE file system is done here:
// set-group-id inheritance, link counts, times, sticky and type rules of rename.
//
// Errors are POSIX (Error::posix). Names: 1 to 255 bytes, no '/' or NUL, not "." or "..".
// `area`: of the conversion of a tree that is running, if one is.
#pragma once

#include <string>
#include <vector>

#include "common/proto/rpc.pb.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/trees.h"

namespace datacloud {

result<pb::Inode> get_inode(const Transaction&, InodeId);  // ENOENT; ESTALE is not used
// "." finds anything by its number, as long as it has a name; ".." a directory's parent.
result<pb::Inode> lookup(const Transaction&, InodeId parent, const std::string& name);

struct Created {
  pb::Inode inode;
  bool existed = false;  // a non-exclusive create met the name
};
// `new_ino` is used only when something is created. Without a name: an orphan, which
// is to be kept as long as it is open.
// Whether inodes keep when they were made: feature "times".
enum class BirthTime { unknown, kept };
result<Created> create(Transaction&, const pb::CreateRequest&, InodeId new_ino,
                       BirthTime = BirthTime::unknown);
// A file that was made without a name gets its first one, once.
// EXDEV also while it is not known yet on which side of a tree's new border the file is
// (trees::link_border).
result<pb::Inode> link(Transaction&, const pb::LinkRequest&, const TreeArea* area = nullptr);
// The removed inode as it is afterwards (nlink 0: an orphan record was written).
// With a tree's root the tree goes: EBUSY while its conversion is running.
result<pb::Inode> unlink(Transaction&, const pb::UnlinkRequest&, const TreeArea* area = nullptr);
struct Renamed {
  pb::Inode moved;
  std::optional<pb::Inode> replaced;  // as it is afterwards; with RENAME_EXCHANGE the other one
  std::optional<pb::Inode> whiteout;  // RENAME_WHITEOUT: what the old name stands for now
};
// EXDEV between trees; EBUSY as unlink(). `new_ino` is used only for a whiteout.
result<Renamed> rename(Transaction&, const pb::RenameRequest&, const TreeArea* area = nullptr,
                       InodeId new_ino = 0, BirthTime = BirthTime::unknown);
result<pb::Inode> set_attributes(Transaction&, const pb::SetAttrRequest&);
result<pb::ReadDirReply> read_directory(const Transaction&, const pb::ReadDirRequest&);

result<std::string> get_xattr(const Transaction&, InodeId, const std::string& name);  // ENODATA
result<std::vector<std::string>> list_xattrs(const Transaction&, InodeId);
// EEXIST, ENODATA, E2BIG; ENOSPC beyond what one inode may have; of an ACL also EINVAL, EACCES.
result<pb::Inode> set_xattr(Transaction&, const pb::SetXattrRequest&);
result<pb::Inode> remove_xattr(Transaction&, const pb::RemoveXattrRequest&);
// Some of all, for an inode that goes, which the caller puts; ends when so many, or so many bytes,
// are erased. False: there are more.
result<bool> erase_xattrs(Transaction&, pb::Inode&, uint32_t count_max, size_t bytes_max);

// Path inside the cloud ("/a/b", no symlinks followed) to its inode, and back (best effort:
// one of the names of a hard-linked file is not searched for, files give "").
result<pb::Inode> resolve_path(const Transaction&, const std::string& path);
result<std::string> directory_path(const Transaction&, InodeId directory);

}  // namespace datacloud
