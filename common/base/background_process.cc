// Fork, a pipe that says "ready", and streams that lead nowhere.
#include "common/base/background_process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "common/base/log.h"

namespace datacloud {
namespace {

// From the caller: its terminal, its pipes, its directory.
void detach_streams() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null, fd);
  ::close(null);
  if (::chdir("/") != 0) return;
}

int await_child(pid_t child, int ready, int failed, const std::function<void(int)>& waiting) {
  if (waiting) waiting(ready);
  char answer = 0;
  if (::read(ready, &answer, 1) == 1) return 0;
  int status = 0;
  ::waitpid(child, &status, 0);  // it has said why
  return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : failed;
}

}  // namespace

result<int> run_in_background(int failed, const std::function<void(int ready)>& waiting,
                              const std::function<int(const std::function<void()>& ready)>& serve) {
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) return failure(Error::posix(errno, "pipe"));
  const pid_t child = ::fork();
  if (child < 0) return failure(Error::posix(errno, "fork"));
  if (child > 0) {
    ::close(ready[1]);
    return await_child(child, ready[0], failed, waiting);
  }
  ::close(ready[0]);
  ::setsid();
  return serve([&] {
    detach_streams();
    if (::write(ready[1], "1", 1) != 1) spdlog::warn("the process that started this one has gone");
    ::close(ready[1]);
  });
}

}  // namespace datacloud
