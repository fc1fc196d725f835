// Sealed blocks and patches: as found at a site, and (what only a holder of the key could make)
// with a valid tag around any header and any compressed bytes.
#include "common/crypto/sealed_block.h"

#include <algorithm>

#include "common/crypto/block_cipher.h"
#include "common/crypto/keys.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace sealed_block_input {

const char kUuid[] = "00112233-4455-6677-8899-aabbccddeeff";
constexpr size_t kBodyStart = kSealedHeaderBytes + kSealedNonceBytes;

SecretKey data_key() { return SecretKey{ByteView(Bytes(32, 9))}; }

const BlockSealer& sealer() {
  static const BlockSealer instance(data_key(), kUuid);
  return instance;
}

void check(const result<Bytes>& opened, ByteView sealed) {
  if (!opened) {
    require(opened.error().is(Errc::corrupt), "a bad block is corrupt");
    return;
  }
  const uint8_t* p = sealed.data() + 8;
  const size_t claimed = p[0] | p[1] << 8 | p[2] << 16 | size_t{p[3]} << 24;
  require(opened.value().size() == claimed && claimed <= kBlockBytesMax,
          "an opened block has the length its header says");
}

void check(const result<BlockPatch>& opened) {
  if (!opened) {
    require(opened.error().is(Errc::corrupt), "a bad patch is corrupt");
    return;
  }
  const BlockPatch& patch = opened.value();
  require(!patch.plain.empty() && patch.block_bytes <= kBlockBytesMax &&
              patch.offset + patch.plain.size() <= patch.block_bytes,
          "an opened patch lies inside its block");
  Bytes block(100, 1);
  apply_patch(patch, block);
  require(block.size() == patch.block_bytes, "a patched block has the length its patch says");
}

// Encrypts the body and sets the tag, so that opening goes on behind its authenticity check.
// `header`: bytes before the nonce.
Bytes authenticated(ByteView input, size_t header, bool patch) {
  static EVP_CIPHER* const aes = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  static BlockCipher cipher(aes);
  Bytes sealed = to_bytes(input);
  uint32_t generation = 0;
  for (int i = 3; i >= 0; --i) generation = generation << 8 | sealed[4 + i];
  const SecretKey key = derive_inode_key(derive_realm_key(data_key(), kUuid, 0), 5, generation);
  Bytes aad(sealed.begin(), sealed.begin() + header);
  aad.insert(aad.end(), 4, 0);       // realm
  for (uint8_t value : {5, 7, 9}) {  // inode, block, version
    aad.push_back(value);
    aad.insert(aad.end(), 7, 0);
  }
  if (patch) {  // its base
    aad.push_back(8);
    aad.insert(aad.end(), 7, 0);
  }
  aad.insert(aad.end(), kUuid, kUuid + sizeof kUuid - 1);
  const size_t start = header + kSealedNonceBytes;
  const MutableByteView body(sealed.data() + start, sealed.size() - start - kSealedTagBytes);
  require(cipher.seal(key, sealed.data() + header, aad, body,
                      sealed.data() + sealed.size() - kSealedTagBytes),
          "OpenSSL encrypts");
  return sealed;
}

void run(ByteView input) {
  const BlockAddress address{0, 5, 7, 9, 0};
  check(sealer().open(address, input), input);
  check(sealer().open_patch(address, 8, input));
  if (input.size() <= kSealedOverheadBytes) return;
  const Bytes sealed = authenticated(input, kSealedHeaderBytes, false);
  check(sealer().open(address, sealed), sealed);
  if (input.size() <= kSealedPatchOverheadBytes) return;
  check(sealer().open_patch(address, 8, authenticated(input, kSealedPatchHeaderBytes, true)));
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> blocks;
  const Packing packings[] = {
      {Compression::none}, {Compression::zstd}, {Compression::zstd, {4, true}}};
  Bytes plain(500), patch;
  for (size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<uint8_t>(i % 7 * i % 31);
  sealer().seal_patch({0, 5, 7, 9, 0}, {3, 600, 8, plain}, Compression::zstd, patch).value();
  blocks.push_back(patch);
  for (const Packing& packing : packings) {
    Bytes sealed;
    sealer().seal({0, 5, 7, 9, 0}, plain, packing, sealed).value();
    blocks.push_back(sealed);
    // The same before encryption: the target encrypts it again.
    static EVP_CIPHER* const aes = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    BlockCipher cipher(aes);
    const SecretKey key = derive_inode_key(derive_realm_key(data_key(), kUuid, 0), 5, 0);
    const MutableByteView body(sealed.data() + kBodyStart, sealed.size() - kSealedOverheadBytes);
    // Counter mode: encrypting the ciphertext under the same nonce gives the plain body.
    uint8_t tag[kSealedTagBytes];
    require(cipher.seal(key, sealed.data() + kSealedHeaderBytes, {}, body, tag), "it decrypts");
    blocks.push_back(sealed);
  }
  return blocks;
}

}  // namespace sealed_block_input

FuzzTarget sealed_block_target() {
  return {"sealed_block", sealed_block_input::run, sealed_block_input::seeds};
}

}  // namespace datacloud::fuzz
