// Polls the daemon (repair_wait.h).
#include "tools/repair_wait.h"

#include <fmt/format.h>
#include <unistd.h>

#include <thread>

#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr auto kPollFirst = milliseconds(20);
constexpr auto kPollLongest = milliseconds(500);
constexpr auto kPlainLine = seconds(10);
constexpr size_t kLinesMax = 1'000'000;

class Progress {
 public:
  explicit Progress(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (drawn_) fmt::print(stderr, "\r\x1b[K");
  }

  void show(const pb::RepairReply& now, size_t done) {
    if (quiet_) return;
    const uint64_t left = now.queued() - std::min(now.queued(), now.put_off());
    const std::string text = now.scrubbing()
                                 ? fmt::format("looking for missing shards: {} checked, {} missing",
                                               now.shards_checked(), now.missing_found())
                                 : fmt::format("{} shards repaired, {} stripes to go", done, left);
    if (terminal_) {
      const uint64_t all = done + left;
      const int filled = all == 0 ? 0 : static_cast<int>(30 * done / all);
      fmt::print(stderr, "\r\x1b[K[{:#<{}}{:.<{}}] {}", "", filled, "", 30 - filled, text);
      fflush(stderr);
      drawn_ = true;
    } else if (monotonic_now() - told_ > kPlainLine) {
      fmt::print(stderr, "{}\n", text);
      told_ = monotonic_now();
    }
  }

 private:
  const bool quiet_, terminal_;
  bool drawn_ = false;
  MonotonicTime told_ = monotonic_now();
};

}  // namespace

result<RepairWait> wait_for_repairs(DaemonLink& link, uint64_t lines_after, bool quiet) {
  RepairWait wait;
  Progress progress(quiet);
  Duration pause = kPollFirst;
  for (;;) {
    pb::Request request;
    request.mutable_repair()->set_lines_after(lines_after);
    TRY(auto reply, link.call(std::move(request)));
    wait.last = std::move(*reply.mutable_repair());
    lines_after = wait.last.next_line();
    for (const auto& line : wait.last.lines()) {
      if (wait.lines.size() < kLinesMax) wait.lines.push_back(line);
    }
    if (wait.last.idle()) return wait;
    progress.show(wait.last, wait.lines.size());
    std::this_thread::sleep_for(pause);
    pause = std::min<Duration>(pause * 3 / 2, Duration(kPollLongest));
  }
}

}  // namespace datacloud
