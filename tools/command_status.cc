// `datacloud status`: health, sites, capacity and mounts, as the daemon sees them; `--watch` shows
// it again and again. `datacloud top`: rates of mounts and requests.
#include <fmt/format.h>

#include <deque>
#include <thread>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

// Mounts report every few seconds: rates are taken over this long, so that they do not jump.
constexpr double kRateSpan = 10;

result<pb::StatusReply> ask(const CommandContext& context) {
  TRY(auto link, connect_to_daemon(context));
  pb::Request request;
  request.mutable_status();
  TRY(auto reply, link.call(std::move(request)));
  return std::move(*reply.mutable_status());
}

// A terminal is cleared for each look; elsewhere they follow each other.
void show(const std::string& text, bool json) {
  const bool screen = !json && colour_wanted();
  fmt::print("{}{}", screen ? "\x1b[H\x1b[2J" : "", text);
  fflush(stdout);
}

void wait(const WatchOptions& options) {
  std::this_thread::sleep_for(std::chrono::duration<double>(options.interval_s));
}

}  // namespace

int run_status(const CommandContext& context, const WatchOptions& options) {
  for (uint64_t round = 1;; ++round) {
    auto status = ask(context);
    const bool last = !options.watch || round == options.rounds;
    if (!status && last) return report_failure(status.error());
    // While watching, a daemon that restarts is waited for.
    std::string text = status         ? context.json ? json_text(status_json(status.value()))
                                                     : status_text(status.value(), colour_wanted())
                               : context.json ? std::string()
                                      : printable(status.error().message()) + "\n";
    if (options.watch) {
      show(text, context.json);
    } else {
      fmt::print("{}", text);
    }
    if (last) return kExitOk;
    wait(options);
  }
}

int run_top(const CommandContext& context, const WatchOptions& options) {
  std::deque<std::pair<MonotonicTime, pb::StatusReply>> past;
  for (uint64_t round = 0;; ++round) {
    auto status = ask(context);
    if (!status) return report_failure(status.error());
    const auto now = monotonic_now();
    past.emplace_back(now, std::move(status).value());
    const auto age = [&](size_t i) {
      return std::chrono::duration<double>(now - past[i].first).count();
    };
    while (past.size() > 2 && age(1) >= kRateSpan) past.pop_front();
    if (round > 0) {
      const auto& [before, after] = std::pair(past.front().second, past.back().second);
      show(context.json ? json_text(top_json(before, after, age(0)))
                        : top_text(before, after, age(0), colour_wanted()),
           context.json);
    }
    if (round > 0 && round == options.rounds) return kExitOk;
    wait(options);
  }
}

}  // namespace datacloud
