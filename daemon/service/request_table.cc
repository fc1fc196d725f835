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
  constexpr bool waits = true, tools = true, changes = true, no = false;
  static constexpr Operation kOperations[] = {
      {R::kKeepalive, run<&S::keepalive>, no, tools, no},
      {R::kGrant, run<&S::grant>, no, no, changes},
      {R::kGoodbye, run<&S::goodbye>, no, tools, changes},
      {R::kLookup, run<&S::lookup>, waits, no, no},
      {R::kLease, run<&S::lease>, waits, no, no},
      {R::kRelease, run<&S::release>, no, no, no},
      {R::kRecallDone, run<&S::recall_done>, no, no, no},
      {R::kSetattr, run<&S::setattr>, waits, no, changes},
      {R::kCreate, run<&S::create>, waits, no, changes},
      {R::kLink, run<&S::link>, waits, no, changes},
      {R::kUnlink, run<&S::unlink>, waits, no, changes},
      {R::kRename, run<&S::rename>, waits, no, changes},
      {R::kReaddir, run<&S::readdir>, waits, no, no},
      {R::kGetxattr, run<&S::getxattr>, no, tools, no},
      {R::kSetxattr, run<&S::setxattr>, waits, no, changes},
      {R::kListxattr, run<&S::listxattr>, no, tools, no},
      {R::kRemovexattr, run<&S::removexattr>, waits, no, changes},
      {R::kStatfs, run<&S::statfs>, no, tools, no},
      {R::kMap, run<&S::map>, no, tools, no},
      {R::kCommit, run<&S::commit_data>, no, no, changes},
      {R::kAbandon, run<&S::abandon>, no, no, changes},
      {R::kDamage, run<&S::damage>, no, no, changes},
      {R::kSync, run<&S::sync>, no, tools, no},
      {R::kStatus, run<&S::status>, no, tools, no},
      {R::kLocate, run<&S::locate>, no, tools, no},
      {R::kTraffic, run<&S::traffic>, no, tools, no},
      {R::kGc, run<&M::gc>, no, tools, changes},
      {R::kRepair, run<&M::repair>, no, tools, changes},
      {R::kSite, run<&M::site>, no, tools, changes},
      {R::kAudit, run<&M::audit>, no, tools, changes},
      {R::kFold, run<&M::fold>, no, tools, changes},
      {R::kAdmin, run<&S::admin>, no, tools, changes},
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
