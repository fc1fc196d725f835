// The journal in a directory: local, or shared by machines through NFS. docs/journal.md.
//
// A directory cannot guard a write. So a leader writes, durably, then reads its claim again and
// counts the site only if nobody has claimed since; who claims does so durably, then reads. Each
// epoch has files of its own, filled with zeros beforehand, so that writes in place change no
// metadata of the file system. After a write that failed nothing more is written to that file: what
// may land later lands behind what the next segment says is valid.
//
// One thread per store writes; it has no lock at the site.
#pragma once

#include <memory>
#include <string>

#include "common/base/file_layer.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

struct DirectoryLogOptions {
  std::string directory;  // the journal's own
  JournalId journal{};
  uint64_t segment_bytes = uint64_t{64} << 20;  // of entries; filled when a segment is made
  std::shared_ptr<FileLayer> files = make_posix_file_layer();
};

// Makes an empty journal in a directory that is there. exists: it holds one.
result<void> format_directory_log(const DirectoryLogOptions&);

// Does no I/O itself. The journal must have been made.
std::unique_ptr<LogStore> make_directory_log(DirectoryLogOptions);

}  // namespace datacloud::journal
