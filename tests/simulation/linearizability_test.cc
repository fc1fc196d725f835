// Two daemons over a journal at three sites, and two sessions, in thousands of random schedules:
// leaders that crash, sleep and wake up as leaders of the past, sites that are down, answers that
// are lost or late, requests that are sent again. What the sessions are answered must be
// explained by one order of their operations. Daemons and sites with a flaw must be found.
//
// Real are the stores of the metadata (LevelDB, on a disk in memory), the operations on names, the
// committer, the start of a daemon (replay, undo), the leader's state machine, its lease, and the
// logs of sites. Simulated are threads, time, the network, and the service between them: an answer
// waits until what it shows is committed, and a change is recorded with its answer.
//
// A schedule is some operations of each session, until all are answered. Worlds go on for some
// schedules. DATACLOUD_SCHEDULES: how many.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <iostream>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"
#include "tests/simulation/name_space_history.h"
#include "tests/simulation/scheduled_log.h"

namespace datacloud {
namespace {

constexpr uint64_t kSchedules = 10'000;
constexpr int kSchedulesOfAWorld = 40;
constexpr uint64_t kStepsMax = 20'000;  // of a schedule
constexpr InodeId kFirstFile = 1000;

struct SimulatedSession {
  size_t index = 0;
  std::optional<NameOperation> operation;
  uint64_t began = 0;
  uint64_t left = 0;  // operations of this schedule
};

struct SentAnswer {
  size_t session;
  uint64_t id;
  NameAnswer answer;
};

class SimulatedDaemon {
 public:
  SimulatedDaemon(JournalWorld& world, std::shared_ptr<SimulatedFiles> disk,
                  const std::string& name, std::deque<SentAnswer>& answers)
      : world_(world),
        answers_(answers),
        rig_(std::move(disk), name, [this](auto fenced) { return claim(std::move(fenced)); }) {
    EXPECT_TRUE(rig_.open());
  }

  bool leads() const { return leads_; }
  bool awake() const { return world_.now >= wakes_; }
  void sleep(Duration length) { wakes_ = world_.now + length; }
  // Of the last transaction of its store that is known to be committed.
  uint64_t position() const { return position_; }

  // Claims, and brings its store to the end of the log.
  void start() {
    rig_.fatal.clear();
    auto started = rig_.start();
    rig_.drain();
    if (!started) {
      if (started.error().is(Errc::not_found)) {
        world_.require(false, "a daemon has lost its place: " + started.error().message());
      }
      return crash();
    }
    leads_ = true;
  }

  // As kill -9, or as one that was fenced: its store stays as it is.
  void crash() {
    leads_ = false;
    if (log_) log_->crash();
    rig_.started = {};
    log_.reset();
    rig_.loop = std::make_shared<QueueLoop>();
    if (world_.chance(10)) {
      rig_.kill();
      EXPECT_TRUE(rig_.open());
    }
  }

  void step() {
    if (!leads_ || !awake()) return;
    for (uint64_t n = world_.random.number(1, 4); n > 0; --n) log_->step();
    const uint64_t stored = rig_.store->journal_position().sequence;
    if (stored <= log_->committed().sequence) position_ = stored;
    settle();
  }

  void trim(uint64_t all_have) {
    if (!leads_) return;
    const uint64_t committed = log_->committed().sequence;
    const bool early = world_.flaw == JournalFlaw::early_trim;
    log_->trim((early ? committed : std::min(committed, all_have)) + 1);
  }

  // A request arrives.
  void serve(const SimulatedSession& session) {
    if (!leads_ || !awake() || world_.now < serves_at_) return;
    const NameOperation& operation = *session.operation;
    const auto answer = run(session.index, operation);
    if (!answer) return crash();
    const SentAnswer sent{session.index, operation.id, answer.value()};
    if (world_.flaw == JournalFlaw::early_reply) return send(sent);
    rig_.committer().when_durable([this, sent, log = log_] {
      if (log == log_) send(sent);
    });
    settle();
  }

 private:
  result<std::shared_ptr<journal::QuorumLog>> claim(std::function<void(const Error&)> fenced) {
    log_ = std::make_shared<ScheduledLog>(world_, std::move(fenced));
    TRY(log_->claim());
    serves_at_ = world_.now + claimer_patience(JournalWorld::kLease);
    return std::shared_ptr<journal::QuorumLog>(log_);
  }

  void settle() {
    rig_.drain();
    if (!rig_.fatal.empty() || log_->over()) crash();
  }

  void send(const SentAnswer& answer) {
    if (world_.flaw != JournalFlaw::no_lease && !log_->lease().holds()) return;
    if (!world_.chance(world_.fault_percent)) answers_.push_back(answer);
  }

  static std::string answered_key(size_t session) { return "Zanswer" + std::to_string(session); }
  static std::string encoded(uint64_t id, const NameAnswer& answer) {
    return std::to_string(id) + " " + std::to_string(answer.error) + " " +
           std::to_string(answer.made_by) + " " + std::to_string(answer.mode);
  }
  // What was recorded for this very request.
  result<std::optional<NameAnswer>> recorded(size_t session, uint64_t id) {
    std::optional<NameAnswer> none;
    if (world_.flaw == JournalFlaw::forgets_replies) return none;
    TRY(const auto value, rig_.store->begin().get(answered_key(session)));
    if (!value) return none;
    unsigned long of = 0, made_by = 0;
    NameAnswer answer;
    if (std::sscanf(value->c_str(), "%lu %d %lu %u", &of, &answer.error, &made_by, &answer.mode) !=
        4) {
      return failure(Errc::corrupt, "a record of this simulation");
    }
    answer.made_by = made_by;
    return of == id ? std::optional(answer) : none;
  }

  NameAnswer failed(const Error& error) {
    const int why = error.errno_value();
    world_.require(why == ENOENT || why == EEXIST, "an operation fails: " + error.message());
    return {why};
  }

  // Its answer; the change is applied. A failure ends the daemon.
  result<NameAnswer> run(size_t session, const NameOperation& operation) {
    if (operation.kind == NameOperation::Kind::look) {
      const auto found = lookup(rig_.store->begin(), kRootInode, operation.name);
      if (!found) return failed(found.error());
      return NameAnswer{0, found.value().ino() - kFirstFile, found.value().mode() & 07777};
    }
    TRY(const auto before, recorded(session, operation.id));
    if (before) return *before;
    Transaction txn = rig_.store->begin();
    const auto changed = change(txn, operation);
    NameAnswer answer;
    if (changed) {
      answer.made_by = changed.value().ino() - kFirstFile;
      const bool tells_mode = operation.kind == NameOperation::Kind::create ||
                              operation.kind == NameOperation::Kind::set_mode;
      if (tells_mode) answer.mode = changed.value().mode() & 07777;
    } else {
      answer = failed(changed.error());
      txn = rig_.store->begin();
    }
    txn.put(answered_key(session), encoded(operation.id, answer));
    TRY(rig_.committer().apply(std::move(txn)));
    return answer;
  }

  static result<pb::Inode> change(Transaction& txn, const NameOperation& operation) {
    const auto now = static_cast<int64_t>(operation.id);
    switch (operation.kind) {
      case NameOperation::Kind::create: {
        pb::CreateRequest request;
        request.set_parent(kRootInode);
        request.set_name(operation.name);
        request.set_mode(S_IFREG | operation.mode);
        request.set_exclusive(true);
        request.set_now_ns(now);
        TRY(auto created, create(txn, request, kFirstFile + operation.id));
        return std::move(created.inode);
      }
      case NameOperation::Kind::unlink: {
        pb::UnlinkRequest request;
        request.set_parent(kRootInode);
        request.set_name(operation.name);
        request.set_now_ns(now);
        return unlink(txn, request);
      }
      case NameOperation::Kind::rename: {
        pb::RenameRequest request;
        request.set_parent(kRootInode);
        request.set_name(operation.name);
        request.set_new_parent(kRootInode);
        request.set_new_name(operation.to);
        request.set_now_ns(now);
        TRY(auto renamed, rename(txn, request));
        return std::move(renamed.moved);
      }
      default: {
        TRY(const auto found, lookup(txn, kRootInode, operation.name));
        pb::SetAttrRequest request;
        request.set_ino(found.ino());
        request.set_mode(operation.mode);
        request.set_ctime_ns(now);
        return set_attributes(txn, request);
      }
    }
  }

  JournalWorld& world_;
  std::deque<SentAnswer>& answers_;
  JournalRig rig_;
  std::shared_ptr<ScheduledLog> log_;
  bool leads_ = false;
  uint64_t position_ = 0;
  MonotonicTime serves_at_{}, wakes_{};
};

// A cloud that lives for some schedules.
class SimulatedCloud {
 public:
  SimulatedCloud(Seeded& random, JournalFlaw flaw) : world_(random, flaw) {
    const auto disk = std::make_shared<SimulatedFiles>();
    for (const char* name : {"a", "b"}) {
      daemons_.push_back(std::make_unique<SimulatedDaemon>(world_, disk, name, answers_));
    }
    world_.meanwhile = [this] { let_another_work(); };
    for (size_t i = 0; i < 2; ++i) sessions_[i].index = i;
  }

  // What did not hold; empty: all did.
  std::string run() {
    plan();
    uint64_t steps = 0;
    while (!over() && world_.broken.empty()) {
      if (++steps > kStepsMax) world_.require(false, "operations are never answered");
      if (steps == kStepsMax / 2) heal();
      step();
    }
    if (world_.broken.empty()) check();
    return world_.broken;
  }

  uint64_t steps() const { return clock_; }
  uint64_t operations() const { return operations_; }
  uint64_t starts() const { return starts_; }
  const JournalWorld& world() const { return world_; }

 private:
  void plan() {
    Seeded& random = world_.random;
    world_.fault_percent = world_.chance(40) ? 0 : random.number(1, 15);
    world_.audits = world_.chance(30);
    crash_permille_ = world_.chance(30) ? 0 : random.number(1, 15);
    rival_percent_ = world_.chance(80) ? 1 : 10;
    down_percent_ = world_.chance(50) ? 0 : random.number(1, 3);
    for (auto& session : sessions_) session.left = random.number(2, 6);
    history_.clear();
  }
  void heal() {
    world_.fault_percent = crash_permille_ = down_percent_ = 0;
    world_.audits = false;
    world_.down.assign(world_.down.size(), false);
  }
  bool over() const {
    return std::all_of(std::begin(sessions_), std::end(sessions_),
                       [](const auto& s) { return !s.operation && s.left == 0; });
  }

  void step() {
    Seeded& random = world_.random;
    world_.pass_time(8);
    ++clock_;
    switch (random.number(0, 9)) {
      case 0:
      case 1:
        send(sessions_[random.number(0, 1)]);
        break;
      case 2:
      case 3:
        deliver();
        break;
      case 4:
        keep_one_leading();
        break;
      default:
        daemons_[random.number(0, 1)]->step();
    }
    if (random.number(0, 999) < crash_permille_) misfortune();
    if (world_.chance(down_percent_)) change_sites();
    if (world_.chance(2)) world_.wake_the_dead();
    if (world_.chance(2)) {
      const uint64_t both = std::min(daemons_[0]->position(), daemons_[1]->position());
      for (auto& daemon : daemons_) daemon->trim(both);
    }
  }

  // One goes away, or is back; two are seldom away.
  void change_sites() {
    const size_t at = world_.random.number(0, world_.down.size() - 1);
    const auto away = std::count(world_.down.begin(), world_.down.end(), true);
    if (!world_.down[at] && away > 0 && !world_.chance(10)) return;
    world_.down[at] = !world_.down[at];
  }

  void misfortune() {
    SimulatedDaemon& daemon = *daemons_[world_.random.number(0, 1)];
    if (!daemon.leads()) return;
    if (world_.chance(50)) {
      daemon.crash();
    } else {
      daemon.sleep(milliseconds(world_.random.number(1, 600)));
    }
  }

  // While one claims, the other one may be at work, or be asked.
  void let_another_work() {
    for (auto& daemon : daemons_) {
      if (!daemon->leads()) continue;
      daemon->step();
      auto& session = sessions_[world_.random.number(0, 1)];
      if (session.operation && daemon->leads()) daemon->serve(session);
    }
    ++clock_;
    if (world_.chance(30)) deliver();
  }

  // Somebody starts when nobody leads, or when who does is silent.
  void keep_one_leading() {
    const bool one_works = std::any_of(daemons_.begin(), daemons_.end(),
                                       [](const auto& d) { return d->leads() && d->awake(); });
    SimulatedDaemon& daemon = *daemons_[world_.random.number(0, 1)];
    if (daemon.leads() || !daemon.awake()) return;
    if (one_works && !(crash_permille_ > 0 && world_.chance(rival_percent_))) return;
    ++starts_;
    daemon.start();
  }

  NameOperation choose() {
    static const char* const kNames[] = {"a", "b", "c"};
    Seeded& random = world_.random;
    NameOperation operation;
    operation.id = ++operations_;
    operation.kind = static_cast<NameOperation::Kind>(random.number(0, 4));
    const uint64_t at = random.number(0, 2);
    operation.name = kNames[at];
    if (operation.kind == NameOperation::Kind::rename) {
      operation.to = kNames[(at + random.number(1, 2)) % 3];
    }
    operation.mode = static_cast<uint32_t>(random.number(0, 0777));
    return operation;
  }

  // The first time or again, to a daemon that the session takes for the leader.
  void send(SimulatedSession& session) {
    if (!session.operation) {
      if (session.left == 0) return;
      --session.left;
      session.operation = choose();
      session.began = clock_;
    }
    daemons_[world_.random.number(0, 1)]->serve(session);
  }

  void deliver() {
    if (answers_.empty()) return;
    const auto at = answers_.begin() +
                    static_cast<std::ptrdiff_t>(world_.random.number(0, answers_.size() - 1));
    const SentAnswer answer = *at;
    answers_.erase(at);
    auto& session = sessions_[answer.session];
    if (!session.operation || session.operation->id != answer.id) return;  // it had one already
    history_.push_back({*session.operation, answer.answer, session.began, clock_++});
    session.operation.reset();
  }

  void check() {
    auto ends = OrderSearch(history_).from(states_);
    world_.require(!ends.empty(), "nothing explains the answers:" + text_of(history_));
    states_ = std::move(ends);
  }

  JournalWorld world_;
  std::deque<SentAnswer> answers_;
  std::vector<std::unique_ptr<SimulatedDaemon>> daemons_;
  SimulatedSession sessions_[2];
  uint64_t clock_ = 1, operations_ = 0, starts_ = 0;
  uint64_t crash_permille_ = 0, rival_percent_ = 0, down_percent_ = 0;
  std::vector<AnsweredOperation> history_;  // of this schedule
  std::set<NameSpace> states_{NameSpace()};
};

uint64_t schedules_wanted() {
  const char* given = std::getenv("DATACLOUD_SCHEDULES");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : kSchedules;
}

TEST(Linearizability, AnswersAreExplainedByOneOrderWhateverHappens) {
  Seeded random;
  const uint64_t wanted = schedules_wanted();
  uint64_t done = 0, operations = 0, starts = 0, rewrites = 0, steps = 0;
  while (done < wanted) {
    SimulatedCloud cloud(random, JournalFlaw::none);
    for (int i = 0; i < kSchedulesOfAWorld && done < wanted; ++i, ++done) {
      ASSERT_EQ(cloud.run(), "") << "schedule " << done;
    }
    operations += cloud.operations();
    starts += cloud.starts();
    steps += cloud.steps();
    rewrites += cloud.world().rewrites;
  }
  std::cout << done << " schedules, " << operations << " operations, " << starts << " starts, "
            << steps << " steps, " << rewrites << " logs begun anew" << std::endl;
  EXPECT_GT(operations, 6 * done);
  if (done >= kSchedules) {
    EXPECT_GT(starts, done / 4);
    EXPECT_GT(rewrites, 0u);
  }
}

// What is said of the first schedule that finds it.
std::string found(JournalFlaw flaw) {
  Seeded random;
  for (int world = 0; world < 400; ++world) {
    SimulatedCloud cloud(random, flaw);
    for (int i = 0; i < kSchedulesOfAWorld; ++i) {
      const std::string broken = cloud.run();
      if (!broken.empty()) return broken;
    }
  }
  return "";
}

TEST(Linearizability, FindsAnswersBeforeTheCommit) {
  EXPECT_NE(found(JournalFlaw::early_reply), "");
}

TEST(Linearizability, FindsSitesThatDoNotGuardTheirLog) {
  EXPECT_NE(found(JournalFlaw::no_guard), "");
}

TEST(Linearizability, FindsTrimsOfWhatNobodyElseHas) {
  EXPECT_NE(found(JournalFlaw::early_trim), "");
}

TEST(Linearizability, FindsReadsWithoutALease) { EXPECT_NE(found(JournalFlaw::no_lease), ""); }

TEST(Linearizability, FindsCommitsAtTooFewSites) {
  EXPECT_NE(found(JournalFlaw::commits_less), "");
}

TEST(Linearizability, FindsRequestsThatAreDoneTwice) {
  EXPECT_NE(found(JournalFlaw::forgets_replies), "");
}

}  // namespace
}  // namespace datacloud
