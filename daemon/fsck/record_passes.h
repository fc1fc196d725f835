// What the passes of record_check.h share. Each reads a few kinds of records once, side by side in
// the order of their keys, and keeps no more than what belongs to one inode or stripe, a table of
// bounded size, and the sums below.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/proto/records.pb.h"
#include "daemon/fsck/lost_runs.h"
#include "daemon/fsck/record_check.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {

// Two sets of records are the same if the sums of their hashes are: kept per bucket of stripes, so
// that only those of a bucket that differs are looked at one by one.
class SetSums {
 public:
  explicit SetSums(size_t buckets, uint64_t seed)
      : seed_(seed), sums_(std::max<size_t>(1, buckets)) {}
  void add(StripeId stripe, std::initializer_list<uint64_t> words) { sum(stripe, words, 1); }
  void remove(StripeId stripe, std::initializer_list<uint64_t> words) {
    sum(stripe, words, ~uint64_t{0});
  }
  bool differs(StripeId stripe) const {
    const auto& s = sums_[mix(stripe) % sums_.size()];
    return s[0] != 0 || s[1] != 0;
  }
  bool any() const {
    return std::any_of(sums_.begin(), sums_.end(),
                       [](const auto& s) { return s[0] != 0 || s[1] != 0; });
  }

 private:
  static uint64_t mix(uint64_t x) {  // the finalizer of MurmurHash3
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
  }
  void sum(StripeId stripe, std::initializer_list<uint64_t> words, uint64_t sign) {
    uint64_t a = seed_, b = ~seed_;
    for (const uint64_t word : words) {
      a = mix(a ^ word);
      b = mix(b + word);
    }
    auto& s = sums_[mix(stripe) % sums_.size()];
    s[0] += sign * a;
    s[1] += sign * b;
  }

  const uint64_t seed_;
  std::vector<std::array<uint64_t, 2>> sums_;
};

inline constexpr const char* kLostMeans =
    "reading them is an error until they are written anew; a backup of the state may know more";

struct RecordPasses {
  const RecordSnapshot& view;
  const RecordCheckLimits limits;
  RecordCheckProgress& progress;
  SetSums runs;  // runs less the reverse map
  RecordCheckReport report{};
  Totals recount{};
  bool recount_whole = true;  // false: some stripes could not be counted for other damage
  InodeId ino_max = 0;
  StripeId stripe_max = 0;
  InstanceId instance_max = 0;
  ContentVersion version_max = 0;
  std::vector<StripeId> queued{};  // for repair, sorted; at most kQueuedMax
  bool queued_whole = true;

  // Records that need a feature, by its name: a handful of names at most.
  struct Use {
    uint64_t records = 0;
    std::string first;  // of them, for people
  };
  std::map<std::string, Use> uses{};

  static constexpr size_t kQueuedMax = 4u << 20;

  // What carries the id of a tree, by the id.
  struct TreeCount {
    uint64_t inodes = 0, logical_bytes = 0;
  };
  static constexpr size_t kTreesCountedMax = 1u << 20;  // beyond: damage gone wild
  std::map<uint32_t, TreeCount> tree_counts{};
  bool trees_counted = true;
  uint32_t tree_max = 0;  // of the ids that records name

  void count_in_tree(uint32_t id, uint64_t logical_bytes) {
    trees_counted &= tree_counts.size() < kTreesCountedMax || tree_counts.contains(id);
    if (!trees_counted) return;
    auto& count = tree_counts[id];
    ++count.inodes;
    count.logical_bytes += logical_bytes;
  }

  // Reserved bytes by tree and code; at most kTreesCountedMax of these.
  std::map<std::pair<uint32_t, std::string>, uint64_t> reserved{};
  void count_reserved(uint32_t tree, const std::string& code, uint64_t bytes) {
    if (reserved.size() < kTreesCountedMax || reserved.contains({tree, code}))
      reserved[{tree, code}] += bytes;
  }

  // `what` gives the record in words.
  template <class What>
  void note_use(const std::string& feature, const What& what) {
    Use& use = uses[feature];
    if (use.records++ == 0) use.first = what();
  }

  void add(Finding finding) {
    ++report.findings_total;
    if (report.findings.size() < limits.findings_max) report.findings.push_back(std::move(finding));
  }
  // Some blocks of the run are lost: marking them so mends it.
  result<void> add_lost(const StoredRun& stored, const std::vector<RunPart>& parts,
                        std::string text) {
    TRY(const uint64_t end, end_of_loss(view, stored.ino, stored.run.first_block()));
    add({.kind = "block-map",
         .text = std::move(text),
         .action = std::string("its blocks there are marked as lost: ") + kLostMeans,
         .records = split_run(stored, parts, end),
         .kept = stored.run.stripe()});
    return success();
  }
  // For every record read; unavailable when the check is to stop.
  result<void> count() {
    progress.records.fetch_add(1, std::memory_order_relaxed);
    if (progress.stop) return failure(Errc::unavailable, "the check was stopped");
    return success();
  }
};

template <class Message>
bool parses(std::string_view value, Message& message) {
  return message.ParseFromArray(value.data(), static_cast<int>(value.size()));
}

// The id a record belongs to: the big-endian integer behind the prefix. Above every id at the end.
inline uint64_t id_at(const RecordSnapshot::Cursor& cursor) {
  if (!cursor.valid()) return ~uint64_t{0};
  return cursor.key().size() < 9 ? 0 : key::u64_at(cursor.key(), 1);
}

inline RecordChange erased(const RecordSnapshot::Cursor& cursor) {
  return {std::string(cursor.key()), std::string(cursor.value()), std::nullopt};
}
inline RecordChange replaced(std::string key, std::optional<std::string> was, std::string becomes) {
  return {std::move(key), std::move(was), std::move(becomes)};
}

// Each of these is a pass; in this order.
result<void> check_inode_records(RecordPasses&);  // 'I' with 'X', 'O', 'M', and 'E' of no inode
result<void> check_directories(RecordPasses&);    // 'E' with 'D' and their directories
result<void> check_links(RecordPasses&);          // 'E' with the inodes they name, by ranges
result<void> check_trees(RecordPasses&);          // 'T', 'U', and which tree inodes are in
result<void> check_runs(RecordPasses&);           // 'M' with 'R'
result<void> check_reservations(RecordPasses&);   // 'h' with what inodes' 'H' add up to
result<void> check_inline(RecordPasses&);         // 'M' with 'V' and 'W'
result<void> check_stripes(RecordPasses&);        // 'S' with 'L', 'R', 'F', 'B', 'K' and rows
result<void> check_nodes(RecordPasses&);          // 'n'
result<void> check_ids(RecordPasses&);            // counters, 'G', 'P', 'Q', and the totals
result<void> check_journal(RecordPasses&);        // records of the journal, and what undoes
result<void> check_checkpoints(RecordPasses&);    // records of checkpoints at the sites
result<void> check_features(RecordPasses&);       // what all of them use, with the cloud's list

}  // namespace datacloud
