// Operations of a guarded site and of a log that are lost, land without an answer, or land later:
// what was acknowledged stays, once, and a writer that settles and sends the same bytes gets on.
#include "daemon/journal/fault_log_store.h"
#include "daemon/journal/guarded_log.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/faulty_guarded.h"
#include "tests/support/seeded.h"

namespace datacloud::journal {
namespace {

// Writes on until told to stop or fenced; resends what it does not know the fate of.
class PatientWriter {
 public:
  PatientWriter(LogStore& store, Epoch epoch) : store_(store), epoch_(epoch) {}

  bool lead() {
    for (int i = 0; i < 40; ++i) {
      auto claimed = store_.claim(epoch_);
      if (!claimed && refused(claimed.error())) return false;
      if (!claimed) continue;
      for (int j = 0; j < 40; ++j) {
        if (j > 0 || !base_) base_ = claimed.value().last;
        auto begun = store_.begin(epoch_, *base_, Base::in_log);
        if (begun) {
          last_ = *base_;
          return true;
        }
        if (refused(begun.error())) return false;
      }
    }
    return false;
  }

  // False when fenced, or when the site does not answer for long.
  bool append(size_t count, size_t bytes) {
    const auto batch = LogBatch::of(entries_after(last_, epoch_, count, bytes)).value();
    for (int i = 0; i < 60; ++i) {
      auto appended = append_now(store_, epoch_, batch);
      if (!appended) {
        const auto now = store_.settle(epoch_);
        if (!now && refused(now.error())) return false;
        if (!now || now.value().last == last_) continue;  // not landed: the same bytes again
        EXPECT_EQ(now.value().last, batch.last()) << "whole or not at all";
      }
      last_ = batch.last();
      return true;
    }
    return false;
  }
  const LogPosition& last() const { return last_; }

 private:
  LogStore& store_;
  const Epoch epoch_;
  std::optional<LogPosition> base_;
  LogPosition last_;
};

void expect_in_log(LogStore& store, const std::vector<LogPosition>& acknowledged, uint64_t floor) {
  const auto all = read_from(store, floor);
  for (const auto& position : acknowledged) {
    if (position.sequence < floor) continue;
    ASSERT_LT(position.sequence - floor, all.size());
    EXPECT_EQ(all[position.sequence - floor].position(), position);
  }
}

TEST(JournalFaults, GuardedSitesKeepWhatWasAcknowledged) {
  Seeded random;
  size_t acknowledged_count = 0;
  for (int round = 0; round < 60; ++round) {
    const auto memory = make_guarded_memory();
    const GuardedLogOptions options{test_journal(), LogSite::kSegmentBytes};
    auto late = std::make_shared<FaultyGuarded::Late>();
    const std::shared_ptr<GuardedObjects> inner = open_guarded_memory(memory);
    ASSERT_TRUE(format_guarded_log(*inner, options));
    const uint64_t percent = random.number(0, 30);
    const auto rule = [&](const std::string&) {
      if (random.number(0, 3) == 0) late->land([&](size_t n) { return random.number(0, n - 1); });
      if (random.number(0, 99) >= percent) return GuardedFault::none;
      return static_cast<GuardedFault>(random.number(1, 3));
    };
    std::vector<LogPosition> acknowledged;
    uint64_t floor = 1;
    std::vector<std::unique_ptr<LogStore>> stores;  // of leaders that sleep and wake up
    std::vector<std::unique_ptr<PatientWriter>> writers;
    for (uint64_t number = 1; number <= 5; ++number) {
      stores.push_back(
          make_guarded_log(std::make_unique<FaultyGuarded>(inner, late, rule), options));
      writers.push_back(std::make_unique<PatientWriter>(*stores.back(), Epoch{number, number}));
      PatientWriter& writer = *writers.back();
      if (!writer.lead()) continue;
      for (int i = 0; i < 12; ++i) {
        if (!writer.append(random.number(1, 3), random.number(0, 12'000))) break;
        acknowledged.push_back(writer.last());
      }
      const uint64_t to = random.number(1, writer.last().sequence + 1);
      if (random.number(0, 1) == 0 && stores.back()->trim({number, number}, to)) {
        floor = std::max(floor, to);
      }
      // One that was fenced wakes up.
      const size_t sleeper = random.number(0, writers.size() - 1);
      if (sleeper + 1 < writers.size()) {
        EXPECT_FALSE(append_now(
            *stores[sleeper], {sleeper + 1, sleeper + 1},
            LogBatch::of(entries_after(writers[sleeper]->last(), {sleeper + 1, sleeper + 1}, 1))
                .value()));
      }
    }
    late->land(nullptr);
    acknowledged_count += acknowledged.size();
    auto reader = make_guarded_log(open_guarded_memory(memory), options);
    const auto head = reader->head();
    ASSERT_TRUE(head) << head.error().message();
    EXPECT_GE(head.value().floor, floor);
    expect_in_log(*reader, acknowledged, head.value().floor);
    if (HasFailure()) return;
  }
  EXPECT_GT(acknowledged_count, 500u) << "the rounds do something";
}

TEST(JournalFaults, UnknownAppendsAreSettledByTheHead) {
  const auto memory = make_guarded_memory();
  const GuardedLogOptions options{test_journal(), LogSite::kSegmentBytes};
  ASSERT_TRUE(format_guarded_log(*open_guarded_memory(memory), options));
  LogFault next = LogFault::none;
  auto store = make_fault_log_store(make_guarded_log(open_guarded_memory(memory), options),
                                    [&](LogCall call) {
                                      if (call != LogCall::append) return LogFault::none;
                                      return std::exchange(next, LogFault::none);
                                    });
  PatientWriter writer(*store, {1, 1});
  ASSERT_TRUE(writer.lead());
  for (const auto fault : {LogFault::lost_request, LogFault::lost_answer, LogFault::late}) {
    next = fault;
    ASSERT_TRUE(writer.append(2, 100));
    store->land_late();  // after its repetition: refused, and nothing is there twice
    ASSERT_EQ(store->settle({1, 1}).value().last, writer.last());
  }
  const auto all = read_from(*store, 1);
  EXPECT_EQ(all.size(), 6u);
  // A late append of a fenced epoch does not land.
  next = LogFault::late;
  const auto batch = LogBatch::of(entries_after(writer.last(), {1, 1}, 1)).value();
  EXPECT_REFUSED(Errc::timed_out, append_now(*store, {1, 1}, batch));
  auto other = make_guarded_log(open_guarded_memory(memory), options);
  ASSERT_OK(other->claim({2, 2}));
  store->land_late();
  EXPECT_EQ(other->head().value().last, writer.last());
}

// A head that lies shows in what is read: adoption reads logs.
TEST(JournalFaults, AnOldHeadIsOlderThanTheLog) {
  const auto memory = make_guarded_memory();
  const GuardedLogOptions options{test_journal(), LogSite::kSegmentBytes};
  ASSERT_TRUE(format_guarded_log(*open_guarded_memory(memory), options));
  bool old = false;
  auto store = make_fault_log_store(
      make_guarded_log(open_guarded_memory(memory), options), [&](LogCall call) {
        return call == LogCall::head && old ? LogFault::old_head : LogFault::none;
      });
  Leader leader(*store, {1, 1});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(2));
  const auto before = store->head().value();
  old = true;
  ASSERT_OK(leader.append(2));
  EXPECT_EQ(store->head().value(), before);
  EXPECT_EQ(read_from(*store, 1).back().position(), leader.last());
}

// A site put back from a backup has forgotten promise and entries; a leader that goes on notices by
// the guard, and reading shows where the site is.
TEST(JournalFaults, ARestoredSiteRefusesTheLeader) {
  const auto memory = make_guarded_memory();
  const GuardedLogOptions options{test_journal(), LogSite::kSegmentBytes};
  ASSERT_TRUE(format_guarded_log(*open_guarded_memory(memory), options));
  auto store = make_guarded_log(open_guarded_memory(memory), options);
  Leader leader(*store, {1, 1});
  ASSERT_OK(leader.lead());
  ASSERT_OK(leader.append(2));
  const auto backup = copy_guarded_memory(*memory);
  const LogPosition then = leader.last();
  ASSERT_OK(leader.append(2));
  restore_guarded_memory(*memory, *backup);
  EXPECT_REFUSED(Errc::stale, leader.append());
  EXPECT_EQ(store->settle({1, 1}).value().last, then);
  EXPECT_EQ(read_from(*store, 1).size(), 2u);
}

}  // namespace
}  // namespace datacloud::journal
