// See site_tickets.h.
#include "common/store/remote/site_tickets.h"

#include <openssl/crypto.h>
#include <sys/random.h>

#include <utility>

#include "common/store/remote/site_local.h"

namespace datacloud {

std::optional<std::string> SiteTickets::issue(Holder holder) {
  std::string ticket(kTicketBytes, '\0');
  if (::getrandom(ticket.data(), ticket.size(), 0) != static_cast<ssize_t>(ticket.size()))
    return std::nullopt;
  const auto now = monotonic_now();
  std::lock_guard lock(mutex_);
  std::erase_if(issued_, [&](const auto& entry) { return entry.second.until < now; });
  if (issued_.size() >= kTicketsMax) return std::nullopt;
  issued_.emplace(ticket.substr(0, kTicketIdBytes),
                  Issued{ticket.substr(kTicketIdBytes), std::move(holder), now + kTicketLife});
  return ticket;
}

std::optional<SiteTickets::Holder> SiteTickets::redeem(const std::string& ticket) {
  if (ticket.size() != kTicketBytes) return std::nullopt;
  std::lock_guard lock(mutex_);
  const auto found = issued_.find(ticket.substr(0, kTicketIdBytes));
  if (found == issued_.end()) return std::nullopt;
  Issued issued = std::move(found->second);
  issued_.erase(found);
  const bool right = CRYPTO_memcmp(issued.secret.data(), ticket.data() + kTicketIdBytes,
                                   issued.secret.size()) == 0;
  if (!right || issued.until < monotonic_now()) return std::nullopt;
  return std::move(issued.holder);
}

}  // namespace datacloud
