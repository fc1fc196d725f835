// Commits whose runs have bytes in the records (feature "inline"): an inline run brings its sealed
// block; a run with `patches` = 1, without a stripe, one more patch of the block mapped there,
// under its version. The bytes are the commit's pieces (docs/protocol.md, "Bytes in the records").
//
// Functions of the loop, pure changes of a transaction.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud::inline_blocks {

// The pieces of one commit by what they are of. Refers to the request, which outlives it.
class Pieces {
 public:
  // invalid: more than a commit may bring (common/rpc/inline_limits.h); a piece that no run names,
  // or several; a run without its piece, or of another shape; a patch in an update that may follow
  // any state.
  static result<Pieces> of(const pb::CommitRequest&);

  bool empty() const { return sealed_.empty(); }
  uint64_t bytes() const { return bytes_; }
  // Of a run that of() has seen.
  const std::string& sealed(InodeId, const pb::Run&) const;

 private:
  using Key = std::tuple<InodeId, uint64_t, ContentVersion, bool>;  // block, version, patch
  std::map<Key, const std::string*> sealed_;
  uint64_t bytes_ = 0;
};

// Whether the update's patches can be applied to what is mapped now. False: a block has no data
// that can be changed, as many patches as it may have (`patches_max`), or of half its length
// together, or newer ones. The mount sends the whole block then.
result<bool> may_patch(const Transaction&, const pb::Inode&, const pb::InodeUpdate&, const Pieces&,
                       uint32_t patches_max);

// update_inode() with such runs, after all others of the update. Call when may_patch().
result<pb::Inode> update_with(Transaction&, const pb::InodeUpdate&, const Pieces&,
                              uint32_t patches_max);

}  // namespace datacloud::inline_blocks
