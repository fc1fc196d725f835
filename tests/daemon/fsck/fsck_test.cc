// Every kind of damage to the records, made by hand, is found, told and mended; nothing that was
// sound is lost. Random damage never crashes it and never takes a file away that was not touched.
#include <fmt/format.h>

#include <fstream>
#include <thread>

#include "common/base/clock.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/namespace_records.h"
#include "tests/daemon/fsck/fsck_rig.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

uint64_t resident_bytes() {
  uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

TEST_F(FsckTest, AFileWithoutANameIsLinkedIntoLostAndFound) {
  const auto entry = get<pb::Entry>(key::entry(below_, "file"));
  damage([&](Transaction& txn) {
    txn.erase(key::entry(below_, "file"));
    txn.erase(key::cookie(below_, entry.cookie()));
  });
  expect_mended("has no name");
  const auto found = resolve_path(store_->begin(), "/lost+found/" + std::to_string(file_));
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found.value().size(), 3u * 4096);
}

TEST_F(FsckTest, ADirectoryWithoutANameKeepsWhatIsInIt) {
  const auto entry = get<pb::Entry>(key::entry(directory_, "below"));
  damage([&](Transaction& txn) {
    txn.erase(key::entry(directory_, "below"));
    txn.erase(key::cookie(directory_, entry.cookie()));
  });
  expect_mended("has no name");
  EXPECT_TRUE(resolve_path(store_->begin(), "/lost+found/" + std::to_string(below_) + "/file"));
}

TEST_F(FsckTest, AnEntryOfNothingGoes) {
  damage([&](Transaction& txn) {
    pb::Entry entry;
    entry.set_ino(4711);
    entry.set_type(S_IFREG);
    entry.set_cookie(77);
    txn.put(key::entry(directory_, "ghost"), entry);
    txn.put(key::cookie(directory_, 77), std::string("ghost"));
  });
  expect_mended("does not exist");
}

TEST_F(FsckTest, AnEntryOfTheWrongTypeGetsTheInodes) {
  auto entry = get<pb::Entry>(key::entry(below_, "file"));
  entry.set_type(S_IFLNK);
  damage([&](Transaction& txn) { txn.put(key::entry(below_, "file"), entry); });
  expect_mended("wrong type");
}

TEST_F(FsckTest, MissingAndWrongPositionsAreWrittenAgain) {
  const auto entry = get<pb::Entry>(key::entry(below_, "file"));
  damage([&](Transaction& txn) { txn.erase(key::cookie(below_, entry.cookie())); });
  expect_mended("missing from listings");
  damage(
      [&](Transaction& txn) { txn.put(key::cookie(below_, entry.cookie()), std::string("elif")); });
  expect_mended("names another entry");
  damage([&](Transaction& txn) { txn.put(key::cookie(below_, 900), std::string("nobody")); });
  expect_mended("is no entry");
}

TEST_F(FsckTest, CountsOfInodesAreSet) {
  auto inode = get<pb::Inode>(key::inode(file_));
  inode.set_nlink(7);
  inode.set_xattr_count(3);
  inode.set_blocks_mapped(99);
  damage([&](Transaction& txn) { txn.put(key::inode(file_), inode); });
  expect_mended("counts 7 links and has 1");
  auto directory = get<pb::Inode>(key::inode(directory_));
  directory.set_nlink(9);
  directory.set_next_cookie(1);
  directory.set_parent(below_);
  damage([&](Transaction& txn) { txn.put(key::inode(directory_), directory); });
  expect_mended("would give a position twice");
}

TEST_F(FsckTest, AttributesOfNothingGo) {
  damage([&](Transaction& txn) { txn.put(key::xattr(4711, "user.x"), std::string("v")); });
  expect_mended("belongs to inode 4711");
}

TEST_F(FsckTest, LiveCountsReverseMapAndTotalsAreComputedAnew) {
  pb::StripeLive live;
  live.set_slots(1);
  damage([&](Transaction& txn) {
    txn.put(key::live(5), live);
    txn.erase(key::owner(6, 0));
    txn.put(key::live(4711), live);
    Totals totals;
    totals.inodes = 12345;
    write_totals(txn, totals);
  });
  expect_mended("slots are mapped");
}

TEST_F(FsckTest, DamageOfNothingGoes) {
  pb::Damage record;
  record.set_stripe(4711);
  damage([&](Transaction& txn) { txn.put(key::damage(4711, 0), record); });
  expect_mended("damage of stripe 4711");
  damage([](Transaction& txn) { txn.put(key::former(4711, 0), pb::Owner()); });
  expect_mended("a former use of slots of stripe 4711");
}

TEST_F(FsckTest, FormerUsesThatCannotBeGo) {
  const InodeId third = make_overwritten();
  const std::string k = key::former(7, 1);
  const auto right = get<pb::Owner>(k);
  EXPECT_EQ(right.ino(), third);
  pb::Owner wrong = right;
  const auto put = [&](const std::string& where, const std::string& what) {
    damage([&](Transaction& txn) { txn.put(where, what); });
    expect_mended("a former use of slots of stripe 7, which");
    EXPECT_EQ(store_->begin().get(where).value().has_value(), false);
    damage([&](Transaction& txn) { txn.put(k, right); });
    EXPECT_EQ(run(false).findings_total(), 0u);
  };
  put(key::former(7, 0), right.SerializeAsString());  // a mapped slot
  put(key::former(7, 3), right.SerializeAsString());  // a slot it does not have
  put(key::former(7, UINT32_MAX), right.SerializeAsString());
  for (const uint32_t count : {0u, 2u, UINT32_MAX}) {  // no slots, a mapped one too, far too many
    wrong.set_count(count);
    put(k, wrong.SerializeAsString());
  }
  put(k, "\xff\xff garbage");
  put(k + "x", right.SerializeAsString());
  put(k.substr(0, 11), right.SerializeAsString());
  put(k.substr(0, 9), right.SerializeAsString());
}

TEST_F(FsckTest, SlotsHaveOneFormerUse) {
  make_overwritten();
  damage([&](Transaction& txn) {  // both middle slots are dead; two records name the second
    pb::Owner both = get<pb::Owner>(key::former(7, 1));
    both.set_count(2);
    txn.put(key::former(8, 0), both);
    both.set_count(1);
    txn.put(key::former(8, 1), both);
  });
  expect_mended(
      "a former use of slots of stripe 8, which names slots that are mapped, not there, or "
      "named twice");
  EXPECT_EQ(get<pb::Owner>(key::former(8, 0)).count(), 2u);
  EXPECT_FALSE(store_->begin().get(key::former(8, 1)).value());
}

TEST_F(FsckTest, AFileWhoseRecordIsGoneIsMadeAnewFromItsBlocks) {
  const auto before = get<pb::Inode>(key::inode(file_));
  for (const bool erased : {true, false}) {
    damage([&](Transaction& txn) {
      if (erased) {
        txn.erase(key::inode(file_));
      } else {
        txn.put(key::inode(file_), std::string("\xff\xff garbage"));
      }
    });
    expect_mended(erased ? "has blocks and does not exist" : "is damaged");
    const auto found = resolve_path(store_->begin(), "/dir/below/file");
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found.value().ino(), file_);
    EXPECT_EQ(found.value().size(), before.size());
  }
  // What was replaced is in quarantine.
  EXPECT_EQ(store_->begin().get(key::quarantine(key::inode(file_))).value(),
            std::string("\xff\xff garbage"));
}

TEST_F(FsckTest, ADirectoryWhoseRecordIsGoneKeepsItsEntriesAndItsName) {
  damage([&](Transaction& txn) { txn.erase(key::inode(below_)); });
  expect_mended("has entries and does not exist");
  EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/file"));
}

TEST_F(FsckTest, ARootThatIsNoDirectoryIsMadeAnewAndKeepsItsEntries) {
  for (const uint32_t mode : {uint32_t{S_IFREG | 0644}, uint32_t{0}, uint32_t{0xffffffff}}) {
    damage([&](Transaction& txn) {
      auto root = get<pb::Inode>(key::inode(kRootInode));
      root.set_mode(mode);
      txn.put(key::inode(kRootInode), root);
    });
    EXPECT_EQ(resolve_path(store_->begin(), "/dir/below/file").error().code(), Errc::corrupt);
    expect_mended("the record of inode 1 is damaged");
    EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/file"));
    EXPECT_FALSE(resolve_path(store_->begin(), "/lost+found"));
  }
  damage([&](Transaction& txn) { txn.erase(key::inode(kRootInode)); });
  expect_mended("inode 1 has entries and does not exist");
  EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/file"));
}

TEST_F(FsckTest, ADirectoryKeepsTheNameInItsParent) {
  for (const InodeId other : {kRootInode, below_}) {  // below_: in itself
    damage([&](Transaction& txn) {
      auto elsewhere = get<pb::Inode>(key::inode(other));
      names::add_entry(txn, elsewhere, "again", get<pb::Inode>(key::inode(below_)));
      names::add_links(elsewhere, 1);
      names::put_inode(txn, elsewhere);
    });
    expect_mended("has 2 names");
    EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/file"));
    EXPECT_FALSE(resolve_path(store_->begin(), "/again"));
    EXPECT_FALSE(resolve_path(store_->begin(), "/dir/below/again"));
  }
}

TEST_F(FsckTest, TwoEntriesAtOnePositionAreBothListed) {
  make(below_, "second", S_IFREG | 0644);
  damage([&](Transaction& txn) {
    auto entry = get<pb::Entry>(key::entry(below_, "second"));
    txn.erase(key::cookie(below_, entry.cookie()));
    entry.set_cookie(get<pb::Entry>(key::entry(below_, "file")).cookie());
    txn.put(key::entry(below_, "second"), entry);
  });
  expect_mended("it gets a new one");
  EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/file"));
  EXPECT_TRUE(resolve_path(store_->begin(), "/dir/below/second"));
}

TEST_F(FsckTest, AnImpossibleBlockSizeIsReplaced) {
  const uint32_t right = get<pb::Inode>(key::inode(file_)).policy().block_bytes();
  for (const uint32_t wrong : {0u, 1u, 4097u, 1u << 31}) {
    damage([&](Transaction& txn) {
      auto file = get<pb::Inode>(key::inode(file_));
      file.mutable_policy()->set_block_bytes(wrong);
      file.set_size(3 * 4096 - 1);
      txn.put(key::inode(file_), file);
    });
    EXPECT_EQ(get_inode(store_->begin(), file_).error().code(), Errc::corrupt);
    expect_mended("which is no size of blocks");
    EXPECT_EQ(get_inode(store_->begin(), file_).value().policy().block_bytes(), right);
  }
}

TEST_F(FsckTest, AnImpossibleShardSizeIsReplaced) {
  for (const uint32_t wrong : {1u, 65537u, 8u << 20, 1u << 31}) {
    damage([&](Transaction& txn) {
      auto file = get<pb::Inode>(key::inode(file_));
      file.mutable_policy()->set_shard_bytes(wrong);
      txn.put(key::inode(file_), file);
    });
    EXPECT_TRUE(get_inode(store_->begin(), file_)) << "it is read all the same";
    expect_mended("which is no size of shards");
    EXPECT_EQ(get_inode(store_->begin(), file_).value().policy().shard_bytes(), 0u);
  }
  damage([&](Transaction& txn) {  // both at once
    auto file = get<pb::Inode>(key::inode(file_));
    file.mutable_policy()->set_shard_bytes(7);
    file.mutable_policy()->set_block_bytes(1);
    txn.put(key::inode(file_), file);
  });
  expect_mended("which is no size of blocks");
}

TEST_F(FsckTest, ADirectoryInsideItselfIsTakenOut) {
  const InodeId deeper = make(below_, "deeper", S_IFDIR | 0755);
  damage([&](Transaction& txn) {  // /dir/below lies in /dir/below/deeper
    const auto entry = get<pb::Entry>(key::entry(directory_, "below"));
    auto from = get<pb::Inode>(key::inode(directory_));
    auto to = get<pb::Inode>(key::inode(deeper));
    auto moved = get<pb::Inode>(key::inode(below_));
    names::remove_entry(txn, directory_, "below", entry);
    names::add_links(from, -1);
    names::add_links(to, 1);
    names::add_entry(txn, to, "below", moved);
    moved.set_parent(deeper);
    for (const auto* inode : {&from, &to, &moved}) names::put_inode(txn, *inode);
  });
  expect_mended("lies in itself");
  const auto found =
      resolve_path(store_->begin(), "/lost+found/" + std::to_string(below_) + "/file");
  EXPECT_TRUE(found) << found.error().message();
}

TEST_F(FsckTest, AFileWithANameIsNotDeletedAsAnOrphan) {
  damage([&](Transaction& txn) { txn.put(key::orphan(file_), std::string()); });
  expect_mended("has a name and is to be deleted");
  damage([&](Transaction& txn) { txn.put(key::orphan(4711), std::string()); });
  expect_mended("an orphan record belongs to inode 4711");
}

TEST_F(FsckTest, AnEntryInAFileGoesAndWhatItNamedIsFound) {
  damage([&](Transaction& txn) {
    auto entry = get<pb::Entry>(key::entry(below_, "file"));
    txn.erase(key::entry(below_, "file"));
    txn.erase(key::cookie(below_, entry.cookie()));
    txn.put(key::entry(other_, "inside"), entry);
  });
  expect_mended("which is no directory");
  EXPECT_TRUE(resolve_path(store_->begin(), "/lost+found/" + std::to_string(file_)));
}

TEST_F(FsckTest, AnEntryThatDoesNotParseGoesAndWhatItNamedIsFound) {
  damage([&](Transaction& txn) { txn.put(key::entry(below_, "file"), std::string("\xff\xff")); });
  expect_mended("does not parse");
  EXPECT_TRUE(resolve_path(store_->begin(), "/lost+found/" + std::to_string(file_)));
}

TEST_F(FsckTest, TheReverseMapIsCompletedAndCleared) {
  damage([&](Transaction& txn) {
    auto owner = get<pb::Owner>(key::owner(5, 0));
    owner.set_count(2);
    txn.put(key::owner(5, 0), owner);
    txn.put(key::owner(6, 2), owner);
    txn.put(key::owner(6, 1), std::string("\xff\xff"));
  });
  expect_mended("the reverse map of stripe 5 lacks run 0");
}

TEST_F(FsckTest, ALostOrDamagedRunIsWrittenAgainFromTheReverseMap) {
  const std::string k = key::run(file_, 0);
  const auto right = store_->begin().get(k).value();
  for (const bool erased : {true, false}) {
    damage([&](Transaction& txn) {
      if (erased) {
        txn.erase(k);
      } else {
        txn.put(k, std::string("\xff\xff garbage"));
      }
    });
    expect_mended("it is written again from the reverse map");
    EXPECT_EQ(store_->begin().get(k).value(), right);
  }
}

TEST_F(FsckTest, ARunStoredUnderAnotherBlockIsWrittenAgain) {
  const std::string k = key::run(file_, 0);
  const auto right = store_->begin().get(k).value();
  auto wrong = get<pb::Run>(k);
  wrong.set_first_block(40);
  damage([&](Transaction& txn) { txn.put(k, wrong); });
  expect_mended("it is written again from the reverse map");
  EXPECT_EQ(store_->begin().get(k).value(), right);
}

TEST_F(FsckTest, ARunIsNotWrittenAgainOverAnother) {
  const auto right = get<pb::Run>(key::run(file_, 0));
  damage([&](Transaction& txn) {
    pb::Run other = right;  // the same slots, for blocks 1 to 3
    other.set_first_block(1);
    txn.erase(key::run(file_, 0));
    txn.put(key::run(file_, 1), other);
  });
  run(true);
  EXPECT_EQ(get<pb::Run>(key::run(file_, 1)).first_slot(), right.first_slot());
  EXPECT_FALSE(store_->begin().get(key::run(file_, 0)).value());
}

TEST_F(FsckTest, CountersNeverGiveAnIdTwice) {
  damage([](Transaction& txn) {
    for (const char* kind : {"inode", "stripe", "instance", "version"}) {
      put_counter(txn, std::string("next_id/") + kind, 2);
    }
  });
  expect_mended("the counter of content versions would give");
  EXPECT_GT(read_counter(store_->begin(), "next_id/instance", 1).value(), 604u);
}

TEST_F(FsckTest, GrantsRepliesAndDeletionsThatAreNoneGo) {
  pb::GrantedRange range;
  range.set_kind(static_cast<uint32_t>(IdKind::stripe));
  range.set_first(10);
  range.set_count(5);
  range.set_session(4711);
  damage([&](Transaction& txn) { txn.put(key::granted(IdKind::stripe, 10), range); });
  expect_mended("granted to session 4711");
  range.set_first(2'000'000);
  damage([&](Transaction& txn) { txn.put(key::granted(IdKind::stripe, 2'000'000), range); });
  expect_mended("were never given out");
  range.set_kind(static_cast<uint32_t>(IdKind::inode));
  range.set_first(uint64_t{1} << 50);
  damage([&](Transaction& txn) { txn.put(key::granted(IdKind::inode, range.first()), range); });
  expect_mended("were never given out");
  damage([&](Transaction& txn) { txn.put(key::meta("retired/4711"), std::string("1")); });
  expect_mended("session 4711 is marked as ended and does not exist");
  damage([&](Transaction& txn) { txn.put(key::meta("retired/nobody"), std::string("1")); });
  expect_mended("session 0 is marked as ended");
  damage([&](Transaction& txn) { txn.put(key::reply(4711, 3), std::string("x")); });
  expect_mended("a reply for session 4711");
  pb::PendingDeletion deletion;
  deletion.set_stripe(5);
  deletion.set_column(1);
  deletion.set_instance(get<pb::Stripe>(key::stripe(5)).shards(1).instance());
  damage([&](Transaction& txn) { ASSERT_TRUE(add_pending_deletion(txn, deletion)); });
  expect_mended("is to be deleted and in use");
}

TEST_F(FsckTest, NodesThatCannotBeAreTakenOut) {
  pb::Node good;
  good.set_name("gpu07");
  good.add_roles("mount");
  good.set_state(pb::NODE_JOINED);
  good.add_certificates()->set_serial("1");
  damage([&](Transaction& txn) { txn.put(key::node("gpu07"), good); });
  EXPECT_EQ(run(false).findings_total(), 0u);
  damage([&](Transaction& txn) { txn.put(key::node("gpu08"), good); });
  expect_mended("stored under another name");
  damage([&](Transaction& txn) { txn.put(key::node("gpu09"), std::string("\xff\xff")); });
  expect_mended("does not parse");
  const auto wrong = [&](const std::function<void(pb::Node&)>& change) {
    pb::Node node = good;
    node.set_name("gpu10");
    change(node);
    damage([&](Transaction& txn) { txn.put(key::node("gpu10"), node); });
  };
  wrong([](pb::Node& node) { node.add_roles("king"); });
  expect_mended("roles that do not exist");
  wrong([](pb::Node& node) { node.add_roles("daemon"); });
  expect_mended("roles that do not exist");
  wrong([](pb::Node& node) { node.set_state(pb::NODE_REVOKED); });
  expect_mended("was revoked and has certificates");
  wrong([](pb::Node& node) {
    for (int i = 0; i < 4; ++i) node.add_certificates()->set_serial("2");
  });
  expect_mended("more certificates");
  wrong([](pb::Node& node) {
    node.set_root(kRootInode);
    node.add_roles("admin");
  });
  expect_mended("has roles beside mounting");
  wrong([this](pb::Node& node) { node.set_root(file_); });
  expect_mended("is no directory");
  good.set_root(1'000'000);
  damage([&](Transaction& txn) { txn.put(key::node("gpu07"), good); });
  EXPECT_EQ(run(false).findings_total(), 0u) << "its directory may have been removed";
  EXPECT_EQ(get<pb::Node>(key::node("gpu07")).name(), "gpu07") << "the sound one stays";
}

TEST_F(FsckTest, WhatNeedsRepairIsQueued) {
  auto stripe = get<pb::Stripe>(key::stripe(5));
  stripe.mutable_shards(4)->set_state(pb::SHARD_MISSING);
  damage([&](Transaction& txn) { txn.put(key::stripe(5), stripe); });
  expect_mended("is not queued");
}

TEST_F(FsckTest, AMemberWithoutItsRowIsInNoGroup) {
  auto stripe = get<pb::Stripe>(key::stripe(5));
  stripe.set_row(4711);
  damage([&](Transaction& txn) { txn.put(key::stripe(5), stripe); });
  expect_mended("names row 4711");
  EXPECT_EQ(get<pb::Stripe>(key::stripe(5)).row(), 0u);
}

TEST_F(FsckTest, DamagedTotalsAreCountedAnew) {
  damage([&](Transaction& txn) { txn.put(key::meta("totals"), std::string("short")); });
  expect_mended("totals");
}

TEST_F(FsckTest, RandomDamageNeverCrashesAndSparesTheRest) {
  std::mt19937_64 random(test_seed());
  const InodeId third = make_overwritten();
  const auto former = get<pb::Owner>(key::former(7, 1));
  const std::string safe = key::inode(other_);
  const auto untouched = [&](std::string_view k) {
    return k == safe || k == key::run(other_, 0) || k == key::stripe(6);
  };
  for (int round = 0; round < 300; ++round) {
    if (round % 4 == 3) {  // what is lost stays lost: something new to damage
      const std::string name = fmt::format("new {}", round);
      const InodeId ino = make(kRootInode, name, S_IFREG | 0644);
      map(ino, 1000 + static_cast<StripeId>(round));
      const InodeId clone = make(kRootInode, name + " clone", S_IFREG | 0644);
      ASSERT_TRUE(apply([&](Transaction& txn) {
        return clone_range(txn, {ino, clone, random() % 2, random() % 9, 1 + random() % 2, 0, 1});
      }));
      ASSERT_FALSE(HasFailure());
    }
    Transaction txn = store_->begin();
    std::vector<std::pair<std::string, std::string>> records;
    for (const char kind : std::string("EDXLRJBKOIMSGPQF")) {
      const std::string prefix(1, kind);
      ASSERT_TRUE(txn.scan(prefix, key::after_prefix(prefix), [&](auto k, auto v) {
        if (!untouched(k)) records.emplace_back(k, v);
        return true;
      }));
    }
    ASSERT_FALSE(records.empty());
    auto [k, v] = records[random() % records.size()];
    if (random() % 3 == 0) {
      txn.erase(k);
    } else {
      for (auto& c : v) c = random() % 4 == 0 ? static_cast<char>(random()) : c;
      if (random() % 4 == 0) v.resize(v.size() / 2);
      txn.put(k, v);
    }
    if (random() % 4 == 0) {  // of a stripe that may be damaged itself by now
      pb::Owner owner = former;
      owner.set_ino(random() % 2 == 0 ? third : random());
      owner.set_count(static_cast<uint32_t>(random() % 4));
      txn.put(key::former(5 + random() % 5, static_cast<uint32_t>(random() % 4)), owner);
    }
    ASSERT_TRUE(store_->commit(std::move(txn)));
    run(true);
    expect_sound();
    ASSERT_FALSE(HasFailure()) << "after damage of a record of kind " << k.substr(0, 1);
    ASSERT_EQ(runs_of(store_->begin(), other_, 0, 10).value().size(), 1u);
    ASSERT_EQ(get<pb::Inode>(safe).size(), 3u * 4096);
  }
}

// 200,000, or as many as DATACLOUD_FILES says.
uint64_t many_files() {
  const char* given = std::getenv("DATACLOUD_FILES");
  return given ? std::strtoull(given, nullptr, 10) : 200'000 / kSlowdown;
}

// Many files, checked in a table of a tenth of their number, while the store goes on serving.
TEST_F(FsckTest, ManyFilesInBoundedMemoryWhileTheStoreServes) {
  const uint64_t files = many_files();
  constexpr uint64_t kPerDirectory = 1000, kFirst = 10'000'000;
  damage([&](Transaction& txn) { put_counter(txn, "next_id/inode", kFirst + files); });
  const RecordCheckLimits limits{.table_inodes = std::min<size_t>(files / 10, 1u << 20),
                                 .buckets = 1024};
  uint64_t links = 0;
  for (uint64_t i = 0; i < files;) {
    Transaction txn = store_->begin();
    pb::Inode directory = get<pb::Inode>(key::inode(make(kRootInode, std::to_string(i), S_IFDIR)));
    for (uint64_t j = 0; j < kPerDirectory; ++j, ++i) {
      pb::Inode file = get<pb::Inode>(key::inode(other_));
      file.set_ino(kFirst + i);
      file.set_blocks_mapped(0);
      file.set_size(0);
      if (i % 5'000 == 7) {
        file.set_nlink(9);
        ++links;
      }
      names::add_entry(txn, directory, "file" + std::to_string(j), file);
      names::put_inode(txn, file);
    }
    names::put_inode(txn, directory);
    Totals totals = read_totals(txn).value();
    totals.inodes += kPerDirectory;
    write_totals(txn, totals);
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  const auto view = store_->snapshot();
  RecordCheckProgress progress;
  result<RecordCheckReport> report = failure(Errc::unavailable, "not yet");
  const uint64_t before = resident_bytes();
  std::thread checker([&] { report = check_records(*view, limits, progress); });
  uint64_t grown = 0, served = 0;
  Duration slowest{};
  for (uint64_t seen = 0; seen < 2 * files && !progress.stop; seen = progress.records) {
    const auto begin = monotonic_now();
    Transaction txn = store_->begin();
    EXPECT_TRUE(txn.get(key::inode(kFirst + served * 7919 % files)).value());
    txn.put(key::meta("other"), std::to_string(served++));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    slowest = std::max<Duration>(slowest, monotonic_now() - begin);
    const uint64_t now = resident_bytes();
    grown = std::max(grown, now - std::min(before, now));
    std::this_thread::sleep_for(milliseconds(1));
  }
  checker.join();
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(report.value().findings_total, links);
  EXPECT_GT(progress.records, 10 * files) << "as many passes as the table is smaller";
  std::printf("%llu files: %llu records read, %.1f MiB more memory\n",
              static_cast<unsigned long long>(files),
              static_cast<unsigned long long>(progress.records.load()), double(grown) / (1 << 20));
  // 40 bytes of table an inode; the rest is LevelDB's: its blocks and the changes.
  EXPECT_LT(grown, (48u << 20) + 40 * limits.table_inodes) << "memory grows with the files";
  EXPECT_GT(served, 20u);  // on a busy machine a step takes a while
  EXPECT_LT(slowest, kSlowdown * seconds(2)) << "the store did not serve meanwhile";
}

}  // namespace
}  // namespace datacloud
