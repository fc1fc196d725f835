// A log store behind a gate: while it is closed, appends stand still before they reach the site, as
// those of a process that is stopped or of a network that hangs, and go on when it opens; other
// calls time out.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "daemon/journal/log_store.h"

namespace datacloud::journal {

class Gate {
 public:
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  // What stands there goes on, appends first, in their order.
  void open() {
    std::unique_lock lock(mutex_);
    while (!waiting_.empty()) {
      auto next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      next();
      lock.lock();
    }
    closed_ = false;
    opened_.notify_all();
  }
  // From now on calls that stand there, and later ones, fail.
  void tear_down() {
    {
      std::lock_guard lock(mutex_);
      torn_ = true;
    }
    open();
  }
  // False: torn down, or it stays closed for longer than callers wait.
  bool pass() {
    std::unique_lock lock(mutex_);
    const auto may = [this] { return !closed_ || torn_; };
    return opened_.wait_for(lock, std::chrono::milliseconds(200), may) && !torn_;
  }
  bool torn() {
    std::lock_guard lock(mutex_);
    return torn_;
  }
  // At once if it is open, else when it opens.
  void later(std::function<void()> call) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return waiting_.push_back(std::move(call));
    }
    call();
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool closed_ = false, torn_ = false;
  std::deque<std::function<void()>> waiting_;
};

class GatedLog final : public LogStore {
 public:
  GatedLog(std::shared_ptr<LogStore> inner, std::shared_ptr<Gate> gate)
      : inner_(std::move(inner)), gate_(std::move(gate)) {}

  result<LogHead> head() override {
    return run([&] { return inner_->head(); });
  }
  result<LogHead> claim(const Epoch& epoch) override {
    return run([&] { return inner_->claim(epoch); });
  }
  result<void> begin(const Epoch& epoch, const LogPosition& base, Base where) override {
    return run([&] { return inner_->begin(epoch, base, where); });
  }
  void append(const Epoch& epoch, LogBatch batch, Done done) override {
    gate_->later([inner = inner_, gate = gate_, epoch, batch = std::move(batch),
                  done = std::move(done)]() mutable {
      if (gate->torn()) return done(failure(Errc::timed_out, "torn down"));
      inner->append(epoch, std::move(batch), std::move(done));
    });
  }
  result<LogHead> settle(const Epoch& epoch) override {
    return run([&] { return inner_->settle(epoch); });
  }
  result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) override {
    return run([&] { return inner_->read(from, bytes_max); });
  }
  result<void> trim(const Epoch& epoch, uint64_t floor) override {
    return run([&] { return inner_->trim(epoch, floor); });
  }
  result<void> seal(const Epoch& epoch) override {
    return run([&] { return inner_->seal(epoch); });
  }

 private:
  template <class Call>
  auto run(Call call) -> decltype(call()) {
    if (!gate_->pass()) return failure(Errc::timed_out, "the gate is closed");
    return call();
  }

  const std::shared_ptr<LogStore> inner_;
  const std::shared_ptr<Gate> gate_;
};

}  // namespace datacloud::journal
