// The file system calls of everything that must survive a power cut, as one seam.
//
// The directory store and the LevelDB environment make every durable change through a FileLayer,
// so that tests can run them over a simulated disk which, at a power cut, drops and reorders
// whatever was not fsynced: file contents until fsync of the file, names (create, link, rename,
// unlink) until fsync of the directory.
//
// Failures are POSIX errors naming the path. Thread safety: all methods from any thread; one
// File may be used by one thread at a time (pread excepted).
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud {

class File {
 public:
  virtual ~File() = default;  // closes without syncing
  virtual result<void> append(ByteView) = 0;
  // Appends the parts one after another, as few calls as the layer can.
  virtual result<void> append_parts(const std::vector<ByteView>& parts) {
    for (const auto& part : parts) {
      TRY(append(part));
    }
    return success();
  }
  virtual result<size_t> pread(uint64_t offset, MutableByteView) = 0;  // short at the end
  virtual result<void> sync() = 0;                                     // data and size durable
  virtual result<uint64_t> size() = 0;                                 // fails unless a plain file
  // Overwrites or extends. Durable on success, also the size, when the file was opened with
  // Open::write_through, whose writes are multiples of kWriteThroughBytes, in place and length. A
  // failed one may have changed any of its sectors, now or later.
  virtual result<void> write_at(uint64_t, ByteView) {
    return failure(Errc::unsupported, "this file cannot be written in place");
  }
};

inline constexpr size_t kWriteThroughBytes = 4096;

class FileLayer {
 public:
  // read_through and write_through (of a file that is there) bypass the page cache where the file
  // system can: what is read is what another machine wrote.
  enum class Open { read, create_exclusive, truncate, append, read_through, write_through };
  struct Stat {
    bool is_directory = false;
    uint64_t size = 0;
    uint64_t device = 0, inode = 0;
    int64_t mtime_ns = 0;
  };

  virtual ~FileLayer() = default;
  virtual result<std::unique_ptr<File>> open(const std::string& path, Open) = 0;
  virtual result<Stat> stat(const std::string& path) = 0;
  virtual result<void> make_directory(const std::string& path) = 0;
  virtual result<void> remove_directory(const std::string& path) = 0;
  virtual result<void> unlink(const std::string& path) = 0;
  virtual result<void> rename(const std::string& from, const std::string& to) = 0;
  // Hard link; fails with EEXIST when `to` exists (the exclusive step of a put).
  virtual result<void> link(const std::string& from, const std::string& to) = 0;
  virtual result<void> sync_directory(const std::string& path) = 0;
  // Names in a directory without . and .., in no particular order.
  virtual result<std::vector<std::string>> list(const std::string& path) = 0;
  virtual result<void> lock(const std::string& path, std::unique_ptr<File>& held) = 0;
  struct Space {
    uint64_t bytes_total = 0, bytes_free = 0;
  };
  virtual result<Space> space(const std::string& path) = 0;
};

std::shared_ptr<FileLayer> make_posix_file_layer();

}  // namespace datacloud
