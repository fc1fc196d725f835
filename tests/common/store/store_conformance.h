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

#include "common/store/object_compute.h"
#include "common/store/object_store.h"
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

// Parts of checkpoints (hidden_names.h).
TEST_P(StoreConformance, HiddenObjectsAreKeptAndNotListed) {
  const std::string hidden = ".checkpoint-0123456789abcdef-0-1";
  ASSERT_TRUE(put(*store_, hidden, contents_of(hidden, 1000)));
  ASSERT_TRUE(put(*store_, "seen", contents_of("seen", 10)));
  EXPECT_FAILS(Errc::exists, put(*store_, hidden, Bytes(1)));
  EXPECT_TRUE(read_all(*store_, hidden).value() == contents_of(hidden, 1000));
  std::string from;
  std::vector<std::string> names;
  do {
    auto listed = wait_for<ListReply>([&](auto done) { store_->list(from, 1, {}, done); });
    ASSERT_TRUE(listed) << listed.error().message();
    for (auto& name : listed.value().names) names.push_back(std::move(name));
    from = listed.value().next;
  } while (!from.empty());
  EXPECT_EQ(names, std::vector<std::string>{"seen"});
  ASSERT_TRUE(remove(*store_, hidden));
  EXPECT_FAILS(Errc::not_found, read_all(*store_, hidden));
  for (const std::string name :
       {".other", ".checkpoint", ".checkpoint-../x", ".leader", ".leader-/x", ".tmp-1"}) {
    EXPECT_FAILS(Errc::invalid, put(*store_, name, Bytes(1)));
  }
}

// The record of who leads is the one object whose name is used again.
TEST_P(StoreConformance, AHiddenNameCanBeUsedAgain) {
  const std::string name = ".leader-1";
  for (size_t i = 1; i <= 5; ++i) {
    const Bytes contents = contents_of("leader " + std::to_string(i), 100 * i);
    ASSERT_TRUE(put(*store_, name, contents));
    EXPECT_TRUE(read_all(*store_, name).value() == contents) << i;
    auto listed = wait_for<ListReply>([&](auto done) { store_->list("", 10, {}, done); });
    ASSERT_TRUE(listed) << listed.error().message();
    EXPECT_TRUE(listed.value().names.empty());
    ASSERT_TRUE(remove(*store_, name));
    EXPECT_FAILS(Errc::not_found, read_all(*store_, name));
  }
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
      EXPECT_FAILS(Errc::away, derive(*store, numbered("three-", round), {"one", 1, 2, 3, {}, {}}));
      EXPECT_FAILS(Errc::away, combine(*store, "one", {{{0, 1}}, {{1}}}));
      EXPECT_FAILS(Errc::away, prove(*store, "one", {}));
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

// A shard with its attributes: arbitrary tags, as a store does not know their key.
inline result<void> put_shard(ObjectStore& store, const std::string& name, size_t size,
                              uint64_t instance) {
  const Bytes tags = contents_of("tags of " + name, kFieldBytes * audit_blocks_of(size));
  return put(store, name, contents_of(name, size), shard_attributes(instance, tags));
}

inline void xor_into(Bytes& bytes, const std::vector<XorRange>& ranges) {
  for (const auto& range : ranges) {
    for (size_t i = 0; i < range.bytes.size(); ++i) bytes[range.offset + i] ^= range.bytes[i];
  }
}

TEST_P(StoreConformance, DerivesByCopyAndXor) {
  const size_t size = 10'000, longer = 20'481;  // 3 and 6 audit blocks
  ASSERT_TRUE(put_shard(*store_, "base", size, 7));
  for (const size_t new_size : {size, longer}) {
    const auto name = numbered("derived-", new_size);
    Derivation d{"base", 7, 8, new_size, {}, {}};
    d.data.push_back({4090, contents_of("x", 100)});
    d.data.push_back({4100, contents_of("y", 10)});  // overlaps: both count
    d.data.push_back({new_size - 1, {0x55}});
    d.data.push_back({0, {}});
    d.tags.push_back({16, contents_of("z", 32)});
    const auto reply = derive(*store_, name, d);
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_GE(reply.value().bytes_transferred, 100u);
    Bytes data = contents_of("base", size), tags = contents_of("tags of base", 48);
    data.resize(new_size);
    tags.resize(kFieldBytes * audit_blocks_of(new_size));
    xor_into(data, d.data);
    xor_into(tags, d.tags);
    const auto made = read(*site_->open(), name, {{0, UINT64_MAX}}, true);
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_TRUE(made.value().ranges[0] == data) << new_size;
    EXPECT_EQ(made.value().attributes, shard_attributes(8, tags));
  }
  const auto base = read(*store_, "base", {{0, UINT64_MAX}}, true).value();
  EXPECT_TRUE(base.ranges[0] == contents_of("base", size)) << "the source has changed";
  EXPECT_EQ(base.attributes, shard_attributes(7, contents_of("tags of base", 48)));
}

TEST_P(StoreConformance, DerivesFromDerivedAndEmptyObjects) {
  ASSERT_TRUE(put_shard(*store_, "empty", 0, 1));
  ASSERT_TRUE(derive(*store_, "grown", {"empty", 1, 2, 4097, {{4096, {9}}}, {{16, {1}}}}));
  ASSERT_TRUE(derive(*store_, "same", {"grown", 2, 3, 4097, {}, {}}));
  const auto made = read(*store_, "same", {{0, UINT64_MAX}}, true).value();
  Bytes data(4097), tags(32);
  data[4096] = 9;
  tags[16] = 1;
  EXPECT_EQ(made.ranges[0], data);
  EXPECT_EQ(made.attributes, shard_attributes(3, tags));
}

TEST_P(StoreConformance, RefusesToDerive) {
  ASSERT_TRUE(put_shard(*store_, "base", 5000, 7));
  ASSERT_TRUE(put(*store_, "plain", {1, 2, 3}));
  const Derivation good{"base", 7, 8, 5000, {{0, {1}}}, {{0, {1}}}};
  const auto with = [&](auto change) {
    Derivation d = good;
    change(d);
    return d;
  };
  const auto attempt = [&](auto change) { return derive(*store_, "new", with(change)); };
  EXPECT_FAILS(Errc::corrupt, attempt([](auto& d) { d.source_instance = 6; }));
  EXPECT_FAILS(Errc::corrupt, attempt([](auto& d) { d.source = "plain"; }));
  EXPECT_FAILS(Errc::not_found, attempt([](auto& d) { d.source = "nothing"; }));
  EXPECT_FAILS(Errc::corrupt, attempt([](auto& d) { d.size = 4999; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.instance = 7; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.source = "../base"; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.data[0].offset = 5000; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.data[0].offset = UINT64_MAX; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.tags[0].offset = 32; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.size = kObjectBytesMax + 1; }));
  EXPECT_FAILS(Errc::invalid, attempt([](auto& d) { d.data.resize(kXorRangesMax + 1); }));
  EXPECT_FAILS(Errc::invalid, derive(*store_, "a/b", good));
  EXPECT_FAILS(Errc::not_found, read(*store_, "new", {}));
  EXPECT_FAILS(Errc::exists, derive(*store_, "plain", good));
  EXPECT_FAILS(Errc::exists, derive(*store_, "base", good));
  EXPECT_EQ(read_all(*store_, "plain").value(), (Bytes{1, 2, 3}));
  EXPECT_TRUE(read_all(*store_, "base").value() == contents_of("base", 5000));
  ASSERT_TRUE(derive(*store_, "new", good));
  EXPECT_FAILS(Errc::exists, derive(*store_, "new", good));
}

TEST_P(StoreConformance, CombinesRanges) {
  const Bytes data = contents_of("base", 9000);
  ASSERT_TRUE(put(*store_, "base", data));
  Combination c{{{0, 3001}, {100, 3001}, {8000, 3001}, {1 << 20, 3001}}, {}};
  c.coefficients = {{1, 0, 0, 5}, {2, 3, 0x8e, 1}, {0, 0, 0, 0}, {0, 0, 1, 0}};
  const auto reply = combine(*store_, "base", c);
  ASSERT_TRUE(reply) << reply.error().message();
  ASSERT_EQ(reply.value().outputs.size(), 4u);
  for (size_t j = 0; j < 4; ++j) {
    Bytes expected(3001);
    for (size_t i = 0; i < 4; ++i) {
      for (size_t b = 0; b < 3001; ++b) {
        const uint64_t at = c.ranges[i].offset + b;
        if (at < data.size()) expected[b] ^= gf256_multiply(c.coefficients[j][i], data[at]);
      }
    }
    EXPECT_TRUE(reply.value().outputs[j] == expected) << "output " << j;
  }
  EXPECT_GT(reply.value().bytes_transferred, 0u);

  EXPECT_FAILS(Errc::not_found, combine(*store_, "nothing", c));
  EXPECT_FAILS(Errc::invalid, combine(*store_, "base", {}));
  EXPECT_FAILS(Errc::invalid, combine(*store_, "base", {{{0, 1}, {0, 2}}, {{1, 1}}}));
  EXPECT_FAILS(Errc::invalid, combine(*store_, "base", {{{0, 1}}, {{1, 1}}}));
  EXPECT_FAILS(Errc::invalid, combine(*store_, "base", {{{0, kObjectBytesMax + 1}}, {{1}}}));
  const std::vector<std::vector<uint8_t>> rows(kCombinationOutputsMax + 1, {1});
  EXPECT_FAILS(Errc::invalid, combine(*store_, "base", {{{0, 1}}, rows}));
}

// The answer is what the definition says, whatever is sampled.
TEST_P(StoreConformance, ProvesWhatItHolds) {
  const size_t size = 9 * 4096 + 1000;  // 10 audit blocks
  ASSERT_TRUE(put_shard(*store_, "base", size, 7));
  Bytes data = contents_of("base", size);
  const Bytes tags = contents_of("tags of base", 160);
  data.resize(10 * kAuditBlockBytes);
  for (const uint64_t samples : {0, 1, 4, 12, 99}) {
    AuditChallenge challenge{{}, 12, samples};
    challenge.seed[0] = static_cast<uint8_t>(samples);
    const auto proof = prove(*store_, "base", challenge);
    ASSERT_TRUE(proof) << proof.error().message();
    EXPECT_EQ(proof.value().object_size, size);
    EXPECT_EQ(proof.value().instance, 7u);
    Bytes mu(kAuditBlockBytes);
    FieldElement tag{};
    for (const auto& run : challenged_blocks(challenge, 10)) {
      const auto nu = challenge_coefficients(challenge, run);
      for (uint64_t i = run.first; i < run.first + run.count; ++i) {
        const auto weight = nu[i - run.first];
        for (size_t c = 0; c < kAuditElements; ++c) {
          const auto element = field_element(ByteView(data).subspan(4096 * i + 16 * c));
          const auto product = field_multiply(weight, element);
          for (size_t b = 0; b < 16; ++b) mu[16 * c + b] ^= product[b];
        }
        tag = field_add(tag, field_multiply(weight, field_element(ByteView(tags).subspan(16 * i))));
      }
    }
    EXPECT_TRUE(proof.value().mu == mu) << samples;
    EXPECT_EQ(proof.value().tag, tag) << samples;
    if (!proof.value().at_site && samples == 4) {
      EXPECT_GT(proof.value().bytes_transferred, 2 * 4096u);
    }
  }
}

TEST_P(StoreConformance, RefusesToProve) {
  const AuditChallenge all{{}, 4, 0};
  EXPECT_FAILS(Errc::not_found, prove(*store_, "nothing", all));
  ASSERT_TRUE(put(*store_, "plain", {1, 2, 3}));
  EXPECT_FAILS(Errc::corrupt, prove(*store_, "plain", all));
  ASSERT_TRUE(put(*store_, "few", contents_of("few", 8000), shard_attributes(1, Bytes(16))));
  EXPECT_FAILS(Errc::corrupt, prove(*store_, "few", all));
  ASSERT_TRUE(put_shard(*store_, "base", 8000, 1));
  EXPECT_FAILS(Errc::invalid, prove(*store_, "base", {{}, kAuditBlocksMax + 1, 0}));
  const auto none = prove(*store_, "base", {{}, 0, 0});
  ASSERT_TRUE(none) << none.error().message();
  EXPECT_EQ(none.value().mu, Bytes(kAuditBlockBytes));
}

// Counts the answers of each call of a mixed load, and destroys the store while most are in flight.
TEST_P(StoreConformance, AnswersOnceAlsoWhenDestroyed) {
  constexpr size_t kCalls = 600;
  std::vector<std::atomic<int>> answers(kCalls);
  for (size_t i = 0; i < kCalls; ++i) {
    const auto name = numbered("load-", i / 9);
    const auto count = [&answers, i](auto&&) { ++answers[i]; };
    switch (i % 9) {
      case 0:
        store_->put(name, Payload::from(contents_of(name, 5000)), shard_attributes(1, Bytes(32)),
                    {}, count);
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
      case 6:
        store_->derive(name + "-derived", {name, 1, 2, 5000, {}, {}}, {}, count);
        break;
      case 7:
        store_->combine(name, {{{0, 100}}, {{1}}}, {}, count);
        break;
      case 8:
        store_->prove(name, {}, {}, count);
        break;
    }
  }
  store_.reset();
  for (size_t i = 0; i < kCalls; ++i) EXPECT_EQ(answers[i], 1) << "call " << i;
}

}  // namespace datacloud
