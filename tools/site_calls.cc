// See site_calls.h.
#include "tools/site_calls.h"

#include <thread>
#include <utility>

#include "common/base/clock.h"

namespace datacloud {
namespace {

constexpr auto kAnswerMax = seconds(15);  // for a new storage to be seen by the daemon

}  // namespace

result<pb::SiteReply> act_on_site(DaemonLink& link, const std::string& name, pb::SiteAction action,
                                  bool scrub) {
  pb::Request request;
  request.mutable_site()->set_name(name);
  request.mutable_site()->set_action(action);
  request.mutable_site()->set_scrub(scrub);
  TRY(auto reply, link.call(std::move(request)));
  return std::move(*reply.mutable_site());
}

result<pb::SiteReply> wait_until_site_up(DaemonLink& link, const std::string& name) {
  const auto end = monotonic_now() + kAnswerMax;
  for (;;) {
    TRY(auto reply, act_on_site(link, name, pb::SITE_SHOW));
    if (reply.up() || monotonic_now() > end) return reply;
    std::this_thread::sleep_for(milliseconds(100));
  }
}

}  // namespace datacloud
