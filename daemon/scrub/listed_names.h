// The names a listing of a site has shown, as 64-bit fingerprints in a file: however many objects a
// site has, it is listed once, and what records expect there is looked up part by part. A listing
// that goes on for days survives a restart of the daemon with it.
//
// The file is a hint: a name it lacks is asked for at the site before anything is said of it.
//
// Memory: one part at a time, at most about kPartNames of 8 bytes (64 MiB). Disk: 8 bytes a name.
// Threads: one at a time. Errors: of the file system, naming the file; corrupt when there is less
// than what was there before.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/file_layer.h"

namespace datacloud {

class ListedNames {
 public:
  static constexpr uint64_t kPartNames = 8u << 20;
  // Names are 32 random-looking hex digits: their first half tells them apart.
  static uint64_t fingerprint(std::string_view name);

  // Starts from the beginning.
  static result<ListedNames> create(std::shared_ptr<FileLayer>, std::string path);
  // Goes on with a file that has at least the first `names`; those after them stay.
  static result<ListedNames> resume(std::shared_ptr<FileLayer>, std::string path, uint64_t names);

  result<void> add(const std::vector<std::string>& names);
  result<void> sync();
  uint64_t size() const { return size_; }

  // The fingerprints whose remainder by the number of parts is this part's number, sorted.
  struct Part {
    uint64_t parts = 1, part = 0;
    std::vector<uint64_t> prints;
    bool covers(uint64_t print) const { return print % parts == part; }
    bool has(uint64_t print) const;
  };
  uint64_t parts(uint64_t part_names = kPartNames) const { return 1 + size_ / part_names; }
  result<Part> load(uint64_t part, uint64_t parts);

  // Removes the file; nothing can be added or loaded afterwards.
  result<void> remove();

 private:
  ListedNames(std::shared_ptr<FileLayer>, std::string path, std::unique_ptr<File>, uint64_t size);

  std::shared_ptr<FileLayer> files_;
  std::string path_;
  std::unique_ptr<File> out_;
  uint64_t size_ = 0;
};

}  // namespace datacloud
