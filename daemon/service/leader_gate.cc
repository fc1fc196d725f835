// Nothing is answered to mounts while the leader's lease has run out (docs/journal.md, step 12):
// another daemon may lead by then, and may have answered changes that are not here.
//
// Requests are not begun, and what was begun before is not sent: both go on, in their order, as
// soon as enough sites have confirmed the lease, and are dropped with the daemon when another one
// leads. How much waits is bounded as requests in flight are. Mounts are let go after a second, so
// that they look for a daemon that leads.
#include <utility>

#include "common/base/log.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr auto kLeaseLook = milliseconds(10);
constexpr auto kMountsStay = seconds(1);

}  // namespace

bool MetadataService::may_answer() const { return !deps_.lease || deps_.lease->holds(); }

bool MetadataService::waits_for_lease(const CallPtr& call) {
  const SessionState* session = sessions_.find(call->session);
  if (session == nullptr || session->tool()) return false;
  if (leaseless_calls_.empty() && may_answer()) return false;
  if (session->in_flight.size() > 2 * deps_.config.requests_in_flight_max) {
    if (session->connection) session->connection->close();
    return true;
  }
  call->admitted = 0;  // others may get leases before its turn comes
  leaseless_calls_.push_back(call);
  await_lease();
  return true;
}

// Replies and pushes leave in the order in which they were made: a recall must not overtake what it
// recalls.
void MetadataService::send_out(std::function<void()> send) {
  if (leaseless_sends_.empty() && may_answer()) return send();
  leaseless_sends_.push_back(std::move(send));
  await_lease();
}

void MetadataService::await_lease() {
  if (std::exchange(awaiting_lease_, true)) return;
  lease_lost_ = loop_.now();
  loop_.after(kLeaseLook, [this] { look_at_lease(); });
}

void MetadataService::look_at_lease() {
  if (!may_answer()) {
    if (loop_.now() - lease_lost_ >= kMountsStay) {
      if (!std::exchange(told_lease_lost_, true))
        spdlog::warn("too few sites confirm that this daemon leads: mounts get no answers");
      let_mounts_go();
    }
    return loop_.after(kLeaseLook, [this] { look_at_lease(); });
  }
  awaiting_lease_ = false;
  if (std::exchange(told_lease_lost_, false))
    spdlog::info("enough sites confirm again that this daemon leads");
  for (auto& send : std::exchange(leaseless_sends_, {})) send();
  // What ran out again meanwhile goes back to the queue.
  for (auto& call : std::exchange(leaseless_calls_, {})) dispatch(call);
  pump();
}

void MetadataService::let_mounts_go() {
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->tool() && session->connection) session->connection->close();
  }
}

// Nobody could renew a lease here meanwhile.
void MetadataService::excuse_lost_lease() {
  if (may_answer()) return;
  for (auto& [id, session] : sessions_.all()) {
    const auto heard = session->heard;
    renew(*session);
    session->heard = heard;
  }
}

}  // namespace datacloud
