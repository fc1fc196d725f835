// Bars, lines and pauses (progress.h).
#include "tools/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace datacloud {
namespace {

constexpr auto kPauseLongest = milliseconds(500);
constexpr auto kPlainLine = seconds(10);
constexpr uint64_t kBarWidth = 30;

}  // namespace

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::show(uint64_t done, uint64_t all, const std::string& text) {
  if (quiet_) return;
  if (terminal_) {
    const uint64_t filled = all == 0 ? 0 : std::min(kBarWidth, kBarWidth * done / all);
    fmt::print(stderr, "\r\x1b[K[{:#<{}}{:.<{}}] {}", "", filled, "", kBarWidth - filled, text);
    fflush(stderr);
    drawn_ = true;
  } else if (monotonic_now() - told_ > kPlainLine) {
    fmt::print(stderr, "{}\n", text);
    told_ = monotonic_now();
  }
}

void PollPause::sleep() {
  std::this_thread::sleep_for(next_);
  next_ = std::min<Duration>(next_ * 3 / 2, Duration(kPauseLongest));
}

}  // namespace datacloud
