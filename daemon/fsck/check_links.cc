// How often each inode is named, against its link count; types and parents on the way.
//
// Entries are sorted by their directory, not by what they name. So inodes are taken in ranges that
// fit a table, and all entries are read once for every range.
#include <fmt/format.h>
#include <sys/stat.h>

#include "daemon/fsck/record_passes.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

struct Row {
  InodeId ino = 0;
  InodeId parent = 0;
  InodeId named_in = 0;  // the directory of the last name seen
  uint32_t nlink = 0, names = 0, subdirectories = 0;
  uint32_t type : 16 = 0, orphan : 1 = 0;
};

constexpr size_t kNamesMax = 1000;  // of one directory, mended at a time

class Links {
 public:
  explicit Links(RecordPasses& p) : p_(p) { table_.reserve(p.limits.table_inodes); }

  result<void> run() {
    auto inodes = p_.view.scan_all('I');
    auto orphans = p_.view.scan_all('O');
    InodeId from = 0;
    do {
      TRY(fill(inodes, orphans));
      // The range goes up to the next one's first inode, or to the end of all.
      const InodeId end = id_at(inodes);
      TRY(count_names(from, end));
      for (const auto& row : table_) {
        TRY(check(row));
      }
      from = end;
    } while (inodes.valid());
    TRY(inodes.status());
    return orphans.status();
  }

 private:
  using Field = InodeChange::Field;

  result<void> fill(RecordSnapshot::Cursor& inodes, RecordSnapshot::Cursor& orphans) {
    table_.clear();
    for (; inodes.valid() && table_.size() < std::max<size_t>(1, p_.limits.table_inodes);
         inodes.next()) {
      TRY(p_.count());
      pb::Inode inode;
      if (!parses(inodes.value(), inode) || !names::validate_inode(id_at(inodes), inode)) {
        continue;
      }
      Row row;
      row.ino = inode.ino();
      row.parent = inode.parent();
      row.nlink = inode.nlink();
      row.type = inode.mode() & S_IFMT;
      while (id_at(orphans) < row.ino) orphans.next();
      row.orphan = orphans.valid() && id_at(orphans) == row.ino;
      table_.push_back(row);
    }
    return success();
  }

  Row* find(InodeId ino) {
    const auto it = std::lower_bound(table_.begin(), table_.end(), ino,
                                     [](const Row& row, InodeId i) { return row.ino < i; });
    return it != table_.end() && it->ino == ino ? &*it : nullptr;
  }

  result<void> count_names(InodeId from, InodeId end) {
    auto entries = p_.view.scan_all('E');
    for (; entries.valid(); entries.next()) {
      TRY(p_.count());
      pb::Entry entry;
      if (entries.key().size() < 10 || !parses(entries.value(), entry)) continue;
      const InodeId directory = id_at(entries);
      if (directory >= from && directory < end && entry.type() == S_IFDIR) {
        if (Row* row = find(directory)) ++row->subdirectories;
      }
      if (entry.ino() < from || entry.ino() >= end) continue;
      if (Row* row = find(entry.ino())) {
        named(entries, entry, *row);
      } else {
        TRY(names_nothing(entries, entry));
      }
    }
    return entries.status();
  }

  void named(const RecordSnapshot::Cursor& at, pb::Entry& entry, Row& row) {
    const InodeId directory = id_at(at);
    ++row.names;
    row.named_in = directory;
    if (entry.type() != row.type) {
      entry.set_type(row.type);
      p_.add({.kind = "namespace",
              .text = fmt::format("entry \"{}\" of directory {} has the wrong type",
                                  at.key().substr(9), directory),
              .action = "it gets the inode's",
              .records = {replaced(std::string(at.key()), std::string(at.value()),
                                   entry.SerializeAsString())}});
    }
  }

  result<void> names_nothing(const RecordSnapshot::Cursor& at, const pb::Entry& entry) {
    // What has a broken record, or none but blocks or entries, is made again by its own pass.
    TRY(const auto raw, p_.view.get(key::inode(entry.ino())));
    if (raw || has_any(key::run(entry.ino(), 0).substr(0, 9)) ||
        has_any(key::entry(entry.ino(), ""))) {
      return success();
    }
    const InodeId directory = id_at(at);
    Finding finding{.kind = "namespace",
                    .text = fmt::format("entry \"{}\" of directory {} names inode {}, which does "
                                        "not exist",
                                        at.key().substr(9), directory, entry.ino()),
                    .action = "it is erased",
                    .records = {erased(at)}};
    const std::string place = key::cookie(directory, entry.cookie());
    TRY(auto position, p_.view.get(place));
    if (position && *position == at.key().substr(9)) {
      finding.records.push_back({place, std::move(position), std::nullopt});
    }
    p_.add(std::move(finding));
    return success();
  }

  bool has_any(const std::string& prefix) const {
    return p_.view.scan(prefix, key::after_prefix(prefix)).valid();
  }

  result<void> check(const Row& row) {
    const bool directory = row.type == S_IFDIR;
    if (row.ino == kRootInode) {
      check_count(row, 2 + row.subdirectories);
    } else if (row.names == 0 && !row.orphan) {
      p_.add({.kind = "namespace",
              .text = fmt::format("inode {} has no name", row.ino),
              .action = fmt::format("it is linked as /lost+found/{}", row.ino),
              .nameless = row.ino});
    } else if (row.names > 0 && row.orphan) {
      const std::string k = key::orphan(row.ino);
      TRY(auto record, p_.view.get(k));
      p_.add({.kind = "namespace",
              .text = fmt::format("inode {} has a name and is to be deleted", row.ino),
              .action = "it is kept",
              .records = {{k, std::move(record), std::nullopt}}});
    } else if (row.names > 0) {
      if (directory && row.names > 1) {
        TRY(keep_one_name(row));
      } else if (directory && row.parent != row.named_in) {
        p_.add({.kind = "namespace",
                .text = fmt::format("directory {} names {} as its parent and is in {}", row.ino,
                                    row.parent, row.named_in),
                .action = "the parent is set",
                .inodes = {{row.ino, Field::parent, row.parent, row.named_in}}});
      }
      check_count(row, directory ? 2 + row.subdirectories : row.names);
    }
    return success();
  }

  // A directory has one name: the one in its parent, else the first that is not in itself.
  result<void> keep_one_name(const Row& row) {
    Finding finding{.kind = "namespace",
                    .text = fmt::format("directory {} has {} names", row.ino, row.names)};
    std::vector<RecordChange> names;
    std::vector<InodeId> directories;
    auto at = p_.view.scan_all('E');
    for (; at.valid() && names.size() < kNamesMax; at.next()) {
      TRY(p_.count());
      pb::Entry entry;
      if (at.key().size() < 10 || !parses(at.value(), entry) || entry.ino() != row.ino) continue;
      names.push_back(erased(at));
      directories.push_back(id_at(at));
    }
    TRY(at.status());
    auto kept = std::find(directories.begin(), directories.end(), row.parent);
    if (kept == directories.end() || *kept == row.ino) {
      kept = std::find_if(directories.begin(), directories.end(),
                          [&](InodeId directory) { return directory != row.ino; });
    }
    if (kept != directories.end()) {
      const auto keeper = names.begin() + (kept - directories.begin());
      finding.action = fmt::format("\"{}\" in directory {} stays, the others are erased",
                                   keeper->key.substr(9), *kept);
      names.erase(keeper);
      finding.records = std::move(names);
    }
    p_.add(std::move(finding));
    return success();
  }

  void check_count(const Row& row, uint32_t links) {
    if (row.nlink == links) return;
    p_.add({.kind = "namespace",
            .text = fmt::format("inode {} counts {} links and has {}", row.ino, row.nlink, links),
            .action = "the count is set",
            .inodes = {{row.ino, Field::links, row.nlink, links}}});
  }

  RecordPasses& p_;
  std::vector<Row> table_;  // sorted by inode
};

}  // namespace

result<void> check_links(RecordPasses& passes) { return Links(passes).run(); }

}  // namespace datacloud
