// AES-256-GCM through OpenSSL's EVP; see block_cipher.h.
#include "common/crypto/block_cipher.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <cstring>

namespace datacloud {

BlockCipher::BlockCipher(EVP_CIPHER* aes) : aes_(aes) {
  encrypt_.context.reset(EVP_CIPHER_CTX_new());
  decrypt_.context.reset(EVP_CIPHER_CTX_new());
}

BlockCipher::~BlockCipher() { OPENSSL_cleanse(random_.data(), random_.size()); }

bool BlockCipher::start(Direction& direction, bool encrypt, const SecretKey& key,
                        const uint8_t* nonce, ByteView aad) {
  EVP_CIPHER_CTX* context = direction.context.get();
  if (context == nullptr) return false;
  const bool same_key =
      direction.key && std::memcmp(direction.key->view().data(), key.view().data(), 32) == 0;
  const bool ready =
      same_key ? EVP_CipherInit_ex2(context, nullptr, nullptr, nonce, encrypt, nullptr) == 1
               : EVP_CipherInit_ex2(context, aes_, key.view().data(), nonce, encrypt, nullptr) == 1;
  if (!ready) {
    direction.key.reset();
    return false;
  }
  if (!same_key) direction.key = key;
  int length = 0;
  return EVP_CipherUpdate(context, nullptr, &length, aad.data(), static_cast<int>(aad.size())) == 1;
}

bool BlockCipher::seal(const SecretKey& key, const uint8_t* nonce, ByteView aad,
                       MutableByteView data, uint8_t* tag) {
  int length = 0, rest = 0;
  EVP_CIPHER_CTX* context = encrypt_.context.get();
  return start(encrypt_, true, key, nonce, aad) &&
         EVP_EncryptUpdate(context, data.data(), &length, data.data(),
                           static_cast<int>(data.size())) == 1 &&
         EVP_EncryptFinal_ex(context, data.data() + length, &rest) == 1 &&
         static_cast<size_t>(length + rest) == data.size() &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) == 1;
}

bool BlockCipher::open(const SecretKey& key, const uint8_t* nonce, ByteView aad,
                       MutableByteView data, const uint8_t* tag) {
  int length = 0, rest = 0;
  EVP_CIPHER_CTX* context = decrypt_.context.get();
  return start(decrypt_, false, key, nonce, aad) &&
         EVP_DecryptUpdate(context, data.data(), &length, data.data(),
                           static_cast<int>(data.size())) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                             const_cast<uint8_t*>(tag)) == 1 &&
         EVP_DecryptFinal_ex(context, data.data() + length, &rest) == 1 &&
         static_cast<size_t>(length + rest) == data.size();
}

const uint8_t* BlockCipher::next_nonce() {
  if (random_used_ + kNonceBytes > random_.size()) {
    if (RAND_bytes(random_.data(), static_cast<int>(random_.size())) != 1) return nullptr;
    random_used_ = 0;
  }
  const uint8_t* nonce = random_.data() + random_used_;
  random_used_ += kNonceBytes;
  return nonce;
}

}  // namespace datacloud
