// Inodes that the kernel asks for by number: file handles (open_by_handle_at(2), knfsd).
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <string_view>

namespace datacloud {

// LOOKUP of "." or "..", in an inode that this mount need not know.
void lookup_by_number(fuse_req_t req, fuse_ino_t ino, std::string_view name);

}  // namespace datacloud
