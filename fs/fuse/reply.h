// The one place where errors become errno, and where attributes become what the kernel wants.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include "fs/fuse/mount.h"

namespace datacloud {

inline Mount& mount_of(fuse_req_t req) { return *static_cast<Mount*>(fuse_req_userdata(req)); }
inline FileHandle& handle_of(const fuse_file_info* fi) {
  return *reinterpret_cast<FileHandle*>(fi->fh);
}

// Logs what is not an ordinary POSIX answer, then replies its errno.
void reply_error(fuse_req_t req, const Error& error);
void reply_result(fuse_req_t req, const result<void>& outcome);
// The same for outcomes of writing, which are logged where they happen, once for all programs.
void reply_told(fuse_req_t req, const result<void>& outcome);

// Attributes of the inode with the time the kernel may keep them, told in one step with respect
// to recalls.
void reply_attr(fuse_req_t req, const InodePtr& inode);
// The same after a change of attributes. What it told meanwhile does not keep the kernel from
// taking this reply for the newest, so that it has to ask again.
void reply_changed(fuse_req_t req, const InodePtr& inode);
// Of a directory: grows with each change of its names that is seen here. An answer about a name
// that was asked for before is not to be kept by the kernel.
uint64_t entry_changes(Inode& directory);
// A new reference for the kernel: counts a lookup, undone when the kernel does not take it. Without
// a parent the kernel does not keep the name.
void reply_entry(fuse_req_t req, const InodePtr& parent, const InodePtr& inode);
fuse_entry_param to_entry(Mount& mount, const InodePtr& parent, const InodePtr& inode);
// The same for a name that was made. As for reply_changed(), of an inode that the kernel may know
// by another name.
void reply_made(fuse_req_t req, const InodePtr& parent, const InodePtr& inode);
// The lookup for `entry` has been counted.
void let_known_expire(fuse_entry_param& entry, Inode& inode);

// The inode of a node id the kernel knows; one that is not in the table was lost: ESTALE.
result<InodePtr> known_inode(Mount& mount, fuse_ino_t ino);
// Before a change of contents: set-group-id goes, where the kernel leaves that to the file system.
// Says whether it did.
result<bool> drop_set_group_id(fuse_req_t req, const InodePtr& inode);

}  // namespace datacloud
