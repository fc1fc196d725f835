// A site's journal as tests see it, and entries to put there.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/journal/log_store.h"

namespace datacloud::journal {

inline JournalId test_journal(uint8_t fill = 0x11) {
  JournalId id;
  id.fill(fill);
  return id;
}

// A freshly made, empty journal at one site.
class LogSite {
 public:
  virtual ~LogSite() = default;
  // One more handle, as another process would have it. Segments are small.
  virtual std::unique_ptr<LogStore> open() = 0;
  virtual size_t pieces() = 0;  // files or objects that are there
  static constexpr uint64_t kSegmentBytes = 48 << 10;
};

inline Bytes body_of(const Epoch& epoch, uint64_t sequence, size_t bytes = 0) {
  std::string text = epoch_text(epoch) + "/" + std::to_string(sequence) + "/";
  if (text.size() < bytes) text.append(bytes - text.size(), static_cast<char>('a' + sequence % 26));
  return to_bytes(as_bytes(text));
}

inline LogEntry entry_after(const LogPosition& last, const Epoch& epoch, size_t bytes = 0) {
  EntryHeader header;
  header.journal = test_journal();
  header.epoch = epoch;
  header.sequence = last.sequence + 1;
  header.previous = last.hash;
  return encode_entry(header, body_of(epoch, header.sequence, bytes)).value();
}

inline std::vector<LogEntry> entries_after(LogPosition last, const Epoch& epoch, size_t count,
                                           size_t bytes = 0) {
  std::vector<LogEntry> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back(entry_after(last, epoch, bytes));
    last = out.back().position();
  }
  return out;
}

// Everything in the log from a sequence on, checked for its chain.
inline std::vector<LogEntry> read_from(LogStore& store, uint64_t from,
                                       size_t bytes_max = kReadBytesMax) {
  std::vector<LogEntry> out;
  for (;;) {
    auto some = store.read(from, bytes_max);
    if (!some) {
      ADD_FAILURE() << "read from " << from << ": " << some.error().message();
      return out;
    }
    if (some.value().empty()) return out;
    for (auto& entry : some.value()) {
      EXPECT_EQ(entry.header.sequence, from);
      if (!out.empty()) {
        EXPECT_TRUE(continues(entry, test_journal(), out.back().position())) << from;
      }
      EXPECT_EQ(hash_of(*entry.bytes), entry.hash);
      out.push_back(std::move(entry));
      ++from;
    }
  }
}

inline std::vector<std::string> bodies(const std::vector<LogEntry>& entries) {
  std::vector<std::string> out;
  for (const auto& entry : entries) {
    const std::string text(as_text(entry.body()));
    out.push_back(text.substr(0, text.rfind('/')));
  }
  return out;
}

// A leader: claims and begins, appends what follows, knows where it is.
class Leader {
 public:
  Leader(LogStore& store, Epoch epoch) : store_(store), epoch_(epoch) {}

  // Claims and goes on at the end of the log, or behind `base`.
  result<void> lead(std::optional<LogPosition> base = std::nullopt) {
    TRY(const auto head, store_.claim(epoch_));
    last_ = base ? *base : head.last;
    return store_.begin(epoch_, last_, Base::in_log);
  }
  result<void> append(size_t count = 1, size_t bytes = 0) {
    const auto batch = LogBatch::of(entries_after(last_, epoch_, count, bytes)).value();
    TRY(append_now(store_, epoch_, batch));
    last_ = batch.last();
    return success();
  }
  const LogPosition& last() const { return last_; }
  const Epoch& epoch() const { return epoch_; }

 private:
  LogStore& store_;
  const Epoch epoch_;
  LogPosition last_;
};

#define EXPECT_REFUSED(code, call)                                                              \
  do {                                                                                          \
    const auto answer_ = (call);                                                                \
    if (answer_) {                                                                              \
      ADD_FAILURE() << #call " succeeded";                                                      \
    } else {                                                                                    \
      EXPECT_TRUE(answer_.error().is(code)) << #call " answered " << answer_.error().message(); \
    }                                                                                           \
  } while (false)

#define ASSERT_OK(call)                                              \
  do {                                                               \
    const auto answer_ = (call);                                     \
    ASSERT_TRUE(answer_) << #call ": " << answer_.error().message(); \
  } while (false)

}  // namespace datacloud::journal
