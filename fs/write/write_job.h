// What moves through the write pipeline: units (as submitted) and jobs (one stripe each, or only
// attributes), which share pieces of units.
//
// A job is filled by the submitting thread, then belongs to its stage in turn; `state`, `stripe`
// and the units' answers change only under the commit queue's lock.
#pragma once

#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "common/codes/erasure_code.h"
#include "fs/write/group_writer.h"
#include "fs/write/seal_stage.h"
#include "fs/write/write_pipeline.h"

namespace datacloud {

struct WriteUnit {
  FlushUnit flush;
  std::string stream;  // units of one stream share stripes
  bool durable = false;
  WritePipeline::Done done;
  // Under the commit queue's lock:
  FlushResult result;
  bool answered = false;
};

// Consecutive blocks of one unit, in consecutive slots of one job's stripe, with consecutive
// content versions. A unit without blocks is one piece of no blocks.
struct Piece {
  std::shared_ptr<WriteUnit> unit;
  size_t first = 0, count = 0;  // of unit->flush.blocks
  uint32_t first_slot = 0;
  ContentVersion version = 0;
  std::vector<pb::SealedPiece> sealed;  // of a unit for the records, by block
  int update = -1;                      // its place in the commit that is under way

  bool leads() const { return first == 0; }
  bool ends() const { return first + count == unit->flush.blocks.size(); }
  BlockAddress address(size_t i) const {
    const FlushUnit& u = unit->flush;
    return {u.realm, u.ino, u.blocks[first + i].block, version + i, u.generation};
  }
};

struct WriteJob {
  std::shared_ptr<const ErasureCode> code;  // null: no stripe, but attributes or `to_records`
  bool to_records = false;                  // one piece, sealed
  uint64_t record_bytes = 0;                // of it
  std::vector<Piece> pieces;
  std::unordered_set<InodeId> inodes;  // of the pieces, while the job is filled
  uint32_t slots = 0;
  uint64_t plain_bytes = 0;
  uint32_t shard_bytes = kShardPlainBytesMax;
  std::optional<ColumnFill> fill;  // of a stripe
  Urgency urgency = Urgency::batch;
  std::shared_ptr<SealStage> sealing;
  uint32_t group_members = 0;  // of the policy; 0: no groups
  SiteId home_site = 0;
  GroupWriter::Place group;  // from its closing on

  enum class State { working, ready, committing };
  State state = State::working;
  std::shared_ptr<const pb::Stripe> stripe;
  int redone = 0;  // commits refused as revoked
};

}  // namespace datacloud
