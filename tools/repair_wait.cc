// Polls the daemon (repair_wait.h).
#include "tools/repair_wait.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/admin_call.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr size_t kLinesMax = 1'000'000;

// How fast it goes, and until when.
struct Pace {
  MonotonicTime began = monotonic_now();
  uint64_t bytes = 0, between = 0;

  void count(const pb::RepairReply::Line& line) {
    bytes += line.bytes_written();
    between += line.bytes_between_sites();
  }
  std::string text(uint64_t done, uint64_t left) const {
    const double passed = std::chrono::duration<double>(monotonic_now() - began).count();
    if (done == 0 || passed < 1) return "";
    const auto rate = static_cast<uint64_t>(static_cast<double>(bytes) / passed);
    const auto rest = passed * static_cast<double>(left) / static_cast<double>(done);
    return fmt::format("; {}/s written, {} between sites, about {} left", human_bytes(rate),
                       human_bytes(between), human_duration(static_cast<uint64_t>(rest * 1000)));
  }
};

// Of the lines `reply` told, in its order; one the daemon has forgotten meanwhile is empty.
result<void> add_details(DaemonLink& link, const pb::RepairReply& reply, RepairWait& wait) {
  const auto count = static_cast<uint64_t>(reply.lines_size());
  if (count == 0) return success();
  const uint64_t first = reply.next_line() - count;
  pb::AdminRequest request;
  request.mutable_repair_details()->set_lines_after(first);
  request.mutable_repair_details()->set_lines_until(reply.next_line());
  TRY(const auto answer, call_admin(link, request));
  const size_t base = wait.details.size();
  wait.details.resize(wait.lines.size());
  for (const auto& line : answer.repair_details().lines()) {
    const uint64_t at = base + (line.number() - first);
    if (line.number() >= first && at < wait.details.size()) wait.details[at] = line;
  }
  return success();
}

void show(Progress& progress, const pb::RepairReply& now, size_t done, const Pace& pace) {
  const uint64_t left = now.queued() - std::min(now.queued(), now.put_off());
  progress.show(done, done + left,
                now.scrubbing() ? fmt::format("looking for missing shards: {} checked, {} missing",
                                              now.shards_checked(), now.missing_found())
                                : fmt::format("{} shards repaired, {} stripes to go{}", done, left,
                                              pace.text(done, left)));
}

}  // namespace

result<RepairWait> wait_for_repairs(DaemonLink& link, uint64_t lines_after, bool quiet,
                                    bool details) {
  RepairWait wait;
  Progress progress(quiet);
  PollPause pause;
  Pace pace;
  for (;;) {
    pb::Request request;
    request.mutable_repair()->set_lines_after(lines_after);
    TRY(auto reply, link.call(std::move(request)));
    wait.last = std::move(*reply.mutable_repair());
    lines_after = wait.last.next_line();
    for (const auto& line : wait.last.lines()) {
      pace.count(line);
      if (wait.lines.size() < kLinesMax) wait.lines.push_back(line);
    }
    if (details) {
      TRY(add_details(link, wait.last, wait));
    }
    if (wait.last.idle()) return wait;
    show(progress, wait.last, wait.lines.size(), pace);
    pause.sleep();
  }
}

}  // namespace datacloud
