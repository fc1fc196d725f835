// The codec of entries (log_entry.h). Encoders and decoders check the same bounds.
#include "daemon/journal/log_entry.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

constexpr uint32_t kMagic = 0x454a4344;  // "DCJE"
constexpr uint8_t kVersion = 1;
constexpr size_t kCrcOffset = 12;

uint32_t crc_of(ByteView entry) {
  static constexpr uint8_t kZero[4] = {};
  uint32_t crc = crc32c(entry.first(kCrcOffset));
  crc = crc32c(kZero, crc);
  return crc32c(entry.subspan(kCrcOffset + 4), crc);
}

}  // namespace

std::string epoch_text(const Epoch& epoch) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = std::to_string(epoch.number) + ".";
  for (int shift = 60; shift >= 0; shift -= 4) text.push_back(kDigits[(epoch.nonce >> shift) & 15]);
  return text;
}

ChainHash hash_of(ByteView entry) {
  // Looked up once: EVP_sha256() is looked up again for each message.
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  struct Free {
    void operator()(EVP_MD_CTX* c) const { EVP_MD_CTX_free(c); }
  };
  thread_local const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  ChainHash hash;
  if (!context || EVP_DigestInit_ex2(context.get(), sha256, nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), entry.data(), entry.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) != 1) {
    std::abort();  // only without memory
  }
  return hash;
}

size_t padded_entry_bytes(size_t body_bytes) {
  return round_up(kEntryHeaderBytes + body_bytes, kEntryPaddingBytes);
}

namespace {

void put_entry_header(MutableByteView out, const EntryHeader& header) {
  put_number(out, 0, kMagic);
  out[4] = kVersion;
  out[5] = static_cast<uint8_t>(header.kind);
  put_number(out, 8, header.body_bytes);
  put_array(out, 16, header.journal);
  put_number(out, 32, header.epoch.number);
  put_number(out, 40, header.epoch.nonce);
  put_number(out, 48, header.sequence);
  put_number(out, 56, header.committed);
  put_array(out, 64, header.previous);
}

}  // namespace

Bytes encode_entry_header(const EntryHeader& header) {
  Bytes out(kEntryHeaderBytes, 0);
  put_entry_header(out, header);
  return out;
}

result<EntryHeader> decode_entry_header(ByteView bytes) {
  if (bytes.size() < kEntryHeaderBytes) return failure(Errc::corrupt, "entry: too short");
  if (get_number<uint32_t>(bytes, 0) != kMagic) return failure(Errc::corrupt, "entry: no magic");
  if (bytes[4] != kVersion) {
    return failure(Errc::corrupt, "entry of format " + std::to_string(bytes[4]) +
                                      "; this program knows 1: install a newer one");
  }
  EntryHeader header;
  header.kind = static_cast<EntryKind>(bytes[5]);
  header.body_bytes = get_number<uint32_t>(bytes, 8);
  header.journal = get_array<16>(bytes, 16);
  header.epoch = {get_number<uint64_t>(bytes, 32), get_number<uint64_t>(bytes, 40)};
  header.sequence = get_number<uint64_t>(bytes, 48);
  header.committed = get_number<uint64_t>(bytes, 56);
  header.previous = get_array<32>(bytes, 64);
  const bool good = bytes[5] != 0 && bytes[6] == 0 && bytes[7] == 0 && header.sequence != 0 &&
                    header.committed < header.sequence && header.epoch.number != 0 &&
                    header.epoch.number <= kEpochNumberMax && header.body_bytes <= kEntryBytesMax &&
                    padded_entry_bytes(header.body_bytes) <= kEntryBytesMax;
  if (!good) return failure(Errc::corrupt, "entry: a field is out of its range");
  return header;
}

result<Bytes> unsealed_entry(const EntryHeader& header, ByteView content) {
  const size_t body = header.body_bytes;
  if (body > kEntryBytesMax || padded_entry_bytes(body) > kEntryBytesMax) {
    return failure(Errc::invalid, "a journal entry of " + std::to_string(body) +
                                      " bytes is above the limit of 4 MiB");
  }
  DC_CHECK(content.size() <= body, "an entry's content is larger than its body");
  Bytes bytes(padded_entry_bytes(body), 0);
  put_entry_header(bytes, header);
  std::copy(content.begin(), content.end(), bytes.begin() + kEntryHeaderBytes);
  return bytes;
}

result<LogEntry> encode_entry(EntryHeader header, ByteView body) {
  if (body.size() > kEntryBytesMax) {
    return failure(Errc::invalid, "a journal entry of " + std::to_string(body.size()) +
                                      " bytes is above the limit of 4 MiB");
  }
  header.body_bytes = static_cast<uint32_t>(body.size());
  TRY(auto bytes, unsealed_entry(header, body));
  return finish_entry(header, std::move(bytes));
}

result<LogEntry> finish_entry(const EntryHeader& header, Bytes bytes) {
  put_number(bytes, kCrcOffset, crc_of(bytes));
  if (auto checked = decode_entry_header(bytes); !checked) {
    return failure(Errc::invalid, checked.error().text());
  }
  LogEntry entry;
  entry.header = header;
  entry.hash = hash_of(bytes);
  entry.bytes = std::make_shared<const Bytes>(std::move(bytes));
  return entry;
}

result<LogEntry> decode_entry(ByteView bytes) {
  LogEntry entry;
  TRY(entry.header, decode_entry_header(bytes));
  const size_t size = padded_entry_bytes(entry.header.body_bytes);
  if (bytes.size() < size) return failure(Errc::corrupt, "entry: cut off");
  bytes = bytes.first(size);
  if (get_number<uint32_t>(bytes, kCrcOffset) != crc_of(bytes)) {
    return failure(Errc::corrupt, "entry: checksum");
  }
  if (!all_zero(bytes.subspan(kEntryHeaderBytes + entry.header.body_bytes))) {
    return failure(Errc::corrupt, "entry: padding");
  }
  entry.hash = hash_of(bytes);
  entry.bytes = std::make_shared<const Bytes>(to_bytes(bytes));
  return entry;
}

bool continues(const LogEntry& entry, const JournalId& journal, const LogPosition& last) {
  const EntryHeader& header = entry.header;
  return header.journal == journal && header.sequence == last.sequence + 1 &&
         header.previous == last.hash && header.epoch >= last.epoch;
}

result<LogBatch> LogBatch::of(const std::vector<LogEntry>& entries) {
  if (entries.empty() || entries.size() > kBatchEntriesMax) {
    return failure(Errc::invalid, "a journal append of " + std::to_string(entries.size()) +
                                      " entries; 1 to 1024 are allowed");
  }
  LogBatch batch;
  const EntryHeader& first = entries.front().header;
  batch.count_ = entries.size();
  batch.first_ = first.sequence;
  batch.previous_ = first.previous;
  batch.journal_ = first.journal;
  size_t size = 0;
  for (const auto& entry : entries) size += entry.bytes->size();
  Bytes bytes;
  bytes.reserve(std::min(size, kBatchBytesMax));
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0 && !continues(entries[i], batch.journal_, batch.last_)) {
      return failure(Errc::invalid, "entries of an append do not follow each other");
    }
    batch.last_ = entries[i].position();
    bytes.insert(bytes.end(), entries[i].bytes->begin(), entries[i].bytes->end());
    if (bytes.size() > kBatchBytesMax) {
      return failure(Errc::invalid, "a journal append above the limit of 8 MiB");
    }
  }
  batch.bytes_ = std::make_shared<const Bytes>(std::move(bytes));
  return batch;
}

}  // namespace datacloud::journal
