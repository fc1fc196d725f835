// Entries with their positions, directory by directory: both are counted and summed, and only where
// the sums differ is each one looked up. Then: does every directory lead up to the root?
#include <fmt/format.h>
#include <sys/stat.h>

#include <unordered_set>

#include "daemon/fsck/record_passes.h"

namespace datacloud {
namespace {

using Cursor = RecordSnapshot::Cursor;

uint64_t name_hash(std::string_view name) { return std::hash<std::string_view>{}(name); }

class Directories {
 public:
  explicit Directories(RecordPasses& p) : p_(p) {}

  result<void> run() {
    const uint64_t before = p_.report.findings_total;
    for (;;) {
      const uint64_t next = std::min(id_at(entries_), id_at(positions_));
      if (next == ~uint64_t{0}) break;
      TRY(one(next));
    }
    TRY(entries_.status());
    TRY(positions_.status());
    // Above wrong records a way up cannot be judged: next time.
    if (p_.report.findings_total == before) {
      TRY(look_for_loops());
    }
    return success();
  }

 private:
  result<void> one(InodeId directory) {
    pb::Inode inode;
    TRY(const bool found, p_.view.get(key::inode(directory), inode));
    // A root that is none gets its record back, and keeps its entries.
    const bool is_directory = found && (S_ISDIR(inode.mode()) || directory == kRootInode);
    SetSums sums(1, directory);
    uint64_t cookie_max = 0;
    bool entries = false;
    for (; id_at(entries_) == directory && entries_.valid(); entries_.next()) {
      TRY(p_.count());
      entries = true;
      pb::Entry entry;
      if (entries_.key().size() < 10 || !parses(entries_.value(), entry)) {
        p_.add({.kind = "namespace",
                .text = fmt::format("an entry of directory {} does not parse", directory),
                .action = "it is erased; what it named is linked into /lost+found",
                .records = {erased(entries_)}});
        continue;
      }
      const auto name = entries_.key().substr(9);
      if (found && !is_directory) {
        p_.add({.kind = "namespace",
                .text = fmt::format("entry \"{}\" lies in inode {}, which is no directory", name,
                                    directory),
                .action = "it is erased; what it named is linked into /lost+found",
                .records = {erased(entries_)}});
      }
      cookie_max = std::max(cookie_max, entry.cookie());
      sums.add(0, {entry.cookie(), name_hash(name)});
    }
    for (; id_at(positions_) == directory && positions_.valid(); positions_.next()) {
      TRY(p_.count());
      if (positions_.key().size() != 17) continue;
      sums.remove(0, {key::u64_at(positions_.key(), 9), name_hash(positions_.value())});
    }
    if (is_directory && entries && inode.next_cookie() <= cookie_max) {
      p_.add({.kind = "namespace",
              .text = fmt::format("directory {} would give a position twice", directory),
              .action = "it goes on behind",
              .inodes = {{directory, InodeChange::Field::next_cookie, inode.next_cookie(),
                          cookie_max + 1}}});
    }
    if (!sums.any()) return success();
    return compare_one_by_one(directory, is_directory || !found,
                              std::max(cookie_max + 1, inode.next_cookie()));
  }

  // `unused`: no entry has this position or one behind it.
  result<void> compare_one_by_one(InodeId directory, bool is_directory, uint64_t unused) {
    const std::string prefix = key::entry(directory, "");
    std::unordered_set<uint64_t> rewritten;  // positions
    auto entry_at = p_.view.scan(prefix, key::after_prefix(prefix));
    for (; is_directory && entry_at.valid(); entry_at.next()) {
      TRY(p_.count());
      pb::Entry entry;
      if (entry_at.key().size() < 10 || !parses(entry_at.value(), entry)) continue;
      const std::string name(entry_at.key().substr(9));
      const std::string place = key::cookie(directory, entry.cookie());
      TRY(auto now, p_.view.get(place));
      if (now && *now == name) continue;
      pb::Entry holder;
      bool held = rewritten.contains(entry.cookie());
      if (now && !held) {
        TRY(const bool there, p_.view.get(key::entry(directory, *now), holder));
        held = there && holder.cookie() == entry.cookie();
      }
      if (held) {
        rewritten.insert(unused);
        entry.set_cookie(unused++);
        p_.add({.kind = "namespace",
                .text = fmt::format("entry \"{}\" of directory {} has another's position", name,
                                    directory),
                .action = "it gets a new one",
                .records = {replaced(std::string(entry_at.key()), std::string(entry_at.value()),
                                     entry.SerializeAsString()),
                            {key::cookie(directory, entry.cookie()), std::nullopt, name}}});
        continue;
      }
      if (rewritten.size() < p_.limits.findings_max) rewritten.insert(entry.cookie());
      p_.add({.kind = "namespace",
              .text = now ? fmt::format("position {} of directory {} names another entry",
                                        entry.cookie(), directory)
                          : fmt::format("entry \"{}\" of directory {} is missing from listings",
                                        name, directory),
              .action = "its position is written again",
              .records = {replaced(place, std::move(now), name)}});
    }
    TRY(entry_at.status());
    const std::string first = key::cookie(directory, 0).substr(0, 9);
    auto at = p_.view.scan(first, key::after_prefix(first));
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      const bool whole = at.key().size() == 17;
      if (whole && rewritten.contains(key::u64_at(at.key(), 9))) continue;
      pb::Entry entry;
      bool named = false;
      if (whole && is_directory) {
        TRY(named, p_.view.get(key::entry(directory, at.value()), entry));
        named = named && entry.cookie() == key::u64_at(at.key(), 9);
      }
      if (named) continue;
      p_.add({.kind = "namespace",
              .text = fmt::format("a position of directory {} names \"{}\", which is no entry",
                                  directory, at.value()),
              .action = "it is erased",
              .records = {erased(at)}});
    }
    return at.status();
  }

  result<void> look_for_loops() {
    auto inodes = p_.view.scan_all('I');
    for (; inodes.valid(); inodes.next()) {
      TRY(p_.count());
      pb::Inode inode;
      if (!parses(inodes.value(), inode) || !S_ISDIR(inode.mode())) continue;
      TRY(const InodeId in_loop, loop_above(inode));
      if (in_loop != 0) {
        TRY(tell_loop(in_loop));
      }
    }
    return inodes.status();
  }

  // The way up by parents: 0 when it ends, else the smallest inode of the loop it runs into. Brent:
  // a mark is set at growing distances and met again in a loop.
  result<InodeId> loop_above(const pb::Inode& from) {
    std::vector<InodeId> way;
    pb::Inode at = from;
    InodeId mark = 0;
    uint64_t steps = 0, reach = 1;
    while (at.ino() != kRootInode && !good_.contains(at.ino())) {
      if (at.ino() == mark) return smallest_of_loop(at);
      if (way.size() < kWayMax) way.push_back(at.ino());
      if (++steps == reach) {
        reach *= 2;
        mark = at.ino();
      }
      pb::Inode parent;
      TRY(const bool found, p_.view.get(key::inode(at.parent()), parent));
      if (!found) break;  // the links' pass says so
      at = std::move(parent);
    }
    if (good_.size() > p_.limits.table_inodes) good_.clear();
    good_.insert(way.begin(), way.end());
    return InodeId{0};
  }

  result<InodeId> smallest_of_loop(pb::Inode at) {
    InodeId smallest = at.ino();
    for (const InodeId begin = at.ino();;) {
      pb::Inode parent;
      TRY(p_.view.get(key::inode(at.parent()), parent));
      at = std::move(parent);
      if (at.ino() == begin) return smallest;
      smallest = std::min(smallest, at.ino());
    }
  }

  result<void> tell_loop(InodeId ino) {
    if (!told_.insert(ino).second || told_.size() > p_.limits.findings_max) return success();
    pb::Inode inode;
    TRY(p_.view.get(key::inode(ino), inode));
    Finding finding{
        .kind = "namespace",
        .text = fmt::format("directory {} lies in itself, below {}", ino, inode.parent()),
        .action = "it is taken out and linked into /lost+found",
        .nameless = ino};
    const std::string prefix = key::entry(inode.parent(), "");
    for (auto at = p_.view.scan(prefix, key::after_prefix(prefix)); at.valid(); at.next()) {
      pb::Entry entry;
      if (!parses(at.value(), entry) || entry.ino() != ino) continue;
      finding.records.push_back(erased(at));
      const std::string place = key::cookie(inode.parent(), entry.cookie());
      TRY(auto position, p_.view.get(place));
      if (position) finding.records.push_back({place, std::move(position), std::nullopt});
    }
    p_.add(std::move(finding));
    return success();
  }

  static constexpr size_t kWayMax = 4096;  // remembered as good; a longer way costs time only

  RecordPasses& p_;
  Cursor entries_ = p_.view.scan_all('E'), positions_ = p_.view.scan_all('D');
  std::unordered_set<InodeId> good_;  // the way up from here ends at the root
  std::unordered_set<InodeId> told_;
};

}  // namespace

result<void> check_directories(RecordPasses& passes) { return Directories(passes).run(); }

}  // namespace datacloud
