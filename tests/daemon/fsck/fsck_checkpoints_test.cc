// Damage to the records of checkpoints, made by hand.
#include "common/proto/checkpoint.pb.h"
#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/checkpoint/journal_audit.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

class FsckCheckpointsTest : public FsckTest {
 protected:
  static pb::CheckpointRecord whole(uint64_t number) {
    pb::CheckpointRecord record;
    record.set_number(number);
    record.set_state(pb::CHECKPOINT_WHOLE);
    record.set_position(std::string(56, 'p'));
    record.set_pieces(3);
    record.set_columns(5);
    for (uint32_t site = 1; site <= 5; ++site) record.add_sites(site);
    return record;
  }
  static std::string key_of(uint64_t number) {
    return key::meta(kCheckpointRecord + checkpoint_name(number));
  }
  void put(const std::string& k, const pb::CheckpointRecord& record) {
    damage([&](Transaction& txn) { txn.put(k, record); });
  }
};

TEST_F(FsckCheckpointsTest, ADamagedRecordOfTheAuditIsErased) {
  const std::string at = key::meta(kJournalAuditRecord);
  pb::JournalAuditState state;
  state.set_began_ns(5);
  state.add_sites(1);
  state.set_previous(std::string(32, 'h'));
  damage([&](Transaction& txn) { txn.put(at, state); });
  EXPECT_EQ(run(false).findings_total(), 0u) << run(false).ShortDebugString();
  state.set_previous("short");
  damage([&](Transaction& txn) { txn.put(at, state); });
  expect_mended("s audit is damaged");
  EXPECT_FALSE(store_->begin().get(at).value());
  damage([&](Transaction& txn) { txn.put(at, std::string("\xff\xff garbage")); });
  expect_mended("s audit is damaged");
}

TEST_F(FsckCheckpointsTest, DamagedRecordsAreErasedAndOthersLeftAlone) {
  put(key_of(0xabc), whole(0xabc));
  auto writing = whole(0xdef);
  writing.set_state(pb::CHECKPOINT_WRITING);
  writing.clear_pieces();
  writing.clear_position();
  put(key_of(0xdef), writing);
  EXPECT_EQ(run(false).findings_total(), 0u) << run(false).ShortDebugString();

  const std::vector<std::function<void(pb::CheckpointRecord&)>> changes{
      [](auto& r) { r.set_number(78); },
      [](auto& r) { r.set_state(static_cast<pb::CheckpointState>(9)); },
      [](auto& r) { r.clear_position(); },
      [](auto& r) { r.clear_pieces(); },
      [](auto& r) { r.set_columns(33); },
      [](auto& r) { r.clear_sites(); },
      [](auto& r) { r.add_sites(1); },
      [](auto& r) { r.add_sites(0); }};
  for (const auto& change : changes) {
    auto record = whole(77);
    change(record);
    put(key_of(77), record);
    expect_mended("the record of checkpoint 000000000000004d is damaged");
    EXPECT_FALSE(store_->begin().get(key_of(77)).value());
  }
  damage([&](Transaction& txn) { txn.put(key_of(77), std::string("\xff\xff garbage")); });
  expect_mended("the record of checkpoint 000000000000004d is damaged");
  put(key::meta("checkpoint/77"), whole(77));
  expect_mended("the record of checkpoint 77 is damaged");
  EXPECT_TRUE(store_->begin().get(key_of(0xabc)).value());
  EXPECT_TRUE(store_->begin().get(key_of(0xdef)).value());
}

}  // namespace
}  // namespace datacloud
