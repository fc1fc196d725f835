// Node records (nodes.h).
#include "daemon/records/nodes.h"

#include <algorithm>

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {

std::string node_problem(const std::string& key, std::string_view value) {
  pb::Node node;
  if (!node.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return "the record of a node does not parse";
  if (!valid_node_name(node.name()) || key != key::node(node.name()))
    return "the record of a node is stored under another name";
  const auto roles =
      NodeRoles::parse(std::vector<std::string>(node.roles().begin(), node.roles().end()));
  if (!roles || roles.value().has(NodeRole::daemon))
    return "node " + node.name() + " has roles that do not exist";
  if (node.root() != 0 && !may_be_limited(roles.value()))
    return "node " + node.name() + " is limited to a directory, and has roles beside mounting";
  if (node.certificates_size() > kNodeCertificatesMax)
    return "node " + node.name() + " has more certificates in force than there can be";
  if (node.state() == pb::NODE_REVOKED && node.certificates_size() > 0)
    return "node " + node.name() + " was revoked and has certificates in force";
  return "";
}

bool may_be_limited(const NodeRoles& roles) {
  const auto names = roles.names();
  return std::all_of(names.begin(), names.end(),
                     [](const auto& name) { return name.starts_with("mount"); });
}

result<void> Nodes::open(const Transaction& txn) {
  const std::string first = key::node("");
  return txn.scan(first, key::after_prefix(first), [&](std::string_view k, std::string_view v) {
    if (const auto problem = node_problem(std::string(k), v); !problem.empty()) {
      spdlog::error("{}; it cannot connect. Run datacloud fsck", problem);
      return true;
    }
    pb::Node node;
    node.ParseFromArray(v.data(), static_cast<int>(v.size()));
    nodes_[node.name()] = std::move(node);
    return true;
  });
}

const pb::Node* Nodes::find(const std::string& name) const {
  const auto it = nodes_.find(name);
  return it == nodes_.end() ? nullptr : &it->second;
}

const pb::Node* Nodes::by_invitation(ByteView key_hash) const {
  if (key_hash.empty()) return nullptr;
  const auto it = std::find_if(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
    return entry.second.invitation().key_hash() == as_text(key_hash);
  });
  return it == nodes_.end() ? nullptr : &it->second;
}

std::string Nodes::replaced(ByteView key_hash) const {
  const auto it = replaced_.find(std::string(as_text(key_hash)));
  return it == replaced_.end() ? "" : it->second;
}

void Nodes::put(Transaction& txn, pb::Node node) {
  txn.put(key::node(node.name()), node);
  std::string name = node.name();
  const std::string& before = nodes_[name].invitation().key_hash();
  if (!before.empty() && before != node.invitation().key_hash()) {
    if (replaced_.size() >= kReplacedMax) replaced_.erase(replaced_.begin());
    replaced_[before] = name;
  }
  nodes_[std::move(name)] = std::move(node);
}

void add_certificate(pb::Node& node, ByteView serial, int64_t not_after_ns, int64_t now_ns,
                     ByteView used) {
  auto& all = *node.mutable_certificates();
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const auto& old) { return old.not_after_ns() < now_ns; }),
            all.end());
  while (all.size() >= kNodeCertificatesMax)
    all.erase(all.begin() + (all.Get(0).serial() == as_text(used) ? 1 : 0));
  auto* added = all.Add();
  added->set_serial(std::string(as_text(serial)));
  added->set_not_after_ns(not_after_ns);
}

bool holds_certificate(const pb::Node& node, ByteView serial) {
  return std::any_of(
      node.certificates().begin(), node.certificates().end(),
      [&](const auto& known) { return !serial.empty() && known.serial() == as_text(serial); });
}

}  // namespace datacloud
