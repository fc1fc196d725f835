#include "common/crypto/block_patches.h"

#include <fmt/format.h>

#include <utility>

namespace datacloud {
namespace {

Error corrupt(const std::string& what) {
  return Error(Errc::corrupt, "a patched block " + what + "; run datacloud fsck");
}

}  // namespace

result<Bytes> patched_block(Bytes base, ContentVersion base_version,
                            std::span<const VersionedPatch> patches, uint32_t count,
                            uint32_t block_bytes) {
  if (block_bytes > kBlockBytesMax || base.size() > block_bytes) {
    return failure(
        corrupt(fmt::format("has {} bytes, a block of its file {}", base.size(), block_bytes)));
  }
  if (patches.size() != count || count > kBlockPatchesMax) {
    return failure(corrupt(fmt::format("has {} patches, the block map names {} (of {} at most)",
                                       patches.size(), count, kBlockPatchesMax)));
  }
  ContentVersion state = base_version;
  for (const auto& [version, patch] : patches) {
    if (version <= state) {
      return failure(corrupt(fmt::format("has patch {} behind {}", version, state)));
    }
    if (patch.base != state) {
      return failure(corrupt(
          fmt::format("has patch {} for version {} behind {}", version, patch.base, state)));
    }
    if (patch.plain.empty() || patch.block_bytes > block_bytes ||
        patch.plain.size() > patch.block_bytes ||
        patch.offset > patch.block_bytes - patch.plain.size()) {
      return failure(corrupt(
          fmt::format("has patch {} of bytes {}+{} in a block of {} (of {} at "
                      "most)",
                      version, patch.offset, patch.plain.size(), patch.block_bytes, block_bytes)));
    }
    apply_patch(patch, base);
    state = version;
  }
  return base;
}

}  // namespace datacloud
