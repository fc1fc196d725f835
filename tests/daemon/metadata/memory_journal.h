// A journal in memory whose quorum does as told, for tests of what fills it.
//
// One leader at a time, a claim fences the one before. Entries are committed as they come, or wait
// (hold) until they are released or lost. Callbacks run when deliver() is called.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/journal/quorum_log.h"

namespace datacloud::journal {

class MemoryJournal : public std::enable_shared_from_this<MemoryJournal> {
 public:
  explicit MemoryJournal(JournalId id) : id_(id) {}

  std::shared_ptr<QuorumLog> claim(std::function<void(const Error&)> fenced = {});
  void hold(bool on) { held_ = on; }
  void release() { release(entries_.size()); }
  void release(size_t count) {
    committed_ = std::min(committed_ + count, entries_.size());
    if (changed) changed();
  }
  // Called when something may be due for deliver().
  std::function<void()> changed;
  // Entries that reached no quorum: the newest ones that are not committed.
  size_t uncommitted() const { return entries_.size() - committed_; }
  void lose(size_t count) { entries_.resize(entries_.size() - std::min(count, uncommitted())); }
  void trim(uint64_t floor) { floor_ = std::max(floor_, floor); }
  const std::vector<LogEntry>& entries() const { return entries_; }
  const JournalId& id() const { return id_; }
  // Runs what is due. True: something was.
  bool deliver();

 private:
  class Log;
  LogPosition position(uint64_t sequence) const {
    return sequence == 0 ? LogPosition() : entries_[sequence - 1].position();
  }

  const JournalId id_;
  std::vector<LogEntry> entries_;
  size_t committed_ = 0;
  uint64_t floor_ = 1;
  uint64_t epoch_ = 0;
  bool held_ = false;
  std::vector<std::weak_ptr<Log>> leaders_;  // the last one leads
};

class MemoryJournal::Log final : public QuorumLog {
 public:
  Log(std::shared_ptr<MemoryJournal> journal, Epoch epoch, std::function<void(const Error&)> fenced)
      : journal_(std::move(journal)), epoch_(epoch), fenced_(std::move(fenced)) {
    adopted_ = journal_->position(journal_->entries_.size());
  }
  ~Log() override = default;

  const Epoch& epoch() const override { return epoch_; }
  LogPosition adopted() const override { return adopted_; }
  uint64_t floor() const override { return journal_->floor_; }
  result<bool> contains(const LogPosition& at) override {
    if (at.sequence + 1 < journal_->floor_) {
      return failure(Errc::not_found, "entry " + std::to_string(at.sequence) + " was trimmed");
    }
    return at.sequence <= adopted_.sequence && journal_->position(at.sequence).hash == at.hash;
  }
  result<void> read(uint64_t from,
                    const std::function<result<void>(const LogEntry&)>& sink) override {
    if (from < journal_->floor_) return failure(Errc::not_found, "it was trimmed");
    for (uint64_t s = from; s <= adopted_.sequence; ++s) {
      TRY(sink(journal_->entries_[s - 1]));
    }
    return success();
  }
  result<void> rewind(const LogPosition&) override { return failure(Errc::unsupported, "a test"); }
  result<void> begin(const LogEntry& opening) override {
    if (is_fenced()) return failure(Errc::stale, "another one leads");
    push(opening);
    journal_->release();
    return success();
  }
  void append(LogEntry entry) override {
    if (is_fenced()) return;
    push(std::move(entry));
    if (!journal_->held_) journal_->release();
  }
  LogPosition committed() const override {
    return is_fenced() ? last_committed_ : journal_->position(journal_->committed_);
  }
  void when_committed(uint64_t sequence, std::function<void(result<void>)> f) override {
    waiting_.emplace_back(sequence, std::move(f));
    if (journal_->changed) journal_->changed();
  }
  uint64_t uncommitted_bytes() const override {
    uint64_t bytes = 0;
    for (size_t i = journal_->committed_; i < journal_->entries_.size(); ++i) {
      bytes += journal_->entries_[i].bytes->size();
    }
    return bytes;
  }
  void trim(uint64_t floor) override { journal_->trim(floor); }
  std::vector<MemberState> members() const override { return {}; }

  void fence() {
    if (is_fenced_) return;
    last_committed_ = journal_->position(journal_->committed_);
    is_fenced_ = true;
  }
  bool deliver() {
    bool any = false;
    if (is_fenced_ && fenced_) {
      std::exchange(fenced_, nullptr)(Error(Errc::stale, "another one leads"));
      any = true;
    }
    for (auto& [sequence, f] : std::exchange(waiting_, {})) {
      if (is_fenced_ || sequence <= journal_->committed_) {
        f(is_fenced_ ? result<void>(failure(Errc::stale, "another one leads"))
                     : result<void>(success()));
        any = true;
      } else {
        waiting_.emplace_back(sequence, std::move(f));
      }
    }
    return any;
  }

 private:
  bool is_fenced() const { return is_fenced_; }
  void push(LogEntry entry) {
    const auto last = journal_->position(journal_->entries_.size());
    if (!continues(entry, journal_->id_, last)) std::abort();
    journal_->entries_.push_back(std::move(entry));
  }

  const std::shared_ptr<MemoryJournal> journal_;
  const Epoch epoch_;
  std::function<void(const Error&)> fenced_;
  LogPosition adopted_, last_committed_;
  bool is_fenced_ = false;
  std::deque<std::pair<uint64_t, std::function<void(result<void>)>>> waiting_;
};

inline std::shared_ptr<QuorumLog> MemoryJournal::claim(std::function<void(const Error&)> fenced) {
  for (const auto& leader : leaders_) {
    if (const auto before = leader.lock()) before->fence();
  }
  const auto log =
      std::make_shared<Log>(shared_from_this(), Epoch{++epoch_, epoch_ * 7}, std::move(fenced));
  leaders_.push_back(log);
  return log;
}

inline bool MemoryJournal::deliver() {
  bool any = false;
  for (const auto& leader : std::vector(leaders_)) {
    if (const auto log = leader.lock()) any = log->deliver() || any;
  }
  return any;
}

}  // namespace datacloud::journal
