// Whose changes a power cut could still take back.
#include "daemon/sessions/undurable_changes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace datacloud {
namespace {

TEST(UndurableChangesTest, OnlyThoseOfOthersCount) {
  UndurableChanges changes;
  EXPECT_FALSE(changes.has_others(1));
  changes.note(1, 10, {5, 6});
  EXPECT_FALSE(changes.has_others(1));
  EXPECT_FALSE(changes.by_others(1, {5, 6, 7}));
  EXPECT_TRUE(changes.has_others(2));
  EXPECT_TRUE(changes.by_others(2, {7, 6}));
  EXPECT_FALSE(changes.by_others(2, {7}));
  changes.note(2, 11, {6});
  EXPECT_TRUE(changes.by_others(1, {6})) << "what both have changed concerns both";
  EXPECT_TRUE(changes.by_others(2, {6}));
  changes.durable(10);
  EXPECT_FALSE(changes.by_others(2, {5}));
  EXPECT_TRUE(changes.by_others(1, {6}));
  changes.durable(11);
  EXPECT_TRUE(changes.empty());
}

// Against a list of all changes, with a reader that must be told of none that is not durable.
TEST(UndurableChangesTest, AgainstAModel) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  UndurableChanges changes;
  struct Made {
    SessionId author;
    Sequence sequence;
    InodeId ino;
  };
  std::vector<Made> made;
  Sequence sequence = 0, durable = 0;
  for (int step = 0; step < 20'000; ++step) {
    const SessionId session = 1 + random() % 3;
    const InodeId ino = 1 + random() % 6;
    switch (random() % 4) {
      case 0:
        changes.note(session, ++sequence, {ino});
        made.push_back({session, sequence, ino});
        break;
      case 1:
        durable += random() % (sequence - durable + 1);
        changes.durable(durable);
        std::erase_if(made, [&](const Made& m) { return m.sequence <= durable; });
        break;
      default: {
        const bool others = std::any_of(made.begin(), made.end(), [&](const Made& m) {
          return m.ino == ino && m.author != session;
        });
        if (others) {
          ASSERT_TRUE(changes.has_others(session));
          ASSERT_TRUE(changes.by_others(session, {ino}));
        }
        // It may be held back longer than it had to be, but not when nothing is undurable.
        const bool any =
            std::any_of(made.begin(), made.end(), [&](const Made& m) { return m.ino == ino; });
        if (!any) {
          ASSERT_FALSE(changes.by_others(session, {ino}));
        }
      }
    }
  }
}

}  // namespace
}  // namespace datacloud
