// A block and the patches that change it, put together (docs/format.md, "Sealed patch").
#pragma once

#include <cstdint>
#include <span>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/crypto/sealed_block.h"

namespace datacloud {

// Most patches of a block that the format allows. How many are made: daemon.block_patches_max.
inline constexpr uint32_t kBlockPatchesMax = 64;
inline constexpr uint32_t kBlockPatchesDefault = 8;

// An opened patch under the content version it was stored under.
struct VersionedPatch {
  ContentVersion version = 0;
  BlockPatch patch;
};

// The block's newest bytes. `base`: what the sealed block held, at most `block_bytes` (a block of
// the file, at most kBlockBytesMax), at `base_version`; `patches` in their order; `count`: how many
// the block map says there are. corrupt: fewer or more than that or than kBlockPatchesMax; versions
// that do not grow; a patch that was made for another state than the one before it; a range beyond
// its block, or a block beyond `block_bytes`. Then nothing of the block can be used: its base alone
// is what the file was before. Pure.
result<Bytes> patched_block(Bytes base, ContentVersion base_version,
                            std::span<const VersionedPatch> patches, uint32_t count,
                            uint32_t block_bytes);

}  // namespace datacloud
