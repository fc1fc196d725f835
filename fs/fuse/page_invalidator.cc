// Replies that wait for the kernel's pages to go.
#include "fs/fuse/page_invalidator.h"

#include <utility>
#include <vector>

namespace datacloud {
namespace {

constexpr auto kLook = seconds(1);  // for replies that have waited long enough

}  // namespace

PageInvalidator::PageInvalidator(KernelNotifier& kernel)
    : kernel_(kernel), late_([this] { answer_late(); }) {}

PageInvalidator::~PageInvalidator() {
  threads_.finish();
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  ended_.notify_all();
  late_.join();
}

void PageInvalidator::drop(InodeId ino, uint64_t offset, uint64_t length,
                           std::function<void()> reply) {
  Place place;
  {
    std::lock_guard lock(mutex_);
    place = waiting_.insert(waiting_.end(), {monotonic_now() + kPatience, std::move(reply)});
  }
  threads_.post([this, ino, offset, length, place] {
    kernel_.forget_range(ino, offset, length);
    std::function<void()> reply;
    {
      std::lock_guard lock(mutex_);
      reply = std::move(place->reply);
      waiting_.erase(place);
    }
    if (reply) reply();
  });
}

void PageInvalidator::answer_late() {
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, kLook, [this] { return stop_; })) {
    const auto now = monotonic_now();
    std::vector<std::function<void()>> late;
    for (auto& entry : waiting_) {
      if (entry.until > now) break;
      if (entry.reply) late.push_back(std::exchange(entry.reply, nullptr));
    }
    lock.unlock();
    for (const auto& reply : late) reply();
    lock.lock();
  }
}

}  // namespace datacloud
