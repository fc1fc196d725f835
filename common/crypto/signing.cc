// Over OpenSSL's EVP.
#include "common/crypto/signing.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cstdlib>

namespace datacloud {
namespace {

using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

}  // namespace

SigningKey::SigningKey(const SecretKey& seed) : public_key_(kPublicKeyBytes) {
  const ByteView bytes = seed.view();
  EVP_PKEY* key =
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes.data(), bytes.size());
  size_t length = public_key_.size();
  // Every 32 bytes are a key: without memory, or without the algorithm, nothing works.
  if (key == nullptr || EVP_PKEY_get_raw_public_key(key, public_key_.data(), &length) != 1) {
    std::abort();
  }
  key_ = std::shared_ptr<void>(key, [](void* p) { EVP_PKEY_free(static_cast<EVP_PKEY*>(p)); });
}

Bytes SigningKey::sign(ByteView message) const {
  const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  Bytes signature(kSignatureBytes);
  size_t length = signature.size();
  if (!context ||
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr,
                         static_cast<EVP_PKEY*>(key_.get())) != 1 ||
      EVP_DigestSign(context.get(), signature.data(), &length, message.data(), message.size()) !=
          1) {
    std::abort();
  }
  return signature;
}

bool signature_valid(ByteView public_key, ByteView message, ByteView signature) {
  if (public_key.size() != kPublicKeyBytes || signature.size() != kSignatureBytes) return false;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, public_key.data(), public_key.size()),
      EVP_PKEY_free);
  const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return key && context &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

SigningKey derive_audit_signer(const SecretKey& service_key, const std::string& cloud_uuid) {
  Bytes seed = hkdf_sha256(service_key.view(), "datacloud 1 audit signer " + cloud_uuid, 32);
  const SigningKey key{SecretKey(ByteView(seed))};
  OPENSSL_cleanse(seed.data(), seed.size());
  return key;
}

}  // namespace datacloud
