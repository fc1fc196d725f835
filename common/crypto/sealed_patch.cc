// Seals, opens and applies patches of blocks; layout in docs/format.md.
#include <algorithm>

#include "common/crypto/sealed_block.h"
#include "common/crypto/sealed_header.h"
#include "common/crypto/sealed_worker.h"

namespace datacloud {

void apply_patch(const BlockPatch& patch, Bytes& block) {
  block.resize(std::max<size_t>(patch.block_bytes, patch.offset + patch.plain.size()));
  std::copy(patch.plain.begin(), patch.plain.end(), block.begin() + patch.offset);
}

result<size_t> BlockSealer::seal_patch(const BlockAddress& address, const BlockPatch& patch,
                                       Compression compression, Bytes& out) const {
  return seal_patch_with_nonce(address, patch, compression, nullptr, out);
}

result<size_t> BlockSealer::seal_patch_with_nonce(const BlockAddress& address,
                                                  const BlockPatch& patch, Compression compression,
                                                  const uint8_t* nonce, Bytes& out) const {
  if (patch.plain.empty() || patch.block_bytes > kBlockBytesMax ||
      patch.plain.size() > patch.block_bytes ||
      patch.offset > patch.block_bytes - patch.plain.size()) {
    return failure(Errc::invalid, "a patch of " + describe(address) + " has " +
                                      std::to_string(patch.plain.size()) + " bytes from " +
                                      std::to_string(patch.offset) + " on in a block of " +
                                      std::to_string(patch.block_bytes));
  }
  BorrowedWorker worker(*impl_);
  const auto packed = worker->pack(patch.plain, {compression});
  uint8_t head[kSealedPatchHeaderBytes];
  sealed::encode(sealed::PatchHeader{packed.packing.compression, address.realm_generation,
                                     address.generation, patch.offset,
                                     static_cast<uint32_t>(patch.plain.size()), patch.block_bytes},
                 head);
  const sealed::AdditionalData aad(head, address, &patch.base, impl_->cloud_uuid);
  return impl_->append(*worker, address, head, aad.view(), packed.bytes, nonce, out);
}

result<BlockPatch> BlockSealer::open_patch(BlockAddress address, ContentVersion base,
                                           ByteView sealed) const {
  const auto bad = [&](const std::string& what) {
    return failure(corrupt_block(address, "has a patch that " + what));
  };
  if (sealed.size() <= kSealedPatchOverheadBytes) return bad("is cut short");
  const auto header = sealed::decode_patch(sealed);
  if (!header) return bad("has a malformed header");
  const ByteView body = sealed.subspan(kSealedPatchHeaderBytes + kSealedNonceBytes,
                                       sealed.size() - kSealedPatchOverheadBytes);
  if (header->compression == Compression::zstd ? body.size() >= header->plain_length
                                               : body.size() != header->plain_length)
    return bad("has a length that does not fit its header");
  address.generation = header->generation;
  address.realm_generation = header->realm_generation;
  const auto key =
      impl_->keys.key(address.realm, address.realm_generation, address.inode, address.generation);
  if (!key) return bad(no_realm_key(address));

  BorrowedWorker worker(*impl_);
  const char* problem = "";
  auto plain = worker->open(*key, sealed.data() + kSealedPatchHeaderBytes,
                            sealed::AdditionalData(sealed.first(kSealedPatchHeaderBytes), address,
                                                   &base, impl_->cloud_uuid)
                                .view(),
                            body, sealed.data() + sealed.size() - kSealedTagBytes,
                            {header->compression, {}}, header->plain_length, &problem);
  if (!plain) return bad(problem);
  return BlockPatch{header->offset, header->block_length, base, std::move(*plain)};
}

}  // namespace datacloud
