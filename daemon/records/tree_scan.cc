// Passes over the entries below a directory, and over the files among them.
#include "daemon/records/tree_scan.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <functional>
#include <map>
#include <set>
#include <vector>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

// A file with several names.
struct Names {
  uint32_t links = 0, seen = 0;
  InodeId directory = 0;  // of the last name seen
  std::string name;
};

class Scan {
 public:
  Scan(const RecordSnapshot& view, const TreeArea& area, TreeScanProgress& progress)
      : view_(view), area_(area), progress_(progress) {}

  // Calls `see` for each entry below the root that is not of a directory.
  using See = std::function<void(InodeId directory, std::string_view name, const pb::Entry&)>;
  result<void> below_root(const See& see) {
    TRY(find_other_roots());
    std::vector<InodeId> directories{area_.root};
    while (!directories.empty()) {
      const InodeId directory = directories.back();
      directories.pop_back();
      TRY(entries_of(directory, [&](std::string_view name, const pb::Entry& entry) {
        if (entry.type() != S_IFDIR) {
          see(directory, name, entry);
        } else if (!other_roots_.contains(entry.ino())) {
          directories.push_back(entry.ino());
        }
      }));
    }
    return success();
  }

  // "/a/b/name"
  result<std::string> path(InodeId directory, std::string_view name) {
    std::string path = fmt::format("/{}", name);
    for (uint32_t depth = 0; directory != kRootInode && depth < names::kDirectoryDepthMax;
         ++depth) {
      pb::Inode inode;
      TRY(const bool found, view_.get(key::inode(directory), inode));
      std::string own;
      if (found) {
        TRY(entries_of(inode.parent(), [&](std::string_view candidate, const pb::Entry& entry) {
          if (entry.ino() == directory) own = candidate;
        }));
      }
      if (own.empty()) return fmt::format("inode {}{}", directory, path);
      path = fmt::format("/{}{}", own, path);
      directory = inode.parent();
    }
    return path;
  }

  // A name of the file that does not lie below the root.
  result<std::string> name_outside(InodeId file) {
    std::set<std::pair<InodeId, std::string>> inside;
    TRY(below_root([&](InodeId directory, std::string_view name, const pb::Entry& entry) {
      if (entry.ino() == file) inside.emplace(directory, name);
    }));
    for (auto at = view_.scan_all('E'); at.valid(); at.next()) {
      TRY(count());
      pb::Entry entry;
      if (at.key().size() < 10 || !parse(at.value(), entry) || entry.ino() != file) continue;
      const InodeId directory = key::u64_at(at.key(), 1);
      const std::string name(at.key().substr(9));
      if (!inside.contains({directory, name})) return path(directory, name);
    }
    return std::string("a name that is not found: run \"datacloud fsck\"");
  }

 private:
  static bool parse(std::string_view value, pb::Entry& entry) {
    return entry.ParseFromArray(value.data(), static_cast<int>(value.size()));
  }

  result<void> count() {
    progress_.entries.fetch_add(1, std::memory_order_relaxed);
    if (progress_.stop) return failure(Errc::unavailable, "the daemon is stopping");
    return success();
  }

  template <class Visit>
  result<void> entries_of(InodeId directory, const Visit& visit) {
    const std::string first = key::entry(directory, "");
    auto at = view_.scan(first, key::after_prefix(first));
    for (; at.valid(); at.next()) {
      TRY(count());
      pb::Entry entry;
      if (parse(at.value(), entry)) visit(at.key().substr(first.size()), entry);
    }
    return at.status();
  }

  // Trees within the directory stay what they are.
  result<void> find_other_roots() {
    if (roots_known_) return success();
    auto at = view_.scan_all('T');
    for (; at.valid(); at.next()) {
      pb::Tree tree;
      if (!tree.ParseFromArray(at.value().data(), static_cast<int>(at.value().size()))) continue;
      if (tree.id() != area_.id && tree.root() != 0) other_roots_.insert(tree.root());
    }
    roots_known_ = true;
    return at.status();
  }

  const RecordSnapshot& view_;
  const TreeArea area_;
  TreeScanProgress& progress_;
  std::set<InodeId> other_roots_;
  bool roots_known_ = false;
};

// Members from `first` on with several names, as many as fit; nullopt or where to go on.
result<std::optional<InodeId>> gather(const RecordSnapshot& view, const InodeSet& members,
                                      InodeId first, size_t files_max, TreeScanProgress& progress,
                                      std::map<InodeId, Names>& table) {
  result<void> read = success();
  std::optional<InodeId> next;
  members.visit_from(first, [&](InodeId ino) {
    if (table.size() >= files_max) {
      next = ino;
      return false;
    }
    pb::Inode inode;
    const auto found = view.get(key::inode(ino), inode);
    if (!found) {
      read = found.error();
    } else if (progress.stop) {
      read = failure(Errc::unavailable, "the daemon is stopping");
    } else if (found.value() && inode.nlink() > 1) {
      table[ino].links = inode.nlink();
    }
    return read.has_value();
  });
  TRY(read);
  return next;
}

}  // namespace

result<InodeSet> members_of(const RecordSnapshot& view, const TreeArea& area,
                            TreeScanProgress& progress) {
  InodeSet members;
  TRY(Scan(view, area, progress).below_root([&](InodeId, std::string_view, const pb::Entry& entry) {
    members.insert(entry.ino());
  }));
  return members;
}

result<std::optional<std::string>> link_across(const RecordSnapshot& view, const TreeArea& area,
                                               const InodeSet& members, TreeScanProgress& progress,
                                               const TreeScanLimits& limits) {
  Scan scan(view, area, progress);
  for (std::optional<InodeId> first = 0; first;) {
    std::map<InodeId, Names> table;
    TRY(first,
        gather(view, members, *first, std::max<size_t>(1, limits.table_files), progress, table));
    if (table.empty()) continue;
    TRY(scan.below_root([&](InodeId directory, std::string_view name, const pb::Entry& entry) {
      const auto it = table.find(entry.ino());
      if (it == table.end()) return;
      ++it->second.seen;
      it->second.directory = directory;
      it->second.name = name;
    }));
    for (const auto& [ino, names] : table) {
      if (names.seen >= names.links) continue;
      TRY(const auto inside, scan.path(names.directory, names.name));
      TRY(const auto outside, scan.name_outside(ino));
      return std::optional(fmt::format(
          "a file has names on both sides of the border: {} and {}; remove one of them, or copy "
          "the file, and try again",
          inside, outside));
    }
  }
  return std::optional<std::string>();
}

}  // namespace datacloud
