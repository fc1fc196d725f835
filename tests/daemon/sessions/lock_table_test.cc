// Locks of several mounts: waiting in turn, circles, delegation, ends of sessions, bounds; and
// random ones of three sessions against a model that knows single bytes.
#include "daemon/sessions/lock_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <optional>
#include <string>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Outcome = LockTable::Outcome;
constexpr SessionId A = 1, B = 2, C = 3;
constexpr InodeId kIno = 7, kOther = 8;
constexpr auto kRead = LockType::read, kWrite = LockType::write, kNone = LockType::none;

FileLock range(SessionId session, LockType type, uint64_t start, uint64_t end,
               uint64_t owner = 10) {
  return {{session, owner}, false, start, end, type, 0};
}
FileLock whole(SessionId session, LockType type, uint64_t owner = 20) {
  return {{session, owner}, true, 0, kLockEndMax, type, 0};
}

class LockTableTest : public testing::Test {
 protected:
  Outcome wait(InodeId ino, const FileLock& lock, uint64_t name) {
    const auto key = std::pair(lock.owner.session, name);
    return table.lock_or_wait(ino, lock, name,
                              [this, key](Outcome o) { answers[key].push_back(o); });
  }
  void run() {
    while (auto next = table.next_ready()) next();
  }
  std::vector<Outcome> answered(SessionId session, uint64_t name) {
    run();
    return answers[{session, name}];
  }

  LockTable table{{.per_file = 16, .per_session = 24, .waiting_per_session = 4}};
  std::map<std::pair<SessionId, uint64_t>, std::vector<Outcome>> answers;
};

TEST_F(LockTableTest, WhoDoesNotWaitIsToldAtOnce) {
  EXPECT_EQ(table.lock(kIno, range(A, kWrite, 0, 9)), Outcome::granted);
  EXPECT_EQ(table.lock(kIno, range(B, kRead, 9, 9)), Outcome::busy);
  EXPECT_EQ(table.lock(kOther, range(B, kWrite, 0, 9)), Outcome::granted);
  ASSERT_NE(table.conflict(kIno, range(B, kRead, 9, 9)), nullptr);
  EXPECT_EQ(table.conflict(kIno, range(B, kRead, 9, 9))->owner.session, A);
  EXPECT_EQ(table.lock(kIno, range(A, kNone, 0, kLockEndMax)), Outcome::granted);
  EXPECT_EQ(table.lock(kIno, range(B, kRead, 9, 9)), Outcome::granted);
}

TEST_F(LockTableTest, WaitersAreServedInTheirOrder) {
  table.lock(kIno, range(A, kWrite, 0, 9));
  EXPECT_EQ(wait(kIno, range(B, kWrite, 0, 9), 1), Outcome::waits);
  EXPECT_EQ(wait(kIno, range(C, kWrite, 0, 9), 2), Outcome::waits);
  table.lock(kIno, range(A, kNone, 0, 4));
  EXPECT_THAT(answered(B, 1), testing::IsEmpty()) << "half of it is not enough";
  table.lock(kIno, range(A, kNone, 5, 9));
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::granted));
  EXPECT_THAT(answered(C, 2), testing::IsEmpty());
  EXPECT_EQ(table.lock(kIno, range(A, kWrite, 0, 9)), Outcome::busy) << "nobody gets past them";
  table.release_owner(kIno, {B, 10});
  EXPECT_THAT(answered(C, 2), testing::ElementsAre(Outcome::granted));
}

TEST_F(LockTableTest, AWriterThatBecomesAReaderLetsReadersIn) {
  table.lock(kIno, range(A, kWrite, 0, 9));
  wait(kIno, range(B, kRead, 0, 9), 1);
  table.lock(kIno, range(A, kRead, 0, 9));
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::granted));
}

TEST_F(LockTableTest, AWaitIsCancelled) {
  table.lock(kIno, range(A, kWrite, 0, 9));
  wait(kIno, range(B, kWrite, 0, 9), 1);
  table.cancel(C, 1);
  EXPECT_THAT(answered(B, 1), testing::IsEmpty()) << "another session's";
  table.cancel(B, 1);
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::interrupted));
  table.lock(kIno, range(A, kNone, 0, 9));
  EXPECT_EQ(table.locks(), 0u) << "it is not granted later";
}

TEST_F(LockTableTest, AWaitSentAgainKeepsItsPlace) {
  table.lock(kIno, range(A, kWrite, 0, 9));
  wait(kIno, range(B, kWrite, 0, 9), 1);
  wait(kIno, range(C, kWrite, 0, 9), 1);
  EXPECT_EQ(wait(kIno, range(B, kWrite, 0, 9), 1), Outcome::waits);
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::interrupted)) << "the first copy";
  table.lock(kIno, range(A, kNone, 0, 9));
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::interrupted, Outcome::granted));
  EXPECT_EQ(table.waiting(), 1u);
}

TEST_F(LockTableTest, CirclesOfWaitsAreRefused) {
  table.lock(kIno, range(A, kWrite, 0, 0));
  table.lock(kIno, range(B, kWrite, 1, 1));
  table.lock(kOther, range(C, kWrite, 0, 0));
  EXPECT_EQ(wait(kIno, range(A, kWrite, 1, 1), 1), Outcome::waits);
  EXPECT_EQ(wait(kOther, range(B, kWrite, 0, 0), 1), Outcome::waits);
  EXPECT_EQ(wait(kIno, range(C, kRead, 0, 0), 1), Outcome::deadlock) << "C, A, B, C";
  EXPECT_EQ(wait(kIno, range(C, kWrite, 0, 0, 99), 2), Outcome::waits) << "another owner";
  table.release_owner(kOther, {C, 10});
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::granted));
}

TEST_F(LockTableTest, FlocksThatBecomeExclusiveDoNotWaitForEachOther) {
  EXPECT_EQ(table.lock(kIno, whole(A, kRead)), Outcome::granted);
  EXPECT_EQ(table.lock(kIno, whole(B, kRead)), Outcome::granted);
  EXPECT_EQ(wait(kIno, whole(A, kWrite), 1), Outcome::waits);
  EXPECT_EQ(wait(kIno, whole(B, kWrite), 1), Outcome::waits) << "A got it when B let go";
  EXPECT_THAT(answered(A, 1), testing::ElementsAre(Outcome::granted));
  table.lock(kIno, whole(A, kNone));
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::granted));
}

TEST_F(LockTableTest, TheEndOfASessionFreesWhatItHad) {
  table.lock(kIno, range(A, kWrite, 0, 9));
  table.delegate(A, kOther);
  wait(kIno, range(B, kWrite, 0, 9), 1);
  bool kept = false;
  table.when_kept(
      B, kOther, 0, [&] { kept = true; }, nullptr);
  EXPECT_EQ(table.take_recalls().size(), 1u);
  table.end_session(A);
  EXPECT_THAT(answered(B, 1), testing::ElementsAre(Outcome::granted));
  EXPECT_TRUE(kept);
  EXPECT_EQ(table.recalls_unanswered(A), 0u);
  table.end_session(B);
  EXPECT_EQ(table.locks(), 0u);
  EXPECT_EQ(table.delegated(), 0u);
}

TEST_F(LockTableTest, DelegationsAreRecalledForOthers) {
  EXPECT_TRUE(table.delegate(A, kIno));
  EXPECT_FALSE(table.delegate(B, kIno));
  EXPECT_FALSE(table.kept_here(B, kIno));
  std::string order;
  table.when_kept(
      B, kIno, 5, [&] { order += "b"; }, [&] { order += "x"; });
  table.when_kept(
      C, kIno, 6, [&] { order += "c"; }, nullptr);
  const auto recalls = table.take_recalls();
  ASSERT_EQ(recalls.size(), 1u) << "one for all who ask";
  EXPECT_EQ(recalls[0].session, A);
  EXPECT_EQ(table.recalls_of(A).size(), 1u);
  table.cancel(B, 5);
  run();
  EXPECT_EQ(order, "x");
  EXPECT_FALSE(table.told(B, recalls[0].id, 0, {})) << "not the holder";
  EXPECT_TRUE(table.told(A, recalls[0].id, 0, {range(A, kWrite, 0, 9)}));
  run();
  EXPECT_EQ(order, "xc");
  EXPECT_TRUE(table.kept_here(C, kIno));
  EXPECT_EQ(table.lock(kIno, range(C, kRead, 0, 0)), Outcome::busy) << "A's lock is known now";
  EXPECT_FALSE(table.delegate(A, kIno)) << "while there are locks";
  table.release_owner(kIno, {A, 10});
  EXPECT_TRUE(table.delegate(C, kIno));
}

TEST_F(LockTableTest, ADelegationIsGivenBackUnasked) {
  table.delegate(A, kIno);
  EXPECT_FALSE(table.told(B, 0, kIno, {range(B, kWrite, 0, 9)})) << "not the holder";
  EXPECT_TRUE(table.told(A, 0, kIno, {range(A, kWrite, 0, 9), range(A, kNone, 0, 9)}));
  EXPECT_EQ(table.locks(), 1u);
  EXPECT_EQ(table.lock(kIno, range(B, kWrite, 0, 9)), Outcome::busy);
  table.delegate(B, kOther);
  EXPECT_TRUE(table.kept_here(B, kOther)) << "who asks here has no locks of its own there";
  EXPECT_EQ(table.delegated(), 0u);
}

TEST_F(LockTableTest, NumbersAreBounded) {
  for (uint64_t i = 0; i < 14; ++i) {
    EXPECT_EQ(table.lock(kIno, range(A, kWrite, 2 * i, 2 * i)), Outcome::granted) << i;
  }
  table.lock(kIno, range(A, kWrite, 100, 100));
  EXPECT_EQ(table.lock(kIno, range(A, kWrite, 200, 200)), Outcome::too_many) << "of the file";
  for (uint64_t i = 0; i < 8; ++i) table.lock(kOther, range(A, kWrite, 2 * i, 2 * i));
  EXPECT_EQ(table.lock(kOther, range(A, kWrite, 99, 99)), Outcome::too_many) << "of the session";
  EXPECT_EQ(table.lock(kOther, range(B, kWrite, 99, 99)), Outcome::granted);
  EXPECT_EQ(table.lock(kIno, range(A, kNone, 0, 0)), Outcome::granted) << "giving up always works";
  for (uint64_t name = 1; name <= 4; ++name) wait(kIno, range(B, kWrite, 2, 2), name);
  EXPECT_EQ(wait(kIno, range(B, kWrite, 2, 2), 5), Outcome::too_many) << "of those that wait";
}

TEST_F(LockTableTest, WhatSessionsPresentAfterARestartIsKept) {
  table.adopt_delegation(A, kIno);
  table.adopt(kOther, range(A, kWrite, 0, 9));
  EXPECT_FALSE(table.kept_here(B, kIno));
  EXPECT_EQ(table.lock(kOther, range(B, kRead, 0, 0)), Outcome::busy);
  table.adopt(kOther, range(B, kWrite, 0, 9));
  EXPECT_EQ(table.locks(), 1u) << "the first who presents it has it";
}

// Single bytes: who has what, with nothing cut or joined.
class Model {
 public:
  static constexpr uint64_t kBytes = 12;
  bool may(const FileLock& lock) const {
    for (uint64_t b = lock.start; b <= lock.end; ++b)
      for (const auto& [owner, type] : bytes_[b])
        if (owner != lock.owner && (type == kWrite || lock.type == kWrite)) return false;
    return true;
  }
  void set(const FileLock& lock) {
    for (uint64_t b = lock.start; b <= lock.end; ++b) {
      bytes_[b].erase(lock.owner);
      if (lock.type != kNone) bytes_[b][lock.owner] = lock.type;
    }
  }
  void drop(SessionId session) {
    for (auto& byte : bytes_)
      std::erase_if(byte, [&](const auto& held) { return held.first.session == session; });
  }

 private:
  std::array<std::map<LockOwner, LockType>, kBytes> bytes_;
};

// Waiting, cancelling and ends of sessions included. Files are delegated now and then, and their
// holder then decides by the same rules.
TEST(LockTableModelTest, RandomLocksOfThreeSessionsAreThoseOfTheModel) {
  Seeded random;
  const auto draw = [&](uint64_t below) { return random.number(0, below - 1); };
  LockTable table{{}};
  Model model;
  struct Wait {
    FileLock lock;
    uint64_t name = 0;
  };
  std::vector<Wait> waits;  // of the model, in order
  std::map<uint64_t, Outcome> answers;
  std::optional<SessionId> delegate;
  LockRanges delegated;
  const auto serve = [&] {  // the model grants what has become free, in order
    for (bool again = true; again;) {
      again = false;
      for (auto wait = waits.begin(); wait != waits.end(); ++wait) {
        if (!model.may(wait->lock)) continue;
        model.set(wait->lock);
        ASSERT_TRUE(answers.contains(wait->name));
        ASSERT_EQ(answers[wait->name], Outcome::granted);
        waits.erase(wait);
        again = true;
        break;
      }
    }
    for (const auto& wait : waits) ASSERT_FALSE(answers.contains(wait.name));
  };
  const auto run = [&] {
    while (auto next = table.next_ready()) next();
  };
  uint64_t names = 0;
  size_t deadlocks = 0, granted_later = 0, delegations = 0;
  for (int step = 0; step < 20'000 && !testing::Test::HasFatalFailure(); ++step) {
    const SessionId session = 1 + draw(3);
    FileLock lock =
        range(session, static_cast<LockType>(draw(3)), draw(Model::kBytes), 0, 10 + draw(2));
    lock.end = lock.start + draw(Model::kBytes - lock.start);
    const auto dice = draw(100);
    if (dice < 2) {
      // Now and then of all, so that the file can be delegated again.
      if (dice == 0) {
        for (const SessionId each : {A, B, C}) {
          table.end_session(each);
          model.drop(each);
        }
        waits.clear();
        delegate.reset();
        delegated = {};
      }
      table.end_session(session);
      run();
      std::erase_if(waits, [&](const Wait& w) { return w.lock.owner.session == session; });
      model.drop(session);
      if (delegate == session) {
        delegate.reset();
        delegated = {};
      }
      serve();
      continue;
    }
    if (!delegate && dice < 10 && table.delegate(session, kIno)) {
      delegate = session;
      ++delegations;
      continue;
    }
    if (delegate == session) {
      const bool may = delegated.conflict(lock) == nullptr;
      ASSERT_EQ(may || lock.type == kNone, model.may(lock) || lock.type == kNone);
      if (!may && lock.type != kNone) continue;
      delegated.set(lock);
      model.set(lock);
      continue;
    }
    if (delegate) {  // recalled for this one
      bool kept = false;
      table.when_kept(
          session, kIno, 0, [&] { kept = true; }, nullptr);
      const auto recalls = table.take_recalls();
      ASSERT_EQ(recalls.size(), 1u);
      std::vector<FileLock> told;
      delegated.each([&](const FileLock& held) { told.push_back(held); });
      ASSERT_TRUE(table.told(*delegate, recalls[0].id, 0, told));
      run();
      ASSERT_TRUE(kept);
      delegate.reset();
      delegated = {};
    }
    if (!waits.empty() && dice < 20) {
      const auto at = waits.begin() + static_cast<long>(draw(waits.size()));
      table.cancel(at->lock.owner.session, at->name);
      run();
      ASSERT_EQ(answers[at->name], Outcome::interrupted);
      waits.erase(at);
      continue;
    }
    const bool may = lock.type == kNone || model.may(lock);
    if (dice < 70) {
      const Outcome got = table.lock(kIno, lock);
      ASSERT_EQ(got, may ? Outcome::granted : Outcome::busy) << "step " << step;
    } else {
      const uint64_t name = ++names;
      const Outcome got =
          table.lock_or_wait(kIno, lock, name, [&answers, name](Outcome o) { answers[name] = o; });
      if (may) {
        ASSERT_EQ(got, Outcome::granted) << "step " << step;
      } else if (got == Outcome::deadlock) {
        ++deadlocks;
        continue;
      } else {
        ASSERT_EQ(got, Outcome::waits) << "step " << step;
        waits.push_back({lock, name});
      }
    }
    run();
    if (!may) continue;
    model.set(lock);
    const size_t before = waits.size();
    serve();
    granted_later += before - waits.size();
  }
  EXPECT_GT(deadlocks, 10u);
  EXPECT_GT(granted_later, 10u);
  EXPECT_GT(delegations, 10u);
}

}  // namespace
}  // namespace datacloud
