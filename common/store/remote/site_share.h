// What the connections of a site's server share: its stores, its budget, who is there.
//
// Thread safety: all methods from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/net/handshake_places.h"
#include "common/store/remote/site_counters.h"
#include "common/store/remote/site_server.h"
#include "common/store/remote/site_tickets.h"

namespace datacloud {

class SiteShare {
 public:
  explicit SiteShare(SiteServerOptions o)
      : options(std::move(o)),
        handshakes(std::make_shared<HandshakePlaces>(
            options.limits.handshakes_max,
            std::max<size_t>(1, options.limits.handshakes_max / 4))) {}
  const SiteServerOptions options;
  const std::shared_ptr<HandshakePlaces> handshakes;
  PeerRefusals refusals;
  SiteCounters counters;
  SiteTickets tickets;
  // Of the socket for nodes on this machine; empty: there is none. Set before the first connection.
  std::string local_socket;

  // The store that expects that marker. away: it names another cloud or site.
  result<std::shared_ptr<ObjectStore>> store_for(const SiteMarker&);
  // After the last connection: waits for what the stores are doing, which holds on to this.
  void close_stores();

  // Part of the server's budget, given back by its destruction.
  class Reservation {
   public:
    Reservation(std::shared_ptr<SiteShare> share, uint64_t bytes)
        : share_(std::move(share)), bytes_(bytes) {}
    ~Reservation() { share_->release(bytes_); }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

   private:
    const std::shared_ptr<SiteShare> share_;
    const uint64_t bytes_;
  };
  // Null: over the budget now.
  static std::shared_ptr<Reservation> reserve(const std::shared_ptr<SiteShare>&, uint64_t bytes);
  // Room for one more window; false: over the budget. What was taken is given back.
  bool take_window(uint64_t bytes);
  void give_back_window(uint64_t bytes) { windows_bytes_ -= bytes; }
  bool room_for_window() const { return windows_bytes_ < options.limits.windows_bytes_max; }
  size_t requests() const { return requests_; }
  uint64_t bytes() const { return bytes_; }

  // One more connection of that node, if there may be; and its end.
  bool begin_node(const std::string& name);
  void end_node(const std::string& name);

  void log_refusal(Refusal, const std::string& address, const std::string& why);

 private:
  void release(uint64_t bytes);

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<ObjectStore>> stores_;
  std::shared_ptr<ObjectStore> last_;  // stays open without connections
  std::map<std::string, size_t> nodes_;
  std::atomic<size_t> requests_{0};
  std::atomic<uint64_t> bytes_{0}, windows_bytes_{0};
  MonotonicTime log_window_{};
  int log_lines_ = 0;
};

}  // namespace datacloud
