// A site's log, read from a sequence to its end, and the transactions in it.
#pragma once

#include <functional>
#include <optional>

#include "common/base/error.h"
#include "daemon/journal/log_store.h"
#include "daemon/metadata/journal_committer.h"

namespace datacloud {

// Entries from `from` on, in order, one at a time. The first has to follow `before`, if there is
// one, and each the one in front of it. corrupt: one does not. Ends with the first failure of
// `visit`. A thread of its own reads ahead, 16 MiB at most; the log answers two calls at once.
result<void> read_entries(journal::LogStore&, const journal::JournalId&, uint64_t from,
                          std::optional<journal::LogPosition> before,
                          const std::function<result<void>(const journal::LogEntry&)>& visit);

// Whole transactions out of entries, and whether one is open.
class TransactionReader {
 public:
  explicit TransactionReader(const SecretKey& metadata_key) : batches_(metadata_key) {}
  // The transaction that ends with this entry. corrupt: as BatchReader.
  result<std::optional<BatchReader::Batch>> add(const journal::LogEntry&);
  // Whether the last entry was not the end of a transaction.
  bool open() const { return open_; }

 private:
  BatchReader batches_;
  bool open_ = false;
};

}  // namespace datacloud
