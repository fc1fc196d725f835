// Runs, updates and the request of a commit.
#include "fs/write/commit_request.h"

#include <algorithm>

#include "common/proto/file_time.h"

namespace datacloud {

std::vector<pb::Run> runs_of(const Piece& piece, StripeId stripe) {
  std::vector<pb::Run> runs;
  const auto& blocks = piece.unit->flush.blocks;
  for (const auto& sealed : piece.sealed) {
    auto& run = runs.emplace_back();
    run.set_first_block(sealed.block());
    run.set_count(1);
    run.set_version(sealed.version());
    if (sealed.patch())
      run.set_patches(1);
    else
      run.set_inline_(true);
  }
  if (!piece.sealed.empty()) return runs;
  for (size_t i = 0; i < piece.count; ++i) {
    const uint64_t block = blocks[piece.first + i].block;
    if (!runs.empty() && runs.back().first_block() + runs.back().count() == block) {
      runs.back().set_count(runs.back().count() + 1);
      continue;
    }
    auto& run = runs.emplace_back();
    run.set_first_block(block);
    run.set_count(1);
    run.set_stripe(stripe);
    run.set_first_slot(piece.first_slot + static_cast<uint32_t>(i));
    run.set_version(piece.version + i);
  }
  return runs;
}

pb::InodeUpdate update_of(const Piece& piece, StripeId stripe) {
  const FlushUnit& unit = piece.unit->flush;
  pb::InodeUpdate update;
  update.set_ino(unit.ino);
  update.set_change_id(unit.change_id);
  for (const uint64_t id : unit.follows) update.add_follows(id);
  if (piece.leads()) {
    if (unit.truncate_to) update.set_truncate_to(*unit.truncate_to);
    if (unit.mtime) set_mtime(update, *unit.mtime);
    if (unit.ctime_ns) update.set_ctime_ns(*unit.ctime_ns);
    if (unit.mode) update.set_mode(*unit.mode);
  }
  for (auto& run : runs_of(piece, stripe)) *update.add_runs() = std::move(run);
  if (piece.ends()) {
    update.set_grow_to(unit.size);
  } else {
    const uint64_t last = unit.blocks[piece.first + piece.count - 1].block;
    update.set_grow_to(std::min(unit.size, (last + 1) * unit.block_bytes));
  }
  return update;
}

pb::Request commit_request(const std::vector<std::shared_ptr<WriteJob>>& jobs) {
  pb::Request request;
  pb::CommitRequest& commit = *request.mutable_commit();
  bool durable = false;
  for (const auto& job : jobs) {
    if (job->stripe) *commit.add_stripes() = *job->stripe;
    for (Piece& piece : job->pieces) {
      piece.update = -1;
      if (piece.unit->answered) continue;
      piece.update = commit.updates_size();
      durable = durable || piece.unit->durable;
      for (const auto& sealed : piece.sealed) *commit.add_pieces() = sealed;
      *commit.add_updates() = update_of(piece, job->stripe ? job->stripe->id() : 0);
    }
  }
  commit.set_durable(durable);
  return request;
}

}  // namespace datacloud
