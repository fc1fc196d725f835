// AES-256-GCM for sealed blocks: one worker's contexts and nonces, reused from block to block.
//
// Setting up OpenSSL's objects and expanding a key costs more than sealing a small block, so a
// worker keeps them and expands a key only when it differs from the last one used.
//
// Thread safety: one thread at a time. Key material is wiped on destruction.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/base/bytes.h"
#include "common/crypto/keys.h"

namespace datacloud {

class BlockCipher {
 public:
  static constexpr size_t kNonceBytes = 12;
  static constexpr size_t kTagBytes = 16;

  // `aes`: AES-256-GCM, owned by the caller, who outlives this object.
  explicit BlockCipher(EVP_CIPHER* aes);
  ~BlockCipher();

  // Encrypts `data` in place and fills `tag`. False only when OpenSSL fails.
  bool seal(const SecretKey&, const uint8_t* nonce, ByteView aad, MutableByteView data,
            uint8_t* tag);
  // Decrypts `data` in place; false when it does not authenticate (`data` is then meaningless).
  bool open(const SecretKey&, const uint8_t* nonce, ByteView aad, MutableByteView data,
            const uint8_t* tag);

  // Twelve fresh random bytes, valid until the next call; nullptr without randomness.
  const uint8_t* next_nonce();

 private:
  struct FreeContext {
    void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
  };
  struct Direction {
    std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context;
    std::optional<SecretKey> key;  // the one expanded in `context`
  };
  bool start(Direction&, bool encrypt, const SecretKey&, const uint8_t* nonce, ByteView aad);

  EVP_CIPHER* const aes_;
  Direction encrypt_, decrypt_;
  std::array<uint8_t, 128 * kNonceBytes> random_;
  size_t random_used_ = sizeof random_;
};

}  // namespace datacloud
