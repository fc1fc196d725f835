// `datacloud journal`: the replicated log of the metadata at the sites: its state, and switching it
// on.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "daemon/metadata/journal_records.h"
#include "tools/admin_call.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

// A daemon that starts anew is away for a moment.
constexpr auto kRestart = seconds(60);
constexpr auto kLook = milliseconds(200);
// All of the metadata is read, no faster than the daemon allows itself.
constexpr auto kAllOfIt = std::chrono::hours(6);

result<pb::JournalStatus> ask(DaemonLink& link, const pb::JournalRequest& wanted) {
  pb::AdminRequest request;
  *request.mutable_journal() = wanted;
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_journal()->mutable_status());
}

result<pb::JournalStatus> ask(const CommandContext& context, const pb::JournalRequest& wanted) {
  TRY(auto link, connect_to_daemon(context));
  return ask(link, wanted);
}

// What takes as long as all of the metadata is large.
result<pb::JournalStatus> ask_at_length(const CommandContext& context, pb::JournalAction action) {
  pb::JournalRequest request;
  request.set_action(action);
  TRY(auto link, connect_to_daemon(context, kAllOfIt));
  return ask(link, request);
}

int tell(const CommandContext& context, const result<pb::JournalStatus>& status) {
  if (!status) return report_failure(status.error());
  fmt::print("{}", context.json ? json_text(journal_json(status.value()))
                                : journal_text(status.value(), colour_wanted()));
  return kExitOk;
}

result<pb::JournalRequest> enabling(DaemonLink& link, const std::vector<std::string>& names,
                                    bool accept_weaker) {
  pb::JournalRequest request;
  request.set_action(pb::JOURNAL_ENABLE);
  request.set_accept_weaker(accept_weaker);
  if (names.empty()) return request;
  pb::Request ask;
  ask.mutable_status();
  TRY(const auto reply, link.call(std::move(ask)));
  for (const auto& name : names) {
    const auto& sites = reply.status().cloud().sites();
    const auto site =
        std::find_if(sites.begin(), sites.end(), [&](const auto& s) { return s.name() == name; });
    if (site == sites.end()) {
      return failure(Errc::not_found, fmt::format("the cloud has no site \"{}\"", name));
    }
    request.add_sites(site->id());
  }
  return request;
}

// Until the daemon that has started anew leads the journal.
result<pb::JournalStatus> enable(const CommandContext& context,
                                 const std::vector<std::string>& names, bool accept_weaker) {
  {
    TRY(auto link, connect_to_daemon(context, kRestart));
    TRY(const auto request, enabling(link, names, accept_weaker));
    TRY(auto status, ask(link, request));
    if (status.used()) return status;
  }
  const auto end = monotonic_now() + kRestart;
  for (;;) {
    auto status = ask(context, {});
    if (status && status.value().used()) return status;
    if (monotonic_now() >= end) {
      return failure(Errc::timed_out,
                     "the journal is switched on, but the daemon has not led it within a minute; "
                     "its log says why");
    }
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace

int run_journal_status(const CommandContext& context) { return tell(context, ask(context, {})); }

int run_journal_enable(const CommandContext& context, const std::vector<std::string>& sites,
                       bool accept_weaker) {
  return tell(context, enable(context, sites, accept_weaker));
}

int run_journal_checkpoint(const CommandContext& context) {
  return tell(context, ask_at_length(context, pb::JOURNAL_CHECKPOINT));
}

int run_journal_audit(const CommandContext& context) {
  const auto status = ask_at_length(context, pb::JOURNAL_AUDIT);
  const int code = tell(context, status);
  return status && status.value().audit().unrepaired() > 0 ? kExitFailed : code;
}

}  // namespace datacloud
