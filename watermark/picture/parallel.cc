// Threads that take the next piece each (parallel.h).
#include "watermark/picture/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace datacloud::watermark {

size_t threads_wanted() {
  cpu_set_t usable;
  size_t count = 1;
  if (::sched_getaffinity(0, sizeof usable, &usable) == 0)
    count = static_cast<size_t>(CPU_COUNT(&usable));
  if (const char* wanted = std::getenv("DATACLOUD_WATERMARK_THREADS"))
    count = std::min<size_t>(count, std::strtoull(wanted, nullptr, 10));
  return std::clamp<size_t>(count, 1, kThreadsMax);
}

result<void> for_each_in_parallel(size_t count, size_t threads,
                                  const std::function<result<void>(size_t, size_t)>& work) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::optional<Error> failed;
  const auto loop = [&](size_t thread) {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      auto done = work(thread, i);
      if (done) continue;
      next = count;
      const std::lock_guard lock(mutex);
      failed = done.error();
    }
  };
  std::vector<std::jthread> others;
  for (size_t thread = 1; thread < std::min(threads, count); ++thread)
    others.emplace_back(loop, thread);
  loop(0);
  others.clear();
  if (failed) return failure(*failed);
  return success();
}

}  // namespace datacloud::watermark
