// One connection to a site's server, from its handshake to its end.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "common/store/remote/site_share.h"

namespace datacloud {

class SitePeer {
 public:
  // Owns `fd`, which is connected and non-blocking; runs on a thread of its own. Without a context
  // it is a socket of this machine, on which a ticket must come (site_tickets.h).
  SitePeer(std::shared_ptr<SiteShare>, int fd, std::shared_ptr<const TlsContext>,
           std::unique_ptr<HandshakePlaces::Place>, std::string address);
  // Ends the connection and waits for its thread.
  ~SitePeer();
  bool ended() const { return ended_; }

 private:
  class Run;
  std::unique_ptr<Run> run_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace datacloud
