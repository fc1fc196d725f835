// Who a node is: its name, its cloud and its roles, as certificates say it.
//
// A certificate carries them in one URI (subjectAltName): datacloud://CLOUD-UUID/NAME?ROLE,ROLE
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud {

inline constexpr size_t kNodeNameBytesMax = 64;

enum class NodeRole : uint32_t {
  mount = 1,     // "mount": mounts, and changes what it likes
  mount_ro = 2,  // "mount-ro": mounts, and changes nothing
  admin = 4,     // "admin": what the tool does beside the daemon
  auditor = 8,   // "auditor": asks how things are, and exports bundles for third parties
  daemon = 16,   // "daemon": serves the cloud
  site = 32,     // "site": serves the site that it is named after
};

class NodeRoles {
 public:
  NodeRoles() = default;
  NodeRoles(NodeRole role) : bits_(static_cast<uint32_t>(role)) {}
  bool has(NodeRole role) const { return (bits_ & static_cast<uint32_t>(role)) != 0; }
  bool empty() const { return bits_ == 0; }
  void add(NodeRole role) { bits_ |= static_cast<uint32_t>(role); }
  std::vector<std::string> names() const;
  std::string text() const;  // with commas between them
  bool operator==(const NodeRoles&) const = default;

  // invalid: a word is no role. At least one is needed.
  static result<NodeRoles> parse(const std::vector<std::string>& words);
  static result<NodeRoles> parse(std::string_view words_with_commas);

 private:
  uint32_t bits_ = 0;
};

// 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit.
bool valid_node_name(std::string_view);

struct NodeIdentity {
  std::string cloud_uuid;
  std::string name;
  NodeRoles roles;
};

std::string to_uri(const NodeIdentity&);
// corrupt: it is no such URI.
result<NodeIdentity> parse_node_uri(std::string_view);

}  // namespace datacloud
