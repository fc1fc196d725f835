// A metadata store and memory sites, for tests of checkpoints.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/codes/erasure_code.h"
#include "common/store/memory_store.h"
#include "common/store/store_decorators.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/record_snapshot.h"
#include "tests/daemon/metadata/store_fixture.h"
#include "tests/support/seeded.h"

namespace datacloud {

inline journal::LogPosition test_position(uint64_t sequence) {
  journal::LogPosition position{{7, 0xc0ffee}, sequence, {}};
  position.hash.fill(static_cast<uint8_t>(sequence));
  return position;
}

inline std::string position_text(const journal::LogPosition& position) {
  Bytes bytes(journal::kPositionBytes);
  journal::put_position(bytes, 0, position);
  return std::string(as_text(bytes));
}

class CheckpointTest : public StoreTest {
 protected:
  using Records = std::map<std::string, std::string>;

  void make_sites(int count, FaultRule rule = {}) {
    sites_.reset();
    controls_.assign(static_cast<size_t>(count), {});
    for (auto& control : controls_) control = MemoryStoreControl();
    open_sites(std::move(rule));
  }
  void open_sites(FaultRule rule = {}) {
    std::vector<SiteSet::Member> members;
    for (size_t i = 0; i < controls_.size(); ++i) {
      auto store = make_memory_store(controls_[i]);
      if (rule) store = make_fault_store(std::move(store), rule);
      members.push_back({static_cast<SiteId>(i + 1), std::string("s").append(std::to_string(i + 1)),
                         std::move(store)});
    }
    sites_ = std::make_unique<SiteSet>(std::move(members));
  }
  void set_away(size_t site, bool away) {
    controls_[site].set_away(away);
    sites_->check_all(seconds(30));
  }

  // Commits `count` records of `bytes` each, and a position.
  void add_records(size_t count, size_t bytes, uint64_t sequence) {
    auto txn = store_->begin();
    for (size_t i = 0; i < count; ++i) {
      const Bytes value = seeded_.bytes(bytes);
      txn.put(key::inode(1000 + next_++), std::string(as_text(value)));
    }
    txn.put(key::meta("journal_position"), position_text(test_position(sequence)));
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  Records stored() const {
    Records records;
    const auto txn = store_->begin();
    EXPECT_TRUE(txn.scan("", std::string(64, '\xff'), [&](auto key, auto value) {
      records.emplace(key, value);
      return true;
    }));
    records.erase(key::meta("journal_position"));
    std::erase_if(records, [](const auto& r) { return r.first[0] == 'u'; });
    return records;
  }

  CheckpointPlace place() {
    return {.metadata_key = metadata_key_, .journal = journal_, .sites = *sites_};
  }
  CheckpointWrite how(const std::string& code, int losses) {
    CheckpointWrite write;
    write.number = random_checkpoint_number().value();
    write.code = make_erasure_code(code).value();
    write.losses = losses;
    for (size_t i = 0; i < controls_.size(); ++i) write.over.push_back(static_cast<SiteId>(i + 1));
    return write;
  }
  result<WrittenCheckpoint> write(const CheckpointWrite& how) {
    const auto snapshot = store_->snapshot();
    return write_checkpoint(*snapshot, place(), how);
  }
  result<Records> read(const pb::CheckpointRoot& root, CheckpointReading* told = nullptr) {
    Records records;
    TRY(auto reading, read_checkpoint(root, place(), [&](auto key, auto value) -> result<void> {
          records.emplace(key, value);
          return success();
        }));
    if (told != nullptr) *told = std::move(reading);
    return records;
  }
  size_t objects() const {
    size_t count = 0;
    for (const auto& control : controls_) count += control.object_count();
    return count;
  }

  Seeded seeded_;
  uint64_t next_ = 0;
  const SecretKey metadata_key_ = SecretKey::random();
  const journal::JournalId journal_{1, 2, 3};
  std::vector<MemoryStoreControl> controls_;
  std::unique_ptr<SiteSet> sites_;
};

}  // namespace datacloud
