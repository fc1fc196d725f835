// The request table: what the service does with each kind of request.
#include <algorithm>

#include "daemon/service/service.h"

namespace datacloud {

template <auto handler>
Answer MetadataService::run(MetadataService& service, const CallPtr& call) {
  if constexpr (requires { (service.*handler)(call); }) {
    return (service.*handler)(call);
  } else {
    return (service.maintenance_.*handler)(call);
  }
}

std::span<const Operation> MetadataService::operations() {
  using R = pb::Request;
  using S = MetadataService;
  using M = Maintenance;
  constexpr bool waits = true, tools = true, changes = true, adds = true, no = false;
  static constexpr Operation kOperations[] = {
      {R::kKeepalive, run<&S::keepalive>, no, tools, no, no},
      {R::kGrant, run<&S::grant>, no, no, changes, no},
      {R::kGoodbye, run<&S::goodbye>, no, tools, changes, no},
      {R::kLookup, run<&S::lookup>, waits, no, no, no},
      {R::kLease, run<&S::lease>, waits, no, no, no},
      {R::kRelease, run<&S::release>, no, no, no, no},
      {R::kRecallDone, run<&S::recall_done>, no, no, no, no},
      {R::kSetattr, run<&S::setattr>, waits, no, changes, no},
      {R::kCreate, run<&S::create>, waits, no, changes, adds},
      {R::kLink, run<&S::link>, waits, no, changes, adds},
      {R::kUnlink, run<&S::unlink>, waits, no, changes, no},
      {R::kRename, run<&S::rename>, waits, no, changes, no},
      {R::kReaddir, run<&S::readdir>, waits, no, no, no},
      {R::kGetxattr, run<&S::getxattr>, no, tools, no, no},
      {R::kSetxattr, run<&S::setxattr>, waits, no, changes, adds},
      {R::kListxattr, run<&S::listxattr>, no, tools, no, no},
      {R::kRemovexattr, run<&S::removexattr>, waits, no, changes, no},
      {R::kStatfs, run<&S::statfs>, no, tools, no, no},
      {R::kMap, run<&S::map>, no, tools, no, no},
      {R::kCommit, run<&S::commit_data>, no, no, changes, adds},
      {R::kAbandon, run<&S::abandon>, no, no, changes, no},
      {R::kDamage, run<&S::damage>, no, no, changes, no},
      {R::kSync, run<&S::sync>, no, tools, no, no},
      {R::kStatus, run<&S::status>, no, tools, no, no},
      {R::kLocate, run<&S::locate>, no, tools, no, no},
      {R::kTraffic, run<&S::traffic>, no, tools, no, no},
      {R::kGc, run<&M::gc>, no, tools, changes, no},
      {R::kRepair, run<&M::repair>, no, tools, changes, no},
      {R::kSite, run<&M::site>, no, tools, changes, no},
      {R::kAudit, run<&M::audit>, no, tools, changes, no},
      {R::kFold, run<&M::fold>, no, tools, changes, no},
      {R::kAdmin, run<&S::admin>, no, tools, changes, no},
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
