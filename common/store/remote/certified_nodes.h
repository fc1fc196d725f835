// Nodes that come to a site with certificates of their organisation: who they are, by the SHA-256
// of the certificate, as the daemon's records say (docs/nodes.md, "The organisation's own
// certificates").
//
// Thread safety: all methods from any thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "common/base/bytes.h"
#include "common/tls/node_identity.h"

namespace datacloud {

class CertifiedNodes {
 public:
  struct Node {
    std::string name;
    NodeRoles roles;
  };
  using Nodes = std::map<Bytes, Node>;

  void set(Nodes nodes) {
    std::lock_guard lock(mutex_);
    nodes_ = std::move(nodes);
  }
  std::optional<Node> find(const Bytes& fingerprint) const {
    std::lock_guard lock(mutex_);
    const auto known = nodes_.find(fingerprint);
    return known != nodes_.end() ? std::optional(known->second) : std::nullopt;
  }

 private:
  mutable std::mutex mutex_;
  Nodes nodes_;
};

}  // namespace datacloud
