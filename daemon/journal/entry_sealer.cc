// Sealing of entries (entry_sealer.h).
#include "daemon/journal/entry_sealer.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

EVP_CIPHER* fetch_aes() {
  EVP_CIPHER* aes = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  if (aes == nullptr) std::abort();  // every OpenSSL 3 has it
  return aes;
}

std::array<uint8_t, BlockCipher::kNonceBytes> nonce_of(uint64_t sequence) {
  std::array<uint8_t, BlockCipher::kNonceBytes> nonce{};
  put_number(nonce, 4, sequence);
  return nonce;
}

}  // namespace

SecretKey derive_metadata_key(const SecretKey& service_key, const std::string& cloud_uuid) {
  return SecretKey(hkdf_sha256(service_key.view(), "datacloud 1 metadata " + cloud_uuid, 32));
}

SecretKey derive_entry_key(const SecretKey& metadata_key, const Epoch& epoch) {
  std::string info = "journal entries " + epoch_text(epoch);
  std::replace(info.begin(), info.end(), '.', ' ');
  return SecretKey(hkdf_sha256(metadata_key.view(), info, 32));
}

EntrySealer::EntrySealer(const SecretKey& metadata_key, JournalId journal, Epoch epoch)
    : key_(derive_entry_key(metadata_key, epoch)),
      journal_(journal),
      epoch_(epoch),
      aes_(fetch_aes()),
      cipher_(aes_.get()) {}

result<LogEntry> EntrySealer::seal(EntryKind kind, const LogPosition& last, uint64_t committed,
                                   ByteView content) {
  const uint64_t sequence = last.sequence + 1;
  if (sequence <= sealed_) {
    return failure(Errc::invalid, "journal entry " + std::to_string(sequence) +
                                      " was sealed before; send the same bytes again");
  }
  if (content.size() > kEntryBytesMax) {
    return failure(Errc::invalid, "a journal entry of " + std::to_string(content.size()) +
                                      " bytes is above the limit of 4 MiB");
  }
  EntryHeader header;
  header.kind = kind;
  header.body_bytes = static_cast<uint32_t>(content.size() + BlockCipher::kTagBytes);
  header.journal = journal_;
  header.epoch = epoch_;
  header.sequence = sequence;
  header.committed = committed;
  header.previous = last.hash;
  sealed_ = sequence;  // also when it fails below: never a second time under this nonce
  // Everything at its place in the entry: small changes are many, and this is most of their cost.
  TRY(Bytes bytes, unsealed_entry(header, content));
  const auto nonce = nonce_of(sequence);
  const MutableByteView text(bytes.data() + kEntryHeaderBytes, content.size());
  if (!cipher_.seal(key_, nonce.data(), ByteView(bytes).first(kEntryHeaderBytes), text,
                    text.data() + text.size())) {
    return failure(Errc::io, "OpenSSL could not seal a journal entry");
  }
  return finish_entry(header, std::move(bytes));
}

EntryOpener::EntryOpener(const SecretKey& metadata_key)
    : metadata_key_(metadata_key), aes_(fetch_aes()), cipher_(aes_.get()) {}

result<Bytes> EntryOpener::open(const LogEntry& entry) {
  const EntryHeader& header = entry.header;
  const std::string name = "journal entry " + std::to_string(header.sequence);
  if (header.body_bytes < BlockCipher::kTagBytes) {
    return failure(Errc::corrupt, name + " has no seal");
  }
  if (epoch_ != header.epoch) {
    key_ = derive_entry_key(metadata_key_, header.epoch);
    epoch_ = header.epoch;
  }
  Bytes body = to_bytes(entry.body());
  const size_t size = body.size() - BlockCipher::kTagBytes;
  const auto nonce = nonce_of(header.sequence);
  if (!cipher_.open(key_, nonce.data(), encode_entry_header(header),
                    MutableByteView(body.data(), size), body.data() + size)) {
    return failure(Errc::corrupt, name +
                                      " does not authenticate: it was changed at a site, or the "
                                      "service key is another cloud's");
  }
  body.resize(size);
  return body;
}

}  // namespace datacloud::journal
