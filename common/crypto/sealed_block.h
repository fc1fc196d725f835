// Sealed blocks: compress (zstd) -> AES-256-GCM. What a slot of a stripe holds.
//
// Layout, little-endian (worked bytes in docs/format.md):
//   format u8 = 1 or 2 | compression (low) and filter (high four bits) u8 | realm generation u16 |
//   generation u32 | plain length u32 | nonce 12 | ciphertext | tag 16
// Format 1 has no filter and realm generation 0, and is written wherever these hold.
//
// A sealed patch is a byte range of a block, sealed by itself: it names the state of the block that
// it is applied to, so that patches open in their order only.
//
// The additional authenticated data bind the header, cloud UUID, realm, inode, block number and
// content version, so neither can be replayed at another place or time. Nonces are random; an
// inode's key generation must change before 2^32 seals.
//
// Thread safety: a BlockSealer may be used from many threads at once.
#pragma once

#include <memory>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/crypto/byte_filter.h"
#include "common/crypto/keys.h"

namespace datacloud {

inline constexpr size_t kSealedHeaderBytes = 12;
inline constexpr size_t kSealedNonceBytes = 12;
inline constexpr size_t kSealedTagBytes = 16;
inline constexpr size_t kSealedOverheadBytes =
    kSealedHeaderBytes + kSealedNonceBytes + kSealedTagBytes;  // 40
inline constexpr size_t kSealedPatchHeaderBytes = 20;
inline constexpr size_t kSealedPatchOverheadBytes =
    kSealedPatchHeaderBytes + kSealedNonceBytes + kSealedTagBytes;  // 48
inline constexpr uint32_t kBlockBytesMin = 4096;
inline constexpr uint32_t kBlockBytesMax = 1u << 20;

enum class Compression : uint8_t { none = 0, zstd = 1 };

// Where a block was sealed for; everything the tag binds besides the header.
struct BlockAddress {
  uint32_t realm = 0;
  InodeId inode = 0;
  uint64_t block = 0;
  ContentVersion version = 0;
  uint32_t generation = 0;        // of the inode's key
  uint16_t realm_generation = 0;  // of the realm's key
};

// How the bytes of a block are packed before they are encrypted.
struct Packing {
  Compression compression = Compression::none;
  ByteFilter filter = {};  // before compression; ignored without
};

// Bytes that replace a range of a block.
struct BlockPatch {
  uint32_t offset = 0;
  uint32_t block_bytes = 0;  // plain length of the block afterwards; not below the range's end
  ContentVersion base = 0;   // what it is applied to: the sealed block's version, or a patch's
  Bytes plain;               // at least one byte
};

// Applies an opened patch to the block it belongs to. What lies between the old end and the patch
// becomes zeros.
void apply_patch(const BlockPatch&, Bytes& block);

class BlockSealer {
 public:
  BlockSealer(SecretKey data_key, std::string cloud_uuid);
  ~BlockSealer();

  // The key of a further generation of a realm; see inode_keys.h.
  void add_realm_key(uint32_t realm, uint16_t generation, SecretKey);

  // Seals 1..kBlockBytesMax plain bytes. zstd (behind the filter) is tried when asked and kept only
  // when it saves at least 1/16. Appends to `out` (capacity permitting, without reallocation);
  // returns the sealed length. invalid also when the realm's key of that generation is not here.
  result<size_t> seal(const BlockAddress&, ByteView plain, Packing, Bytes& out) const;
  result<size_t> seal(const BlockAddress& address, ByteView plain, Compression compression,
                      Bytes& out) const {
    return seal(address, plain, Packing{compression}, out);
  }

  // Opens one sealed block; corrupt when anything does not authenticate or exceeds
  // kBlockBytesMax, or names a generation of the realm's key that is not here. Both generations are
  // taken from the header.
  result<Bytes> open(BlockAddress, ByteView sealed) const;

  // The same for patches. The address names the block, with the patch's own content version. A
  // patch is opened for the state of the block it is to be applied to: `base` is that version.
  result<size_t> seal_patch(const BlockAddress&, const BlockPatch&, Compression, Bytes& out) const;
  result<BlockPatch> open_patch(BlockAddress, ContentVersion base, ByteView sealed) const;

 private:
  friend struct SealedBlockTestPeer;  // golden bytes need a nonce that is not random
  struct Impl;

  result<size_t> seal_with_nonce(const BlockAddress&, ByteView plain, Packing, const uint8_t* nonce,
                                 Bytes& out) const;
  result<size_t> seal_patch_with_nonce(const BlockAddress&, const BlockPatch&, Compression,
                                       const uint8_t* nonce, Bytes& out) const;

  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
