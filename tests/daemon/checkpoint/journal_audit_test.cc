// What the audit of the journal reads, finds, repairs, tells, and where it goes on after a restart.
#include "daemon/checkpoint/journal_audit.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "daemon/checkpoint/checkpoint_rules.h"
#include "tests/daemon/checkpoint/recovery_rig.h"

namespace datacloud {
namespace {

// Runs on the test's thread; other threads post. No delay is waited for.
class AuditLoop final : public EventLoop {
 public:
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(f));
  }
  void after(Duration, std::function<void()> f) override {
    now_ += milliseconds(10);
    post(std::move(f));
  }
  MonotonicTime now() override { return now_; }
  template <class Done>
  void run_until(Done done) {
    const auto end = monotonic_now() + seconds(120);
    while (!done()) {
      ASSERT_LT(monotonic_now(), end) << "never done";
      if (const auto f = next()) {
        f();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  std::function<void()> next() {
    std::lock_guard lock(mutex_);
    if (queue_.empty()) return {};
    auto f = std::move(queue_.front());
    queue_.pop_front();
    return f;
  }

  MonotonicTime now_ = MonotonicTime() + seconds(1000);  // the test's thread's
  std::mutex mutex_;
  std::deque<std::function<void()>> queue_;
};

// A site's log of which some entries are not what they were, until it begins anew.
class RottenLog final : public journal::LogStore {
 public:
  explicit RottenLog(std::shared_ptr<journal::LogStore> under) : under_(std::move(under)) {}
  result<journal::LogHead> head() override { return under_->head(); }
  result<journal::LogHead> claim(const journal::Epoch& e) override { return under_->claim(e); }
  result<void> begin(const journal::Epoch& e, const journal::LogPosition& base,
                     journal::Base where) override {
    return under_->begin(e, base, where);
  }
  void append(const journal::Epoch& e, journal::LogBatch batch, Done done) override {
    under_->append(e, std::move(batch), std::move(done));
  }
  result<journal::LogHead> settle(const journal::Epoch& e) override { return under_->settle(e); }
  result<void> trim(const journal::Epoch& e, uint64_t floor) override {
    return under_->trim(e, floor);
  }
  result<void> seal(const journal::Epoch& e) override { return under_->seal(e); }
  result<std::vector<journal::LogEntry>> read(uint64_t from, size_t bytes_max) override {
    ++reads;
    if (away) return failure(Errc::away, "its network is down");
    TRY(auto entries, under_->read(from, bytes_max));
    for (auto& entry : entries) {
      const uint64_t sequence = entry.header.sequence;
      if (damaged != 0 && sequence >= damaged) {
        if (from >= damaged) return failure(Errc::corrupt, "segment-1 is damaged");
        entries.resize(damaged - from);
        return entries;
      }
      if (ends != 0 && sequence >= ends) {
        entries.resize(ends - std::min(ends, from));
        return entries;
      }
      if (forged.contains(sequence)) entry = forged.at(sequence);
    }
    return entries;
  }

  int reads = 0;
  bool away = false;
  uint64_t damaged = 0;  // from this entry on
  uint64_t ends = 0;     // before this entry
  std::map<uint64_t, journal::LogEntry> forged;

 private:
  const std::shared_ptr<journal::LogStore> under_;
};

class NoJournal final : public CheckpointJournal {
 public:
  void append_root(Bytes, std::function<void()>) override { ++roots; }
  void trim(uint64_t) override {}
  uint64_t bytes() const override { return 0; }
  uint64_t bytes_max() const override { return 1 << 20; }
  int roots = 0;
};

class JournalAuditTest : public RecoveryTest {
 protected:
  // The leader's log as the audit sees it.
  class Log final : public journal::QuorumLog {
   public:
    explicit Log(JournalAuditTest& test) : test_(test) {}
    const journal::Epoch& epoch() const override { return test_.epoch_; }
    journal::LogPosition adopted() const override { return {}; }
    uint64_t floor() const override { return 1; }
    result<bool> contains(const journal::LogPosition&) override { return false; }
    result<void> read(uint64_t,
                      const std::function<result<void>(const journal::LogEntry&)>&) override {
      return success();
    }
    result<void> rewind(const journal::LogPosition&) override { return success(); }
    result<void> begin(const journal::LogEntry&) override { return success(); }
    void append(journal::LogEntry) override {}
    journal::LogPosition committed() const override { return test_.last_; }
    void when_committed(uint64_t, std::function<void(result<void>)>) override {}
    uint64_t uncommitted_bytes() const override { return 0; }
    void trim(uint64_t) override {}
    std::vector<journal::MemberState> members() const override {
      std::vector<journal::MemberState> out;
      for (int i = 0; i < kSites; ++i) {
        out.push_back({.site = i + 1,
                       .name = std::string("s").append(std::to_string(i + 1)),
                       .state = test_.states_[static_cast<size_t>(i)],
                       .acknowledged = test_.last_.sequence});
      }
      return out;
    }
    std::shared_ptr<journal::LogStore> log_at(int site) const override {
      return test_.rotten_[static_cast<size_t>(site - 1)];
    }
    bool rewrite(int site) override {
      test_.rewritten_.push_back(site);
      auto& log = *test_.rotten_[static_cast<size_t>(site - 1)];
      if (test_.repairs_) {
        log.damaged = log.ends = 0;
        log.forged.clear();
      }
      return test_.repairs_;
    }

   private:
    JournalAuditTest& test_;
  };

  void SetUp() override {
    RecoveryTest::SetUp();
    for (const auto& log : logs_) rotten_.push_back(std::make_shared<RottenLog>(log));
    states_.assign(kSites, journal::MemberState::State::ok);
    for (int i = 0; i < 12; ++i) change(some_changes());
    roots_kept_ = checkpoint();
    for (int i = 0; i < 12; ++i) change(some_changes());
    pb::CheckpointRecord record;
    record.set_number(roots_kept_.number());
    record.set_state(pb::CHECKPOINT_WHOLE);
    record.set_position(roots_kept_.position());
    record.set_made_ns(wall_now_ns());
    record.set_pieces(static_cast<uint32_t>(roots_kept_.pieces_size()));
    record.set_columns(5);
    for (uint32_t i = 1; i <= kSites; ++i) record.add_sites(i);
    auto txn = store_->begin();
    txn.put(key::meta(kCheckpointRecord + checkpoint_name(record.number())), record);
    ASSERT_TRUE(store_->commit(std::move(txn)));
    start();
  }
  void TearDown() override {
    audit_.reset();
    job_.reset();
    RecoveryTest::TearDown();
  }
  void start() {
    audit_.reset();
    job_.reset();
    loop_ = std::make_shared<AuditLoop>();
    committer_ = std::make_unique<LocalCommitter>(
        *store_, loop_, [](const Error& error) { ADD_FAILURE() << error.message(); });
    CheckpointJobOptions of_job;
    of_job.journal = journal_;
    of_job.metadata_key = metadata_key_;
    of_job.code = make_erasure_code("rs-3-2").value();
    job_ =
        std::make_unique<CheckpointJob>(*store_, *committer_, *sites_, loop_, no_journal_, of_job);
    ASSERT_TRUE(job_->start());
    JournalAuditOptions options;
    options.journal = journal_;
    options.metadata_key = metadata_key_;
    options.piece_bytes = 3000;  // a few entries
    options.save = Duration::zero();
    options.run = [this](std::function<void()> job, std::function<void()> then) {
      job();
      loop_->post(std::move(then));
    };
    audit_ =
        std::make_unique<JournalAudit>(*store_, *committer_, *sites_, loop_, log_, *job_, options);
    ASSERT_TRUE(audit_->start());
  }
  pb::JournalAudit told() const {
    pb::JournalAudit out;
    audit_->describe(out);
    return out;
  }
  pb::JournalAudit run() {
    bool done = false;
    audit_->request([&] { done = true; });
    loop_->run_until([&] { return done; });
    return told();
  }
  std::string column(int c) const { return column_name(roots_kept_.number(), 0, c); }
  // Where it lies.
  MemoryStoreControl& site_of(int c) { return controls_[roots_kept_.pieces(0).sites(c) - 1]; }
  uint64_t columns() const { return static_cast<uint64_t>(roots_kept_.pieces_size()) * 5; }

  std::vector<std::shared_ptr<RottenLog>> rotten_;
  std::vector<journal::MemberState::State> states_;
  std::vector<int> rewritten_;
  bool repairs_ = true;
  pb::CheckpointRoot roots_kept_;
  std::shared_ptr<AuditLoop> loop_;
  NoJournal no_journal_;
  Log log_{*this};
  std::unique_ptr<LocalCommitter> committer_;
  std::unique_ptr<CheckpointJob> job_;
  std::unique_ptr<JournalAudit> audit_;
};

TEST_F(JournalAuditTest, ReadsAllOfASoundJournal) {
  const auto told = run();
  EXPECT_EQ(told.entries(), last_.sequence * kSites);
  EXPECT_EQ(told.columns(), columns());
  EXPECT_EQ(told.findings(), 0u);
  EXPECT_EQ(told.passed_over(), 0u);
  EXPECT_GT(told.finished_ns(), 0);
  EXPECT_FALSE(told.running());
  EXPECT_TRUE(rewritten_.empty());
}

TEST_F(JournalAuditTest, EveryKindOfWrongLogIsFoundAndReadAgainOnceItIsRepaired) {
  const uint64_t at = seeded_.number(1, last_.sequence);
  rotten_[0]->damaged = at;
  rotten_[1]->ends = at;
  // A whole entry that somebody has sealed, in the place of another one.
  rotten_[2]->forged[at] = sealer_->seal(journal::EntryKind::note, last_, 0, {}).value();
  const auto told = run();
  EXPECT_EQ(rewritten_, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(told.findings(), 3u);
  EXPECT_EQ(told.repaired(), 3u);
  EXPECT_EQ(told.unrepaired(), 0u);
  EXPECT_GE(told.entries(), last_.sequence * kSites) << "the repaired ones are read to their end";
  EXPECT_EQ(run().findings(), 3u) << "and are sound from then on";
}

TEST_F(JournalAuditTest, TellsWhatCouldNotBeRepairedUntilItIsSound) {
  repairs_ = false;
  rotten_[3]->damaged = 5;
  auto told = run();
  EXPECT_EQ(told.repaired(), 0u);
  ASSERT_EQ(told.problems_size(), 1);
  EXPECT_NE(told.problems(0).find("s4"), std::string::npos) << told.problems(0);
  EXPECT_NE(told.problems(0).find("could not be repaired"), std::string::npos);
  loop_->run_until([&] { return no_journal_.roots > 0; });  // another checkpoint is made
  start();
  EXPECT_EQ(this->told().problems_size(), 1) << "it is in the record";
  rotten_[3]->damaged = 0;
  EXPECT_EQ(run().problems_size(), 0);
}

TEST_F(JournalAuditTest, PassesOverSitesThatAreAway) {
  states_[1] = journal::MemberState::State::away;
  rotten_[2]->away = true;
  const auto told = run();
  EXPECT_EQ(told.entries(), last_.sequence * (kSites - 2));
  EXPECT_EQ(told.passed_over(), 2u);
  EXPECT_EQ(told.findings(), 0u) << "silence says nothing about what is there";
  EXPECT_TRUE(rewritten_.empty());
}

TEST_F(JournalAuditTest, GoesOnAfterARestart) {
  bool done = false;
  audit_->request([&] { done = true; });
  const int stop = static_cast<int>(seeded_.number(1, 40));
  const auto reads = [&] {
    int sum = 0;
    for (const auto& log : rotten_) sum += log->reads;
    return sum;
  };
  loop_->run_until([&] { return done || reads() >= stop; });
  if (!done) {
    start();
    EXPECT_TRUE(told().running());
    loop_->run_until([&] { return !told().running(); });
  }
  // What was read and not noted is read again.
  EXPECT_GE(told().entries(), last_.sequence * kSites);
  EXPECT_LE(told().entries(), last_.sequence * kSites + 10);
  EXPECT_EQ(told().columns(), columns());
  EXPECT_EQ(told().findings(), 0u);
}

TEST_F(JournalAuditTest, PutsColumnsOfACheckpointThereAgain) {
  ASSERT_TRUE(site_of(1).overwrite(column(1), Bytes(17, 3)));
  const SiteId lost = roots_kept_.pieces(0).sites(3);
  bool removed = false;
  sites_->find(lost)->store().remove(column(3), {}, [&](const result<void>&) { removed = true; });
  ASSERT_TRUE(removed);
  const auto told = run();
  EXPECT_EQ(told.findings(), 2u);
  EXPECT_EQ(told.repaired(), 2u);
  const auto health = verify_checkpoint(roots_kept_, place()).value();
  EXPECT_EQ(health.missing + health.damaged, 0u);
  EXPECT_EQ(health.losses_survived, 2);
}

TEST_F(JournalAuditTest, AsksForACheckpointWhenOneCannotBeReadAnyMore) {
  for (int c = 0; c < 3; ++c) ASSERT_TRUE(site_of(c).overwrite(column(c), Bytes(5, 1)));
  const auto told = run();
  EXPECT_EQ(told.repaired(), 0u);
  EXPECT_EQ(told.unrepaired(), 3u);
  loop_->run_until([&] { return no_journal_.roots > 0; });
}

TEST_F(JournalAuditTest, ColumnsOfSitesThatAreAwayAreLeftAlone) {
  set_away(roots_kept_.pieces(0).sites(2) - 1, true);
  const auto told = run();
  EXPECT_EQ(told.findings(), 0u);
  EXPECT_GE(told.passed_over(), static_cast<uint64_t>(roots_kept_.pieces_size()));
}

TEST_F(JournalAuditTest, ADamagedRecordBeginsAnew) {
  pb::JournalAuditState bad;
  bad.set_previous("short");
  EXPECT_FALSE(valid_journal_audit(bad));
  auto txn = store_->begin();
  txn.put(key::meta(kJournalAuditRecord), bad);
  ASSERT_TRUE(store_->commit(std::move(txn)));
  start();
  EXPECT_FALSE(told().running());
  EXPECT_EQ(run().entries(), last_.sequence * kSites);
}

TEST_F(JournalAuditTest, ACheckpointThatIsAuditedIsNotRemoved) {
  EXPECT_TRUE(job_->hold(roots_kept_.number()));
  EXPECT_FALSE(job_->hold(roots_kept_.number() + 1)) << "there is none";
  EXPECT_EQ(job_->kept(), std::vector<uint64_t>{roots_kept_.number()});
}

}  // namespace
}  // namespace datacloud
