// Where the daemons of a cloud are reached, as one program knows it: the addresses of its
// configuration, and what the leader has told of itself and of its standbys.
//
// Threading: all methods from any thread; they do not block.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/proto/rpc.pb.h"

namespace datacloud {

inline constexpr int kPlacesMax = 16;              // daemons that are remembered
inline constexpr int kPlaceAddressesMax = 8;       // of one
inline constexpr size_t kPlaceTextBytesMax = 256;  // a name, an address

class KnownAddresses {
 public:
  explicit KnownAddresses(std::vector<std::string> configured);
  virtual ~KnownAddresses() = default;
  KnownAddresses(const KnownAddresses&) = delete;
  KnownAddresses& operator=(const KnownAddresses&) = delete;

  // In the order to try: the leader's, the other daemons' in the order of succession, then those of
  // the configuration, which are never forgotten. Without repetition.
  std::vector<std::string> all() const;
  // Whose address it is, as last told; empty: nobody's.
  std::string name_of(const std::string& address) const;

  // What a leader has answered. `local`: over a Unix socket; the paths of sockets mean nothing
  // on another machine, and are left out otherwise. An answer that names no daemons changes
  // nothing.
  virtual void told(const pb::HelloReply&, bool local);
  virtual void told(const pb::KeepaliveReply&, bool local);
  // All of them were tried, for a second at least, and none leads. Told again and again.
  virtual void unreachable() {}

 protected:
  using Places = std::vector<pb::DaemonPlace>;
  // What can be used of it, within the bounds above.
  static Places usable(const google::protobuf::RepeatedPtrField<pb::DaemonPlace>&, bool local);
  // True: they differ from those before.
  bool set(Places);
  Places places() const;

 private:
  const std::vector<std::string> configured_;
  mutable std::mutex mutex_;
  Places places_;
};

}  // namespace datacloud
