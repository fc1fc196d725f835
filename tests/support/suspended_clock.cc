// Makes a process believe that its machine was suspended: the monotonic clock is behind by as many
// nanoseconds as the file named by DATACLOUD_SUSPENDED holds (8 bytes, native order), while
// CLOCK_BOOTTIME has gone on. To be preloaded.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace {

int64_t behind_ns() {
  static const std::atomic<int64_t>* const shared = [] {
    const char* name = getenv("DATACLOUD_SUSPENDED");
    const int fd = name != nullptr ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return static_cast<std::atomic<int64_t>*>(nullptr);
    void* at = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? nullptr : static_cast<std::atomic<int64_t>*>(at);
  }();
  return shared != nullptr ? shared->load(std::memory_order_relaxed) : 0;
}

timespec moved(const timespec& time, int64_t by_ns) {
  const int64_t ns = time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec + by_ns;
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* out) noexcept {
  static auto* const real = next<int(clockid_t, timespec*)>("clock_gettime");
  const int failed = real(clock, out);
  if (failed == 0 && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE))
    *out = moved(*out, -behind_ns());
  return failed;
}

// What waits until a time of that clock waits as long as it means to.
extern "C" int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                      clockid_t clock, const timespec* until) {
  static auto* const real =
      next<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)>(
          "pthread_cond_clockwait");
  if (clock != CLOCK_MONOTONIC) return real(condition, mutex, clock, until);
  const timespec later = moved(*until, behind_ns());
  return real(condition, mutex, clock, &later);
}
