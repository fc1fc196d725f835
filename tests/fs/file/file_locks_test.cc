// Where locks are decided, what the daemon is told, and what becomes of them when it is too old,
// wants them back, does not answer, or loses the session.
#include "fs/file/file_locks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

constexpr InodeId kIno = 7;

// Notes requests; the test answers them.
class ScriptedDaemon final : public RpcSession {
 public:
  struct Asked {
    pb::Request request;
    Callback callback, late;
  };
  void call(pb::Request request, std::function<void(result<pb::Reply>)> done) override {
    call_until_known(std::move(request), std::move(done), nullptr);
  }
  void call_until_known(pb::Request request, Callback callback, Callback late) override {
    if (refuse) return callback(failure(Errc::unavailable, "too many requests"));
    asked.push_back({std::move(request), std::move(callback), std::move(late)});
  }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return MonotonicTime::max(); }

  Asked take() {
    Asked first = std::move(asked.front());
    asked.pop_front();
    return first;
  }
  void answer(result<pb::Reply> reply = pb::Reply()) { take().callback(std::move(reply)); }
  void refuse_with(int error) { answer(failure(Error::posix(error, "no"))); }

  std::deque<Asked> asked;
  bool refuse = false;
};

FileLock lock_of(uint64_t owner, LockType type, uint64_t start = 0, uint64_t end = kLockEndMax) {
  FileLock lock;
  lock.owner.number = owner;
  lock.type = type;
  lock.start = start;
  lock.end = end;
  return lock;
}

FileLock flock_of(uint64_t owner, LockType type) {
  FileLock lock = lock_of(owner, type);
  lock.whole = true;
  return lock;
}

class FileLocksTest : public testing::Test {
 protected:
  // nullopt: not decided yet; else 0 or an errno.
  using Outcome = std::shared_ptr<std::optional<int>>;
  Outcome set(const FileLock& lock, bool wait = false) { return set(handle_, lock, wait); }
  Outcome set(HandleLocks& handle, const FileLock& lock, bool wait = false, InodeId ino = kIno) {
    auto outcome = std::make_shared<std::optional<int>>();
    last_ = locks_.set(ino, handle, lock, wait, [outcome](result<void> r) {
      ASSERT_FALSE(outcome->has_value()) << "answered twice";
      *outcome = r ? 0 : r.error().errno_value();
    });
    return outcome;
  }
  int set_now(const FileLock& lock) { return set(lock)->value_or(-1); }
  std::optional<FileLock> in_the_way(const FileLock& lock) {
    std::optional<FileLock> found;
    locks_.test(kIno, lock, [&](result<std::optional<FileLock>> r) { found = r.value(); });
    return found;
  }
  // The first lock of a file: is the daemon's version new enough, and may this mount decide?
  void delegate() {
    const auto first = set(lock_of(99, LockType::read, 0, 0));
    ASSERT_TRUE(daemon_.asked.front().request.lock().test());
    daemon_.answer();
    ASSERT_TRUE(daemon_.asked.front().request.lease().locks());
    daemon_.answer();
    ASSERT_EQ(*first, 0);
    ASSERT_EQ(set_now(lock_of(99, LockType::none)), 0);
    ASSERT_TRUE(daemon_.asked.empty());
  }
  // The daemon keeps the file's locks.
  void keep_there() {
    const auto first = set(lock_of(99, LockType::read, 0, 0));
    daemon_.answer();
    daemon_.refuse_with(EAGAIN);
    daemon_.answer();
    ASSERT_EQ(*first, 0);
  }

  ScriptedDaemon daemon_;
  FileLocks locks_{daemon_};
  HandleLocks handle_;
  FileLocks::OperationPtr last_;
};

TEST_F(FileLocksTest, ADelegatedFilesLocksCostNoMessage) {
  delegate();
  EXPECT_EQ(set_now(lock_of(1, LockType::write, 0, 99)), 0);
  EXPECT_EQ(set_now(lock_of(2, LockType::read, 50, 60)), EAGAIN);
  EXPECT_EQ(set_now(lock_of(2, LockType::read, 100, 200)), 0);
  EXPECT_EQ(set_now(flock_of(2, LockType::write)), 0) << "the two kinds do not see each other";
  const auto found = in_the_way(lock_of(2, LockType::read, 0, kLockEndMax));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->owner.number, 1u);
  EXPECT_EQ(found->end, 99u);
  EXPECT_EQ(set_now(lock_of(1, LockType::none, 0, 49)), 0);
  EXPECT_EQ(set_now(lock_of(2, LockType::write, 0, 49)), 0);
  EXPECT_FALSE(in_the_way(lock_of(1, LockType::read, 50, 99)));
  EXPECT_TRUE(daemon_.asked.empty());
}

TEST_F(FileLocksTest, ClosingGivesUpTheOwnersLocks) {
  delegate();
  HandleLocks other;
  EXPECT_EQ(set_now(lock_of(1, LockType::write)), 0);
  auto waits = set(other, flock_of(2, LockType::write), true);
  EXPECT_EQ(*waits, 0);
  bool gone = false;
  EXPECT_FALSE(locks_.flush(kIno, other, 3, nullptr)) << "has none";
  EXPECT_TRUE(locks_.flush(kIno, handle_, 1, [&](result<void> r) { gone = r.has_value(); }));
  EXPECT_TRUE(gone);
  EXPECT_FALSE(in_the_way(lock_of(5, LockType::write)));
  locks_.release(kIno, other);
  EXPECT_EQ(set_now(flock_of(5, LockType::write)), 0) << "of the handle that is gone";
}

// A daemon from before locks: they hold on this mount, and it is asked once.
TEST_F(FileLocksTest, ADaemonThatKnowsNoLocksLeavesThemHere) {
  const auto first = set(lock_of(1, LockType::write, 0, 9));
  EXPECT_FALSE(first->has_value());
  daemon_.answer(failure(Errc::unsupported, "the daemon does not know this request"));
  EXPECT_EQ(*first, 0);
  EXPECT_EQ(set_now(lock_of(2, LockType::read, 5, 5)), EAGAIN);
  EXPECT_EQ(*set(handle_, lock_of(2, LockType::write), false, kIno + 1), 0) << "another file";
  const auto waits = set(lock_of(2, LockType::write, 0, 9), true);
  EXPECT_FALSE(waits->has_value()) << "POSIX locks wait here, too: nobody else sees them";
  EXPECT_EQ(set_now(lock_of(1, LockType::none)), 0);
  EXPECT_EQ(*waits, 0);
  EXPECT_TRUE(daemon_.asked.empty());
  // What is held stays held over a lost session, which knew nothing of it.
  EXPECT_THAT(locks_.session_begins(true), testing::IsEmpty());
  EXPECT_FALSE(handle_.lost);
  EXPECT_EQ(set_now(lock_of(3, LockType::read, 5, 5)), EAGAIN);
  EXPECT_TRUE(daemon_.asked.empty()) << "while locks are held the file is decided where it was";
  // An upgraded daemon is noticed as soon as a file is free.
  EXPECT_EQ(set_now(lock_of(2, LockType::none)), 0);
  const auto again = set(lock_of(3, LockType::write));
  ASSERT_EQ(daemon_.asked.size(), 1u);
  EXPECT_TRUE(daemon_.asked.front().request.lock().test());
  daemon_.answer();
  daemon_.answer();
  EXPECT_EQ(*again, 0);
}

TEST_F(FileLocksTest, WhatTheDaemonKeepsIsAskedThere) {
  keep_there();
  const auto mine = set(lock_of(1, LockType::write, 0, 9));
  ASSERT_EQ(daemon_.asked.size(), 1u);
  EXPECT_EQ(daemon_.asked.front().request.lock().lock().owner(), 1u);
  EXPECT_FALSE(mine->has_value());
  daemon_.answer();
  EXPECT_EQ(*mine, 0);
  const auto refused = set(lock_of(2, LockType::write, 20, 29));
  daemon_.refuse_with(EAGAIN);
  EXPECT_EQ(*refused, EAGAIN) << "another mount's";
  bool gone = false;
  EXPECT_TRUE(locks_.flush(kIno, handle_, 1, [&](result<void>) { gone = true; }));
  EXPECT_TRUE(daemon_.asked.front().request.lock().release_owner());
  EXPECT_FALSE(gone) << "others might still see them";
  daemon_.answer();
  EXPECT_TRUE(gone);
}

TEST_F(FileLocksTest, ARecallTellsWhatIsHeldBeforeAnythingElse) {
  delegate();
  EXPECT_EQ(set_now(lock_of(1, LockType::write, 0, 9)), 0);
  EXPECT_EQ(set_now(flock_of(2, LockType::read)), 0);
  const auto waits = set(flock_of(3, LockType::write), true);
  pb::Recall recall;
  recall.set_id(1234);
  recall.set_ino(kIno);
  recall.set_locks(true);
  locks_.recalled(recall);
  const auto told = daemon_.take().request;
  EXPECT_EQ(told.recall_done().id(), 1234u);
  ASSERT_EQ(told.recall_done().locks_size(), 3) << "one names the file, two are held";
  EXPECT_EQ(told.recall_done().locks(0).type(), static_cast<uint32_t>(LockType::none));
  ASSERT_EQ(daemon_.asked.size(), 1u) << "who waited here waits there";
  EXPECT_TRUE(daemon_.asked.front().request.lock().wait());
  EXPECT_TRUE(daemon_.asked.front().request.lock().lock().whole());
  daemon_.answer();
  EXPECT_EQ(*waits, 0);
  // A second recall, or one of a file that was never delegated, is answered all the same.
  recall.set_id(1235);
  locks_.recalled(recall);
  EXPECT_EQ(daemon_.take().request.recall_done().id(), 1235u);
}

TEST_F(FileLocksTest, APosixLockThatWaitsIsTheDaemons) {
  delegate();
  EXPECT_EQ(set_now(lock_of(1, LockType::write)), 0);
  const auto waits = set(lock_of(2, LockType::write), true);
  ASSERT_EQ(daemon_.asked.size(), 2u);
  const auto back = daemon_.take().request;
  EXPECT_EQ(back.recall_done().id(), 0u) << "unasked";
  EXPECT_EQ(back.recall_done().locks_size(), 2);
  EXPECT_TRUE(daemon_.asked.front().request.lock().wait());
  EXPECT_FALSE(waits->has_value());
  daemon_.refuse_with(EDEADLK);
  EXPECT_EQ(*waits, EDEADLK);
}

TEST_F(FileLocksTest, ASignalEndsAWait) {
  delegate();
  EXPECT_EQ(set_now(flock_of(1, LockType::write)), 0);
  const auto here = set(flock_of(2, LockType::write), true);
  EXPECT_FALSE(here->has_value());
  locks_.cancel(last_);
  EXPECT_EQ(*here, EINTR);
  EXPECT_EQ(set_now(flock_of(1, LockType::none)), 0);
  EXPECT_EQ(set_now(flock_of(3, LockType::write)), 0) << "nothing was granted to who has gone";

  const auto there = set(handle_, lock_of(4, LockType::write), true, kIno + 1);
  daemon_.refuse_with(EAGAIN);  // not delegated
  const uint64_t name = daemon_.asked.front().request.lock().cancel();
  EXPECT_NE(name, 0u);
  locks_.cancel(last_);
  ASSERT_EQ(daemon_.asked.size(), 2u);
  EXPECT_EQ(daemon_.asked.back().request.lock().cancel(), name);
  EXPECT_FALSE(daemon_.asked.back().request.lock().wait());
  EXPECT_FALSE(there->has_value()) << "it may have been granted already";
  daemon_.refuse_with(EINTR);
  EXPECT_EQ(*there, EINTR);
}

// The deadline passes; the lock comes after all, and nobody wants it any more.
TEST_F(FileLocksTest, ALateLockIsGivenUp) {
  keep_there();
  const auto outcome = set(lock_of(1, LockType::write));
  auto sent = daemon_.take();
  sent.callback(failure(Errc::unavailable, "no answer within the deadline"));
  ASSERT_TRUE(outcome->has_value());
  EXPECT_NE(**outcome, 0);
  ASSERT_EQ(daemon_.asked.size(), 1u) << "given up right behind";
  EXPECT_EQ(daemon_.asked.front().request.lock().lock().type(),
            static_cast<uint32_t>(LockType::none));
  sent.late(pb::Reply());
  daemon_.answer();
  EXPECT_TRUE(daemon_.asked.empty());
  pb::HelloRequest hello;
  locks_.present(hello);
  for (const auto& held : hello.locks()) EXPECT_NE(held.owner(), 1u) << "it is not held";
}

TEST_F(FileLocksTest, WhatCannotBeSentIsRefused) {
  keep_there();
  daemon_.refuse = true;
  EXPECT_EQ(set_now(lock_of(1, LockType::write)), ENOLCK);
  daemon_.refuse = false;
  const auto good = set(lock_of(1, LockType::write));
  daemon_.answer();
  EXPECT_EQ(*good, 0);
}

TEST_F(FileLocksTest, ALostSessionLosesItsLocksAndMarksTheirHandles) {
  delegate();
  HandleLocks idle;
  EXPECT_EQ(set_now(lock_of(1, LockType::write)), 0);
  EXPECT_EQ(*set(idle, flock_of(2, LockType::write)), 0);
  EXPECT_EQ(*set(idle, flock_of(2, LockType::none)), 0);
  EXPECT_THAT(locks_.session_begins(true), testing::ElementsAre(kIno));
  EXPECT_TRUE(handle_.lost);
  EXPECT_FALSE(idle.lost) << "it held nothing";
  EXPECT_EQ(set_now(lock_of(1, LockType::write)), EIO);
  EXPECT_EQ(set_now(lock_of(1, LockType::none)), 0) << "giving up is always right";
  HandleLocks fresh;
  const auto anew = set(fresh, lock_of(3, LockType::write));
  daemon_.answer();
  daemon_.answer();
  EXPECT_EQ(*anew, 0);
}

TEST_F(FileLocksTest, AHelloNamesDelegationsAndLocksKeptThere) {
  delegate();
  EXPECT_EQ(set_now(lock_of(1, LockType::write)), 0);
  const auto there = set(handle_, lock_of(2, LockType::write, 5, 6), false, kIno + 1);
  daemon_.refuse_with(EAGAIN);
  daemon_.answer();
  EXPECT_EQ(*there, 0);
  pb::HelloRequest hello;
  locks_.present(hello);
  ASSERT_EQ(hello.leases_size(), 1);
  EXPECT_EQ(hello.leases(0).ino(), kIno);
  EXPECT_TRUE(hello.leases(0).locks());
  ASSERT_EQ(hello.locks_size(), 1);
  EXPECT_EQ(hello.locks(0).ino(), kIno + 1);
  EXPECT_EQ(hello.locks(0).start(), 5u);
  EXPECT_THAT(locks_.session_begins(false), testing::IsEmpty()) << "resumed: all is as it was";
  EXPECT_FALSE(handle_.lost);
}

// Whatever is delegated, recalled and asked again meanwhile, locks are granted as one table would.
TEST_F(FileLocksTest, MovesBetweenMountAndDaemonChangeNoAnswer) {
  Seeded seeded;
  auto& random = seeded.engine();
  constexpr InodeId files = 40;
  struct File {
    LockRanges model, there;
    bool delegated = false;
  };
  std::map<InodeId, File> known;
  uint64_t recalls = 0;
  const auto decide = [&](LockRanges& table, const FileLock& lock) {
    if (lock.type != LockType::none && table.conflict(lock) != nullptr) return EAGAIN;
    table.set(lock);
    return 0;
  };
  // Answers as a daemon would that has no other mount.
  const auto serve = [&] {
    while (!daemon_.asked.empty()) {
      const pb::Request request = daemon_.asked.front().request;
      if (request.has_recall_done()) {
        File& file = known[request.recall_done().locks(0).ino()];
        file.there = LockRanges();
        for (const auto& held : request.recall_done().locks())
          if (held.type() != static_cast<uint32_t>(LockType::none))
            file.there.set(lock_from(held, 0).value());
        file.delegated = false;
        daemon_.answer();
        continue;
      }
      if (request.has_lease()) {
        File& file = known[request.lease().ino()];
        ASSERT_TRUE(file.there.empty()) << "nobody asks for it again while locks are kept there";
        file.delegated = random() % 4 != 0;
        file.delegated ? daemon_.answer() : daemon_.refuse_with(EAGAIN);
        continue;
      }
      const auto& lock = request.lock();
      File& file = known[lock.lock().ino()];
      if (lock.release_owner()) {
        file.there.drop_owner({0, lock.lock().owner()});
        daemon_.answer();
      } else if (lock.test()) {
        pb::Reply reply;
        const FileLock wanted = lock_from(lock.lock(), 0).value();
        if (const FileLock* held = file.there.conflict(wanted))
          put_lock(*reply.mutable_lock()->mutable_held(), lock.lock().ino(), *held);
        daemon_.answer(std::move(reply));
      } else {
        const int error = decide(file.there, lock_from(lock.lock(), 0).value());
        error == 0 ? daemon_.answer() : daemon_.refuse_with(error);
      }
    }
  };
  for (int step = 0; step < 6000; ++step) {
    const auto dice = random() % 20;
    const InodeId ino = kIno + random() % files;
    File& file = known[ino];
    const uint64_t owner = 1 + random() % 4, start = random() % 20;
    if (dice == 0 && file.delegated) {
      pb::Recall recall;
      recall.set_id(++recalls);
      recall.set_ino(ino);
      recall.set_locks(true);
      locks_.recalled(recall);
      serve();
      ASSERT_FALSE(file.delegated);
    } else if (dice <= 2) {
      (void)locks_.flush(ino, handle_, owner, nullptr);
      serve();
      file.model.drop_owner({0, owner});
    } else if (dice <= 5) {
      const auto wanted = lock_of(owner, LockType::write, start, start + random() % 5);
      bool found = false;
      locks_.test(ino, wanted, [&](auto r) { found = r.value().has_value(); });
      serve();
      ASSERT_EQ(found, file.model.conflict(wanted) != nullptr) << "step " << step;
    } else {
      const auto lock =
          lock_of(owner, static_cast<LockType>(random() % 3), start, start + random() % 5);
      const auto outcome = set(handle_, lock, false, ino);
      serve();
      ASSERT_TRUE(outcome->has_value()) << "step " << step;
      ASSERT_EQ(**outcome, decide(file.model, lock)) << "step " << step;
    }
  }
  EXPECT_GT(recalls, 0u);
}

}  // namespace
}  // namespace datacloud
