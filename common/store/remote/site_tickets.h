// Tickets of a site's server: who has shown a certificate goes on by a socket of this machine.
//
// Thread safety: all methods from any thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "common/base/bytes.h"
#include "common/base/clock.h"

namespace datacloud {

// What a node has proved, and may; of its certificate.
struct SiteAdmission {
  std::string node;
  bool may_change = false, may_format = false, may_log = false;
  int64_t certificate_end_ns = 0;  // wall clock
  Bytes serial;                    // empty: the daemon, or nobody is asked
};

inline constexpr size_t kTicketsMax = 256;
inline constexpr Duration kTicketLife = seconds(10);

class SiteTickets {
 public:
  struct Holder {
    SiteAdmission admission;
    uid_t uid = 0;  // who may show it
  };
  // nullopt: too many are out, or there is no randomness.
  std::optional<std::string> issue(Holder);
  // nullopt: unknown, used or too old. A right id with a wrong secret uses the ticket up too.
  std::optional<Holder> redeem(const std::string& ticket);

 private:
  struct Issued {
    std::string secret;
    Holder holder;
    MonotonicTime until;
  };
  std::mutex mutex_;
  std::map<std::string, Issued> issued_;  // by id
};

}  // namespace datacloud
