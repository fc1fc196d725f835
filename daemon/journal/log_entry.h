// Entries of the journal as bytes: header, sealed body, padding. Pure; docs/journal.md, "Entry".
//
// An entry is the same bytes at every site and in every resend. CRC-32C tells a torn or damaged
// one from one that was written; the chain of hashes tells an entry of this history from one of
// another. Neither is a proof against somebody who can write to the site: the seal is
// (entry_sealer.h).
//
// Thread safety: values and pure functions.
#pragma once

#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "daemon/journal/log_position.h"

namespace datacloud::journal {

inline constexpr size_t kEntryHeaderBytes = 96;
inline constexpr size_t kEntryPaddingBytes = 512;             // entries are multiples of it
inline constexpr size_t kEntryBytesMax = size_t{4} << 20;     // with header and padding
inline constexpr size_t kBatchBytesMax = 2 * kEntryBytesMax;  // of one append
inline constexpr size_t kBatchEntriesMax = 1024;

// What the body is; values are on disk. Readers keep kinds they do not know.
enum class EntryKind : uint8_t {
  data = 1,         // one metadata batch
  opening = 2,      // the first entry of an epoch: nothing but that
  journal_set = 3,  // the sites of the journal from here on
  heads = 4,        // what each site has last acknowledged
  root = 5,         // a checkpoint is whole at the sites
  note = 6,         // of the leader: pb::LeaderNote
};

struct EntryHeader {
  EntryKind kind = EntryKind::data;
  uint32_t body_bytes = 0;  // sealed: with the tag
  JournalId journal{};
  Epoch epoch;
  uint64_t sequence = 0;   // from 1
  uint64_t committed = 0;  // entries the writer knew to be committed when it sealed this one
  ChainHash previous{};
};

// A whole entry that was checked.
struct LogEntry {
  EntryHeader header;
  SharedBytes bytes;  // header, body, padding
  ChainHash hash{};
  LogPosition position() const { return {header.epoch, header.sequence, hash}; }
  ByteView body() const { return ByteView(*bytes).subspan(kEntryHeaderBytes, header.body_bytes); }
};

ChainHash hash_of(ByteView entry);
// Bytes of an entry with a body of that size.
size_t padded_entry_bytes(size_t body_bytes);

// The header's 96 bytes with the CRC's field 0: what the seal authenticates.
Bytes encode_entry_header(const EntryHeader&);
// The entry, its CRC set. `header.body_bytes` is taken from the body. invalid: too large.
result<LogEntry> encode_entry(EntryHeader, ByteView body);
// The same in two steps, between which the body can be sealed where it is: bytes of the padded size
// with the header, and `content` at the start of the body, which is not longer than body_bytes.
result<Bytes> unsealed_entry(const EntryHeader&, ByteView content);
result<LogEntry> finish_entry(const EntryHeader&, Bytes);
// Only the header's fields, unchecked but for magic, version and bounds; for the length of what
// follows. corrupt otherwise.
result<EntryHeader> decode_entry_header(ByteView);
// The entry at the start of `bytes`: header, CRC, padding. corrupt otherwise.
result<LogEntry> decode_entry(ByteView bytes);

// Consecutive entries of one append.
class LogBatch {
 public:
  LogBatch() = default;
  // invalid unless each entry follows the one before it (sequence, hash, epoch not falling), all
  // are of one journal, and bounds hold.
  static result<LogBatch> of(const std::vector<LogEntry>&);

  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }
  uint64_t first() const { return first_; }                // sequence
  const ChainHash& previous() const { return previous_; }  // before the first
  const LogPosition& last() const { return last_; }
  const JournalId& journal() const { return journal_; }
  const SharedBytes& bytes() const { return bytes_; }

 private:
  size_t count_ = 0;
  uint64_t first_ = 0;
  ChainHash previous_{};
  LogPosition last_;
  JournalId journal_{};
  SharedBytes bytes_;
};

// Whether `entry` continues a log of `journal` that ends at `last`.
bool continues(const LogEntry& entry, const JournalId& journal, const LogPosition& last);

}  // namespace datacloud::journal
