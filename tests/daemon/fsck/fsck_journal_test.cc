// Damage to the records of the journal, made by hand: each is found and told; what can be mended
// is, and what cannot says that the metadata have to be rebuilt.
#include "daemon/metadata/journal_records.h"
#include "daemon/records/cloud_features.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class FsckJournalTest : public FsckTest {
 protected:
  // A cloud with a journal, and three transactions that no entry holds.
  void SetUp() override {
    FsckTest::SetUp();
    ASSERT_TRUE(apply([](Transaction& txn) -> result<void> {
      TRY(enable_feature(txn, Feature::journal, 1));
      pb::JournalSet set;
      set.set_journal(std::string(16, 'j'));
      set.set_number(1);
      for (uint32_t site = 1; site <= 3; ++site) set.add_sites(site);
      set.set_segment_bytes(4 << 20);
      set.set_losses(1);
      txn.put(key::meta(kJournalRecord), set);
      txn.put(key::meta(kPositionRecord), encode_position({}));
      return success();
    }));
    open();
    for (int i = 0; i < 3; ++i) {
      damage([&](Transaction& txn) {
        txn.put(key::meta("start"), std::string(8, static_cast<char>(i)));
      });
    }
    ASSERT_EQ(store_->undoable().value().size(), 3u);
    EXPECT_EQ(run(false).findings_total(), 0u) << run(false).ShortDebugString();
  }
  pb::FsckReply::Finding only(bool mend) {
    const auto reply = run(mend);
    EXPECT_EQ(reply.findings_total(), 1u) << reply.ShortDebugString();
    if (reply.findings_size() == 0) return {};
    EXPECT_EQ(reply.findings(0).kind(), "journal");
    return reply.findings(0);
  }
  // Records of this directory alone are changed beside the journal.
  void damage_local(const std::string& key, std::optional<std::string> value) {
    damage([&](Transaction& txn) { value ? txn.put(key, *value) : txn.erase(key); });
  }
};

TEST_F(FsckJournalTest, ADamagedSetIsToldAndNotMended) {
  for (const char* value : {"\xff\xff", ""}) {
    damage_local(key::meta(kJournalRecord), value);
    EXPECT_THAT(only(false).text(), HasSubstr("the record of the journal's sites is damaged"));
    EXPECT_FALSE(only(true).mended());
  }
}

TEST_F(FsckJournalTest, ASetThatIsGoneIsToldByTheFeature) {
  damage_local(key::meta(kJournalRecord), std::nullopt);
  const auto finding = only(false);
  EXPECT_THAT(finding.text(), HasSubstr("the record of its sites is gone"));
  EXPECT_THAT(finding.text(), HasSubstr("datacloud recover"));
}

TEST_F(FsckJournalTest, APositionThatIsDamagedOrGoneIsToldAndNotMended) {
  damage_local(key::meta(kPositionRecord), "short");
  EXPECT_THAT(only(true).text(), HasSubstr("in the journal is damaged"));
  damage_local(key::meta(kPositionRecord), std::nullopt);
  EXPECT_THAT(only(true).text(), HasSubstr("in the journal is not recorded"));
}

TEST_F(FsckJournalTest, ADamagedUndoRecordGoesWithThoseBeforeIt) {
  damage_local(key::undo(2), "no record\xff");
  EXPECT_THAT(only(false).text(), HasSubstr("what undoes entry 2 of the journal is damaged"));
  EXPECT_TRUE(only(true).mended());
  EXPECT_FALSE(store_->begin().get(key::undo(1)).value());
  EXPECT_FALSE(store_->begin().get(key::undo(2)).value());
  EXPECT_TRUE(store_->begin().get(key::undo(3)).value());
  open();
  ASSERT_TRUE(store_->undoable());
  EXPECT_EQ(store_->undoable().value().front().number, 3u);
  EXPECT_EQ(run(false).findings_total(), 0u);
}

TEST_F(FsckJournalTest, AnUndoRecordWithoutASequenceIsDamaged) {
  pb::JournalUndo undo;
  undo.add_changes()->set_key("Zx");
  damage_local(key::undo(3), undo.SerializeAsString());
  EXPECT_THAT(only(false).text(), HasSubstr("what undoes entry 3 of the journal is damaged"));
}

TEST_F(FsckJournalTest, TheFeatureIsListedWhereTheRecordsNeedIt) {
  damage_local(key::meta("features"), std::nullopt);
  const auto reply = run(true);
  ASSERT_EQ(reply.findings_size(), 1);
  EXPECT_THAT(reply.findings(0).text(), HasSubstr("the feature \"journal\""));
  EXPECT_TRUE(reply.findings(0).mended());
  EXPECT_TRUE(includes(read_features(store_->begin()).value(), Feature::journal));
}

TEST_F(FsckJournalTest, ADamagedRecordOfTheDaemonsIsBegunAnewAndTheLeaseGoesOn) {
  pb::Leadership record;
  record.set_leader("nobody");
  record.add_daemons()->set_name("home");
  record.set_lease_ms(1700);
  for (const std::string& value : {std::string("\xff\xff"), record.SerializeAsString()}) {
    damage_local(key::meta(kLeadershipRecord), value);
    EXPECT_THAT(only(false).text(), HasSubstr("the record of the cloud's daemons is damaged"));
    EXPECT_TRUE(only(true).mended());
    pb::Leadership mended;
    ASSERT_TRUE(store_->begin().get(key::meta(kLeadershipRecord), mended).value());
    EXPECT_EQ(mended.daemons_size(), 0);
    EXPECT_GE(mended.lease_ms(), 1700u);
    EXPECT_EQ(run(false).findings_total(), 0u);
  }
}

TEST_F(FsckJournalTest, AGoodRecordOfTheDaemonsIsLeftAlone) {
  pb::Leadership record;
  record.set_leader("home");
  record.add_daemons()->set_name("home");
  damage_local(key::meta(kLeadershipRecord), record.SerializeAsString());
  EXPECT_EQ(run(false).findings_total(), 0u);
}

class FsckNoJournalTest : public FsckTest {};

TEST_F(FsckNoJournalTest, RecordsOfAJournalThatThereIsNotAreErased) {
  damage([](Transaction& txn) {
    txn.put(key::meta(kPositionRecord), encode_position({}));
    txn.put(key::undo(9), std::string("anything"));
  });
  EXPECT_EQ(run(false).findings_total(), 2u);
  run(true);
  EXPECT_EQ(run(false).findings_total(), 0u);
  EXPECT_FALSE(store_->begin().get(key::undo(9)).value());
}

}  // namespace
}  // namespace datacloud
