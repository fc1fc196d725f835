// The request table: what the service does with each kind of request.
#include <algorithm>

#include "daemon/service/service.h"

#include "daemon/maintenance/maintenance.h"

namespace datacloud {

template <auto handler>
Answer MetadataService::run(MetadataService& service, const CallPtr& call) {
  if constexpr (requires { (service.*handler)(call); }) {
    return (service.*handler)(call);
  } else {
    return ((*service.maintenance_).*handler)(call);
  }
}

std::span<const Operation> MetadataService::operations() {
  using R = pb::Request;
  using S = MetadataService;
  using M = Maintenance;
  using A = Access;
  constexpr bool waits = true, tools = true, changes = true, adds = true, no = false;
  static constexpr Operation kOperations[] = {
      {R::kKeepalive, run<&S::keepalive>, no, tools, no, no, A::session},
      {R::kGrant, run<&S::grant>, no, no, changes, no, A::write},
      {R::kGoodbye, run<&S::goodbye>, no, tools, changes, no, A::session},
      {R::kRenew, run<&S::renew_certificate>, no, tools, changes, no, A::session},
      {R::kLookup, run<&S::lookup>, waits, no, no, no, A::read},
      {R::kLease, run<&S::lease>, waits, no, no, no, A::read},
      {R::kRelease, run<&S::release>, no, no, no, no, A::read},
      {R::kRecallDone, run<&S::recall_done>, no, no, no, no, A::read},
      {R::kSetattr, run<&S::setattr>, waits, no, changes, no, A::write},
      {R::kCreate, run<&S::create>, waits, no, changes, adds, A::write},
      {R::kLink, run<&S::link>, waits, no, changes, adds, A::write},
      {R::kUnlink, run<&S::unlink>, waits, no, changes, no, A::write},
      {R::kRename, run<&S::rename>, waits, no, changes, no, A::write},
      {R::kReaddir, run<&S::readdir>, waits, no, no, no, A::read},
      {R::kGetxattr, run<&S::getxattr>, no, tools, no, no, A::read},
      {R::kSetxattr, run<&S::setxattr>, waits, no, changes, adds, A::write},
      {R::kListxattr, run<&S::listxattr>, no, tools, no, no, A::read},
      {R::kRemovexattr, run<&S::removexattr>, waits, no, changes, no, A::write},
      {R::kStatfs, run<&S::statfs>, no, tools, no, no, A::read},
      {R::kLock, run<&S::lock>, waits, no, no, no, A::read},
      {R::kMap, run<&S::map>, no, tools, no, no, A::read},
      {R::kCommit, run<&S::commit_data>, no, no, changes, adds, A::write},
      {R::kAbandon, run<&S::abandon>, no, no, changes, no, A::write},
      {R::kDamage, run<&S::damage>, no, no, changes, no, A::read},
      {R::kSync, run<&S::sync>, no, tools, no, no, A::session},
      {R::kStatus, run<&S::status>, no, tools, no, no, A::observe},
      {R::kLocate, run<&S::locate>, no, tools, no, no, A::admin},
      {R::kTraffic, run<&S::traffic>, no, tools, no, no, A::observe},
      {R::kGc, run<&M::gc>, no, tools, changes, no, A::admin},
      {R::kRepair, run<&M::repair>, no, tools, changes, no, A::admin},
      {R::kSite, run<&M::site>, no, tools, changes, no, A::admin},
      {R::kAudit, run<&M::audit>, no, tools, changes, no, A::observe},
      {R::kFold, run<&M::fold>, no, tools, changes, no, A::admin},
      {R::kAdmin, run<&S::admin>, no, tools, changes, no, A::by_admin},
  };
  return kOperations;
}

const Operation* MetadataService::find_operation(pb::Request::OpCase request) {
  const auto all = operations();
  const auto it = std::find_if(all.begin(), all.end(),
                               [&](const Operation& known) { return known.request == request; });
  return it != all.end() ? &*it : nullptr;
}

}  // namespace datacloud
