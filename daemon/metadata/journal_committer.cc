// Seals transactions, commits them here, and hands them to the journal (journal_committer.h).
#include "daemon/metadata/journal_committer.h"

#include <algorithm>
#include <future>
#include <utility>

#include "common/base/check.h"
#include "common/proto/journal.pb.h"
#include "daemon/metadata/journal_records.h"

namespace datacloud {
namespace {

using journal::EntryKind;
using journal::LogEntry;

// Of one entry's content. An entry has 4 MiB with its header and padding; what remains is for the
// fields around the last change.
constexpr size_t kContentBytesMax = journal::kEntryBytesMax - (64 << 10);

// As many bytes of entries go to the log whatever the delay: the memory they take is bounded by it,
// and an append of that size costs little beside what is in it.
constexpr uint64_t kHeldBytesMax = uint64_t{256} << 10;

constexpr uint64_t kEntryBytesGuess = 1024;
constexpr uint64_t kEntriesForMean = 64;

Error given_up() {
  return Error(Errc::unavailable, "this daemon has given the leadership up; ask again in a moment");
}

size_t bytes_of(const std::string& key, const std::optional<std::string>& value) {
  return key.size() + (value ? value->size() : 0) + 32;
}

}  // namespace

JournalCommitter::JournalCommitter(MetadataStore& store, Options options)
    : store_(store),
      options_(std::move(options)),
      last_(options_.last),
      floor_(std::max<uint64_t>(1, options_.log->floor())),
      begun_(options_.last.sequence) {}

JournalCommitter::~JournalCommitter() = default;

result<LogEntry> JournalCommitter::seal_one(EntryKind kind, ByteView content) {
  TRY(auto entry, options_.sealer->seal(kind, last_, options_.log->committed().sequence, content));
  last_ = entry.position();
  return entry;
}

// A sealed sequence is not sealed again: after a failure nothing can be appended any more.
result<JournalCommitter::Sealed> JournalCommitter::seal(const RecordChanges& changes,
                                                        Sequence sequence) {
  Sealed sealed;
  sealed.step.before = last_;
  sealed.step.committed = options_.log->committed().sequence;
  std::string batch;  // an encoded JournalBatch
  const auto finish = [&](bool more) -> result<void> {
    append_batch_fields(batch, sequence, more);
    TRY(auto entry, seal_one(EntryKind::data, as_bytes(batch)));
    sealed.entries.push_back(std::move(entry));
    batch.clear();
    return success();
  };
  for (const auto& [key, value] : changes) {
    if (is_local_record(key)) continue;
    if (!batch.empty() && batch.size() + bytes_of(key, value) > kContentBytesMax) {
      TRY(finish(true));
    }
    append_change(batch, kBatchChanges, key, value ? &*value : nullptr);
  }
  TRY(finish(false));
  sealed.step.position = last_;
  return sealed;
}

// What is held is in the store, where the next start finds it if this process ends now.
void JournalCommitter::hand_over(std::vector<LogEntry> entries) {
  for (auto& entry : entries) {
    appended_bytes_ += entry.bytes->size();
    held_bytes_ += entry.bytes->size();
    held_.push_back(std::move(entry));
  }
  if (options_.append_delay <= Duration(0) || held_bytes_ >= kHeldBytesMax) return flush();
  if (std::exchange(flush_due_, true)) return;
  options_.loop->after(options_.append_delay, [this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    flush_due_ = false;
    flush();
  });
}

void JournalCommitter::flush() {
  if (held_.empty()) return;
  held_bytes_ = 0;
  options_.log->append_all(std::exchange(held_, {}));
}

result<void> JournalCommitter::apply(Transaction&& txn) {
  if (txn.empty()) return success();
  if (closed_) return failure(given_up());
  const auto applied = [&]() -> result<void> {
    TRY(auto sealed, seal(txn.changes(), store_.sequence() + 1));
    TRY(store_.commit(std::move(txn), sealed.step));
    hand_over(std::move(sealed.entries));
    return success();
  }();
  if (applied) return success();
  options_.fatal(applied.error());
  return failure(applied.error());
}

result<void> JournalCommitter::append_local(uint64_t number) {
  TRY(const auto changes, store_.changes_since(number));
  TRY(auto sealed, seal(changes, store_.sequence() + 1));
  TRY(store_.merge_undo(number, sealed.step));
  hand_over(std::move(sealed.entries));
  return success();
}

result<void> JournalCommitter::append(EntryKind kind, ByteView content,
                                      std::function<void(const journal::LogPosition&)> committed) {
  DC_CHECK(kind != EntryKind::data, "transactions are applied");
  if (closed_) return failure(given_up());
  if (content.size() > kContentBytesMax) {
    return failure(Errc::invalid,
                   "a journal entry of " + std::to_string(content.size()) + " bytes is too large");
  }
  auto entry = seal_one(kind, content);
  if (!entry) {
    options_.fatal(entry.error());
    return failure(entry.error());
  }
  hand_over({std::move(entry).value()});
  flush();
  if (committed) when_durable([committed = std::move(committed), at = last_] { committed(at); });
  return success();
}

void JournalCommitter::trim(uint64_t floor) {
  floor_ = std::max(floor_, floor);
  options_.log->trim(floor);
}

uint64_t JournalCommitter::bytes() const {
  const uint64_t since = last_.sequence - begun_;
  const uint64_t mean = since >= kEntriesForMean ? appended_bytes_ / since : kEntryBytesGuess;
  return (last_.sequence + 1 - std::min(floor_, last_.sequence + 1)) * mean;
}

// The log answers on a thread of its own, possibly when this object is gone already. A failure is
// told by who made the log: it is the end of all that waits here.
void JournalCommitter::when_durable(std::function<void()> f) {
  if (durable()) return options_.loop->post(std::move(f));
  flush();
  options_.log->when_committed(last_.sequence,
                               [loop = options_.loop, f = std::move(f)](result<void> done) mutable {
                                 if (done) loop->post(std::move(f));
                               });
}

void JournalCommitter::tell_when_durable(std::function<void()> f) {
  if (durable()) return options_.loop->post(std::move(f));
  flush();
  options_.log->when_committed(last_.sequence,
                               [loop = options_.loop, f = std::move(f)](result<void> done) mutable {
                                 if (done) loop->run_or_post(std::move(f));
                               });
}

bool JournalCommitter::durable() const {
  return options_.log->committed().sequence >= last_.sequence;
}

result<void> JournalCommitter::wait_durable(Duration deadline) {
  if (durable()) return success();
  flush();
  const auto answer = std::make_shared<std::promise<result<void>>>();
  auto future = answer->get_future();
  options_.log->when_committed(last_.sequence,
                               [answer](result<void> done) { answer->set_value(std::move(done)); });
  if (future.wait_for(deadline) == std::future_status::ready) return future.get();
  return failure(Errc::timed_out,
                 "too few of the journal's sites answer: the last changes are not at a quorum yet");
}

bool JournalCommitter::has_room() const {
  return options_.log->uncommitted_bytes() + held_bytes_ <= options_.uncommitted_bytes_max;
}

bool JournalCommitter::full() const { return !room_.empty() || !has_room(); }

void JournalCommitter::when_room(std::function<void()> f) {
  if (!full()) return f();
  room_.push_back(std::move(f));
  await_room();
}

void JournalCommitter::await_room() {
  if (awaiting_) return;
  awaiting_ = true;
  flush();
  const auto again = [this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    awaiting_ = false;
    while (!room_.empty() && has_room()) {
      const auto f = std::move(room_.front());
      room_.pop_front();
      f();
    }
    if (!room_.empty()) await_room();
  };
  const uint64_t next = options_.log->committed().sequence + 1;
  if (next > last_.sequence) return options_.loop->post(again);
  options_.log->when_committed(next, [loop = options_.loop, again](result<void> done) {
    if (done) loop->post(again);
  });
}

result<std::optional<BatchReader::Batch>> BatchReader::add(const LogEntry& entry) {
  if (entry.header.kind == EntryKind::opening) open_.reset();
  if (entry.header.kind != EntryKind::data) return std::optional<Batch>();
  TRY(const auto content, opener_.open(entry));
  pb::JournalBatch parsed;
  if (!parsed.ParseFromArray(content.data(), static_cast<int>(content.size()))) {
    return failure(Errc::corrupt, "journal entry " + std::to_string(entry.header.sequence) +
                                      " does not parse; it was written by another version");
  }
  if (!open_) open_ = Batch();
  open_->sequence = parsed.sequence();
  for (auto& change : *parsed.mutable_changes()) {
    auto& value = open_->changes[change.key()];
    value.reset();
    if (change.has_value()) value = std::move(*change.mutable_value());
  }
  if (parsed.more()) return std::optional<Batch>();
  return std::exchange(open_, std::nullopt);
}

}  // namespace datacloud
