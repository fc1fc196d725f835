// Real children that get real signals, as /proc shows them.
#include "fs/fuse/raw/caller.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace datacloud {
namespace {

std::string status_with(const std::string& pending, const std::string& blocked,
                        const std::string& ignored, const std::string& caught) {
  return "Name:\tx\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t" + pending +
         "\nShdPnd:\t0000000000000000\nSigBlk:\t" + blocked + "\nSigIgn:\t" + ignored +
         "\nSigCgt:\t" + caught + "\nCapInh:\t0000000000000000\n";
}
const std::string kNone = "0000000000000000";
const std::string kKill = "0000000000000100", kTerm = "0000000000004000",
                  kAlarm = "0000000000002000", kChild = "0000000000010000";

TEST(Caller, OnlyASignalThatEndsTheProgramCounts) {
  EXPECT_TRUE(has_fatal_signal(status_with(kKill, kNone, kNone, kNone)));
  EXPECT_TRUE(has_fatal_signal(status_with(kTerm, kNone, kNone, kNone)));
  EXPECT_FALSE(has_fatal_signal(status_with(kNone, kNone, kNone, kNone)));
  EXPECT_FALSE(has_fatal_signal(status_with(kAlarm, kNone, kNone, kAlarm)));  // handled
  EXPECT_FALSE(has_fatal_signal(status_with(kTerm, kTerm, kNone, kNone)));    // blocked
  EXPECT_FALSE(has_fatal_signal(status_with(kTerm, kNone, kTerm, kNone)));    // ignored
  EXPECT_FALSE(has_fatal_signal(status_with(kChild, kNone, kNone, kNone)));
  EXPECT_FALSE(has_fatal_signal(""));
}

TEST(Caller, TellsAKilledProcessThatExitsFromOneThatEndsByItself) {
  // Fields 3 to 52; the name may hold spaces and brackets.
  const auto stat = [](const std::string& flags, const std::string& code) {
    std::string out = "17 (a ) b) R";
    for (int field = 4; field <= 52; ++field)
      out += " " + (field == 9 ? flags : field == 52 ? code : std::string("1"));
    return out + "\n";
  };
  EXPECT_TRUE(was_killed(stat("4194308", "9")));
  EXPECT_FALSE(was_killed(stat("4194308", "0")));
  EXPECT_FALSE(was_killed(stat("4194308", "256")));  // exit(1)
  EXPECT_FALSE(was_killed(stat("4194304", "9")));
  EXPECT_FALSE(was_killed(""));
}

TEST(Caller, SeesLivingProgramsAndThoseThatAreGone) {
  EXPECT_FALSE(is_dying(::getpid()));
  EXPECT_TRUE(is_dying(0));
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  EXPECT_FALSE(is_dying(child));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(is_dying(child));
}

}  // namespace
}  // namespace datacloud
