// Sealed blocks: compress (zstd) -> AES-256-GCM. What a slot of a stripe holds.
//
// Layout, little-endian (worked bytes in docs/format.md):
//   format u8 = 1 | compression u8 (0 none, 1 zstd) | reserved u16 = 0 | generation u32 |
//   plain length u32 | nonce 12 | ciphertext | tag 16
// The additional authenticated data bind the header, cloud UUID, realm, inode, block number and
// content version, so a sealed block cannot be replayed at another place or time. Nonces are
// random; an inode's key generation must change before 2^32 seals.
//
// Thread safety: a BlockSealer may be used from many threads at once.
#pragma once

#include <memory>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/crypto/keys.h"

namespace datacloud {

inline constexpr size_t kSealedHeaderBytes = 12;
inline constexpr size_t kSealedNonceBytes = 12;
inline constexpr size_t kSealedTagBytes = 16;
inline constexpr size_t kSealedOverheadBytes =
    kSealedHeaderBytes + kSealedNonceBytes + kSealedTagBytes;  // 40
inline constexpr uint32_t kBlockBytesMin = 4096;
inline constexpr uint32_t kBlockBytesMax = 1u << 20;

enum class Compression : uint8_t { none = 0, zstd = 1 };

// Where a block belongs; everything the tag binds besides the header.
struct BlockAddress {
  uint32_t realm = 0;
  InodeId inode = 0;
  uint64_t block = 0;
  ContentVersion version = 0;
  uint32_t generation = 0;  // key generation
};

class BlockSealer {
 public:
  BlockSealer(SecretKey data_key, std::string cloud_uuid);
  ~BlockSealer();

  // Seals 1..kBlockBytesMax plain bytes. zstd is tried when asked and kept only when it saves at
  // least 1/16. Appends to `out` (capacity permitting, without reallocation); returns the sealed
  // length.
  result<size_t> seal(const BlockAddress&, ByteView plain, Compression, Bytes& out) const;

  // Opens one sealed block; corrupt when anything does not authenticate or exceeds
  // kBlockBytesMax. `address.generation` is taken from the header.
  result<Bytes> open(BlockAddress, ByteView sealed) const;

 private:
  friend struct SealedBlockTestPeer;  // golden bytes need a nonce that is not random
  struct Impl;

  result<size_t> seal_with_nonce(const BlockAddress&, ByteView plain, Compression,
                                 const uint8_t* nonce, Bytes& out) const;

  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
