// Reading files: maps fetched once, holes, shared fetches, readahead, outdated maps, races.
#include "fs/read/block_reader.h"

#include "tests/fs/read/fake_map_daemon.h"
#include "tests/fs/read/read_rig.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlock = 4096;

class BlockReaderTest : public testing::Test {
 protected:
  explicit BlockReaderTest(MountConfig config = {}) : rig(config) { open(64u << 20, config); }

  void open(uint64_t cache_bytes, MountConfig config) {
    reader.reset();
    cache = std::make_unique<BlockCache>(cache_bytes);
    reader = std::make_unique<BlockReader>(
        BlockReader::Dependencies{daemon, *cache, *rig.reader, *rig.sites, config});
  }

  // A file of `blocks` random blocks in stripes of at most `per_stripe`.
  std::vector<Bytes> make_file(InodeId ino, uint64_t first, size_t blocks, size_t per_stripe = 9) {
    std::vector<Bytes> plain = rig.random_blocks(random, blocks, kBlock);
    for (size_t i = 0; i < blocks; i += per_stripe) {
      const size_t n = std::min(per_stripe, blocks - i);
      const ContentVersion version = next_version;
      next_version += n;
      stripes.push_back(rig.make_stripe(++next_stripe, ino, first + i, version,
                                        {plain.begin() + i, plain.begin() + i + n}));
      daemon.map(ino, first + i, static_cast<uint32_t>(n), version, *stripes.back().record);
    }
    return plain;
  }
  FileRef ref(InodeId ino, uint64_t blocks) { return {ino, 0, kBlock, blocks * kBlock}; }
  void expect_blocks(const FileRef& file, uint64_t first, const std::vector<Bytes>& plain,
                     uint32_t ahead = 0) {
    std::vector<BlockRange> further{{first + plain.size(), ahead}};
    const auto got = reader->read(file, first, static_cast<uint32_t>(plain.size()), further);
    EXPECT_TRUE(further.empty());
    ASSERT_TRUE(got) << got.error().message();
    ASSERT_EQ(got.value().size(), plain.size());
    for (size_t i = 0; i < plain.size(); ++i) {
      ASSERT_TRUE(got.value()[i]) << "block " << first + i << " is a hole";
      ASSERT_TRUE(*got.value()[i] == plain[i]) << "block " << first + i;
    }
  }
  uint64_t all_reads() {
    uint64_t sum = 0;
    for (int s = 0; s < 5; ++s) sum += rig.reads(s);
    return sum;
  }

  std::mt19937_64 random{test_seed()};
  ReadRig rig;
  FakeMapDaemon daemon;
  std::unique_ptr<BlockCache> cache;
  std::unique_ptr<BlockReader> reader;
  std::vector<ReadRig::Made> stripes;
  StripeId next_stripe = 10;
  ContentVersion next_version = 1000;
};

TEST_F(BlockReaderTest, WholeFileWithOneMapRequestThenFromTheCache) {
  const auto plain = make_file(5, 0, 60);
  expect_blocks(ref(5, 60), 0, plain);
  EXPECT_EQ(daemon.requests(), 1);
  const uint64_t reads = all_reads();
  expect_blocks(ref(5, 60), 0, plain);
  EXPECT_EQ(all_reads(), reads);
  EXPECT_EQ(daemon.requests(), 1);
}

TEST_F(BlockReaderTest, HolesAreNullAndAskNothingTwice) {
  const auto plain = make_file(5, 10, 9);
  const auto file = ref(5, 500);
  const auto got = reader->read(file, 5, 30);
  ASSERT_TRUE(got);
  for (uint64_t i = 0; i < 30; ++i) {
    const bool mapped = i + 5 >= 10 && i + 5 < 19;
    ASSERT_EQ(got.value()[i] != nullptr, mapped) << i;
    if (mapped) {
      ASSERT_TRUE(*got.value()[i] == plain[i - 5]);
    }
  }
  const auto hole = reader->read(file, 100, 400);
  ASSERT_TRUE(hole);
  for (const auto& b : hole.value()) ASSERT_FALSE(b);
  EXPECT_EQ(daemon.requests(), 1);
}

TEST_F(BlockReaderTest, ConcurrentReadersShareOneFetch) {
  const auto plain = make_file(5, 0, 3, 3);
  rig.set_reading(0, {Fault::Kind::delay, {}, milliseconds(60)});
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) threads.emplace_back([&] { expect_blocks(ref(5, 3), 0, plain); });
  for (auto& t : threads) t.join();
  EXPECT_EQ(daemon.requests(), 1);
  EXPECT_EQ(all_reads(), 3u);
}

TEST_F(BlockReaderTest, ReadaheadFillsTheCacheAndStopsAtTheSize) {
  const auto plain = make_file(5, 0, 90, 30);
  const auto file = ref(5, 60);
  expect_blocks(file, 0, {plain.begin(), plain.begin() + 4}, 100);
  for (int i = 0; i < 200 && cache->bytes() < 60 * kBlock; ++i)
    std::this_thread::sleep_for(milliseconds(5));
  const uint64_t reads = all_reads();
  expect_blocks(file, 4, {plain.begin() + 4, plain.begin() + 60});
  EXPECT_EQ(all_reads(), reads);
  EXPECT_LT(cache->bytes(), 64 * (kBlock + 512));
}

// The map is known, and asked for, in windows of 1024 blocks.
TEST_F(BlockReaderTest, ReadaheadThatCannotStartIsHandedBack) {
  const auto plain = make_file(5, 0, 1100, 50);
  const auto file = ref(5, 1100);
  std::vector<BlockRange> ahead{{1000, 20}, {1020, 60}, {1090, 500}};
  ASSERT_TRUE(reader->read(file, 0, 1, ahead));
  // What the next window's map is needed for: the last range too, unless the map has come already.
  ASSERT_FALSE(ahead.empty());
  EXPECT_EQ(ahead[0], (BlockRange{1024, 56}));
  if (ahead.size() > 1) {
    EXPECT_EQ(ahead[1], (BlockRange{1090, 500}));
  }
  for (int i = 0; i < 2000 && !ahead.empty(); ++i) {  // its map comes in the background
    ASSERT_TRUE(reader->read(file, 0, 1, ahead));
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_TRUE(ahead.empty());
  for (int i = 0; i < 2000 && cache->bytes() < 91 * kBlock; ++i)
    std::this_thread::sleep_for(milliseconds(5));
  const uint64_t reads = all_reads();
  expect_blocks(file, 1000, {plain.begin() + 1000, plain.begin() + 1080});
  expect_blocks(file, 1090, {plain.begin() + 1090, plain.end()});
  EXPECT_EQ(all_reads(), reads);
}

TEST_F(BlockReaderTest, CacheStaysWithinItsBound) {
  open(16 * 10 * kBlock, {});
  const auto plain = make_file(5, 0, 400, 30);
  for (uint64_t i = 0; i < 400; i += 20)
    expect_blocks(ref(5, 400), i, {plain.begin() + i, plain.begin() + i + 20});
  EXPECT_LE(cache->bytes(), 16u * 10 * kBlock);
  EXPECT_GT(cache->bytes(), 0u);
}

// Background work moved a stripe to new instances and the old ones are gone.
TEST_F(BlockReaderTest, AnOutdatedMapIsRefetchedOnce) {
  const auto plain = make_file(5, 0, 9);
  const auto got = reader->read(ref(5, 9), 0, 1);
  ASSERT_TRUE(got);
  pb::Stripe moved = *stripes[0].record;
  for (int c = 0; c < 5; ++c) {
    moved.mutable_shards(c)->set_instance(5000 + c);
    rig.put(rig.name(moved, c), c, stripes[0].shards[c]);
    rig.remove(*stripes[0].record, c);
  }
  daemon.replace(moved);
  expect_blocks(ref(5, 9), 0, plain);
  EXPECT_EQ(daemon.requests(), 2);
  EXPECT_TRUE(rig.take_damage().empty());
}

TEST_F(BlockReaderTest, ALostShardIsDecodedAndReportedWithoutAskingAgain) {
  const auto plain = make_file(5, 0, 9);
  rig.remove(*stripes[0].record, 0);
  expect_blocks(ref(5, 9), 0, {plain.begin(), plain.begin() + 1});
  EXPECT_EQ(daemon.requests(), 2);
  const std::map<int, std::string> lost{{0, "missing"}};
  EXPECT_EQ(rig.take_damage(), lost);
  expect_blocks(ref(5, 9), 1, {plain.begin() + 1, plain.end()});
  EXPECT_LE(daemon.requests(), 3);
  const int requests = daemon.requests();
  open(64u << 20, {});
  expect_blocks(ref(5, 9), 0, plain);
  EXPECT_EQ(daemon.requests(), requests + 2);  // a new reader learns the same way
}

TEST_F(BlockReaderTest, TooManySitesAwayFailsAtOnceAndHeals) {
  const auto plain = make_file(5, 0, 9);
  for (const int s : {0, 1, 3}) rig.controls[s].set_away(true);
  const auto begin = monotonic_now();
  const auto got = reader->read(ref(5, 9), 0, 9);
  EXPECT_LT(monotonic_now() - begin, seconds(1));
  ASSERT_FALSE(got);
  EXPECT_TRUE(got.error().is(Errc::unavailable));
  EXPECT_NE(got.error().text().find("site2"), std::string::npos) << got.error().text();
  EXPECT_NE(got.error().text().find("inode 5 block 0"), std::string::npos) << got.error().text();
  for (const int s : {0, 1, 3}) rig.controls[s].set_away(false);
  rig.sites->check_all(seconds(1));
  expect_blocks(ref(5, 9), 0, plain);
}

TEST_F(BlockReaderTest, AThirdSiteGoesAsAnotherComesBack) {
  const auto plain = make_file(5, 0, 9);
  for (const int s : {0, 1}) rig.controls[s].set_away(true);
  rig.sites->check_all(seconds(1));
  rig.controls[1].set_away(false);  // which no one has noticed yet, nor the next
  rig.controls[2].set_away(true);
  expect_blocks(ref(5, 9), 0, plain);
}

TEST_F(BlockReaderTest, DaemonErrorsAreReturned) {
  make_file(5, 0, 9);
  daemon.fail_with(Error(Errc::unavailable, "no daemon"));
  const auto got = reader->read(ref(5, 9), 0, 1);
  ASSERT_FALSE(got);
  EXPECT_TRUE(got.error().is(Errc::unavailable));
  daemon.fail_with(std::nullopt);
  EXPECT_TRUE(reader->read(ref(5, 9), 0, 1));
}

TEST_F(BlockReaderTest, OwnCommitsAndTruncatesNeedNoDaemon) {
  make_file(5, 0, 9);
  const auto file = ref(5, 100);
  ASSERT_TRUE(reader->read(file, 0, 9));
  const int requests = daemon.requests();
  // Overwrites blocks 4 and 5; the daemon's map keeps its old answer on purpose.
  const auto fresh = rig.random_blocks(random, 2, kBlock);
  const auto made = rig.make_stripe(99, 5, 4, 7000, fresh);
  pb::Run run;
  run.set_first_block(4);
  run.set_count(2);
  run.set_stripe(99);
  run.set_version(7000);
  reader->committed(5, {run}, {made.record});
  expect_blocks(file, 4, fresh);
  reader->truncated(5, 5);
  const auto got = reader->read(file, 4, 90);
  ASSERT_TRUE(got);
  EXPECT_TRUE(*got.value()[0] == fresh[0]);
  for (size_t i = 1; i < 90; ++i) ASSERT_FALSE(got.value()[i]) << i;
  EXPECT_EQ(daemon.requests(), requests);
}

// A reply made before the mount's own commit arrives after it.
TEST_F(BlockReaderTest, AnOldReplyDoesNotUndoACommit) {
  make_file(5, 0, 9);
  const auto fresh = rig.random_blocks(random, 2, kBlock);
  const auto made = rig.make_stripe(99, 5, 4, 7000, fresh);
  daemon.before_reply([&] {
    pb::Run run;
    run.set_first_block(4);
    run.set_count(2);
    run.set_stripe(99);
    run.set_version(7000);
    reader->committed(5, {run}, {made.record});
    reader->truncated(5, 7);
  });
  const auto got = reader->read(ref(5, 9), 0, 9);
  daemon.before_reply(nullptr);
  ASSERT_TRUE(got);
  EXPECT_TRUE(*got.value()[4] == fresh[0]);
  EXPECT_TRUE(*got.value()[5] == fresh[1]);
  EXPECT_TRUE(got.value()[6]);
  EXPECT_FALSE(got.value()[7]);
}

TEST_F(BlockReaderTest, AReplyOlderThanAnInvalidationIsNotKept) {
  make_file(5, 0, 3, 3);
  std::vector<Bytes> fresh;
  std::atomic<bool> raced{false};
  daemon.before_reply([&] {
    if (raced.exchange(true)) return;
    reader->invalidate(5);  // recalled: another mount writes now
    fresh = make_file(5, 0, 3, 3);
  });
  const auto got = reader->read(ref(5, 3), 0, 3);
  daemon.before_reply(nullptr);
  ASSERT_TRUE(got) << got.error().message();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(*got.value()[i] == fresh[i]) << i;
  EXPECT_EQ(daemon.requests(), 2);
}

TEST_F(BlockReaderTest, NextMapped) {
  make_file(5, 10, 9);
  make_file(5, 5'000'000, 2);
  const auto file = ref(5, 6'000'000);
  const auto next = [&](uint64_t from, uint64_t end, bool mapped) {
    return reader->next_mapped(file, from, end, mapped).value();
  };
  EXPECT_EQ(next(0, 6'000'000, true), 10u);
  EXPECT_EQ(next(12, 6'000'000, true), 12u);
  EXPECT_EQ(next(12, 6'000'000, false), 19u);
  EXPECT_EQ(next(0, 6'000'000, false), 0u);
  EXPECT_EQ(next(19, 6'000'000, true), 5'000'000u);
  EXPECT_EQ(next(5'000'001, 5'000'002, false), 5'000'002u);
  EXPECT_EQ(next(5'000'002, 6'000'000, true), 6'000'000u);
  EXPECT_EQ(next(7, 7, true), 7u);
  EXPECT_LT(daemon.requests(), 20);
}

// Readers, commits, truncates and invalidations at once; every block read is one of the versions
// it had. Data races are for the thread sanitizer to find.
TEST_F(BlockReaderTest, EverythingAtOnce) {
  const auto old_plain = make_file(5, 0, 30);
  const auto new_plain = rig.random_blocks(random, 30, kBlock);
  const auto made = rig.make_stripe(99, 5, 0, 7000, new_plain);
  pb::Run run;
  run.set_count(30);
  run.set_stripe(99);
  run.set_version(7000);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      std::mt19937_64 own(t);
      while (!stop) {
        const uint64_t first = own() % 20;
        std::vector<BlockRange> further{{first + 10, 20}};
        const auto got = reader->read(ref(5, 30), first, 10, further);
        ASSERT_TRUE(got) << got.error().message();
        for (size_t i = 0; i < 10; ++i) {
          const auto& b = got.value()[i];
          ASSERT_TRUE(!b || *b == old_plain[first + i] || *b == new_plain[first + i]);
        }
      }
    });
  for (int i = 0; i < 150; ++i) {
    if (i == 50) daemon.map(5, 0, 30, 7000, *made.record);
    if (i > 50 && i % 5 == 0) reader->committed(5, {run}, {made.record});
    if (i % 7 == 0) reader->invalidate(5);
    if (i % 40 == 39) reader->truncated(5, 25);
    std::this_thread::sleep_for(milliseconds(2));
  }
  stop = true;
  for (auto& t : threads) t.join();
  reader->invalidate(5);
  expect_blocks(ref(5, 30), 0, new_plain);
}

TEST_F(BlockReaderTest, RandomHarmToWholeFiles) {
  for (int round = 0; round < 8; ++round) {
    const InodeId ino = 100 + round;
    const size_t from = stripes.size();
    const auto plain = make_file(ino, 0, 80, 1 + random() % 40);
    for (size_t s = from; s < stripes.size(); ++s) {
      const int a = static_cast<int>(random() % 5), b = static_cast<int>(random() % 5);
      for (const int c : {a, b}) {
        const auto& shard = stripes[s].shards[c];
        if (shard.empty()) continue;
        if (random() % 2)
          rig.overwrite(*stripes[s].record, c, ReadRig::random_bytes(random, shard.size()));
        else if (c == a)
          rig.remove(*stripes[s].record, c);
        if (c == b && a == b) break;
      }
    }
    for (uint64_t i = 0; i < 80; i += 16)
      expect_blocks(ref(ino, 80), i, {plain.begin() + i, plain.begin() + i + 16}, 40);
  }
}

TEST(BlockCacheTest, OneVersionPerBlock) {
  BlockCache cache(1u << 20);
  const auto bytes = std::make_shared<const Bytes>(100, 1);
  cache.put(1, 2, 3, bytes);
  EXPECT_EQ(cache.get(1, 2, 3), bytes);
  EXPECT_EQ(cache.get(1, 2, 4), nullptr);
  EXPECT_EQ(cache.get(2, 2, 3), nullptr);
  const auto newer = std::make_shared<const Bytes>(100, 2);
  cache.put(1, 2, 4, newer);
  EXPECT_EQ(cache.get(1, 2, 3), nullptr);
  EXPECT_EQ(cache.get(1, 2, 4), newer);
  cache.put(9, 9, 9, std::make_shared<const Bytes>(2u << 20));  // larger than the cache
  EXPECT_EQ(cache.get(9, 9, 9), nullptr);
}

}  // namespace
}  // namespace datacloud
