// The table of requests and who of them has to end.
#include "fs/fuse/raw/pending_requests.h"

#include <algorithm>

namespace datacloud {

PendingRequestPtr PendingRequests::add(uint64_t unique, pid_t caller) {
  auto request = std::make_shared<PendingRequest>();
  request->unique = unique;
  request->caller = caller;
  request->arrived = monotonic_now();
  std::lock_guard lock(mutex_);
  if (!early_.empty()) {
    const auto early = std::find(early_.begin(), early_.end(), unique);
    if (early != early_.end()) {
      early_.erase(early);
      request->early = request->signalled = true;
      ++signalled_;
    }
  }
  requests_[unique] = request;
  return request;
}

void PendingRequests::remove(uint64_t unique) {
  std::lock_guard lock(mutex_);
  const auto it = requests_.find(unique);
  if (it == requests_.end()) return;
  if (it->second->signalled) --signalled_;
  requests_.erase(it);
}

void PendingRequests::interrupt(uint64_t unique) {
  std::function<void()> on_signal;
  {
    std::lock_guard lock(mutex_);
    const auto it = requests_.find(unique);
    if (it == requests_.end()) {
      // Served meanwhile, or read by another thread that has yet to add it.
      early_.push_back(unique);
      if (early_.size() > kEarlyMax) early_.pop_front();
    } else if (!it->second->signalled) {
      it->second->signalled = true;
      ++signalled_;
      on_signal = it->second->on_signal;
    }
  }
  if (on_signal) on_signal();
}

void PendingRequests::on_signal(const PendingRequestPtr& request, std::function<void()> run) {
  {
    std::lock_guard lock(mutex_);
    request->on_signal = run;
    if (!request->signalled) return;
  }
  run();
}

size_t PendingRequests::watched() const {
  std::lock_guard lock(mutex_);
  return signalled_;
}

std::vector<PendingRequestPtr> PendingRequests::end_due() {
  const bool silent = options_.daemon_silence() >= options_.deadline;
  const auto overdue = monotonic_now() - options_.deadline;
  std::vector<PendingRequestPtr> watched, ended;
  {
    std::lock_guard lock(mutex_);
    if (signalled_ == 0 && !silent) return ended;
    for (const auto& [unique, request] : requests_) {
      if (request->interruption.raised()) continue;
      if (silent && request->arrived <= overdue)
        ended.push_back(request);
      else if (request->signalled)
        watched.push_back(request);
    }
  }
  for (const auto& request : ended)
    request->interruption.raise(Interruption::Reason::daemon_silent);
  for (const auto& request : watched) {
    if (!options_.is_dying(request->caller)) continue;
    request->interruption.raise(Interruption::Reason::killed);
    ended.push_back(request);
  }
  return ended;
}

void PendingRequests::end_all() {
  std::vector<PendingRequestPtr> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [unique, request] : requests_) all.push_back(request);
  }
  for (const auto& request : all) request->interruption.raise(Interruption::Reason::killed);
}

bool PendingRequests::empty() const {
  std::lock_guard lock(mutex_);
  return requests_.empty();
}

}  // namespace datacloud
