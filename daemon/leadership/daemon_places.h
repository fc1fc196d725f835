// Which daemons a cloud has, where mounts reach each, and which of them leads.
//
// The leader keeps the list: itself, and the standbys that have told it of themselves. Mounts are
// told it in hello and keepalive, so that they know where to go on when the leader is gone. It
// holds what mounts need and nothing that changes often: how far a standby is, is not in it.
//
// Threading: the service's thread only. Ownership: the daemon's program makes it, the service and
// the standbys' registry share it. Nothing here is durable: a new leader begins with itself, and
// with what it knew as a standby, and standbys tell it of themselves within a second.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace datacloud {

inline constexpr size_t kDaemonsMax = 16;          // of a cloud
inline constexpr size_t kDaemonAddressesMax = 8;   // of one daemon
inline constexpr size_t kDaemonNameBytesMax = 64;  // [daemon] name
inline constexpr size_t kDaemonAddressBytesMax = 256;

struct KnownDaemon {
  std::string name;                    // [daemon] name; unique within the cloud
  std::vector<std::string> addresses;  // [daemon] advertise: for mounts on other machines
  int order = 0;                       // [daemon] order: of those that are up the lowest one leads
  bool leads = false;                  // exactly one of the list
  bool operator==(const KnownDaemon&) const = default;
};

class DaemonPlaces {
 public:
  // In the order of succession: by `order`, then by name.
  const std::vector<KnownDaemon>& all() const { return daemons_; }
  // Takes the place of what was known. Calls whoever asked for it if that makes a difference.
  void set(std::vector<KnownDaemon>);
  // Called after each change, on the same thread; must not call set(). Stays registered until this
  // object goes.
  void on_change(std::function<void()> f) { watchers_.push_back(std::move(f)); }

 private:
  std::vector<KnownDaemon> daemons_;
  std::vector<std::function<void()>> watchers_;
};

}  // namespace datacloud
