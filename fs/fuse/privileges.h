// What a change of contents or of the owner takes away from a file: set-user-id, set-group-id and
// file capabilities (security.capability). With HANDLE_KILLPRIV_V2 the kernel leaves all of it to
// the file system, and no longer asks for security.capability before every write; without it only
// the set-group-id of files that their group may not execute.
//
// Functions of an operation that is served, on its thread; they may ask the daemon.
#pragma once

#include <fuse3/fuse_lowlevel.h>
#include <sys/types.h>

#include <optional>

#include "common/base/error.h"
#include "fs/file/inode.h"

namespace datacloud {

// Before a change of contents; asks for the WRITE lease. `unprivileged`: the kernel says that the
// caller may not keep set-user-id. Says whether the mode has changed.
result<bool> drop_privileges(fuse_req_t, const InodePtr&, bool unprivileged);

// When the owner changes, or the kernel asks without a word for what a change of contents takes
// away: the mode that is left; none if it stays. Drops capabilities. Asks for a lease.
result<std::optional<mode_t>> mode_without_privileges(fuse_req_t, const InodePtr&,
                                                      bool owner_changes);

}  // namespace datacloud
