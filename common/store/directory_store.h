// A site that is a local directory.
//
// Layout: ROOT/datacloud-site (marker), ROOT/objects/00..ff/NAME (object file: data, then an
// attribute trailer; docs/format-sites.md), ROOT/objects/xx/.tmp-* (unfinished puts). The fan-out
// directories are made by format() only: a put into an unmounted or foreign directory therefore
// fails as away and never fills it. Every call checks that ROOT still carries the expected marker
// (one stat; contents re-read when the file changed).
//
// Durability of put: temporary file, fsync, link to its name (exclusive), unlink of the temporary,
// fsync of the directory. Safe for several processes at once and for a crash anywhere; leftover
// temporaries older than an hour are removed by list().
#pragma once

#include <memory>
#include <string>

#include "common/base/file_layer.h"
#include "common/store/object_store.h"

namespace datacloud {

struct DirectoryStoreOptions {
  std::string root;                  // absolute
  SiteMarker expected;               // what must be there
  int threads = 4;                   // blocking I/O threads
  std::shared_ptr<FileLayer> files;  // null: the real one
};

std::unique_ptr<ObjectStore> make_directory_store(DirectoryStoreOptions);
// Makes the layout and the marker, durable on success; root and its parents are created when
// absent. exists: it is a site already; invalid: it is not empty. Completes what an interrupted
// call left.
result<void> format_directory(FileLayer&, const std::string& root, const SiteMarker&);
// Takes the marker away, durable on success, if it is that one and no object is there; the layout
// stays for the next format_directory. invalid: it is another's by now or not empty, and is left as
// it was. Cut off, it leaves the marker, or none.
result<void> unformat_directory(FileLayer&, const std::string& root, const SiteMarker&);
// not_found: no marker; corrupt: a damaged one.
result<SiteMarker> read_directory_marker(FileLayer&, const std::string& root);

}  // namespace datacloud
