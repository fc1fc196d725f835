// Pins the records of the view to the bytes docs/format-metadata.md shows: the same operations give
// the same keys and values, and the documented bytes still read as what they say.
//
// A failure means that stores written before would be read differently: give the format a new
// version, or undo the change.
#include <fstream>
#include <set>
#include <sstream>

#include "daemon/metadata/journal_records.h"
#include "tests/daemon/records/block_map_fixture.h"

namespace datacloud {
namespace {

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    out.push_back(kDigits[static_cast<uint8_t>(c) >> 4]);
    out.push_back(kDigits[c & 15]);
  }
  return out;
}

// The lines of the code block that follows the title, without empty ones.
std::string documented_records(const std::string& title = "## Worked bytes") {
  std::ifstream file(std::string(DATACLOUD_SOURCE_DIR) + "/docs/format-metadata.md");
  std::string line, records;
  bool chapter = false, block = false;
  while (std::getline(file, line)) {
    if (line.starts_with("## ")) chapter = line == title;
    if (chapter && line.starts_with("```")) {
      if (block) break;
      block = true;
    } else if (block && !line.empty()) {
      records += line + "\n";
    }
  }
  return records;
}

class MetadataFormat : public BlockMapFixture {
 protected:
  void put_fixed_records(Transaction& txn) {
    auto root = get_inode(txn, kRootInode).value();
    root.set_atime_ns(1);
    root.set_mtime_ns(1);
    root.set_ctime_ns(1);
    txn.put(key::inode(kRootInode), root);
    pb::Session session;
    session.set_id(3);
    session.set_host("node1");
    session.set_pid(77);
    txn.put(key::session(3), session);
    pb::Node node;
    node.set_name("gpu07");
    node.add_roles("mount");
    node.set_state(pb::NODE_JOINED);
    node.set_created_ns(1000);
    txn.put(key::node("gpu07"), node);
    pb::GrantedRange range;
    range.set_kind(static_cast<uint32_t>(IdKind::instance));
    range.set_first(4096);
    range.set_count(1024);
    range.set_session(3);
    txn.put(key::granted(IdKind::instance, 4096), range);
  }

  static result<void> change_namespace(Transaction& txn) {
    pb::CreateRequest file;
    file.set_parent(kRootInode);
    file.set_name("a");
    file.set_mode(S_IFREG | 0644);
    file.set_uid(1000);
    file.set_gid(100);
    file.set_now_ns(1'000'000'000);
    TRY(create(txn, file, 16));
    file.set_name("b");
    TRY(create(txn, file, 17));
    pb::SetXattrRequest xattr;
    xattr.set_ino(16);
    xattr.set_name("user.n");
    xattr.set_value("v");
    xattr.set_now_ns(1'000'000'001);
    TRY(set_xattr(txn, xattr));
    pb::UnlinkRequest gone;
    gone.set_parent(kRootInode);
    gone.set_name("b");
    gone.set_now_ns(1'000'000'002);
    TRY(unlink(txn, gone));
    return success();
  }

  // Three blocks in stripe 5; then the middle one in stripe 6, and stripe 7 comes and goes.
  static result<void> change_blocks(Transaction& txn) {
    pb::InodeUpdate update;
    update.set_ino(16);
    TRY(add_stripe(txn, make_stripe(5, {100, 200, 300})));
    *update.add_runs() = make_run(0, 3, 5, 0, 900);
    update.set_grow_to(3 * 4096);
    TRY(update_inode(txn, update));
    TRY(add_stripe(txn, make_stripe(6, {50})));
    *update.mutable_runs(0) = make_run(1, 1, 6, 0, 903);
    TRY(update_inode(txn, update));
    TRY(add_stripe(txn, make_stripe(7, {40})));
    TRY(drop_unmapped_stripes(txn, {7}));
    pb::Damage damage;
    damage.set_stripe(5);
    damage.set_column(1);
    damage.set_instance(501);
    damage.set_site(2);
    damage.set_reason("tag");
    damage.set_found_ns(7);
    return record_damage(txn, damage);
  }

  std::string all_records(const std::set<std::string>& only = {}) {
    std::string lines;
    EXPECT_TRUE(store_->begin().scan(std::string(1, 0), std::string(1, 0x7f),
                                     [&](std::string_view k, std::string_view v) {
                                       if (!only.empty() && !only.contains(std::string(k)))
                                         return true;
                                       lines += std::string(1, k[0]) + " " + hex(k.substr(1)) +
                                                " = " + (v.empty() ? "(empty)" : hex(v)) + "\n";
                                       return true;
                                     }));
    return lines;
  }
};

TEST_F(MetadataFormat, RecordsAreTheDocumentedBytes) {
  const auto done = apply([&](Transaction& txn) -> result<void> {
    put_fixed_records(txn);
    TRY(change_namespace(txn));
    return change_blocks(txn);
  });
  ASSERT_TRUE(done) << done.error().message();
  expect_clean();
  EXPECT_EQ(all_records(), documented_records());
}

TEST_F(MetadataFormat, TheJournalsRecordsAreTheDocumentedBytes) {
  pb::JournalSet set;
  set.set_journal(
      std::string("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16));
  set.set_number(1);
  for (uint32_t site = 1; site <= 3; ++site) set.add_sites(site);
  set.set_segment_bytes(16 << 20);
  set.set_losses(1);
  ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
    txn.put(key::meta(kJournalRecord), set);
    txn.put(key::meta(kPositionRecord), encode_position({}));
    txn.put("Za", std::string("old"));
    return success();
  }));
  open();
  MetadataStore::JournalStep step;
  step.before = {{7, 0xc0ffee0000000001}, 11, {}};
  step.before.hash.fill(0x22);
  step.position = {{7, 0xc0ffee0000000001}, 12, {}};
  step.position.hash.fill(0x11);
  auto txn = store_->begin();
  txn.put("Za", std::string("new"));
  txn.put("Zb", std::string("added"));
  ASSERT_TRUE(store_->commit(std::move(txn), step));
  EXPECT_EQ(all_records({key::meta(kJournalRecord), key::meta(kPositionRecord), key::undo(12)}),
            documented_records("## Worked bytes of the journal"));
}

TEST(RecordKeys, SortByTheirIntegers) {
  const std::vector<uint64_t> numbers = {0,        1,          255,        256,       65535,
                                         1u << 31, 1ull << 40, 1ull << 63, UINT64_MAX};
  for (size_t i = 1; i < numbers.size(); ++i) {
    EXPECT_LT(key::run(5, numbers[i - 1]), key::run(5, numbers[i]));
    EXPECT_LT(key::inode(numbers[i - 1]), key::inode(numbers[i]));
    EXPECT_LT(key::entry(numbers[i - 1], "z"), key::entry(numbers[i], "a"));
  }
  EXPECT_EQ(key::u64_at(key::run(5, 1ull << 40), 9), 1ull << 40);
  EXPECT_EQ(key::u32_at(key::owner(7, 0xfffffffe), 9), 0xfffffffeu);
  EXPECT_EQ(key::after_prefix("ab"), "ac");
  EXPECT_EQ(key::after_prefix("a\xff"), "b");
  EXPECT_GT(key::after_prefix("\xff\xff"), key::entry(UINT64_MAX, std::string(255, '\xff')));
  EXPECT_GT(key::after_prefix(key::entry(UINT64_MAX, "")), key::entry(UINT64_MAX, "\xff\xff"));
}

}  // namespace
}  // namespace datacloud
