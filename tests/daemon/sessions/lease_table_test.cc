// The lease table's rules, one by one and against a random crowd of mounts.
#include "daemon/sessions/lease_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace datacloud {
namespace {

constexpr auto kNone = pb::LEASE_NONE;
constexpr auto kRead = pb::LEASE_READ;
constexpr auto kWrite = pb::LEASE_WRITE;
constexpr SessionId A = 1, B = 2, C = 3;
constexpr InodeId kIno = 7;

pb::HeldLease held(InodeId ino, pb::LeaseMode mode, bool open = false) {
  pb::HeldLease lease;
  lease.set_ino(ino);
  lease.set_mode(mode);
  lease.set_open(open);
  return lease;
}

class LeaseTableTest : public testing::Test {
 protected:
  // As the service does it: asks, waits if need be, and is granted.
  void want(SessionId session, pb::LeaseMode mode, InodeId ino = kIno) {
    const auto others = mode == kWrite ? kNone : kRead;
    const auto grant = [this, session, mode, ino] {
      EXPECT_EQ(table.grant(session, ino, mode, false), mode);
      served.push_back(session);
    };
    if (table.admits(session, ino, others)) return grant();
    table.wait(session, ino, others, grant);
    run();
  }
  void run() {
    while (auto next = table.next_ready()) next();
    for (auto& recall : table.take_recalls()) recalls.push_back(recall);
  }
  // The only recall sent since the last call.
  LeaseTable::Recall recall() {
    EXPECT_EQ(recalls.size(), 1u);
    if (recalls.empty()) return {};
    auto first = recalls.front();
    recalls.clear();
    return first;
  }
  void done(const LeaseTable::Recall& recall) {
    table.recall_done(recall.session, recall.id);
    run();
  }

  LeaseTable table{100};
  std::vector<SessionId> served;
  std::vector<LeaseTable::Recall> recalls;
};

TEST_F(LeaseTableTest, ReadersShare) {
  want(A, kRead);
  want(B, kRead);
  EXPECT_THAT(served, testing::ElementsAre(A, B));
  EXPECT_TRUE(recalls.empty());
}

TEST_F(LeaseTableTest, ReaderMakesWriterAReader) {
  want(A, kWrite);
  want(B, kRead);
  EXPECT_THAT(served, testing::ElementsAre(A));
  const auto sent = recall();
  EXPECT_EQ(sent.session, A);
  EXPECT_EQ(sent.mode, kRead);
  done(sent);
  EXPECT_THAT(served, testing::ElementsAre(A, B));
  EXPECT_EQ(table.held(A, kIno), kRead);
}

TEST_F(LeaseTableTest, WriterRecallsEverybodyElse) {
  want(A, kRead);
  want(B, kRead);
  want(C, kWrite);
  ASSERT_EQ(recalls.size(), 2u);
  const auto sent = std::exchange(recalls, {});
  done(sent[0]);
  EXPECT_EQ(served.size(), 2u);
  done(sent[1]);
  EXPECT_THAT(served, testing::ElementsAre(A, B, C));
  EXPECT_EQ(table.held(A, kIno), kNone);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(LeaseTableTest, UpgradeNeedsNoRecallOfOneself) {
  want(A, kRead);
  want(A, kWrite);
  EXPECT_TRUE(recalls.empty());
  EXPECT_EQ(table.held(A, kIno), kWrite);
}

TEST_F(LeaseTableTest, WaitersAreServedInOrder) {
  want(A, kWrite);
  want(B, kWrite);
  want(C, kRead);  // would be satisfied by A as a reader, but B was first
  done(recall());
  EXPECT_THAT(served, testing::ElementsAre(A, B));
  done(recall());
  EXPECT_THAT(served, testing::ElementsAre(A, B, C));
}

TEST_F(LeaseTableTest, NothingIsOfferedPastAWaiter) {
  want(A, kRead);
  want(B, kWrite);
  EXPECT_EQ(table.offer(C, kIno, kRead), kNone);
  done(recall());
  EXPECT_EQ(table.held(B, kIno), kWrite);
}

TEST_F(LeaseTableTest, AHolderBeingRecalledIsGrantedNoMore) {
  want(A, kRead);
  want(B, kWrite);
  EXPECT_EQ(table.grant(A, kIno, kWrite, false), kNone);
}

TEST_F(LeaseTableTest, OneRecallInFlight) {
  want(A, kWrite);
  want(B, kRead);
  const auto first = recall();
  want(C, kWrite);
  EXPECT_TRUE(recalls.empty());
  done(first);  // B reads; C is next and needs A and B gone
  EXPECT_THAT(served, testing::ElementsAre(A, B));
  ASSERT_EQ(recalls.size(), 2u);
  for (const auto& sent : std::exchange(recalls, {})) done(sent);
  EXPECT_THAT(served, testing::ElementsAre(A, B, C));
}

TEST_F(LeaseTableTest, SessionEndReleasesWaiters) {
  want(A, kWrite);
  want(B, kWrite);
  want(C, kRead);
  table.end_session(A);
  run();
  EXPECT_THAT(served, testing::ElementsAre(A, B));
  table.end_session(B);
  run();
  EXPECT_THAT(served, testing::ElementsAre(A, B, C));
}

TEST_F(LeaseTableTest, AWaiterThatEndsIsForgotten) {
  want(A, kWrite);
  want(B, kWrite);
  want(C, kRead);
  table.end_session(B);
  run();
  ASSERT_FALSE(recalls.empty());
  done(recalls.back());
  EXPECT_THAT(served, testing::ElementsAre(A, C));
  EXPECT_EQ(table.waiting(), 0u);
}

TEST_F(LeaseTableTest, NoticeWaitsForEveryHolder) {
  want(A, kRead);
  want(B, kRead);
  want(C, kRead);
  LeaseTable::NoticePtr notice;
  table.notify(A, kIno, kRead, {"name"}, notice);
  ASSERT_TRUE(notice);
  bool told = false;
  notice->done = [&] { told = true; };
  run();
  ASSERT_EQ(recalls.size(), 2u);
  EXPECT_THAT(recalls[0].names, testing::ElementsAre("name"));
  done(recalls[0]);
  EXPECT_FALSE(told);
  table.end_session(recalls[1].session);
  run();
  EXPECT_TRUE(told);
  EXPECT_EQ(table.held(recalls[0].session, kIno), kRead);
}

TEST_F(LeaseTableTest, NobodyElseMeansNoNotice) {
  want(A, kRead);
  LeaseTable::NoticePtr notice;
  table.notify(A, kIno, kRead, {"name"}, notice);
  table.notify(A, kIno, kNone, {}, notice);
  EXPECT_FALSE(notice);
}

TEST_F(LeaseTableTest, ChangesDuringARecallAreSentAfterIt) {
  want(A, kRead);
  LeaseTable::NoticePtr first, second;
  table.notify(B, kIno, kRead, {"a"}, first);
  first->done = [] {};
  run();
  const auto sent = recall();
  table.notify(B, kIno, kRead, {"b"}, second);
  table.notify(B, kIno, kRead, {"c"}, second);
  bool told = false;
  second->done = [&] { told = true; };
  run();
  EXPECT_TRUE(recalls.empty());
  done(sent);
  const auto again = recall();
  EXPECT_THAT(again.names, testing::ElementsAre("b", "c"));
  EXPECT_FALSE(told);
  done(again);
  EXPECT_TRUE(told);
}

TEST_F(LeaseTableTest, OpenFilesOutliveLeases) {
  std::vector<InodeId> unheld;
  table.on_unheld([&](InodeId ino) { unheld.push_back(ino); });
  EXPECT_EQ(table.grant(A, kIno, kRead, true), kRead);
  table.release(A, held(kIno, kNone, true));
  EXPECT_TRUE(table.is_held(kIno));
  EXPECT_TRUE(unheld.empty());
  table.release(A, held(kIno, kNone, false));
  EXPECT_FALSE(table.is_held(kIno));
  EXPECT_THAT(unheld, testing::ElementsAre(kIno));
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(LeaseTableTest, BoundedWithoutRefusingHolders) {
  LeaseTable small(2);
  EXPECT_EQ(small.grant(A, 1, kRead, false), kRead);
  EXPECT_EQ(small.grant(A, 2, kRead, false), kRead);
  EXPECT_EQ(small.grant(A, 3, kRead, false), kNone);
  EXPECT_FALSE(small.has_room(A, 3));
  EXPECT_EQ(small.grant(A, 2, kWrite, false), kWrite);
}

TEST_F(LeaseTableTest, UnknownRecallsAndModesAreHarmless) {
  want(A, kWrite);
  want(B, kRead);
  const auto sent = recall();
  table.recall_done(B, sent.id);  // not B's
  table.recall_done(A, sent.id + 1);
  run();
  EXPECT_EQ(table.held(A, kIno), kWrite);
  table.release(A, held(kIno, static_cast<pb::LeaseMode>(77)));
  run();
  EXPECT_EQ(table.held(A, kIno), kNone);
  EXPECT_THAT(served, testing::ElementsAre(A, B));
}

TEST_F(LeaseTableTest, AdoptedConflictsAreRecalled) {
  EXPECT_TRUE(table.adopt(A, held(kIno, kWrite)));
  EXPECT_TRUE(table.adopt(B, held(kIno, kWrite, true)));
  run();
  EXPECT_EQ(table.held(A, kIno), kWrite);
  EXPECT_EQ(table.held(B, kIno), kNone);
  const auto sent = recall();
  EXPECT_EQ(sent.session, B);
  EXPECT_EQ(sent.mode, kNone);
}

// Mounts that believe what they are told, take their time with recalls, and sometimes end.
class Crowd {
 public:
  explicit Crowd(uint64_t seed) : random_(seed) {}

  void step() {
    const SessionId session = 1 + random_() % kSessions;
    const InodeId ino = 1 + random_() % kInodes;
    switch (random_() % 10) {
      case 0:
      case 1:
      case 2:
        want(session, ino, random_() % 2 ? kWrite : kRead);
        break;
      case 3:
        change(session, ino);
        break;
      case 4:
        if (undelivered(session, ino)) break;
        table_.release(session, held(ino, kNone));
        belief_[{session, ino}] = kNone;
        break;
      case 5:
        if (random_() % 10 == 0) end(session);
        break;
      default:
        answer_one();
    }
    run();
    check();
  }

  void drain() {
    while (!recalls_.empty()) {
      answer_one();
      run();
      check();
    }
    EXPECT_EQ(table_.waiting(), 0u);
    EXPECT_EQ(notices_, 0);
    for (const auto& [ino, queue] : queues_) EXPECT_TRUE(queue.empty());
  }

  size_t waited() const { return waited_; }

 private:
  static constexpr int kSessions = 4, kInodes = 3;

  void want(SessionId session, InodeId ino, pb::LeaseMode mode) {
    const auto others = mode == kWrite ? kNone : kRead;
    const auto grant = [this, session, ino, mode] {
      belief_[{session, ino}] = table_.grant(session, ino, mode, false);
    };
    if (table_.admits(session, ino, others)) return grant();
    const uint64_t ticket = ++tickets_;
    ++waited_;
    queues_[ino].push_back({ticket, session});
    table_.wait(session, ino, others, [this, ino, ticket, grant] {
      ASSERT_FALSE(queues_[ino].empty());
      EXPECT_EQ(queues_[ino].front().first, ticket) << "not in the order of arrival";
      queues_[ino].pop_front();
      grant();
    });
  }

  void change(SessionId author, InodeId ino) {
    LeaseTable::NoticePtr notice;
    table_.notify(author, ino, random_() % 2 ? kNone : kRead, {"n"}, notice);
    if (!notice) return;
    ++notices_;
    notice->done = [this] { --notices_; };
  }

  void end(SessionId session) {
    table_.end_session(session);
    std::erase_if(recalls_, [&](const auto& r) { return r.session == session; });
    for (InodeId ino = 1; ino <= kInodes; ++ino) {
      belief_[{session, ino}] = kNone;
      std::erase_if(queues_[ino], [&](const auto& w) { return w.second == session; });
    }
  }

  bool undelivered(SessionId session, InodeId ino) const {
    return std::any_of(recalls_.begin(), recalls_.end(),
                       [&](const auto& r) { return r.session == session && r.ino == ino; });
  }

  void answer_one() {
    if (recalls_.empty()) return;
    const size_t i = random_() % recalls_.size();
    const auto recall = recalls_[i];
    recalls_.erase(recalls_.begin() + static_cast<long>(i));
    auto& belief = belief_[{recall.session, recall.ino}];
    belief = std::min(belief, recall.mode);
    table_.recall_done(recall.session, recall.id);
  }

  void run() {
    for (;;) {
      auto next = table_.next_ready();
      for (auto& recall : table_.take_recalls()) {
        for (const auto& other : recalls_) {
          EXPECT_FALSE(other.session == recall.session && other.ino == recall.ino)
              << "two recalls in flight";
        }
        recalls_.push_back(std::move(recall));
      }
      if (!next) return;
      next();
    }
  }

  void check() {
    for (InodeId ino = 1; ino <= kInodes; ++ino) {
      int readers = 0, writers = 0;
      for (SessionId session = 1; session <= kSessions; ++session) {
        const auto believed = belief_[{session, ino}];
        ASSERT_LE(believed, table_.held(session, ino));
        readers += believed == kRead;
        writers += believed == kWrite;
      }
      ASSERT_LE(writers, 1);
      ASSERT_FALSE(writers == 1 && readers > 0);
    }
  }

  std::mt19937_64 random_;
  LeaseTable table_{1000};
  std::map<std::pair<SessionId, InodeId>, pb::LeaseMode> belief_;
  std::map<InodeId, std::deque<std::pair<uint64_t, SessionId>>> queues_;
  std::vector<LeaseTable::Recall> recalls_;
  uint64_t tickets_ = 0;
  size_t waited_ = 0;
  int notices_ = 0;
};

TEST(LeaseTableRandom, NeverTwoTruthsAndNobodyStarves) {
  size_t waited = 0;
  for (int round = 0; round < 200; ++round) {
    const uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    Crowd crowd(seed);
    for (int i = 0; i < 300; ++i) {
      crowd.step();
      if (testing::Test::HasFatalFailure()) return;
    }
    crowd.drain();
    waited += crowd.waited();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(waited, 1000u);
}

}  // namespace
}  // namespace datacloud
