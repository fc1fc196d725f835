// Takes what the check found back to the store: only where the records are still as they were.
#include <fmt/format.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/proto/file_time.h"
#include "daemon/fsck/record_check.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/namespace_records.h"
#include "daemon/records/quarantine.h"
#include "daemon/records/repair_queue.h"

namespace datacloud {
namespace {

constexpr const char* kLostAndFound = "lost+found";
constexpr int kSameNamesMax = 100;

using Obstacle = std::optional<std::string>;

std::string changed(const std::string& what) {
  return what + " has changed since the check: check again";
}

void put_with_quarantine(Transaction& txn, const RecordChange& change, const Finding& finding) {
  if (change.was) put_in_quarantine(txn, change.key, *change.was, finding.text);
  if (change.becomes) {
    txn.put(change.key, *change.becomes);
  } else {
    txn.erase(change.key);
  }
}

result<Obstacle> change_inode(Transaction& txn, const InodeChange& change) {
  using Field = InodeChange::Field;
  pb::Inode inode;
  TRY(const bool found, txn.get(key::inode(change.ino), inode));
  const uint64_t now = !found                               ? ~change.was
                       : change.field == Field::links       ? inode.nlink()
                       : change.field == Field::attributes  ? inode.xattr_count()
                       : change.field == Field::next_cookie ? inode.next_cookie()
                       : change.field == Field::parent      ? inode.parent()
                       : change.field == Field::tree        ? inode.tree()
                       : change.field == Field::reserved    ? inode.blocks_reserved()
                                                            : inode.blocks_mapped();
  if (now != change.was) return Obstacle(changed(fmt::format("inode {}", change.ino)));
  switch (change.field) {
    case Field::links:
      inode.set_nlink(static_cast<uint32_t>(change.becomes));
      break;
    case Field::attributes:
      inode.set_xattr_count(static_cast<uint32_t>(change.becomes));
      break;
    case Field::next_cookie:
      inode.set_next_cookie(change.becomes);
      break;
    case Field::parent:
      inode.set_parent(change.becomes);
      break;
    case Field::tree:
      inode.set_tree(static_cast<uint32_t>(change.becomes));
      break;
    case Field::blocks:
      inode.set_blocks_mapped(change.becomes);
      break;
    case Field::reserved:
      inode.set_blocks_reserved(change.becomes);
      break;
  }
  names::put_inode(txn, inode);
  return Obstacle();
}

result<pb::Inode> make_lost_and_found(Transaction& txn, pb::Inode& root, InodeId ino,
                                      int64_t now_ns) {
  pb::Inode made;
  made.set_ino(ino);
  made.set_mode(S_IFDIR | 0700);
  made.set_nlink(2);
  made.set_parent(kRootInode);
  made.set_next_cookie(names::kFirstCookie);
  made.set_size(names::kDirectorySize);
  set_atime(made, from_ns(now_ns));
  set_mtime(made, from_ns(now_ns));
  set_ctime(made, from_ns(now_ns));
  TRY(const auto features, read_features(txn));
  if (includes(features, Feature::times)) made.set_btime_ns(now_ns);
  made.set_generation(1);
  *made.mutable_policy() = root.policy();
  names::add_entry(txn, root, kLostAndFound, made);
  names::add_links(root, 1);
  names::put_inode(txn, root);
  return made;
}

// Counts of links are left to the next check: they may be wrong for other reasons as well.
result<Obstacle> link_as_found(Transaction& txn, InodeId ino,
                               const std::function<InodeId()>& new_ino) {
  const int64_t now_ns = wall_now_ns();
  pb::Inode root, found, child;
  TRY(const bool rooted, txn.get(key::inode(kRootInode), root));
  if (!rooted || !names::validate_inode(kRootInode, root)) {
    return Obstacle("the root directory is mended first: check again");
  }
  TRY(const bool there, txn.get(key::inode(ino), child));
  if (!there) return Obstacle(changed(fmt::format("inode {}", ino)));
  TRY(const auto entry, names::find_entry(txn, kRootInode, kLostAndFound));
  if (entry) {
    TRY(txn.get(key::inode(entry->ino()), found));
    if (!S_ISDIR(found.mode())) {
      return Obstacle("/lost+found exists and is no directory: rename it first");
    }
  } else {
    TRY(found, make_lost_and_found(txn, root, new_ino(), now_ns));
  }
  std::string name = std::to_string(ino);
  for (int copy = 2;; ++copy) {
    TRY(const auto taken, names::find_entry(txn, found.ino(), name));
    if (!taken) break;
    name = fmt::format("{}.{}", ino, copy);
    if (copy > kSameNamesMax) {
      return Obstacle(fmt::format("/lost+found/{} exists: rename it first", name));
    }
  }
  if (S_ISDIR(child.mode())) {
    child.set_parent(found.ino());
    names::add_links(found, 1);
    if (child.nlink() < 2) child.set_nlink(2);
  } else if (child.nlink() == 0) {
    child.set_nlink(1);
  }
  names::put_inode(txn, child);
  names::add_entry(txn, found, name, child);
  names::touch_directory(found, now_ns);
  names::put_inode(txn, found);
  return Obstacle();
}

result<void> add_to_totals(Transaction& txn, const Totals& off_by) {
  TRY(const auto now, read_totals(txn));
  write_totals(txn, sum(now, off_by));
  return success();
}

}  // namespace

result<Obstacle> mend_finding(Transaction& txn, const Finding& finding,
                              const std::function<InodeId()>& new_ino) {
  if (finding.action.empty()) return Obstacle("nothing mends this by itself");
  for (const auto& change : finding.records) {
    TRY(const auto now, txn.get(change.key));
    if (now != change.was) return Obstacle(changed("a record"));
  }
  for (const auto& change : finding.inodes) {
    TRY(auto obstacle, change_inode(txn, change));
    if (obstacle) return obstacle;
  }
  if (finding.nameless != 0) {
    TRY(auto obstacle, link_as_found(txn, finding.nameless, new_ino));
    if (obstacle) return obstacle;
  }
  for (const auto& change : finding.records) put_with_quarantine(txn, change, finding);
  if (finding.kept != 0) {
    const std::string k = key::stripe(finding.kept);
    TRY(const auto there, txn.get(key::quarantine(k)));
    if (!there) put_in_quarantine(txn, k, "", finding.text);
  }
  if (finding.requeue != 0) {
    TRY(const auto stripe, get_stripe(txn, finding.requeue));
    if (stripe) {
      TRY(enqueue_repair(txn, *stripe));
    }
  }
  if (finding.off_by) {
    TRY(add_to_totals(txn, *finding.off_by));
  }
  return Obstacle();
}

}  // namespace datacloud
