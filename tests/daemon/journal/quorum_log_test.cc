// The threads of a QuorumLog: on directories and in memory, with sites that are away, hang, come
// back and were put back, leaders that stop and wake up too late, and bounded memory.
#include "daemon/journal/quorum_log.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

#include "daemon/journal/directory_log.h"
#include "daemon/journal/guarded_log.h"
#include "tests/daemon/journal/gated_log.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/seeded.h"
#include "tests/support/temporary_directory.h"

namespace datacloud::journal {
namespace {

// Far beyond what anything takes: only a log that is stuck gets there.
constexpr auto kPatience = seconds(120);

template <class Condition>
bool eventually(Condition condition) {
  const auto until = monotonic_now() + kPatience;
  while (!condition()) {
    if (monotonic_now() > until) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

const char* const kNames[] = {"akita", "beppu", "chiba", "date", "ebina"};

class QuorumLogTest : public testing::Test {
 protected:
  // Sites in memory.
  void make_sites(int count) {
    for (int i = 0; i < count; ++i) {
      sites_.push_back(make_guarded_memory());
      auto objects = open_guarded_memory(sites_.back());
      ASSERT_OK(format_guarded_log(*objects, {test_journal(), 1 << 20}));
    }
  }
  std::shared_ptr<LogStore> open(size_t site) {
    return make_guarded_log(open_guarded_memory(sites_[site]), {test_journal(), 1 << 20});
  }
  // One leader's options; each site behind a gate of this leader.
  QuorumLogOptions options(std::vector<std::shared_ptr<Gate>>* gates = nullptr) {
    QuorumLogOptions options;
    options.journal = test_journal();
    options.rules = quorum_rules(static_cast<int>(sites_.size()), 1);
    options.claim_deadline = kPatience;
    for (size_t i = 0; i < sites_.size(); ++i) {
      auto gate = std::make_shared<Gate>();
      options.members.push_back(
          {static_cast<int>(i) + 1, kNames[i], std::make_shared<GatedLog>(open(i), gate)});
      if (gates != nullptr) gates->push_back(std::move(gate));
    }
    return options;
  }
  std::vector<std::shared_ptr<GuardedMemory>> sites_;
};

// A QuorumLog and what is written to it.
class LogWriter {
 public:
  explicit LogWriter(QuorumLogOptions options) {
    auto claimed = QuorumLog::claim(std::move(options));
    EXPECT_TRUE(claimed) << claimed.error().message();
    if (claimed) log = std::move(claimed).value();
  }
  result<void> begin() {
    const LogEntry opening = entry_after(log->adopted(), log->epoch());
    last = opening.position();
    return log->begin(opening);
  }
  uint64_t append(size_t count = 1, size_t bytes = 0) {
    for (const auto& entry : entries_after(last, log->epoch(), count, bytes)) {
      last = entry.position();
      log->append(entry);
    }
    return last.sequence;
  }
  result<void> wait(uint64_t sequence) {
    std::promise<result<void>> answer;
    log->when_committed(sequence, [&](result<void> r) { answer.set_value(std::move(r)); });
    return answer.get_future().get();
  }
  bool all(MemberState::State state) {
    for (const auto& m : log->members()) {
      if (m.state != state) return false;
    }
    return true;
  }
  // All sites have everything.
  bool even() {
    for (const auto& m : log->members()) {
      if (m.state != MemberState::State::ok || m.acknowledged != last.sequence) return false;
    }
    return true;
  }
  std::unique_ptr<QuorumLog> log;
  LogPosition last;
};

std::vector<LogEntry> read_all(QuorumLog& log, uint64_t from = 1) {
  std::vector<LogEntry> out;
  EXPECT_TRUE(log.read(from, [&](const LogEntry& entry) -> result<void> {
    out.push_back(entry);
    return success();
  }));
  return out;
}

TEST_F(QuorumLogTest, LeadsDirectories) {
  TemporaryDirectory directory(TemporaryDirectory::fast_parent());
  const auto options = [&] {
    QuorumLogOptions out;
    out.journal = test_journal();
    out.rules = quorum_rules(3, 1);
    out.claim_deadline = kPatience;
    for (int i = 0; i < 3; ++i) {
      DirectoryLogOptions site;
      site.directory = (directory.path() / kNames[i]).string();
      site.journal = test_journal();
      site.segment_bytes = 1 << 20;
      out.members.push_back({i + 1, kNames[i], make_directory_log(site)});
    }
    return out;
  };
  for (int i = 0; i < 3; ++i) {
    DirectoryLogOptions site;
    site.directory = (directory.path() / kNames[i]).string();
    site.journal = test_journal();
    std::filesystem::create_directory(site.directory);
    ASSERT_OK(format_directory_log(site));
  }
  {
    LogWriter writer(options());
    ASSERT_TRUE(writer.log);
    EXPECT_EQ(writer.log->adopted(), LogPosition());
    EXPECT_EQ(writer.log->floor(), 1u);
    ASSERT_OK(writer.begin());
    for (int i = 0; i < 10; ++i) writer.append(10, 3000);
    ASSERT_OK(writer.wait(writer.last.sequence));
    EXPECT_EQ(writer.log->committed(), writer.last);
    EXPECT_EQ(writer.log->uncommitted_bytes(), 0u);
    ASSERT_TRUE(eventually([&] { return writer.even(); }));
  }
  // One is away; the others go on.
  std::filesystem::rename(directory.path() / kNames[1], directory.path() / "away");
  LogWriter next(options());
  ASSERT_TRUE(next.log);
  EXPECT_EQ(next.log->epoch().number, 2u);
  EXPECT_EQ(next.log->adopted().sequence, 101u);
  EXPECT_EQ(read_all(*next.log).size(), 101u);
  ASSERT_OK(next.begin());
  ASSERT_OK(next.wait(next.append(100)));
  ASSERT_TRUE(eventually([&] { return next.log->members()[1].state == MemberState::State::away; }));
  EXPECT_NE(next.log->members()[1].reason.find("holds no journal"), std::string::npos)
      << next.log->members()[1].reason;
  std::filesystem::rename(directory.path() / "away", directory.path() / kNames[1]);
  ASSERT_TRUE(eventually([&] { return next.even(); })) << "it has come back";
  next.log->trim(150);
  ASSERT_TRUE(eventually([&] {
    DirectoryLogOptions site;
    site.directory = (directory.path() / kNames[2]).string();
    site.journal = test_journal();
    return make_directory_log(site)->head().value().floor == 150;
  }));
}

TEST_F(QuorumLogTest, ReadsAndRewindsWhatItAdopted) {
  make_sites(3);
  std::vector<LogPosition> at{LogPosition()};
  {
    LogWriter writer(options());
    ASSERT_OK(writer.begin());
    at.push_back(writer.last);
    for (int i = 0; i < 30; ++i) {
      writer.append();
      at.push_back(writer.last);
    }
    ASSERT_OK(writer.wait(31));
  }
  LogWriter next(options());
  EXPECT_EQ(next.log->adopted(), at[31]);
  for (const uint64_t i : {0, 1, 17, 31}) EXPECT_TRUE(next.log->contains(at[i]).value()) << i;
  LogPosition other = at[9];
  other.hash[0] ^= 1;
  EXPECT_FALSE(next.log->contains(other).value());
  other.sequence = 32;
  EXPECT_FALSE(next.log->contains(other).value());
  EXPECT_EQ(read_all(*next.log, 30).size(), 2u);
  EXPECT_TRUE(read_all(*next.log, 32).empty());
  int seen = 0;
  EXPECT_REFUSED(Errc::io, next.log->read(1, [&](const LogEntry&) -> result<void> {
    if (++seen == 3) return failure(Errc::io, "enough");
    return success();
  }));
  other.sequence = 9;
  EXPECT_REFUSED(Errc::invalid, next.log->rewind(other));
  ASSERT_OK(next.log->rewind(at[20]));
  EXPECT_EQ(read_all(*next.log).size(), 20u);
  EXPECT_REFUSED(Errc::invalid, next.log->begin(entry_after(at[31], next.log->epoch())));
  ASSERT_OK(next.begin());
  ASSERT_TRUE(eventually([&] { return next.even(); }));
  for (size_t i = 0; i < 3; ++i) {
    const auto entries = read_from(*open(i), 1);
    ASSERT_EQ(entries.size(), 21u);
    EXPECT_EQ(entries.back().position(), next.last);
    EXPECT_EQ(entries[19].position(), at[20]);
  }
}

// What was trimmed is not read, and a site that lacks it begins behind it.
TEST_F(QuorumLogTest, GoesOnBehindACheckpoint) {
  make_sites(3);
  std::vector<std::shared_ptr<Gate>> gates;
  LogPosition before;
  {
    LogWriter writer(options(&gates));
    ASSERT_OK(writer.begin());
    ASSERT_TRUE(eventually([&] { return writer.even(); }));
    gates[0]->close();
    writer.append(100);
    before = writer.last;
    ASSERT_OK(writer.wait(writer.append(10)));
    writer.log->trim(before.sequence + 1);
    for (const size_t i : {1, 2}) {
      ASSERT_TRUE(eventually([&] { return open(i)->head().value().floor == 102; }));
    }
    EXPECT_EQ(open(0)->head().value().floor, 1u);
    gates[0]->tear_down();
  }
  LogWriter next(options());
  EXPECT_EQ(next.log->floor(), 102u);
  EXPECT_REFUSED(Errc::not_found, next.log->read(101, [](const LogEntry&) { return success(); }));
  EXPECT_TRUE(next.log->contains(before).value());
  before.sequence = 100;
  EXPECT_REFUSED(Errc::not_found, next.log->contains(before));
  EXPECT_EQ(read_all(*next.log, 102).size(), 10u);
  ASSERT_OK(next.begin());
  ASSERT_TRUE(eventually([&] { return next.even(); }));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(read_from(*open(i), 102).size(), 11u);
  EXPECT_EQ(open(0)->head().value().floor, 102u);
}

TEST_F(QuorumLogTest, SaysWhichSitesDoNotAnswer) {
  make_sites(3);
  auto few = options();
  few.claim_deadline = milliseconds(300);
  for (const size_t i : {0, 1}) {
    few.members[i].log =
        make_guarded_log(open_guarded_memory(make_guarded_memory()), {test_journal(), 1 << 20});
  }
  const auto none = QuorumLog::claim(few);
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().is(Errc::unavailable));
  for (const char* part : {"needs 2 of its 3", "akita", "beppu", "holds no journal"}) {
    EXPECT_NE(none.error().text().find(part), std::string::npos) << none.error().text();
  }
  few.claim_deadline = kPatience;
  std::atomic<int> asked = 0;
  few.cancelled = [&] { return ++asked > 3; };
  EXPECT_REFUSED(Errc::unavailable, QuorumLog::claim(few));
  few.members.pop_back();
  EXPECT_REFUSED(Errc::invalid, QuorumLog::claim(few));
}

// It was stopped, another has claimed; it wakes up.
TEST_F(QuorumLogTest, IsFencedOnceAndAnswersWhatWaits) {
  make_sites(3);
  std::vector<std::shared_ptr<Gate>> gates;
  auto first = options(&gates);
  std::atomic<int> fenced = 0;
  first.fenced = [&](const Error& error) {
    EXPECT_TRUE(error.is(Errc::stale)) << error.message();
    ++fenced;
  };
  LogWriter old(std::move(first));
  ASSERT_OK(old.begin());
  ASSERT_OK(old.wait(old.append(5)));
  for (const auto& gate : gates) gate->close();
  std::vector<uint64_t> answered;
  std::atomic<int> refused = 0;
  const uint64_t last = old.append(20);
  for (uint64_t n = last - 19; n <= last; ++n) {
    old.log->when_committed(n, [&, n](const result<void>& r) {
      answered.push_back(n);
      if (!r && r.error().is(Errc::stale)) ++refused;
    });
  }
  LogWriter next(options());
  ASSERT_OK(next.begin());
  ASSERT_OK(next.wait(next.append(3)));
  EXPECT_EQ(fenced, 0);
  EXPECT_EQ(refused, 0);
  for (const auto& gate : gates) gate->open();
  ASSERT_TRUE(eventually([&] { return refused == 20; }));
  EXPECT_TRUE(std::is_sorted(answered.begin(), answered.end()));
  EXPECT_EQ(fenced, 1);
  EXPECT_REFUSED(Errc::stale, old.wait(last));
  old.log->append(entry_after(old.last, old.log->epoch()));  // does nothing
  EXPECT_EQ(old.log->committed().sequence, last - 20);
  old.log.reset();
  EXPECT_EQ(fenced, 1);
  ASSERT_OK(next.wait(next.append()));
}

TEST_F(QuorumLogTest, EndsWhileASiteHangs) {
  make_sites(3);
  std::vector<std::shared_ptr<Gate>> gates;
  LogWriter writer(options(&gates));
  ASSERT_OK(writer.begin());
  ASSERT_TRUE(eventually([&] { return writer.even(); }));
  for (const auto& gate : gates) gate->close();
  std::atomic<int> answered = 0;
  writer.log->when_committed(writer.append(10), [&](const result<void>& r) {
    EXPECT_REFUSED(Errc::unavailable, r);
    ++answered;
  });
  std::thread ends([&] { writer.log.reset(); });
  ends.join();  // appends that hang hold nothing up
  EXPECT_EQ(answered, 1);
  for (const auto& gate : gates) gate->tear_down();
}

// What is kept for a site that does not answer has a bound; the rest is read from another site.
TEST_F(QuorumLogTest, KeepsSoMuchForASiteThatIsBehind) {
  make_sites(3);
  std::vector<std::shared_ptr<Gate>> gates;
  auto bounded = options(&gates);
  bounded.kept_bytes_max = 256 << 10;
  LogWriter writer(std::move(bounded));
  ASSERT_OK(writer.begin());
  ASSERT_TRUE(eventually([&] { return writer.even(); }));
  gates[2]->close();
  std::vector<std::weak_ptr<const Bytes>> given;
  const auto held = [&] {
    uint64_t bytes = 0;
    for (const auto& entry : given) {
      if (const auto there = entry.lock()) bytes += there->size();
    }
    return bytes;
  };
  for (int i = 0; i < 40; ++i) {  // 8 MiB
    for (int n = 0; n < 10; ++n) {
      const auto entry = entry_after(writer.last, writer.log->epoch(), 20'000);
      given.push_back(entry.bytes);
      writer.last = entry.position();
      writer.log->append(entry);
    }
    ASSERT_OK(writer.wait(writer.last.sequence));
    // What is kept, and what is on its way to the site that hangs: one append.
    EXPECT_LT(held(), (256 << 10) + (10 * 21'000)) << i;
  }
  EXPECT_EQ(writer.log->members()[2].acknowledged, 1u);
  EXPECT_NE(writer.log->members()[2].state, MemberState::State::ok);
  gates[2]->open();
  ASSERT_TRUE(eventually([&] { return writer.even(); }));
  EXPECT_EQ(read_from(*open(2), 1).size(), 401u);
}

// A minority of the sites hangs now and then, and at times the leader as a whole, whom another
// supersedes meanwhile. One history, in order, nothing told is lost.
TEST_F(QuorumLogTest, SurvivesStalls) {
  make_sites(5);
  Seeded random;
  std::atomic<uint64_t> told = 0;  // the highest that was committed
  std::shared_ptr<LogWriter> old;  // stopped, superseded
  std::vector<std::shared_ptr<Gate>> old_gates;
  for (int round = 0; round < 8; ++round) {
    std::vector<std::shared_ptr<Gate>> gates;
    auto writer = std::make_shared<LogWriter>(options(&gates));
    ASSERT_TRUE(writer->log);
    EXPECT_GE(writer->log->adopted().sequence, told) << "round " << round;
    ASSERT_OK(writer->begin());
    for (const auto& gate : old_gates) gate->open();  // the old one wakes up
    uint64_t in_order = writer->last.sequence;
    for (int step = 0; step < 30; ++step) {
      if (random.number(0, 3) == 0) {
        for (const auto& gate : gates) gate->open();
        for (int n = 0; n < 2; ++n) gates[random.number(0, 4)]->close();
      }
      const uint64_t last = writer->append(random.number(1, 30), random.number(0, 9000));
      const uint64_t n = random.number(std::max<uint64_t>(in_order, 1), last);
      writer->log->when_committed(n, [&, n](const result<void>& r) {
        if (!r) return;
        uint64_t high = told;
        while (high < n && !told.compare_exchange_weak(high, n)) continue;
      });
      in_order = n;
      if (random.number(0, 5) == 0) {
        ASSERT_OK(writer->wait(last));
      }
      if (random.number(0, 9) == 0) writer->log->trim(random.number(1, last));
    }
    if (round % 2 == 0) {  // it ends well
      for (const auto& gate : gates) gate->open();
      ASSERT_OK(writer->wait(writer->last.sequence));
      ASSERT_TRUE(eventually([&] { return writer->even(); })) << "round " << round;
      old.reset();
      old_gates.clear();
    } else {  // it stops
      for (const auto& gate : gates) gate->close();
      old = std::move(writer);
      old_gates = std::move(gates);
    }
  }
  for (const auto& gate : old_gates) gate->open();
  old.reset();
  for (size_t i = 0; i < 5; ++i) {  // the chain is whole at each site
    auto log = open(i);
    const auto head = log->head().value();
    const auto entries = read_from(*log, head.floor);
    if (!entries.empty()) {
      EXPECT_EQ(entries.back().position(), head.last);
    }
  }
}

}  // namespace
}  // namespace datacloud::journal
