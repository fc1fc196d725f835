// Records of the journal in the store, as values. docs/format-metadata.md, "The journal's records".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.h"
#include "common/proto/journal.pb.h"
#include "daemon/journal/log_position.h"

namespace datacloud {

inline constexpr char kJournalRecord[] = "journal";            // 'A': pb::JournalSet
inline constexpr char kLeadershipRecord[] = "leadership";      // 'A': pb::Leadership
inline constexpr char kPositionRecord[] = "journal_position";  // 'A': 56 bytes

// Appends `key` and its value (null: none) to an encoded JournalUndo (field 1) or JournalBatch
// (field 2), as protobuf does, without a message for each: every transaction passes here twice.
inline constexpr int kUndoChanges = 1, kBatchChanges = 2;
void append_change(std::string& encoded, int field, std::string_view key, const std::string* value);
// The fields of a JournalBatch beside its changes.
void append_batch_fields(std::string& encoded, uint64_t sequence, bool more);

std::string encode_position(const journal::LogPosition&);
// corrupt: not 56 bytes.
result<journal::LogPosition> decode_position(std::string_view);

// Whether it can be a journal's: an id of 16 bytes, sites without repetition, segments in bounds.
bool valid_set(const pb::JournalSet&);

// Whether committed entries survive the loss of as many sites as files do (`data_losses`). invalid,
// unless that is accepted: fewer; the text says what to do.
result<void> check_journal_strength(const pb::JournalSet&, int data_losses, bool accept_weaker);
// What a journal at these sites is worth, in words, and what is missing; one line each.
std::vector<std::string> describe_strength(const pb::JournalSet&, int data_losses);

// The id of a cloud's journal: the 16 bytes of its UUID. invalid: that is none.
result<journal::JournalId> journal_id(const std::string& cloud_uuid);

}  // namespace datacloud
