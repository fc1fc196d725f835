// Quarantine: shows what fsck has put aside, and drops it when the administrator says so. The
// objects of what was dropped are garbage as soon as the drop is durable.
#include "common/base/log.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/records/quarantine.h"

namespace datacloud {

namespace {

pb::Reply quarantine_reply(const pb::QuarantineReply& quarantine) {
  pb::AdminReply admin;
  *admin.mutable_quarantine() = quarantine;
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return reply;
}

}  // namespace

Answer Maintenance::quarantine(const CallPtr& call, const pb::QuarantineRequest& request) {
  Transaction txn = store_.begin();
  if (request.change() == pb::QuarantineRequest::LIST) {
    TRY(const auto page, list_quarantine(txn, request));
    return std::optional(quarantine_reply(page));
  }
  TRY(const auto dropped, drop_from_quarantine(txn, request));
  if (dropped.dropped() == 0) return std::optional(quarantine_reply(dropped));
  if (dropped.released() > 0) scrub_.make_due(txn);
  TRY(committer_.apply(std::move(txn)));
  spdlog::warn("{} records are dropped from quarantine, the objects of {} stripes are garbage",
               dropped.dropped(), dropped.released());
  if (dropped.released() > 0) scrub_.kick();
  responder_.answer_when_durable(call, quarantine_reply(dropped));
  return later();
}

}  // namespace datacloud
