// Sealing under a nonce that is not random, for bytes that are pinned.
#pragma once

#include "common/crypto/sealed_block.h"

namespace datacloud {

struct SealedBlockTestPeer {
  static Bytes seal(const BlockSealer& sealer, const BlockAddress& address, ByteView plain,
                    Compression compression, const Bytes& nonce) {
    Bytes out;
    sealer.seal_with_nonce(address, plain, {compression}, nonce.data(), out).value();
    return out;
  }
  static Bytes seal_patch(const BlockSealer& sealer, const BlockAddress& address,
                          const BlockPatch& patch, const Bytes& nonce) {
    Bytes out;
    sealer.seal_patch_with_nonce(address, patch, Compression::none, nonce.data(), out).value();
    return out;
  }
};

}  // namespace datacloud
