// A POSIX name space in memory, written from the manual pages and ext4's behaviour, to compare the
// daemon's namespace operations with. Deliberately naive: paths upwards are found by searching.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <string>

namespace datacloud {

struct ModelNode {
  uint32_t mode = 0, uid = 0, gid = 0, nlink = 0;
  int64_t atime = 0, mtime = 0, ctime = 0;
  uint64_t size = 0;
  std::string target;
  std::map<std::string, uint64_t> entries;  // directories
  std::map<std::string, std::string> xattrs;
};

class NamespaceModel {
 public:
  std::map<uint64_t, ModelNode> nodes;  // removed ones too, with nlink 0

  NamespaceModel() {
    auto& root = nodes[1];
    root.mode = S_IFDIR | 0755;
    root.nlink = 2;
    root.size = 4096;
  }

  bool is_directory(uint64_t ino) const { return S_ISDIR(nodes.at(ino).mode); }

  int create(uint64_t parent, const std::string& name, uint32_t mode, uint32_t uid, uint32_t gid,
             const std::string& target, uint64_t ino, int64_t now) {
    if (const int e = usable(parent)) return e;
    auto& directory = nodes[parent];
    if (directory.entries.contains(name)) return EEXIST;
    ModelNode node;
    node.mode = mode;
    node.uid = uid;
    node.gid = gid;
    if (directory.mode & S_ISGID) {
      node.gid = directory.gid;
      if (S_ISDIR(mode)) node.mode |= S_ISGID;
    }
    node.atime = node.mtime = node.ctime = now;
    node.nlink = S_ISDIR(mode) ? 2 : 1;
    node.size = S_ISDIR(mode) ? 4096 : target.size();
    node.target = target;
    directory.entries[name] = ino;
    directory.nlink += S_ISDIR(mode) ? 1 : 0;
    directory.mtime = directory.ctime = now;
    nodes[ino] = node;
    return 0;
  }

  int link(uint64_t ino, uint64_t parent, const std::string& name, int64_t now) {
    if (const int e = usable(parent)) return e;
    if (nodes[parent].entries.contains(name)) return EEXIST;
    if (is_directory(ino)) return EPERM;
    if (nodes[ino].nlink == 0) return ENOENT;
    nodes[parent].entries[name] = ino;
    nodes[parent].mtime = nodes[parent].ctime = now;
    ++nodes[ino].nlink;
    nodes[ino].ctime = now;
    return 0;
  }

  int unlink(uint64_t parent, const std::string& name, bool directory, int64_t now) {
    if (!is_directory(parent)) return ENOTDIR;
    const auto it = nodes[parent].entries.find(name);
    if (it == nodes[parent].entries.end()) return ENOENT;
    const uint64_t ino = it->second;
    if (directory && !is_directory(ino)) return ENOTDIR;
    if (directory && !nodes[ino].entries.empty()) return ENOTEMPTY;
    if (!directory && is_directory(ino)) return EISDIR;
    nodes[parent].entries.erase(it);
    if (directory) --nodes[parent].nlink;
    nodes[parent].mtime = nodes[parent].ctime = now;
    drop(ino, now);
    return 0;
  }

  int rename(uint64_t from, const std::string& name, uint64_t to, const std::string& new_name,
             bool no_replace, bool exchange, int64_t now) {
    if (!is_directory(from) || !is_directory(to)) return ENOTDIR;
    if (!nodes[from].entries.contains(name)) return ENOENT;
    if (nodes[to].nlink == 0) return ENOENT;
    const uint64_t source = nodes[from].entries[name];
    const bool occupied = nodes[to].entries.contains(new_name);
    const uint64_t target = occupied ? nodes[to].entries[new_name] : 0;
    if (no_replace && occupied) return EEXIST;
    if (exchange && !occupied) return ENOENT;
    if (below(to, source)) return EINVAL;
    if (occupied && below(from, target)) return exchange ? EINVAL : ENOTEMPTY;
    if (source == target) return 0;
    if (occupied && !exchange) {
      if (is_directory(source) && !is_directory(target)) return ENOTDIR;
      if (!is_directory(source) && is_directory(target)) return EISDIR;
      if (is_directory(target) && !nodes[target].entries.empty()) return ENOTEMPTY;
    }
    nodes[from].entries.erase(name);
    nodes[to].entries[new_name] = source;
    if (exchange) nodes[from].entries[name] = target;
    if (exchange) nodes[target].ctime = now;
    if (occupied && !exchange) drop(target, now);
    nodes[source].ctime = now;
    for (const uint64_t d : {from, to}) {
      nodes[d].mtime = nodes[d].ctime = now;
      recount(d);
    }
    return 0;
  }

  // The directory that holds `directory`; 0 when it was removed.
  uint64_t parent_of(uint64_t directory) const {
    if (directory == 1) return 1;
    for (const auto& [ino, node] : nodes) {
      for (const auto& [name, child] : node.entries) {
        if (child == directory) return ino;
      }
    }
    return 0;
  }

 private:
  int usable(uint64_t parent) const {
    if (!is_directory(parent)) return ENOTDIR;
    return nodes.at(parent).nlink == 0 ? ENOENT : 0;
  }

  // `inner` is `outer` or somewhere below it.
  bool below(uint64_t inner, uint64_t outer) const {
    if (!is_directory(outer)) return false;
    for (uint64_t at = inner; at != 0; at = parent_of(at)) {
      if (at == outer) return true;
      if (at == 1) return false;
    }
    return false;
  }

  void drop(uint64_t ino, int64_t now) {
    nodes[ino].ctime = now;
    if (is_directory(ino)) {
      nodes[ino].nlink = 0;
      nodes[ino].size = 0;
    } else {
      --nodes[ino].nlink;
    }
  }

  void recount(uint64_t directory) {
    if (nodes[directory].nlink == 0) return;
    nodes[directory].nlink = 2;
    for (const auto& [name, child] : nodes[directory].entries) {
      nodes[directory].nlink += is_directory(child) ? 1 : 0;
    }
  }
};

}  // namespace datacloud
