// Which names below a watched directory changes are of, and how inotifywait(1) would tell them.
//
// The daemon tells changes of inodes and of entries of directories, in their order and complete.
// Here is known which names watched directories have, as they were looked up at the beginning and
// have changed since. Pure but for `list`; not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/proto/admin.pb.h"

namespace datacloud {

struct WatchLine {
  std::string directory;            // as given, and below; ends with '/'. Of a file: its path
  std::vector<std::string> events;  // "CREATE", "ISDIR"
  std::string name;
};

class WatchedNames {
 public:
  static constexpr size_t kNamesMax = 1'000'000;

  struct Entry {
    std::string name;
    uint64_t ino = 0;
    bool directory = false;
  };
  // The entries of a directory, by its path. One that is gone has none.
  using List = std::function<result<std::vector<Entry>>(const std::string& path)>;
  WatchedNames(List list, bool recursive) : list_(std::move(list)), recursive_(recursive) {}

  // With what is in it, and below it if recursive. no_space: more than kNamesMax names.
  result<void> add_directory(uint64_t ino, const std::string& path);
  void add_file(uint64_t ino, const std::string& path);
  // What there is to tell of a change, in order.
  result<std::vector<WatchLine>> apply(const pb::WatchEvent&);
  // Changes were lost: everything is looked up anew.
  result<void> look_again();
  size_t size() const { return inos_.size(); }

 private:
  using Name = std::pair<uint64_t, std::string>;  // directory, name

  result<void> remember(uint64_t directory, const Entry&);
  uint64_t forget(uint64_t directory, const std::string& name);
  void forget_directory(uint64_t ino);
  void rename_directory(uint64_t ino, const std::string& path);
  WatchLine line(uint64_t directory, const std::string& name, const char* event,
                 bool is_directory) const;
  void add_lines(const pb::WatchEvent&, std::vector<WatchLine>&) const;

  const List list_;
  const bool recursive_;
  std::map<uint64_t, std::string> roots_, files_;  // as added
  std::map<uint64_t, std::string> directories_;    // paths, with '/' at the end
  std::map<Name, uint64_t> inos_;
  std::map<uint64_t, std::set<Name>> names_;
  uint64_t leaving_ = 0, leaving_cookie_ = 0;  // a directory between the halves of its move
};

}  // namespace datacloud
