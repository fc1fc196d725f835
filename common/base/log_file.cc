// See log_file.h. Lines go to the file one write each, unbuffered: a buffer that could not be
// flushed would come out later, out of place.
#include "common/base/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

namespace datacloud {
namespace {

class LogFileSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LogFileSink(int fd) : fd_(fd) {}
  ~LogFileSink() override { ::close(fd_); }

 private:
  void sink_it_(const spdlog::details::log_msg& line) override {
    spdlog::memory_buf_t text;
    if (torn_) text.push_back('\n');
    if (lost_ > 0) {
      const std::string note =
          fmt::format("{} lines before this one could not be written: {}", lost_, strerror(errno_));
      spdlog::details::log_msg missing = line;
      missing.level = spdlog::level::warn;
      missing.payload = note;
      formatter_->format(missing, text);
    }
    formatter_->format(line, text);
    if (write(text)) {
      lost_ = 0;
      torn_ = false;
    } else {
      ++lost_;
    }
  }
  void flush_() override {}

  bool write(const spdlog::memory_buf_t& text) {
    size_t done = 0;
    while (done < text.size()) {
      const ssize_t n = ::write(fd_, text.data() + done, text.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        errno_ = n < 0 ? errno : ENOSPC;
        torn_ = torn_ || done > 0;
        return false;
      }
      done += static_cast<size_t>(n);
    }
    return true;
  }

  const int fd_;
  uint64_t lost_ = 0;  // lines since the last one that was written
  int errno_ = 0;      // why
  bool torn_ = false;  // the file ends within a line
};

}  // namespace

result<std::shared_ptr<spdlog::sinks::sink>> open_log_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
  if (fd < 0) return failure(Error::posix(errno, path));
  return std::shared_ptr<spdlog::sinks::sink>(std::make_shared<LogFileSink>(fd));
}

}  // namespace datacloud
