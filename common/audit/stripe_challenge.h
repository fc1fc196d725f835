// One stripe under one challenge: what its sites' answers say about its shards. Used by the
// daemon's audits and by third parties.
//
// Two tests. By tag: each answer is verified with the site's audit key, for the instance the record
// names. Without a key: under one challenge the answers of all columns form a codeword of the
// stripe's code. It judges the columns of sites whose key is not at hand, and cross-checks the
// tags: where the two disagree, a key is wrong or in the wrong hands, and it is said.
//
// One answer sums up a whole shard with other weights for every block, so that for codes of several
// packets, which relate packet to packet, the answers of columns are no codeword. Their sites are
// asked for combinations besides: the same random sum over the same places of each packet. Packets
// of combinations side by side are a codeword. At most 1 MiB of a shard goes into one, from random
// places, and its answer costs 4 KiB a packet: that is for the caller to weigh (kComparedOneIn).
//
// Pure: asking the sites is the caller's. Thread safety: none, one per thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/audit/shard_tags.h"
#include "common/codes/erasure_code.h"

namespace datacloud {

enum class AuditVerdict { missing, corrupt, stale, silent };
const char* verdict_name(AuditVerdict);

// Of stripes whose codeword costs combinations of its own, these are asked for them.
inline constexpr unsigned kComparedOneIn = 16;

class StripeChallenge {
 public:
  struct Fault {
    int column = 0;
    AuditVerdict verdict = AuditVerdict::silent;
    std::string detail;
  };
  struct Totals {
    uint64_t shards_checked = 0;
    uint64_t bytes_covered = 0;      // of blocks that were asked for
    uint64_t bytes_transferred = 0;  // between the asker and the sites
    uint64_t read_remotely = 0;      // shards that were read because their site cannot compute
  };

  // A fresh challenge. samples: audit blocks per shard; 0, or as many as there are: all.
  StripeChallenge(const ShardTags&, pb::Stripe, uint64_t samples);

  const pb::Stripe& stripe() const { return stripe_; }
  const AuditChallenge& challenge() const { return challenge_; }
  ShardName name_of(int column) const {
    return {stripe_.id(), static_cast<uint8_t>(column), stripe_.shards(column).instance()};
  }
  // What the site of a column answered; once each.
  void judge(int column, const result<AuditProof>&);
  // For codes of several packets: what to ask each column for (ObjectStore::combine) so that there
  // is a test without keys, and the answer. nullopt: the proofs do, or nothing can be tested.
  const std::optional<Combination>& combination() const { return combination_; }
  // Whether some column can be judged in no other way.
  bool combination_needed() const;
  // Whether answers of all of `asked` would be more than a codeword has freedom: else there is no
  // test without keys.
  bool comparable(ColumnSet asked) const;
  void judge_combined(int column, const result<CombineReply>&);
  // It was not asked, and why.
  void silent(int column, std::string why);

  // After all columns; then the rest is valid.
  void finish();
  const std::vector<Fault>& faults() const { return faults_; }
  const Totals& totals() const { return totals_; }
  // Whether the answers were enough for the test without keys.
  bool compared() const { return compared_; }
  // Not empty: tags and codeword disagree.
  const std::string& doubt() const { return doubt_; }
  // The same with the sites of the columns that the codeword blames, as `name` calls them.
  std::string doubt_at(const std::function<std::string(SiteId)>& name) const;

 private:
  void add(int column, AuditVerdict, std::string detail);
  bool redundant(ColumnSet known) const;
  std::optional<ColumnSet> compare();
  void judge_without_key(std::optional<ColumnSet> wrong);

  const ShardTags& tags_;
  const pb::Stripe stripe_;
  const AuditChallenge challenge_;
  std::shared_ptr<const ErasureCode> code_;  // null: not a code of as many columns
  std::optional<Combination> combination_;
  bool combined_all_ = false;  // it covers every byte
  bool compared_ = false;
  ColumnSet blamed_ = 0;        // by the codeword, though there is a key of its site
  std::vector<Bytes> answers_;  // by column: what codewords are made of; empty: none
  ColumnSet answered_ = 0;      // the challenge
  ColumnSet failed_ = 0;        // answered, and the tag says it is wrong
  ColumnSet keyless_ = 0;       // answered, and there is no key of its site
  std::vector<Fault> faults_;
  Totals totals_;
  std::string doubt_;
};

}  // namespace datacloud
