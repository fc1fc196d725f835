// See site_reader.h.
#include "daemon/leadership/site_reader.h"

#include <utility>

namespace datacloud {

SiteReader::SiteReader(std::string name, std::shared_ptr<journal::LogStore> log,
                       std::function<void()> arrived)
    : name_(std::move(name)),
      log_(std::move(log)),
      arrived_(std::move(arrived)),
      thread_([this] { run(); }) {}

SiteReader::~SiteReader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

bool SiteReader::ask(uint64_t from, bool promise, MonotonicTime now) {
  {
    std::lock_guard lock(mutex_);
    if (asked_at_) return false;
    question_ = from;
    promise_ = promise;
    asked_at_ = now;
    answer_.reset();
  }
  changed_.notify_one();
  return true;
}

std::optional<SiteReader::Answer> SiteReader::take() {
  std::lock_guard lock(mutex_);
  auto taken = std::move(answer_);
  answer_.reset();
  return taken;
}

std::optional<MonotonicTime> SiteReader::asked_at() const {
  std::lock_guard lock(mutex_);
  return asked_at_;
}

SiteReader::Answer SiteReader::read(uint64_t from, bool promise) {
  Read out;
  if (promise) {
    TRY(const auto head, log_->head());
    out.promised = head.promised;
  }
  TRY(out.entries, log_->read(from, kAnswerBytesMax));
  return out;
}

void SiteReader::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || question_; });
    if (stop_) return;
    const uint64_t from = *question_;
    const bool promise = promise_;
    question_.reset();
    lock.unlock();
    auto answer = read(from, promise);
    lock.lock();
    answer_.emplace(std::move(answer));
    asked_at_.reset();
    lock.unlock();
    arrived_();
    lock.lock();
  }
}

}  // namespace datacloud
