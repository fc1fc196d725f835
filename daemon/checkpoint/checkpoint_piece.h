// Pieces of a checkpoint: records as bytes, sealed. docs/journal.md, "Checkpoint".
//
// Thread safety: one thread at a time.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/crypto/keys.h"
#include "common/crypto/sealed_worker.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/log_position.h"

namespace datacloud {

inline constexpr size_t kPieceHeaderBytes = 40;
inline constexpr size_t kPieceTagBytes = 16;
inline constexpr size_t kPiecePlainBytesMax =
    kCheckpointPieceBytesMax - kPieceHeaderBytes - kPieceTagBytes;
inline constexpr size_t kPieceRecordHeaderBytes = 8;

// HKDF(metadata key, "checkpoint " number in 16 hex digits, 32).
SecretKey derive_checkpoint_key(const SecretKey& metadata_key, uint64_t number);

// Records side by side, up to kPiecePlainBytesMax.
bool fits_into_piece(ByteView piece, std::string_view key, std::string_view value);
void append_record(Bytes& piece, std::string_view key, std::string_view value);
// corrupt: it does not end with a record.
result<void> visit_records(ByteView piece, const RecordVisitor&);

class PieceSealer {
 public:
  PieceSealer(const SecretKey& metadata_key, const journal::JournalId&, uint64_t number);
  // Each piece once: its index is the nonce.
  result<Bytes> seal(uint32_t piece, ByteView plain);
  // corrupt: it does not authenticate as this piece of this checkpoint.
  result<Bytes> open(uint32_t piece, ByteView sealed);

 private:
  Bytes header(uint32_t piece, uint32_t plain_bytes, bool packed) const;

  const SecretKey key_;
  const journal::JournalId journal_;
  const uint64_t number_;
  const std::unique_ptr<EVP_CIPHER, journal::FreeCipher> aes_;
  SealWorker worker_;
};

}  // namespace datacloud
