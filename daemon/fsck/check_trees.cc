// Trees: their records against the directories that they name, which tree inodes carry against the
// directories that name them, and the counters.
//
// The records say which directories are roots; the way up from a directory then says what tree is
// right for all that is in it. A record that is lost is made anew from the topmost directory that
// carries its id. A cloud that has no trees is told by one look.
#include <fmt/format.h>
#include <sys/stat.h>

#include <map>
#include <set>
#include <unordered_map>

#include "common/base/features.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {
namespace {

struct Known {
  pb::Tree tree;                   // as it should be
  std::optional<std::string> raw;  // as it is stored
  bool sound = false;              // it was readable
  std::vector<std::string> wrong;  // what is wrong with it
  // Directories that carry the id and whose parents do not.
  uint64_t tops = 0;
  InodeId top = 0, top_parent = 0;
};

struct Row {
  InodeId ino = 0;
  uint32_t tree = 0, other = 0;  // `other`: of a directory that names it and is in another tree
  bool directory = false, matches = false, across = false, named = false;
};

constexpr size_t kNamesMax = 1000;  // erased at a time, of one file

class Trees {
 public:
  explicit Trees(RecordPasses& p) : p_(p) {}

  result<void> run() {
    const bool ways_known = p_.report.findings_total == 0;
    TRY(read_records());
    if (known_.empty() && !strays_) return counters_of_nothing();
    if (!known_.empty()) {
      p_.note_use(std::string(describe(Feature::trees).name),
                  [&] { return fmt::format("tree {}", known_.begin()->first); });
    }
    TRY(find_tops());
    for (auto& [id, known] : known_) {
      TRY(judge_root(id, known));
    }
    for (const auto& [id, known] : known_) {
      if (has_root(known)) roots_[known.tree.root()] = id;
      if (is_running(known)) running_[id] = known.tree.parent();
    }
    // Above wrong records a way up cannot be judged: next time.
    uint64_t moved = 0;
    if (ways_known) {
      for (auto& [id, known] : known_) {
        TRY(judge_parent(known));
      }
      const uint64_t before = p_.report.findings_total;
      TRY(check_names());
      moved = p_.report.findings_total - before;
    }
    for (const auto& [id, known] : known_) {
      // Of which all is in other trees: told when that is set right.
      if (!known.sound && known.tops == 0 && moved > 0) continue;
      tell(id, known);
    }
    if (moved > 0 || !p_.trees_counted) return success();  // the counters are right afterwards
    for (const auto& [id, known] : known_) {
      TRY(check_counters(id, known));
    }
    return counters_of_nothing();
  }

 private:
  static bool is_running(const Known& known) {
    return known.tree.state() == pb::TREE_CHECKING || known.tree.state() == pb::TREE_CONVERTING ||
           known.tree.state() == pb::TREE_REMOVING;
  }
  static bool has_root(const Known& known) {
    return known.tree.root() != 0 && known.tree.state() != pb::TREE_REMOVED;
  }

  result<void> read_records() {
    auto at = p_.view.scan_all('T');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      if (at.key().size() != 5) {
        p_.add({.kind = "namespace",
                .text = "a record of a tree has a key that is none",
                .action = "it is erased",
                .records = {erased(at)}});
        continue;
      }
      const uint32_t id = key::u32_at(at.key(), 1);
      auto& known = known_[id];
      known.raw = std::string(at.value());
      known.sound = parses(at.value(), known.tree) && known.tree.id() == id && id != 0 &&
                    pb::TreeState_IsValid(known.tree.state());
      if (!known.sound) known.wrong.push_back("does not parse");
    }
    TRY(at.status());
    for (const auto& [id, count] : p_.tree_counts) {
      if (known_.contains(id)) continue;
      TRY(const auto counters, p_.view.get(key::tree_counters(id)));
      if (counters || count.inodes > 1) {
        known_[id].wrong.push_back("has no record");
      } else {
        strays_ = true;  // one inode is wrong, not a record lost
      }
    }
    if (!known_.empty()) p_.tree_max = known_.rbegin()->first;
    return success();
  }

  result<void> find_tops() {
    auto at = p_.view.scan_all('I');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      pb::Inode inode, parent;
      if (!parses(at.value(), inode) || !S_ISDIR(inode.mode()) || inode.tree() == 0 ||
          inode.nlink() == 0 || inode.ino() == kRootInode) {
        continue;
      }
      TRY(const bool found, p_.view.get(key::inode(inode.parent()), parent));
      if (found && parent.tree() == inode.tree()) continue;
      const auto it = known_.find(inode.tree());
      if (it == known_.end()) continue;  // not counted: too many
      auto& known = it->second;
      if (++known.tops > 1) continue;
      known.top = inode.ino();
      known.top_parent = inode.parent();
    }
    return at.status();
  }

  void make_root(uint32_t id, Known& known) {
    pb::Tree fixed;
    fixed.set_id(id);
    fixed.set_parent(known.tree.parent());
    fixed.set_created_ns(known.tree.created_ns());
    if (known.tops > 0) {
      fixed.set_root(known.top);
    } else {
      fixed.set_state(pb::TREE_REMOVED);
    }
    known.tree = std::move(fixed);
  }

  result<void> judge_root(uint32_t id, Known& known) {
    if (!known.sound) {
      known.tree.Clear();
      make_root(id, known);
      return success();
    }
    if (known.tree.state() == pb::TREE_REMOVED) {
      if (known.tree.root() != 0) known.wrong.push_back("was dissolved and names a directory");
      known.tree.clear_root();
      return success();
    }
    pb::Inode root;
    TRY(const bool found, p_.view.get(key::inode(known.tree.root()), root));
    const bool usable = found && S_ISDIR(root.mode()) && root.nlink() > 0 &&
                        root.ino() == known.tree.root() && root.ino() != kRootInode;
    if (!usable) {
      known.wrong.push_back(
          fmt::format("has no root: inode {} is no directory that could be it", known.tree.root()));
      make_root(id, known);
      return success();
    }
    const auto carried = known_.find(root.tree());
    if (carried != known_.end() && carried->first != id && carried->second.sound &&
        carried->second.tree.root() == root.ino()) {
      known.wrong.push_back(
          fmt::format("has no root: directory {} is that of tree {}", root.ino(), carried->first));
      make_root(id, known);
      return success();
    }
    const bool carries =
        root.tree() == id || (is_running(known) && root.tree() == known.tree.parent());
    // What is below the right root carries the id, whatever happened to that itself.
    if (!carries && known.tops > 0 && known.top_parent != root.ino()) {
      known.wrong.push_back(
          fmt::format("names directory {} as its root, which is not in it", root.ino()));
      make_root(id, known);
    }
    return success();
  }

  // The tree of what is in the directory: that of the nearest root on the way up.
  result<uint32_t> right(InodeId directory) {
    std::vector<InodeId> way;
    uint32_t tree = 0;
    for (uint32_t depth = 0; depth < names::kDirectoryDepthMax; ++depth) {
      const auto root = roots_.find(directory);
      const auto before = right_.find(directory);
      if (root != roots_.end() || before != right_.end() || directory == kRootInode) {
        tree = root != roots_.end() ? root->second : before != right_.end() ? before->second : 0;
        break;
      }
      way.push_back(directory);
      pb::Inode inode;
      TRY(const bool found, p_.view.get(key::inode(directory), inode));
      if (!found) break;
      directory = inode.parent();
    }
    if (right_.size() + way.size() > p_.limits.table_inodes) right_.clear();
    for (const InodeId at : way) right_[at] = tree;
    return tree;
  }

  // While a conversion runs, inodes below its root carry either id.
  bool may_carry(uint32_t right, uint32_t carried) const {
    if (carried == right) return true;
    const auto it = running_.find(right);
    return it != running_.end() && carried == it->second;
  }

  result<void> judge_parent(Known& known) {
    if (!has_root(known)) return success();
    pb::Inode root;
    TRY(const bool found, p_.view.get(key::inode(known.tree.root()), root));
    if (!found) return success();
    TRY(const uint32_t around, right(root.parent()));
    if (may_carry(around, known.tree.parent())) return success();
    known.wrong.push_back(
        fmt::format("counts as inside of tree {} and is in {}", known.tree.parent(), around));
    known.tree.set_parent(around);
    return success();
  }

  void tell(uint32_t id, const Known& known) {
    const auto count = p_.tree_counts.find(id);
    const bool empty = count == p_.tree_counts.end() || count->second.inodes == 0;
    const std::string k = key::tree(id);
    if (known.tree.state() == pb::TREE_REMOVED && empty && p_.trees_counted) {
      Finding finding{.kind = "namespace",
                      .text = fmt::format("tree {} was dissolved and nothing is left of it", id),
                      .action = "its records are erased"};
      if (!known.wrong.empty()) {
        finding.text =
            fmt::format("tree {} {}, and nothing carries its id", id, fmt::join(known.wrong, ", "));
      }
      if (known.raw) finding.records.push_back({k, known.raw, std::nullopt});
      return p_.add(std::move(finding));
    }
    if (known.wrong.empty()) return;
    p_.add({.kind = "namespace",
            .text = fmt::format("tree {} {}", id, fmt::join(known.wrong, ", ")),
            .action = has_root(known)
                          ? fmt::format("its record says that directory {} is its root, inside of "
                                        "tree {}",
                                        known.tree.root(), known.tree.parent())
                          : std::string("its record says that it was dissolved: only files without "
                                        "a name carry its id"),
            .records = {replaced(k, known.raw, known.tree.SerializeAsString())}});
  }

  result<void> check_names() {
    auto inodes = p_.view.scan_all('I');
    InodeId from = 0;
    do {
      TRY(fill(inodes));
      const InodeId end = id_at(inodes);
      TRY(compare_names(from, end));
      TRY(tell_rows());
      from = end;
    } while (inodes.valid());
    return inodes.status();
  }

  result<void> fill(RecordSnapshot::Cursor& inodes) {
    table_.clear();
    for (; inodes.valid() && table_.size() < std::max<size_t>(1, p_.limits.table_inodes);
         inodes.next()) {
      TRY(p_.count());
      pb::Inode inode;
      if (!parses(inodes.value(), inode)) continue;
      table_.push_back(
          {.ino = inode.ino(), .tree = inode.tree(), .directory = S_ISDIR(inode.mode())});
    }
    return success();
  }

  Row* find(InodeId ino) {
    const auto it = std::lower_bound(table_.begin(), table_.end(), ino,
                                     [](const Row& row, InodeId i) { return row.ino < i; });
    return it != table_.end() && it->ino == ino ? &*it : nullptr;
  }

  // Visits the entries that name an inode from `from` on and below `end`, with the tree that is
  // right for them.
  template <class Visit>
  result<void> entries(InodeId from, InodeId end, const Visit& visit) {
    auto at = p_.view.scan_all('E');
    InodeId directory = 0;
    uint32_t tree = 0;
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      pb::Entry entry;
      if (at.key().size() < 10 || !parses(at.value(), entry)) continue;
      if (entry.ino() < from || entry.ino() >= end) continue;
      if (id_at(at) != directory) {
        directory = id_at(at);
        TRY(tree, right(directory));
      }
      TRY(visit(at, entry, tree));
    }
    return at.status();
  }

  result<void> compare_names(InodeId from, InodeId end) {
    return entries(from, end,
                   [this](const auto&, const pb::Entry& entry, uint32_t tree) -> result<void> {
                     Row* row = find(entry.ino());
                     if (row == nullptr) return success();
                     const auto root = roots_.find(row->ino);
                     row->named = true;
                     if (row->directory && root != roots_.end()) tree = root->second;
                     if (may_carry(tree, row->tree)) {
                       row->matches = true;
                     } else {
                       row->across = true;
                       row->other = tree;
                     }
                     return success();
                   });
  }

  result<void> tell_rows() {
    std::map<InodeId, Finding> linked_across;
    for (const auto& row : table_) {
      const bool root = row.ino == kRootInode;
      if (row.tree != 0 && !row.named && (root || !known_.contains(row.tree))) {
        p_.add({.kind = "namespace",
                .text = fmt::format("inode {} carries tree {}, which {}", row.ino, row.tree,
                                    root ? "the root of the cloud is never in" : "does not exist"),
                .action = "it gets the cloud's",
                .inodes = {{row.ino, InodeChange::Field::tree, row.tree, 0}}});
      }
      if (!row.across) continue;
      if (row.matches) {
        linked_across[row.ino] = {.kind = "namespace",
                                  .text = fmt::format("inode {} of tree {} has a name in tree {}",
                                                      row.ino, row.tree, row.other),
                                  .action = "its names outside of its tree are erased"};
        continue;
      }
      p_.add({.kind = "namespace",
              .text = fmt::format("inode {} carries tree {} and is in {}", row.ino, row.tree,
                                  row.other),
              .action = "it gets the tree it is in",
              .inodes = {{row.ino, InodeChange::Field::tree, row.tree, row.other}}});
    }
    if (linked_across.empty()) return success();
    TRY(entries(linked_across.begin()->first, linked_across.rbegin()->first + 1,
                [&](const auto& at, const pb::Entry& entry, uint32_t tree) -> result<void> {
                  const auto it = linked_across.find(entry.ino());
                  if (it == linked_across.end() || may_carry(tree, find(entry.ino())->tree) ||
                      it->second.records.size() >= kNamesMax) {
                    return success();
                  }
                  it->second.records.push_back(erased(at));
                  const std::string place = key::cookie(id_at(at), entry.cookie());
                  TRY(auto position, p_.view.get(place));
                  if (position) {
                    it->second.records.push_back({place, std::move(position), std::nullopt});
                  }
                  return success();
                }));
    for (auto& [ino, finding] : linked_across) p_.add(std::move(finding));
    return success();
  }

  result<void> check_counters(uint32_t id, const Known& known) {
    pb::TreeCounters right;
    const auto count = p_.tree_counts.find(id);
    if (count != p_.tree_counts.end()) {
      right.set_inodes(count->second.inodes);
      right.set_logical_bytes(count->second.logical_bytes);
    }
    if (known.tree.state() == pb::TREE_REMOVED && right.inodes() == 0) return success();
    const std::string k = key::tree_counters(id);
    TRY(auto raw, p_.view.get(k));
    pb::TreeCounters stored;
    const bool whole = raw && parses(*raw, stored);
    if (whole && stored.inodes() == right.inodes() &&
        stored.logical_bytes() == right.logical_bytes()) {
      return success();
    }
    p_.add({.kind = "totals",
            .text = !raw ? fmt::format("tree {} has no counters", id)
                    : whole
                        ? fmt::format("tree {} counts {} inodes and {} bytes, and has {} and {}",
                                      id, stored.inodes(), stored.logical_bytes(), right.inodes(),
                                      right.logical_bytes())
                        : fmt::format("the counters of tree {} do not parse", id),
            .action = "they are counted anew",
            .records = {replaced(k, std::move(raw), right.SerializeAsString())}});
    return success();
  }

  // Of no tree, or of one whose record goes.
  result<void> counters_of_nothing() {
    auto at = p_.view.scan_all('U');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      if (at.key().size() == 5) {
        const auto known = known_.find(key::u32_at(at.key(), 1));
        if (known != known_.end() && (known->second.tree.state() != pb::TREE_REMOVED ||
                                      p_.tree_counts.contains(known->first))) {
          continue;
        }
      }
      p_.add({.kind = "namespace",
              .text = "there are counters of a tree that does not exist",
              .action = "they are erased",
              .records = {erased(at)}});
    }
    return at.status();
  }

  RecordPasses& p_;
  std::map<uint32_t, Known> known_;
  bool strays_ = false;                   // an inode carries an id of no tree
  std::map<InodeId, uint32_t> roots_;     // of trees
  std::map<uint32_t, uint32_t> running_;  // conversions: their trees, and those around them
  std::unordered_map<InodeId, uint32_t> right_;
  std::vector<Row> table_;  // sorted by inode
};

}  // namespace

result<void> check_trees(RecordPasses& passes) { return Trees(passes).run(); }

}  // namespace datacloud
