#include "daemon/records/inline_commit.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/rpc/inline_limits.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"

namespace datacloud::inline_blocks {
namespace {

// Null: a run of one block whose bytes come as a piece.
const char* misshapen(const pb::Run& run) {
  if (run.count() != 1) return "has several blocks";
  if (run.stripe() != 0 || run.first_slot() != 0 || run.has_sealed_for())
    return "names a slot or another place";
  if (run.patches() > 1 || (run.inline_() && run.patches() > 0))
    return "is more than one block or one patch";
  return nullptr;
}

}  // namespace

result<Pieces> Pieces::of(const pb::CommitRequest& request) {
  Pieces out;
  std::map<Key, int> uses;
  for (const auto& piece : request.pieces()) {
    const Key key{piece.ino(), piece.block(), piece.version(), piece.patch()};
    if (piece.sealed().size() > kPieceBytesMax || !out.sealed_.emplace(key, &piece.sealed()).second)
      return failure(
          Errc::invalid,
          fmt::format("block {} of inode {} comes twice, or with {} bytes (of {} at most)",
                      piece.block(), piece.ino(), piece.sealed().size(), kPieceBytesMax));
    out.bytes_ += piece.sealed().size();
  }
  if (request.pieces_size() > kCommitPiecesMax || out.bytes_ > kCommitPieceBytesMax)
    return failure(Errc::invalid, fmt::format("{} blocks and patches of {} bytes in one commit; at "
                                              "most {} of {} are allowed",
                                              request.pieces_size(), out.bytes_, kCommitPiecesMax,
                                              kCommitPieceBytesMax));
  for (const auto& update : request.updates()) {
    for (const auto& run : update.runs()) {
      if (!has_records(run)) continue;
      const auto bad = [&](const std::string& what) {
        return failure(Errc::invalid, fmt::format("block {} of inode {}: its run {}",
                                                  run.first_block(), update.ino(), what));
      };
      if (const char* why = misshapen(run)) return bad(why);
      if (run.patches() > 0 && update.follows().empty())
        return bad("has a patch, which may not follow any state");
      const Key key{update.ino(), run.first_block(), run.version(), !run.inline_()};
      if (!out.sealed_.contains(key)) return bad("has no bytes in this commit");
      if (++uses[key] > 1) return bad("is there twice");
    }
  }
  if (uses.size() != out.sealed_.size())
    return failure(Errc::invalid, fmt::format("{} blocks or patches of a commit have no run",
                                              out.sealed_.size() - uses.size()));
  return out;
}

const std::string& Pieces::sealed(InodeId ino, const pb::Run& run) const {
  const auto it = sealed_.find({ino, run.first_block(), run.version(), !run.inline_()});
  DC_CHECK(it != sealed_.end());
  return *it->second;
}

result<bool> may_patch(const Transaction& txn, const pb::Inode& inode,
                       const pb::InodeUpdate& update, const Pieces& pieces, uint32_t patches_max) {
  for (const auto& run : update.runs()) {
    if (run.patches() == 0) continue;
    TRY(const auto stored, runs_of(txn, inode.ino(), run.first_block(), 1));
    if (stored.empty() || is_lost(stored[0])) return false;
    const auto records = read_records(txn, inode.ino(), stored[0]);
    if (!records) {
      if (records.error().is(Errc::corrupt)) return false;  // the whole block mends it
      return failure(records.error());
    }
    const auto& patches = records.value().patches;
    uint64_t bytes = pieces.sealed(inode.ino(), run).size();
    for (const auto& patch : patches) bytes += patch.sealed.size();
    const ContentVersion newest = patches.empty() ? stored[0].version() : patches.back().version;
    if (patches.size() >= patches_max || run.version() <= newest) return false;
    const uint64_t overhead = (patches.size() + 1) * kSealedPatchOverheadBytes;
    if (bytes > inode.policy().block_bytes() / 2 + overhead) return false;
  }
  return true;
}

result<pb::Inode> update_with(Transaction& txn, const pb::InodeUpdate& update, const Pieces& pieces,
                              uint32_t patches_max) {
  if (std::none_of(update.runs().begin(), update.runs().end(), has_records))
    return update_inode(txn, update);
  pb::InodeUpdate rest = update;
  rest.clear_runs();
  for (const auto& run : update.runs()) {
    if (!has_records(run)) *rest.add_runs() = run;
  }
  TRY(auto inode, update_inode(txn, rest));
  for (const auto& run : update.runs()) {
    if (!has_records(run)) continue;
    const NewBytes bytes{.ino = update.ino(),
                         .block = run.first_block(),
                         .version = run.version(),
                         .sealed = pieces.sealed(update.ino(), run),
                         .change_id = inode.change_id()};
    TRY(inode, run.inline_() ? put_block(txn, bytes) : put_patch(txn, bytes, patches_max));
  }
  return inode;
}

}  // namespace datacloud::inline_blocks
