// A cloud's metadata with its journal at memory sites, led by hand: what recovery finds.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/checkpoint/recovery.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/guarded_log.h"
#include "daemon/metadata/journal_records.h"
#include "tests/daemon/checkpoint/checkpoint_rig.h"

namespace datacloud {

class RecoveryTest : public CheckpointTest {
 protected:
  static constexpr int kSites = 5;

  void SetUp() override {
    CheckpointTest::SetUp();
    make_sites(kSites);
    for (int i = 0; i < kSites; ++i) {
      memories_.push_back(make_guarded_memory());
      const auto objects = open_guarded_memory(memories_.back());
      ASSERT_TRUE(journal::format_guarded_log(*objects, {.journal = journal_}));
      logs_.push_back(open_log(i));
    }
    set_.set_journal(std::string(as_text(ByteView(journal_))));
    set_.set_number(1);
    set_.set_losses(2);
    set_.set_segment_bytes(1 << 20);
    for (int i = 1; i <= kSites; ++i) set_.add_sites(static_cast<uint32_t>(i));
    auto txn = store_->begin();
    txn.put(key::meta(kJournalRecord), set_);
    for (const char* name : {"inode", "stripe", "instance", "version"}) {
      txn.put(key::meta(std::string("next_id/") + name), std::string("\0\0\0\0\0\0\1\0", 8));
    }
    txn.put(key::meta(kPositionRecord), encode_position({}));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    lead();
  }

  std::shared_ptr<journal::LogStore> open_log(int site) {
    return journal::make_guarded_log(open_guarded_memory(memories_[static_cast<size_t>(site)]),
                                     {.journal = journal_});
  }

  // A new epoch goes on behind the last entry.
  void lead() {
    epoch_ = {epoch_.number + 1, seeded_.number(1, UINT64_MAX)};
    sealer_ = std::make_unique<journal::EntrySealer>(metadata_key_, journal_, epoch_);
    for (auto& log : logs_) {
      ASSERT_TRUE(log->claim(epoch_));
      ASSERT_TRUE(log->begin(epoch_, last_, journal::Base::in_log));
    }
    append(journal::EntryKind::opening, {});
  }
  // To all sites, or to the first `sites` of them.
  void append(journal::EntryKind kind, ByteView content, int sites = kSites) {
    const auto entry = sealer_->seal(kind, last_, last_.sequence, content).value();
    const auto batch = journal::LogBatch::of({entry}).value();
    for (int i = 0; i < sites; ++i) {
      ASSERT_TRUE(journal::append_now(*logs_[static_cast<size_t>(i)], epoch_, batch));
    }
    last_ = entry.position();
    history_[last_.sequence] = stored();
  }
  // A transaction, in the store and as an entry.
  void change(const RecordChanges& changes, int sites = kSites) {
    change_store(changes);
    pb::JournalBatch batch;
    batch.set_sequence(store_->sequence());
    add(batch, changes);
    append(journal::EntryKind::data, as_bytes(batch.SerializeAsString()), sites);
    note_position();
  }
  static void add(pb::JournalBatch& batch, const RecordChanges& changes) {
    for (const auto& [key, value] : changes) {
      auto* change = batch.add_changes();
      change->set_key(key);
      if (value) change->set_value(*value);
    }
  }
  void change_store(const RecordChanges& changes) {
    auto txn = store_->begin();
    for (const auto& [key, value] : changes) value ? txn.put(key, *value) : txn.erase(key);
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  // The store's sequence stays as the batch has it.
  void note_position() { position_ = last_; }
  RecordChanges some_changes() {
    RecordChanges changes;
    for (uint64_t i = seeded_.number(1, 5); i > 0; --i) {
      const std::string key = key::inode(1000 + seeded_.number(0, 30));
      if (seeded_.number(0, 3) == 0) {
        changes[key] = std::nullopt;
      } else {
        changes[key] = std::string(as_text(seeded_.bytes(seeded_.number(0, 200))));
      }
    }
    return changes;
  }
  // A checkpoint as of the last transaction, and its root.
  pb::CheckpointRoot checkpoint() {
    write_position();
    const auto written = write(how("rs-3-2", 2));
    EXPECT_TRUE(written) << written.error().message();
    roots_.push_back(written.value().root);
    append(journal::EntryKind::root, as_bytes(roots_.back().SerializeAsString()));
    return roots_.back();
  }
  // Of the store; not a transaction of the journal.
  void write_position() {
    auto txn = store_->begin();
    txn.put(key::meta(kPositionRecord), encode_position(position_));
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  Records stored() const {
    Records records = CheckpointTest::stored();
    records.erase(key::meta("sequence"));
    return records;
  }

  std::vector<RecoverySource> sources() {
    std::vector<RecoverySource> sources;
    for (int i = 0; i < kSites; ++i) {
      RecoverySource source{.site = static_cast<SiteId>(i + 1),
                            .name = std::string("s").append(std::to_string(i + 1))};
      if (std::count(lost_.begin(), lost_.end(), i) > 0) {
        source.obstacle = "it has burned down";
      } else {
        source.log = open_log(i);
      }
      sources.push_back(std::move(source));
    }
    return sources;
  }
  void lose_log(int site) { lost_.push_back(site); }
  void lose(int site) {
    lose_log(site);
    set_away(static_cast<size_t>(site), true);
  }
  MetadataStore::Options made() const { return {.directory = root_ + "/made"}; }
  result<Recovered> load(Survey survey, std::optional<uint64_t> to = {}) {
    return load_metadata(survey, sources(), place(), made(), to, {});
  }
  // What was made, without what is of its directory alone.
  Records made_records() const {
    const auto store = MetadataStore::open(made()).value();
    Records records;
    EXPECT_TRUE(store->begin().scan("", std::string(64, '\xff'), [&](auto key, auto value) {
      records.emplace(key, value);
      return true;
    }));
    records.erase(key::meta("sequence"));
    records.erase(key::meta(kPositionRecord));
    std::erase_if(records, [](const auto& r) { return r.first[0] == 'u'; });
    return records;
  }

  pb::JournalSet set_;
  std::vector<std::shared_ptr<GuardedMemory>> memories_;
  std::vector<std::shared_ptr<journal::LogStore>> logs_;
  journal::Epoch epoch_;
  std::unique_ptr<journal::EntrySealer> sealer_;
  journal::LogPosition last_, position_;
  std::map<uint64_t, Records> history_;  // after each entry
  std::vector<pb::CheckpointRoot> roots_;
  std::vector<int> lost_;
};

}  // namespace datacloud
