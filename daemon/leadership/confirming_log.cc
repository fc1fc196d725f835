// See confirming_log.h.
#include "daemon/leadership/confirming_log.h"

#include <algorithm>
#include <utility>

namespace datacloud {
namespace {

using journal::Base;
using journal::Epoch;
using journal::LogBatch;
using journal::LogEntry;
using journal::LogHead;
using journal::LogPosition;
using journal::LogStore;

constexpr Duration kIdle = seconds(3600);  // while no lease is kept

class ConfirmingLog final : public LogStore {
 public:
  ConfirmingLog(std::shared_ptr<LogStore> inner, size_t site,
                std::shared_ptr<LeaseConfirmations> confirmations)
      : inner_(std::move(inner)), site_(site), confirmations_(std::move(confirmations)) {}

  result<LogHead> head() override { return inner_->head(); }
  result<LogHead> claim(const Epoch& epoch) override { return inner_->claim(epoch); }
  result<void> begin(const Epoch& epoch, const LogPosition& base, Base where) override {
    return inner_->begin(epoch, base, where);
  }
  void append(const Epoch& epoch, LogBatch batch, Done done) override {
    const BootTime asked = confirmations_->lease().now();
    inner_->append(epoch, std::move(batch),
                   [confirmations = confirmations_, site = site_, epoch, asked,
                    done = std::move(done)](result<void> answer) {
                     if (answer) confirmations->appended(site, epoch, asked);
                     done(std::move(answer));
                   });
  }
  result<LogHead> settle(const Epoch& epoch) override { return inner_->settle(epoch); }
  result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) override {
    return inner_->read(from, bytes_max);
  }
  result<void> trim(const Epoch& epoch, uint64_t floor) override {
    return inner_->trim(epoch, floor);
  }
  result<void> seal(const Epoch& epoch) override { return inner_->seal(epoch); }

 private:
  const std::shared_ptr<LogStore> inner_;
  const size_t site_;
  const std::shared_ptr<LeaseConfirmations> confirmations_;
};

}  // namespace

void LeaseConfirmations::lead(const Epoch& epoch) {
  std::lock_guard lock(mutex_);
  epoch_ = epoch;
}

void LeaseConfirmations::appended(size_t site, const Epoch& epoch, BootTime asked) {
  {
    std::lock_guard lock(mutex_);
    if (epoch_ != epoch) return;
  }
  lease_->confirm(site, asked);
}

std::optional<Epoch> LeaseConfirmations::showed(size_t site, const LogHead& head, BootTime asked) {
  {
    std::lock_guard lock(mutex_);
    if (!epoch_) return std::nullopt;
    if (head.promised > *epoch_) return head.promised;
    // A site that was emptied, or a server that has forgotten: it promises nothing.
    if (head.promised != *epoch_ || head.sealed) return std::nullopt;
  }
  lease_->confirm(site, asked);
  return std::nullopt;
}

std::shared_ptr<LogStore> make_confirming_log(std::shared_ptr<LogStore> log, size_t site,
                                              std::shared_ptr<LeaseConfirmations> confirmations) {
  return std::make_shared<ConfirmingLog>(std::move(log), site, std::move(confirmations));
}

LeaseKeeper::LeaseKeeper(std::vector<std::shared_ptr<LogStore>> logs,
                         std::shared_ptr<LeaseConfirmations> confirmations,
                         std::function<void(const Error&)> superseded)
    : logs_(std::move(logs)),
      confirmations_(std::move(confirmations)),
      superseded_(std::move(superseded)) {
  for (size_t i = 0; i < logs_.size(); ++i) threads_.emplace_back([this, i] { ask(i); });
}

LeaseKeeper::~LeaseKeeper() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void LeaseKeeper::wake() {
  {
    std::lock_guard lock(mutex_);
    ++wakes_;
  }
  changed_.notify_all();
}

// A question every third of the lease, counted from the last one that was answered well: appends
// are such answers, too.
void LeaseKeeper::ask(size_t site) {
  LeaderLease& lease = confirmations_->lease();
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const uint64_t seen = wakes_;
    const Duration length = lease.length();
    const Duration since = lease.now() - lease.confirmed_at(site);
    Duration wait = length == Duration(0) ? kIdle : length / 3 - since;
    if (wait <= Duration(0)) {
      lock.unlock();
      const BootTime asked = lease.now();
      const auto head = logs_[site]->head();
      std::optional<Epoch> higher;
      if (head) higher = confirmations_->showed(site, head.value(), asked);
      if (higher && !told_.exchange(true)) {
        superseded_(Error(Errc::stale,
                          "epoch " + journal::epoch_text(*higher) + " was promised at a site"));
      }
      lock.lock();
      wait = lease.confirmed_at(site) == asked ? length / 3 - (lease.now() - asked) : length / 6;
    }
    if (wait > Duration(0)) {
      changed_.wait_for(lock, wait, [&] { return stop_ || wakes_ != seen; });
    }
  }
}

}  // namespace datacloud
