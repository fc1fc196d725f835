// The map cache against a model: whatever it claims to know is true, in any order of requests,
// replies, commits, truncates, invalidations and evictions.
#include "fs/read/block_map_cache.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "fs/read/shard_ranges.h"

namespace datacloud {
namespace {

constexpr uint64_t kBlocks = 60;

uint64_t seed() {
  const char* text = std::getenv("DATACLOUD_SEED");
  const uint64_t s = text ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu (DATACLOUD_SEED)\n", static_cast<unsigned long long>(s));
  return s;
}

std::shared_ptr<pb::Stripe> stripe(StripeId id, int slots) {
  auto s = std::make_shared<pb::Stripe>();
  s->set_id(id);
  for (int i = 0; i < slots; ++i) {
    s->add_slot_column(0);
    s->add_slot_offset(static_cast<uint32_t>(i));
    s->add_slot_length(1);
  }
  return s;
}

pb::Run run(uint64_t first, uint32_t count, StripeId id, ContentVersion version) {
  pb::Run r;
  r.set_first_block(first);
  r.set_count(count);
  r.set_stripe(id);
  r.set_version(version);
  return r;
}

// Block -> content version; absent: a hole. In this model a stripe's id is the version of its
// slot 0, so the version tells stripe and slot.
using Truth = std::map<uint64_t, ContentVersion>;

struct Model {
  struct UnderWay {
    InodeId ino;
    BlockMapCache::Ticket ticket;
    pb::MapRequest request;
    pb::MapReply reply;
  };
  explicit Model(uint64_t s, uint64_t bytes_max) : random(s), cache(bytes_max) {}

  void begin(InodeId ino) {
    UnderWay u{ino, cache.begin(ino), {}, {}};
    u.request.set_ino(ino);
    u.request.set_first_block(random() % kBlocks);
    u.request.set_blocks(static_cast<uint32_t>(1 + random() % kBlocks));
    const uint64_t end = u.request.first_block() + u.request.blocks();
    std::map<StripeId, bool> named;
    auto& stored = daemon[ino];
    for (auto it = stored.lower_bound(u.request.first_block());
         it != stored.end() && it->first < end; ++it) {
      const StripeId id = it->second / 100 * 100;
      pb::Run r = run(it->first, 1, id, it->second);
      r.set_first_slot(static_cast<uint32_t>(it->second - id));
      *u.reply.add_runs() = r;
      if (named.emplace(id, true).second) *u.reply.add_stripes() = *stripe(id, 100);
    }
    under_way.push_back(std::move(u));
  }
  void end() {
    const size_t i = random() % under_way.size();
    UnderWay u = std::move(under_way[i]);
    under_way.erase(under_way.begin() + static_cast<long>(i));
    const bool lost = random() % 8 == 0;
    ASSERT_TRUE(cache.end(u.ino, u.ticket, u.request, lost ? nullptr : &u.reply));
  }
  void commit(InodeId ino) {
    const uint64_t first = random() % kBlocks;
    const auto count = static_cast<uint32_t>(1 + random() % 12);
    const ContentVersion version = ++ids * 100;
    for (uint32_t i = 0; i < count; ++i) own[ino][first + i] = version + i;
    daemon[ino] = own[ino];
    cache.committed(ino, {run(first, count, version, version)}, {stripe(version, 100)});
  }
  // The daemon hears of it with the next commit.
  void truncate(InodeId ino) {
    const uint64_t first = random() % kBlocks;
    own[ino].erase(own[ino].lower_bound(first), own[ino].end());
    cache.truncated(ino, first);
  }
  void recall(InodeId ino) {
    daemon[ino] = own[ino];
    cache.invalidate(ino);
    // Another mount writes.
    const uint64_t first = random() % kBlocks;
    for (int i = 0; i < 5; ++i) daemon[ino][first + i] = ++ids * 100;
    own[ino] = daemon[ino];
  }
  void check(InodeId ino) {
    const uint64_t first = random() % kBlocks;
    const auto known = cache.lookup(ino, first, kBlocks);
    for (size_t i = 0; i < known.size(); ++i) {
      const auto it = own[ino].find(first + i);
      ASSERT_EQ(known[i].stripe != nullptr, it != own[ino].end()) << "block " << first + i;
      if (!known[i].stripe) continue;
      ASSERT_EQ(known[i].version, it->second);
      ASSERT_EQ(known[i].stripe->record->id() + known[i].slot, it->second);
    }
    ASSERT_GE(cache.known_end(ino, first), first + known.size());
    for (const bool mapped : {true, false}) {
      const auto found = cache.find(ino, first, first + kBlocks, mapped);
      uint64_t expected = first;
      while (expected < found.known_end && (own[ino].count(expected) > 0) != mapped) ++expected;
      ASSERT_EQ(found.found, expected);
    }
  }

  std::mt19937_64 random;
  BlockMapCache cache;
  std::map<InodeId, Truth> own, daemon;
  std::vector<UnderWay> under_way;
  uint64_t ids = 0;
};

TEST(BlockMapCache, NeverContradictsTheTruth) {
  const uint64_t s = seed();
  for (const uint64_t bytes_max : {uint64_t{64} << 20, uint64_t{20'000}, uint64_t{3'000}}) {
    Model model(s, bytes_max);
    size_t known = 0;
    for (int step = 0; step < 20'000; ++step) {
      const InodeId ino = 1 + model.random() % 4;
      switch (model.random() % 12) {
        case 0:
          model.commit(ino);
          break;
        case 1:
          if (model.random() % 4 == 0) model.truncate(ino);
          break;
        case 2:
          if (model.random() % 4 == 0) model.recall(ino);
          break;
        case 3: {
          const uint64_t first = model.random() % kBlocks;
          model.cache.forget(ino, first, first + model.random() % 10);
          break;
        }
        case 4:
        case 5:
        case 6:
          if (model.under_way.size() < 6) model.begin(ino);
          break;
        case 7:
        case 8:
          if (!model.under_way.empty()) model.end();
          break;
        default:
          model.check(ino);
          known += model.cache.lookup(ino, 0, kBlocks).size();
      }
      if (testing::Test::HasFatalFailure()) FAIL() << "step " << step << " bound " << bytes_max;
      // One reply or commit is kept whatever the bound.
      ASSERT_LE(model.cache.bytes(), bytes_max + 2 * kBlocks * 500);
    }
    EXPECT_GT(known, 200u);  // else nothing was compared
  }
}

TEST(BlockMapCache, ContradictoryRepliesAreRefused) {
  BlockMapCache cache(1u << 20);
  pb::MapRequest request;
  request.set_ino(1);
  request.set_blocks(100);
  const auto refused = [&](const pb::Run& r, bool with_stripe) {
    pb::MapReply reply;
    *reply.add_runs() = r;
    if (with_stripe) *reply.add_stripes() = *stripe(7, 10);
    const auto ticket = cache.begin(1);
    return !cache.end(1, ticket, request, &reply);
  };
  EXPECT_TRUE(refused(run(0, 5, 7, 1), false));
  EXPECT_TRUE(refused(run(0, 11, 7, 1), true));
  EXPECT_TRUE(refused(run(0, 0, 7, 1), true));
  EXPECT_TRUE(refused(run(UINT64_MAX, 5, 7, 1), true));
  EXPECT_FALSE(refused(run(0, 10, 7, 1), true));
}

pb::SealedPiece piece(uint64_t block, uint64_t version, bool patch, const std::string& sealed) {
  pb::SealedPiece out;
  out.set_block(block);
  out.set_version(version);
  out.set_patch(patch);
  out.set_sealed(sealed);
  return out;
}
pb::Run patched_run() {
  pb::Run out = run(1, 1, 100, 100);
  out.set_patches(2);
  return out;
}
pb::Run inline_run() {
  pb::Run out = run(2, 1, 0, 200);
  out.set_inline_(true);
  return out;
}
pb::MapRequest four_blocks() {
  pb::MapRequest request;
  request.set_ino(5);
  request.set_blocks(4);
  return request;
}

// The bytes in the stripe are not the newest, and zeros would be wrong as well.
TEST(BlockMapCache, AReplyThatLacksBytesOfTheRecordsIsRefused) {
  const std::vector<std::vector<pb::SealedPiece>> wrong = {
      {},
      {piece(1, 101, true, "a")},
      {piece(1, 102, true, "b"), piece(1, 101, true, "a"), piece(2, 200, false, "c")},
      {piece(1, 100, true, "a"), piece(1, 101, true, "b"), piece(2, 200, false, "c")},
      {piece(1, 101, true, "a"), piece(1, 102, true, "b"), piece(2, 201, false, "c")},
      {piece(1, 101, true, "a"), piece(1, 102, true, "b"), piece(1, 103, true, "d"),
       piece(2, 200, false, "c")},
      {piece(1, 101, true, "a"), piece(1, 102, true, "b"), piece(2, 200, false, "c"),
       piece(3, 9, true, "d")},
  };
  for (const auto& pieces : wrong) {
    BlockMapCache cache(1 << 20);
    pb::MapReply reply;
    *reply.add_stripes() = *stripe(100, 4);
    *reply.add_runs() = patched_run();
    *reply.add_runs() = inline_run();
    for (const auto& p : pieces) *reply.add_pieces() = p;
    const auto refused = cache.end(5, cache.begin(5), four_blocks(), &reply);
    ASSERT_FALSE(refused) << pieces.size() << " pieces";
    EXPECT_TRUE(refused.error().is(Errc::corrupt));
    EXPECT_EQ(cache.known_end(5, 0), 0u) << "nothing of the reply is believed";
  }
}

TEST(BlockMapCache, BytesOfTheRecordsComeWithTheirBlocksAndOwnCommitsAddToThem) {
  BlockMapCache cache(1 << 20);
  pb::MapReply reply;
  *reply.add_stripes() = *stripe(100, 4);
  *reply.add_runs() = patched_run();
  *reply.add_runs() = inline_run();
  for (const auto& p :
       {piece(1, 101, true, "a"), piece(1, 102, true, "b"), piece(2, 200, false, "c")})
    *reply.add_pieces() = p;
  const uint64_t empty = cache.bytes();
  ASSERT_TRUE(cache.end(5, cache.begin(5), four_blocks(), &reply).value());
  auto at = cache.lookup(5, 0, 4);
  ASSERT_EQ(at.size(), 4u);
  EXPECT_EQ(at[1].newest(), 102u);
  EXPECT_FALSE(at[1].in_records());
  EXPECT_TRUE(at[2].in_records());
  EXPECT_EQ(at[2].records->block, "c");
  pb::Run patch;
  patch.set_first_block(2);
  patch.set_count(1);
  patch.set_version(300);
  patch.set_patches(1);
  cache.committed(5, {patch}, {}, {piece(2, 300, true, std::string(5000, 'd'))});
  at = cache.lookup(5, 2, 1);
  EXPECT_EQ(at[0].newest(), 300u);
  EXPECT_EQ(at[0].version, 200u);
  EXPECT_GT(cache.bytes(), empty + 5000) << "bytes count for the bound";
  patch.set_first_block(9);
  cache.committed(5, {patch}, {}, {piece(9, 300, true, "d")});
  EXPECT_EQ(cache.known_end(5, 9), 9u) << "what it changes is not known here";
  cache.committed(5, {run(2, 1, 7, 400)}, {stripe(7, 10)});
  EXPECT_FALSE(cache.lookup(5, 2, 1)[0].records);
  cache.invalidate(5);
  EXPECT_LE(cache.bytes(), empty);
}

TEST(BlockMapCache, EqualRecordsAreOneObject) {
  BlockMapCache cache(1u << 20);
  cache.committed(1, {run(0, 2, 7, 1)}, {stripe(7, 10)});
  cache.committed(2, {run(0, 2, 7, 1)}, {stripe(7, 10)});
  EXPECT_EQ(cache.lookup(1, 0, 1)[0].stripe, cache.lookup(2, 0, 1)[0].stripe);
  cache.committed(2, {run(0, 2, 7, 1)}, {stripe(7, 11)});
  EXPECT_NE(cache.lookup(1, 0, 1)[0].stripe, cache.lookup(2, 0, 1)[0].stripe);
}

TEST(ShardRanges, KnownBytesAreNeverAskedForAgain) {
  std::mt19937_64 random(seed());
  for (int round = 0; round < 200; ++round) {
    Bytes shard(1 + random() % 3000);
    for (auto& b : shard) b = static_cast<uint8_t>(random());
    ShardRanges ranges(shard.size());
    std::vector<bool> asked(shard.size(), false);
    for (int i = 0; i < 20; ++i) {
      const ByteRange want{random() % 3500, random() % 500};
      for (const auto& [first, end] : ranges.missing(want)) {
        for (uint64_t b = first; b < end; ++b) {
          ASSERT_FALSE(asked[b]);
          asked[b] = true;
        }
        ranges.add(first, std::make_shared<const Bytes>(shard.begin() + static_cast<long>(first),
                                                        shard.begin() + static_cast<long>(end)));
      }
      ASSERT_TRUE(ranges.covers(want));
      std::vector<SharedBytes> owners;
      const ByteView view = ranges.view(want, owners);
      ASSERT_EQ(view.size(), want.length);
      for (uint64_t b = 0; b < want.length; ++b)
        ASSERT_EQ(view[b], want.offset + b < shard.size() ? shard[want.offset + b] : 0);
    }
  }
}

TEST(ShardRanges, CoalesceMergesAcrossSmallGapsOnly) {
  const auto merged = coalesce({{1000, 50}, {0, 100}, {100, 10}, {130, 20}, {5000, 0}}, 20, 4096);
  ASSERT_EQ(merged.size(), 2u);
  EXPECT_EQ(merged[0].offset, 0u);
  EXPECT_EQ(merged[0].length, 150u);
  EXPECT_EQ(merged[1].offset, 1000u);
  const auto bounded = coalesce({{0, 3000}, {3000, 3000}, {6000, 1000}}, 0, 4096);
  ASSERT_EQ(bounded.size(), 2u);
  EXPECT_EQ(bounded[1].offset, 3000u);
  EXPECT_EQ(bounded[1].length, 4000u);
}

}  // namespace
}  // namespace datacloud
