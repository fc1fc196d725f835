// The metadata half of fsck, for the daemon and for a store nobody serves.
#pragma once

#include <functional>

#include "common/admin.pb.h"
#include "daemon/metadata_store.h"

namespace datacloud {

// Checks namespace and block map; with `mend` puts right in the transaction what can be without
// losing anything. Adds findings to the reply. `new_ino`: as for check_namespace.
result<void> fsck_metadata(Transaction&, bool mend, pb::FsckReply&,
                           const std::function<InodeId()>& new_ino);

}  // namespace datacloud
