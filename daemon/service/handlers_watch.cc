// `datacloud watch`: changes of all mounts, for who waits for them.
#include "daemon/service/service.h"

namespace datacloud {

Answer MetadataService::watch(const CallPtr& call, const pb::WatchRequest& request) {
  TRY(watchers_.poll(request, [this, call](const pb::WatchReply& told) {
    pb::AdminReply admin;
    *admin.mutable_watch() = told;
    answer(call, wrapped(admin));
  }));
  return later();
}

}  // namespace datacloud
