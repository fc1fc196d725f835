// What a store over a journal may show after any crash.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/daemon/metadata/journal_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {

using JournalRecords = std::map<std::string, std::string>;

// The state after every transaction of the journal's history. Each transaction changes several
// records, and keeps an answer as requests do.
class JournalModel {
 public:
  explicit JournalModel(Seeded& random) : random_(random) { states_.push_back({}); }

  void transaction(JournalRig& rig) {
    auto txn = rig.store->begin();
    JournalRecords next = states_.back();
    const std::string number = std::to_string(++numbers_);
    const uint64_t changes = random_.number(0, 3);
    for (uint64_t i = 0; i <= changes; ++i) {
      const std::string key = "Z" + std::to_string(random_.number(0, 9));
      if (random_.number(0, 3) == 0) {
        next.erase(key);
        txn.erase(key);
      } else {
        const std::string value = number + std::string(random_.number(0, 2000), 'v');
        next[key] = value;
        txn.put(key, value);
      }
    }
    next["Z-answer"] = number;
    txn.put("Z-answer", number);
    ASSERT_TRUE(rig.committer().apply(std::move(txn)));
    states_.push_back(next);
    if (random_.number(0, 2) == 0) {
      rig.committer().when_durable(
          [this, at = states_.size() - 1] { durable_ = std::max(durable_, at); });
    }
  }
  // What the store shows after a start: a state of the history, none before what was durable. What
  // was after it never was.
  void started(JournalRig& rig, bool same_directory_without_power_cut) {
    const JournalRecords now = rig.records();
    for (size_t i = states_.size(); i-- > 0;) {
      if (states_[i] != now) continue;
      EXPECT_GE(i, durable_) << "something durable is gone";
      if (same_directory_without_power_cut) {
        EXPECT_EQ(i, states_.size() - 1) << "an answer is gone";
      }
      states_.resize(i + 1);
      return;
    }
    FAIL() << "a state that never was";
  }

 private:
  Seeded& random_;
  std::vector<JournalRecords> states_;  // after each transaction
  size_t durable_ = 0;
  uint64_t numbers_ = 0;
};

}  // namespace datacloud
