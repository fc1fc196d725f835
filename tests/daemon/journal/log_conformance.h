// What every back end of the journal at a site must do. A test program includes this once and
// instantiates LogConformance with its cases; nothing here knows what a site is made of.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "tests/daemon/journal/log_site.h"
#include "tests/support/seeded.h"

namespace datacloud::journal {

struct LogCase {
  std::string name;
  std::function<std::unique_ptr<LogSite>()> make;
};
inline std::ostream& operator<<(std::ostream& out, const LogCase& c) { return out << c.name; }
inline std::string log_case_name(const testing::TestParamInfo<LogCase>& info) {
  return info.param.name;
}

class LogConformance : public testing::TestWithParam<LogCase> {
 protected:
  std::unique_ptr<LogSite> site_ = GetParam().make();
  std::unique_ptr<LogStore> store_ = site_->open();
};

TEST_P(LogConformance, BeginsEmptyAndLetsNobodyAppendWithoutAClaim) {
  const auto head = store_->head();
  ASSERT_TRUE(head) << head.error().message();
  EXPECT_EQ(head.value(), (LogHead{test_journal(), {}, {}, {}, 1, false}));
  EXPECT_TRUE(read_from(*store_, 1).empty());
  Leader nobody(*store_, {1, 7});
  EXPECT_REFUSED(Errc::stale, nobody.append());
  EXPECT_REFUSED(Errc::stale, store_->begin({1, 7}, {}, Base::in_log));
  EXPECT_REFUSED(Errc::stale, store_->trim({1, 7}, 5));
  EXPECT_REFUSED(Errc::stale, store_->settle({1, 7}));
  EXPECT_REFUSED(Errc::invalid, store_->claim({0, 7}));
  EXPECT_TRUE(read_from(*store_, 1).empty());
}

TEST_P(LogConformance, KeepsWhatAnEpochAppends) {
  Leader leader(*store_, {3, 9});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(1, 10));
  ASSERT_OK(leader.append(5, 600));
  ASSERT_OK(leader.append(1, 20'000));
  auto other = site_->open();
  for (auto* store : {store_.get(), other.get()}) {
    const auto head = store->head();
    ASSERT_TRUE(head) << head.error().message();
    EXPECT_EQ(head.value(), (LogHead{test_journal(), {3, 9}, {3, 9}, leader.last(), 1, false}));
    const auto all = read_from(*store, 1);
    ASSERT_EQ(all.size(), 7u);
    for (const auto& entry : all) {
      const size_t bytes = entry.header.sequence == 1  ? 10
                           : entry.header.sequence < 7 ? 600
                                                       : 20'000;
      EXPECT_EQ(to_bytes(entry.body()), body_of({3, 9}, entry.header.sequence, bytes));
    }
    EXPECT_EQ(read_from(*store, 6).size(), 2u);
    EXPECT_TRUE(read_from(*store, 8).empty());
    EXPECT_TRUE(read_from(*store, 800).empty());
  }
}

TEST_P(LogConformance, PromisesOnlyUpwards) {
  auto other = site_->open();
  ASSERT_OK(store_->claim({5, 50}));
  EXPECT_EQ(store_->claim({5, 50}).value().promised, (Epoch{5, 50})) << "asking again settles";
  EXPECT_REFUSED(Errc::stale, other->claim({5, 49}));
  EXPECT_REFUSED(Errc::stale, other->claim({4, 99}));
  ASSERT_OK(other->claim({6, 1}));
  EXPECT_REFUSED(Errc::stale, store_->claim({5, 50}));
  EXPECT_EQ(store_->head().value().promised, (Epoch{6, 1}));
  EXPECT_REFUSED(Errc::stale, store_->begin({5, 50}, {}, Base::in_log));
  ASSERT_OK(other->claim({kEpochNumberMax, 1}));
  EXPECT_REFUSED(Errc::invalid, other->claim({kEpochNumberMax + 1, 1}));
}

TEST_P(LogConformance, FencesTheOldLeader) {
  auto other = site_->open();
  Leader old(*store_, {1, 1}), next(*other, {2, 2});
  ASSERT_OK(old.lead());
  ASSERT_OK(old.append(3));
  ASSERT_OK(other->claim({2, 2}));
  EXPECT_REFUSED(Errc::stale, old.append());  // claimed is enough
  EXPECT_REFUSED(Errc::stale, store_->settle({1, 1}));
  const auto seen = other->head().value().last;
  EXPECT_GE(seen.sequence, 3u);  // and perhaps the one that does not count
  ASSERT_OK(next.lead(entries_after({}, {1, 1}, 3).back().position()));
  ASSERT_OK(next.append(2));
  EXPECT_REFUSED(Errc::stale, old.append());
  EXPECT_REFUSED(Errc::stale, store_->begin({1, 1}, {}, Base::in_log));
  EXPECT_REFUSED(Errc::stale, store_->trim({1, 1}, 3));
  EXPECT_REFUSED(Errc::stale, store_->seal({1, 1}));
  for (auto* store : {store_.get(), other.get()}) {
    EXPECT_EQ(bodies(read_from(*store, 1)),
              (std::vector<std::string>{"1.0000000000000001/1", "1.0000000000000001/2",
                                        "1.0000000000000001/3", "2.0000000000000002/4",
                                        "2.0000000000000002/5"}));
    EXPECT_EQ(store->head().value().floor, 1u);
  }
}

TEST_P(LogConformance, TakesOnlyWhatComesNext) {
  Leader leader(*store_, {1, 1});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(2));
  const auto append = [&](const std::vector<LogEntry>& entries) {
    auto answer = append_now(*store_, {1, 1}, LogBatch::of(entries).value());
    (void)store_->settle({1, 1});
    return answer;
  };
  LogPosition wrong = leader.last();
  wrong.hash[0] ^= 1;
  EXPECT_REFUSED(Errc::stale, append(entries_after(wrong, {1, 1}, 1)));
  wrong = leader.last();
  ++wrong.sequence;
  EXPECT_REFUSED(Errc::stale, append(entries_after(wrong, {1, 1}, 1)));
  EXPECT_REFUSED(Errc::stale, append(entries_after({}, {1, 1}, 1)));
  EXPECT_REFUSED(Errc::invalid, append(entries_after(leader.last(), {2, 1}, 1)));
  EXPECT_REFUSED(
      Errc::stale,
      append_now(*store_, {2, 1}, LogBatch::of(entries_after(leader.last(), {1, 1}, 1)).value()));
  EXPECT_REFUSED(Errc::invalid, append_now(*store_, {1, 1}, LogBatch()));
  const auto settled = store_->settle({1, 1});
  ASSERT_TRUE(settled) << settled.error().message();
  EXPECT_EQ(settled.value().last, leader.last());
  ASSERT_OK(leader.append(2));
  EXPECT_EQ(read_from(*store_, 1).size(), 4u);
}

TEST_P(LogConformance, SupersedesWhatFollowsTheBase) {
  Leader first(*store_, {1, 1});
  ASSERT_OK(first.lead());
  std::vector<LogPosition> positions{{}};
  for (int i = 0; i < 40; ++i) {
    ASSERT_OK(first.append(1, 3000));  // over several segments
    positions.push_back(first.last());
  }
  auto other = site_->open();
  uint64_t number = 2;
  for (const size_t base : {39u, 33u, 34u, 20u, 5u}) {
    const Epoch epoch{number++, 1};
    LogPosition at = positions[std::min<size_t>(base, positions.size() - 1)];
    Leader next(*other, epoch);
    const auto before = read_from(*other, 1);
    at = before[base - 1].position();
    ASSERT_OK(next.lead(at));
    EXPECT_EQ(other->head().value().last, at);
    ASSERT_OK(next.append(2));
    const auto all = read_from(*store_, 1);
    ASSERT_EQ(all.size(), base + 2);
    for (size_t i = 0; i < base; ++i) EXPECT_EQ(all[i].hash, before[i].hash);
    EXPECT_EQ(all.back().header.epoch, epoch);
  }
  // Not behind what is superseded, nor behind what never was.
  ASSERT_OK(other->claim({number, 1}));
  EXPECT_REFUSED(Errc::invalid, other->begin({number, 1}, positions[20], Base::in_log));
  EXPECT_REFUSED(Errc::invalid, other->begin({number, 1}, positions[6], Base::in_log));
  LogPosition never = positions[3];
  never.hash[5] ^= 1;
  EXPECT_REFUSED(Errc::invalid, other->begin({number, 1}, never, Base::in_log));
  ASSERT_OK(other->begin({number, 1}, positions[3], Base::in_log));
  ASSERT_OK(other->begin({number, 1}, positions[0], Base::in_log));
  EXPECT_TRUE(read_from(*store_, 1).empty());
}

TEST_P(LogConformance, GoesOnBehindACheckpoint) {
  Leader first(*store_, {1, 1});
  ASSERT_OK(first.lead());
  ASSERT_OK(first.append(3));
  const auto elsewhere = entries_after({}, {1, 1}, 100);
  ASSERT_OK(store_->claim({2, 2}));
  ASSERT_OK(store_->begin({2, 2}, elsewhere.back().position(), Base::checkpoint));
  const auto more = entries_after(elsewhere.back().position(), {2, 2}, 2);
  ASSERT_OK(append_now(*store_, {2, 2}, LogBatch::of(more).value()));
  auto other = site_->open();
  EXPECT_EQ(other->head().value().floor, 101u);
  EXPECT_REFUSED(Errc::not_found, other->read(100, kReadBytesMax));
  EXPECT_EQ(read_from(*other, 101).size(), 2u);
  ASSERT_OK(store_->trim({2, 2}, 50));
  EXPECT_EQ(other->head().value().floor, 101u) << "a floor never falls";
  // Entries of the epochs before, which a site gets that was away.
  ASSERT_OK(other->claim({3, 3}));
  ASSERT_OK(other->begin({3, 3}, more[0].position(), Base::in_log));
  ASSERT_OK(append_now(*other, {3, 3}, LogBatch::of({more[1]}).value()));
  EXPECT_EQ(read_from(*store_, 101).back().hash, more[1].hash);
}

TEST_P(LogConformance, RollsOverSegmentsInAPipeline) {
  Leader leader(*store_, {1, 1});
  ASSERT_OK(leader.lead());
  const auto entries = entries_after({}, {1, 1}, 120, 2000);
  std::mutex mutex;
  std::vector<size_t> answers;
  std::promise<void> all;
  for (size_t i = 0; i < entries.size(); i += 2) {
    const auto batch = LogBatch::of({entries[i], entries[i + 1]}).value();
    store_->append({1, 1}, batch, [&, i](result<void> r) {
      EXPECT_TRUE(r) << r.error().message();
      std::lock_guard lock(mutex);
      answers.push_back(i);
      if (answers.size() == entries.size() / 2) all.set_value();
    });
  }
  all.get_future().wait();
  EXPECT_TRUE(std::is_sorted(answers.begin(), answers.end()));
  const auto read = read_from(*site_->open(), 1, 5000);  // in small pieces
  ASSERT_EQ(read.size(), entries.size());
  for (size_t i = 0; i < read.size(); ++i) EXPECT_EQ(read[i].hash, entries[i].hash);
  EXPECT_GT(site_->pieces(), 5u) << "segments are small here";
}

TEST_P(LogConformance, TrimsWholeSegmentsBelowTheFloor) {
  Leader leader(*store_, {1, 1});
  ASSERT_OK(leader.lead());
  for (int i = 0; i < 50; ++i) ASSERT_OK(leader.append(1, 3000));
  const size_t before = site_->pieces();
  auto other = site_->open();
  ASSERT_OK(store_->trim({1, 1}, 40));
  EXPECT_LE(site_->pieces(), before - 2);
  EXPECT_EQ(other->head().value().floor, 40u);
  EXPECT_REFUSED(Errc::not_found, other->read(39, kReadBytesMax));
  EXPECT_EQ(read_from(*other, 40).size(), 11u);
  ASSERT_OK(store_->trim({1, 1}, 10));
  EXPECT_EQ(other->head().value().floor, 40u) << "a floor never falls";
  ASSERT_OK(leader.append(1, 3000));
  ASSERT_OK(store_->trim({1, 1}, 51));
  EXPECT_EQ(read_from(*other, 51).size(), 1u);
  // The next leader finds floor and end; what it begins does not bring anything back.
  Leader next(*other, {2, 2});
  ASSERT_OK(next.lead());
  ASSERT_OK(next.append(2));
  EXPECT_EQ(read_from(*store_, 51).size(), 3u);
  ASSERT_OK(other->trim({2, 2}, 54));
  EXPECT_TRUE(read_from(*store_, 54).empty());
  EXPECT_EQ(store_->head().value().last, next.last());
  EXPECT_LE(site_->pieces(), 6u);
  ASSERT_OK(next.append(1));
  EXPECT_EQ(read_from(*store_, 54).size(), 1u);
}

TEST_P(LogConformance, SealsForGood) {
  auto other = site_->open();
  Leader leader(*store_, {4, 4});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(2));
  ASSERT_OK(store_->seal({4, 4}));
  ASSERT_OK(store_->seal({4, 4}));
  for (auto* store : {store_.get(), other.get()}) {
    EXPECT_REFUSED(Errc::revoked, store->claim({9, 9}));
    EXPECT_TRUE(store->head().value().sealed);
    EXPECT_EQ(read_from(*store, 1).size(), 2u);
  }
  EXPECT_FALSE(leader.append());
  EXPECT_FALSE(store_->settle({4, 4}));
  EXPECT_FALSE(store_->trim({4, 4}, 2));
  EXPECT_EQ(read_from(*other, 1).size(), 2u);
}

TEST_P(LogConformance, RefusesAWriterWhoseSegmentWasCollected) {
  auto stalled = site_->open();
  Leader old(*stalled, {1, 1});
  ASSERT_OK(old.lead());
  ASSERT_OK(old.append(2));
  LogPosition last = old.last();
  for (uint64_t number = 2; number < 6; ++number) {
    Leader next(*store_, {number, number});
    ASSERT_OK(next.lead());
    for (int i = 0; i < 30; ++i) ASSERT_OK(next.append(1, 3000));
    last = next.last();
    ASSERT_OK(store_->trim(next.epoch(), last.sequence + 1));  // behind the checkpoint
  }
  EXPECT_REFUSED(Errc::stale, old.append());
  EXPECT_REFUSED(Errc::stale, stalled->settle({1, 1}));
  EXPECT_REFUSED(Errc::stale, stalled->begin({1, 1}, {}, Base::in_log));
  EXPECT_REFUSED(Errc::stale, stalled->begin({1, 1}, {}, Base::checkpoint));
  EXPECT_REFUSED(Errc::stale, stalled->trim({1, 1}, 1000));
  EXPECT_REFUSED(Errc::stale, stalled->seal({1, 1}));
  EXPECT_REFUSED(Errc::stale, stalled->claim({1, 1}));
  EXPECT_EQ(store_->head().value().last, last);
  EXPECT_EQ(store_->head().value().floor, last.sequence + 1);
  EXPECT_TRUE(read_from(*store_, last.sequence + 1).empty());
}

// Claimers at once: whoever's appends were acknowledged, they are in the one history that is left
// unless a later epoch, which saw them, chose otherwise. Here all go on at the end they see.
TEST_P(LogConformance, KeepsOneHistoryUnderRacingClaimers) {
  constexpr uint64_t kClaimers = 4, kRounds = 6;
  std::mutex mutex;
  std::vector<LogPosition> acknowledged;
  std::atomic<uint64_t> next_number{1};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kClaimers; ++i) {
    threads.emplace_back([&, i] {
      auto store = site_->open();
      for (uint64_t round = 0; round < kRounds; ++round) {
        Leader leader(*store, {next_number++, i + 1});
        if (!leader.lead()) continue;
        while (leader.append(1, 700)) {
          std::lock_guard lock(mutex);
          acknowledged.push_back(leader.last());
          if (leader.last().sequence % 5 == 0) break;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto all = read_from(*store_, 1);
  for (const auto& position : acknowledged) {
    ASSERT_LE(position.sequence, all.size());
    EXPECT_EQ(all[position.sequence - 1].position(), position);
  }
}

// Random calls by three handles against what the seam promises.
TEST_P(LogConformance, AgreesWithAModel) {
  Seeded random;
  struct Handle {
    std::unique_ptr<LogStore> store;
    std::optional<Epoch> claimed;
    bool begun = false;
  };
  std::vector<Handle> handles(3);
  for (auto& handle : handles) handle.store = site_->open();
  std::vector<LogEntry> log;  // of all sequences; those below the floor are only remembered
  Epoch promised;
  uint64_t floor = 1;
  bool begun = false;  // by the promised epoch
  const auto end = [&](size_t n) { return n == 0 ? LogPosition() : log[n - 1].position(); };
  for (int step = 0; step < 120; ++step) {
    Handle& handle = handles[random.number(0, 2)];
    const bool leads = handle.claimed && *handle.claimed == promised;
    switch (random.number(0, 7)) {
      case 0: {
        const Epoch epoch{
            random.number(std::max<uint64_t>(promised.number, 1), promised.number + 1),
            random.number(1, 9)};
        if (epoch == promised) break;
        const auto claimed = handle.store->claim(epoch);
        if (epoch.number == promised.number) {
          EXPECT_REFUSED(Errc::stale, claimed);
          break;
        }
        ASSERT_TRUE(claimed) << claimed.error().message();
        EXPECT_EQ(claimed.value().last, end(log.size()));
        promised = epoch;
        handle.claimed = epoch;
        handle.begun = begun = false;
        break;
      }
      case 1: {
        if (!handle.claimed) break;
        const size_t base = random.number(floor - 1, log.size());
        const auto answer = handle.store->begin(*handle.claimed, end(base), Base::in_log);
        if (leads) {
          ASSERT_TRUE(answer) << answer.error().message();
          log.resize(base);
          handle.begun = begun = true;
        } else {
          EXPECT_REFUSED(Errc::stale, answer);
        }
        break;
      }
      case 2: {
        if (!leads) break;
        const uint64_t raised = random.number(1, log.size() + 1);
        ASSERT_OK(handle.store->trim(promised, raised));
        floor = std::max(floor, raised);
        break;
      }
      case 3: {
        const uint64_t from = random.number(1, log.size() + 2);
        if (from < floor) {
          EXPECT_REFUSED(Errc::not_found, handle.store->read(from, kReadBytesMax));
          break;
        }
        const auto read = read_from(*handle.store, from, random.number(1, 20'000));
        ASSERT_EQ(read.size(), log.size() - std::min<size_t>(from - 1, log.size()));
        for (const auto& entry : read) {
          EXPECT_EQ(entry.hash, log[entry.header.sequence - 1].hash);
        }
        break;
      }
      default: {
        // What a fenced leader writes may be seen until the next one has begun.
        if (!handle.claimed || (!leads && !begun)) break;
        const auto entries = entries_after(end(log.size()), *handle.claimed, random.number(1, 3),
                                           random.number(0, 9000));
        if (entries.front().header.epoch < (log.empty() ? Epoch() : log.back().header.epoch)) break;
        const auto appended =
            append_now(*handle.store, *handle.claimed, LogBatch::of(entries).value());
        if (leads && handle.begun) {
          ASSERT_TRUE(appended) << appended.error().message();
          log.insert(log.end(), entries.begin(), entries.end());
        } else {
          EXPECT_FALSE(appended);
        }
        break;
      }
    }
    const auto head = handles[random.number(0, 2)].store->head();
    ASSERT_TRUE(head) << head.error().message();
    EXPECT_EQ(head.value().promised, promised);
    EXPECT_EQ(head.value().floor, floor);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace datacloud::journal
