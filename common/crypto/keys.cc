// Key derivation: HKDF-SHA256 with texts that separate the purposes.
#include "common/crypto/keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace datacloud {
namespace {

SecretKey derive_key(const SecretKey& from, const std::string& info) {
  Bytes bytes = hkdf_sha256(from.view(), info, 32);
  SecretKey key{ByteView(bytes)};
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

// Looking the algorithm up by name costs more than using it: done once, the result is immutable.
EVP_KDF* hkdf_algorithm() {
  static const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> kdf(
      EVP_KDF_fetch(nullptr, "HKDF", nullptr), EVP_KDF_free);
  return kdf.get();
}

}  // namespace

SecretKey::SecretKey(ByteView bytes32) {
  if (bytes32.size() != bytes_.size()) std::abort();
  std::copy(bytes32.begin(), bytes32.end(), bytes_.begin());
}

SecretKey::~SecretKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

SecretKey SecretKey::random() {
  SecretKey key;
  // Without randomness nothing may be encrypted: there is no way to go on.
  if (RAND_priv_bytes(key.bytes_.data(), static_cast<int>(key.bytes_.size())) != 1) std::abort();
  return key;
}

Bytes hkdf_sha256(ByteView key, std::string_view info, size_t length) {
  Bytes out(length);
  std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(
      EVP_KDF_CTX_new(hkdf_algorithm()), EVP_KDF_CTX_free);
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<uint8_t*>(key.data()),
                                        key.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<char*>(info.data()),
                                        info.size()),
      OSSL_PARAM_construct_end()};
  if (!context || EVP_KDF_derive(context.get(), out.data(), out.size(), params) != 1) std::abort();
  return out;
}

SecretKey derive_realm_key(const SecretKey& data_key, const std::string& cloud_uuid,
                           uint32_t realm) {
  return derive_key(data_key, "datacloud 1 realm " + cloud_uuid + " " + std::to_string(realm));
}

SecretKey derive_inode_key(const SecretKey& realm_key, InodeId inode, uint32_t generation) {
  return derive_key(
      realm_key, "datacloud 1 inode " + std::to_string(inode) + " " + std::to_string(generation));
}

Bytes derive_name_key(const SecretKey& service_key, const std::string& cloud_uuid) {
  return hkdf_sha256(service_key.view(), "datacloud 1 object names " + cloud_uuid, 16);
}

}  // namespace datacloud
