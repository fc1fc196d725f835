// Files below the directories that nodes are limited to (limited_directories.h).
#include "daemon/records/limited_directories.h"

#include <sys/stat.h>

#include <algorithm>

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"

namespace datacloud {

result<LimitedDirectories::Verdict> LimitedDirectories::judge(const Transaction& txn, InodeId root,
                                                              const pb::Inode& inode) {
  if (S_ISDIR(inode.mode())) {
    TRY(const bool inside, names::is_at_or_above(txn, root, inode.ino()));
    return inside ? Verdict::inside : Verdict::outside;
  }
  Root& known = roots_[root];
  if (known.files.contains(inode.ino())) {
    if (inode.nlink() == 1) known.whole.insert(inode.ino());
    return Verdict::inside;
  }
  return known.walk == Root::Walk::done ? Verdict::outside : Verdict::unknown;
}

void LimitedDirectories::met(InodeId root, const pb::Inode& inode) {
  if (S_ISDIR(inode.mode())) return;
  Root& known = roots_[root];
  known.files.insert(inode.ino());
  if (inode.nlink() <= 1) known.whole.insert(inode.ino());
}

bool LimitedDirectories::chain_of(const Transaction& txn, InodeId directory, Chain& chain) {
  for (uint32_t depth = 0; depth < names::kDirectoryDepthMax; ++depth) {
    chain.insert(directory);
    if (directory == kRootInode) return true;
    const auto inode = get_inode(txn, directory);
    if (!inode) break;
    directory = inode.value().parent();
  }
  spdlog::error("directory {} does not lead to the root; run datacloud fsck", directory);
  for (auto& [ino, root] : roots_) start_over(ino, root);
  return false;
}

void LimitedDirectories::linked(const Transaction& txn, const pb::Inode& file, InodeId parent) {
  Chain chain;
  if (roots_.empty() || !chain_of(txn, parent, chain)) return;
  for (auto& [ino, root] : roots_) {
    if (!chain.contains(ino)) {
      root.whole.erase(file.ino());
    } else if (root.walk == Root::Walk::running) {
      root.files.insert(file.ino());  // the walk may have been there already
    }
  }
}

void LimitedDirectories::lost_name(const Transaction& txn, const pb::Inode& file, InodeId parent) {
  Chain chain;
  if (roots_.empty() || S_ISDIR(file.mode()) || file.nlink() == 0) return;
  if (!chain_of(txn, parent, chain)) return;
  for (auto& [ino, root] : roots_)
    if (chain.contains(ino) && !root.whole.contains(file.ino())) root.files.erase(file.ino());
}

void LimitedDirectories::moved(const Transaction& txn, const pb::Inode& moved, InodeId from,
                               InodeId to) {
  Chain left, entered;
  if (roots_.empty() || from == to) return;
  if (!chain_of(txn, from, left) || !chain_of(txn, to, entered)) return;
  const bool directory = S_ISDIR(moved.mode());
  for (auto& [ino, root] : roots_) {
    const bool was = left.contains(ino), is = entered.contains(ino);
    if (is && root.walk == Root::Walk::running) {
      if (directory)
        root.places.push_back({moved.ino(), ""});
      else
        root.files.insert(moved.ino());
    }
    if (!was || is) continue;
    if (directory) {
      start_over(ino, root);  // what was below it is not known one by one
    } else {
      const bool others_inside = root.whole.contains(moved.ino()) && moved.nlink() > 1;
      root.whole.erase(moved.ino());
      if (!others_inside) root.files.erase(moved.ino());
    }
  }
}

void LimitedDirectories::start_over(InodeId ino, Root& root) {
  const bool running = root.walk == Root::Walk::running;
  root = Root();
  if (!running) return;
  root.walk = Root::Walk::running;
  root.places.push_back({ino, ""});
}

bool LimitedDirectories::begin_walk(InodeId ino) {
  Root& root = roots_[ino];
  if (root.walk != Root::Walk::none) return false;
  root.walk = Root::Walk::running;
  root.places = {{ino, ""}};
  return true;
}

bool LimitedDirectories::walking() const {
  return std::any_of(roots_.begin(), roots_.end(),
                     [](const auto& entry) { return entry.second.walk == Root::Walk::running; });
}

std::vector<InodeId> LimitedDirectories::walk_on(const Transaction& txn) {
  size_t left = kEntriesPerStep;
  std::vector<InodeId> ended;
  for (auto& [ino, root] : roots_) {
    if (root.walk != Root::Walk::running) continue;
    while (left > 0 && !root.places.empty()) {
      if (auto done = walk_some(txn, root, left); !done) {
        spdlog::error("below directory {}: {}", ino, done.error().message());
        root.places.pop_back();
      }
    }
    if (!root.places.empty()) break;
    root.walk = Root::Walk::done;
    ended.push_back(ino);
  }
  return ended;
}

// The last place: until it is through, a directory is met, or nothing is left of the step.
result<void> LimitedDirectories::walk_some(const Transaction& txn, Root& root, size_t& left) {
  const Place at = root.places.back();
  const std::string prefix = key::entry(at.directory, "");
  std::string first = key::entry(at.directory, at.after);
  if (!at.after.empty()) first.push_back('\0');
  std::string last;
  InodeId below = 0;
  bool more = false;
  --left;  // an empty directory is work, too
  TRY(txn.scan(first, key::after_prefix(prefix), [&](std::string_view k, std::string_view v) {
    if (left == 0) {
      more = true;
      return false;
    }
    --left;
    last = k.substr(prefix.size());
    pb::Entry entry;
    if (!entry.ParseFromArray(v.data(), static_cast<int>(v.size()))) return true;
    if (!S_ISDIR(entry.type())) {
      root.files.insert(entry.ino());
      return true;
    }
    below = entry.ino();
    return false;
  }));
  if (below == 0 && !more) {
    root.places.pop_back();
    return success();
  }
  if (!last.empty()) root.places.back().after = last;
  if (below != 0) root.places.push_back({below, ""});
  return success();
}

}  // namespace datacloud
