// A log file whose disk is full for a while: nothing throws, what is missing is said, and no line
// runs into another.
#include "common/base/log_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <vector>

#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Files of this process end at so many bytes while it lives, as a disk that is full does.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(LogFile, WhatDoesNotFitIsCountedAndSaid) {
  TemporaryDirectory directory;
  const std::string path = directory.path().string() + "/log";
  auto sink = open_log_file(path);
  ASSERT_TRUE(sink) << sink.error().message();
  spdlog::logger log("test", sink.value());
  log.set_pattern("%v");
  log.info("the first line");
  {
    SizeLimit limit(20);  // 15 bytes are there
    for (int i = 0; i < 3; ++i) log.info("a line that is longer than what is left");
  }
  log.info("the last line");
  log.info("and one more");
  EXPECT_THAT(lines_of(path),
              ElementsAre("the first line", "a lin",
                          HasSubstr("3 lines before this one could not be written: File too large"),
                          "the last line", "and one more"));
}

TEST(LogFile, GoesOnWithAFileThatIsThere) {
  TemporaryDirectory directory;
  const std::string path = directory.path().string() + "/log";
  for (int i = 0; i < 2; ++i) {
    spdlog::logger log("test", open_log_file(path).value());
    log.set_pattern("%v");
    log.info("run {}", i);
  }
  EXPECT_THAT(lines_of(path), ElementsAre("run 0", "run 1"));
}

TEST(LogFile, AFileThatCannotBeMadeIsNamed) {
  const auto none = open_log_file("/nowhere/log");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("/nowhere/log"));
}

}  // namespace
}  // namespace datacloud
