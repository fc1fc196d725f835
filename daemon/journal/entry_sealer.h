// Seals and opens the bodies of journal entries. docs/journal.md, "Entry".
//
// Entry key: HKDF(metadata key, epoch), so every leadership has a key of its own; the nonce of
// AES-256-GCM is the sequence. One (epoch, sequence) is sealed once: a sealer refuses a sequence
// that is not above the last one, and a leader has one sealer for its epoch. What is sent again is
// the same bytes. The header is authenticated with the body.
//
// Thread safety: one thread at a time. Keys are wiped on destruction.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string>

#include "common/crypto/block_cipher.h"
#include "common/crypto/keys.h"
#include "daemon/journal/log_entry.h"

namespace datacloud::journal {

// HKDF(service key, "datacloud 1 metadata " uuid, 32).
SecretKey derive_metadata_key(const SecretKey& service_key, const std::string& cloud_uuid);
// HKDF(metadata key, "journal entries " decimal(number) " " hex(nonce, 16 digits), 32).
SecretKey derive_entry_key(const SecretKey& metadata_key, const Epoch&);

struct FreeCipher {
  void operator()(EVP_CIPHER* c) const { EVP_CIPHER_free(c); }
};

class EntrySealer {
 public:
  EntrySealer(const SecretKey& metadata_key, JournalId, Epoch);

  // The entry after `last` with this content. invalid: too large, or a sequence that was sealed
  // before.
  result<LogEntry> seal(EntryKind, const LogPosition& last, uint64_t committed, ByteView content);

 private:
  const SecretKey key_;
  const JournalId journal_;
  const Epoch epoch_;
  uint64_t sealed_ = 0;  // the highest sequence
  const std::unique_ptr<EVP_CIPHER, FreeCipher> aes_;
  BlockCipher cipher_;
};

// Opens entries of any epoch.
class EntryOpener {
 public:
  explicit EntryOpener(const SecretKey& metadata_key);
  // corrupt: the entry does not authenticate.
  result<Bytes> open(const LogEntry&);

 private:
  const SecretKey metadata_key_;
  Epoch epoch_;  // whose key is at hand
  SecretKey key_;
  const std::unique_ptr<EVP_CIPHER, FreeCipher> aes_;
  BlockCipher cipher_;
};

}  // namespace datacloud::journal
