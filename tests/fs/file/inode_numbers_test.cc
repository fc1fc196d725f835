// Numbers of new inodes: each once, never waited for, gone with a lost session.
#include "fs/file/inode_numbers.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace datacloud {
namespace {

// Grants when the test says so.
class Granter final : public RpcSession {
 public:
  void call(pb::Request request, Callback done) override {
    ASSERT_EQ(request.grant().kind(), static_cast<uint32_t>(IdKind::inode));
    asked_.push_back(std::move(done));
  }
  void call_until_known(pb::Request, Callback, Callback) override { FAIL(); }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return MonotonicTime::max(); }
  uint32_t protocol() const override { return spoken; }

  bool grant() {
    if (asked_.empty()) return false;
    const Callback done = std::move(asked_.front());
    asked_.erase(asked_.begin());
    pb::Reply reply;
    reply.mutable_grant()->set_first(next_);
    reply.mutable_grant()->set_count(InodeNumbers::kGrant);
    next_ += 2 * InodeNumbers::kGrant;  // others are granted some, too
    done(std::move(reply));
    return true;
  }
  size_t asked() const { return asked_.size(); }

  uint32_t spoken = kProtocolNewest;

 private:
  std::vector<Callback> asked_;
  uint64_t next_ = 100;
};

TEST(InodeNumbersTest, EachIsGivenOnceAndNobodyWaits) {
  Granter granter;
  InodeNumbers numbers(granter);
  EXPECT_EQ(numbers.take(), 0u) << "none yet: the daemon chooses";
  EXPECT_EQ(numbers.take(), 0u);
  EXPECT_EQ(granter.asked(), 1u) << "asked for once";
  ASSERT_TRUE(granter.grant());
  std::set<InodeId> seen;
  for (uint32_t i = 0; i < 3 * InodeNumbers::kGrant; ++i) {
    const InodeId ino = numbers.take();
    ASSERT_NE(ino, 0u);
    ASSERT_TRUE(seen.insert(ino).second);
    granter.grant();
  }
  uint64_t unused = 0;
  for (const auto& range : numbers.unused()) {
    unused += range.count;
    for (uint64_t ino = range.first; ino < range.end(); ++ino) EXPECT_FALSE(seen.contains(ino));
  }
  EXPECT_GE(unused, InodeNumbers::kGrant / 2);
}

TEST(InodeNumbersTest, ALostSessionTakesThemAlong) {
  Granter granter;
  InodeNumbers numbers(granter);
  numbers.refill();
  ASSERT_TRUE(granter.grant());
  EXPECT_NE(numbers.take(), 0u);
  for (uint32_t i = 0; i < InodeNumbers::kGrant / 2; ++i) numbers.take();
  numbers.revoked();
  EXPECT_TRUE(numbers.unused().empty());
  ASSERT_TRUE(granter.grant()) << "asked for in the session that is lost";
  EXPECT_EQ(numbers.take(), 0u);
  ASSERT_TRUE(granter.grant());
  EXPECT_NE(numbers.take(), 0u);
}

TEST(InodeNumbersTest, DaemonsFromBeforeAreNotAsked) {
  Granter granter;
  granter.spoken = kProtocolOldest;
  InodeNumbers numbers(granter);
  EXPECT_EQ(numbers.take(), 0u);
  EXPECT_EQ(granter.asked(), 0u);
}

}  // namespace
}  // namespace datacloud
