// Fills a new metadata directory from records and changes that come from elsewhere: from a
// checkpoint and the journal's entries behind it.
//
// Nothing is durable before finish(), and nobody opens the directory before: it is made under
// another name and renamed when it is whole (recovered_directory.h). Much faster than transactions.
//
// Records come by put() in the order of their keys: LevelDB then writes tables that do not overlap,
// and never has to merge them. Transactions change the same records over and over, so apply()
// gathers the newest values and writes them in order.
//
// Threading: one thread at a time. Memory: two of LevelDB's write buffers of 32 MiB, and as much of
// gathered records.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "daemon/journal/log_position.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/record_view.h"

namespace datacloud {

class MetadataLoader {
 public:
  // Makes the directory; its parent is there. exists: so is the directory.
  static result<std::unique_ptr<MetadataLoader>> create(MetadataStore::Options);
  ~MetadataLoader();

  result<void> put(std::string_view key, std::string_view value);
  // A transaction; `sequence` is the store's afterwards.
  result<void> apply(RecordChanges&&, Sequence sequence);
  result<std::optional<std::string>> get(const std::string& key);
  // What was put is as of this position. Durable on success; nothing may be called after it.
  // corrupt: it is not the metadata of a cloud.
  result<void> finish(const journal::LogPosition&);

 private:
  struct Impl;
  explicit MetadataLoader(std::unique_ptr<Impl>);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
