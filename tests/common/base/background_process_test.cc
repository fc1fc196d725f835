// What the starter of a background program gets: 0 when it is ready, else its exit status.
#include "common/base/background_process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace datacloud {
namespace {

constexpr int kFailed = 32;

// The starter is a process of its own: both ends return from the call.
int start(const std::function<int(const std::function<void()>&)>& serve) {
  const pid_t starter = ::fork();
  if (starter == 0) {
    const auto code = run_in_background(kFailed, nullptr, serve);
    ::_exit(code ? code.value() : 99);
  }
  int status = 0;
  ::waitpid(starter, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(BackgroundProcess, TheStarterGoesOnWhenItIsReady) {
  int served[2];
  ASSERT_EQ(::pipe(served), 0);
  EXPECT_EQ(start([&](const auto& ready) {
              ready();
              // Goes on after the starter has ended, in a session of its own, with no terminal.
              const bool alone = ::getsid(0) == ::getpid() && !::isatty(STDERR_FILENO);
              return ::write(served[1], alone ? "y" : "n", 1) == 1 ? 7 : 8;
            }),
            0);
  char answer = 0;
  ASSERT_EQ(::read(served[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  ::close(served[0]);
  ::close(served[1]);
}

TEST(BackgroundProcess, ItsOwnStatusIsToldWhenItIsNeverReady) {
  EXPECT_EQ(start([](const auto&) { return 5; }), 5);
  EXPECT_EQ(start([](const auto&) { return 0; }), kFailed) << "an end before it served";
}

TEST(BackgroundProcess, AKilledOneHasFailed) {
  EXPECT_EQ(start([](const auto&) { return ::raise(SIGKILL); }), kFailed);
}

}  // namespace
}  // namespace datacloud
