// Daemons that crash over a journal at three sites which fail too: requests and answers are lost,
// appends land late, a site is away for a whole life. What was durable is there after any of it.
#include <gtest/gtest.h>

#include <array>
#include <atomic>

#include "daemon/journal/fault_log_store.h"
#include "daemon/journal/guarded_log.h"
#include "tests/daemon/metadata/journal_model.h"

namespace datacloud {
namespace {

using journal::FaultLogStore;
using journal::LogFault;

constexpr size_t kSites = 3;
constexpr int kStartsMax = 100;

// Three sites in memory. Threads of a leader draw faults at the same time.
class Sites {
 public:
  explicit Sites(Seeded& random) : random_(random) {
    for (auto& site : memory_) {
      site = make_guarded_memory();
      const auto objects = open_guarded_memory(site);
      EXPECT_TRUE(journal::format_guarded_log(*objects, options()));
    }
  }
  // Who is away until the next call, and how often a call goes wrong.
  void set_faults(size_t away, int percent) {
    away_ = away;
    percent_ = percent;
  }
  result<std::shared_ptr<journal::QuorumLog>> claim(std::function<void(const Error&)> fenced) {
    journal::QuorumLogOptions options;
    options.journal = journal_id(kJournalCloud).value();
    options.rules = journal::quorum_rules(kSites, 1);
    options.fenced = std::move(fenced);
    for (size_t i = 0; i < kSites; ++i) {
      auto log = journal::make_guarded_log(open_guarded_memory(memory_[i]), Sites::options());
      options.members.push_back({.site = static_cast<int>(i + 1),
                                 .name = "site" + std::to_string(i + 1),
                                 .log = journal::make_fault_log_store(
                                     std::move(log), [this, i](auto) { return fault(i); })});
    }
    TRY(auto log, journal::QuorumLog::claim(std::move(options)));
    return std::shared_ptr<journal::QuorumLog>(std::move(log));
  }

 private:
  static journal::GuardedLogOptions options() {
    return {.journal = journal_id(kJournalCloud).value(), .segment_bytes = 64 << 10};
  }
  LogFault fault(size_t site) {
    if (site == away_) return LogFault::lost_request;
    std::lock_guard lock(mutex_);
    if (random_.number(0, 99) >= static_cast<uint64_t>(percent_)) return LogFault::none;
    return random_.number(0, 1) == 0 ? LogFault::lost_request : LogFault::lost_answer;
  }

  std::mutex mutex_;
  Seeded& random_;
  std::atomic<size_t> away_{kSites};
  std::atomic<int> percent_{0};
  std::array<std::shared_ptr<GuardedMemory>, kSites> memory_;
};

TEST(JournalQuorumRandomTest, WhatWasDurableIsThereAfterCrashesOfDaemonsAndSites) {
  Seeded random;    // of the test's own thread
  Seeded of_sites;  // of the leader's threads
  Sites sites(of_sites);
  const auto disk = std::make_shared<SimulatedFiles>();
  const auto claim = [&](auto fenced) { return sites.claim(fenced); };
  JournalRig rigs[] = {{disk, "a", claim}, {disk, "b", claim}};
  JournalModel model(random);
  size_t leader = 0;
  ASSERT_TRUE(rigs[0].start());
  for (int life = 0; life < 10; ++life) {
    JournalRig& rig = rigs[leader];
    const uint64_t steps = random.number(0, 40);
    for (uint64_t i = 0; i < steps; ++i) {
      model.transaction(rig);
      rig.drain();
      if (random.number(0, 19) == 0) {
        const auto waited = rig.committer().wait_durable(seconds(60));
        ASSERT_TRUE(waited) << waited.error().message();
      }
    }
    const bool power_cut = random.number(0, 2) == 0;
    if (power_cut) disk->fail_power_at(disk->change_count());
    rig.drain();
    rig.kill();
    if (power_cut) disk->power_cut(random.number(0, ~uint64_t{0}));
    sites.set_faults(random.number(0, kSites), static_cast<int>(random.number(0, 1) * 5));
    const bool changes = random.number(0, 2) == 0;
    leader = changes ? 1 - leader : leader;
    rigs[leader].append_delay = milliseconds(random.number(0, 1));
    // A start that cannot read the log ends the daemon; it is started again.
    auto started = rigs[leader].start();
    for (int again = 0; !started && again < kStartsMax; ++again) {
      rigs[leader].kill();
      started = rigs[leader].start();
    }
    ASSERT_TRUE(started) << started.error().message();
    model.started(rigs[leader], !power_cut && !changes);
    if (::testing::Test::HasFailure()) return;
    // As the service does at every start, and waits for it before it serves anybody.
    model.transaction(rigs[leader]);
    const auto durable = rigs[leader].committer().wait_durable(seconds(60));
    ASSERT_TRUE(durable) << durable.error().message();
  }
}

}  // namespace
}  // namespace datacloud
