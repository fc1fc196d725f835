// The FUSE operations: each callback decodes, calls, replies. One file per family.
#pragma once

#include <fuse3/fuse_lowlevel.h>

namespace datacloud {

// The whole table, gathered from the families below.
fuse_lowlevel_ops fuse_operations();

void add_lookup_operations(fuse_lowlevel_ops&);     // lookup, forget, getattr, setattr, statfs
void add_entry_operations(fuse_lowlevel_ops&);      // create, mkdir, unlink, rename, link, ...
void add_file_operations(fuse_lowlevel_ops&);       // open, read, write, fsync, release, lseek
void add_clone_operations(fuse_lowlevel_ops&);      // copy_file_range, ioctl
void add_directory_operations(fuse_lowlevel_ops&);  // opendir, readdir, readdirplus, fsyncdir
void add_lock_operations(fuse_lowlevel_ops&);       // setlk, getlk, flock
void add_xattr_operations(fuse_lowlevel_ops&);

}  // namespace datacloud
