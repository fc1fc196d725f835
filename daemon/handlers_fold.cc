// Folding as the administrator asks for it.
#include "daemon/service.h"

namespace datacloud {

MetadataService::Answer MetadataService::fold(const CallPtr& call) {
  if (call->request.fold().start()) folder_.sweep_now();
  pb::Reply reply;
  folder_.describe(*reply.mutable_fold());
  return std::optional(std::move(reply));
}

}  // namespace datacloud
