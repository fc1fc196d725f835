// Reads one site's log on a thread of its own, so that a site that hangs holds up nobody.
//
// Threading: one user; `arrived` is called on the reader's thread. One question is under way at a
// time, so memory is bounded by one answer. Destruction waits for the question under way.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "daemon/journal/log_store.h"

namespace datacloud {

class SiteReader {
 public:
  static constexpr size_t kAnswerBytesMax = size_t{4} << 20;
  struct Read {
    std::vector<journal::LogEntry> entries;
    journal::Epoch promised;  // where that was asked for
  };
  using Answer = result<Read>;

  SiteReader(std::string name, std::shared_ptr<journal::LogStore>, std::function<void()> arrived);
  ~SiteReader();
  SiteReader(const SiteReader&) = delete;
  SiteReader& operator=(const SiteReader&) = delete;

  const std::string& name() const { return name_; }
  // Asks for the entries from a sequence on, and with them for the site's promise. False: a
  // question is under way.
  bool ask(uint64_t from, bool promise, MonotonicTime now);
  // The answer, once.
  std::optional<Answer> take();
  // Since when a question is under way.
  std::optional<MonotonicTime> asked_at() const;

 private:
  void run();
  Answer read(uint64_t from, bool promise);

  const std::string name_;
  const std::shared_ptr<journal::LogStore> log_;
  const std::function<void()> arrived_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<uint64_t> question_;
  bool promise_ = false;
  std::optional<MonotonicTime> asked_at_;
  std::optional<Answer> answer_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace datacloud
