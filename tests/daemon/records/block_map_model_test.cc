// Random writes, clones, truncations and removals of several files against a plain map from block
// to slot: what is mapped, sizes, which stripes live, which objects are to be deleted.
#include <array>
#include <map>
#include <set>

#include "tests/daemon/records/block_map_fixture.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr int kFiles = 4;

struct SlotName {
  StripeId stripe = 0;
  uint32_t slot = 0;
  uint64_t version = 0;
  InodeId sealed_ino = 0;  // what the block was sealed for, always
  uint64_t sealed_block = 0;
  auto operator<=>(const SlotName&) const = default;
};

struct ModelFile {
  InodeId ino = 0;
  uint64_t size = 0;
  std::map<uint64_t, SlotName> blocks;
};

class BlockMapModelTest : public BlockMapFixture {
 protected:
  // One commit: a stripe or two whose slots are dealt to a few runs of a few files.
  void write_some() {
    std::vector<pb::Stripe> stripes;
    std::vector<pb::InodeUpdate> updates;
    const int count = 1 + static_cast<int>(random_() % 2);
    for (int s = 0; s < count; ++s) {
      std::vector<uint32_t> lengths(1 + random_() % 24);
      for (auto& length : lengths) length = 41 + static_cast<uint32_t>(random_() % 4096);
      stripes.push_back(make_stripe(next_stripe_++, lengths));
      add_missing(stripes.back());
      deal_slots(stripes.back(), updates);
    }
    const auto done = apply([&](Transaction& txn) -> result<void> {
      for (const auto& stripe : stripes) {
        TRY(add_stripe(txn, stripe));
      }
      for (const auto& update : updates) {
        TRY(update_inode(txn, update));
      }
      std::vector<StripeId> ids;
      for (const auto& stripe : stripes) ids.push_back(stripe.id());
      return drop_unmapped_stripes(txn, ids);
    });
    ASSERT_TRUE(done) << done.error().message();
    for (const auto& stripe : stripes) stripes_[stripe.id()] = stripe;
  }

  void add_missing(pb::Stripe& stripe) {
    if (random_() % 4 != 0) return;
    auto* shard = stripe.mutable_shards(static_cast<int>(random_() % 5));
    if (shard->state() == pb::SHARD_EMPTY) return;
    shard->set_state(pb::SHARD_MISSING);
    if (random_() % 2) shard->set_instance(0);
    stripe.set_weak(random_() % 2 == 0);
  }

  // Some slots may stay unmapped; sometimes all (their file is gone).
  void deal_slots(const pb::Stripe& stripe, std::vector<pb::InodeUpdate>& updates) {
    const auto slots = static_cast<uint32_t>(stripe.slot_length_size());
    for (uint32_t slot = 0; slot < slots;) {
      const uint32_t count = 1 + static_cast<uint32_t>(random_() % std::min(8u, slots - slot));
      if (random_() % 6 != 0) {
        ModelFile& file = files_[random_() % kFiles];
        const uint64_t first = random_() % 60;
        auto& update = updates.emplace_back();
        update.set_ino(file.ino);
        if (random_() % 12 == 0) truncate(file, update);
        *update.add_runs() = make_run(first, count, stripe.id(), slot, next_version_);
        for (uint32_t i = 0; i < count; ++i) {
          file.blocks[first + i] = {stripe.id(), slot + i, next_version_ + i, file.ino, first + i};
        }
        next_version_ += count;
        update.set_grow_to((first + count) * kBlock - random_() % kBlock);
        file.size = std::max(file.size, update.grow_to());
      }
      slot += count;
    }
  }

  void truncate(ModelFile& file, pb::InodeUpdate& update) {
    update.set_truncate_to(random_() % (80 * kBlock));
    file.size = update.truncate_to();
    file.blocks.erase(file.blocks.lower_bound((file.size + kBlock - 1) / kBlock),
                      file.blocks.end());
  }

  void clone_some() {
    const ModelFile& source = files_[random_() % kFiles];
    ModelFile& target = files_[random_() % kFiles];
    CloneRange range{source.ino, target.ino, random_() % 70, random_() % 70, 1 + random_() % 20};
    range.grow_to = (range.target_block + range.count) * kBlock - random_() % kBlock;
    range.now_ns = 7;
    const bool overlap = range.source == range.target &&
                         range.first_block < range.target_block + range.count &&
                         range.target_block < range.first_block + range.count;
    const auto done = apply([&](Transaction& txn) { return clone_range(txn, range); });
    ASSERT_EQ(done.has_value(), !overlap);
    if (overlap) return;
    std::map<uint64_t, SlotName> copied;
    for (uint64_t i = 0; i < range.count; ++i) {
      const auto it = source.blocks.find(range.first_block + i);
      if (it != source.blocks.end()) copied[range.target_block + i] = it->second;
    }
    for (uint64_t i = 0; i < range.count; ++i) target.blocks.erase(range.target_block + i);
    target.blocks.insert(copied.begin(), copied.end());
    target.size = std::max(target.size, range.grow_to);
    EXPECT_EQ(done.value().size(), target.size);
    EXPECT_EQ(done.value().mtime_ns(), 7);
  }

  void truncate_some() {
    ModelFile& file = files_[random_() % kFiles];
    pb::InodeUpdate update;
    update.set_ino(file.ino);
    truncate(file, update);
    ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, update); }));
  }

  void remove_and_reclaim() {
    const size_t which = random_() % kFiles;
    pb::UnlinkRequest request;
    request.set_parent(kRootInode);
    request.set_name(std::to_string(which));
    ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, request); }));
    for (bool done = false; !done;) {
      const auto step =
          apply([&](Transaction& txn) { return reclaim_inode(txn, files_[which].ino, 3); });
      ASSERT_TRUE(step) << step.error().message();
      done = step.value();
      expect_clean();
    }
    files_[which] = {make_file(std::to_string(which)), 0, {}};
  }

  void compare() {
    expect_clean();
    const auto txn = store_->begin();
    std::map<StripeId, std::set<uint32_t>> live;
    for (const auto& file : files_) {
      for (const auto& [block, slot] : file.blocks) live[slot.stripe].insert(slot.slot);
      const auto inode = get_inode(txn, file.ino);
      ASSERT_TRUE(inode);
      EXPECT_EQ(inode.value().size(), file.size);
      EXPECT_EQ(inode.value().blocks_mapped(), file.blocks.size());
      compare_map(txn, file, 0, 200);
      compare_map(txn, file, random_() % 60, 1 + random_() % 20);
      std::set<StripeId> named;
      for (const auto& [block, slot] : file.blocks) named.insert(slot.stripe);
      const auto listed = stripes_of_inode(txn, file.ino, 1000);
      ASSERT_TRUE(listed);
      const auto& ids = listed.value().ids;
      EXPECT_EQ(std::set<StripeId>(ids.begin(), ids.end()), named);
      EXPECT_EQ(ids.size(), named.size());
      std::set<StripeId> by_parts;
      for (std::optional<uint64_t> first = 0; first;) {
        const auto part = stripes_of_inode(txn, file.ino, 2, *first);
        ASSERT_TRUE(part);
        by_parts.insert(part.value().ids.begin(), part.value().ids.end());
        ASSERT_TRUE(!part.value().next_block || *part.value().next_block > *first);
        first = part.value().next_block;
      }
      EXPECT_EQ(by_parts, named);
    }
    compare_stripes(txn, live);
  }

  void compare_map(const Transaction& txn, const ModelFile& file, uint64_t first, uint32_t count) {
    pb::MapRequest request;
    request.set_ino(file.ino);
    request.set_first_block(first);
    request.set_blocks(count);
    const auto reply = read_map(txn, request);
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply.value().sequence(), store_->sequence());
    std::map<uint64_t, SlotName> found;
    std::set<StripeId> named, sent;
    for (const auto& run : reply.value().runs()) {
      named.insert(run.stripe());
      for (uint32_t i = 0; i < run.count(); ++i) {
        const bool moved = run.has_sealed_for();
        found[run.first_block() + i] = {
            run.stripe(), run.first_slot() + i, run.version() + i,
            moved ? run.sealed_for().ino() : file.ino,
            (moved ? run.sealed_for().first_block() : run.first_block()) + i};
      }
    }
    for (const auto& stripe : reply.value().stripes()) {
      EXPECT_TRUE(sent.insert(stripe.id()).second) << "a stripe twice";
    }
    EXPECT_EQ(named, sent);
    EXPECT_EQ(found, (std::map<uint64_t, SlotName>(file.blocks.lower_bound(first),
                                                   file.blocks.lower_bound(first + count))));
  }

  // Exactly the stripes with live slots exist; of all others exactly the objects are to be deleted.
  void compare_stripes(const Transaction& txn, const std::map<StripeId, std::set<uint32_t>>& live) {
    std::set<std::array<uint64_t, 4>> expected, found;
    for (const auto& [id, stripe] : stripes_) {
      const auto stored = get_stripe(txn, id);
      ASSERT_TRUE(stored);
      EXPECT_EQ(stored.value().has_value(), live.contains(id)) << "stripe " << id;
      if (live.contains(id)) {
        pb::StripeLive counted;
        ASSERT_TRUE(txn.get(key::live(id), counted));
        EXPECT_EQ(counted.slots(), live.at(id).size()) << "stripe " << id;
        continue;
      }
      for (int c = 0; c < stripe.shards_size(); ++c) {
        const auto& shard = stripe.shards(c);
        if (shard.instance() == 0) continue;
        expected.insert({id, static_cast<uint64_t>(c), shard.instance(), shard.site()});
      }
    }
    const auto deletions = pending();
    for (const auto& p : deletions) found.insert({p.stripe(), p.column(), p.instance(), p.site()});
    EXPECT_EQ(found, expected);
    EXPECT_EQ(deletions.size(), found.size()) << "a deletion twice";
  }

  std::mt19937_64 random_{test_seed()};
  std::array<ModelFile, kFiles> files_;
  std::map<StripeId, pb::Stripe> stripes_;
  StripeId next_stripe_ = 1;
  uint64_t next_version_ = 1;
};

TEST_F(BlockMapModelTest, BehavesLikeTheModel) {
  for (int i = 0; i < kFiles; ++i) files_[i].ino = make_file(std::to_string(i));
  for (int round = 0; round < 700; ++round) {
    const uint64_t dice = random_() % 20;
    if (dice < 11) {
      write_some();
    } else if (dice < 16) {
      clone_some();
    } else if (dice < 19) {
      truncate_some();
    } else {
      remove_and_reclaim();
    }
    if (round % 20 == 0) compare();
    if (round == 350) open();
    ASSERT_FALSE(HasFailure()) << "step " << round;
  }
  compare();
}

}  // namespace
}  // namespace datacloud
