// Ed25519 signatures (RFC 8032): of the daemon under audit bundles, of auditors under reports.
//
// Thread safety: const methods from any thread.
#pragma once

#include <memory>

#include "common/base/bytes.h"
#include "common/crypto/keys.h"

namespace datacloud {

inline constexpr size_t kPublicKeyBytes = 32;
inline constexpr size_t kSignatureBytes = 64;

class SigningKey {
 public:
  // The RFC's 32-byte private key.
  explicit SigningKey(const SecretKey& seed);
  const Bytes& public_key() const { return public_key_; }
  Bytes sign(ByteView message) const;

 private:
  std::shared_ptr<void> key_;
  Bytes public_key_;
};

// False also for keys and signatures of a wrong length.
bool signature_valid(ByteView public_key, ByteView message, ByteView signature);

// Signs what the daemon of a cloud gives to auditors.
SigningKey derive_audit_signer(const SecretKey& service_key, const std::string& cloud_uuid);

}  // namespace datacloud
