// See nodes_in_force.h.
#include "common/store/remote/nodes_in_force.h"

#include <algorithm>
#include <cerrno>

namespace datacloud {
namespace {

constexpr Duration kBetweenQuestions = seconds(1);

}  // namespace

NodesInForce::NodesInForce(Options options)
    : options_(std::move(options)), thread_([this] { run(); }) {}

NodesInForce::~NodesInForce() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool NodesInForce::is_good() const {
  return as_of_ != MonotonicTime::min() && monotonic_now() < as_of_ + options_.age_max;
}

bool NodesInForce::holds(const Bytes& serial) const {
  std::lock_guard lock(mutex_);
  return is_good() && serials_.contains(serial);
}

result<void> NodesInForce::admit(const Bytes& serial) {
  std::unique_lock lock(mutex_);
  const uint64_t question = begun_ + 1;  // the next: one under way may have been answered already
  const auto known = [&] { return is_good() && serials_.contains(serial); };
  if (known()) return success();
  wanted_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, options_.patience,
                    [&] { return stopping_ || known() || ended_ >= question; });
  if (known()) return success();
  if (ended_ >= question && problem_.empty())
    return failure(Error::posix(EACCES, "it was revoked, or the daemon does not know it"));
  return failure(Errc::unavailable,
                 "the daemon cannot be asked whether it is in force: " +
                     (problem_.empty() ? std::string("it does not answer in time") : problem_));
}

void NodesInForce::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wanted_ = false;
    ++begun_;
    const auto now = monotonic_now();
    lock.unlock();
    auto answer = options_.ask();
    lock.lock();
    if (answer) {
      serials_ = std::move(answer).value();
      as_of_ = now;
      problem_.clear();
    } else {
      problem_ = answer.error().text();
    }
    ended_ = begun_;
    changed_.notify_all();
    const auto pause = std::min(kBetweenQuestions, options_.interval);
    changed_.wait_until(lock, now + pause, [&] { return stopping_; });
    changed_.wait_until(lock, now + options_.interval, [&] { return stopping_ || wanted_; });
  }
}

}  // namespace datacloud
