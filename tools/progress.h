// Long work the daemon does for a command: asking how far it is, and showing it.
#pragma once

#include <string>

#include "common/base/clock.h"

namespace datacloud {

// A bar on a terminal, a plain line now and then otherwise; on stderr. Silent with `quiet`.
class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress();  // takes the bar away
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(uint64_t done, uint64_t all, const std::string& text);

 private:
  const bool quiet_, terminal_;
  bool drawn_ = false;
  MonotonicTime told_ = monotonic_now();
};

// Between two questions: short at first, so that short work ends at once.
class PollPause {
 public:
  void sleep();

 private:
  Duration next_ = milliseconds(20);
};

}  // namespace datacloud
