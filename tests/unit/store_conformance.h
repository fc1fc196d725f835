// What every back end of the object store seam must do, as tests over a site somebody else made.
//
// A test program includes this once and instantiates StoreConformance with its cases; nothing here
// knows what a site is made of.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/object_store.h"
#include "tests/support/store_calls.h"

namespace datacloud {

// A freshly formatted, empty site.
class SiteUnderTest {
 public:
  virtual ~SiteUnderTest() = default;
  // One more handle to the site, as another process would have it.
  virtual std::unique_ptr<ObjectStore> open() = 0;
  // What an unmounted or unreachable site looks like, and its end.
  virtual void take_away() = 0;
  virtual void bring_back() = 0;
};

struct StoreCase {
  std::string name;
  std::function<std::unique_ptr<SiteUnderTest>()> make;
};
inline std::ostream& operator<<(std::ostream& out, const StoreCase& c) { return out << c.name; }
inline std::string case_name(const testing::TestParamInfo<StoreCase>& info) {
  return info.param.name;
}

class StoreConformance : public testing::TestWithParam<StoreCase> {
 protected:
  std::unique_ptr<SiteUnderTest> site_ = GetParam().make();
  std::unique_ptr<ObjectStore> store_ = site_->open();
};

#define EXPECT_FAILS(code, call)                                                                \
  do {                                                                                          \
    auto answer_ = (call);                                                                      \
    if (answer_) {                                                                              \
      ADD_FAILURE() << #call " succeeded";                                                      \
    } else {                                                                                    \
      EXPECT_TRUE(answer_.error().is(code)) << #call " answered " << answer_.error().message(); \
    }                                                                                           \
  } while (false)

inline std::string numbered(const std::string& stem, uint64_t i) {
  return std::string(stem).append(std::to_string(i));
}

TEST_P(StoreConformance, KeepsBytesAndAttributesOfAnySize) {
  const Attributes attributes{{"tag", std::string("a\0b", 3)}, {"empty", ""}, {"", "nameless"}};
  for (const size_t size : {size_t{0}, size_t{1}, size_t{511}, size_t{4096}, size_t{4u << 20}}) {
    const auto name = numbered("size-", size);
    ASSERT_TRUE(put(*store_, name, contents_of(name, size), attributes)) << size;
    auto other = site_->open();  // also another handle sees it at once
    for (auto* store : {store_.get(), other.get()}) {
      auto reply = read(*store, name, {{0, size}}, true);
      ASSERT_TRUE(reply) << reply.error().message();
      EXPECT_EQ(reply.value().object_size, size);
      EXPECT_TRUE(reply.value().ranges[0] == contents_of(name, size)) << size;
      EXPECT_EQ(reply.value().attributes, attributes);
    }
  }
  EXPECT_TRUE(read(*store_, "size-1", {}).value().attributes.empty()) << "nobody asked";
}

TEST_P(StoreConformance, JoinsThePartsOfAPayload) {
  auto bytes = std::make_shared<const Bytes>(contents_of("parts", 10'000));
  Payload payload;
  payload.owner = bytes;
  for (size_t start = 0; start < bytes->size();) {
    const size_t length = std::min<size_t>(bytes->size() - start, start % 97);
    payload.parts.push_back(ByteView(*bytes).subspan(start, length));  // some of them empty
    payload.parts.push_back(ByteView(*bytes).subspan(start + length, length < 97 ? 1 : 0));
    start += length + 1;
    if (start + 97 > bytes->size()) {
      payload.parts.push_back(ByteView(*bytes).subspan(start));
      break;
    }
  }
  ASSERT_EQ(payload.size(), bytes->size());
  ASSERT_TRUE(wait_for<void>([&](auto done) { store_->put("parts", payload, {}, {}, done); }));
  EXPECT_TRUE(read_all(*store_, "parts").value() == *bytes);
}

TEST_P(StoreConformance, ShortensRangesAtTheEnd) {
  const Bytes data = contents_of("ranges", 1000);
  ASSERT_TRUE(put(*store_, "ranges", data, {{"a", "b"}}));
  const auto reply = read(*store_, "ranges",
                          {{990, 100},
                           {1000, 1},
                           {5000, 1},
                           {UINT64_MAX, UINT64_MAX},
                           {999, UINT64_MAX},
                           {10, 0},
                           {500, 2},
                           {0, 3}});
  ASSERT_TRUE(reply) << reply.error().message();
  const auto& ranges = reply.value().ranges;
  ASSERT_EQ(ranges.size(), 8u);
  const auto piece = [&](size_t offset, size_t length) {
    return to_bytes(ByteView(data).subspan(offset, length));
  };
  EXPECT_EQ(ranges[0], piece(990, 10));
  for (int i : {1, 2, 3, 5}) EXPECT_TRUE(ranges[static_cast<size_t>(i)].empty()) << i;
  EXPECT_EQ(ranges[4], piece(999, 1));
  EXPECT_EQ(ranges[6], piece(500, 2));
  EXPECT_EQ(ranges[7], piece(0, 3));
}

TEST_P(StoreConformance, SaysWhatIsNotThere) {
  EXPECT_FAILS(Errc::not_found, read(*store_, "nothing", {{0, 1}}));
  EXPECT_FAILS(Errc::not_found, read(*store_, "nothing", {}, true));
  EXPECT_FAILS(Errc::not_found, remove(*store_, "nothing"));
}

TEST_P(StoreConformance, RefusesWhatIsNoName) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string(".tmp-1"),
        std::string("a/b"), std::string("../x"), std::string("a\0b", 3), std::string("a b"),
        std::string(201, 'x')}) {
    EXPECT_FAILS(Errc::invalid, put(*store_, name, {1}));
    EXPECT_FAILS(Errc::invalid, read(*store_, name, {}));
    EXPECT_FAILS(Errc::invalid, remove(*store_, name));
  }
  EXPECT_TRUE(put(*store_, std::string(200, 'x'), {1}));
  EXPECT_TRUE(put(*store_, "Az09._-", {1}));
}

TEST_P(StoreConformance, RefusesWhatIsTooLarge) {
  EXPECT_FAILS(Errc::invalid,
               put(*store_, "attributes", {1}, {{"a", std::string(kAttributesBytesMax + 1, 'x')}}));
  EXPECT_FAILS(Errc::invalid, put(*store_, "data", Bytes(kObjectBytesMax + 1)));
  EXPECT_TRUE(list(*store_, "", 10).value().names.empty());
}

TEST_P(StoreConformance, CreatesOnlyOnce) {
  ASSERT_TRUE(put(*store_, "one", {1, 2, 3}, {{"a", "1"}}));
  EXPECT_FAILS(Errc::exists, put(*store_, "one", {4}, {{"a", "2"}}));
  auto other = site_->open();
  EXPECT_FAILS(Errc::exists, put(*other, "one", {5}));
  const auto reply = read(*store_, "one", {{0, 10}}, true).value();
  EXPECT_EQ(reply.ranges[0], (Bytes{1, 2, 3}));
  EXPECT_EQ(reply.attributes, (Attributes{{"a", "1"}}));
}

TEST_P(StoreConformance, RemovesForGood) {
  ASSERT_TRUE(put(*store_, "one", {1}));
  ASSERT_TRUE(put(*store_, "two", {2}));
  ASSERT_TRUE(remove(*store_, "one"));
  EXPECT_FAILS(Errc::not_found, read(*store_, "one", {}));
  EXPECT_FAILS(Errc::not_found, remove(*store_, "one"));
  EXPECT_EQ(list(*store_, "", 10).value().names, (std::vector<std::string>{"two"}));
  EXPECT_FAILS(Errc::not_found, read(*site_->open(), "one", {}));
}

// Many threads over several handles want the same names: each has one winner, and its bytes.
TEST_P(StoreConformance, OneWinnerOfARaceOfThreads) {
  constexpr int kThreads = 8, kNames = 40;
  std::vector<std::unique_ptr<ObjectStore>> stores;
  for (int i = 0; i < 3; ++i) stores.push_back(site_->open());
  std::array<std::atomic<int>, kNames> winners{};
  std::array<std::atomic<int>, kNames> wins{};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kNames; ++i) {
        auto answer = put(*stores[static_cast<size_t>(t) % stores.size()], numbered("race-", i),
                          contents_of(numbered("thread-", t), 3000));
        if (answer) {
          winners[i] = t;
          ++wins[i];
        } else {
          EXPECT_TRUE(answer.error().is(Errc::exists)) << answer.error().message();
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int i = 0; i < kNames; ++i) {
    EXPECT_EQ(wins[i], 1) << i;
    EXPECT_TRUE(read_all(*store_, numbered("race-", i)).value() ==
                contents_of(numbered("thread-", winners[i]), 3000))
        << i;
  }
}

// A reader beside a remover sees all of an object or none of it.
TEST_P(StoreConformance, ReadsWholeObjectsBesideRemoval) {
  for (int i = 0; i < 20; ++i) {
    const auto name = numbered("gone-", i);
    ASSERT_TRUE(put(*store_, name, contents_of(name, 100'000)));
    std::thread remover([&] { EXPECT_TRUE(remove(*store_, name)); });
    for (int j = 0; j < 5; ++j) {
      auto reply = read_all(*store_, name);
      if (reply) {
        EXPECT_TRUE(reply.value() == contents_of(name, 100'000));
      } else {
        EXPECT_TRUE(reply.error().is(Errc::not_found)) << reply.error().message();
      }
    }
    remover.join();
  }
}

TEST_P(StoreConformance, ListsInPiecesWhilePutsGoOn) {
  std::set<std::string> known;
  for (int i = 0; i < 100; ++i) known.insert(numbered("known-", i));
  for (const auto& name : known) ASSERT_TRUE(put(*store_, name, {1}));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) EXPECT_TRUE(put(*store_, numbered("new-", i), {2}));
  });
  for (const size_t piece : {size_t{1}, size_t{20}, SIZE_MAX}) {
    std::set<std::string> seen;
    std::string from;
    do {
      auto reply = list(*store_, from, piece);
      ASSERT_TRUE(reply) << reply.error().message();
      EXPECT_LE(reply.value().names.size(), piece);
      for (const auto& name : reply.value().names) {
        EXPECT_TRUE(seen.insert(name).second) << name << " listed twice";
        EXPECT_TRUE(known.count(name) || name.rfind("new-", 0) == 0) << name;
      }
      from = reply.value().next;
    } while (!from.empty());
    for (const auto& name : known) EXPECT_TRUE(seen.count(name)) << name << " not listed";
  }
  stop = true;
  writer.join();
  EXPECT_FAILS(Errc::invalid, list(*store_, "", 0));
}

TEST_P(StoreConformance, KnowsItsRoomAndPlaces) {
  EXPECT_TRUE(check(*store_));
  const auto space = capacity(*store_).value();
  EXPECT_GT(space.bytes_total, 0u);
  EXPECT_LE(space.bytes_free, space.bytes_total);
  EXPECT_NE(store_->location("one"), store_->location("two"));
}

TEST_P(StoreConformance, AwayIsNotEmpty) {
  ASSERT_TRUE(put(*store_, "one", {1, 2, 3}));
  for (int round = 0; round < 2; ++round) {
    site_->take_away();
    auto later = site_->open();  // opened while it is away
    for (auto* store : {store_.get(), later.get()}) {
      EXPECT_FAILS(Errc::away, check(*store));
      EXPECT_FAILS(Errc::away, read(*store, "one", {{0, 3}}));
      EXPECT_FAILS(Errc::away, read(*store, "never", {{0, 3}}));
      EXPECT_FAILS(Errc::away, put(*store, numbered("two-", round), {1}));
      EXPECT_FAILS(Errc::away, remove(*store, "one"));
      EXPECT_FAILS(Errc::away, list(*store, "", 10));
      EXPECT_FAILS(Errc::away, capacity(*store));
    }
    site_->bring_back();
    for (auto* store : {store_.get(), later.get()}) {
      EXPECT_TRUE(check(*store));
      EXPECT_EQ(read_all(*store, "one").value(), (Bytes{1, 2, 3}));
    }
    EXPECT_EQ(list(*store_, "", 10).value().names, (std::vector<std::string>{"one"}));
  }
}

// Counts the answers of each call of a mixed load, and destroys the store while most are in flight.
TEST_P(StoreConformance, AnswersOnceAlsoWhenDestroyed) {
  constexpr size_t kCalls = 600;
  std::vector<std::atomic<int>> answers(kCalls);
  for (size_t i = 0; i < kCalls; ++i) {
    const auto name = numbered("load-", i / 6);
    const auto count = [&answers, i](auto&&) { ++answers[i]; };
    switch (i % 6) {
      case 0:
        store_->put(name, Payload::from(contents_of(name, 5000)), {}, {}, count);
        break;
      case 1:
        store_->read(name, {{0, 5000}}, true, {}, count);
        break;
      case 2:
        store_->remove(name, {}, count);
        break;
      case 3:
        store_->list("", 10, {}, count);
        break;
      case 4:
        store_->check({}, count);
        break;
      case 5:
        store_->capacity({}, count);
        break;
    }
  }
  store_.reset();
  for (size_t i = 0; i < kCalls; ++i) EXPECT_EQ(answers[i], 1) << "call " << i;
}

}  // namespace datacloud
