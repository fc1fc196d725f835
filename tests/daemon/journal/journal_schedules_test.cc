// The steps of docs/journal.md over several sites, in thousands of random schedules on the real log
// stores: two writers at a time that claim, adopt, append, stall and crash at any step, operations
// that are lost, answered by nobody, or late. And adoption by itself.
//
// The writer here is the test's: it makes one call of one site a step, so that a seed decides
// everything.
#include <map>

#include "daemon/journal/adoption.h"
#include "daemon/journal/fault_log_store.h"
#include "daemon/journal/guarded_log.h"
#include "daemon/journal/quorum_rules.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/seeded.h"

namespace datacloud::journal {
namespace {

struct World {
  World(Seeded& seeded, QuorumRules quorum) : random(seeded), rules(quorum) {}
  Seeded& random;
  QuorumRules rules;
  std::vector<std::shared_ptr<GuardedMemory>> sites;
  uint64_t fault_percent = 0;
  uint64_t epochs = 0;
  std::map<uint64_t, ChainHash> committed;  // by sequence
  std::map<uint64_t, Epoch> committed_by;
  size_t commits = 0, adoptions = 0;
  std::string broken;  // the first invariant that did not hold
  void require(bool holds, const std::string& what) {
    if (!holds && broken.empty()) broken = what;
  }
};

class Writer {
 public:
  explicit Writer(World& world) : world_(world), epoch_{++world.epochs, world.random.number(1, 9)} {
    for (size_t i = 0; i < world.sites.size(); ++i) {
      Site site;
      site.store = make_fault_log_store(
          make_guarded_log(open_guarded_memory(world.sites[i]), {test_journal(), 8 << 10}),
          [&world](LogCall) {
            if (world.random.number(0, 99) >= world.fault_percent) return LogFault::none;
            return static_cast<LogFault>(world.random.number(1, 3));
          });
      sites_.push_back(std::move(site));
    }
  }
  // False: it is fenced, or has crashed.
  bool step() {
    const size_t at = world_.random.number(0, sites_.size() - 1);
    Site& site = sites_[at];
    if (world_.random.number(0, 9) == 0) site.store->land_late();
    if (!adopted_) return claim_step(at);
    if (site.state == State::fresh) return fenced(site.store->claim(epoch_), site, State::claimed);
    if (site.state == State::claimed) return begin_step(at);
    return append_step(site);
  }

 private:
  enum class State { fresh, claimed, begun, unknown };
  struct Site {
    std::unique_ptr<FaultLogStore> store;
    State state = State::fresh;
    std::optional<SiteLog> log;
    uint64_t has = 0;  // entries known to be there, of log_
  };

  // Moves on when it went well; false when it was refused.
  template <class T>
  bool fenced(const result<T>& answer, Site& site, State next) {
    if (answer) site.state = next;
    return answer || !answer.error().is(Errc::stale);
  }

  static std::optional<SiteLog> read_all(LogStore& store, int site) {
    SiteLog log;
    log.site = site;
    auto entries = store.read(1, kReadBytesMax);
    if (!entries) return std::nullopt;
    log.entries = std::move(entries).value();
    return log;
  }

  bool claim_step(size_t at) {
    Site& site = sites_[at];
    if (site.state == State::fresh) return fenced(site.store->claim(epoch_), site, State::claimed);
    size_t promised = 0, read = 0;
    for (const auto& s : sites_) {
      promised += s.state == State::claimed;
      read += s.log.has_value();
    }
    if (promised < static_cast<size_t>(world_.rules.adopt)) return true;
    if (!site.log) site.log = read_all(*site.store, static_cast<int>(at));  // behind its promise
    read = 0;
    for (const auto& s : sites_) read += s.log.has_value();
    return read < static_cast<size_t>(world_.rules.adopt) || adopt();
  }

  bool adopt() {
    std::vector<SiteLog> logs;
    for (const auto& s : sites_) {
      if (s.log) logs.push_back(*s.log);
    }
    const auto chosen = choose_log(epoch_, logs, {}, static_cast<size_t>(world_.rules.adopt));
    if (!chosen) {  // another one may have claimed, and appended, between the promise and the
                    // reading
      world_.require(chosen.error().is(Errc::stale), chosen.error().message());
      return false;
    }
    log_ = logs[chosen.value().source];
    for (const auto& [sequence, hash] : world_.committed) {  // nothing is lost
      if (world_.committed_by[sequence] > epoch_) continue;
      world_.require(sequence <= log_.entries.size() && log_.entries[sequence - 1].hash == hash,
                     "entry " + std::to_string(sequence) + " is lost");
    }
    adopted_ = true;
    ++world_.adoptions;
    log_.entries.push_back(entry_after(log_.end(), epoch_));  // its opening
    opening_ = log_.entries.size();
    return true;
  }

  bool begin_step(size_t at) {
    Site& site = sites_[at];
    const auto there = read_all(*site.store, static_cast<int>(at));
    if (!there) return true;
    const auto base = common_position(*there, log_);
    EXPECT_TRUE(base) << "nothing is trimmed here";
    site.has = base->sequence;
    return fenced(site.store->begin(epoch_, *base, Base::in_log), site, State::begun);
  }

  bool append_step(Site& site) {
    if (site.state == State::unknown) {
      const auto head = site.store->settle(epoch_);
      if (!head) return !head.error().is(Errc::stale);
      site.has = head.value().last.sequence;
      EXPECT_EQ(head.value().last,
                site.has == 0 ? LogPosition() : log_.entries[site.has - 1].position());
      site.state = State::begun;
      return count();
    }
    if (site.has == log_.entries.size()) {
      if (committed_ == log_.entries.size() && log_.entries.size() < 40) {
        log_.entries.push_back(entry_after(log_.end(), epoch_, world_.random.number(0, 3000)));
      }
      return true;
    }
    const size_t n = world_.random.number(1, std::min<uint64_t>(3, log_.entries.size() - site.has));
    const auto first = log_.entries.begin() + static_cast<std::ptrdiff_t>(site.has);
    const auto batch = LogBatch::of({first, first + static_cast<std::ptrdiff_t>(n)}).value();
    const auto appended = append_now(*site.store, epoch_, batch);
    if (!appended) {
      site.state = State::unknown;
      return true;
    }
    site.has += n;
    return count();
  }

  bool count() {
    for (uint64_t n = log_.entries.size(); n > committed_ && n >= opening_; --n) {
      int have = 0;
      for (const auto& s : sites_) have += s.state == State::begun && s.has >= n;
      if (have < world_.rules.commit) continue;
      for (uint64_t i = committed_ + 1; i <= n; ++i) {
        const auto [known, fresh] = world_.committed.try_emplace(i, log_.entries[i - 1].hash);
        if (fresh) world_.committed_by[i] = epoch_;
        world_.require(known->second == log_.entries[i - 1].hash,
                       "entry " + std::to_string(i) + " is committed twice");
        world_.commits += fresh;
      }
      committed_ = n;
      break;
    }
    return true;
  }

  World& world_;
  const Epoch epoch_;
  std::vector<Site> sites_;
  bool adopted_ = false;
  SiteLog log_;
  uint64_t opening_ = 0, committed_ = 0;
};

// One schedule; `adopt_less`: claims are content with so many sites fewer than the rules say.
void run_schedule(World& world, int adopt_less) {
  for (int i = 0; i < world.rules.sites; ++i) {
    world.sites.push_back(make_guarded_memory());
    auto objects = open_guarded_memory(world.sites.back());
    ASSERT_TRUE(format_guarded_log(*objects, {test_journal(), 8 << 10}));
  }
  world.rules.adopt -= adopt_less;
  Seeded& random = world.random;
  world.fault_percent = random.number(0, 1) == 0 ? 0 : random.number(1, 25);
  const uint64_t crash_percent = random.number(0, 3);
  const int turn = static_cast<int>(random.number(5, 60));
  std::vector<std::unique_ptr<Writer>> writers(2);
  for (int step = 0; step < 150 && world.broken.empty() && !testing::Test::HasFailure(); ++step) {
    // One runs for a while, the other sleeps: it wakes up as a leader of the past.
    auto& writer = writers[static_cast<size_t>(step / turn) % 2];
    if (!writer) writer = std::make_unique<Writer>(world);
    if (!writer->step() || random.number(0, 99) < crash_percent) writer.reset();
  }
}

TEST(JournalSchedules, KeepOneHistoryAndLoseNothing) {
  Seeded random;
  size_t commits = 0, adoptions = 0;
  for (int round = 0; round < 2000; ++round) {
    const int sites = static_cast<int>(random.number(1, 5));
    World world{random, quorum_rules(sites, static_cast<int>(random.number(0, 2)))};
    run_schedule(world, 0);
    ASSERT_EQ(world.broken, "") << "round " << round << ", " << sites << " sites";
    ASSERT_FALSE(HasFailure()) << "round " << round;
    commits += world.commits;
    adoptions += world.adoptions;
  }
  EXPECT_GT(commits, 5'000u) << "the schedules get somewhere";
  EXPECT_GT(adoptions, 1'000u);
}

// With one site fewer a claim misses commits, and the schedules see it.
TEST(JournalSchedules, FindAQuorumThatIsTooSmall) {
  Seeded random;
  std::string broken;
  for (int round = 0; round < 2000 && broken.empty(); ++round) {
    World world{random, quorum_rules(3, 1)};
    run_schedule(world, 1);
    broken = world.broken;
  }
  EXPECT_TRUE(broken.ends_with(" is lost") || broken.ends_with(" is committed twice")) << broken;
}

SiteLog log_of(int site, LogPosition base, std::vector<LogEntry> entries) {
  return {site, base, std::move(entries)};
}

TEST(JournalAdoption, TakesTheLogThatEndsLast) {
  const auto old = entries_after({}, {1, 1}, 5);
  auto newer = std::vector<LogEntry>(old.begin(), old.begin() + 2);
  newer.push_back(entry_after(newer.back().position(), {2, 1}));
  const std::vector<SiteLog> logs{log_of(0, {}, old), log_of(1, {}, newer), log_of(2, {}, {})};
  EXPECT_EQ(choose_log({3, 1}, logs, {}, 2).value().source, 1u) << "the epoch before the length";
  EXPECT_EQ(common_position(logs[0], logs[1]), old[1].position());
  EXPECT_EQ(common_position(logs[2], logs[1]), LogPosition());
  const SiteLog trimmed = log_of(3, newer[1].position(), {newer[2]});
  EXPECT_EQ(common_position(trimmed, logs[0]), newer[1].position());
  EXPECT_EQ(common_position(trimmed, log_of(4, {}, {old[0]})), std::nullopt);
  EXPECT_REFUSED(Errc::unavailable, choose_log({3, 1}, {}, {}, 0));
  EXPECT_REFUSED(Errc::stale, choose_log({1, 9}, logs, {}, 2));
}

// One site was put back from a backup, the head of another lies: neither makes a quorum.
TEST(JournalAdoption, DoesNotCountSitesThatForgot) {
  const auto all = entries_after({}, {1, 1}, 5);
  const std::vector<LogEntry> some(all.begin(), all.begin() + 2);
  const std::vector<Acknowledged> known{
      {0, all[4].position()}, {1, all[4].position()}, {2, all[1].position()}};
  const std::vector<SiteLog> logs{log_of(0, {}, some), log_of(1, {}, all), log_of(2, {}, some)};
  const auto chosen = choose_log({3, 1}, logs, known, 2);
  ASSERT_TRUE(chosen) << chosen.error().message();
  EXPECT_EQ(chosen.value().source, 1u);
  EXPECT_EQ(chosen.value().behind, std::vector<int>{0});
  EXPECT_REFUSED(Errc::unavailable, choose_log({3, 1}, {logs[0], logs[2]}, known, 2));
}

}  // namespace
}  // namespace datacloud::journal
