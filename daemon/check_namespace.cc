// Reads everything once, then says and mends.
#include "daemon/check_namespace.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "common/ids.h"
#include "daemon/namespace_records.h"
#include "daemon/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kFindingsMax = 10'000;
constexpr const char* kLostAndFound = "lost+found";

struct Seen {
  uint32_t mode = 0, nlink = 0, xattr_count = 0;
  uint64_t parent = 0;
  uint32_t names = 0, subdirectories = 0, xattrs = 0;
  uint64_t cookie_max = 0, next_cookie = 0;
  bool orphan = false;
};

class NamespaceCheck {
 public:
  NamespaceCheck(Transaction& txn, bool mend, int64_t now_ns,
                 const std::function<InodeId()>& new_ino)
      : txn_(txn), mend_(mend), now_ns_(now_ns), new_ino_(new_ino) {}

  result<std::vector<NamespaceFinding>> run() {
    TRY(read_inodes());
    TRY(read_entries());
    TRY(read_positions());
    TRY(check_inodes());
    return std::move(findings_);
  }

 private:
  void find(std::string text, std::string action) {
    if (findings_.size() < kFindingsMax) findings_.push_back({std::move(text), std::move(action)});
  }

  template <class Visit>
  result<void> each(char prefix, const Visit& visit) {
    const std::string first(1, prefix);
    return txn_.scan(first, key::after_prefix(first), [&](std::string_view k, std::string_view v) {
      visit(k, v);
      return true;
    });
  }

  result<void> read_inodes() {
    TRY(each('I', [&](std::string_view k, std::string_view v) {
      pb::Inode inode;
      if (k.size() != 9 || !inode.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
        return find("an inode record does not parse", "");
      }
      Seen& seen = inodes_[key::u64_at(k, 1)];
      seen.mode = inode.mode();
      seen.nlink = inode.nlink();
      seen.xattr_count = inode.xattr_count();
      seen.parent = inode.parent();
      seen.next_cookie = inode.next_cookie();
    }));
    TRY(each('O', [&](std::string_view k, std::string_view) {
      if (k.size() != 9) return;
      const auto it = inodes_.find(key::u64_at(k, 1));
      if (it != inodes_.end()) it->second.orphan = true;
    }));
    return each('X', [&](std::string_view k, std::string_view) {
      if (k.size() < 9) return;
      const auto it = inodes_.find(key::u64_at(k, 1));
      if (it != inodes_.end()) {
        ++it->second.xattrs;
      } else {
        find(fmt::format("an attribute belongs to inode {}, which does not exist",
                         key::u64_at(k, 1)),
             "it is erased");
        stale_.emplace_back(k);
      }
    });
  }

  result<void> read_entries() {
    TRY(each('E', [&](std::string_view k, std::string_view v) {
      pb::Entry entry;
      if (k.size() < 10 || !entry.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
        stale_.emplace_back(k);
        return find("an entry record does not parse",
                    "it is erased; what it named is linked into /lost+found");
      }
      const InodeId parent = key::u64_at(k, 1);
      const std::string name(k.substr(9));
      const auto child = inodes_.find(entry.ino());
      const auto directory = inodes_.find(parent);
      if (directory == inodes_.end() || !S_ISDIR(directory->second.mode)) {
        find(fmt::format("entry \"{}\" lies in inode {}, which is no directory", name, parent),
             "it is erased; what it named is linked into /lost+found");
        stale_.emplace_back(k);
        return;
      }
      if (child == inodes_.end()) {
        find(fmt::format("entry \"{}\" of directory {} names inode {}, which does not exist", name,
                         parent, entry.ino()),
             "it is erased");
        stale_.emplace_back(k);
        stale_.push_back(key::cookie(parent, entry.cookie()));
        return;
      }
      ++child->second.names;
      if (S_ISDIR(child->second.mode)) {
        ++directory->second.subdirectories;
        if (child->second.parent != parent) wrong_parent_[entry.ino()] = parent;
      }
      if (entry.type() != (child->second.mode & S_IFMT)) {
        find(fmt::format("entry \"{}\" of directory {} has the wrong type", name, parent),
             "it gets the inode's");
        entry.set_type(child->second.mode & S_IFMT);
        puts_.emplace_back(std::string(k), entry.SerializeAsString());
      }
      auto& last = directory->second.cookie_max;
      last = std::max(last, entry.cookie());
      positions_[{parent, entry.cookie()}] = name;
    }));
    return success();
  }

  result<void> read_positions() {
    TRY(each('D', [&](std::string_view k, std::string_view v) {
      if (k.size() != 17) return find("a position record does not parse", "");
      const auto it = positions_.find({key::u64_at(k, 1), key::u64_at(k, 9)});
      if (it == positions_.end()) {
        if (std::find(stale_.begin(), stale_.end(), k) != stale_.end()) return;
        find(fmt::format("position {} of directory {} names \"{}\", which is no entry",
                         key::u64_at(k, 9), key::u64_at(k, 1), v),
             "it is erased");
        stale_.emplace_back(k);
      } else {
        if (it->second != v) {
          find(fmt::format("position {} of directory {} names another entry", key::u64_at(k, 9),
                           key::u64_at(k, 1)),
               "it names its own");
          puts_.emplace_back(std::string(k), it->second);
        }
        positions_.erase(it);
      }
    }));
    for (const auto& [place, name] : positions_) {
      find(fmt::format("entry \"{}\" of directory {} is missing from listings", name, place.first),
           "its position is written again");
      puts_.emplace_back(key::cookie(place.first, place.second), name);
    }
    if (!mend_) return success();
    for (const auto& k : stale_) txn_.erase(k);
    for (const auto& [k, v] : puts_) txn_.put(k, v);
    return success();
  }

  result<void> check_inodes() {
    for (auto& [ino, seen] : inodes_) {
      const bool directory = S_ISDIR(seen.mode);
      if (ino != kRootInode && seen.names == 0 && !seen.orphan) {
        find(fmt::format("inode {} has no name", ino),
             fmt::format("it is linked as /{}/{}", kLostAndFound, ino));
        if (mend_) {
          TRY(link_as_found(ino));
        }
        if (directory) continue;
        seen.names = 1;
      }
      if (directory && seen.names > 1) {
        find(fmt::format("directory {} has {} names", ino, seen.names), "");
      }
      const uint32_t links = directory ? 2 + seen.subdirectories : seen.names;
      const bool wrong_links = seen.nlink != links && !(seen.orphan && seen.names == 0);
      const bool wrong_xattrs = seen.xattrs != seen.xattr_count;
      const bool wrong_cookie =
          directory && seen.next_cookie <= seen.cookie_max && seen.cookie_max > 0;
      const auto parent = wrong_parent_.find(ino);
      if (wrong_links) {
        find(fmt::format("inode {} counts {} links and has {}", ino, seen.nlink, links),
             "the count is set");
      }
      if (wrong_xattrs) {
        find(fmt::format("inode {} counts {} attributes and has {}", ino, seen.xattr_count,
                         seen.xattrs),
             "the count is set");
      }
      if (wrong_cookie) {
        find(fmt::format("directory {} would give a position twice", ino), "it goes on behind");
      }
      if (parent != wrong_parent_.end()) {
        find(fmt::format("directory {} names {} as its parent and is in {}", ino, seen.parent,
                         parent->second),
             "the parent is set");
      }
      if (!mend_ ||
          !(wrong_links || wrong_xattrs || wrong_cookie || parent != wrong_parent_.end())) {
        continue;
      }
      pb::Inode inode;
      TRY(txn_.get(key::inode(ino), inode));
      // The root comes first, before linking into /lost+found may change its count.
      if (wrong_links) inode.set_nlink(links);
      inode.set_xattr_count(seen.xattrs);
      if (wrong_cookie) inode.set_next_cookie(seen.cookie_max + 1);
      if (parent != wrong_parent_.end()) inode.set_parent(parent->second);
      names::put_inode(txn_, inode);
    }
    return success();
  }

  result<void> link_as_found(InodeId ino) {
    pb::Inode root, found, child;
    TRY(txn_.get(key::inode(kRootInode), root));
    TRY(const auto entry, names::find_entry(txn_, kRootInode, kLostAndFound));
    if (entry) {
      TRY(txn_.get(key::inode(entry->ino()), found));
      if (!S_ISDIR(found.mode())) {
        return failure(Errc::exists, "/lost+found exists and is no directory: rename it first");
      }
    } else {
      TRY(found, make_lost_and_found(root));
    }
    TRY(txn_.get(key::inode(ino), child));
    if (S_ISDIR(child.mode())) {
      child.set_parent(found.ino());
      names::add_links(found, 1);
      const Seen& seen = inodes_[ino];
      child.set_nlink(2 + seen.subdirectories);
    } else {
      child.set_nlink(1);
    }
    names::put_inode(txn_, child);
    names::add_entry(txn_, found, std::to_string(ino), child);
    names::touch_directory(found, now_ns_);
    names::put_inode(txn_, found);
    return success();
  }

  result<pb::Inode> make_lost_and_found(pb::Inode& root) {
    const InodeId ino = new_ino_();
    pb::Inode made;
    made.set_ino(ino);
    made.set_mode(S_IFDIR | 0700);
    made.set_nlink(2);
    made.set_parent(kRootInode);
    made.set_next_cookie(names::kFirstCookie);
    made.set_size(names::kDirectorySize);
    made.set_atime_ns(now_ns_);
    made.set_mtime_ns(now_ns_);
    made.set_ctime_ns(now_ns_);
    *made.mutable_policy() = root.policy();
    names::add_entry(txn_, root, kLostAndFound, made);
    names::add_links(root, 1);
    names::put_inode(txn_, root);
    return made;
  }

  Transaction& txn_;
  const bool mend_;
  const int64_t now_ns_;
  const std::function<InodeId()>& new_ino_;
  std::vector<NamespaceFinding> findings_;
  std::map<InodeId, Seen> inodes_;
  std::map<InodeId, InodeId> wrong_parent_;
  std::map<std::pair<InodeId, uint64_t>, std::string> positions_;
  std::vector<std::string> stale_;
  std::vector<std::pair<std::string, std::string>> puts_;
};

}  // namespace

result<std::vector<NamespaceFinding>> check_namespace(Transaction& txn, bool mend, int64_t now_ns,
                                                      const std::function<InodeId()>& new_ino) {
  return NamespaceCheck(txn, mend, now_ns, new_ino).run();
}

}  // namespace datacloud
