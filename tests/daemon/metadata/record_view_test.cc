// Cursors against a plain map: three layers of random changes, walked up and down, give what the
// same changes made one after another give.
#include "daemon/metadata/record_view.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {
namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

std::string numbered(uint64_t i) { return "K" + std::to_string(100 + i); }

Records walk(RecordCursor& cursor) {
  Records records;
  for (; cursor.valid(); cursor.next()) records.emplace_back(cursor.key(), cursor.value());
  EXPECT_TRUE(cursor.status());
  return records;
}

TEST(RecordView, LayersReadAsTheirChangesMadeInOrder) {
  std::mt19937_64 random(test_seed());
  for (int round = 0; round < 500; ++round) {
    RecordChanges layers[3];
    std::map<std::string, std::string> model;
    for (auto& layer : layers) {
      for (uint64_t n = random() % 12; n > 0; --n) {
        const std::string key = numbered(random() % 16);
        if (random() % 2 == 0) {
          layer[key] = std::nullopt;
          model.erase(key);
        } else {
          layer[key] = model[key] = std::to_string(random());
        }
      }
    }
    ChangesCursor lowest(layers[0]), middle(layers[1]), highest(layers[2]);
    const RecordChanges none;
    ChangesCursor empty(none);
    LayeredCursor stored(lowest, empty), overlay(middle, stored), records(highest, overlay);
    for (int range = 0; range < 8; ++range) {
      std::string begin = numbered(random() % 17), end = numbered(random() % 17);
      if (end < begin) std::swap(begin, end);
      const Records expected(model.lower_bound(begin), model.lower_bound(end));
      records.first(begin, end);
      ASSERT_EQ(walk(records), expected);
      records.last(begin, end);
      ASSERT_EQ(walk(records), Records(expected.rbegin(), expected.rend()));
    }
  }
}

TEST(RecordView, ARangeThatEndsBeforeItBeginsIsEmpty) {
  const RecordChanges changes{{"a", "1"}, {"b", "2"}};
  ChangesCursor cursor(changes);
  cursor.first("b", "a");
  EXPECT_FALSE(cursor.valid());
  cursor.last("b", "a");
  EXPECT_FALSE(cursor.valid());
}

}  // namespace
}  // namespace datacloud
