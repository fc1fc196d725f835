// Damage of the block map that nothing can undo: what is lost is marked as lost, reads of it fail
// until it is written anew, everything else stays as it was, and no object at a site goes.
#include <algorithm>

#include "daemon/records/stripe_groups.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

class FsckLossTest : public FsckTest {
 protected:
  pb::MapReply map_of(InodeId ino) {
    pb::MapRequest request;
    request.set_ino(ino);
    request.set_blocks(100);
    auto reply = read_map(store_->begin(), request);
    EXPECT_TRUE(reply) << reply.error().message();
    return reply ? reply.value() : pb::MapReply();
  }
  // Which of the file's first blocks are: mapped 'm', lost 'l', neither '-'.
  std::string blocks_of(InodeId ino, size_t count = 6) {
    std::string blocks(count, '-');
    const auto map = map_of(ino);
    for (const auto& run : map.runs()) {
      for (uint64_t b = run.first_block(); b < run.first_block() + run.count() && b < count; ++b) {
        blocks[b] = is_lost(run) ? 'l' : 'm';
      }
    }
    return blocks;
  }
  void expect_found_and_mended(const std::string& text) {
    const auto seen = run(false);
    EXPECT_THAT(seen.ShortDebugString(), testing::HasSubstr(text));
    const auto mended = run(true);
    EXPECT_EQ(mended.mended_total(), mended.findings_total()) << mended.DebugString();
    expect_sound();
    EXPECT_EQ(blocks_of(other_), "mmm---") << "the other file was touched";
  }
  // Its blocks can be written, cut off and removed like others.
  void expect_usable(InodeId ino) {
    const auto written = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;
      update.set_ino(ino);
      TRY(add_stripe(txn, make_stripe(++stripe_, {10, 20, 30})));
      *update.add_runs() = make_run(1, 3, stripe_, 0, 2000);
      update.set_grow_to(4 * 4096);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(written) << written.error().message();
    EXPECT_EQ(blocks_of(ino).substr(1, 3), "mmm");
    expect_sound();
    const auto cut = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;
      update.set_ino(ino);
      update.set_truncate_to(0);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(cut) << cut.error().message();
    EXPECT_EQ(get<pb::Inode>(key::inode(ino)).blocks_mapped(), 0u);
    expect_sound();
  }
  StripeId stripe_ = 90;
  void put_owner(StripeId stripe, uint32_t slot, InodeId ino, const pb::Run& run) {
    pb::Owner owner;
    owner.set_ino(ino);
    owner.set_first_block(run.first_block());
    owner.set_count(run.count());
    owner.set_version(run.version());
    damage([&](Transaction& txn) { txn.put(key::owner(stripe, slot), owner); });
  }
};

TEST_F(FsckLossTest, BlocksOfAStripeWithoutARecordAreMarkedAsLost) {
  const auto was = store_->begin().get(key::run(file_, 0)).value();
  damage([&](Transaction& txn) { txn.erase(key::stripe(5)); });
  expect_found_and_mended("names stripe 5, which does not exist");
  EXPECT_EQ(blocks_of(file_), "lll---");
  EXPECT_EQ(map_of(file_).stripes_size(), 0);
  EXPECT_EQ(run(false).blocks_lost(), 3u);
  EXPECT_EQ(stripes_of_inode(store_->begin(), file_, 10).value().blocks_lost, 3u);
  EXPECT_EQ(store_->begin().get(key::quarantine(key::run(file_, 0))).value(), was);
  EXPECT_TRUE(is_kept(store_->begin(), 5).value()) << "the objects at the sites would go";
  EXPECT_FALSE(is_kept(store_->begin(), 4711).value());
  EXPECT_TRUE(pending().empty());
  expect_usable(file_);
}

TEST_F(FsckLossTest, ObjectsOfALostRecordStayAlsoBeforeItIsMended) {
  damage([&](Transaction& txn) { txn.erase(key::stripe(5)); });
  EXPECT_TRUE(is_kept(store_->begin(), 5).value());
}

TEST_F(FsckLossTest, ARecordThatDoesNotParseGoesIntoQuarantine) {
  damage([&](Transaction& txn) { txn.put(key::stripe(5), std::string("\xff\xff garbage")); });
  expect_found_and_mended("the record of stripe 5 does not parse");
  EXPECT_EQ(blocks_of(file_), "lll---");
  EXPECT_EQ(store_->begin().get(key::quarantine(key::stripe(5))).value(),
            std::string("\xff\xff garbage"));
  EXPECT_TRUE(is_kept(store_->begin(), 5).value());
  expect_usable(file_);
}

TEST_F(FsckLossTest, ARecordIsSetRightFromTheRestOfIt) {
  const auto right = get<pb::Stripe>(key::stripe(5));
  const std::vector<std::function<void(pb::Stripe&)>> whole = {
      [](auto& s) { s.set_id(77); },
      [](auto& s) { s.set_parity_bytes(7); },
      [](auto& s) { s.set_row(5); },
      [](auto& s) { s.set_shard_bytes(65537); },
      [](auto& s) { s.set_shard_bytes(1u << 31); },
  };
  for (const auto& change : whole) {
    pb::Stripe wrong = right;
    change(wrong);
    damage([&](Transaction& txn) { txn.put(key::stripe(5), wrong); });
    expect_found_and_mended("set right");
    EXPECT_EQ(get<pb::Stripe>(key::stripe(5)).SerializeAsString(), right.SerializeAsString());
  }
  const std::vector<std::function<void(pb::Stripe&)>> one_shard = {
      [](auto& s) { s.mutable_shards(1)->set_instance(0); },
      [](auto& s) { s.mutable_shards(1)->set_site(0); },
      [](auto& s) { s.mutable_shards(1)->set_bytes(1); },
      [](auto& s) { s.mutable_shards(1)->set_bytes(900'000); },
      [](auto& s) { s.mutable_shards(1)->set_state(static_cast<pb::ShardState>(9)); },
      [](auto& s) { s.mutable_shards(4)->set_bytes(1); },
      [](auto& s) { s.mutable_shards(4)->set_state(pb::SHARD_EMPTY); },
  };
  for (const auto& change : one_shard) {
    pb::Stripe wrong = right;
    change(wrong);
    damage([&](Transaction& txn) { txn.put(key::stripe(5), wrong); });
    expect_found_and_mended("set right");
    const auto now = get<pb::Stripe>(key::stripe(5));
    const auto missing =
        std::count_if(now.shards().begin(), now.shards().end(),
                      [](const auto& shard) { return shard.state() == pb::SHARD_MISSING; });
    EXPECT_EQ(missing, 1) << now.ShortDebugString();
    EXPECT_EQ(blocks_of(file_), "mmm---");
    damage([&](Transaction& txn) {
      txn.put(key::stripe(5), right);
      txn.erase(key::repair(1, 5));
    });
    run(true);
  }
}

TEST_F(FsckLossTest, OfTwoRunsOnOneSlotTheReverseMapsOneStays) {
  const InodeId third = make(kRootInode, "third", S_IFREG | 0644);
  map(third, 7);
  damage([&](Transaction& txn) { txn.put(key::run(third, 0), make_run(0, 3, 5, 0, 900)); });
  expect_found_and_mended("name the same slots of stripe 5");
  EXPECT_EQ(blocks_of(third), "lll---");
  EXPECT_EQ(blocks_of(file_), "mmm---");
  EXPECT_FALSE(store_->begin().get(key::stripe(7)).value()) << "no file names what it holds";
  EXPECT_TRUE(is_kept(store_->begin(), 7).value());
  EXPECT_TRUE(pending().empty());
  expect_usable(third);
}

TEST_F(FsckLossTest, OfARunThatReachesIntoAnothersSlotsTheRestStays) {
  const InodeId third = make(kRootInode, "third", S_IFREG | 0644);
  damage([&](Transaction& txn) {  // blocks 0 and 1 in slots 1 and 2 of the other file's stripe
    auto run = make_run(0, 2, 6, 1, 950);
    txn.put(key::run(third, 0), run);
    txn.put(key::run(file_, 0), make_run(0, 2, 5, 0, 900));
    auto inode = get<pb::Inode>(key::inode(third));
    inode.set_blocks_mapped(2);
    inode.set_size(2 * 4096);
    txn.put(key::inode(third), inode);
  });
  put_owner(6, 1, third, make_run(0, 2, 6, 1, 950));
  put_owner(5, 0, file_, make_run(0, 2, 5, 0, 900));
  expect_found_and_mended("as another run does");
  EXPECT_EQ(blocks_of(third), "ll----");
  EXPECT_EQ(blocks_of(file_), "mm----");
}

TEST_F(FsckLossTest, OfARunThatIsTooLongTheReverseMapKnowsTheLength) {
  damage([&](Transaction& txn) { txn.put(key::run(file_, 0), make_run(0, 40, 5, 0, 900)); });
  expect_found_and_mended("names slots that stripe 5 does not have");
  EXPECT_EQ(blocks_of(file_), "mmm---");
}

TEST_F(FsckLossTest, SlotsThatAreNotThereAreLostUpToTheFilesEnd) {
  damage([&](Transaction& txn) {
    txn.put(key::run(file_, 0), make_run(0, 40, 5, 0, 900));
    auto inode = get<pb::Inode>(key::inode(file_));
    inode.set_size(5 * 4096 - 1);
    txn.put(key::inode(file_), inode);
  });
  put_owner(5, 0, file_, make_run(0, 40, 5, 0, 900));
  expect_found_and_mended("names slot 3 of stripe 5, which it does not have");
  EXPECT_EQ(blocks_of(file_), "mmmll-");
}

TEST_F(FsckLossTest, ARunThatOverlapsAnotherGetsTheLengthTheReverseMapTells) {
  const InodeId third = make_overwritten();  // runs of blocks 0, 1 and 2
  damage([&](Transaction& txn) { txn.put(key::run(third, 0), make_run(0, 3, 7, 0, 900)); });
  expect_found_and_mended("overlaps the run before it");
  EXPECT_EQ(blocks_of(third), "mmm---");
  EXPECT_EQ(map_of(third).runs_size(), 3);
}

TEST_F(FsckLossTest, ARunInsideAnotherKeepsItsBlocks) {
  damage([&](Transaction& txn) {
    EXPECT_TRUE(add_stripe(txn, make_stripe(8, {100})));
    txn.put(key::run(file_, 1), make_run(1, 1, 8, 0, 950));
  });
  put_owner(8, 0, file_, make_run(1, 1, 8, 0, 950));
  expect_found_and_mended("overlaps the run before it");
  EXPECT_EQ(blocks_of(file_), "mmm---");
  const auto map = map_of(file_);
  ASSERT_EQ(map.runs_size(), 3);
  EXPECT_EQ(map.runs(1).stripe(), 8u);
  EXPECT_EQ(map.runs(2).first_slot(), 2u);
}

TEST_F(FsckLossTest, AFileWhoseModeIsDamagedIsAFileAgain) {
  for (const uint32_t mode : {uint32_t{S_IFLNK | 0777}, uint32_t{S_IFCHR | 0600}}) {
    damage([&](Transaction& txn) {
      auto inode = get<pb::Inode>(key::inode(file_));
      inode.set_mode(mode);
      txn.put(key::inode(file_), inode);
    });
    expect_found_and_mended("has blocks and is no file");
    EXPECT_EQ(get<pb::Inode>(key::inode(file_)).mode(), uint32_t{S_IFREG | 0600});
    EXPECT_EQ(blocks_of(file_), "mmm---");
  }
}

TEST_F(FsckLossTest, ADirectoryHasNoBlocks) {
  damage([&](Transaction& txn) { txn.put(key::run(directory_, 0), make_run(0, 1, 5, 1, 950)); });
  expect_found_and_mended("which is a directory");
  EXPECT_EQ(blocks_of(file_), "mmm---");
}

TEST_F(FsckLossTest, BlocksOfARunThatNothingTellsOfAreLost) {
  for (const std::string& garbage :
       {std::string("\xff\xff"), make_run(0, 0, 5, 0, 900).SerializeAsString(),
        make_run(0, 1'000'000, 5, 0, 900).SerializeAsString(),
        make_run(2, 3, 5, 0, 900).SerializeAsString()}) {
    const InodeId ino = make(kRootInode, "victim", S_IFREG | 0644);
    map(ino, ++stripe_);
    damage([&](Transaction& txn) {
      txn.put(key::run(ino, 0), garbage);
      txn.erase(key::owner(stripe_, 0));
    });
    expect_found_and_mended("a block run of inode");
    EXPECT_EQ(blocks_of(ino), "lll---");
    expect_usable(ino);
    const auto gone = apply([&](Transaction& txn) -> result<void> {
      pb::UnlinkRequest request;
      request.set_parent(kRootInode);
      request.set_name("victim");
      TRY(unlink(txn, request));
      return success();
    });
    ASSERT_TRUE(gone) << gone.error().message();
    const auto freed = apply([&](Transaction& txn) { return reclaim_inode(txn, ino, 100); });
    ASSERT_TRUE(freed && freed.value());
  }
}

TEST_F(FsckLossTest, ARowThatIsNotItsMembersGoes) {
  const auto add_group = [&] {
    damage([&](Transaction& txn) {
      pb::Stripe row = make_stripe(50, {100, 200, 300});
      row.clear_slot_column();
      row.clear_slot_offset();
      row.clear_slot_length();
      row.add_members(5);
      row.add_members(6);
      const auto added = add_row(txn, row, [](const auto&) { return true; });
      ASSERT_TRUE(added && added.value()) << (added ? "" : added.error().message());
    });
    EXPECT_EQ(run(false).findings_total(), 0u);
  };
  add_group();
  damage([&](Transaction& txn) {
    auto member = get<pb::Stripe>(key::stripe(5));
    member.set_row(0);
    txn.put(key::stripe(5), member);
  });
  expect_found_and_mended("row 50 counts stripe 5, which does not name it");
  EXPECT_FALSE(store_->begin().get(key::stripe(50)).value());
  EXPECT_TRUE(is_kept(store_->begin(), 50).value());
  EXPECT_EQ(get<pb::Stripe>(key::stripe(6)).row(), 0u);
  damage([](Transaction& txn) { txn.erase(key::quarantine(key::stripe(50))); });
  add_group();
  damage([&](Transaction& txn) { txn.put(key::stripe(50), std::string("\xff\xff")); });
  expect_found_and_mended("the record of stripe 50 does not parse");
  EXPECT_EQ(get<pb::Stripe>(key::stripe(5)).row(), 0u);
}

}  // namespace
}  // namespace datacloud
