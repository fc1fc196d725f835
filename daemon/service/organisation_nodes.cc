// Nodes with certificates of an organisation's own authorities: known by their SHA-256 in the
// node's record (docs/nodes.md).
#include <fmt/format.h>

#include <string>
#include <vector>

#include "common/base/hex.h"
#include "common/base/log.h"
#include "common/proto/admin.pb.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

bool same_roles(const pb::Node& node, const NodeRoles& roles) {
  const auto known =
      NodeRoles::parse(std::vector<std::string>(node.roles().begin(), node.roles().end()));
  return known && known.value() == roles;
}

}  // namespace

const pb::Node* MetadataService::holder_of(ByteView fingerprint) const {
  for (const auto& [name, node] : nodes_.all())
    if (node.state() == pb::NODE_JOINED && holds_certificate(node, fingerprint)) return &node;
  return nullptr;
}

// A node whose certificate the organisation has signed: it needs no line. Again with the same
// roles: a further certificate of the same node.
result<void> MetadataService::add_certified_node(Transaction& txn, const pb::NodeRequest& request,
                                                 NodeRoles roles) {
  const ByteView fingerprint = as_bytes(request.key_hash());
  const pb::Node* holder = holder_of(fingerprint);
  if (holder != nullptr && holder->name() != request.name())
    return failure(Errc::exists, "node " + holder->name() + " has this certificate already");
  TRY(const InodeId limit, limit_for(request, roles));
  const pb::Node* before = nodes_.find(request.name());
  pb::Node node;
  if (before != nullptr && before->state() == pb::NODE_JOINED) {
    if (!same_roles(*before, roles) || before->root() != limit)
      return failure(Errc::exists,
                     fmt::format("node {} has joined already, with another role or directory; "
                                 "another name, or `datacloud node revoke {}` first",
                                 request.name(), request.name()));
    if (holder != nullptr) return success();
    node = *before;
  } else {
    if (before == nullptr && nodes_.all().size() >= kNodesMax)
      return failure(Errc::unavailable, fmt::format("there are {} nodes already", kNodesMax));
    node.set_name(request.name());
    for (const auto& name : roles.names()) node.add_roles(name);
    node.set_root(limit);
    node.set_created_ns(wall_now_ns());
    node.set_joined_ns(wall_now_ns());
    node.set_state(pb::NODE_JOINED);
  }
  // It is judged by its own dates when it is shown.
  add_certificate(node, fingerprint, INT64_MAX, wall_now_ns());
  spdlog::info("node {} ({}) has a certificate of the organisation, {}", node.name(), roles.text(),
               to_hex(fingerprint));
  nodes_.put(txn, std::move(node));
  return success();
}

}  // namespace datacloud
