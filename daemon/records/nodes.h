// The nodes of the cloud: who may connect over TLS (docs/nodes.md).
//
// All records are in memory, so that a peer that knocks costs no read of the store. On the
// service's thread.
#pragma once

#include <map>
#include <string>

#include "common/base/bytes.h"
#include "common/proto/records.pb.h"
#include "common/tls/node_identity.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr size_t kNodesMax = 4096;
inline constexpr int kNodeCertificatesMax = 4;  // in force at once: the newest and those it renews
inline constexpr size_t kSealedBundleBytesMax = 64 << 10;

class Nodes {
 public:
  // Records that are damaged are logged and left out: their nodes are not known (fsck mends them).
  result<void> open(const Transaction&);
  const pb::Node* find(const std::string& name) const;
  // Whose line gives the key with this hash: present, used and withdrawn ones.
  const pb::Node* by_invitation(ByteView key_hash) const;
  // Of which node a line was that another has replaced since the start; empty: of none.
  std::string replaced(ByteView key_hash) const;
  const std::map<std::string, pb::Node>& all() const { return nodes_; }
  // Puts the record, and remembers it: the caller applies the transaction next.
  void put(Transaction&, pb::Node);

 private:
  static constexpr size_t kReplacedMax = 1024;
  std::map<std::string, pb::Node> nodes_;
  std::map<std::string, std::string> replaced_;  // node by hash: only to be told
};

// Only mounts can be limited to a directory.
bool may_be_limited(const NodeRoles&);
// What is wrong with a node's record; empty: nothing.
std::string node_problem(const std::string& key, std::string_view value);
// Adds a certificate to those in force, without those that have expired and the oldest ones; that
// of serial number `used` stays, because its connection is open.
void add_certificate(pb::Node&, ByteView serial, int64_t not_after_ns, int64_t now_ns,
                     ByteView used = {});
bool holds_certificate(const pb::Node&, ByteView serial);

}  // namespace datacloud
