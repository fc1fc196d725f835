// The store's side of the journal: what undoes a transaction is in its batch; what the journal has
// and the store has not is replayed.
//
// Invariant: the position, the records and the undo records are of one moment, whatever a crash or
// a power cut takes, for they change in one batch. Undo records are numbered in the order of the
// transactions, without those between the position and the first undo record: all of these are
// committed.
#include <algorithm>
#include <map>
#include <utility>

#include "common/base/check.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/metadata_store_impl.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

// The two records that every transaction changes and none names.
bool is_counter(const std::string& key) {
  return key == key::meta("sequence") || key == key::meta(kPositionRecord);
}

}  // namespace

bool is_local_record(std::string_view key) {
  return key.starts_with('u') || (key.starts_with('A') && key.substr(1) == kPositionRecord);
}

result<void> MetadataStore::Impl::open_journal() {
  TRY(const auto set, read(key::meta(kJournalRecord)));
  if (!set) return success();
  journaled = true;
  TRY(const auto stored, read(key::meta(kPositionRecord)));
  if (!stored) {
    return failure(Errc::corrupt, "metadata store " + options.directory +
                                      ": the cloud has a journal, and there is no record of where "
                                      "the store is in it; rebuild it with `datacloud recover`");
  }
  TRY(position, decode_position(*stored));
  const std::unique_ptr<leveldb::Iterator> at(db->NewIterator({}));
  for (at->Seek(key::undo(0)); at->Valid() && at->key().starts_with("u"); at->Next()) {
    if (at->key().size() == 9) {
      undo_numbers.push_back(key::u64_at({at->key().data(), at->key().size()}, 1));
    }
  }
  if (!at->status().ok()) return failure(storage_error(at->status(), "cannot be read"));
  return success();
}

result<JournalNote> MetadataStore::Impl::note_undo(leveldb::WriteBatch& batch,
                                                   const RecordChanges& changes,
                                                   const JournalStep* step) {
  JournalNote note;
  const uint64_t newest = undo_numbers.empty() ? 0 : undo_numbers.back();
  note.position = step ? step->position : position;
  note.number = step ? step->position.sequence : std::max(newest, position.sequence) + 1;
  DC_CHECK(note.number > newest, "a transaction goes back in the journal");
  std::string undo;  // an encoded JournalUndo
  for (const auto& [key, value] : changes) {
    if (is_local_record(key)) continue;
    if (const auto at = recent.find(key); at != recent.end()) {
      append_change(undo, kUndoChanges, key, at->second ? &*at->second : nullptr);
      continue;
    }
    TRY(const auto before, read(key));
    append_change(undo, kUndoChanges, key, before ? &*before : nullptr);
  }
  Sequence now = 0;
  {
    std::lock_guard lock(mutex);
    now = sequence;
  }
  const std::string sequence_before = encode_sequence(now);
  const std::string position_before = encode_position(step ? step->before : position);
  append_change(undo, kUndoChanges, key::meta("sequence"), &sequence_before);
  append_change(undo, kUndoChanges, key::meta(kPositionRecord), &position_before);
  batch.Put(key::undo(note.number), undo);
  if (step == nullptr) return note;
  batch.Put(key::meta(kPositionRecord), encode_position(step->position));
  while (note.erased < undo_numbers.size() && undo_numbers[note.erased] <= step->committed) {
    batch.Delete(key::undo(undo_numbers[note.erased++]));
  }
  return note;
}

void MetadataStore::Impl::noted(const JournalNote& note) {
  undo_numbers.erase(undo_numbers.begin(),
                     undo_numbers.begin() + static_cast<std::ptrdiff_t>(note.erased));
  if (note.number != 0) undo_numbers.push_back(note.number);
  position = note.position;
}

result<pb::JournalUndo> MetadataStore::Impl::undo_record(uint64_t number) const {
  TRY(const auto stored, read(key::undo(number)));
  pb::JournalUndo undo;
  if (stored && undo.ParseFromString(*stored)) return undo;
  return failure(Errc::corrupt, "metadata store " + options.directory + ": what undoes entry " +
                                    std::to_string(number) +
                                    " of the journal is damaged; rebuild the store with "
                                    "`datacloud recover`");
}

bool MetadataStore::journaled() const { return impl_->journaled; }

result<Sequence> MetadataStore::commit(Transaction&& txn, const JournalStep& step) {
  DC_CHECK(impl_->journaled, "the store has no journal");
  return commit(std::move(txn), &step);
}

result<Sequence> MetadataStore::commit(Transaction&& txn) {
  return commit(std::move(txn), nullptr);
}

journal::LogPosition MetadataStore::journal_position() const { return impl_->position; }

result<std::vector<MetadataStore::Undoable>> MetadataStore::undoable() const {
  std::vector<Undoable> out;
  for (const uint64_t number : impl_->undo_numbers) {
    TRY(const auto undo, impl_->undo_record(number));
    for (const auto& change : undo.changes()) {
      if (change.key() != key::meta(kPositionRecord)) continue;
      TRY(const auto before, decode_position(change.value()));
      out.push_back({number, before});
    }
    if (out.empty() || out.back().number != number) {
      return failure(Errc::corrupt, "what undoes entry " + std::to_string(number) +
                                        " of the journal does not say where the store was; rebuild "
                                        "it with `datacloud recover`");
    }
  }
  return out;
}

result<void> MetadataStore::undo() {
  Impl& self = *impl_;
  if (self.undo_numbers.empty()) {
    return failure(Errc::invalid, "there is nothing that can be undone");
  }
  const uint64_t number = self.undo_numbers.back();
  TRY(const auto undo, self.undo_record(number));
  leveldb::WriteBatch batch;
  std::optional<Sequence> sequence;
  JournalNote note;
  note.position = self.position;
  for (const auto& change : undo.changes()) {
    if (change.has_value()) {
      batch.Put(change.key(), change.value());
    } else {
      batch.Delete(change.key());
    }
    if (change.key() == key::meta(kPositionRecord)) {
      TRY(note.position, decode_position(change.value()));
    } else if (change.key() == key::meta("sequence") && change.value().size() == 8) {
      sequence = key::u64_at(change.value(), 0);
    }
  }
  if (!sequence) {
    return failure(Errc::corrupt, "what undoes entry " + std::to_string(number) +
                                      " of the journal is damaged; rebuild the store with "
                                      "`datacloud recover`");
  }
  batch.Delete(key::undo(number));
  TRY(self.write(batch, *sequence));
  self.undo_numbers.pop_back();
  self.noted(note);
  return success();
}

result<RecordChanges> MetadataStore::changes_since(uint64_t number) const {
  RecordChanges changes;
  for (const uint64_t at : impl_->undo_numbers) {
    if (at < number) continue;
    TRY(const auto undo, impl_->undo_record(at));
    for (const auto& change : undo.changes()) {
      if (is_counter(change.key()) || changes.contains(change.key())) continue;
      TRY(changes[change.key()], read(change.key()));
    }
  }
  return changes;
}

result<void> MetadataStore::merge_undo(uint64_t number, const JournalStep& step) {
  Impl& self = *impl_;
  leveldb::WriteBatch batch;
  std::map<std::string, pb::JournalBatch::Change> merged;  // as it was before all of them
  for (const uint64_t at : self.undo_numbers) {
    if (at < number) continue;
    TRY(auto undo, self.undo_record(at));
    for (auto& change : *undo.mutable_changes()) {
      std::string key = change.key();
      merged.emplace(std::move(key), std::move(change));
    }
    batch.Delete(key::undo(at));
  }
  if (merged.empty()) return failure(Errc::invalid, "there is nothing that can be undone");
  merged[key::meta(kPositionRecord)].set_value(encode_position(step.before));
  pb::JournalUndo undo;
  for (auto& [key, change] : merged) *undo.add_changes() = std::move(change);
  batch.Put(key::undo(step.position.sequence), undo.SerializeAsString());
  batch.Put(key::meta(kPositionRecord), encode_position(step.position));
  const Sequence next = sequence() + 1;
  batch.Put(key::meta("sequence"), encode_sequence(next));
  TRY(self.write(batch, next));
  while (!self.undo_numbers.empty() && self.undo_numbers.back() >= number) {
    self.undo_numbers.pop_back();
  }
  self.noted({.number = step.position.sequence, .position = step.position});
  return success();
}

result<void> MetadataStore::replay(const RecordChanges& changes, Sequence sequence,
                                   const JournalStep& step, Replay how) {
  Impl& self = *impl_;
  leveldb::WriteBatch batch;
  for (const auto& [key, value] : changes) put_change(batch, key, value);
  batch.Put(key::meta("sequence"), encode_sequence(sequence));
  JournalNote note;
  if (how == Replay::undoable) {
    TRY(note, self.note_undo(batch, changes, &step));
  } else {
    for (const uint64_t number : self.undo_numbers) batch.Delete(key::undo(number));
    batch.Put(key::meta(kPositionRecord), encode_position(step.position));
    note = {.erased = self.undo_numbers.size(), .position = step.position};
  }
  TRY(self.write(batch, sequence));
  self.noted(note);
  return success();
}

}  // namespace datacloud
