// A site's log as the leader uses it, whose answers confirm the leader's lease, and the questions
// that confirm it when there is nothing to append.
//
// An append that is ok, and a head that shows the own epoch as promised, confirm. A head that shows
// a higher promise ends the leadership, which the log itself would learn by its next append only.
//
// Threading: LeaseKeeper has one thread for each site. Its destruction waits for their questions.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "daemon/journal/log_store.h"
#include "daemon/leadership/leader_lease.h"

namespace datacloud {

// What the logs of all sites share. `epoch` is set once, when it has been claimed.
class LeaseConfirmations {
 public:
  explicit LeaseConfirmations(std::shared_ptr<LeaderLease> lease) : lease_(std::move(lease)) {}
  LeaderLease& lease() const { return *lease_; }
  void lead(const journal::Epoch&);
  // A site has answered this epoch's append, or showed its head, to a question sent at `asked`.
  void appended(size_t site, const journal::Epoch&, BootTime asked);
  // The epoch that is promised above the own one, if so.
  std::optional<journal::Epoch> showed(size_t site, const journal::LogHead&, BootTime asked);

 private:
  const std::shared_ptr<LeaderLease> lease_;
  std::mutex mutex_;
  std::optional<journal::Epoch> epoch_;
};

// Passes everything on.
std::shared_ptr<journal::LogStore> make_confirming_log(std::shared_ptr<journal::LogStore>,
                                                       size_t site,
                                                       std::shared_ptr<LeaseConfirmations>);

class LeaseKeeper {
 public:
  // `superseded` is called at most once, on a thread of this object.
  LeaseKeeper(std::vector<std::shared_ptr<journal::LogStore>> logs,
              std::shared_ptr<LeaseConfirmations>, std::function<void(const Error&)> superseded);
  ~LeaseKeeper();
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

  // The lease's length has changed.
  void wake();

 private:
  void ask(size_t site);

  const std::vector<std::shared_ptr<journal::LogStore>> logs_;
  const std::shared_ptr<LeaseConfirmations> confirmations_;
  const std::function<void(const Error&)> superseded_;
  std::atomic<bool> told_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  uint64_t wakes_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace datacloud
