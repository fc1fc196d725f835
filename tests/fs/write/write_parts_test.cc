// The pure and small parts of the write path: ids, quorum arithmetic, building of stripes, updates.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "common/stripe/placement.h"
#include "common/stripe/write_quorum.h"
#include "fs/write/commit_request.h"
#include "fs/write/id_pool.h"
#include "fs/write/stripe_budget.h"
#include "fs/write/stripe_builder.h"
#include "tests/fs/write/fake_daemon.h"

namespace datacloud {
namespace {

std::shared_ptr<const ErasureCode> code_of(const std::string& profile) {
  auto code = make_erasure_code(profile);
  EXPECT_TRUE(code);
  return code.value();
}

TEST(IdPool, NeverGivesAnIdTwiceAlsoOverRevocations) {
  FakeDaemon daemon;
  IdPool ids(daemon);
  std::mutex mutex;
  std::set<uint64_t> seen;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 2000; ++i) {
        const uint64_t count = 1 + random() % 100;
        const auto first = ids.take(IdKind::instance, count);
        ASSERT_TRUE(first);
        std::lock_guard lock(mutex);
        for (uint64_t id = first.value(); id < first.value() + count; ++id) {
          ASSERT_TRUE(seen.insert(id).second) << id;
        }
        if (i % 500 == 0) ids.revoked();
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(IdPool, RevokedRangesAreNotUsedAnyMore) {
  FakeDaemon daemon;
  IdPool ids(daemon);
  const auto before = ids.take(IdKind::version, 10);
  ids.revoked();
  const auto after = ids.take(IdKind::version, 10);
  ASSERT_TRUE(before && after);
  EXPECT_GE(after.value(), before.value() + 1000);  // of a new grant
  EXPECT_TRUE(ids.take(IdKind::version, 500'000));  // more than one grant's usual size
  EXPECT_FALSE(ids.take(IdKind::version, 0));
}

TEST(WriteQuorum, FollowsTheRule) {
  const auto code = code_of("rs-3-2");
  const QuorumRule rule{.sites_min = 3, .sites_live = 5};
  EXPECT_FALSE(has_write_quorum(*code, {{1, 2, 3, 0, 0}}, rule));
  EXPECT_TRUE(has_write_quorum(*code, {{1, 2, 3, 4, 0}}, rule));
  EXPECT_FALSE(has_write_quorum(*code, {{1, 1, 2, 3, 0}}, rule));  // losing site 1 is too much
  EXPECT_TRUE(has_write_quorum(*code, {{1, 1, 2, 2, 3}}, rule));
  EXPECT_FALSE(has_write_quorum(*code, {{1, 1, 2, 2, 2}}, rule));  // two sites only
  EXPECT_TRUE(has_write_quorum(*code, {{1, 1, 2, 2, 2}}, {.sites_min = 2, .sites_live = 2}));
  EXPECT_FALSE(survives_any_site(*code, {{1, 1, 2, 2, 2}}));
  // One data column: the empty ones count, as many sites as columns are stored.
  const ColumnSet two_empty = 0b110;
  EXPECT_FALSE(has_write_quorum(*code, {{1, 0, 0, 2, 0}, two_empty}, rule));
  EXPECT_TRUE(has_write_quorum(*code, {{1, 0, 0, 2, 3}, two_empty}, rule));
  EXPECT_TRUE(survives_any_site(*code, {{1, 0, 0, 2, 0}, two_empty}));
  const auto plain = code_of("rs-1-0");
  EXPECT_TRUE(has_write_quorum(*plain, {{7}}, {.sites_min = 3, .sites_live = 5}));
}

std::vector<std::shared_ptr<const SealedChunk>> random_chunks(std::mt19937_64& random,
                                                              size_t blocks, size_t bytes_max) {
  std::vector<std::shared_ptr<const SealedChunk>> chunks;
  while (blocks > 0) {
    auto chunk = std::make_shared<SealedChunk>();
    for (size_t n = 1 + random() % 5; n > 0 && blocks > 0; --n, --blocks) {
      chunk->lengths.push_back(static_cast<uint32_t>(1 + random() % bytes_max));
      const size_t begin = chunk->bytes.size();
      chunk->bytes.resize(begin + chunk->lengths.back());
      for (size_t i = begin; i < chunk->bytes.size(); i += sizeof(uint64_t)) {
        const uint64_t eight = random();
        std::memcpy(&chunk->bytes[i], &eight, std::min(sizeof(eight), chunk->bytes.size() - i));
      }
    }
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

Bytes joined(const Payload& payload) {
  Bytes bytes;
  for (const auto& part : payload.parts) bytes.insert(bytes.end(), part.begin(), part.end());
  return bytes;
}

TEST(StripeBuilder, ColumnsHoldTheBlocksAndParityIsThatOfWholeColumns) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const char* profiles[] = {"rs-3-2", "rs-1-0",    "rs-1-2",     "rs-4-1",  "rs-2-0",
                            "rs-8-3", "basic-4-8", "basic-8-16", "msr-5-3", "msr-8-4"};
  for (int round = 0; round < 60; ++round) {
    const auto code = code_of(profiles[random() % std::size(profiles)]);
    const auto chunks = random_chunks(random, 1 + random() % 60, round % 2 ? 200'000 : 500);
    auto built = lay_out_columns(*code, chunks, random() % 2 ? 0 : 4096);
    ASSERT_TRUE(built) << built.error().message();
    std::vector<Bytes> seen(static_cast<size_t>(code->n()));
    encode_parity(*code, built.value(), [&](size_t c, ByteView bytes) {
      seen[c].insert(seen[c].end(), bytes.begin(), bytes.end());
    });
    encode_parity(*code, built.value(), [](size_t, ByteView) { FAIL() << "it is there already"; });
    const size_t length = built.value().layout.parity_length;
    std::vector<Bytes> columns;
    for (const auto& payload : built.value().columns) {
      columns.push_back(joined(payload));
      EXPECT_TRUE(columns.back().empty() || payload.owner);
      const bool all = code->packets() == 1 && code->m() > 0;
      EXPECT_TRUE(seen[columns.size() - 1] == (all ? columns.back() : Bytes())) << columns.size();
    }
    size_t slot = 0;
    for (const auto& chunk : chunks) {
      size_t offset = 0;
      for (const uint32_t bytes : chunk->lengths) {
        const Slot& s = built.value().layout.slots[slot++];
        ASSERT_TRUE(std::equal(columns[s.column].begin() + s.offset,
                               columns[s.column].begin() + s.offset + bytes,
                               chunk->bytes.begin() + static_cast<ptrdiff_t>(offset)));
        offset += bytes;
      }
    }
    for (auto& column : columns) column.resize(length);
    const std::vector<ByteView> data(columns.begin(), columns.begin() + code->k());
    std::vector<Bytes> parity(static_cast<size_t>(code->m()), Bytes(length));
    if (code->m() > 0) code->encode(data, {parity.begin(), parity.end()});
    for (int p = 0; p < code->m(); ++p) {
      ASSERT_EQ(parity[static_cast<size_t>(p)], columns[static_cast<size_t>(code->k() + p)]);
    }
  }
}

std::shared_ptr<WriteUnit> unit_of(const std::vector<uint64_t>& blocks) {
  auto unit = std::make_shared<WriteUnit>();
  unit->flush.ino = 9;
  unit->flush.block_bytes = 4096;
  for (const uint64_t block : blocks) {
    unit->flush.blocks.push_back({block, std::make_shared<const Bytes>(4096)});
  }
  unit->flush.size = blocks.empty() ? 0 : blocks.back() * 4096 + 10;
  unit->flush.truncate_to = 7;
  unit->flush.mtime = from_ns(8);
  return unit;
}

TEST(CommitRequest, RunsAreMaximalAndPiecesGrowPrefixes) {
  const auto unit = unit_of({3, 4, 5, 9, 10});
  const Piece first{.unit = unit, .first = 0, .count = 4, .first_slot = 20, .version = 100};
  const Piece last{.unit = unit, .first = 4, .count = 1, .first_slot = 0, .version = 200};
  const auto a = update_of(first, 77), b = update_of(last, 78);
  ASSERT_EQ(a.runs_size(), 2);
  EXPECT_EQ(a.runs(0).count(), 3u);
  EXPECT_EQ(a.runs(1).first_block(), 9u);
  EXPECT_EQ(a.runs(1).first_slot(), 23u);
  EXPECT_EQ(a.runs(1).version(), 103u);
  EXPECT_EQ(a.truncate_to(), 7u);
  EXPECT_EQ(a.mtime_ns(), 8);
  EXPECT_EQ(a.grow_to(), 10u * 4096);
  EXPECT_FALSE(b.has_truncate_to());
  EXPECT_FALSE(b.has_mtime_ns());
  EXPECT_EQ(b.grow_to(), 10u * 4096 + 10);
}

TEST(StripeBudget, StripesOfSmallShardsShareAPlace) {
  StripeBudget budget(2, 100);
  EXPECT_TRUE(budget.try_acquire());
  for (uint32_t i = 0; i < kStripesPerPlace; ++i) EXPECT_TRUE(budget.try_acquire(64 << 10)) << i;
  EXPECT_FALSE(budget.try_acquire(64 << 10));
  budget.release(64 << 10);
  EXPECT_FALSE(budget.try_acquire(1 << 20));  // takes as much as two of them
  budget.release(64 << 10);
  EXPECT_TRUE(budget.try_acquire(1 << 20));
  budget.release();
  EXPECT_FALSE(budget.try_acquire(8u << 20) && budget.try_acquire()) << "one place, whatever more";
}

TEST(StripeBudgetDeathTest, WhatIsGivenBackTwiceEndsTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  StripeBudget budget(2, 100);
  ASSERT_TRUE(budget.try_acquire());
  budget.release();
  EXPECT_DEATH(budget.release(), "");
  EXPECT_DEATH(budget.late_ends(1, 10), "");
}

TEST(StripeBudget, LatePutsHoldBackStripesAndMarkTheSite) {
  StripeBudget budget(2, 100);
  EXPECT_TRUE(budget.try_acquire());
  budget.late_begins(3, 60);
  EXPECT_TRUE(budget.try_acquire());
  EXPECT_FALSE(budget.try_acquire());
  budget.release();
  budget.late_begins(3, 60);
  EXPECT_FALSE(budget.try_acquire());
  EXPECT_FALSE(budget.slow(3));
  for (int i = 2; i < kLatePutsMax; ++i) budget.late_begins(3, 0);
  EXPECT_TRUE(budget.slow(3));
  EXPECT_FALSE(budget.wait_no_late(milliseconds(1)));
  for (int i = 2; i < kLatePutsMax; ++i) budget.late_ends(3, 0);
  budget.late_ends(3, 60);
  budget.late_ends(3, 60);
  EXPECT_TRUE(budget.wait_no_late(milliseconds(1)));
  EXPECT_TRUE(budget.try_acquire());
}

}  // namespace
}  // namespace datacloud
