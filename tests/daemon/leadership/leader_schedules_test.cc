// Random schedules of leaders that pause, claim and lose messages, over sites that promise: no read
// that begins after another leader has answered a change is answered with what was before it.
// Clocks run at up to four per cent too fast or too slow. Broken leaders must be found.
//
// Bounds: one register; the log itself is the matter of journal_schedules_test.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <queue>
#include <vector>

#include "daemon/journal/quorum_rules.h"
#include "daemon/leadership/leader_lease.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using namespace std::chrono_literals;

enum class Broken {
  nothing,
  no_wait,
  no_lease,
  counts_from_the_answer,
  one_site_fewer,
  stopped_clock
};

// Values of the register are counted up; who has answered n has answered a change to n.
class LeaseWorld {
 public:
  LeaseWorld(Seeded& random, Broken broken)
      : random_(random),
        broken_(broken),
        rules_(journal::quorum_rules(static_cast<int>(random.number(1, 5)), 0)) {
    sites_.resize(static_cast<size_t>(rules_.sites));
    for (int i = 0; i < 3; ++i) leaders_.push_back(std::make_unique<Process>());
  }

  // Whether a stale read was answered.
  bool run(int steps) {
    for (int i = 0; i < steps && !stale_; ++i) step();
    return stale_;
  }

 private:
  static constexpr Duration kLength = 1500ms;
  struct Site {
    uint64_t promised = 0;
    uint64_t value = 0;  // the newest it has
  };
  struct Process {
    uint64_t epoch = 0;
    enum class State { idle, claiming, waiting, leads } state = State::idle;
    double speed = 1;
    Duration stopped{};  // how long its clock stood, where clocks stand while it sleeps
    MonotonicTime wakes{}, began{};
    std::vector<bool> promised;
    Duration claimed_at{};  // by its own clock
    std::unique_ptr<LeaderLease> lease;
    uint64_t value = 0;
    std::optional<uint64_t> writes;  // under way, not answered
    std::vector<bool> acknowledged;
    std::optional<uint64_t> read;   // under way: what was answered when it began
    std::optional<uint64_t> reply;  // checked, not sent
  };
  struct Message {
    MonotonicTime at;
    std::function<void()> arrives;
    bool operator>(const Message& other) const { return at > other.at; }
  };

  Duration clock(const Process& p) const {
    const auto real = now_.time_since_epoch() - p.stopped;
    return std::chrono::duration_cast<Duration>(real * p.speed);
  }
  // A message that may be lost, or take as long as a process may be paused.
  void send(std::function<void()> arrives) {
    if (random_.number(0, 9) == 0) return;
    Duration takes = milliseconds(random_.number(0, 30));
    if (random_.number(0, 14) == 0) takes = milliseconds(random_.number(0, 4000));
    messages_.push({now_ + takes, std::move(arrives)});
  }

  void step() {
    now_ += milliseconds(random_.number(1, 40));
    while (!messages_.empty() && messages_.top().at <= now_) {
      auto arrives = messages_.top().arrives;
      messages_.pop();
      arrives();
    }
    Process& p = *leaders_[random_.number(0, leaders_.size() - 1)];
    if (now_ < p.wakes) return;
    if (random_.number(0, 60) == 0) {
      const auto sleeps = milliseconds(random_.number(100, 5000));
      p.wakes = now_ + sleeps;
      if (broken_ == Broken::stopped_clock) p.stopped += sleeps;
      return;
    }
    act(p);
  }

  void act(Process& p) {
    switch (p.state) {
      case Process::State::idle:
        if (random_.number(0, 25) == 0) claim(p);
        return;
      case Process::State::claiming:
        if (std::count(p.promised.begin(), p.promised.end(), true) >= rules_.adopt) {
          adopted(p);
        } else if (now_ - p.began > 1s) {
          p.state = Process::State::idle;
        }
        return;
      case Process::State::waiting: {
        const Duration patience =
            broken_ == Broken::no_wait ? Duration(0) : claimer_patience(kLength);
        if (clock(p) - p.claimed_at >= patience) p.state = Process::State::leads;
        return confirm(p);
      }
      case Process::State::leads:
        return lead(p);
    }
  }

  void claim(Process& p) {
    p.epoch = ++epochs_;
    p.state = Process::State::claiming;
    p.began = now_;
    p.speed = 1 + (static_cast<double>(random_.number(0, 80)) - 40) / 1000;
    p.promised.assign(sites_.size(), false);
    p.writes.reset();
    p.read.reset();
    p.reply.reset();
    int needed = rules_.commit;
    if (broken_ == Broken::one_site_fewer) needed = std::max(1, needed - 1);
    p.lease = std::make_unique<LeaderLease>(sites_.size(), static_cast<size_t>(needed), kLength,
                                            [this, &p] { return BootTime(clock(p)); });
    for (size_t site = 0; site < sites_.size(); ++site) {
      send([this, &p, site, epoch = p.epoch] {
        if (sites_[site].promised >= epoch) return;
        sites_[site].promised = epoch;
        send([&p, site, epoch] {
          if (p.epoch == epoch) p.promised[site] = true;
        });
      });
    }
  }

  // Reads the logs behind the promises: what was answered is at one of these sites.
  void adopted(Process& p) {
    p.claimed_at = clock(p);
    for (size_t site = 0; site < sites_.size(); ++site) {
      if (p.promised[site]) p.value = std::max(p.value, sites_[site].value);
    }
    p.state = Process::State::waiting;
    p.writes = p.value;  // what was adopted is committed anew, before it is told to anybody
    p.acknowledged.assign(sites_.size(), false);
  }

  void confirm(Process& p) {
    const size_t site = random_.number(0, sites_.size() - 1);
    const BootTime asked(clock(p));
    const uint64_t value = p.writes.value_or(p.value);
    send([this, &p, site, asked, value, epoch = p.epoch] {
      if (sites_[site].promised > epoch) {
        return send([&p, epoch] {
          if (p.epoch == epoch) p.state = Process::State::idle;
        });
      }
      if (sites_[site].promised != epoch) return;
      sites_[site].value = std::max(sites_[site].value, value);
      send([this, &p, site, asked, value, epoch] {
        if (p.epoch != epoch || p.state == Process::State::idle) return;
        p.lease->confirm(site,
                         broken_ == Broken::counts_from_the_answer ? BootTime(clock(p)) : asked);
        if (p.writes == value) p.acknowledged[site] = true;
      });
    });
  }

  void lead(Process& p) {
    confirm(p);
    if (p.writes) {
      if (std::count(p.acknowledged.begin(), p.acknowledged.end(), true) < rules_.commit) return;
      p.value = *p.writes;
      p.writes.reset();
      answered_ = std::max(answered_, p.value);  // the change is answered
      return;
    }
    const bool may = broken_ == Broken::no_lease || p.lease->holds();
    if (p.reply) {  // a pause may have come between
      if (*p.reply < *p.read) stale_ = true;
      p.reply.reset();
      p.read.reset();
    } else if (p.read) {
      if (may) p.reply = p.value;
    } else if (random_.number(0, 3) == 0) {
      p.writes = std::max(p.value, answered_by_anybody_) + 1;
      answered_by_anybody_ = *p.writes;
      p.acknowledged.assign(sites_.size(), false);
    } else {
      p.read = answered_;  // a read begins: all that was answered by now must be seen
    }
  }

  Seeded& random_;
  const Broken broken_;
  const journal::QuorumRules rules_;
  MonotonicTime now_ = MonotonicTime(1h);
  std::vector<Site> sites_;
  std::vector<std::unique_ptr<Process>> leaders_;
  std::priority_queue<Message, std::vector<Message>, std::greater<>> messages_;
  uint64_t epochs_ = 0;
  uint64_t answered_ = 0, answered_by_anybody_ = 0;
  bool stale_ = false;
};

bool finds_stale_read(Seeded& random, Broken broken, int schedules) {
  for (int i = 0; i < schedules; ++i) {
    if (LeaseWorld(random, broken).run(3000)) return true;
  }
  return false;
}

TEST(LeaderSchedules, NoStaleReadIsAnswered) {
  Seeded random;
  EXPECT_FALSE(finds_stale_read(random, Broken::nothing, 3'000));
}

TEST(LeaderSchedules, BrokenLeadersAreFound) {
  Seeded random;
  EXPECT_TRUE(finds_stale_read(random, Broken::no_wait, 40'000));
  EXPECT_TRUE(finds_stale_read(random, Broken::no_lease, 40'000));
  EXPECT_TRUE(finds_stale_read(random, Broken::counts_from_the_answer, 40'000));
  EXPECT_TRUE(finds_stale_read(random, Broken::one_site_fewer, 40'000));
}

// The case that docs/journal.md names: a machine whose clocks stand while it is suspended.
TEST(LeaderSchedules, AClockThatStandsDuringASuspensionIsFound) {
  Seeded random;
  EXPECT_TRUE(finds_stale_read(random, Broken::stopped_clock, 40'000));
}

}  // namespace
}  // namespace datacloud
