// LevelDB's records as the metadata store reads them: cursors, and views of one moment.
#pragma once

#include <leveldb/db.h>

#include <memory>
#include <optional>
#include <string>

#include "common/base/error.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline leveldb::Slice slice(const std::string& s) { return {s.data(), s.size()}; }
// Reads are verified against their checksums.
leveldb::ReadOptions checked_read();

std::shared_ptr<RecordCursor> make_stored_cursor(leveldb::DB&, const leveldb::ReadOptions&);
// Of the records as they are now. The database must outlive it.
std::shared_ptr<const MetadataView> make_stored_view(leveldb::DB&, Sequence);

}  // namespace datacloud
