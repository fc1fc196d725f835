// Transactions, commits, durability and opening of the metadata store.
#include <atomic>
#include <future>
#include <map>
#include <vector>

#include "daemon/metadata/leveldb_env.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {
namespace {

using MetadataStoreTest = StoreTest;

std::string numbered(uint64_t i) { return std::string("Z").append(std::to_string(i)); }

std::map<std::string, std::string> scan_all(const Transaction& txn, const std::string& first,
                                            const std::string& end) {
  std::map<std::string, std::string> found;
  std::string previous;
  EXPECT_TRUE(txn.scan(first, end, [&](std::string_view k, std::string_view v) {
    EXPECT_TRUE(found.empty() || previous < k) << "out of order";
    previous = k;
    found[std::string(k)] = v;
    return true;
  }));
  return found;
}

TEST_F(MetadataStoreTest, CreateMakesTheRoot) {
  const auto txn = store_->begin();
  const auto root = get_inode(txn, kRootInode);
  ASSERT_TRUE(root);
  EXPECT_EQ(root.value().mode(), S_IFDIR | 0755u);
  EXPECT_EQ(root.value().nlink(), 2u);
  EXPECT_EQ(root.value().parent(), kRootInode);
  EXPECT_EQ(root.value().policy().code(), "rs-3-2");
  EXPECT_EQ(read_totals(txn).value().inodes, 1u);
}

// A view shows what was committed when it was made, on any thread, whatever is committed meanwhile.
TEST_F(MetadataStoreTest, ViewsAreReadOnOtherThreadsWhileTheStoreChanges) {
  const auto change = [&](uint64_t round) {
    Transaction txn = store_->begin();
    for (uint64_t i = 0; i < 50; ++i) txn.put(numbered(i), std::to_string(round));
    if (round % 2 == 0) txn.erase(numbered(7));
    ASSERT_TRUE(store_->commit(std::move(txn)));
  };
  const auto last = numbered(9) + "~";
  std::vector<std::future<bool>> readers;
  for (uint64_t round = 1; round <= 40; ++round) {
    change(round);
    auto view = store_->view();
    EXPECT_EQ(view->sequence(), store_->sequence());
    readers.push_back(std::async(std::launch::async, [view = std::move(view), round, last] {
      const Transaction txn = view->begin();
      const auto seen = scan_all(txn, numbered(0), last);
      bool right = seen.size() == (round % 2 == 0 ? 49u : 50u);
      for (const auto& [key, value] : seen) right = right && value == std::to_string(round);
      const auto one = txn.get(numbered(3));
      return right && one && one.value() == std::to_string(round);
    }));
  }
  for (auto& reader : readers) EXPECT_TRUE(reader.get());
}

TEST_F(MetadataStoreTest, CreateRefusesAnExistingStore) {
  store_.reset();
  const auto again = MetadataStore::create(options(), test_cloud(), 0, 0);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().is(Errc::exists)) << again.error().message();
}

TEST_F(MetadataStoreTest, OpenSaysWhatToDo) {
  const auto absent = MetadataStore::open({.directory = root_ + "/nothing"});
  ASSERT_FALSE(absent);
  EXPECT_TRUE(absent.error().is(Errc::not_found));
  EXPECT_NE(absent.error().text().find("datacloud create"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(root_ + "/nothing"));

  const auto second = MetadataStore::open(options());
  ASSERT_FALSE(second);
  EXPECT_TRUE(second.error().is(Errc::unavailable)) << second.error().message();
  EXPECT_NE(second.error().text().find("another datacloudd"), std::string::npos);
}

TEST_F(MetadataStoreTest, RefusesAnotherFormat) {
  ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
    pb::Cloud cloud = test_cloud();
    cloud.set_format_version(kMetadataFormatFeatures + 1);
    txn.put(key::meta("cloud"), cloud);
    return success();
  }));
  store_.reset();
  const auto opened = MetadataStore::open(options());
  ASSERT_FALSE(opened);
  EXPECT_TRUE(opened.error().is(Errc::unsupported));
}

TEST_F(MetadataStoreTest, SequencesCountCommits) {
  const Sequence before = store_->sequence();
  auto txn = store_->begin();
  txn.put("Z1", std::string("a"));
  EXPECT_EQ(store_->commit(std::move(txn)).value(), before + 1);
  auto nothing = store_->begin();
  EXPECT_EQ(store_->commit(std::move(nothing)).value(), before + 1);
  open();
  EXPECT_EQ(store_->sequence(), before + 1);
  EXPECT_EQ(store_->begin().get("Z1").value(), "a");
}

TEST_F(MetadataStoreTest, AnUncommittedTransactionLeavesNothing) {
  {
    auto txn = store_->begin();
    txn.put("Z1", std::string("a"));
  }
  EXPECT_EQ(store_->begin().get("Z1").value(), std::nullopt);
}

// A transaction's reads against a plain map that had the same changes.
TEST_F(MetadataStoreTest, ReadsMergeOwnChanges) {
  std::mt19937_64 random(test_seed());
  std::map<std::string, std::string> model;
  const auto key_of = [](uint64_t i) { return numbered(i); };
  for (int round = 0; round < 200; ++round) {
    auto txn = store_->begin();
    auto changed = model;
    for (int step = 0; step < 12; ++step) {
      const std::string k = key_of(random() % 20);
      if (random() % 3 == 0) {
        txn.erase(k);
        changed.erase(k);
      } else {
        changed[k] = std::to_string(random());
        txn.put(k, changed[k]);
      }
      std::string first = key_of(random() % 20), end = key_of(random() % 20);
      if (end < first) std::swap(first, end);
      const std::map<std::string, std::string> expected(changed.lower_bound(first),
                                                        changed.lower_bound(end));
      ASSERT_EQ(scan_all(txn, first, end), expected);
      const auto last = txn.last(first, end).value();
      ASSERT_EQ(last.has_value(), !expected.empty());
      if (last) {
        ASSERT_EQ(*last, (std::pair<std::string, std::string>(*expected.rbegin())));
      }
      const auto it = changed.find(k);
      ASSERT_EQ(txn.get(k).value(), it == changed.end() ? std::nullopt : std::optional(it->second));
    }
    if (random() % 2 == 0) {
      ASSERT_TRUE(store_->commit(std::move(txn)));
      model = changed;
    }
  }
}

TEST_F(MetadataStoreTest, ScansNestAndStop) {
  auto txn = store_->begin();
  for (char c = 'a'; c < 'k'; ++c) txn.put(numbered(c), std::string(1, c));
  ASSERT_TRUE(store_->commit(std::move(txn)));
  const auto view = store_->begin();
  int pairs = 0, seen = 0;
  ASSERT_TRUE(view.scan("Z", "[", [&](std::string_view, std::string_view) {
    EXPECT_TRUE(view.scan("Z", "[", [&](std::string_view, std::string_view) { return ++pairs; }));
    return ++seen < 4;
  }));
  EXPECT_EQ(seen, 4);
  EXPECT_EQ(pairs, 40);
}

TEST_F(MetadataStoreTest, DurabilityIsReportedToEveryWaiter) {
  std::promise<void> all;
  std::atomic<int> answered{0};
  for (int i = 0; i < 50; ++i) {
    auto txn = store_->begin();
    txn.put(numbered(i), std::string("x"));
    const auto sequence = store_->commit(std::move(txn));
    ASSERT_TRUE(sequence);
    store_->when_durable(sequence.value(), [&](result<void> r) {
      EXPECT_TRUE(r);
      if (++answered == 50) all.set_value();
    });
  }
  ASSERT_EQ(all.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_TRUE(store_->wait_durable(1));
  const auto future = store_->wait_durable(store_->sequence() + 1);
  ASSERT_FALSE(future);
  EXPECT_TRUE(future.error().is(Errc::invalid));
}

TEST_F(MetadataStoreTest, DestructionAnswersWaiters) {
  auto txn = store_->begin();
  txn.put("Z", std::string("x"));
  const auto sequence = store_->commit(std::move(txn));
  bool answered = false;
  store_->when_durable(sequence.value(), [&](result<void> r) { answered = r.has_value(); });
  store_.reset();
  EXPECT_TRUE(answered);
}

// What commit() has returned is with the operating system: a copy of the files as they are holds
// it, as the files of a killed process would.
TEST_F(MetadataStoreTest, CommitsSurviveTheProcess) {
  for (int i = 0; i < 1000; ++i) {
    auto txn = store_->begin();
    txn.put(numbered(i), std::string(200, 'x'));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    if (i % 250 != 7) continue;
    const auto copy = root_ + "/copy" + std::to_string(i);
    std::filesystem::copy(options().directory, copy);
    const auto opened = MetadataStore::open({.directory = copy});
    ASSERT_TRUE(opened) << opened.error().message();
    EXPECT_EQ(opened.value()->sequence(), store_->sequence());
    EXPECT_TRUE(opened.value()->begin().get(numbered(i)).value()) << i;
  }
}

TEST_F(MetadataStoreTest, LogSwitchesAndCompactionsKeepEverything) {
  store_.reset();
  auto small = options();
  small.write_buffer_bytes = 64 << 10;
  {
    auto opened = MetadataStore::open(small);
    ASSERT_TRUE(opened);
    for (int i = 0; i < 2000; ++i) {
      auto txn = opened.value()->begin();
      txn.put(numbered(i % 500), std::string(500, static_cast<char>('a' + i % 26)));
      ASSERT_TRUE(opened.value()->commit(std::move(txn)));
    }
  }
  open();
  EXPECT_EQ(scan_all(store_->begin(), "Z", "[").size(), 500u);
  EXPECT_EQ(store_->begin().get(numbered(499)).value(),
            std::string(500, static_cast<char>('a' + 1999 % 26)));
}

TEST_F(MetadataStoreTest, ADamagedRecordIsReported) {
  ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
    txn.put(key::inode(7), std::string("\xff\xff\xff"));
    return success();
  }));
  const auto read = get_inode(store_->begin(), 7);
  ASSERT_FALSE(read);
  EXPECT_TRUE(read.error().is(Errc::corrupt)) << read.error().message();
}

}  // namespace
}  // namespace datacloud
